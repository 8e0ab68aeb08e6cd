"""PostHog's warehouse as tasks: sources are synced, views materialized, and files in one's own bucket linked."""

from __future__ import annotations

from airflow_provider_posthog.operators.warehouse.sync import PostHogSyncSourceOperator
from airflow_provider_posthog.operators.warehouse.tables import PostHogLinkTableOperator
from airflow_provider_posthog.operators.warehouse.views import PostHogRunViewOperator

__all__ = ["PostHogLinkTableOperator", "PostHogRunViewOperator", "PostHogSyncSourceOperator"]
