"""The persons of PostHog as a table of PostgreSQL or DuckDB, with a tombstone for each that is gone.

PostHog says nothing of persons that were deleted, or merged into others: they are just not there any more. So each
night all persons are read, and what the table has beyond them is marked: ``deleted_at`` is set, and what is known of
the person is removed, as the deletion may have been somebody's right.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
# An Airflow connection of type postgres, or duckdb with the file's path as host.
WAREHOUSE = os.environ.get("POSTHOG_EXAMPLE_SQL_CONN", "warehouse")
# `airflow pools set posthog 1 "PostHog's queries"`, as in load_events.
POOL = "posthog"
# If a larger share of 1,000 persons or more is gone, or all are, somebody has to look: is it another project, or a key
# that sees less?
MOST_GONE = 0.2

COLUMNS = ("id", "created_at", "properties")
PERSONS = create_asset(host=HOST, project_id=PROJECT, kind="persons")

# One transaction: readers of persons see the night before, or this one.
TABLE = (
    "CREATE TABLE IF NOT EXISTS persons AS"
    f" SELECT {', '.join(COLUMNS)}, created_at AS deleted_at FROM persons_snapshot WHERE 1 = 0"
)
SEEN = "SELECT 1 FROM persons_snapshot AS seen WHERE seen.id = persons.id"
GONE = f"deleted_at IS NULL AND NOT EXISTS ({SEEN})"
MARK = f"UPDATE persons SET deleted_at = {{now}}, properties = NULL WHERE {GONE}"
# Only rows that differ are written. A person that is there again loses its tombstone.
CHANGE = (
    "UPDATE persons SET created_at = seen.created_at, properties = seen.properties, deleted_at = NULL"
    " FROM persons_snapshot AS seen WHERE seen.id = persons.id"
    " AND (persons.deleted_at IS NOT NULL OR persons.created_at <> seen.created_at"
    " OR persons.properties IS DISTINCT FROM seen.properties)"
)
ADD = (
    f"INSERT INTO persons ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM persons_snapshot AS seen"
    " WHERE NOT EXISTS (SELECT 1 FROM persons WHERE persons.id = seen.id)"
)
ALIVE = "deleted_at IS NULL"

with DAG(
    "load_persons",
    description="Persons of each night from PostHog into SQL, with tombstones",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,  # the newest snapshot says it all
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["posthog", "example"],
) as dag:
    # All persons there are now, whatever night the run is of: the table is replaced as a whole, in one transaction.
    snapshot = PostHogToSqlOperator(
        task_id="snapshot",
        sql_conn_id=WAREHOUSE,
        table="persons_snapshot",
        source="persons",
        columns=COLUMNS,
        write_disposition="replace",
        max_shrink=MOST_GONE,
        pool=POOL,
    )

    @task(outlets=[PERSONS], pool=POOL)
    def merge(loaded: dict[str, Any]) -> dict[str, int]:
        """Bring the snapshot into the table and set the tombstones, in one transaction.

        :param loaded: what ``snapshot`` returned.
        """
        from airflow_provider_posthog.exceptions import PostHogIncompleteError
        from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard

        now = f"TIMESTAMPTZ '{datetime.now(timezone.utc).isoformat()}'"
        # What is not committed when the connection is closed was never there.
        with closing(connect()) as warehouse, closing(warehouse.cursor()) as cursor:

            def count(condition: str) -> int:
                cursor.execute(f"SELECT count(*) FROM persons WHERE {condition}")
                return int(cursor.fetchone()[0])

            cursor.execute("BEGIN")
            cursor.execute(TABLE)
            before, gone = count(ALIVE), count(GONE)
            ShrinkGuard(MOST_GONE).check("persons", before, before - gone)
            for statement in (MARK, CHANGE, ADD):
                cursor.execute(statement.format(now=now))
            alive = count(ALIVE)
            if alive != loaded["rows"]:
                raise PostHogIncompleteError(f"PostHog has {loaded['rows']:,} persons, the table would have {alive:,}")
            cursor.execute("COMMIT")
            return {"persons": alive, "gone": gone, "tombstones": count("deleted_at IS NOT NULL")}

    merge(snapshot.output)


def connect() -> Any:  # noqa: ANN401 - a PEP 249 connection
    """Connect to the warehouse."""
    from airflow_provider_posthog.compat import BaseHook

    connection = BaseHook.get_connection(WAREHOUSE)
    if connection.conn_type != "duckdb":
        return connection.get_hook().get_conn()
    import duckdb  # needs no provider of Airflow

    return duckdb.connect(connection.host)
