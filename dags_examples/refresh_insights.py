"""A dashboard, calculated afresh whenever new events were loaded, and gated by what its numbers say.

``refresh_insights`` starts when the load of the events is done. The dashboard's asset event, with the time of its
oldest number, starts ``dashboard_digest``: what is behind it never sees an old number.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLTableCheckOperator

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightThresholdSensor

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
DASHBOARD = int(os.environ.get("POSTHOG_EXAMPLE_DASHBOARD", "7"))
GATE = os.environ.get("POSTHOG_EXAMPLE_GATE", "AbCd1234")  # the short id of an insight on it
RESULTS = os.environ.get("POSTHOG_EXAMPLE_RESULTS", "file:///tmp/posthog-example/results")

EVENTS = create_asset(host=HOST, project_id=PROJECT, kind="events")
FRESH_DASHBOARD = create_asset(host=HOST, project_id=PROJECT, kind="dashboard", id=DASHBOARD)

DEFAULTS = {"retries": 2, "retry_delay": timedelta(seconds=30)}
START = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG(
    "refresh_insights",
    description="A dashboard, fresh after each load",
    schedule=[EVENTS],  # the load lists it in its outlets
    start_date=START,
    catchup=False,
    default_args=DEFAULTS,
    tags=["posthog", "example"],
) as dag:
    # Airflow's own check, on PostHog: no use in fresh numbers of bad events.
    check_events = SQLTableCheckOperator(
        task_id="check_events",
        conn_id="posthog_default",
        table="events",
        partition_clause="timestamp >= now() - toIntervalDay(1)",
        checks={
            "there_are_events": {"check_statement": "COUNT(*) > 0"},
            "all_have_a_person": {"check_statement": "countIf(isNull(person_id)) = 0"},
        },
    )

    refresh = PostHogRefreshDashboardOperator(
        task_id="refresh",
        dashboard=DASHBOARD,
        deferrable=True,  # waits in the triggerer, not in a worker
        path=RESULTS + "/{{ run_id | replace(':', '-') }}/{short_id}.csv",
        overwrite=True,
        outlets=[FRESH_DASHBOARD],
    )

    gate = PostHogInsightThresholdSensor(
        task_id="gate",
        insight=GATE,
        from_dashboard=DASHBOARD,
        operator=">",
        value=0,
        refresh="force_cache",  # it is fresh already
        timeout=3600,
        mode="reschedule",
    )

    @task
    def publish(dashboard: dict[str, Any]) -> int:
        """Stand for whatever uses the files.

        :param dashboard: what ``refresh`` returned.
        """
        return len([insight["path"] for insight in dashboard["insights"]])

    check_events >> refresh >> gate >> publish(refresh.output)

with DAG(
    "dashboard_digest",
    description="Starts when the dashboard is fresh",
    schedule=[FRESH_DASHBOARD],
    start_date=START,
    catchup=False,
    default_args=DEFAULTS,
    tags=["posthog", "example"],
) as digest:

    @task
    def send_digest() -> str:
        """Stand for a message to those who read the dashboard."""
        return f"https://{HOST}/project/{PROJECT}/dashboard/{DASHBOARD}"

    send_digest()
