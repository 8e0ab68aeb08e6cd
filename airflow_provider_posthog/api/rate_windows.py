"""PostHog's sliding rate windows: how many calls fit, and the first gap for one more."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence

from airflow_provider_posthog.api.call import Bucket
from airflow_provider_posthog.api.wait_log import Slowdown

MINUTE = 60.0
HOUR = 3600.0
#: Seconds that every window is longer than PostHog's. A call is counted here when it leaves and there when it arrives;
#: the first one of a burst also makes the connection, and so arrives late.
MARGIN = 0.5
_MINUTE = MINUTE + MARGIN
#: The longest window, in seconds.
LONGEST = HOUR + MARGIN
_CRUD = ((480, _MINUTE), (4800, LONGEST))
#: For each bucket: the class that counts. Deletions share the classes and counters of CRUD.
CLASSES: Mapping[Bucket, str] = {"crud": "crud", "deletion": "crud", "analytics": "analytics", "query": "query"}
#: For each bucket: how many calls PostHog lets through in any window of how many seconds.
LIMITS: Mapping[Bucket, tuple[tuple[int, float], ...]] = {
    "crud": _CRUD,
    "deletion": _CRUD,
    "analytics": ((240, _MINUTE), (1200, LONGEST)),
    "query": ((240, _MINUTE), (2400, LONGEST)),
}
#: The part of each window that polls leave to calls that start jobs, fetch their results or poll for the last time.
RESERVE = 0.1
#: The longest time, in seconds, for which a 429 closes a bucket: PostHog's longest window. A proxy may ask for years.
LONGEST_CLOSURE = HOUR


def limit_of(limit: int, share: float, *, reserve: bool = True) -> int:
    """Return the number of calls in a share of a limit: at least one.

    :param limit: PostHog's limit.
    :param share: the part of it, in (0, 1].
    :param reserve: whether the part that is kept back from polls is in it.
    """
    return max(1, math.floor(limit * share * (1 if reserve else 1 - RESERVE) + 1e-9))  # 0.29 * 100 is 28.999...


class Counter:
    """The calls of one class of endpoints."""

    def __init__(self) -> None:
        #: When calls went and, for those that wait, will go; ascending. Those that no window reaches are dropped.
        self.reservations: list[float] = []
        #: The same, of each share by itself.
        self.by_share: dict[float, list[float]] = {}
        self.closed_until = -math.inf
        self.slowdown = Slowdown()

    def add(self, reservation: float, share: float) -> None:
        """Count a call.

        :param reservation: when it goes.
        :param share: the share of whoever sends it.
        """
        insort(self.reservations, reservation)
        insort(self.by_share.setdefault(share, []), reservation)

    def remove(self, reservation: float, share: float) -> None:
        """Stop counting a call.

        :param reservation: when it was to go.
        :param share: the share of whoever was to send it.
        """
        for reservations in (self.reservations, self.by_share.get(share, [])):
            at = bisect_left(reservations, reservation)
            if at < len(reservations) and reservations[at] == reservation:
                del reservations[at]

    def left(self, since: float, limit: int, share: float) -> int:
        """Return how many more calls may go after a time: of a share, and of all shares together.

        :param since: the time.
        :param limit: PostHog's limit.
        :param share: the share.
        """
        counted = ((self.reservations, 1.0), (self.by_share.get(share, ()), share))
        return max(
            0,
            min(
                limit_of(limit, part) - len(reservations) + bisect_right(reservations, since)
                for reservations, part in counted
            ),
        )

    def forget(self, until: float) -> None:
        """Drop the calls that no window reaches any more.

        :param until: the time of the last one.
        """
        for reservations in (self.reservations, *self.by_share.values()):
            del reservations[: bisect_right(reservations, until)]
        self.by_share = {share: reservations for share, reservations in self.by_share.items() if reservations}

    def void(self, after: float, until: float) -> None:
        """Drop the calls that were to go between two times.

        :param after: the first time, which stays.
        :param until: the last one, which stays.
        """
        for reservations in (self.reservations, *self.by_share.values()):
            del reservations[bisect_right(reservations, after) : bisect_left(reservations, until)]

    def first_gap(self, start: float, windows: Sequence[tuple[int, float]], share: float, *, reserve: bool) -> float:
        """Return the first time at which one more call fits into all windows: its own share's, and PostHog's.

        :param start: the earliest.
        :param windows: how many calls PostHog lets through in any window of how many seconds.
        :param share: the caller's share.
        :param reserve: whether it may use up what is kept back from polls.
        """
        own = self.by_share.get(share, [])
        counted = [(self.reservations, limit_of(limit, 1.0, reserve=reserve), seconds) for limit, seconds in windows]
        counted += [(own, limit_of(limit, share, reserve=reserve), seconds) for limit, seconds in windows]
        reservation, before = start, -math.inf
        while reservation != before:
            before = reservation
            for reservations, calls, seconds in counted:
                reservation = _fit(reservations, reservation, calls, seconds)
        return reservation


def _fit(reservations: Sequence[float], reservation: float, calls: int, seconds: float) -> float:
    """Return the first time, from a reservation on, at which one more call leaves at most so many in any window."""
    while True:
        at, later = bisect_right(reservations, reservation), reservation
        # Of each row of calls in which the new one would be one too many: it cannot come before the row's first one has
        # left the window. Mostly nobody is to come after it, and there is one row to look at.
        for number in range(max(0, at - calls), min(at, len(reservations) - calls) + 1):
            first, last = reservations[number], reservations[number + calls - 1]
            if min(first, reservation) + seconds > max(last, reservation):
                later = max(later, first + seconds)
        if later == reservation:
            return reservation
        reservation = later
