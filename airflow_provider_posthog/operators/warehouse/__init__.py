"""PostHog's warehouse as tasks: sync sources, materialize and check views, and link files in your own bucket."""

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
