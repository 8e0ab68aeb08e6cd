"""Send each hour's orders from a database into PostHog, and succeed when PostHog has shown every one of them."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.transfers.sql_to_posthog import PostHogFromSqlOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

HOURLY = CronDataIntervalTimetable("@hourly", timezone="UTC")
with DAG("orders_to_posthog", doc_md=__doc__, schedule=HOURLY, start_date=datetime(2026, 11, 1), catchup=False) as dag:
    PostHogFromSqlOperator(
        task_id="orders",
        sql_conn_id="warehouse",
        sql="SELECT id, customer, placed_at, total FROM orders WHERE placed_at >= '{{ data_interval_start }}'"
        " AND placed_at < '{{ data_interval_end }}' ORDER BY placed_at",
        event="order placed",
        distinct_id="customer",
        timestamp="placed_at",
        key=["id"],  # each event's uuid follows from it: what is sent twice is one event
        deferrable=True,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
