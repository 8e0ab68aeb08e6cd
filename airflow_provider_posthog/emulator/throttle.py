"""Rate limits per key: a sliding minute, as in Django REST framework."""

from __future__ import annotations

import math
from collections import deque

from airflow_provider_posthog.emulator.clock import Clock
from airflow_provider_posthog.emulator.envelopes import throttled

WINDOW = 60.0


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
