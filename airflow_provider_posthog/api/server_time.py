"""The server's clock: the time at which it answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar, cast

from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.dataclass import dataclass

T = TypeVar("T")

#: By so much the true time may be later than a ``Date``, which has whole seconds.
ROUNDING = timedelta(seconds=1)


@dataclass(frozen=True)
class Timed(Generic[T]):
    """A call's value, and when the server answered.

    :param value: the value.
    :param at: the answer's ``Date`` in UTC, by the server's clock, which is not ours; ``None`` if it sent none that
        can be read. Whole seconds, rounded down, so that the true time is up to a second later.
    """

    value: T
    at: datetime | None


def timed(call: Call[T]) -> Call[Timed[T]]:
    """Make a call whose value carries the server's time.

    :param call: the call; it is sent, retried and read as before.
    """

    def read(answer: Answer) -> Timed[T]:
        return Timed(call.read(answer), date_of(answer))

    return cast("Call[Timed[T]]", replace(cast("Call[Any]", call), read=read))


def date_of(answer: Answer) -> datetime | None:
    """Read the ``Date`` of an answer, in UTC; ``None`` if there is none that can be read.

    :param answer: the answer.
    """
    try:
        when = parsedate_to_datetime(answer.headers.get("date", ""))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return when.astimezone(timezone.utc) if when.tzinfo else when.replace(tzinfo=timezone.utc)


def moment(text: object) -> datetime | None:
    """Read a time that PostHog wrote, such as ``last_refresh``, in UTC; ``None`` for what is not a time.

    :param text: ISO text with an offset or ``Z``; without either it is UTC.
    """
    if not isinstance(text, str):
        return None
    try:
        when = read_iso(text)
        return when.astimezone(timezone.utc) if when.tzinfo else when.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        return None
