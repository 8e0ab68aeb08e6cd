"""PostHog's warehouse as tasks: syncs of sources, runs and checks of views and tables, files in one's own bucket."""

from __future__ import annotations

from airflow_provider_posthog.operators.warehouse.quality import PostHogRunDataQualityOperator
from airflow_provider_posthog.operators.warehouse.sync import PostHogSyncSourceOperator
from airflow_provider_posthog.operators.warehouse.tables import PostHogLinkTableOperator
from airflow_provider_posthog.operators.warehouse.views import PostHogRunViewOperator

__all__ = [
    "PostHogLinkTableOperator",
    "PostHogRunDataQualityOperator",
    "PostHogRunViewOperator",
    "PostHogSyncSourceOperator",
]
