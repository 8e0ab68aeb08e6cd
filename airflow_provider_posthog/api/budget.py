"""The rate budget: how soon a call may go, so that PostHog's limits are kept instead of run into.

PostHog counts the calls of a personal API key in sliding windows of a minute and of an hour, one pair for each class
of endpoints, and answers 429 beyond (its throttles are Django REST framework's ``SimpleRateThrottle``). Its docs say
that all keys of a project count together, its source counts each key alone; here all calls of a process to a project
count together, which is right either way. :class:`Budget` is the arithmetic, without a clock and without sleeping;
:class:`Reservations` is what one call uses of it.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_provider_posthog.api.call import Bucket
from airflow_provider_posthog.api.rate_windows import (
    CLASSES,
    HOUR,
    LIMITS,
    LONGEST,
    LONGEST_CLOSURE,
    MARGIN,
    MINUTE,
    RESERVE,
    Counter,
    limit_of,
)
from airflow_provider_posthog.api.settings import ClientSettings, Role, Shares

__all__ = ["HOUR", "LIMITS", "MARGIN", "MINUTE", "RESERVE", "Budget", "Promise", "Reservations", "Waiting", "limit_of"]

log = logging.getLogger(__name__)

#: Timers of event loops may wake a sleeper a little too early.
_EARLY = 0.02
#: For each bucket: which part of PostHog's limits a worker and the triggerer use up if the connection does not say.
#: Together they are PostHog's: most polls are the triggerer's, and nearly all queries the workers'.
SHARES: Mapping[Bucket, Shares] = {
    "crud": Shares(0.5, 0.5),
    "deletion": Shares(0.5, 0.5),
    "analytics": Shares(0.5, 0.5),
    "query": Shares(0.9, 0.1),
}


class Promise(NamedTuple):
    """A reservation.

    :param seconds: the wait until then.
    :param at: its time; ``None`` if it was not taken because the wait is too long.
    """

    seconds: float
    at: float | None


class Budget:
    """The calls of one process to one project. Safe to use from threads and event loops alike; never blocks for long.

    Times are seconds of any one clock that does not go back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = -math.inf
        self._counters = {name: Counter() for name in sorted(set(CLASSES.values()))}

    def take(
        self, bucket: Bucket, now: float, *, share: float = 1.0, patience: float = math.inf, reserve: bool = True
    ) -> float:
        """Take a reservation as :meth:`promise` does, and return how many seconds away it is.

        :param bucket: the bucket.
        :param now: the time.
        :param share: the part of PostHog's limits that calls of this share may use up, in (0, 1].
        :param patience: the longest wait, in seconds.
        :param reserve: whether the call may use up what is kept back from polls.
        """
        return self.promise(bucket, now, share=share, patience=patience, reserve=reserve).seconds

    def promise(
        self, bucket: Bucket, now: float, *, share: float = 1.0, patience: float = math.inf, reserve: bool = True
    ) -> Promise:
        """Take the first reservation of a bucket that is free, if it comes soon enough.

        A reservation is free if the windows of its own share allow it, and PostHog's allow it for all shares together:
        a call that waits because of its small share holds up nobody with a larger one. A reservation that is farther
        away than ``patience`` is not taken. A caller that does not use its reservation has to :meth:`give_back`.

        :param bucket: the bucket.
        :param now: the time.
        :param share: the part of PostHog's limits that calls of this share may use up, in (0, 1].
        :param patience: the longest wait, in seconds.
        :param reserve: whether the call may use up all of that: not so polls, which leave a tenth of each window to
            what starts jobs, takes their results and looks for the last time.
        """
        counter = self._counter(bucket)
        with self._lock:
            # A thread that read the clock first may get the lock second: that alone must not look like a wait.
            now = self._latest = max(now, self._latest)
            counter.forget(now - LONGEST)
            reservation = counter.first_gap(max(now, counter.closed_until), LIMITS[bucket], share, reserve=reserve)
            taken = reservation - now <= patience
            if taken:
                counter.add(reservation, share)
            return Promise(reservation - now, reservation if taken else None)

    def count(self, bucket: Bucket, now: float, *, share: float = 1.0) -> None:
        """Count a call that goes without a reservation.

        :param bucket: the bucket.
        :param now: the time.
        :param share: the share of whoever sends it.
        """
        counter = self._counter(bucket)
        with self._lock:
            counter.add(now, share)

    def give_back(self, bucket: Bucket, reservation: float, *, share: float = 1.0) -> None:
        """Release a reservation that was not used.

        :param bucket: the bucket.
        :param reservation: the time of the reservation.
        :param share: the share that it was taken for.
        """
        counter = self._counter(bucket)
        with self._lock:
            counter.remove(reservation, share)

    def left(self, bucket: Bucket, now: float, *, share: float = 1.0) -> tuple[int, int]:
        """Return how many calls of a bucket may still go within the minute and within the hour that end now.

        Those of its own share count, and those of all shares together, as for a reservation; what polls leave is in it.

        :param bucket: the bucket.
        :param now: the time.
        :param share: the part of PostHog's limits that calls of this share may use up, in (0, 1].
        """
        counter = self._counter(bucket)
        with self._lock:
            minute, hour = (counter.left(now - seconds, limit, share) for limit, seconds in LIMITS[bucket])
        return minute, hour

    def close(self, bucket: Bucket, now: float, seconds: float) -> None:
        """Let no call of a bucket go for a while, not even those with a reservation: PostHog has answered 429.

        :param bucket: the bucket.
        :param now: the time.
        :param seconds: how long PostHog asked to wait; more than an hour counts as an hour.
        """
        counter = self._counter(bucket)
        until = now + min(seconds, LONGEST_CLOSURE)
        with self._lock:
            counter.closed_until = max(counter.closed_until, until)
            # These reservations are void: their holders take another one, see is_void().
            counter.void(now, counter.closed_until)

    def is_void(self, bucket: Bucket, reservation: float) -> bool:
        """Return whether the bucket was closed after a reservation was taken, so that another one has to be taken.

        :param bucket: the bucket.
        :param reservation: the time of the reservation.
        """
        counter = self._counter(bucket)
        with self._lock:
            return reservation < counter.closed_until

    def is_closed(self, bucket: Bucket, now: float) -> bool:
        """Return whether calls wait because PostHog has answered 429, rather than because of the windows.

        :param bucket: the bucket.
        :param now: the time.
        """
        return self.is_void(bucket, now)

    def begins_slowdown(self, bucket: Bucket, now: float, wait: float) -> bool:
        """Record that a call is held back; return whether it is the first after a minute without any.

        :param bucket: the bucket.
        :param now: the time.
        :param wait: for how many seconds the call is held back.
        """
        counter = self._counter(bucket)
        with self._lock:
            return counter.slowdown.begins(now, wait)

    def is_idle(self, now: float) -> bool:
        """Return whether there is nothing left to remember: no call in the last hour, and no bucket closed.

        :param now: the time.
        """
        with self._lock:
            return all(
                counter.closed_until <= now and not (counter.reservations and counter.reservations[-1] + LONGEST > now)
                for counter in self._counters.values()
            )

    def _counter(self, bucket: Bucket) -> Counter:
        return self._counters[CLASSES[bucket]]


class Waiting(NamedTuple):
    """How long a call has to wait.

    :param seconds: the wait; 0 if it may go.
    :param reason: a sentence, without its full stop.
    :param of_bytes: whether it is the budget of bytes that it waits for.
    """

    seconds: float
    reason: str = ""
    of_bytes: bool = False


class Reservations:
    """The reservations that one call takes, one for each attempt. To be given back when the call has ended.

    :param budget: the budget of its project.
    :param bucket: its bucket.
    :param share: the part of PostHog's limits that it may use up, in (0, 1].
    :param reserve: whether it may use up all of that part, as polls may not.
    """

    def __init__(self, budget: Budget, bucket: Bucket, share: float, *, reserve: bool = True) -> None:
        self._budget = budget
        self._bucket = bucket
        self._share = share
        self._reserve = reserve
        self._reservation: float | None = None

    def wait(self, patience: float) -> Waiting:
        """Return how long to wait for the reservation of the next attempt, and why.

        Ask again after waiting, until it returns 0: another call may have got a 429 in between. If
        the wait is longer than ``patience``, there is no reservation, and the call must not be sent.

        :param patience: the longest wait, in seconds.
        """
        now = time.monotonic()
        if (
            self._reservation is not None
            and now + _EARLY >= self._reservation
            and not self._budget.is_void(self._bucket, self._reservation)
        ):
            self._reservation = None  # used now
            return Waiting(0.0)
        self.give_back()
        wait, at = self._budget.promise(self._bucket, now, share=self._share, patience=patience, reserve=self._reserve)
        if wait == 0:
            return Waiting(0.0)
        self._reservation = at
        reason = self._reason(now)
        if self._budget.begins_slowdown(self._bucket, now, wait):
            log.info(
                "PostHog: the rate budget holds back %s calls, this one for %.1f s. %s (logged once per slowdown)",
                self._bucket,
                wait,
                reason,
            )
        return Waiting(wait, reason)

    def go(self) -> None:
        """Let the attempt go without a reservation, whatever the limits say; it counts."""
        self.give_back()
        self._budget.count(self._bucket, time.monotonic(), share=self._share)

    def give_back(self) -> None:
        """Give back an unused reservation: the call was cancelled, or takes another one."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            self._budget.give_back(self._bucket, reservation, share=self._share)

    def close(self, seconds: float) -> None:
        """Hold back all calls of the bucket: PostHog has answered 429.

        :param seconds: how long PostHog asked to wait.
        """
        self._budget.close(self._bucket, time.monotonic(), seconds)

    def _reason(self, now: float) -> str:
        if self._budget.is_closed(self._bucket, now):
            return "PostHog answered 429 to one of them and asked to wait"
        minute, hour = (limit_of(limit, self._share, reserve=self._reserve) for limit, _ in LIMITS[self._bucket])
        share = "" if self._share == 1 else f", a share of {self._share:g} of PostHog's limits"
        kept = "" if self._reserve else f"; polls leave {RESERVE:.0%} of it to other calls"
        return f"This process may send {minute} a minute and {hour} an hour{share}{kept}"


_budgets: dict[tuple[str, int | None], Budget] = {}
_lock = threading.Lock()


def budget_of(settings: ClientSettings) -> Budget:
    """Return the budget that all clients of this process share for a project.

    :param settings: where the project is.
    """
    key = (settings.base_url, settings.project_id)
    with _lock:
        budget = _budgets.get(key)
        if budget is None:
            now = time.monotonic()
            for other in [other for other, known in _budgets.items() if known.is_idle(now)]:
                del _budgets[other]
            budget = _budgets[key] = Budget()
        return budget


def reservations_of(
    settings: ClientSettings, bucket: Bucket, *, role: Role = "worker", reserve: bool = True
) -> Reservations | None:
    """Return the reservations for a call, or ``None`` where it needs none.

    :param settings: where the project is, and which share of its limits may be used.
    :param bucket: the call's bucket.
    :param role: who sends it.
    :param reserve: whether it may use up what is kept back from polls.
    """
    share = share_of(settings, bucket, role=role)
    return Reservations(budget_of(settings), bucket, share, reserve=reserve) if share else None


def share_of(settings: ClientSettings, bucket: Bucket, *, role: Role = "worker") -> float:
    """Return the part of PostHog's limits that a client may use up, in (0, 1]; 0 if it keeps no budget.

    Unless the connection sets a share, a server on this machine has no budget: it is not PostHog Cloud, PostHog limits
    calls only if configured to (``RATE_LIMIT_ENABLED``), and tests call the embedded one thousands of times.

    :param settings: where the project is.
    :param bucket: the bucket of a call.
    :param role: who sends it.
    """
    shares = settings.rate_limit_share
    if shares is None:
        if _is_loopback(settings.base_url):
            return 0.0
        shares = SHARES[bucket]
    return shares if isinstance(shares, (int, float)) else float(getattr(shares, role))


def _is_loopback(base_url: str) -> bool:
    try:
        name = urlsplit(base_url).hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:  # a host name
        return False


def _forget() -> None:
    """Start anew in a forked process: its calls are its own, and another thread's lock may be held for ever."""
    global _lock
    _lock = threading.Lock()
    _budgets.clear()


os.register_at_fork(after_in_child=_forget)
