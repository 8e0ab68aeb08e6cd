"""Which time a transfer covers, which folder it fills, and what its assets learn about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.identity import CLOCKS_DIFFER
from airflow_provider_posthog.tasks.partition import key_of, partition_of
from airflow_provider_posthog.tasks.storage_path import storage_path

#: What to do about an interval of no length.
_NO_LENGTH = (
    'Give the DAG schedule=CronDataIntervalTimetable("@daily", timezone="UTC"), from airflow.timetables.interval, or '
    'write start and end. (In Airflow 3 "@daily" alone gives its runs no interval, and a timedelta none without a '
    "DeltaDataIntervalTimetable, unless [scheduler] create_cron_data_intervals or create_delta_data_intervals is on. "
    "A DAG without a schedule never has one.)"
)
_MOMENTS = ("logical_date", "run_after", "start_date")


def interval_of(
    context: Mapping[str, Any], start: datetime | str | None, end: datetime | str | None
) -> tuple[datetime, datetime]:
    """Return the interval of a transfer: what the arguments say, else the run's partition or data interval; in UTC.

    :param start: the first moment, as a time with an offset or ISO text; ``None`` or empty for the run's.
    :param end: the first moment after it.
    :raises PostHogSettingsError: if there is none, it has no length, or it is not over yet. (Where it is over within
        a minute, that is waited for: a worker's clock may be behind the scheduler's.)
    """
    if start in (None, "") and end in (None, "") and (partition := partition_of(context)) is not None:
        start, end = partition
    edges = _moment(context, "start", start), _moment(context, "end", end)
    if edges[0] >= edges[1]:
        given = start not in (None, "") and end not in (None, "")
        raise PostHogSettingsError(
            "end",
            f"{edges[1]:%Y-%m-%d %H:%M:%S} is not after the start, {edges[0]:%Y-%m-%d %H:%M:%S} (UTC).",
            "Write an earlier start, or a later end." if given else _NO_LENGTH,
        )
    left = edges[1].timestamp() - time.time()
    if left > CLOCKS_DIFFER:
        raise PostHogSettingsError(
            "end", f"{edges[1]:%Y-%m-%d %H:%M} UTC is in the future.", "Run the task when the interval is over."
        )
    time.sleep(max(0.0, left))
    return edges


def has_interval(context: Mapping[str, Any], start: object, end: object) -> bool:
    """Tell whether a task has an interval: one that it was given, or its run's, if that has a length.

    :param start: the argument.
    :param end: the argument.
    """
    if start not in (None, "") or end not in (None, ""):
        return True
    if key_of(context) is not None:
        return True
    first, last = (context.get(f"data_interval_{name}") for name in ("start", "end"))
    return first is not None and last is not None and bool(first < last)


def moment_of(context: Mapping[str, Any]) -> datetime:
    """Return the moment that stands for a run, the same in all its tries, in UTC; now outside the task runner.

    Runs that assets or a user have started may have no logical date in Airflow 3.
    """
    run = context.get("dag_run")
    # that of a deadline alert is a plain dictionary, and has texts
    of_run = run if isinstance(run, Mapping) else {name: getattr(run, name, None) for name in _MOMENTS}
    known = map(_time_or_none, [context.get("logical_date"), *(of_run.get(name) for name in _MOMENTS)])
    at = next((moment for moment in known if moment is not None and moment.tzinfo), None)
    utc = (at or datetime.now(timezone.utc)).astimezone(timezone.utc)
    return datetime.combine(utc.date(), utc.time(), timezone.utc)  # Airflow's own times are of another class


def _time_or_none(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            return read_iso(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) else None


def folder_of(path: str | ObjectStoragePath, conn_id: str | None) -> ObjectStoragePath:
    """Return the folder that a transfer fills.

    :param path: the folder, as text or as an ``ObjectStoragePath``.
    :param conn_id: Airflow's connection for the object storage, for a path that is text.
    :raises PostHogSettingsError: if it is empty, or leads elsewhere (:func:`.storage_path.storage_path`).
    """
    return storage_path("path", path, conn_id, example="s3://lake/events/", folder=True)


def _moment(context: Mapping[str, Any], name: str, given: datetime | str | None) -> datetime:
    value: Any = context.get(f"data_interval_{name}") if given is None or given == "" else given
    if isinstance(value, str):
        try:
            value = read_iso(value)
        except ValueError:
            raise PostHogSettingsError(
                name, f"{value[:60]!r} is not a time.", "Write ISO 8601, such as '2026-11-01T00:00:00Z'."
            ) from None
    if value is None:
        raise PostHogSettingsError(
            name,
            "is not given, and the run has no data interval.",
            f"Write {name}='2026-11-01T00:00:00Z' or a template, or give the DAG a schedule with intervals, such as "
            'CronDataIntervalTimetable("@daily", timezone="UTC").',
        )
    if not isinstance(value, datetime):
        raise PostHogSettingsError(
            name,
            f"is of the type {type(value).__name__}, which is no time.",
            "Write a datetime with an offset, or ISO 8601.",
        )
    if value.tzinfo is None:
        raise PostHogSettingsError(name, "is a time without an offset.", "Write '2026-11-01T00:00:00Z'.")
    utc = value.astimezone(timezone.utc)
    return datetime.combine(utc.date(), utc.time(), timezone.utc)  # Airflow's own times are of another class
