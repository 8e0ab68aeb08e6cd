"""The range of time that a partition of an asset stands for (Airflow 3.2 and newer)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.patterns import pattern

Range = tuple[datetime, datetime]

_MONTH = pattern(r"(\d{4})-(\d{2})")
_HOUR = pattern(r"\d{4}-\d{2}-\d{2}T\d{2}")


def partition_of(context: Mapping[str, Any]) -> Range | None:
    """Return the range of a run that is of a partition; ``None`` for any other run.

    A key says its range by its form: ``2026-11`` (a month), ``2026-11-01`` (a day), ``2026-11-01T06`` (an hour), each
    of UTC, or two times with a slash between.

    :raises PostHogSettingsError: if the key is of another form, so that its range is not known.
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
    return interval


def key_of(context: Mapping[str, Any]) -> str | None:
    """Return the key of the run's partition; ``None`` for a run of none, and before Airflow 3.2."""
    key = context.get("partition_key") or getattr(context.get("dag_run"), "partition_key", None)
    return key.strip() or None if isinstance(key, str) else None


def _range(key: str) -> Range | None:
    try:
        first, slash, last = key.partition("/")
        if slash:
            return _time(first), _time(last)
        month = _MONTH.fullmatch(key)
        if month:
            year, number = int(month[1]), int(month[2])
            start = datetime(year, number, 1, tzinfo=timezone.utc)
            return start, datetime(year + number // 12, number % 12 + 1, 1, tzinfo=timezone.utc)
        if _HOUR.fullmatch(key):
            start = _time(f"{key}:00:00")
            return start, start + timedelta(hours=1)
        start = datetime.strptime(key, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return start, start + timedelta(days=1)


def _time(text: str) -> datetime:
    at = read_iso(text)
    return at.astimezone(timezone.utc) if at.tzinfo else at.replace(tzinfo=timezone.utc)
