"""Rows into PostHog: events, persons and groups, each with its verdict and its proof; no Airflow."""
