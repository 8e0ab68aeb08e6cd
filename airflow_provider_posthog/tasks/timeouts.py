"""The end of a task by its ``execution_timeout``, with an error that names what it waited for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

from airflow_provider_posthog.compat import AirflowTaskTimeout


class PostHogTaskTimeout(AirflowTaskTimeout):
    """The task's ``execution_timeout`` has passed while something went on at PostHog.

    Not a ``PostHogError``: code that catches those must not hold up a task that Airflow ends.

    :param message: what did not end, and what happened to it.
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
