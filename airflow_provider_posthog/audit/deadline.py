"""The deadline for answering an erasure request (GDPR, article 12(3), and similar laws)."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypedDict

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogSettingsError

#: One month by the calendar, as the GDPR has it. The other rules are numbers of days, such as 45 for the CCPA.
MONTH = "month"
_MAX_DAYS = 366
#: By how much a deadline may be extended: two further months by the GDPR, or as many days as it had (CCPA: 45).
_MORE_MONTHS = 2
#: From this many days before the due date, each task warns.
WARN_DAYS = 7
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class DeadlineFacts(TypedDict, total=False):
    """A deadline in a record: days as ISO text, ``rule`` as ``month`` or ``45 days``.

    ``received_at`` is null where nobody told it: then the days count from the search for the persons.
    """

    received_at: str | None
    due_at: str
    rule: str
    extended: bool


@dataclass(frozen=True)
class Deadline:
    """The deadline of a request.

    :param due: the last day, in UTC.
    :param received: when it was received; ``None`` if not known.
    :param rule: ``month``, or the number of days.
    :param extended: whether somebody has extended it.
    """

    due: date
    received: date | None = None
    rule: str | int = MONTH
    extended: bool = False

    @classmethod
    def of(cls, received: date | None, resolved: date, rule: str | int = MONTH) -> Deadline:
        """Return the deadline of a new request.

        :param received: when it was received.
        :param resolved: when the persons were searched for, from which it counts if nobody told when it was received.
        :param rule: ``month``, or a number of days.
        """
        start = received or resolved
        due = later(start, 1) if rule == MONTH else start + timedelta(days=int(rule))
        return cls(due, received, rule)

    @classmethod
    def from_facts(cls, facts: Any) -> Deadline | None:  # noqa: ANN401 - JSON
        """Read it from a record or an XCom; ``None`` if it is none.

        :param facts: see :class:`DeadlineFacts`.
        """
        stored = facts if isinstance(facts, dict) else {}
        due = _day_of(stored.get("due_at"))
        if due is None:
            return None
        rule = str(stored.get("rule") or MONTH)
        days = rule.removesuffix(" days")
        return cls(
            due,
            _day_of(stored.get("received_at")),
            int(days) if days.isdigit() else MONTH,
            stored.get("extended") is True,
        )

    def as_facts(self) -> DeadlineFacts:
        """Return it as stored in a record."""
        return {
            "received_at": self.received.isoformat() if self.received else None,
            "due_at": self.due.isoformat(),
            "rule": self.rule if isinstance(self.rule, str) else f"{self.rule} days",
            "extended": self.extended,
        }

    def extended_to(self, until: date | None) -> Deadline:
        """Return the extended deadline.

        :param until: the new last day; by default as late as the law allows.
        :raises PostHogSettingsError: if it is not later, or later than that, or it was extended before.
        """
        most = later(self.due, _MORE_MONTHS) if self.rule == MONTH else self.due + timedelta(days=int(self.rule))
        if self.extended:
            raise PostHogSettingsError(
                "request", "is extended already.", "The law knows one extension; end it instead."
            )
        if until is not None and not self.due < until <= most:
            raise PostHogSettingsError(
                "until", f"is not after {self.due}, when it is due, and up to {most}.", f"Write a day up to {most}."
            )
        return replace(self, due=until or most, extended=True)

    def days_left(self, today: date) -> int:
        """Return how many days are left; negative if it is over.

        :param today: the day, in UTC.
        """
        return (self.due - today).days

    def text(self) -> str:
        """Return it in a sentence that does not change from day to day."""
        since = f"It was received on {self.received}" if self.received else "Nobody told when it was received"
        return f"{since}; it is due on {self.due}{' (extended)' if self.extended else ''}."

    def warning(self, today: date) -> str | None:
        """Return a warning if it is due soon or over; ``None`` while there is time.

        :param today: the day, in UTC.
        """
        left = self.days_left(today)
        if left > WARN_DAYS:
            return None
        if left < 0:
            return f"The request was due on {self.due}, {_days(-left)} ago."
        return (
            f"The request is due on {self.due}: {_days(left)} left."
            if left
            else f"The request is due today, {self.due}."
        )


def read_day(field: str, value: Any) -> date | None:  # noqa: ANN401 - is checked
    """Read a day from a task's argument.

    :param field: the argument's name, for the error.
    :param value: a ``date``, a ``datetime``, ISO text, or nothing (``None``, an empty text, ``"None"`` of a template).
    :raises PostHogSettingsError: if it is not a day.
    """
    if value is None or (isinstance(value, str) and value.strip() in ("", "None", "none")):
        return None
    if isinstance(value, datetime):
        return (value.astimezone(timezone.utc) if value.tzinfo else value).date()
    day = value if isinstance(value, date) else _day_of(value.strip()) if isinstance(value, str) else None
    if day is None:
        raise PostHogSettingsError(field, "is not a day.", "Write one such as 2026-11-29.")
    return day


def read_rule(field: str, value: Any) -> str | int:  # noqa: ANN401 - is checked
    """Read the time to answer from a task's argument.

    :param field: the argument's name, for the error.
    :param value: ``month``, or a number of days.
    :raises PostHogSettingsError: if it is neither.
    """
    if value == MONTH:
        return MONTH
    days = int(value) if isinstance(value, str) and value.isdigit() else value
    if type(days) is not int or not 1 <= days <= _MAX_DAYS:
        raise PostHogSettingsError(field, "is not a length of time.", "Write 'month', or a number of days, such as 45.")
    return days


def later(start: date, months: int) -> date:
    """Return the same day some months later, or the last of that month if it has no such day.

    :param start: the day.
    :param months: how many months.
    """
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return date(year, month + 1, min(start.day, calendar.monthrange(year, month + 1)[1]))


def today(now: datetime | None = None) -> date:
    """Return the day in UTC.

    :param now: a time with an offset; by default the worker's.
    """
    return (now or datetime.now(timezone.utc)).astimezone(timezone.utc).date()


def _day_of(text: object) -> date | None:
    if isinstance(text, str) and _DAY.fullmatch(text):
        text = f"{text}T00:00:00Z"
    at = moment(text)
    return at.date() if at else None


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
