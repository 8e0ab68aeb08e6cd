"""What limits calls: sliding windows, as in Django REST framework, and the project's bucket of bytes read."""

from __future__ import annotations

import math
from collections import deque

from airflow_provider_posthog.emulator.clock import Clock
from airflow_provider_posthog.emulator.http.envelopes import ApiError, envelope, throttled

WINDOW = 60.0
HOUR = 3600.0
# PostHog's own limits, a minute and an hour; its documentation says that the keys of a project count together
OWN = {"crud": (480, 4800), "clickhouse": (240, 1200), "query": (240, 2400)}
# what a paid plan's bucket gets in an hour
PAID = 200_000_000_000


class Throttle:
    """Counts the calls of the last hour for each key and each of PostHog's limits.

    :param clock: the emulator's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[tuple[str, str], deque[float]] = {}

    def check(self, name: str, key: str, limit: int, *, header: bool = True) -> None:
        """Count a call, or refuse it.

        :param name: of the limit; the calls of each are counted on their own.
        :param key: the secret text of the key.
        :param limit: calls a minute.
        :param header: whether a refusal has ``Retry-After``.
        :raises ApiError: 429 with the wait in ``Retry-After`` and in the detail.
        """
        self._count((name, key), ((limit, WINDOW),), header=header)

    def check_own(self, name: str, part: float, *, header: bool = True) -> None:
        """Count a call of any key by PostHog's own limits of a minute and an hour, or refuse it.

        :param name: of the limit.
        :param part: of PostHog's limits: how much of them there is; at least one call a window.
        :param header: whether a refusal has ``Retry-After``.
        :raises ApiError: 429 with the wait in ``Retry-After`` and in the detail.
        """
        minute, hour = (max(1, int(limit * part)) for limit in OWN[name])
        self._count((name, ""), ((minute, WINDOW), (hour, HOUR)), header=header)

    def _count(self, which: tuple[str, str], windows: tuple[tuple[int, float], ...], *, header: bool) -> None:
        now = self._clock.timestamp()
        calls = self._calls.setdefault(which, deque())
        while calls and calls[0] <= now - HOUR:
            calls.popleft()
        wait = 0
        for limit, seconds in windows:
            if len(calls) >= limit and calls[-limit] > now - seconds:
                wait = max(wait, math.ceil(seconds - (now - calls[-limit])), 1)
        if wait:
            unit = "second" if wait == 1 else "seconds"
            raise throttled(f"Request was throttled. Expected available in {wait} {unit}.", wait if header else None)
        calls.append(now)


class ByteBucket:
    """The bytes that ClickHouse may still read for the project's queries: a bucket that refills all the time.

    A query that begins above zero runs to its end, whatever it reads; the next one is refused until the bucket is above
    zero again. It never owes more than an hour's refill.

    :param clock: the emulator's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._per_hour, self._hours = float(PAID), 24.0
        self._level = self._most = self._per_hour * self._hours
        self._at = clock.timestamp()

    def size(self, per_hour: float | None, hours: float) -> None:
        """Set what flows in, and how much it holds; a bucket that becomes smaller is full.

        :param per_hour: bytes an hour; None for those of a paid plan.
        :param hours: how many hours of that it holds.
        """
        self.level()
        self._per_hour, self._hours = per_hour or PAID, hours
        self._most = self._per_hour * hours
        self._level = min(self._level, self._most)

    def level(self) -> float:
        """Return how many bytes there are; below zero after a query that took more."""
        now = self._clock.timestamp()
        refill = max(0.0, now - self._at) * self._per_hour / HOUR
        self._level, self._at = min(self._most, self._level + refill), now
        return self._level

    def fill(self, level: float) -> None:
        """Set how many bytes there are.

        :param level: bytes; no more than it holds, and no less than an hour's refill below zero.
        """
        self.level()
        self._level = max(-self._per_hour, min(level, self._most))

    def debit(self, size: int) -> None:
        """Take what a query has read.

        :param size: bytes.
        """
        self.fill(self.level() - size)

    def check(self) -> None:
        """Refuse a query if nothing is left.

        :raises ApiError: 429 with the wait in ``Retry-After``.
        """
        level = self.level()
        if level > 0:
            return
        wait = min(int(HOUR), max(1, math.ceil((1 - level) * HOUR / self._per_hour)))
        detail = "This project has used up its hourly budget for API queries. Wait for it to refill, or read less data."
        body = envelope("throttled_error", "api_queries_budget_exceeded", detail)
        raise ApiError(429, body, {"Retry-After": str(wait)})
