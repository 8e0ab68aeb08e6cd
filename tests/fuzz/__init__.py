"""Good answers of PostHog, bent out of shape."""
