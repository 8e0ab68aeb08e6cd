"""Notifiers that report DAG runs and tasks to PostHog."""

from __future__ import annotations

from airflow_provider_posthog.notifications.posthog import PostHogNotifier

__all__ = ["PostHogNotifier"]
