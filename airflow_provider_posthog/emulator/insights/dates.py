"""PostHog's dates: ``-7d``, ``mStart``, ``2026-11-01`` and what they mean in a project's time zone."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_RELATIVE = re.compile(r"(?:-?(?P<number>\d+))?(?P<unit>[hdwmqy])(?P<edge>Start|End)?")
_MONTHS = {"m": 1, "q": 3, "y": 12}


def parse_date(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment that a date of a query means.

    :param text: relative (``-7d``, ``-24h``, ``dStart``, ``-1mEnd``) or ISO; without an offset it is the zone's time.
    :param now: the server's time.
    :param zone: the project's time zone.
    :raises ValueError: when it is not a date.
    """
    match = _RELATIVE.fullmatch(text)
    if match is None:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)
    local = now.astimezone(zone)
    unit = match["unit"]
    moment = _back(local, int(match["number"] or 0), unit)
    if match["edge"] == "Start":
        return _floor(moment, unit)
    if match["edge"] == "End":
        start = _floor(moment, unit)
        return (_back(start, -1, unit)) - timedelta(microseconds=1)
    return moment if unit == "h" else moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _back(moment: datetime, number: int, unit: str) -> datetime:
    if unit == "h":
        return (moment.astimezone(timezone.utc) - timedelta(hours=number)).astimezone(moment.tzinfo)
    if unit in ("d", "w"):
        return moment - timedelta(days=number * (7 if unit == "w" else 1))
    months = moment.year * 12 + moment.month - 1 - number * _MONTHS[unit]
    first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
    last_day = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return first.replace(day=min(moment.day, last_day.day))


def later(moment: datetime, number: int, unit: str) -> datetime:
    """Return the moment so many hours, days, weeks or months later, at the same time of the day.

    :param moment: in the project's time zone.
    :param number: how many; earlier ones are negative.
    :param unit: ``h``, ``d``, ``w``, ``m``, ``q`` or ``y``.
    """
    return _back(moment, -number, unit)


def _floor(moment: datetime, unit: str) -> datetime:
    if unit == "h":
        return moment.replace(minute=0, second=0, microsecond=0)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "d":
        return midnight
    if unit == "w":
        # weeks begin on Sunday unless a project says otherwise
        return midnight - timedelta(days=(midnight.weekday() + 1) % 7)
    if unit == "m":
        return midnight.replace(day=1)
    return midnight.replace(day=1, month=1 if unit == "y" else (midnight.month - 1) // 3 * 3 + 1)


def buckets(start: datetime, end: datetime, interval: str) -> list[datetime]:
    """Return the beginnings of all intervals from one moment to another.

    :param start: in the project's time zone.
    :param end: in the project's time zone.
    :param interval: ``hour``, ``day``, ``week`` or ``month``.
    """
    unit = interval[0]
    starts = [_floor(start, unit)]
    while (following := _back(starts[-1], -1, unit)) <= end:
        starts.append(following)
    return starts
