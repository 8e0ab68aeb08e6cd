"""Refresh several insights side by side, and wait for one that something else refreshes."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

INSIGHTS = os.environ.get("POSTHOG_EXAMPLE_INSIGHTS", "1,2").split(",")  # their ids, or the ends of their addresses
START = datetime(2026, 1, 1)

with DAG("insights_side_by_side", doc_md=__doc__, schedule=None, start_date=START, tags=["posthog"]) as dag:
    each = PostHogRefreshInsightOperator.partial(task_id="refresh", deferrable=True).expand(insight=INSIGHTS)
    fresh = PostHogInsightFreshSensor(
        task_id="fresh",
        insight=INSIGHTS[0],
        fresher_than="{{ dag_run.start_date.isoformat() }}",
        deferrable=True,
        timeout=3600,
    )
    each >> fresh
