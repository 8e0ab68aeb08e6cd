"""Events of each day into BigQuery: Parquet in a bucket, a load job into a stage table, and the day replaced at once.

Needs ``apache-airflow-providers-google`` (with ``gcsfs``), ``airflow-provider-posthog[warehouse]``, and once::

    CREATE TABLE posthog.events (
        uuid STRING, event STRING, distinct_id STRING, person_id STRING,
        timestamp TIMESTAMP, created_at TIMESTAMP, properties JSON
    ) PARTITION BY DATE(created_at);
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.google.cloud.operators.bigquery import BigQueryInsertJobOperator, BigQueryValueCheckOperator
from airflow.providers.google.cloud.transfers.gcs_to_bigquery import GCSToBigQueryOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

try:
    from airflow.sdk import DAG, ObjectStoragePath, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.io.path import ObjectStoragePath
    from airflow.models.dag import DAG

BUCKET = "lake"
DAY = (
    "created_at >= TIMESTAMP '{{ data_interval_start.isoformat() }}'"
    " AND created_at < TIMESTAMP '{{ data_interval_end.isoformat() }}'"
)
PREPARE = """
CREATE OR REPLACE TABLE posthog.events_stage (
    uuid STRING, event STRING, distinct_id STRING, person_id STRING,
    timestamp TIMESTAMP, created_at TIMESTAMP, properties STRING
)
"""
REPLACE = f"""
BEGIN TRANSACTION;
DELETE FROM posthog.events WHERE {DAY};
INSERT INTO posthog.events (uuid, event, distinct_id, person_id, timestamp, created_at, properties)
SELECT uuid, event, distinct_id, person_id, timestamp, created_at,
    PARSE_JSON(properties, wide_number_mode => 'round') FROM posthog.events_stage;
COMMIT TRANSACTION;
"""

with DAG(
    "events_to_bigquery",
    description="Events of each day from PostHog into BigQuery",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=True,  # a day in which Airflow stood still is loaded later
    max_active_runs=1,  # there is one table events_stage
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["posthog", "example"],
) as dag:
    # A day's events, counted by PostHog before the files get their names. A re-run replaces the day's files.
    stage = PostHogQueryToObjectStorageOperator(
        task_id="stage",
        source="events",
        time_column="created_at",
        path=f"gs://{BUCKET}/posthog/events",
        object_storage_conn_id="google_cloud_default",
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def files(staged: dict[str, Any]) -> list[str]:
        """Return the day's files as its manifest lists them; a day without events has none, and nothing to copy.

        :param staged: what ``stage`` returned.
        """
        listed = json.loads(ObjectStoragePath(staged["manifest"]).read_text())["files"]
        return [f"posthog/events/{file['path']}" for file in listed]

    prepare = BigQueryInsertJobOperator(
        task_id="prepare", configuration={"query": {"query": PREPARE, "useLegacySql": False}}
    )

    copy = GCSToBigQueryOperator(
        task_id="copy",
        bucket=BUCKET,
        source_objects=files(stage.output),
        source_format="PARQUET",
        destination_project_dataset_table="posthog.events_stage",
        write_disposition="WRITE_TRUNCATE",  # a retry loads nothing twice
    )

    replace = BigQueryInsertJobOperator(
        task_id="replace",
        trigger_rule="none_failed",  # also on a day without files
        configuration={"query": {"query": REPLACE, "useLegacySql": False}},
    )

    check = BigQueryValueCheckOperator(
        task_id="check",
        sql=f"SELECT count(*) FROM posthog.events WHERE {DAY}",
        pass_value="{{ ti.xcom_pull(task_ids='stage')['rows'] }}",  # noqa: S106 - no password
        use_legacy_sql=False,
    )

    prepare >> copy >> replace >> check
