"""The retention of events: since 2026 PostHog hides events that are older than a project's months, and counts agree.

Where it is enforced, PostHog adds ``timestamp > now() - toIntervalMonth(months)`` to every scan of events that a HogQL
query makes. So a read of an older interval has fewer rows, or none, silently; a count through the same queries
proves nothing. What helps is to know the floor before anything is read.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_posthog.api import projects
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.server_time import moment, timed
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import (
    PostHogAuthenticationError,
    PostHogError,
    PostHogIncompleteError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogSettingsError,
)
from airflow_provider_posthog.patterns import pattern

#: What PostHog takes where the retention is enforced and the project has no months.
DEFAULT_MONTHS = 84
#: How long before events are hidden a warning is logged.
NEAR = timedelta(days=30)
CHOICES = ("fail", "warn", "ignore")

_UNTOLD = "this PostHog does not say how long it shows them"
_UNREADABLE = "PostHog's setting cannot be read"
_RELATIVE = pattern(r"-?(\d{0,6})([hdwmqy])(Start|End)?")
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"m": 1, "q": 3, "y": 12}


@dataclass(frozen=True)
class Retention:
    """How long a project's events are shown, by its settings.

    :param months: calendar months; ``None`` if that is not known.
    :param enforced: whether older events are hidden already; ``None`` if that is not known.
    :param at: the server's time when it told it, in UTC.
    :param zone: the project's time zone.
    :param unknown: why nothing is known, as a part of a sentence; empty if it is known.
    """

    months: int | None
    enforced: bool | None
    at: datetime
    zone: tzinfo = timezone.utc
    unknown: str = ""

    @property
    def floor(self) -> datetime | None:
        """Events up to this moment are hidden, or would be if it were enforced; in UTC."""
        return self.floor_after(timedelta(0))

    def floor_after(self, passed: timedelta) -> datetime | None:
        """Return the floor a while after the server told its time; ``None`` if there is none that can be named.

        PostHog goes back by the calendar of the project's zone, or of UTC: the later floor of both counts.

        :param passed: the while.
        """
        if self.months is None:
            return None
        # A Date is in whole seconds, rounded down.
        now = self.at + passed + timedelta(seconds=1)
        try:
            return max(months_later(now.astimezone(zone), -self.months) for zone in (timezone.utc, self.zone))
        except (ValueError, OverflowError):  # before the year 1
            return None

    def hidden_from(self, happened: datetime) -> datetime | None:
        """Return when events that happened then are hidden; the earlier of both calendars counts.

        :param happened: the moment, aware.
        """
        if self.months is None:
            return None
        try:
            return min(months_later(happened.astimezone(zone), self.months) for zone in (timezone.utc, self.zone))
        except (ValueError, OverflowError):
            return None

    def moment_of(self, text: object) -> datetime | None:
        """Read a date of a query node, such as ``2026-11-01`` or ``-90d``; ``None`` for what is not a moment (``all``).

        :param text: the date; without an offset it is the project's time.
        """
        if not isinstance(text, str):
            return None
        match = _RELATIVE.fullmatch(text.strip())
        try:
            if match is not None:
                # The start of a month is up to a month earlier: one more, as it is better to say too much.
                return self._back(int(match[1] or 0) + bool(match[3]), match[2])
            local = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
        except (ValueError, OverflowError):
            return moment(text)
        return (local if local.tzinfo else local.replace(tzinfo=self.zone)).astimezone(timezone.utc)

    def _back(self, number: int, unit: str) -> datetime:
        if unit == "h":
            return self.at - timedelta(hours=number)
        midnight = self.at.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if unit in _DAYS:
            return (midnight - timedelta(days=number * _DAYS[unit])).astimezone(timezone.utc)
        return months_later(midnight, -number * _MONTHS[unit])

    @property
    def not_looked_at(self) -> str:
        """What a count of events did not see, as a sentence; empty if it saw all that is told of."""
        if not self.enforced or self.floor is None:
            return ""
        return f"Events up to {_text(self.floor)} UTC are hidden by PostHog and were not looked at."

    def as_json(self) -> dict[str, Any]:
        """Return the project's settings, and the floor as ISO text in UTC, for XComs and certificates."""
        return {
            "event_retention_months": self.months,
            "events_retention_enforced": self.enforced,
            "floor": _iso(self.floor),
        }


def look(project_id: int) -> Steps[Retention]:
    """Read the project's retention. Needs the scope ``project:read``; without it nothing is known.

    :param project_id: the project's number.
    """
    try:
        project = yield timed(projects.retrieve(project_id))
    except PostHogPermissionError as error:
        why = f"the key lacks the scope {error.scope}" if error.scope else "the key may not read the project"
        return Retention(None, None, datetime.now(timezone.utc), unknown=why)
    except (PostHogAuthenticationError, PostHogNotFoundError):  # a key of another kind, which may yet read
        return Retention(None, None, datetime.now(timezone.utc), unknown="PostHog does not show the key its project")
    return retention_of(project.value, project.at)


def look_if_possible(project_id: int | None) -> Steps[Retention]:
    """Read the retention as :func:`look` does, but never fail.

    :param project_id: the project's number, if there is one.
    """
    try:
        return (yield from look(project_id or 0))
    except PostHogError:
        return Retention(None, None, datetime.now(timezone.utc), unknown="the project cannot be read now")


def retention_of(project: Mapping[str, Any], at: datetime | None = None) -> Retention:
    """Read a project's settings. Older servers have no such fields, and invalid ones count as missing.

    :param project: the project.
    :param at: the server's time; ``None`` for this machine's.
    """
    values = [project.get(name) for name in ("event_retention_months", "events_retention_enforced")]
    months, enforced = _months(values[0]), _flag(values[1])
    if enforced and values[0] in (None, 0) and not isinstance(values[0], bool):
        months = DEFAULT_MONTHS
    why = "" if months is not None else _UNTOLD if values == [None, None] else _UNREADABLE
    return Retention(months, enforced, at or datetime.now(timezone.utc), _zone(project.get("timezone")), why)


def check(
    start: datetime, end: datetime | None, retention: Retention, on_retention: str = "fail"
) -> PostHogIncompleteError | str | None:
    """Decide about a read of the events of an interval: an error to raise, a warning to log, or nothing.

    :param start: the first moment, aware.
    :param end: the first moment after it; ``None`` for now.
    :param retention: the project's retention.
    :param on_retention: ``fail``, ``warn`` or ``ignore``.
    """
    return decide(start, end, retention.floor, retention, on_retention)


def decide(
    start: datetime, end: datetime | None, floor: datetime | None, retention: Retention, on_retention: str
) -> PostHogIncompleteError | str | None:
    """Decide as :func:`check`, by a floor that has moved on since.

    :param start: the first moment, aware.
    :param end: the first moment after it; ``None`` for now.
    :param floor: the floor.
    :param retention: the project's retention.
    :param on_retention: ``fail``, ``warn`` or ``ignore``.
    """
    if on_retention == "ignore" or floor is None or start > floor + NEAR:
        return None
    interval = f"{_text(start)} to {_text(end) if end else 'now'} UTC"
    if start > floor:
        when = "hides" if retention.enforced else "would hide, once that is enforced,"
        return (
            f"PostHog {when} events after {retention.months} months: of {interval} the first will be hidden from "
            f"{_text(retention.hidden_from(start) or floor)} UTC on. Keep a copy of what is not to be lost."
        )
    how_much = "none" if end is not None and end <= floor else "only a part"
    if not retention.enforced:
        known = "is not enforced yet" if retention.enforced is False else "may be enforced: PostHog does not say so"
        return (
            f"PostHog's retention of events ({retention.months} months) {known}. Where it is, {how_much} of {interval} "
            f"can be read: events up to {_text(floor)} UTC are hidden. Keep a copy of what is not to be lost."
        )
    text = (
        f"PostHog hides events up to {_text(floor)} UTC (retention of {retention.months} months), so {how_much} of "
        f"{interval} can be read, and its own counts do not show it."
    )
    if on_retention == "warn":
        return f"{text} Going on with what is left (on_retention='warn')."
    return PostHogIncompleteError(
        f"{text} Nothing was changed. Begin after {_text(floor)}, or set on_retention='warn' to take what is left in "
        "place of what is there.",
        lasting=True,
    )


def check_open(retention: Retention, on_retention: str = "fail") -> str | None:
    """Return a warning about a read of events whose interval is not known, where old ones are hidden.

    :param retention: the project's retention.
    :param on_retention: ``fail``, ``warn`` or ``ignore``.
    """
    if on_retention == "ignore" or not retention.enforced or retention.floor is None:
        return None
    return (
        f"Events up to {_text(retention.floor)} UTC are not in the answer: PostHog hides them (retention of "
        f"{retention.months} months)."
    )


def check_choice(on_retention: object) -> str:
    """Read the argument ``on_retention``, which a template may have made.

    :param on_retention: ``fail``, ``warn`` or ``ignore``.
    :raises PostHogSettingsError: if it is something else.
    """
    choice = on_retention.strip().lower() if isinstance(on_retention, str) else ""
    if choice not in CHOICES:
        raise PostHogSettingsError("on_retention", "is not known.", f"Write one of {', '.join(map(repr, CHOICES))}.")
    return choice


def expiring(*, project_id: int, before: str, within: float) -> Steps[Finding]:
    """Check whether the events that happened before a moment will be hidden soon; a check of a sensor.

    :param project_id: the project's number.
    :param before: the moment, ISO text in UTC.
    :param within: how soon, in seconds; days of 86,400.
    """
    retention: Retention = yield from _known(project_id)
    happened = moment(before)
    hidden = retention.hidden_from(happened) if happened else None
    if happened is None or hidden is None:
        return Finding(Verdict("failed", "it is not known when PostHog hides them: " + (retention.unknown or _UNTOLD)))
    left = (hidden - retention.at).total_seconds()
    facts = {
        **retention.as_json(),
        "before": _iso(happened),
        "hidden_from": _iso(hidden),
        "days_left": round(left / 86_400, 2),
    }
    reason = f"They are hidden from {_text(hidden)} UTC on, in {left / 86_400:.0f} days."
    return Finding(Verdict("succeeded" if left <= within else "pending", reason), facts)


def _known(project_id: int) -> Steps[Retention]:
    """Read the project, and fail on a refusal: there is nothing else to wait for."""
    project = yield timed(projects.retrieve(project_id))
    return retention_of(project.value, project.at)


def months_later(local: datetime, months: int) -> datetime:
    """Add calendar months, as ClickHouse and PostHog do: the day is the last one where the month has no such day.

    :param local: the moment, in the zone whose calendar counts.
    :param months: how many; negative for earlier ones.
    :returns: the moment in UTC; of a time that the clocks show twice, the later one.
    :raises ValueError: for years that there are not.
    """
    number = local.year * 12 + local.month - 1 + months
    year, month = number // 12, number % 12 + 1
    if not 1 <= year <= 9999:
        raise ValueError("no such year")
    day = min(local.day, calendar.monthrange(year, month)[1])
    both = [local.replace(year=year, month=month, day=day, fold=fold) for fold in (0, 1)]
    return max(moment.astimezone(timezone.utc) for moment in both)


def _months(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    known: dict[object, bool] = {"true": True, "false": False, "1": True, "0": False}
    return known.get(str(value).strip().lower()) if isinstance(value, (str, int)) else None


def _zone(name: object) -> tzinfo:
    try:
        return ZoneInfo(str(name)) if isinstance(name, str) else timezone.utc
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return timezone.utc


def _text(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M")


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z") if at else None
