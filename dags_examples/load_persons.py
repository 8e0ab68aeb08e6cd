"""Load all persons each night into PostgreSQL or DuckDB, mark those who are gone, and remove their properties."""

import os
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.hooks.databases import SqlDatabase
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
PERSONS = create_asset(host=HOST, project_id=PROJECT, kind="persons")
FORGET = "UPDATE persons SET properties = NULL WHERE deleted_at IS NOT NULL AND properties IS NOT NULL"
TO = {"sql_conn_id": "warehouse", "table": "persons"}
WHAT = {"source": "persons", "columns": ["id", "created_at", "properties"], "deleted": "mark", "max_shrink": 0.2}

START = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG("load_persons", doc_md=__doc__, schedule="@daily", start_date=START, catchup=False) as dag:

    @task(outlets=[PERSONS])
    def forget(loaded: dict[str, Any], outlet_events: Any = None) -> None:  # noqa: ANN401
        """Remove what is known of persons who are gone, and tell the DAGs that the asset starts how many there are."""
        with closing(SqlDatabase(TO["sql_conn_id"]).connect()[0]) as warehouse:
            warehouse.cursor().execute(FORGET)
            warehouse.commit()
        outlet_events[PERSONS].extra = {name: loaded[name] for name in ("rows", "inserted", "changed", "gone")}

    forget(PostHogToSqlOperator(task_id="load", **TO, **WHAT).output)
