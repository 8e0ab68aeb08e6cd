"""Exports and insights that are waited for in the triggerer, beside each other, with no retry to help."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import DAG

from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor

EXPORTS = 5
#: Insights that the emulator comes with.
INSIGHTS = [1, 2]
HOW: dict[str, Any] = {
    "posthog_conn_id": "{{ dag_run.conf['connection'] }}",
    "deferrable": True,
    "retries": 0,
    "pool": "waiting",  # few slots: a scheduler that is held up takes itself for dead, and starts tasks anew
}

with DAG("waiting", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), max_active_runs=10):
    PostHogCreateExportOperator.partial(
        task_id="export", filename="{{ dag_run.conf['name'] }}", poll_interval=2, **HOW
    ).expand(query=[f"SELECT uuid FROM events WHERE event != 'nobody-{number}' LIMIT 10" for number in range(EXPORTS)])
    PostHogInsightFreshSensor.partial(task_id="insight", poke_interval=5, timeout=600, **HOW).expand(insight=INSIGHTS)
