"""Read what ClickHouse writes into JSON: types, times, days and integers; each value exactly, or an error."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)", re.DOTALL)
#: Python's own reader takes ``1_000`` and spaces, too.
_INTEGER = re.compile(r"-?[0-9]+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: ClickHouse's times have any number of digits after the second; Python before 3.11 reads three or six.
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:\d{2}(?::\d{2})?)?", re.ASCII
)


def bare(kind: str) -> str:
    """Return a ClickHouse type without ``Nullable`` and ``LowCardinality`` around it.

    :param kind: the type.
    """
    kind = kind.strip()
    while wrapped := _WRAPPED.fullmatch(kind):
        kind = wrapped[1].strip()
    return kind


def moment_of(value: str) -> datetime:
    """Read a time, down to the microsecond that it is in; one without an offset is UTC.

    :param value: such as ``2026-11-21T08:09:33.339419-05:00``.
    :raises ValueError: if it is none.
    """
    parts = _TIME.fullmatch(value)
    if parts is None:
        raise ValueError
    day, time, fraction, offset = parts.groups()
    text = f"{day}T{time or '00:00:00'}.{(fraction or '').ljust(6, '0')[:6]}"
    read = datetime.fromisoformat(text + ("+00:00" if offset in (None, "Z") else offset))
    return read.astimezone(timezone.utc)


def exact_moment_of(value: str) -> datetime:
    """Read a time that no microsecond has to be cut of.

    :param value: as for :func:`moment_of`.
    :raises ValueError: if it is none, or has nanoseconds.
    """
    parts = _TIME.fullmatch(value)
    if parts is not None and (parts[3] or "")[6:].strip("0"):
        raise ValueError
    return moment_of(value)


def day_of(value: str) -> date:
    """Read a day.

    :param value: such as ``2026-11-21``.
    :raises ValueError: if it is none: a time of that day, perhaps.
    """
    if not _DAY.fullmatch(value):
        raise ValueError
    return date.fromisoformat(value)


def integer_of(value: object) -> int:
    """Read an integer; large ones come as text.

    :param value: a number, or text.
    :raises TypeError: if it is none: a float did not come whole.
    """
    if isinstance(value, int) or (isinstance(value, str) and _INTEGER.fullmatch(value)):
        return int(value)
    raise TypeError
