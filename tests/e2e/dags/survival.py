"""The DAGs that the end-to-end tests kill, clear and starve."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.triggers.events import PostHogNewEventsTrigger

QUERY = "SELECT uuid, event FROM events LIMIT 10"
ARGUMENTS: dict[str, Any] = {
    "query": QUERY,
    "filename": "{{ dag_run.conf['name'] }}",
    "poll_interval": 2,
    "retries": 4,
    "retry_delay": timedelta(seconds=1),
}


def _dag(dag_id: str) -> DAG:
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), max_active_runs=10)


with _dag("in_worker"):
    PostHogCreateExportOperator(task_id="export", deferrable=False, **ARGUMENTS)

with _dag("deferred"):
    PostHogCreateExportOperator(task_id="export", deferrable=True, **ARGUMENTS)

with _dag("bad_minute"):
    # The defaults of a user who never thought of a bad minute, and no retry to help.
    PostHogCreateExportOperator(
        task_id="export", query=QUERY, filename="{{ dag_run.conf['name'] }}", deferrable=True, retries=0
    )

with _dag("mapped"):
    PostHogCreateExportOperator.partial(
        task_id="export", deferrable=True, poll_interval=2, filename="{{ dag_run.conf['name'] }}", retries=1
    ).expand(query=[f"SELECT uuid FROM events WHERE event != 'nobody-{number}' LIMIT 10" for number in range(20)])

with _dag("calculations"):
    for number, (name, deferrable) in enumerate({"in_worker": False, "deferred": True}.items(), start=1):
        HOW: dict[str, Any] = {"deferrable": deferrable, "poll_interval": 1, "retries": 4}
        HOW["retry_delay"] = timedelta(seconds=1)
        # Insights that the emulator comes with.
        PostHogRefreshInsightOperator(task_id=f"refresh_{name}", insight=number, **HOW)
        PostHogQueryOperator(
            task_id=f"query_{name}",
            query=f"SELECT '{name}-{{{{ dag_run.conf['name'] }}}}' AS name, count() FROM events",
            **HOW,
        )

sign_ups = Asset(
    "sign_ups",
    watchers=[AssetWatcher(name="new", trigger=PostHogNewEventsTrigger(event="e2e_sign_up", poll_interval=1))],
)

with DAG("watching", schedule=[sign_ups], start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), max_active_runs=10):
    EmptyOperator(task_id="seen")
