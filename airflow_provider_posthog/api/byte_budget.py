"""The byte budget: how much ClickHouse may still read for a project's queries, as far as PostHog has reported.

Since September 2026 PostHog meters every query of a personal API key by the uncompressed bytes that ClickHouse read for
it: a bucket per project that refills all the time and holds a day of refill. A query that begins while something is
left runs to its end, also below zero; the next one is refused (429, ``api_queries_budget_exceeded``) until the bucket
is above zero again, an hour later at the latest. Each answer of ``query/`` says what the query has read and what is
left, and so covers what all other processes have used, too. Servers that report nothing have no such budget.

:class:`ByteBudget` is the arithmetic, without sleeping; :class:`~airflow_provider_posthog.api.exchange.Exchange` uses
it for each query.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from typing import NamedTuple

from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.wait_log import Slowdown
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.patterns import pattern

#: PostHog's code of a 429 that means this budget.
EXCEEDED = "api_queries_budget_exceeded"
READ_HEADER = "x-posthog-query-bytes-read"
REMAINING_HEADER = "x-posthog-query-budget-remaining-bytes"
MINUTE = 60.0
#: The longest time, in seconds, until an empty bucket has bytes again.
HOUR = 3600.0
#: Bytes a second that the smallest bucket of PostHog's plans gets; for guesses while the real figure is not known.
SMALLEST_REFILL = 20e9 / HOUR
#: How many queries PostHog runs at once for a project, from all processes: so many may draw on what is left.
AT_ONCE = 3
#: Seconds after which a query that waits for the answers of others checks again.
_NEWS = 1.0
#: The shortest wait, in seconds.
_MOMENT = 0.01
#: Seconds by which the figures in an answer may be older than the answer.
_SKEW = 1.0
#: Seconds for which refill is measured from the same answer on.
_SPAN = 600.0
_NUMBER = pattern(r"\s*(-?[0-9]{1,18})(?:\.[0-9]*)?\s*")


class BudgetHeaders(NamedTuple):
    """What an answer reports about the budget.

    :param read: bytes that ClickHouse read for the query; ``None`` if it does not say.
    :param remaining: bytes that are left, below zero after a query that took more; ``None`` if it does not say.
    """

    read: int | None = None
    remaining: int | None = None

    @classmethod
    def by(cls, answer: Answer) -> BudgetHeaders:
        """Read an answer's headers; what is not a number counts as missing.

        :param answer: the answer.
        """
        return cls.of(answer.headers)

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> BudgetHeaders:
        """Read headers; what is not a number counts as missing.

        :param headers: by name, whatever its case.
        """
        read, remaining = (_number(headers.get(name, "")) for name in (READ_HEADER, REMAINING_HEADER))
        return cls(None if read is None else max(0, read), remaining)


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match else None


def shown(size: float) -> str:
    """Write a number of bytes for people: ``1.25 GB``.

    :param size: bytes.
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= factor:
            return f"{size / factor:,.2f} {unit}"
    return f"{size:,.0f} bytes"


@dataclass(frozen=True)
class _Mark:
    """An answer from which on refill is measured."""

    at: float
    remaining: float
    read: float
    in_flight: int


class ByteBudget:
    """What a project's queries may still read. Safe to use from threads and event loops alike; never blocks for long.

    Times are seconds of any one clock that does not go back. Nothing is assumed that PostHog has not reported: what is
    left is what the last answer said, and it grows only as far as two answers have proved that it does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._remaining: float | None = None
        self._reported_at = -math.inf
        self._closed_until = -math.inf
        self._slowdown = Slowdown()
        self._seen_at = -math.inf
        self._read = self._recent = self._largest = 0.0
        self._rate = 0.0
        self._rate_at = -math.inf
        self._mark: _Mark | None = None

    @classmethod
    def of(cls, settings: ClientSettings) -> ByteBudget:
        """Return the budget that all clients of this process share for a project.

        :param settings: where the project is.
        """
        key = (settings.base_url, settings.project_id)
        with _lock:
            return _budgets.setdefault(key, cls())

    @property
    def bytes_read(self) -> int:
        """Bytes that ClickHouse has read for this process's queries, as far as the answers report it."""
        return int(self._read)

    @property
    def refill(self) -> float:
        """The least refill in bytes a second that two answers have proved; 0 if nothing is known."""
        return self._rate

    def remaining(self, now: float) -> float | None:
        """Return how many bytes are left at least; ``None`` if PostHog has not reported it within the last hour.

        :param now: the time.
        """
        with self._lock:
            return self._left(now)

    def pause(self, now: float, size: float | None = None) -> float:
        """Return how many seconds to wait before the next query of many; 0 for no wait.

        More careful than :meth:`begin`: what is left has to cover as many queries as PostHog runs at once, or as are on
        their way, so that a load ends above zero, and the project's other tasks go on beside it.

        :param now: the time.
        :param size: bytes that each of the next queries will read, if known; by default as many as recent ones.
        """
        with self._lock:
            new = self._recent if size is None else size
            return self._wait(now, self._in_flight * self._recent + max(1, AT_ONCE - self._in_flight) * new)

    def until(self, now: float, size: float) -> float:
        """Return in how many seconds that many bytes will be available, as far as is known; an hour at most.

        :param now: the time.
        :param size: bytes, more than there are.
        """
        with self._lock:
            return self._wait(now, size) or MINUTE

    def begin(self, now: float, *, force: bool = False) -> float:
        """Let a query go, and return 0; or return how many seconds to wait before it is asked again.

        A query may go if bytes will be left after the queries in flight: otherwise PostHog would refuse it. Call
        :meth:`end` for each query that went.

        :param now: the time.
        :param force: let it go in any case.
        """
        with self._lock:
            wait = 0.0 if force else self._held(now)
            if wait == 0:
                self._in_flight += 1
            return wait

    def held(self, now: float) -> float:
        """Return how many seconds :meth:`begin` would hold a query back, without letting one go.

        :param now: the time.
        """
        with self._lock:
            return self._held(now)

    def end(self) -> None:
        """Record that a query is no longer in flight, whatever its outcome."""
        with self._lock:
            self._in_flight = max(0, self._in_flight - 1)

    def saw(self, now: float, budget: BudgetHeaders, *, began: float, spent: bool = True) -> None:
        """Learn from an answer; call it after :meth:`end`.

        :param now: the time.
        :param budget: what it says.
        :param began: when its query was sent.
        :param spent: whether the bytes were read for this answer, and it does not only repeat an earlier one's figure.
        """
        with self._lock:
            self._seen_at = max(self._seen_at, now)
            if spent:
                self._read += budget.read or 0
            if budget.read:
                self._recent = max(budget.read, 0.7 * self._recent + 0.3 * budget.read)
                self._largest = max(self._largest, budget.read)
            if budget.remaining is None or now < self._closed_until:
                return
            self._take_in(now, budget.read or 0, budget.remaining, overtaken=began <= self._reported_at)

    def refuse(self, now: float, seconds: float | None, budget: BudgetHeaders) -> None:
        """Learn that PostHog has refused a query, because nothing is left.

        :param now: the time.
        :param seconds: how long PostHog asked to wait; more than an hour counts as an hour.
        :param budget: what the answer says.
        """
        wait = min(MINUTE if seconds is None else seconds, HOUR)
        with self._lock:
            if seconds and budget.remaining is not None and budget.remaining < 0:
                self._prove(now, -budget.remaining / max(seconds, 1.0))
            if now + wait <= self._closed_until:
                return
            self._seen_at = self._closed_until = now + wait
            # By then some bytes are available again, but how many is unknown.
            self._remaining, self._reported_at, self._mark = 1.0, self._closed_until, None

    def is_closed(self, now: float) -> bool:
        """Return whether queries wait because PostHog has answered 429, rather than to prevent that.

        :param now: the time.
        """
        return now < self._closed_until

    def begins_slowdown(self, now: float, wait: float) -> bool:
        """Record that a query is held back; return whether it is the first after a minute without any.

        :param now: the time.
        :param wait: for how many seconds it is held back.
        """
        with self._lock:
            return self._slowdown.begins(now, wait)

    def describe(self, now: float) -> str:
        """Describe what is known, for people; empty if PostHog has reported nothing.

        :param now: the time.
        """
        left = self.remaining(now)
        if left is None and not self._recent:
            return ""
        known = "" if left is None or self.is_closed(now) else f"{shown(left)} are left"
        refill = f", at least {shown(self._rate * HOUR)} an hour are added" if self._rate else ""
        recent = f"recent queries of this process read {shown(self._recent)} each" if self._recent else ""
        return "; ".join(filter(None, (known + refill if known else "", recent)))

    def is_idle(self, now: float) -> bool:
        """Return whether there is nothing left to remember: no query in flight, and no answer in the last hour.

        :param now: the time.
        """
        with self._lock:
            return not self._in_flight and self._seen_at + HOUR <= now

    def _left(self, now: float) -> float | None:
        if self._remaining is None or now - self._reported_at >= HOUR:
            return None  # after an hour no bucket is empty any more
        return self._remaining + self._rate * max(0.0, now - self._reported_at)

    def _held(self, now: float) -> float:
        return self._wait(now, self._in_flight * max(self._recent, 1.0))

    def _wait(self, now: float, need: float) -> float:
        if now < self._closed_until:
            return self._closed_until - now
        left = self._left(now)
        if left is None or left > need:
            return 0.0
        missing = need - left + 1
        if self._rate:
            wait = max(_MOMENT, min(missing / self._rate, HOUR))
            return min(wait, _NEWS) if self._in_flight else wait  # the answers to the others will say more
        if self._in_flight:
            return _NEWS
        wait = self._reported_at - now + min(max(MINUTE, missing / SMALLEST_REFILL), HOUR)
        return wait if wait > _MOMENT else 0.0

    def _take_in(self, now: float, read: int, remaining: int, *, overtaken: bool) -> None:
        """Take what an answer says is left."""
        left, known = self._left(now), float(remaining)
        if left is not None and overtaken:
            known = min(known, left)  # answers overtake each other: this one may be the older
        if remaining == 0:  # PostHog may not show negative values
            known = min(0.0, (0.0 if left is None else left) - read)
        else:
            self._learn(now, known)
        self._remaining, self._reported_at = known, now

    def _learn(self, now: float, remaining: float) -> None:
        """Measure how much has come back since an earlier answer, at the least.

        Queries in flight at either answer may have been deducted before the first, or not yet at the second.
        """
        mark = self._mark
        if mark is not None:
            unsure = (mark.in_flight + self._in_flight) * self._largest
            back = remaining - mark.remaining + self._read - mark.read - unsure
            self._prove(now, back / (now - mark.at + _SKEW))
        if mark is None or now - mark.at > _SPAN:
            self._mark = _Mark(now, remaining, self._read, self._in_flight)
            self._largest = self._recent

    def _prove(self, now: float, rate: float) -> None:
        if rate > self._rate or (rate > 0 and now - self._rate_at > HOUR):
            self._rate, self._rate_at = rate, now


_budgets: dict[tuple[str, int | None], ByteBudget] = {}
_lock = threading.Lock()


def forget() -> None:
    """Forget what all projects' answers reported; for tests, and for forked processes, where a lock may be held."""
    global _lock
    _lock = threading.Lock()
    _budgets.clear()


os.register_at_fork(after_in_child=forget)
