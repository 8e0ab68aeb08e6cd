"""What tells PostHog of DAG runs and tasks."""
