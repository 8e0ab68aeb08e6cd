"""Send orders from files in a bucket into PostHog, each one once. Retries happen only where they can help."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow_provider_posthog.transfers.object_storage_to_posthog import PostHogFromObjectStorageOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://lake")
RETRIES = {"retries": 5, "retry_delay": timedelta(minutes=1)}
try:  # Airflow 3.3: what no retry can mend fails at once, and a retry waits as long as PostHog asks
    from airflow_provider_posthog.retry_policy import PostHogRetryPolicy

    RETRIES["retry_policy"] = PostHogRetryPolicy()
except ValueError:
    pass

with DAG("files_to_posthog", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), tags=["posthog"]) as dag:
    PostHogFromObjectStorageOperator(
        task_id="orders",
        path=FILES + "/orders/*.jsonl",
        format="jsonl",
        event="order placed",
        distinct_id="customer",
        timestamp="placed_at",
        key=["id"],  # each event's uuid follows from it: what is sent twice is one event
        **RETRIES,
    )
