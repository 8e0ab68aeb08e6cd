"""When to look again at an erasure: PostHog takes weeks, and a look at all events of a large project is dear.

A quick check (a few profiles, and what PostHog says of a few deletions) is made each time, and shows that something
has changed. Events are counted at the beginning, with growing pauses, after each of PostHog's weekly sweeps, when a
quick check shows another picture, and twice, a while apart, for the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api.server_time import moment

#: The pauses between the first looks, in intervals; then the next one comes after PostHog's next sweep.
_PAUSES = (1, 8, 64)
#: PostHog deletes events from Sunday, 05:00 UTC, on; a day later it has reached all replicas.
_AFTER_SWEEP = (0, 7)  # Monday, 07:00


@dataclass(frozen=True)
class Looks:
    """What is remembered between two looks; counts and states only.

    :param count: how many looks counted events since the picture last changed.
    :param at: when the last one was, by the server's time: ISO text; empty before the first.
    :param clean_at: when a look found nothing left for the first time; empty while something is.
    :param picture: what the last quick check showed.
    :param states: how many persons were in which state.
    :param text: the same in words.
    """

    count: int = 0
    at: str = ""
    clean_at: str = ""
    picture: tuple[int, ...] = ()
    states: Mapping[str, int] = field(default_factory=dict)
    text: str = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> Looks:
        """Read what was kept.

        :param kept: what :meth:`as_json` returned; ``None`` before the first look.
        """
        known = {name: value for name, value in (kept or {}).items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "picture": tuple(known.get("picture") or ())})

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def is_due(self, now: datetime, picture: tuple[int, ...], interval: timedelta) -> bool:
        """Tell whether to count events now.

        :param now: the server's time.
        :param picture: what a quick check shows.
        :param interval: the shortest pause between two looks.
        """
        last, clean = moment(self.at), moment(self.clean_at)
        if last is None or picture != self.picture:
            return True
        if clean is not None:
            return may_prove(clean, now, interval)
        return now >= self._next(last, interval)

    def _next(self, last: datetime, interval: timedelta) -> datetime:
        if interval < timedelta(seconds=1):  # a Date has no parts of a second
            return last
        sweep = after_sweep(last)
        return min(sweep, last + interval * _PAUSES[self.count - 1]) if 0 < self.count <= len(_PAUSES) else sweep

    def looked(self, now: datetime, picture: tuple[int, ...], *, clean: bool) -> Looks:
        """Note a look.

        :param now: the server's time.
        :param picture: what the quick check before it showed.
        :param clean: whether it found nothing left.
        """
        changed = picture != self.picture and bool(self.at)
        count = 1 if changed else self.count + 1
        first_clean = (self.clean_at or now.isoformat()) if clean else ""
        return replace(self, count=count, at=now.isoformat(), clean_at=first_clean, picture=picture)


def may_prove(clean: datetime, now: datetime, interval: timedelta) -> bool:
    """Tell whether a second clean look is far enough from the first; the server's time is in whole seconds.

    :param clean: when the first one was.
    :param now: the server's time.
    :param interval: the pause between two looks.
    """
    return now - clean >= timedelta(seconds=int(interval.total_seconds()))


def after_sweep(moment_: datetime) -> datetime:
    """Return when PostHog's next weekly sweep is surely over.

    :param moment_: a moment, in UTC.
    """
    weekday, hour = _AFTER_SWEEP
    day = moment_ + timedelta(days=(weekday - moment_.weekday()) % 7)
    at = day.replace(hour=hour, minute=0, second=0, microsecond=0)
    return at if at > moment_ else at + timedelta(days=7)
