"""Notifiers that report DAG runs and tasks to PostHog."""
