"""The range of time that a partition of an asset stands for (Airflow 3.2 and newer)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.patterns import pattern

log = logging.getLogger(__name__)

Range = tuple[datetime, datetime]

_YEAR = pattern(r"\d{4}")
_QUARTER = pattern(r"(\d{4})-Q([1-4])")
_MONTH = pattern(r"(\d{4})-(\d{2})")
_WEEK = pattern(r"(\d{4}-\d{2}-\d{2}) \(W(\d{2})\)")
_HOUR = pattern(r"\d{4}-\d{2}-\d{2}T\d{2}")


def partition_of(context: Mapping[str, Any]) -> Range | None:
    """Return the range of a run that is of a partition; ``None`` for any other run.

    A key says its range by its form, as Airflow's own mappers of partitions write them: ``2026`` (a year), ``2026-Q4``,
    ``2026-11`` (a month), ``2026-11-02 (W45)`` (a week, from Monday), ``2026-11-01`` (a day), ``2026-11-01T06`` (an
    hour), each of UTC, or two times with a slash between.

    :raises PostHogSettingsError: if the key is of another form, so that its range is not known, or of another time zone
        than UTC.
    """
    key = key_of(context)
    if key is None:
        return None
    interval = _range(key)
    if interval is None:
        raise PostHogSettingsError(
            "start",
            f"is not given, and the range of the run's partition {clean(key)[:60]!r} is not known.",
            "Write start and end, or let keys be as 2026-11-01, 2026-11-01T06, 2026-11, or two times with a slash.",
        )
    _check_zone(context, key, interval)
    return interval


def _check_zone(context: Mapping[str, Any], key: str, interval: Range) -> None:
    """Refuse a key whose day is not one of UTC: Airflow writes keys in the time zone of the timetable.

    :raises PostHogSettingsError: if the partition begins outside of the range of UTC that the key names.
    """
    begins = context.get("partition_date") or getattr(context.get("dag_run"), "partition_date", None)
    if not isinstance(begins, datetime) or begins.tzinfo is None or begins == interval[0]:
        return
    at = begins.astimezone(timezone.utc)
    if not interval[0] <= at < interval[1]:
        raise PostHogSettingsError(
            "start",
            f"is not given, and the run's partition {clean(key)[:60]!r} is of another time zone than UTC: it begins at "
            f"{at:%Y-%m-%d %H:%M} UTC.",
            "Write start='{{ partition_date }}' and its end, or give the timetable timezone=\"UTC\".",
        )
    log.warning("The partition begins at %s UTC; its key %s is read as of UTC", f"{at:%F %H:%M}", clean(key)[:60])


def key_of(context: Mapping[str, Any]) -> str | None:
    """Return the key of the run's partition; ``None`` for a run of none, and before Airflow 3.2."""
    key = context.get("partition_key") or getattr(context.get("dag_run"), "partition_key", None)
    return key.strip() or None if isinstance(key, str) else None


def _range(key: str) -> Range | None:
    try:
        first, slash, last = key.partition("/")
        if slash:
            return _time(first), _time(last)
        if (months := _months(key)) is not None:
            return months
        week = _WEEK.fullmatch(key)
        if week:
            start = datetime.strptime(week[1], "%Y-%m-%d").replace(tzinfo=timezone.utc)
            is_one = start.isocalendar()[1:] == (int(week[2]), 1)
            return (start, start + timedelta(days=7)) if is_one else None
        if _HOUR.fullmatch(key):
            start = _time(f"{key}:00:00")
            return start, start + timedelta(hours=1)
        start = datetime.strptime(key, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return start, start + timedelta(days=1)


def _months(key: str) -> Range | None:
    """Return the range of a year, a quarter or a month."""
    if _YEAR.fullmatch(key):
        return _time(f"{key}-01-01"), _after(int(key), 12)
    if quarter := _QUARTER.fullmatch(key):
        year, last = int(quarter[1]), 3 * int(quarter[2])
        return datetime(year, last - 2, 1, tzinfo=timezone.utc), _after(year, last)
    if month := _MONTH.fullmatch(key):
        year, number = int(month[1]), int(month[2])
        return datetime(year, number, 1, tzinfo=timezone.utc), _after(year, number)
    return None


def _after(year: int, month: int) -> datetime:
    """Return when the month after one begins."""
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=timezone.utc)


def _time(text: str) -> datetime:
    at = read_iso(text)
    return at.astimezone(timezone.utc) if at.tzinfo else at.replace(tzinfo=timezone.utc)
