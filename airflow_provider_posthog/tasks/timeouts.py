"""Lengths of time, and the end of a task by its ``execution_timeout``: what it waited for is named, as by any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow_provider_posthog.compat import AirflowTaskTimeout
from airflow_provider_posthog.exceptions import PostHogSettingsError


def as_seconds(value: Any) -> Any:  # noqa: ANN401 - what else it may be, check_seconds() refuses
    """Return a length of time in seconds, if it is a ``timedelta``; anything else as it is.

    :param value: an argument.
    """
    return value.total_seconds() if isinstance(value, timedelta) else value


def check_seconds(field: str, value: object, *, zero: bool = False) -> float:
    """Return a length of time in seconds.

    :param field: the argument.
    :param value: seconds, or a ``timedelta``.
    :param zero: whether it may be 0.
    :raises PostHogSettingsError: if it is none.
    """
    given = as_seconds(value)
    fits = isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)
    if not fits or given < 0 or (given == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise PostHogSettingsError(
            field, f"{str(value)[:40]!r} is not a time to wait.", f"Write seconds, {least}, or a timedelta."
        )
    return float(given)


class PostHogTaskTimeout(AirflowTaskTimeout):
    """The task's ``execution_timeout`` has passed while something went on at PostHog.

    No ``PostHogError``: what catches those must not hold up a task that Airflow ends.

    :param message: what did not end, and what became of it.
    :param job_id: the job's id on PostHog; ``None`` if it is none.
    """

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


def task_timeout(
    what: str, limit: timedelta | None, reason: str = "", *, job_id: str | None = None
) -> PostHogTaskTimeout:
    """Make the error.

    :param what: what has not happened, such as ``Export 7 has no file``.
    :param limit: the task's ``execution_timeout``.
    :param reason: what else is known, as whole sentences.
    :param job_id: the job's id on PostHog.
    """
    seconds = "" if limit is None else f" of {limit.total_seconds():,.10g} s"
    return PostHogTaskTimeout(f"{what} within its execution_timeout{seconds}. {reason}".rstrip(), job_id=job_id)


def calculations_timeout(names: Collection[str], limit: timedelta | None) -> PostHogTaskTimeout:
    """Make the error of calculations that did not end.

    :param names: by which PostHog knows those that go on.
    :param limit: the task's ``execution_timeout``.
    """
    shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
    text = f"{len(names)} calculations{f' ({shown})' if names else ''} did not end"
    return task_timeout(text, limit, job_id=next(iter(names)) if len(names) == 1 else None)


@contextmanager
def naming(make: Callable[[], BaseException | None]) -> Iterator[None]:
    """Raise an error that names what a block waits for, if Airflow's own timer ends it: that says a process number.

    :param make: makes the error; ``None`` if there is nothing to name.
    """
    try:
        yield
    except PostHogTaskTimeout:
        raise
    except AirflowTaskTimeout as error:
        named = make()
        if named is None:
            raise
        raise named from error
