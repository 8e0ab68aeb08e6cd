"""Tasks that make PostHog do something."""
