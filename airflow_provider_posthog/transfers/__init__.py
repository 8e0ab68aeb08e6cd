"""Tasks that carry data from PostHog somewhere else."""
