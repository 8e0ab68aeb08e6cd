"""Load each day's events, then count them again on both sides. If the counts differ, the DAG fails.

The load has counted before its commit. This asks PostHog and the database once more, in other words and by Airflow's
own operator, for whoever has to show by something else than the loader that nothing is missing.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.sql.operators.sql import SQLValueCheckOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

DAILY = CronDataIntervalTimetable("@daily", timezone="UTC")
DAY = {"start": "{{ data_interval_start | ts }}", "end": "{{ data_interval_end | ts }}"}
WITHIN = "created_at >= toDateTime({start}) AND created_at < toDateTime({end})"
LANDED = (
    "created_at >= '{{ data_interval_start.isoformat(' ') }}' AND created_at < '{{ data_interval_end.isoformat(' ') }}'"
)

with DAG("count_after_load", doc_md=__doc__, schedule=DAILY, start_date=datetime(2026, 1, 1), catchup=False) as dag:
    load = PostHogToSqlOperator(task_id="load", source="events", sql_conn_id="warehouse", table="events", **DAY)
    there = PostHogQueryOperator(
        task_id="there", query=f"SELECT count(DISTINCT uuid) AS n FROM events WHERE {WITHIN} LIMIT 1", values=DAY
    )
    same = SQLValueCheckOperator(
        task_id="same",
        conn_id="warehouse",
        sql=f"SELECT count(*) FROM events WHERE {LANDED}",
        pass_value="{{ ti.xcom_pull('there')['rows'][0][0] }}",  # noqa: S106
    )
    load >> there >> same
