"""The rate budget: how soon a call may go, so that PostHog's limits are kept instead of run into.

PostHog counts the calls of a personal API key in sliding windows of a minute and of an hour, one pair for each class
of endpoints, and answers 429 beyond (its throttles are Django REST framework's ``SimpleRateThrottle``). Its docs say
that all keys of a project count together, its source counts each key alone; here all calls of a process to a project
count together, which is right either way. :class:`Budget` is the arithmetic, without a clock and without sleeping;
:class:`Turns` is what one call uses of it.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_provider_posthog.api.call import Lane
from airflow_provider_posthog.api.settings import ClientSettings

log = logging.getLogger(__name__)

MINUTE = 60.0
HOUR = 3600.0
#: Seconds that every window is longer than PostHog's. A call is counted here when it leaves and there when it arrives;
#: the first one of a burst also makes the connection, and so arrives late.
MARGIN = 0.5
#: Timers of event loops may wake a sleeper a little too early.
_EARLY = 0.02
_MINUTE = MINUTE + MARGIN
_HOUR = HOUR + MARGIN
_CRUD = ((480, _MINUTE), (4800, _HOUR))
#: For each lane: the class that counts, for deletions are throttled by the very classes of CRUD, and by their counters.
_CLASSES: Mapping[Lane, str] = {"crud": "crud", "deletion": "crud", "analytics": "analytics", "query": "query"}
#: For each lane: how many calls PostHog lets through in any window of how many seconds.
LIMITS: Mapping[Lane, tuple[tuple[int, float], ...]] = {
    "crud": _CRUD,
    "deletion": _CRUD,
    "analytics": ((240, _MINUTE), (1200, _HOUR)),
    "query": ((240, _MINUTE), (2400, _HOUR)),
}
#: The longest time, in seconds, for which a 429 closes a lane: PostHog's longest window. A proxy may ask for years.
LONGEST_CLOSURE = HOUR


def limit_of(limit: int, share: float) -> int:
    """Return how many calls a share of a limit is: at least one.

    :param limit: PostHog's limit.
    :param share: the part of it, in (0, 1].
    """
    return max(1, math.floor(limit * share + 1e-9))  # 0.29 * 100 is 28.999...


class _Counter:
    """The calls of one class of endpoints."""

    def __init__(self, most: int) -> None:
        #: When calls went and, for those that wait, will go; ascending. What no window can reach falls out.
        self.turns: deque[float] = deque(maxlen=most)
        self.closed_until = -math.inf
        self.slow_until = -math.inf


class Budget:
    """The calls of one process to one project. Safe to use from threads and event loops alike; never blocks for long.

    Times are seconds of any one clock that does not go back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = -math.inf
        most: dict[str, int] = {}
        for lane, windows in LIMITS.items():
            most[_CLASSES[lane]] = max(limit for limit, _ in windows)
        self._counters = {name: _Counter(limit) for name, limit in most.items()}

    def take(
        self, lane: Lane, now: float, *, share: float = 1.0, patience: float = math.inf, reserve: float = 0.0
    ) -> float:
        """Take the next turn of a lane, if it comes soon enough, and return how many seconds away it is.

        Turns come in the order in which they were taken, and those of all shares count together. A turn that is
        farther away than ``patience`` is not taken.

        :param lane: the lane.
        :param now: the time.
        :param share: the part of PostHog's limits that this call may use up, in (0, 1].
        :param patience: the longest wait, in seconds.
        :param reserve: the part of the share that this call leaves to others, in [0, 1).
        """
        counter = self._counter(lane)
        with self._lock:
            # A thread that has read the clock first may come second: that alone must not look like a wait.
            now = self._latest = max(now, self._latest)
            turns = counter.turns
            turn = max(now, counter.closed_until, turns[-1] if turns else now)
            for limit, seconds in LIMITS[lane]:
                calls = limit_of(limit, share * (1 - reserve))
                if len(turns) >= calls:
                    turn = max(turn, turns[-calls] + seconds)
            if turn - now <= patience:
                turns.append(turn)
            return turn - now

    def left(self, lane: Lane, now: float, share: float = 1.0) -> tuple[int, int]:
        """Return how many calls of a lane may still go within the minute and within the hour that end now.

        :param lane: the lane.
        :param now: the time.
        :param share: the part of PostHog's limits that may be used up, in (0, 1].
        """
        turns = self._counter(lane).turns
        with self._lock:
            used = [sum(turn > now - seconds for turn in turns) for _, seconds in LIMITS[lane]]
        minute, hour = (
            max(0, limit_of(limit, share) - gone) for (limit, _), gone in zip(LIMITS[lane], used, strict=True)
        )
        return minute, hour

    def close(self, lane: Lane, now: float, seconds: float) -> None:
        """Let no call of a lane go for a while, not even those whose turn was to come: PostHog has answered 429.

        :param lane: the lane.
        :param now: the time.
        :param seconds: how long PostHog asked to wait; more than an hour counts as an hour.
        """
        counter = self._counter(lane)
        until = now + min(seconds, LONGEST_CLOSURE)
        with self._lock:
            counter.closed_until = max(counter.closed_until, until)
            # Nobody goes at these turns any more: who holds one takes another, see is_void().
            kept = [turn for turn in counter.turns if not now < turn < counter.closed_until]
            counter.turns.clear()
            counter.turns.extend(kept)

    def is_void(self, lane: Lane, turn: float) -> bool:
        """Whether the lane was closed after a turn was taken, so that another one has to be taken.

        :param lane: the lane.
        :param turn: the time of the turn.
        """
        counter = self._counter(lane)
        with self._lock:
            return turn < counter.closed_until

    def is_closed(self, lane: Lane, now: float) -> bool:
        """Whether calls wait because PostHog has answered 429, rather than because of the windows.

        :param lane: the lane.
        :param now: the time.
        """
        return self.is_void(lane, now)

    def begins_slowdown(self, lane: Lane, now: float, wait: float) -> bool:
        """Note that a call is held back; say whether it is the first one after a minute in which none was.

        :param lane: the lane.
        :param now: the time.
        :param wait: for how many seconds the call is held back.
        """
        counter = self._counter(lane)
        with self._lock:
            begins = now - counter.slow_until > MINUTE
            counter.slow_until = max(counter.slow_until, now + wait)
            return begins

    def is_idle(self, now: float) -> bool:
        """Whether nothing is left to remember: no call in the last hour, and no lane closed.

        :param now: the time.
        """
        with self._lock:
            return all(
                counter.closed_until <= now and not (counter.turns and counter.turns[-1] + _HOUR > now)
                for counter in self._counters.values()
            )

    def _counter(self, lane: Lane) -> _Counter:
        return self._counters[_CLASSES[lane]]


class Waiting(NamedTuple):
    """How long a call has to wait.

    :param seconds: the wait; 0 if it may go.
    :param reason: a sentence, without its full stop.
    """

    seconds: float
    reason: str = ""


class Turns:
    """The turns that one call takes, one for each attempt.

    :param budget: the budget of its project.
    :param lane: its lane.
    :param share: the part of PostHog's limits that it may use up, in (0, 1].
    :param reserve: the part of the share that it leaves to others, in [0, 1).
    """

    def __init__(self, budget: Budget, lane: Lane, share: float, reserve: float = 0.0) -> None:
        self._budget = budget
        self._lane = lane
        self._share = share
        self._reserve = reserve
        self._turn: float | None = None

    def wait(self, patience: float) -> Waiting:
        """Say how long to wait for the turn of the next attempt, and why.

        After waiting it has to be asked again, until it says 0: a 429 of another call may have come in between. If
        the wait is longer than ``patience``, there is no turn, and the call must not be sent.

        :param patience: the longest wait, in seconds.
        """
        now = time.monotonic()
        turn, self._turn = self._turn, None
        if turn is not None and now + _EARLY >= turn and not self._budget.is_void(self._lane, turn):
            return Waiting(0.0)
        wait = self._budget.take(self._lane, now, share=self._share, patience=patience, reserve=self._reserve)
        if wait == 0:
            return Waiting(0.0)
        self._turn = now + wait if wait <= patience else None
        reason = self._reason(now)
        if self._budget.begins_slowdown(self._lane, now, wait):
            log.info(
                "PostHog: the rate budget holds back %s calls, this one for %.1f s. %s (logged once per slowdown)",
                self._lane,
                wait,
                reason,
            )
        return Waiting(wait, reason)

    def close(self, seconds: float) -> None:
        """Hold back all calls of the lane: PostHog has answered 429.

        :param seconds: how long PostHog asked to wait.
        """
        self._budget.close(self._lane, time.monotonic(), seconds)

    def _reason(self, now: float) -> str:
        if self._budget.is_closed(self._lane, now):
            return "PostHog answered 429 to one of them and asked to wait"
        minute, hour = (limit_of(limit, self._share) for limit, _ in LIMITS[self._lane])
        share = "" if self._share == 1 else f", a share of {self._share:g} of PostHog's limits"
        return f"This process may send {minute} a minute and {hour} an hour{share}"


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
            for other in [other for other, one in _budgets.items() if one.is_idle(now)]:
                del _budgets[other]
            budget = _budgets[key] = Budget()
        return budget


def turns_of(settings: ClientSettings, lane: Lane, reserve: float = 0.0) -> Turns | None:
    """Return the turns for a call, or ``None`` where it needs none.

    :param settings: where the project is, and which share of its limits may be used.
    :param lane: the call's lane.
    :param reserve: the part of the share that the call leaves to others, in [0, 1).
    """
    share = share_of(settings)
    return Turns(budget_of(settings), lane, share, reserve) if share else None


def share_of(settings: ClientSettings) -> float:
    """Return the part of PostHog's limits that a client may use up, in (0, 1]; 0 if it keeps no budget.

    Unless the connection says something, a server on this machine has no budget: it is nobody's Cloud, PostHog limits
    no calls unless it is told to (``RATE_LIMIT_ENABLED``), and tests call the embedded one thousands of times.

    :param settings: where the project is.
    """
    if settings.rate_limit_share is not None:
        return settings.rate_limit_share
    return 0.0 if _is_loopback(settings.base_url) else 1.0


def _is_loopback(base_url: str) -> bool:
    try:
        name = urlsplit(base_url).hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:  # a name
        return False


def _forget() -> None:
    """Start anew in a forked process: its calls are its own, and another thread's lock may be held for ever."""
    global _lock
    _lock = threading.Lock()
    _budgets.clear()


os.register_at_fork(after_in_child=_forget)
