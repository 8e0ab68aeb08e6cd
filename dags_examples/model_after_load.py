"""Run a model in SQL whenever events were loaded, for just their interval. The asset of the load starts it.

With dbt the step is `BashOperator(task_id="dbt", bash_command="dbt build --select +daily_events")`, or Cosmos's
`DbtTaskGroup`; nothing else changes.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_posthog.assets import create_asset

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
EVENTS = create_asset(host=HOST, project_id=PROJECT, kind="events")

with DAG(
    "model_after_load",
    doc_md=__doc__,
    schedule=[EVENTS],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["posthog", "example"],
) as dag:
    SQLExecuteQueryOperator(
        task_id="daily_events",
        conn_id="warehouse",
        sql=[
            "CREATE TABLE IF NOT EXISTS daily_events (day DATE, event VARCHAR(200), n BIGINT)",
            "DELETE FROM daily_events",
            "INSERT INTO daily_events SELECT CAST(created_at AS DATE), event, count(*) FROM events GROUP BY 1, 2",
        ],
    )
