"""The time range of an insight: its intervals, and what PostHog's relative dates mean at a moment.

A point that was newest when PostHog calculated it need not be so any more: a later day has ended, or the range itself
has moved on, as "Yesterday" does at midnight. :class:`Window` detects both, in the project's time zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.patterns import pattern

#: The zone where days end last: if the project's zone is not known, no point is taken for complete too soon.
LAST_ZONE = timezone(timedelta(hours=-12))
#: PostHog writes the end of a range as its last second, or microsecond.
_LAST_MOMENT = timedelta(seconds=1)
_RELATIVE = pattern(r"-?(?P<number>\d{1,4})?(?P<unit>[hdwmqysM])(?P<edge>Start|End)?")
_MONTHS = {"m": 1, "q": 3, "y": 12}
_NAMES = {
    **{"s": "second", "M": "minute", "h": "hour", "d": "day"},
    **{"w": "week", "m": "month", "q": "quarter", "y": "year"},
}
_LENGTHS = {
    "s": timedelta(seconds=1),
    "M": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(days=7),
}
#: Intervals by which a date is not rounded to days.
_SMALL = ("second", "minute", "hour")


def _months_later(start: datetime, months: int) -> datetime:
    count = start.year * 12 + start.month - 1 + months
    return start.replace(year=count // 12, month=count % 12 + 1, day=1)


#: From the local time at which an interval begins to that at which the next one begins.
STEPS: dict[str, Callable[[datetime], datetime]] = {
    "second": lambda start: start + timedelta(seconds=1),
    "minute": lambda start: start + timedelta(minutes=1),
    "hour": lambda start: start + timedelta(hours=1),
    "day": lambda start: start + timedelta(days=1),
    "week": lambda start: start + timedelta(days=7),
    "month": lambda start: _months_later(start, 1),
    "quarter": lambda start: _months_later(start, 3),
    "year": lambda start: _months_later(start, 12),
}


def floor(local: datetime, interval: str, week_begins: int = 6) -> datetime:
    """Return the local time at which the interval that contains a local time began.

    :param local: without a zone.
    :param interval: a key of :data:`STEPS`.
    :param week_begins: on which day weeks begin, from 0 (Monday); PostHog's default is Sunday.
    """
    if interval in ("second", "minute", "hour"):
        second = local.second if interval == "second" else 0
        return local.replace(minute=0 if interval == "hour" else local.minute, second=second, microsecond=0)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == "week":
        return midnight - timedelta(days=(midnight.weekday() - week_begins) % 7)
    if interval == "day":
        return midnight
    first = {"month": midnight.month, "quarter": (midnight.month - 1) // 3 * 3 + 1, "year": 1}[interval]
    return midnight.replace(month=first, day=1)


def zone_of(name: object) -> tzinfo:
    """Return a project's time zone; if it is not known, the one in which days end last.

    :param name: its name, as PostHog has it.
    """
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else LAST_ZONE
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return LAST_ZONE


@dataclass(frozen=True)
class _Way:
    """One of the ways in which a relative date may be read.

    :param week_begins: on which day weeks begin, from 0 (Monday); a setting of the project.
    :param quarter_days: how many days a quarter has; 0 for three months. Servers differ.
    :param exact: whether the time of day is kept.
    """

    week_begins: int = 6
    quarter_days: int = 0
    exact: bool = False


@dataclass(frozen=True)
class Window:
    """The time range of an insight, as its query states it.

    :param interval: a key of :data:`STEPS`.
    :param zone: the project's.
    :param date_from: as PostHog's ``dateRange`` has it: relative (``-7d``, ``mStart``), or ISO text; ``None`` for none.
    :param date_to: likewise; ``None`` for "until now".
    :param explicit: whether times of day in the dates count, as ``explicitDate``.
    :param resolved: the range that PostHog itself says it has read: first and last moment, where it tells.
    :param week_begins: on which day weeks begin, from 0 (Monday).
    """

    interval: str
    zone: tzinfo
    date_from: str | None = None
    date_to: str | None = None
    explicit: bool = False
    resolved: tuple[datetime | None, datetime | None] = (None, None)
    week_begins: int = 6

    @classmethod
    def of(
        cls,
        insight: Mapping[str, Any],
        query: Mapping[str, Any],
        interval: str,
        *,
        ran: Mapping[str, Any] | None = None,
        first: object = None,
    ) -> Window:
        """Read the range from an insight.

        :param insight: PostHog's answer.
        :param query: its query, or its older ``filters``.
        :param interval: the interval of its points.
        :param ran: the ``filter`` of a series, which older servers answer: the dates that were read.
        :param first: the date of one of its points, which tells where weeks begin.
        """
        date_range = query.get("dateRange")
        dates: Mapping[str, Any] = date_range if isinstance(date_range, Mapping) else query
        resolved = insight.get("resolved_date_range")
        resolved = resolved if isinstance(resolved, Mapping) else ran or {}
        begun, ended = (dates.get(name) for name in ("date_from", "date_to"))
        return cls(
            interval,
            zone_of(insight.get("timezone")),
            begun if isinstance(begun, str) and begun else None,
            ended if isinstance(ended, str) and ended else None,
            dates.get("explicitDate") is True or dates.get("explicit_date") is True,
            (moment(resolved.get("date_from")), moment(resolved.get("date_to"))),
            _weekday(first),
        )

    def at(self, local: datetime) -> datetime:
        """Return the moment of a local time, in UTC.

        :param local: without a zone.
        """
        return local.replace(tzinfo=self.zone).astimezone(timezone.utc)

    def local(self, when: datetime) -> datetime:
        """Return the local time of a moment, without its zone.

        :param when: the moment.
        """
        return when.astimezone(self.zone).replace(tzinfo=None)

    def ends(self, start: datetime) -> datetime:
        """Return the moment at which a point's interval ends.

        :param start: when it begins, by the local clock.
        """
        return self.at(STEPS[self.interval](start))

    def end(self, now: datetime, way: _Way | None = None) -> datetime:
        """Return when the range ends, as seen from a moment; the moment itself, if that is not known.

        :param now: the moment.
        :param way: how to read dates that servers and projects read differently; by default the earliest end.
        """
        ways = (way,) if way else self._ways(self.date_to)
        ends = [self._bound(self.date_to, now, reading, is_end=True) for reading in ways]
        return min((end for end in ends if end is not None), default=now)

    def start(self, now: datetime) -> datetime | None:
        """Return when the range begins, as seen from a moment; ``None`` if that is not known.

        :param now: the moment. Of several readings, the latest beginning counts.
        """
        bounds = [self._bound(self.date_from, now, way, is_end=False) for way in self._ways(self.date_from)]
        return max((start for start in bounds if start is not None), default=None)

    def whole(self, start: datetime, calculated: datetime) -> bool:
        """Return whether a point covers a whole interval: it had ended, and the range does not cut it.

        :param start: when it begins, by the local clock.
        :param calculated: when PostHog calculated it.
        """
        first, last = self.resolved
        first = first or self.start(calculated)
        last = self.end(calculated) if last is None else last
        if last < calculated and self.ends(start) > last + _LAST_MOMENT:
            return False
        if first is not None and self.at(start) < first:
            return False
        return self.ends(start) <= calculated

    def stale(self, calculated: datetime, now: datetime) -> bool:
        """Return whether another interval of the range has ended since the result was calculated.

        :param calculated: when it was.
        :param now: the server's time.
        """
        if not self._is_as_resolved(calculated):
            return self._ended_between(calculated, now)
        return any(
            self._ended_between(min(calculated, self.end(calculated, way)), min(now, self.end(now, way)))
            for way in self._ways(self.date_to)
        )

    def _ended_between(self, before: datetime, until: datetime) -> bool:
        return self.at(floor(self.local(until), self.interval, self.week_begins)) > before

    def moved(self, calculated: datetime, now: datetime) -> bool:
        """Return whether the range itself has moved on since a result was calculated, as far as its dates show.

        :param calculated: when it was.
        :param now: the server's time.
        """
        if self.start(calculated) != self.start(now):
            return True
        then, today = self.end(calculated), self.end(now)
        return then != today and then < calculated and today < now

    def _is_as_resolved(self, calculated: datetime) -> bool:
        """Return whether PostHog used these dates: a dashboard may have replaced them."""
        last, expected = self.resolved[1], self.end(calculated)
        if last is None or (last >= calculated and expected >= calculated):
            return True
        return abs(last - expected) <= _LAST_MOMENT

    def _ways(self, text: str | None) -> tuple[_Way, ...]:
        """Return the ways to read a date: where weeks begin, what a quarter is, and whether hours count."""
        relative = _RELATIVE.fullmatch(text or "")
        if relative is None:
            return (_Way(),)
        unit, edge = relative["unit"], relative["edge"]
        if edge and unit == "w" and self.interval != "week":
            return _Way(week_begins=6), _Way(week_begins=0)
        if unit == "q":
            return _Way(), _Way(quarter_days=91)
        if not edge and self.interval in _SMALL:
            return _Way(), _Way(exact=True)
        return (_Way(week_begins=self.week_begins),)

    def _bound(self, text: str | None, now: datetime, way: _Way, *, is_end: bool) -> datetime | None:
        if text is None or text == "all":
            return None
        relative = _RELATIVE.fullmatch(text)
        if relative is None:
            return self._absolute(text, is_end=is_end)
        unit, edge = relative["unit"], relative["edge"]
        try:
            local = _back(self.local(now), int(relative["number"] or 0), unit, way)
        except (ValueError, OverflowError):  # before the year 1
            return None
        if edge:
            name = _NAMES[unit]
            begun = floor(local, name, way.week_begins)
            if edge == "End":
                return self.at(STEPS[name](begun))
            return self.at(_begun(begun, is_end=is_end and self.interval not in _SMALL))
        if way.exact or unit in "sM":
            return self.at(local)
        return self.at(_begun(floor(local, "day"), is_end=is_end))

    def _absolute(self, text: str, *, is_end: bool) -> datetime | None:
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                return self.at(_begun(datetime.fromisoformat(text), is_end=is_end))
        except ValueError:
            return None
        at = moment(text) if _has_offset(text) else _in(text, self.at)
        if at is None or self.explicit or self.interval in _SMALL:
            return at
        return self.at(_begun(floor(self.local(at), "day"), is_end=is_end))


def _begun(day: datetime, *, is_end: bool) -> datetime:
    """Return the edge of a range that a day stands for: an end includes the day."""
    return day + timedelta(days=1) if is_end else day


def _back(local: datetime, number: int, unit: str, way: _Way) -> datetime:
    if unit in _LENGTHS:
        return local - number * _LENGTHS[unit]
    if unit == "q" and way.quarter_days:
        return local - timedelta(days=number * way.quarter_days)
    first = _months_later(local, -number * _MONTHS[unit])
    last_day = (_months_later(first, 1) - timedelta(days=1)).day
    return first.replace(day=min(local.day, last_day))


def _has_offset(text: str) -> bool:
    return bool(re.search(r"([zZ]|[+-]\d\d:?\d\d)$", text))


def _in(text: str, at: Callable[[datetime], datetime]) -> datetime | None:
    try:
        return at(datetime.fromisoformat(text).replace(tzinfo=None))
    except ValueError:
        return None


def _weekday(day: object) -> int:
    try:
        return date.fromisoformat(str(day)[:10]).weekday()
    except ValueError:
        return 6
