"""Which examples a soak runs, and for which interval or with which parameters each run is.

Not here: ``erase_persons`` (``benchmarks/erasure_kills.py`` kills it) and ``hand_out_person_data``, what starts with an
asset's watcher (``tests/e2e/test_survival.py``), and the recipes, which need databases in a cloud.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
#: Days of a backfill of a batch export.
BACKFILLS = 3


class Run(NamedTuple):
    """What a run is for.

    :param start: of its interval.
    :param end: of it.
    :param conf: its parameters.
    """

    start: datetime
    end: datetime
    conf: dict[str, Any]


def today() -> datetime:
    """Return the last midnight in UTC."""
    return datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def _hour(number: int) -> Run:
    start = today() - 2 * DAY - number % 400 * HOUR
    return Run(start, start + HOUR, {})


def _order_hour(number: int) -> Run:
    """Return an hour of the two days whose events no other example counts by when they happened."""
    start = today() - (1 + number % 48) * HOUR
    return Run(start, start + HOUR, {})


def _day(number: int) -> Run:
    start = today() - 3 * DAY - number % 25 * DAY
    return Run(start, start + DAY, {})


def _weeks(number: int) -> Run:
    end = today() - (20 + number % 3) * DAY
    days = {"first_day": f"{end - 7 * DAY:%Y-%m-%d}", "last_day": f"{end:%Y-%m-%d}"}
    return Run(end, end, days)


def _now(number: int) -> Run:
    return Run(today(), today(), {})


def _archive(number: int) -> Run:
    return Run(today(), today(), {"months": 2, "rest": True})


#: Of each example, what its run of a number is for.
JOBS: dict[str, Callable[[int], Run]] = {
    "load_events": _hour,
    "export_to_warehouse": _day,
    "morning_numbers": _now,
    "orders_to_posthog": _order_hour,
    "load_persons": _now,
    "dashboard_to_warehouse": _now,
    "batch_export_backfill": _now,
    "audience_to_cohort": _now,
    "backfill_history": _weeks,
    "refresh_insights": _now,
    "refresh_warehouse": _now,
    "crm_to_groups": _now,
    "rollout_with_gate": _now,
    "archive_events": _archive,
}
