"""The pace of polls: how soon the next one may go, so that an hour's calls last for the hour.

A process that polls as fast as the minute allows has used up the hour after ten minutes, and is blind for the other
fifty. So all polls of a process to a project share one queue: they go evenly, at the rate that the hour and the minute
still allow beside all other calls, minus a reserve. :class:`Pace` is the arithmetic, without a clock and without
sleeping; :class:`Place` is the place of one call in the queue.
"""

from __future__ import annotations

import math
import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from functools import partial

from airflow_provider_posthog.api.budget import HOUR, LIMITS, MARGIN, MINUTE, RESERVE, budget_of, limit_of, share_of
from airflow_provider_posthog.api.call import Bucket
from airflow_provider_posthog.api.settings import ClientSettings, Role

#: The part of an hour's calls that may go at once, after a time without polls; and the least that polls get in an hour,
#: however much others take.
_BURST = 0.01
#: Seconds for which a rate is kept, as calculating it takes time.
_STEADY = 1.0
_EARLY = 1e-6
_MINUTE, _HOUR = MINUTE + MARGIN, HOUR + MARGIN


class Pace:
    """The queue of all polls in one class of endpoints. Safe to use from threads and event loops alike.

    Times are seconds of any one clock that does not go back.

    :param bucket: the bucket.
    :param share: the part of PostHog's limits that may be used up, in (0, 1].
    :param left: returns how many calls may still go within the minute and the hour that end at a time.
    """

    def __init__(self, bucket: Bucket, share: float, left: Callable[[float], tuple[int, int]]) -> None:
        (minute, _), (hour, _) = LIMITS[bucket]
        self._minute, self._hour = limit_of(minute, share), limit_of(hour, share)
        self._burst = max(1.0, self._hour * _BURST)
        self._left = left
        self._lock = threading.Lock()
        self._line: list[int] = []  # ascending
        self._tickets = 0
        self._saved = self._burst  # turns that may go at once
        self._sent: deque[float] = deque()
        self._now = -math.inf
        self._rate, self._rated_at = 0.0, -math.inf

    def join(self) -> int:
        """Join the queue; return the ticket."""
        with self._lock:
            self._tickets += 1
            self._line.append(self._tickets)
            return self._tickets

    def leave(self, ticket: int) -> None:
        """Leave the queue without having polled.

        :param ticket: the ticket.
        """
        with self._lock:
            place = bisect_left(self._line, ticket)
            if place < len(self._line) and self._line[place] == ticket:
                del self._line[place]

    def wait(self, ticket: int, now: float) -> float:
        """Return for how many seconds to wait, as far as is known; 0: the poll may go, and the ticket is used up.

        :param ticket: the ticket.
        :param now: the time.
        """
        with self._lock:
            rate = self._go_on(now)
            place = bisect_left(self._line, ticket)
            lacking = place + 1 - self._saved
            if lacking > _EARLY:
                return lacking / rate
            del self._line[place]
            self._saved -= 1
            self._sent.append(self._now)
            return 0.0

    def rate(self, now: float) -> float:
        """Return how many polls a second may go.

        :param now: the time.
        """
        with self._lock:
            return self._go_on(now)

    def _go_on(self, now: float) -> float:
        now = max(now, self._now)
        if now - self._rated_at >= _STEADY:
            self._rate, self._rated_at = self._find_rate(now), now
        self._saved = min(self._burst, self._saved + (now - self._now) * self._rate)
        self._now = now
        return self._rate

    def _find_rate(self, now: float) -> float:
        """Return the rate that other calls leave, assuming that they send as many in the next hour as in the last."""
        while self._sent and self._sent[0] <= now - _HOUR:
            self._sent.popleft()
        in_minute = sum(sent > now - _MINUTE for sent in self._sent)
        minute, hour = self._left(now)
        by_hour = (hour + len(self._sent) - RESERVE * self._hour - self._burst - 1) / _HOUR
        by_minute = (minute + in_minute - RESERVE * self._minute - 1) / _MINUTE
        return max(self._hour * _BURST / HOUR, min(by_hour, by_minute))


class Place:
    """The place of one call in the queue.

    :param pace: the queue.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._ticket = pace.join()

    def wait(self) -> float:
        """Return for how many seconds to wait, as far as is known; 0: the poll may go."""
        return self._pace.wait(self._ticket, time.monotonic())

    def leave(self) -> None:
        """Give up the place without having polled."""
        self._pace.leave(self._ticket)


_paces: dict[tuple[str, int | None, Bucket, float], Pace] = {}
_lock = threading.Lock()


def place_of(settings: ClientSettings, bucket: Bucket, *, role: Role = "worker") -> Place | None:
    """Return a place in the queue of all polls of this process to a project, or ``None`` if no budget is kept.

    :param settings: where the project is, and which share of its limits may be used.
    :param bucket: the call's bucket.
    :param role: who sends it.
    """
    share = share_of(settings, bucket, role=role)
    if not share:
        return None
    bucket = "crud" if bucket == "deletion" else bucket
    key = (settings.base_url, settings.project_id, bucket, share)
    with _lock:
        pace = _paces.get(key)
        if pace is None:
            pace = _paces[key] = Pace(bucket, share, partial(_left, settings, bucket, share))
    return Place(pace)


def _left(settings: ClientSettings, bucket: Bucket, share: float, now: float) -> tuple[int, int]:
    return budget_of(settings).left(bucket, now, share=share)


def _forget() -> None:
    """Start anew in a forked process: its calls are its own, and another thread's lock may be held for ever."""
    global _lock
    _lock = threading.Lock()
    _paces.clear()


os.register_at_fork(after_in_child=_forget)
