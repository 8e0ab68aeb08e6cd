"""Lengths of time as a task's author writes them: seconds, or a ``timedelta``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError

#: Some thirty years: nobody waits longer, and no moment is out of range.
_LONGEST = 1e9


def as_seconds(value: Any) -> Any:  # noqa: ANN401 - what else it may be, seconds_of() refuses
    """Return a length of time in seconds, if it is a ``timedelta``; anything else as it is.

    :param value: an argument.
    """
    return value.total_seconds() if isinstance(value, timedelta) else value


def seconds_of(field: str, value: object, least: float | None = None) -> float:
    """Return a length of time in seconds.

    :param field: the argument.
    :param value: seconds, or a ``timedelta``.
    :param least: the least that it may be; default: more than 0.
    :raises PostHogSettingsError: if it is none, or less.
    """
    seconds = as_seconds(value)
    fits = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds <= _LONGEST
    if not fits or not (seconds > 0 if least is None else seconds >= least):
        bound = "more than 0" if least is None else f"{least:g} or more"
        raise PostHogSettingsError(
            field, f"{str(value)[:40]!r} is not a length of time.", f"Write seconds, {bound}, or a timedelta."
        )
    return float(seconds)


def length_of(field: str, value: object) -> timedelta:
    """Return a length of time, which may be nothing, as a ``timedelta``.

    :param field: the argument.
    :param value: seconds, or a ``timedelta``.
    :raises PostHogSettingsError: if it is none, or less than nothing.
    """
    return timedelta(seconds=seconds_of(field, value, 0))
