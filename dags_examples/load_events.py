"""Events of each hour into a table of PostgreSQL or DuckDB, every event once, also those that come late.

An hour's rows are replaced as a whole, in one transaction, so any run can be retried and cleared. The run's asset event
starts ``refresh_insights``. What there was before ``POSTHOG_EXAMPLE_START`` is loaded by ``backfill_history``.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

if TYPE_CHECKING:
    from pendulum import DateTime

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
# An Airflow connection of type postgres, or duckdb with the file's path as host.
WAREHOUSE = os.environ.get("POSTHOG_EXAMPLE_SQL_CONN", "warehouse")
START = datetime.fromisoformat(os.environ.get("POSTHOG_EXAMPLE_START", "2026-11-01T00:00:00+00:00"))
# `airflow pools set posthog 1 "PostHog's queries"`. The examples share it: PostHog runs three queries of a project at
# once, which is what one load makes (max_in_flight=3), and a file of DuckDB has one writer.
POOL = "posthog"

EVENTS = create_asset(host=HOST, project_id=PROJECT, kind="events")

with DAG(
    "load_events",
    description="Events of each hour from PostHog into SQL",
    # "@hourly" alone has no data interval on Airflow 3.
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=START,
    catchup=True,  # an hour in which Airflow stood still is loaded when it is back; without it, it would be missing
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["posthog", "example"],
) as dag:
    load = PostHogToSqlOperator(
        task_id="load",
        sql_conn_id=WAREHOUSE,
        table="events",
        source="events",
        # The hour is that in which PostHog took the event in. By `timestamp`, when it happened, an event of a phone
        # that was offline until today would belong to an hour that was loaded long ago, and be missed.
        time_column="created_at",
        write_disposition="replace_interval",
        # An event has its created_at some time before queries see it. What is younger than this when the task runs is
        # waited for. Longer is safer, where PostHog is behind (its status page tells). `verify_back=timedelta(days=2)`
        # would count the hours of two days again each time, and load those that got more rows after all.
        settle=timedelta(minutes=5),
        pool=POOL,
        priority_weight=10,  # before the weeks of a backfill
    )

    @task(outlets=[EVENTS])
    def prove(
        loaded: dict[str, Any],
        data_interval_start: DateTime | None = None,
        data_interval_end: DateTime | None = None,
        outlet_events: Any = None,  # noqa: ANN401 - from Airflow
    ) -> dict[str, int]:
        """Count the hour in PostHog and in the warehouse, and fail if they differ.

        The load was proved before its commit. This asks both sides once more, on their own, before the asset's event
        starts other DAGs.

        :param loaded: what ``load`` returned.
        :param data_interval_start: the interval's start, from Airflow.
        :param data_interval_end: its end.
        :param outlet_events: where the asset's event gets its extra.
        """
        from airflow_provider_posthog.exceptions import PostHogIncompleteError
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        interval = {"start": str(data_interval_start), "end": str(data_interval_end)}
        # Not count(): a client may have sent an event twice, and PostHog merges such copies only later.
        row = PostHogHook().get_first(
            "SELECT count(DISTINCT uuid) FROM events"
            " WHERE created_at >= toDateTime({start}) AND created_at < toDateTime({end})",
            interval,
        )
        there = int(row[0]) if row else 0
        with closing(connect()) as warehouse, closing(warehouse.cursor()) as cursor:
            cursor.execute(
                "SELECT count(DISTINCT uuid), count(*) FROM events"
                f" WHERE created_at >= '{interval['start']}' AND created_at < '{interval['end']}'"
            )
            landed, rows = cursor.fetchone()
        if not there == landed == rows == loaded["rows"]:
            raise PostHogIncompleteError(
                f"{interval['start']} to {interval['end']}: PostHog holds {there:,} events, the warehouse {rows:,}"
            )
        outlet_events[EVENTS].extra.update(rows=rows, **interval)
        return {"posthog": there, "warehouse": rows}

    prove(load.output)


def connect() -> Any:  # noqa: ANN401 - a PEP 249 connection
    """Connect to the warehouse."""
    from airflow_provider_posthog.compat import BaseHook

    connection = BaseHook.get_connection(WAREHOUSE)
    if connection.conn_type != "duckdb":
        return connection.get_hook().get_conn()
    import duckdb  # needs no provider of Airflow

    return duckdb.connect(connection.host)
