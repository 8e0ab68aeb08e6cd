"""All that is known of PostHog's HTTP API; knows nothing of Airflow."""
