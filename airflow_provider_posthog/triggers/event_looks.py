"""What the watchers of new events share: the terms of a poll, what it saw, and what one watcher has seen. Pure.

A look counts the events of each watched name that came in after a moment (``after``), and again those after a later one
(``next``), from which the next look begins. A watcher compares the first number with the second one of the look before:
what is more is news, whatever its ``created_at``. So a row that becomes visible late is seen, as long as it came in
after ``next``, which stays behind the newest event by the overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.api.server_time import moment

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Terms:
    """What watchers must agree on to share a poll.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number in place of the connection's, as text.
    :param poll_interval: seconds between two polls.
    :param scan_back: seconds; what happened longer before it came in is looked for once a day. ``None``: always.
    :param overlap: seconds that an event may need, after it came in, until queries see it.
    """

    posthog_conn_id: str
    project_id: str | None
    poll_interval: float
    scan_back: float | None
    overlap: float

    def scan_from(self, after: datetime) -> datetime | None:
        """Return from when on events happened that are looked for, if they came in after a moment; ``None`` for all.

        :param after: the moment.
        """
        return None if self.scan_back is None else after - timedelta(seconds=self.scan_back)


@dataclass(frozen=True)
class Counted:
    """Events of one name.

    :param counted: how many came in after the look's ``after``, each once.
    :param kept: how many of them after its ``next``.
    :param fresh: how many of them after its ``newest``.
    :param newest: the last ``created_at`` of them.
    """

    counted: int = 0
    kept: int = 0
    fresh: int = 0
    newest: datetime | None = None

    def plus(self, other: Counted) -> Counted:
        """Add the events of another name.

        :param other: the events.
        """
        both = [newest for newest in (self.newest, other.newest) if newest is not None]
        return Counted(
            self.counted + other.counted, self.kept + other.kept, self.fresh + other.fresh, max(both, default=None)
        )


def of_event(counts: Mapping[str | None, Counted], event: str | None) -> Counted:
    """Pick what was counted of a watcher's events.

    :param counts: by name; those of no watched name under ``None``.
    :param event: the name, or ``None`` for any event.
    """
    if event is not None:
        return counts.get(event, Counted())
    total = Counted()
    for counted in counts.values():
        total = total.plus(counted)
    return total


@dataclass(frozen=True)
class Look:
    """What one poll saw.

    :param names: the events that it was about; ``None`` among them for any.
    :param at: when, by PostHog's clock.
    :param after: events were counted that came in after this.
    :param next: where the next look begins.
    :param newest: the last ``created_at`` that the looks before saw.
    :param counts: what was counted, by name.
    """

    names: Collection[str | None]
    at: datetime
    after: datetime
    next: datetime
    newest: datetime
    counts: Mapping[str | None, Counted]

    @property
    def seen(self) -> datetime:
        """The last ``created_at`` that this look and those before saw: ``newest`` of the next one."""
        return max([self.newest, *(counted.newest for counted in self.counts.values() if counted.newest is not None)])


@dataclass(frozen=True)
class LateLook:
    """What the look of a day saw: events that happened longer than ``scan_back`` before they came in.

    :param names: the events that it was about.
    :param after: events were counted that came in after this.
    :param until: and not after this.
    :param counts: what was counted, by name.
    """

    names: Collection[str | None]
    after: datetime
    until: datetime
    counts: Mapping[str | None, Counted]


@dataclass(frozen=True)
class Seen:
    """What a watcher has told of.

    :param after: ``count`` is of the events that came in after this.
    :param count: how many of them were seen.
    :param newest: the last ``created_at`` that was seen.
    :param late: those that happened long before were looked for among what came in until this.
    """

    after: datetime
    count: int
    newest: datetime
    late: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: _text(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: object) -> Seen | None:
        """Read what :meth:`to_json` made; ``None`` for anything else.

        :param value: JSON.
        """
        if not isinstance(value, Mapping):
            return None
        after, newest, late = (moment(value.get(name)) for name in ("after", "newest", "late"))
        count = value.get("count")
        if after is None or newest is None or late is None or not isinstance(count, int):
            return None
        return cls(after, count, newest, late)


def _text(value: datetime | int) -> str | int:
    return value.astimezone(timezone.utc).isoformat() if isinstance(value, datetime) else value


@dataclass
class Member:
    """A watcher that takes part in a poll.

    :param event: the name of its events, or ``None`` for any.
    :param late: as in :class:`Seen`; ``None`` before its first look.
    """

    event: str | None
    late: datetime | None = field(default=None)


def next_after(after: datetime, newest: datetime, now: datetime, overlap: timedelta) -> datetime:
    """Return from where the look after the next one begins.

    That is behind the newest event that was seen, as PostHog may be behind as a whole; by a day at the most, as nothing
    may have come in for a long time.

    :param after: from where the next look begins.
    :param newest: the last ``created_at`` that was seen.
    :param now: the time at PostHog.
    :param overlap: how long an event may take until it can be seen.
    """
    return max(after, min(now, newest) - overlap, now - DAY - overlap)


def news(look: Look, seen: Seen, event: str | None) -> tuple[Seen, dict[str, Any] | None]:
    """Compare a look with what a watcher had seen before; return what it has seen now, and the news, if there are any.

    :param look: the look; it begins where ``seen`` counted.
    :param seen: what was seen before.
    :param event: the watcher's events.
    """
    counts = of_event(look.counts, event)
    now = Seen(look.next, counts.kept, look.seen, seen.late)
    more = counts.counted - seen.count
    if more <= 0 or counts.newest is None:
        return now, None
    # All of them after the newest one: then none became visible late, which may be anywhere in the overlap.
    tight = look.newest == seen.newest and more == counts.fresh
    return now, payload(event, more, look.newest if tight else look.after, counts.newest)


def payload(event: str | None, count: int, after: datetime, until: datetime) -> dict[str, Any]:
    """Make what a watcher fires.

    :param event: its events.
    :param count: how many are new.
    :param after: all of them came in after this.
    :param until: and not after this.
    """
    return {"version": 1, "event": event, "count": count, "after": _text(after), "until": _text(until)}
