"""The events of months or years into the table of ``load_events``, a mapped task for each week.

Trigger it with the first and the last day. A week's rows are replaced as a whole, in one transaction, so that weeks can
be retried, cleared and loaded again, alone or all together, also while ``load_events`` runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG
    from airflow.models.param import Param

# An Airflow connection of type postgres, or duckdb with the file's path as host.
WAREHOUSE = os.environ.get("POSTHOG_EXAMPLE_SQL_CONN", "warehouse")
# `airflow pools set posthog 1 "PostHog's queries"`: one slot, so one week at a time. PostHog runs three queries of a
# project at once, and a week reads with three (max_in_flight=3): with more slots, weeks would only wait for each other.
# Three slots with max_in_flight=1 come to the same three queries; a file of DuckDB has one writer anyway. `load_events`
# is in the same pool with a higher priority, so that an hour waits for one week at most. Without a pool,
# `max_active_tis_per_dag=1` does it for this DAG alone. (Each task is a process with a rate budget of its own.)
POOL = "posthog"

with DAG(
    "backfill_history",
    description="Past events from PostHog into SQL, week by week",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    params={
        "first_day": Param("2026-01-01", type="string", format="date", description="in UTC"),
        "last_day": Param("2026-10-31", type="string", format="date", description="in UTC; included"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["posthog", "example"],
) as dag:

    @task
    def weeks(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """Return start and end of each week, half-open, so that neighbours share no event.

        :param params: the run's, from Airflow.
        """
        given = params or {}
        start = datetime.fromisoformat(given["first_day"]).replace(tzinfo=timezone.utc)
        end = datetime.fromisoformat(given["last_day"]).replace(tzinfo=timezone.utc) + timedelta(days=1)
        midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        end = min(end, midnight)  # today is not over; load_events loads it
        found = []
        while start < end:
            found.append({"start": start.isoformat(), "end": min(start + timedelta(weeks=1), end).isoformat()})
            start += timedelta(weeks=1)
        return found

    spans = weeks()

    # By created_at, as in load_events: the two must agree on which rows an interval has. Events that were imported into
    # PostHog have the day of the import there, not that on which they happened.
    load_week = PostHogToSqlOperator.partial(
        task_id="load_week",
        sql_conn_id=WAREHOUSE,
        table="events",
        source="events",
        time_column="created_at",
        write_disposition="replace_interval",
        pool=POOL,
        pool_slots=1,
        map_index_template="{{ task.start[:10] }}",
    ).expand_kwargs(spans)

    @task
    def prove(spans: list[dict[str, str]], loaded: Iterable[dict[str, Any]]) -> dict[str, int]:
        """Count each week in PostHog once more, and fail if the table got another number of rows.

        Each task returned what the table held before its commit.

        :param spans: the weeks.
        :param loaded: what the weeks' tasks returned.
        """
        from airflow_provider_posthog.exceptions import PostHogIncompleteError
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        hook = PostHogHook()
        there, landed = 0, 0
        for span, week in zip(spans, loaded, strict=True):
            row = hook.get_first(
                "SELECT count(DISTINCT uuid) FROM events"
                " WHERE created_at >= toDateTime({start}) AND created_at < toDateTime({end})",
                span,
            )
            counted = int(row[0]) if row else 0
            if counted != week["rows"]:
                raise PostHogIncompleteError(
                    f"{span['start']} to {span['end']}: PostHog holds {counted:,} events, the table {week['rows']:,}"
                )
            there += counted
            landed += week["rows"]
        return {"weeks": len(spans), "posthog": there, "warehouse": landed}

    prove(spans, load_week.output)
