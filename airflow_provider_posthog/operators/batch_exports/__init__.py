"""Batch exports as tasks: PostHog's own engine writes the rows; Airflow decides when, waits, and verifies."""

from __future__ import annotations

from airflow_provider_posthog.operators.batch_exports.backfill import PostHogBackfillBatchExportOperator
from airflow_provider_posthog.operators.batch_exports.pause import (
    PostHogPauseBatchExportOperator,
    PostHogUnpauseBatchExportOperator,
)
from airflow_provider_posthog.operators.batch_exports.retry import PostHogRetryBatchExportRunOperator

__all__ = [
    "PostHogBackfillBatchExportOperator",
    "PostHogPauseBatchExportOperator",
    "PostHogRetryBatchExportRunOperator",
    "PostHogUnpauseBatchExportOperator",
]
