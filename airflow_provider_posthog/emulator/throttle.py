"""What limits calls: a sliding minute per key, as in Django REST framework, and the project's bucket of bytes read."""

from __future__ import annotations

import math
from collections import deque

from airflow_provider_posthog.emulator.clock import Clock
from airflow_provider_posthog.emulator.envelopes import ApiError, envelope, throttled

WINDOW = 60.0
HOUR = 3600.0
# what a paid plan's bucket gets in an hour
PAID = 200_000_000_000


class Throttle:
    """Counts the calls of the last minute for each key and each of PostHog's limits.

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
        now = self._clock.timestamp()
        calls = self._calls.setdefault((name, key), deque())
        while calls and calls[0] <= now - WINDOW:
            calls.popleft()
        if len(calls) >= limit:
            wait = max(math.ceil(WINDOW - (now - calls[0])), 1)
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
