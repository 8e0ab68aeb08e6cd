"""The Airflow provider for PostHog."""

__version__ = "0.1.0"
