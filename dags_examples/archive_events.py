"""Months of events into object storage before PostHog hides them, those that expire first at first, each counted.

Each run brings the whole months that PostHog hides next. The first one may be triggered with ``{"months": 84, "rest":
true}``, to bring all there are, and what is left of the month that is being hidden. A month's files are replaced as a
whole, so any run can be retried and cleared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG
    from airflow.models.param import Param

ARCHIVE = os.environ.get("POSTHOG_EXAMPLE_ARCHIVE", "s3://lake/archive/")

with DAG(
    "archive_events",
    description="Events that PostHog will hide, month by month into files",
    schedule="@monthly",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    params={
        "months": Param(2, type="integer", minimum=1, description="how many, from the one that expires first"),
        "rest": Param(False, type="boolean", description="and what is left of the month before them"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1), "pool": "posthog"},  # see load_events
    tags=["posthog", "example"],
) as dag:

    @task
    def expiring(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """Return start and end of each month, half-open, that is over and not hidden yet."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        given, floor = params or {}, PostHogHook().events_retention().floor
        if floor is None:
            raise ValueError("PostHog does not tell how long it shows events, or the key lacks project:read")
        day = (floor + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        edges = [day if given["rest"] or day.day == 1 else following(day)]
        while len(edges) <= given["months"] and following(edges[-1]) <= datetime.now(timezone.utc):
            edges.append(following(edges[-1]))
        return [{"start": start.isoformat(), "end": end.isoformat()} for start, end in pairwise(edges)]

    months = expiring()
    # By timestamp, as PostHog hides events by when they happened.
    archive = PostHogQueryToObjectStorageOperator.partial(
        task_id="archive",
        path=ARCHIVE,
        source="events",
        time_column="timestamp",
        map_index_template="{{ task.start[:7] }}",
    ).expand_kwargs(months)

    @task
    def prove(months: list[dict[str, str]], archived: Iterable[dict[str, Any]]) -> dict[str, int]:
        """Count each month in PostHog once more, and fail if the files have another number of events."""
        from airflow_provider_posthog.exceptions import PostHogIncompleteError
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        within = "timestamp >= toDateTime({start}) AND timestamp < toDateTime({end})"
        total = 0
        for month, files in zip(months, archived, strict=True):
            ((there,),) = PostHogHook().get_records(
                f"SELECT count(DISTINCT uuid) FROM events WHERE {within} LIMIT 1", month
            )
            if there != files["rows"]:
                raise PostHogIncompleteError(f"{month}: PostHog holds {there:,} events, the files {files['rows']:,}")
            total += there
        return {"months": len(months), "events": total}

    prove(months, archive.output)


def following(day: datetime) -> datetime:
    """Return the first day of the next month."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
