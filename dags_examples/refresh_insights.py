"""Refresh a dashboard whenever events were loaded, and check one of its numbers.

It starts when the load of the events is done (`load_events`). The dashboard's asset event, with the time of its oldest
number, starts `dashboard_digest`: what is behind it never sees an old number.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.providers.common.sql.operators.sql import SQLCheckOperator

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightThresholdSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
DASHBOARD = int(os.environ.get("POSTHOG_EXAMPLE_DASHBOARD", "7"))
GATE = os.environ.get("POSTHOG_EXAMPLE_GATE", "AbCd1234")  # the short id of an insight on it: its address ends so
FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "file:///tmp/posthog-example")
EVENTS = create_asset(host=HOST, project_id=PROJECT, kind="events")
FRESH_DASHBOARD = create_asset(host=HOST, project_id=PROJECT, kind="dashboard", id=DASHBOARD)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
# Airflow's own check, on PostHog: no use in fresh numbers of bad events.
GOOD = "SELECT count() > 0, countIf(isNull(person_id)) = 0 FROM events WHERE timestamp >= now() - toIntervalDay(2)"

with DAG("refresh_insights", doc_md=__doc__, schedule=[EVENTS], start_date=START, catchup=False) as dag:
    check_events = SQLCheckOperator(task_id="check_events", conn_id="posthog_default", sql=GOOD)
    refresh = PostHogRefreshDashboardOperator(
        task_id="refresh",
        dashboard=DASHBOARD,
        deferrable=True,  # waits in the triggerer, not in a worker
        path=FILES + "/results/{{ run_id | replace(':', '-') }}/{short_id}.csv",
        overwrite=True,
        outlets=[FRESH_DASHBOARD],
    )
    gate = PostHogInsightThresholdSensor(
        task_id="gate",
        insight=GATE,
        from_dashboard=DASHBOARD,
        condition="> 0",
        refresh="force_cache",  # it is fresh already
        mode="reschedule",
        timeout=3600,
    )
    check_events >> refresh >> gate
