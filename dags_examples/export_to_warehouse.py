"""Export each day's events as CSV into object storage, and load them into a DuckDB table.

A re-run of a day replaces that day's file and rows, so it can be cleared and run as often as you like.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "file:///tmp/posthog-example")
# The interval is half-open, so that neighbouring days share no event. The times are values, never formatted into the
# text. Without LIMIT PostHog would cut the file at 50,000 rows; 300,000 is the most, and a file of that many fails.
WINDOW = "timestamp >= toDateTime({start}) AND timestamp < toDateTime({end})"
EVENTS = f"SELECT uuid, event, distinct_id, timestamp, properties FROM events WHERE {WINDOW} LIMIT 300000"
INTERVAL = {"start": "{{ data_interval_start.isoformat() }}", "end": "{{ data_interval_end.isoformat() }}"}
QUERY = {"kind": "HogQLQuery", "query": EVENTS, "values": INTERVAL}
DAY = "{{ data_interval_start.strftime('%Y-%m-%d') }}"
COLUMNS = "uuid UUID, event TEXT, distinct_id TEXT, timestamp TIMESTAMP, properties JSON, day DATE"
# "@daily" alone has no interval on Airflow 3.
DAILY, START = CronDataIntervalTimetable("@daily", timezone="UTC"), datetime(2026, 1, 1, tzinfo=timezone.utc)

# One run at a time: DuckDB has one writer.
ONE = {"catchup": False, "max_active_runs": 1}

with DAG("export_to_warehouse", doc_md=__doc__, schedule=DAILY, start_date=START, **ONE) as dag:
    # It waits in the triggerer, not in a worker.
    create_export = PostHogCreateExportOperator(task_id="create_export", query=QUERY, deferrable=True)
    fetch = PostHogExportToObjectStorageOperator(
        task_id="fetch",
        export_id=create_export.output,
        path=f"{FILES}/events/{DAY}.csv",
        overwrite=True,
    )

    @task
    def load(file: dict[str, Any], day: str) -> int:
        """Replace the day's rows by the file's, in one transaction; `fetch` has proved that they are all."""
        import duckdb

        path = file["path"].removeprefix("file://")  # DuckDB reads s3:// and gs:// with its httpfs extension
        with duckdb.connect(FILES.removeprefix("file://") + "/warehouse.duckdb") as warehouse:
            warehouse.begin()
            warehouse.execute(f"CREATE TABLE IF NOT EXISTS events ({COLUMNS})")
            warehouse.execute("DELETE FROM events WHERE day = ?", [day])
            rows = "SELECT *, CAST(? AS DATE) AS day FROM read_csv(?, header = true, all_varchar = true)"
            warehouse.execute(f"INSERT INTO events BY NAME {rows}", [day, path])
            warehouse.commit()
        return int(file["rows"])

    load(fetch.output, DAY)
