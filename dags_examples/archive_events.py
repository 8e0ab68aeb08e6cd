"""Write months of events into object storage before PostHog hides them: first those that expire first, each counted.

Each run brings the whole months that PostHog hides next. A month's files are replaced as a whole, so any run can be
retried and cleared. The first run may be triggered with `{"months": 84}`, to bring all there are.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG
    from airflow.models.param import Param

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://lake")
PARAMS = {"months": Param(2, type="integer", minimum=1, description="how many, from the one that expires first")}
START = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG("archive_events", doc_md=__doc__, schedule="@monthly", start_date=START, catchup=False, params=PARAMS) as dag:

    @task
    def expiring(params: dict[str, Any]) -> list[dict[str, str]]:
        """Return start and end of each month, half-open, that is over and not hidden yet."""
        floor = PostHogHook().events_retention().floor
        if floor is None:
            raise ValueError("PostHog does not tell how long it shows events, or the key lacks project:read")
        edges, now = [following(floor)], datetime.now(timezone.utc)
        while len(edges) <= params["months"] and following(edges[-1]) <= now:
            edges.append(following(edges[-1]))
        return [{"start": start.isoformat(), "end": end.isoformat()} for start, end in pairwise(edges)]

    # By timestamp, as PostHog hides events by when they happened.
    archive = PostHogQueryToObjectStorageOperator.partial(
        task_id="archive",
        path=FILES + "/archive/",
        source="events",
        time_column="timestamp",
        max_active_tis_per_dag=1,
        map_index_template="{{ task.start[:7] }}",
    ).expand_kwargs(expiring())


def following(day: datetime) -> datetime:
    """Return the first day of the next month."""
    first = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
