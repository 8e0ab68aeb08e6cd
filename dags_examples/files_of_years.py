"""Write years of events as files before PostHog hides them: a task for each month, and a check of the whole range."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from itertools import pairwise

from airflow_provider_posthog.sensors.retention import PostHogRetentionSensor
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from airflow_provider_posthog.transfers.range_check import PostHogRangeCheckOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://lake") + "/years/"
EDGES = os.environ.get("POSTHOG_EXAMPLE_EDGES", "2026-01-01,2026-02-01,2026-03-01,2026-04-01").split(",")
SPANS = [{"start": f"{one}T00:00:00Z", "end": f"{end}T00:00:00Z"} for one, end in pairwise(EDGES)]

with DAG("files_of_years", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), tags=["posthog"]) as dag:
    soon = PostHogRetentionSensor(task_id="soon", before=SPANS[0]["start"], within=timedelta(days=36500), timeout=60)
    months = PostHogQueryToObjectStorageOperator.partial(
        task_id="month", source="events", path=FILES, time_column="timestamp", max_active_tis_per_dag=1
    ).expand_kwargs(SPANS)
    check = PostHogRangeCheckOperator(task_id="check", path=FILES, start=SPANS[0]["start"], end=SPANS[-1]["end"])
    soon >> months >> check
