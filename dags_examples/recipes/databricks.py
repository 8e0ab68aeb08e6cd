"""Events of each day into Databricks: Parquet in a bucket, COPY INTO a stage table, and the day replaced at once.

Needs ``apache-airflow-providers-databricks``, ``airflow-provider-posthog[warehouse]``, the provider of the bucket, a
``databricks_default`` connection with ``http_path`` in its extra, an external location for the bucket, and, once::

    CREATE TABLE posthog.events (
        uuid STRING, event STRING, distinct_id STRING, person_id STRING,
        timestamp TIMESTAMP, created_at TIMESTAMP, properties STRING
    ) CLUSTER BY (created_at);
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.databricks.operators.databricks_sql import DatabricksCopyIntoOperator, DatabricksSqlOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

try:
    from airflow.sdk import DAG, ObjectStoragePath, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.io.path import ObjectStoragePath
    from airflow.models.dag import DAG

LAKE = "s3://lake/posthog/events"
DAY = (
    "created_at >= TIMESTAMP '{{ data_interval_start.isoformat() }}'"
    " AND created_at < TIMESTAMP '{{ data_interval_end.isoformat() }}'"
)

with DAG(
    "events_to_databricks",
    description="Events of each day from PostHog into Databricks",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=True,  # a day in which Airflow stood still is loaded later
    max_active_runs=1,  # there is one table events_stage
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["posthog", "example"],
) as dag:
    # A day's events, counted by PostHog before the files get their names. A re-run replaces the day's files.
    stage = PostHogQueryToObjectStorageOperator(
        task_id="stage", source="events", time_column="created_at", path=LAKE, object_storage_conn_id="aws_default"
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def files(staged: dict[str, Any]) -> list[str]:
        """Return the day's files as its manifest lists them; a day without events has none, and nothing to copy.

        :param staged: what ``stage`` returned.
        """
        listed = json.loads(ObjectStoragePath(staged["manifest"]).read_text())["files"]
        return [file["path"] for file in listed]

    # New each time: Databricks remembers by table which files it has loaded, so a retry of `copy` loads none twice.
    prepare = DatabricksSqlOperator(
        task_id="prepare",
        sql="CREATE OR REPLACE TABLE posthog.events_stage LIKE posthog.events",
    )

    copy = DatabricksCopyIntoOperator(
        task_id="copy",
        table_name="posthog.events_stage",
        file_location=LAKE,
        files=files(stage.output),
        file_format="PARQUET",
    )

    replace = DatabricksSqlOperator(
        task_id="replace",
        trigger_rule="none_failed",  # also on a day without files
        # One statement, so that nobody sees half of it; it fails if a row is not of the day.
        sql=f"INSERT INTO posthog.events REPLACE WHERE {DAY} SELECT * FROM posthog.events_stage",
    )

    check = DatabricksSqlOperator(
        task_id="check",
        sql=f"SELECT assert_true(count(*) = {{{{ ti.xcom_pull(task_ids='stage')['rows'] }}}}) FROM posthog.events"
        f" WHERE {DAY}",
    )

    prepare >> copy >> replace >> check
