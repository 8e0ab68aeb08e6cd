"""Events of each day into Snowflake: Parquet in a bucket, COPY INTO a stage table, and the day replaced at once.

Needs ``apache-airflow-providers-snowflake``, ``airflow-provider-posthog[warehouse]``, the provider of the bucket, and
once::

    CREATE STAGE posthog_stage URL = 's3://lake/posthog/' STORAGE_INTEGRATION = ...;
    CREATE TABLE events (
        uuid STRING, event STRING, distinct_id STRING, person_id STRING,
        timestamp TIMESTAMP_LTZ, created_at TIMESTAMP_LTZ, properties VARIANT
    );
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator, SQLValueCheckOperator
from airflow.providers.snowflake.transfers.copy_into_snowflake import CopyFromExternalStageToSnowflakeOperator
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

try:
    from airflow.sdk import DAG, ObjectStoragePath, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.io.path import ObjectStoragePath
    from airflow.models.dag import DAG

DAY = (
    "created_at >= '{{ data_interval_start.isoformat() }}'::TIMESTAMP_LTZ"
    " AND created_at < '{{ data_interval_end.isoformat() }}'::TIMESTAMP_LTZ"
)

with DAG(
    "events_to_snowflake",
    description="Events of each day from PostHog into Snowflake",
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
        path="s3://lake/posthog/events",
        object_storage_conn_id="aws_default",
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def files(staged: dict[str, Any]) -> list[str]:
        """Return the day's files as its manifest lists them; a day without events has none, and nothing to copy.

        :param staged: what ``stage`` returned.
        """
        listed = json.loads(ObjectStoragePath(staged["manifest"]).read_text())["files"]
        return [file["path"] for file in listed]

    # New each time: Snowflake remembers by table which files it has loaded, so a retry of `copy` loads none twice.
    prepare = SQLExecuteQueryOperator(
        task_id="prepare",
        conn_id="snowflake_default",
        sql="CREATE OR REPLACE TRANSIENT TABLE events_stage ("
        "uuid STRING, event STRING, distinct_id STRING, person_id STRING,"
        " timestamp TIMESTAMP_LTZ, created_at TIMESTAMP_LTZ, properties STRING)",
    )

    copy = CopyFromExternalStageToSnowflakeOperator(
        task_id="copy",
        table="events_stage",
        stage="posthog_stage",
        prefix="events/",
        files=files(stage.output),
        # Without USE_LOGICAL_TYPE, Snowflake may take the times for numbers of another unit.
        file_format="(TYPE = PARQUET, USE_LOGICAL_TYPE = TRUE)",
        copy_options="MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT",
        session_parameters={"TIMEZONE": "UTC"},
    )

    replace = SQLExecuteQueryOperator(
        task_id="replace",
        conn_id="snowflake_default",
        trigger_rule="none_failed",  # also on a day without files
        autocommit=False,  # one transaction
        sql=[
            f"DELETE FROM events WHERE {DAY}",
            "INSERT INTO events (uuid, event, distinct_id, person_id, timestamp, created_at, properties)"
            " SELECT uuid, event, distinct_id, person_id, timestamp, created_at, PARSE_JSON(properties)"
            " FROM events_stage",
        ],
    )

    check = SQLValueCheckOperator(
        task_id="check",
        conn_id="snowflake_default",
        sql=f"SELECT count(*) FROM events WHERE {DAY}",
        pass_value="{{ ti.xcom_pull(task_ids='stage')['rows'] }}",  # noqa: S106 - no password
    )

    prepare >> copy >> replace >> check
