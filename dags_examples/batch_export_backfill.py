"""Backfill a year of a batch export, a day at a time. PostHog writes; Airflow starts, waits, and checks each day."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from airflow_provider_posthog.operators.batch_exports import PostHogBackfillBatchExportOperator

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

EXPORT, DAYS = "Events to the lake", int(os.environ.get("POSTHOG_EXAMPLE_DAYS", "365"))

with DAG(
    "batch_export_backfill", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), tags=["posthog", "example"]
) as dag:

    @task
    def days() -> list[dict[str, str]]:
        """Return the last days as ranges; a batch export of another zone has other midnights."""
        today = datetime.now(timezone.utc).date()
        edges = [f"{today - timedelta(days=number)}T00:00:00Z" for number in range(DAYS, -1, -1)]
        return [{"start": one, "end": end} for one, end in pairwise(edges)]

    # PostHog runs only some backfills of a project at once: a task waits for a place among them by itself.
    each = PostHogBackfillBatchExportOperator.partial(task_id="backfill", batch_export=EXPORT)
    each.expand_kwargs(days())
