"""Events of each day into Redshift: Parquet in a bucket, COPY into a stage table, and the day replaced at once.

Needs ``apache-airflow-providers-amazon`` (with its extra ``s3fs``), ``airflow-provider-posthog[warehouse]``, and once::

    CREATE TABLE events (
        uuid VARCHAR(36), event VARCHAR(65535), distinct_id VARCHAR(65535), person_id VARCHAR(36),
        "timestamp" TIMESTAMP, created_at TIMESTAMP, properties SUPER
    ) SORTKEY (created_at);

Times are in UTC: COPY takes none with a time zone out of Parquet. Properties of over 65,535 bytes fail the COPY.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.amazon.aws.transfers.s3_to_redshift import S3ToRedshiftOperator
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator, SQLValueCheckOperator
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
    "created_at >= '{{ data_interval_start.strftime('%Y-%m-%d %H:%M:%S') }}'"
    " AND created_at < '{{ data_interval_end.strftime('%Y-%m-%d %H:%M:%S') }}'"
)

with DAG(
    "events_to_redshift",
    description="Events of each day from PostHog into Redshift",
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
        path=f"s3://{BUCKET}/posthog/events",
        compression="snappy",
        object_storage_conn_id="aws_default",
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def files(staged: dict[str, Any]) -> str | None:
        """Write the list of the day's files as Redshift wants it; return its key, or ``None`` for a day without events.

        :param staged: what ``stage`` returned.
        """
        manifest = ObjectStoragePath(staged["manifest"])
        entries = [
            {
                "url": f"s3://{BUCKET}/posthog/events/{file['path']}",
                "mandatory": True,
                "meta": {"content_length": file["bytes"]},
            }
            for file in json.loads(manifest.read_text())["files"]
        ]
        (manifest.parent / f"redshift-{manifest.name}").write_text(json.dumps({"entries": entries}))
        return f"posthog/events/_manifests/redshift-{manifest.name}" if entries else None

    prepare = SQLExecuteQueryOperator(
        task_id="prepare",
        conn_id="redshift_default",
        autocommit=False,  # one transaction
        sql=[
            "DROP TABLE IF EXISTS events_stage",
            "CREATE TABLE events_stage (uuid VARCHAR(36), event VARCHAR(65535), distinct_id VARCHAR(65535),"
            ' person_id VARCHAR(36), "timestamp" TIMESTAMP, created_at TIMESTAMP, properties VARCHAR(65535))',
        ],
    )

    copy = S3ToRedshiftOperator(
        task_id="copy",
        redshift_conn_id="redshift_default",
        aws_conn_id="aws_default",
        table="events_stage",
        s3_bucket=BUCKET,
        s3_key=files(stage.output),
        copy_options=["FORMAT AS PARQUET", "MANIFEST"],
        method="REPLACE",  # a retry loads nothing twice
    )

    replace = SQLExecuteQueryOperator(
        task_id="replace",
        conn_id="redshift_default",
        trigger_rule="none_failed",  # also on a day without files
        autocommit=False,  # one transaction
        sql=[
            f"DELETE FROM events WHERE {DAY}",
            "INSERT INTO events"
            ' SELECT uuid, event, distinct_id, person_id, "timestamp", created_at, JSON_PARSE(properties)'
            " FROM events_stage",
        ],
    )

    check = SQLValueCheckOperator(
        task_id="check",
        conn_id="redshift_default",
        sql=f"SELECT count(*) FROM events WHERE {DAY}",
        pass_value="{{ ti.xcom_pull(task_ids='stage')['rows'] }}",  # noqa: S106 - no password
    )

    prepare >> copy >> replace >> check
