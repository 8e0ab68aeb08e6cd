"""When to check an erasure again: PostHog takes weeks, and counting all events of a large project is expensive.

A quick check (a few profiles, and the status of a few deletions) is made each time, and shows whether something has
changed. Events are counted at the beginning, with growing pauses, after each of PostHog's weekly sweeps, when a quick
check has a different result, and twice, a while apart, for the proof. However often the sensor runs, that is at most
twelve times in thirty days: five sweeps, five others, and the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api.server_time import moment

#: The pauses before the second check and the next ones, in intervals and their minimum; later ones follow sweeps.
_PAUSES = ((1, timedelta(minutes=10)), (1, timedelta(hours=1)), (8, timedelta(hours=6)), (64, timedelta(days=1)))
#: The shortest pauses if a quick check has a different result: profiles of many persons are deleted one by one.
_AT_A_CHANGE = (timedelta(0), timedelta(0), timedelta(hours=1), timedelta(hours=6))
#: The most checks besides those after sweeps in a month, and the most that only follow a clean one.
_MOST = len(_PAUSES) + 1
_MOST_PROOFS = 1
_MONTH = timedelta(days=30)
#: PostHog deletes events from Sunday, 05:00 UTC; a day later the deletion has reached all replicas.
_AFTER_SWEEP = (0, 7)  # Monday, 07:00


@dataclass(frozen=True)
class Looks:
    """The state between two checks; counts and states only.

    :param count: how many looks counted events in this month, besides those after sweeps.
    :param proofs: how many of this month only followed a clean one.
    :param since: when this month of waiting began: ISO text.
    :param at: when the last one was, by the server's time: ISO text; empty before the first.
    :param clean_at: when a look found nothing left for the first time; empty while something is.
    :param picture: what the last quick check showed.
    :param states: how many persons were in which state.
    :param text: the same in words.
    """

    count: int = 0
    proofs: int = 0
    since: str = ""
    at: str = ""
    clean_at: str = ""
    picture: tuple[int, ...] = ()
    states: Mapping[str, int] = field(default_factory=dict)
    text: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Looks:
        """Read the stored state.

        :param stored: what :meth:`as_json` returned; ``None`` before the first look.
        """
        known = {name: value for name, value in (stored or {}).items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "picture": tuple(known.get("picture") or ())})

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def is_due(self, now: datetime, picture: tuple[int, ...], interval: timedelta) -> bool:
        """Return whether to count events now.

        :param now: the server's time.
        :param picture: what a quick check shows.
        :param interval: the shortest pause between two looks.
        """
        last, clean = moment(self.at), moment(self.clean_at)
        if last is None or interval < timedelta(seconds=1):  # a Date has no parts of a second
            return True
        changed = picture != self.picture
        if clean is not None and not changed and not may_prove(clean, now, interval):
            return False
        if now >= after_sweep(last):
            return True
        month = self._month(now)
        if clean is not None and not changed and month.proofs < _MOST_PROOFS:
            return True
        if month.count >= _MOST:
            return False
        number = max(0, month.count - 1)
        times, least = _PAUSES[number]
        if changed or clean is not None:
            times, least = int(not changed), _AT_A_CHANGE[number]
        return now - last >= max(interval * times, least)

    def _month(self, now: datetime) -> Looks:
        """Return the state with its counts reset, if another month has begun."""
        since = moment(self.since)
        if since is None or now - since >= _MONTH:
            return replace(self, count=0, proofs=0, since=now.isoformat())
        return self

    def looked(self, now: datetime, picture: tuple[int, ...], *, clean: bool) -> Looks:
        """Return the state after a check.

        :param now: the server's time.
        :param picture: what the quick check before it showed.
        :param clean: whether it found nothing left.
        """
        month, last = self._month(now), moment(self.at)
        swept = last is not None and now >= after_sweep(last)
        proves = not swept and bool(self.clean_at) and picture == self.picture and month.proofs < _MOST_PROOFS
        return replace(
            month,
            count=month.count + (not swept and not proves),
            proofs=month.proofs + proves,
            at=now.isoformat(),
            clean_at=(self.clean_at or now.isoformat()) if clean else "",
            picture=picture,
        )


def may_prove(clean: datetime, now: datetime, interval: timedelta) -> bool:
    """Return whether a second clean check is far enough from the first; the server's time has whole seconds.

    :param clean: when the first one was.
    :param now: the server's time.
    :param interval: the pause between two looks.
    """
    return now - clean >= timedelta(seconds=int(interval.total_seconds()))


def after_sweep(moment_: datetime) -> datetime:
    """Return when PostHog's next weekly sweep is certainly over.

    :param moment_: a moment, in UTC.
    """
    weekday, hour = _AFTER_SWEEP
    day = moment_ + timedelta(days=(weekday - moment_.weekday()) % 7)
    at = day.replace(hour=hour, minute=0, second=0, microsecond=0)
    return at if at > moment_ else at + timedelta(days=7)
