"""Events of each hour into a table of PostgreSQL or DuckDB, every event once, late ones included.

An hour's rows are replaced as a whole, in one transaction, and counted on both sides before it, so any run can be
retried and cleared. The load's asset event starts `model_after_load` and `refresh_insights`. What there was before the
start is loaded by `backfill_history`.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
START = datetime.fromisoformat(os.environ.get("POSTHOG_EXAMPLE_START", "2026-11-01T00:00:00+00:00"))

with DAG(
    "load_events",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),  # "@hourly" alone has no interval on Airflow 3
    start_date=START,
    catchup=True,  # an hour in which Airflow stood still is loaded when it is back; without it, it would be missing
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["posthog", "example"],
) as dag:
    PostHogToSqlOperator(
        task_id="load",
        sql_conn_id="warehouse",  # of type postgres, or duckdb with the file's path as host
        table="events",
        source="events",
        # The hour is that in which PostHog took the event in. By `timestamp`, when it happened, an event of a phone
        # that was offline until today would belong to an hour that was loaded long ago, and be missed.
        time_column="created_at",
        write_disposition="replace_interval",
        # An event has its created_at some time before queries see it. What is younger than this when the task runs is
        # waited for. `verify_back=timedelta(days=2)` would count the hours of two days again each time, and load
        # those that got more rows after all.
        settle=timedelta(minutes=5),
        priority_weight=10,  # before the weeks of a backfill
        outlets=[create_asset(host=HOST, project_id=PROJECT, kind="events")],
    )
