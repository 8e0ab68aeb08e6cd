"""Tasks that wait for PostHog."""
