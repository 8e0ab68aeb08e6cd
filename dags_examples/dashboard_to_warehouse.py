"""Write a dashboard's numbers into a database every night, as one long table, and into a file.

The rows of the dashboard's insights are replaced in one transaction, once all of them are proved to be fresh. Join them
with your own tables by ``date``; ``series`` and ``breakdown`` are what PostHog shows.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.transfers.dashboard_to_sql import PostHogDashboardToSqlOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
DASHBOARD = int(os.environ.get("POSTHOG_EXAMPLE_DASHBOARD", "7"))
FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "file:///tmp/posthog-example")

with DAG(
    "dashboard_to_warehouse",
    doc_md=__doc__,
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["posthog", "example"],
) as dag:
    PostHogDashboardToSqlOperator(
        task_id="numbers",
        dashboard=DASHBOARD,
        sql_conn_id="warehouse",
        table="posthog_numbers",
        combined_path=FILES + "/results/{{ run_id | replace(':', '-') }}/numbers.parquet",
        overwrite=True,
        outlets=[create_asset(host=HOST, project_id=PROJECT, kind="dashboard", id=DASHBOARD)],
    )
