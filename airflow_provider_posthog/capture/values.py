"""Convert a row's values to JSON, and check times that PostHog takes unchanged."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_posthog.api.times import read_iso

#: Times farther ahead are set to "now" by PostHog, and would be others in each try.
FUTURE = timedelta(hours=23)
#: ClickHouse keeps no earlier times, and would write this one.
EARLIEST = datetime(1900, 1, 1, tzinfo=timezone.utc)
_PLAIN = frozenset({str, int, bool, type(None)})
_BYTES = (bytes, bytearray, memoryview)
#: Up to here, a floating-point number holds each whole number.
_EXACT = 2**53


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
    if type(value) in _PLAIN:
        return value
    try:
        return _plain(value)
    except RecursionError:
        raise RefusedError("not_json") from None


def _plain(value: Any) -> Any:  # noqa: ANN401
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return None if is_nat(value) else value.isoformat()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):  # in an order that stays: a later try makes the same event
        return sorted((_plain(entry) for entry in value), key=repr)
    return _rest(value)


def is_nat(value: object) -> bool:
    """Tell whether a time is pandas' "not a time", which is unequal to itself.

    :param value: a time.
    """
    return value != value


def _object(value: Mapping[Any, Any]) -> dict[str, Any]:
    made = {name if isinstance(name, str) else _name(name): _plain(entry) for name, entry in value.items()}
    if len(made) != len(value):  # {1: ..., "1": ...}
        raise RefusedError("not_json")
    return made


def _name(name: object) -> str:
    bare = _plain(name)
    if isinstance(bare, (dict, list)):
        raise RefusedError("not_json")
    return bare if isinstance(bare, str) else json.dumps(bare)


def key_part(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Convert a part of a key for JSON, alike whatever the database's type: 1.0 is 1, and 13:00+01:00 is 12:00+00:00.

    :param value: what a database, Parquet or JSON gave.
    :raises RefusedError: for what JSON cannot hold.
    """
    if isinstance(value, datetime) and value.tzinfo is not None and not is_nat(value):
        with suppress(OverflowError):
            value = value.astimezone(timezone.utc)
    part = plain(value)
    return int(part) if isinstance(part, float) and part.is_integer() and abs(part) < _EXACT else part


def id_text(value: object) -> str:
    """Return an id, or a name, as text: a whole number without a fraction, whatever its type; empty for null and NaN.

    :param value: what a database, Parquet or JSON gave.
    :raises RefusedError: if it is no id at all, such as bytes or a list.
    """
    if isinstance(value, str):
        return str(value)
    part = None if value is None else key_part(value)
    if isinstance(part, (dict, list)):
        raise RefusedError("not_json")
    return "" if part is None else str(part)


def _number(value: Decimal) -> int | float | None:
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() and abs(value) < 10**18 else float(value)


def _rest(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, timedelta):
        return None if is_nat(value) else value.total_seconds()
    if isinstance(value, (str, int, uuid.UUID)):
        return str(value) if not isinstance(value, int) else int(value)
    if not isinstance(value, _BYTES):
        listed = getattr(value, "tolist", None)  # numpy's numbers and arrays
        if callable(listed) and type(entries := listed()) is not type(value):
            return _plain(entries)
    raise RefusedError("not_json")


def moment(value: object, now: datetime) -> datetime:
    """Return a row's time in UTC.

    :param value: a time with an offset, or ISO 8601 with one.
    :param now: the time.
    :raises RefusedError: if there is none, if it has no offset, or if PostHog could not keep it as it is.
    """
    if (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, (datetime, float)) and is_nat(value))
    ):
        raise RefusedError("missing_timestamp")
    if isinstance(value, str):
        try:
            value = read_iso(value)
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
    if utc < EARLIEST:
        raise RefusedError("invalid_event_timestamp")
    if utc - now > FUTURE:
        raise RefusedError("future_timestamp")
    return utc


def written(utc: datetime) -> str:
    """Return a time as PostHog wants it: RFC 3339, UTC, to the microsecond.

    :param utc: the time, in UTC.
    """
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
