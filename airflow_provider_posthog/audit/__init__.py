"""The certificate of an erasure: who asked for what, what was done, what is proved, and what PostHog cannot erase."""
