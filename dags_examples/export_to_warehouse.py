"""Events of each day: out of PostHog as CSV, into object storage, into a DuckDB table, counted on both sides.

A re-run of a day replaces that day's file and rows, so it can be cleared and run as often as you like.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

if TYPE_CHECKING:
    from pendulum import DateTime

LANDING = os.environ.get("POSTHOG_EXAMPLE_LANDING", "file:///tmp/posthog-example/landing")
WAREHOUSE = os.environ.get("POSTHOG_EXAMPLE_WAREHOUSE", "/tmp/posthog-example/warehouse.duckdb")  # noqa: S108

# The interval is half-open, so that neighbouring days share no event. The times are values, never formatted into the
# text, and carry their offset: PostHog reads a time without one in the project's time zone.
WINDOW = "timestamp >= toDateTime({start}) AND timestamp < toDateTime({end})"
INTERVAL = {"start": "{{ data_interval_start.isoformat() }}", "end": "{{ data_interval_end.isoformat() }}"}
# Without LIMIT PostHog would cut the file at 50,000 rows. 300,000 is the most; a file of that many fails the task.
EVENTS = f"SELECT uuid, event, distinct_id, timestamp, properties FROM events WHERE {WINDOW} LIMIT 300000"

with DAG(
    "export_to_warehouse",
    description="Events of each day from PostHog into DuckDB",
    # "@daily" alone has no data interval on Airflow 3.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,  # DuckDB has one writer
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["posthog", "example"],
) as dag:
    create_export = PostHogCreateExportOperator(
        task_id="create_export",
        query={"kind": "HogQLQuery", "query": EVENTS, "values": INTERVAL},
        filename="events-{{ data_interval_start.strftime('%Y-%m-%d') }}",
        deferrable=True,  # waits in the triggerer, not in a worker
        poll_interval=5,
    )

    fetch = PostHogExportToObjectStorageOperator(
        task_id="fetch",
        export_id=create_export.output,
        path=LANDING + "/events/{{ data_interval_start.strftime('%Y-%m-%d') }}.csv",
        overwrite=True,
    )

    @task
    def load(
        file: dict[str, Any], data_interval_start: DateTime | None = None, data_interval_end: DateTime | None = None
    ) -> dict[str, int]:
        """Replace the interval's rows by the file's, in one transaction.

        :param file: what ``fetch`` returned.
        :param data_interval_start: the interval's start, from Airflow.
        :param data_interval_end: its end.
        """
        import duckdb

        path = file["path"].removeprefix("file://")  # DuckDB reads s3:// and gs:// with its httpfs extension
        interval = [str(data_interval_start), str(data_interval_end)]
        os.makedirs(os.path.dirname(WAREHOUSE), exist_ok=True)
        with duckdb.connect(WAREHOUSE) as warehouse:
            warehouse.execute(
                "CREATE TABLE IF NOT EXISTS events"
                " (uuid UUID, event TEXT, distinct_id TEXT, timestamp TIMESTAMP, properties JSON)"
            )
            warehouse.begin()
            warehouse.execute('DELETE FROM events WHERE "timestamp" >= ? AND "timestamp" < ?', interval)
            if file["rows"]:
                warehouse.execute(
                    "INSERT INTO events BY NAME FROM read_csv(?, header = true, all_varchar = true)", [path]
                )
            warehouse.commit()
        return {"rows": file["rows"]}

    @task
    def prove(
        loaded: dict[str, int], data_interval_start: DateTime | None = None, data_interval_end: DateTime | None = None
    ) -> dict[str, int]:
        """Count the interval in PostHog and in the warehouse; fail if they differ.

        :param loaded: what ``load`` returned.
        :param data_interval_start: the interval's start, from Airflow.
        :param data_interval_end: its end.
        """
        import duckdb

        from airflow_provider_posthog.exceptions import PostHogIncompleteError
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        start, end = str(data_interval_start), str(data_interval_end)
        count = PostHogHook().get_first(f"SELECT count() FROM events WHERE {WINDOW}", {"start": start, "end": end})
        there = count[0] if count else 0
        with duckdb.connect(WAREHOUSE, read_only=True) as warehouse:
            row = warehouse.execute(
                'SELECT count(*) FROM events WHERE "timestamp" >= ? AND "timestamp" < ?', [start, end]
            ).fetchone()
        landed = row[0] if row else 0
        if not there == landed == loaded["rows"]:
            raise PostHogIncompleteError(f"{start} to {end}: PostHog holds {there} events, the warehouse {landed}")
        return {"posthog": there, "warehouse": landed}

    prove(load(fetch.output))
