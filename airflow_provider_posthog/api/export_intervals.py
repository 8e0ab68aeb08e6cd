"""The intervals of a batch export, and how a range of time divides into them.

Days and weeks begin at an hour of a time zone, so that some days last 23 or 25 hours; hours and minutes are in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError, clean
from airflow_provider_posthog.patterns import pattern

Interval = tuple[datetime, datetime]

_DAYS = {"day": 1, "week": 7}
_MINUTES = pattern(r"every (\d{1,4}) minutes")
_WEEK = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
#: The most intervals of a backfill: five years of hours.
MOST = 50_000


@dataclass(frozen=True)
class Schedule:
    """When the intervals of a batch export begin.

    :param interval: ``hour``, ``day``, ``week`` or ``every N minutes``.
    :param zone: the time zone of days and weeks.
    :param offset_day: on which day weeks begin, from 0 for Sunday.
    :param offset_hour: at which hour days and weeks begin.
    """

    interval: str
    zone: str = "UTC"
    offset_day: int = 0
    offset_hour: int = 0

    @classmethod
    def of(cls, export: Mapping[str, Any]) -> Schedule:
        """Read the schedule of a batch export; without zone and offset (before 2026) days begin at midnight UTC.

        :param export: PostHog's batch export.
        :raises PostHogTransportError: if this version of the provider does not know its interval or its time zone.
        """
        interval, zone = str(export.get("interval")), str(export.get("timezone") or "UTC")
        day, hour = export.get("offset_day"), export.get("offset_hour")
        schedule = cls(interval, zone, day if isinstance(day, int) else 0, hour if isinstance(hour, int) else 0)
        try:
            ZoneInfo(zone)
            known = interval in _DAYS or schedule.minutes > 0
            known = known and 0 <= schedule.offset_hour < 24 and 0 <= schedule.offset_day < 7
        except (KeyError, ValueError, OSError):
            known = False
        if not known:
            raise PostHogTransportError(
                f"the batch export has an interval that this provider does not know: {clean(interval)[:40]} in "
                f"{clean(zone)[:40]}, from day {schedule.offset_day} and hour {schedule.offset_hour}"
            )
        return schedule

    @property
    def minutes(self) -> int:
        """The minutes of an interval shorter than a day; 0 for days, weeks and unknown intervals."""
        if self.interval == "hour":
            return 60
        match = _MINUTES.fullmatch(self.interval)
        return int(match.group(1)) if match else 0

    @property
    def by_day(self) -> bool:
        """Whether PostHog takes days as the edges of a backfill, not times."""
        return self.interval in _DAYS

    def __str__(self) -> str:
        if not self.by_day:
            return f"{self.interval}, in UTC"
        day = f"{_WEEK[self.offset_day % 7]} " if self.interval == "week" else ""
        return f"{self.interval}, from {day}{self.offset_hour:02}:00 in {self.zone}"

    def begins(self, day: date) -> datetime:
        """Return when the interval of a day begins, in UTC. An hour that the clocks skip is the next one.

        :param day: the day, in the export's zone.
        """
        local = datetime.combine(day, time(self.offset_hour), ZoneInfo(self.zone))
        return local.astimezone(timezone.utc)

    def day_of(self, moment: datetime) -> date:
        """Return the day that names the interval that contains a moment.

        :param moment: an aware datetime.
        """
        day = moment.astimezone(ZoneInfo(self.zone)).date()
        if self.begins(day) > moment:
            day -= timedelta(days=1)
        if self.interval == "week":
            day -= timedelta(days=(day.isoweekday() % 7 - self.offset_day) % 7)
        return day

    def around(self, moment: datetime) -> Interval:
        """Return the interval that contains a moment, in UTC.

        :param moment: an aware datetime.
        """
        if self.by_day:
            day = self.day_of(moment)
            return self.begins(day), self.begins(day + timedelta(days=_DAYS[self.interval]))
        length = self.minutes * 60
        start = datetime.fromtimestamp(moment.timestamp() // length * length, timezone.utc)
        return start, start + timedelta(seconds=length)

    def split(self, start: datetime, end: datetime) -> list[Interval]:
        """Split a range of time into intervals.

        :param start: its first moment.
        :param end: the first moment after it.
        :raises PostHogSettingsError: if it is not made of whole intervals; names the nearest one.
        """
        for name, edge in (("start", start), ("end", end)):
            around = self.around(edge)
            if around[0] != edge:
                raise PostHogSettingsError(
                    name, f"is {_text(edge)}, which is not an edge of {self.describe()}.", _near(around)
                )
        intervals: list[Interval] = []
        at = start
        while at < end:
            if len(intervals) >= MOST:
                raise PostHogSettingsError(
                    "end", f"is more than {MOST:,} intervals of the export after the start.", "Backfill it in parts."
                )
            intervals.append(self.around(at))
            at = intervals[-1][1]
        return intervals

    def describe(self) -> str:
        """Name the intervals, for an error."""
        return f"the batch export's intervals ({self})"

    def edge(self, moment: datetime) -> str:
        """Format an edge of a backfill for PostHog: a day for days and weeks, else a time with its offset.

        :param moment: an edge of an interval.
        """
        utc = moment.astimezone(timezone.utc)
        return self.day_of(moment).isoformat() if self.by_day else utc.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _near(around: Interval) -> str:
    return (
        f"Write start and end as edges of whole intervals: the one around it goes from {_text(around[0])} to "
        f"{_text(around[1])}."
    )


def _text(moment: datetime) -> str:
    utc = moment.astimezone(timezone.utc)
    return utc.isoformat().replace("+00:00", "Z")
