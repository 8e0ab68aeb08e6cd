"""Load months or years of events into the table of `load_events`, with a mapped task for each week.

Trigger it with the first and the last day. A week's rows are replaced as a whole, in one transaction, and counted on
both sides before it, so that weeks can be retried, cleared and loaded again, also while `load_events` runs.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG
    from airflow.models.param import Param

with DAG(
    "backfill_history",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    params={
        "first_day": Param(None, type="string", format="date", description="the first day to load, in UTC"),
        "last_day": Param(None, type="string", format="date", description="the last day to load, in UTC"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["posthog", "example"],
) as dag:

    @task
    def weeks(params: dict[str, Any]) -> list[dict[str, str]]:
        """Return start and end of each week, half-open, so that neighbours share no event."""
        start, last = (datetime.fromisoformat(params[name] + "T00:00:00+00:00") for name in ("first_day", "last_day"))
        today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        end = min(last + timedelta(days=1), today)  # today is not over; load_events loads it
        starts = [start + timedelta(weeks=number) for number in range((end - start).days // 7 + 1)]
        spans = [(one, min(one + timedelta(weeks=1), end)) for one in starts if one < end]
        return [{"start": one.isoformat(), "end": until.isoformat()} for one, until in spans]

    # One week at a time, as PostHog runs three queries of a project at once, and a week reads with three. By
    # created_at, as in load_events: the two must agree on which rows an interval has.
    PostHogToSqlOperator.partial(
        task_id="load_week",
        sql_conn_id="warehouse",
        table="events",
        source="events",
        time_column="created_at",
        write_disposition="replace_interval",
        max_active_tis_per_dag=1,
        map_index_template="{{ task.start[:10] }}",
    ).expand_kwargs(weeks())
