"""One task for each thing that Airflow's pages are to show well, and for each way to go wrong."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightThresholdSensor
from airflow_provider_posthog.task_groups.erase_persons import erase_persons
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ["POSTHOG_EXAMPLE_FILES"]
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
LOAD = {"source": "events", "sql_conn_id": "warehouse"}
#: A day of the emulator's events, reckoned when a task runs.
AGO = "{{ macros.ds_add(macros.datetime.utcnow().strftime('%Y-%m-%d'), -DAYS) }}T00:00:00Z"
SPAN = {"start": AGO.replace("DAYS", "3"), "end": AGO.replace("DAYS", "2")}

with DAG("good", schedule=None, start_date=START, doc_md=__doc__, max_active_tasks=4):
    PostHogToSqlOperator(task_id="load", table="loaded", **LOAD, **SPAN)
    PostHogCreateExportOperator(
        task_id="export",
        query="SELECT event, timestamp FROM events LIMIT 100",
        export_format="csv",
        deferrable=True,
        poll_interval=1,
    )
    PostHogQueryOperator(task_id="query", query="SELECT event, count() AS n FROM events GROUP BY event LIMIT 10")
    PostHogRefreshDashboardOperator(task_id="refresh", dashboard=1, poll_interval=1)
    PostHogInsightThresholdSensor(task_id="gate", insight=2, condition="> 0", poke_interval=1, timeout=60)

with DAG("bad", schedule=None, start_date=START, doc_md=__doc__, max_active_tasks=4, default_args={"retries": 0}):
    again = {"retries": 3, "retry_delay": timedelta(hours=1)}  # what cannot get better makes none of them
    PostHogQueryOperator(task_id="wrong_table", query="SELECT count() FROM evnts")
    PostHogToSqlOperator(task_id="wrong_source", **{**LOAD, **SPAN, "source": "evnts"}, table="x", **again)
    PostHogToSqlOperator(task_id="no_interval", table="x", **LOAD, **again)
    PostHogInsightThresholdSensor(task_id="no_insight", insight="AbCd1234", condition="> 0", **again)
    PostHogQueryOperator(task_id="no_host", query="SELECT 1", posthog_conn_id="no_host")
    PostHogQueryOperator(task_id="refused", query="SELECT 1", posthog_conn_id="refused")
    PostHogToSqlOperator(task_id="no_type", **{**LOAD, **SPAN, "sql_conn_id": "no_type"}, table="x", **again)
    PostHogInsightThresholdSensor(
        task_id="never", insight=2, condition="> 1000000000", poke_interval=1, timeout=8, mode="poke"
    )

with DAG("erasing", schedule=None, start_date=START, doc_md=__doc__, params={"ticket": "DSR-42", "approved": True}):
    erase_persons(
        identifiers_path="{{ dag_run.conf['requests'] }}",
        work_path=FILES + "/work.jsonl",
        audit_path=FILES + "/certificates",
        ticket="{{ params.ticket }}",
        warehouse=[{"sql_conn_id": "warehouse", "table": "loaded", "distinct_id_column": "distinct_id"}],
        verify_options={"poke_interval": 2, "quiet_period": 0, "failure_grace": 0, "mode": "poke", "timeout": 120},
    )
