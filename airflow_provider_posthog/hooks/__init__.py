"""The hook that Airflow knows PostHog connections by."""
