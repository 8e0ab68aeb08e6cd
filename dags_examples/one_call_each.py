"""Tasks that are one call each: a query, an endpoint, a list of all insights, and an event."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.operators.api import PostHogApiOperator
from airflow_provider_posthog.operators.capture import PostHogCaptureOperator
from airflow_provider_posthog.operators.endpoints import PostHogRunEndpointOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "file:///tmp/posthog-example")
TOP = "SELECT event, count() AS n FROM events WHERE timestamp > toDateTime({since}) GROUP BY event LIMIT 100"

with DAG("one_call_each", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), tags=["posthog"]) as dag:
    top = PostHogQueryOperator(task_id="top", query=TOP, values={"since": "2026-01-01T00:00:00Z"})  # rows: an XCom
    days = PostHogRunEndpointOperator(task_id="days", endpoint="events-by-day")
    insights = PostHogApiOperator(
        task_id="insights",
        call="insights.list",  # docs/api.md has all calls and their arguments
        arguments={"basic": True},
        path=FILES + "/insights.jsonl",
        overwrite=True,
    )
    done = PostHogCaptureOperator(task_id="done", event="numbers were read", distinct_id="airflow")
    [top, days, insights] >> done
