"""Convert a row's values to JSON, and check times that PostHog takes unchanged."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

#: Times farther ahead are set to "now" by PostHog, and would be others in each try.
FUTURE = timedelta(hours=23)
_PLAIN = frozenset({str, int, bool, type(None)})


class RefusedError(Exception):
    """A row that PostHog would refuse or change.

    :param reason: a word for it, PostHog's own where it has one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Convert a value for JSON: times become ISO 8601, decimals numbers, NaN null.

    :param value: what a database, Parquet or JSON gave.
    :raises RefusedError: for what JSON cannot hold, such as bytes.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    return _rest(value)


def _number(value: Decimal) -> int | float | None:
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() and abs(value) < 10**18 else float(value)


def _rest(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (str, int, uuid.UUID)):
        return str(value) if not isinstance(value, int) else int(value)
    item = getattr(value, "item", None)  # numpy's numbers
    if callable(item):
        return plain(item())
    raise RefusedError("not_json")


def moment(value: object, now: datetime) -> datetime:
    """Return a row's time in UTC.

    :param value: a time with an offset, or ISO 8601 with one.
    :param now: the time.
    :raises RefusedError: if there is none, if it has no offset, or if it is too far ahead.
    """
    if value is None or value == "":
        raise RefusedError("missing_timestamp")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(_padded(value.strip().replace("Z", "+00:00").replace("z", "+00:00")))
        except ValueError:
            raise RefusedError("invalid_event_timestamp") from None
    if not isinstance(value, datetime):
        raise RefusedError("naive_timestamp" if isinstance(value, date) else "invalid_event_timestamp")
    if value.tzinfo is None:
        raise RefusedError("naive_timestamp")
    try:
        utc = value.astimezone(timezone.utc)
    except OverflowError:
        raise RefusedError("invalid_event_timestamp") from None
    if utc - now > FUTURE:
        raise RefusedError("future_timestamp")
    return utc


def _padded(text: str) -> str:
    """Give a fraction of a second three or six digits, as Python 3.10 knows no others."""
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits) :]}" if digits else text


def written(utc: datetime) -> str:
    """Return a time as PostHog wants it: RFC 3339, UTC, to the microsecond.

    :param utc: the time, in UTC.
    """
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
