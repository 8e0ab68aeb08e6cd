"""How many rows to ask for at once: as many as fit into memory and PostHog's ten seconds."""

from __future__ import annotations

import logging
import math
import threading

log = logging.getLogger(__name__)

#: Bytes of an answer, at the most: three of them on their way, one that waits and one that is written fit into memory.
TARGET_BYTES = 48 * 1024 * 1024
#: Seconds that a query may take: PostHog stops it after ten, and its speed is not the same each time.
TARGET_SECONDS = 6.0
#: Seconds that an answer may take to come, once it has begun: what is cut has to come again.
TARGET_COMING = 60.0
#: The most rows of a page before any row was seen.
FIRST_ROWS = 1_000
#: What slow answers alone never bring it under.
FEWEST_ROWS = 100
#: How pages grow where answers come fast, and where they are nearly as large again as what PostHog has refused.
_GROWTH, _CAREFUL = 1.1, 1.01
_NEAR = 0.8


class PageSize:
    """The number of rows, which adapts to how long rows are and how fast they come. Safe to use from threads.

    :param most: the most rows of a page.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._most = most
        # Until it is known how long rows are, no page may be more than memory can hold.
        self._rows = float(min(most, FIRST_ROWS))
        self._bytes_per_row = 0.0
        self._refused = math.inf

    def __call__(self) -> int:
        """Return how many rows to ask for."""
        with self._lock:
            each, rows = self._bytes_per_row, self._rows
        fit = TARGET_BYTES / each if each else self._most
        return int(max(min(rows, fit, self._most), 1))

    def saw(self, rows: int, size: int, seconds: float = 0.0, coming: float = 0.0) -> None:
        """Learn from an answer.

        :param rows: its rows.
        :param size: its bytes.
        :param seconds: how long PostHog took until it began.
        :param coming: how long it took to come, after that.
        """
        if not rows:
            return
        now = self()
        with self._lock:
            each = size / rows
            if not self._bytes_per_row:
                self._rows = self._most
            # Longer rows count at once, shorter ones little by little.
            self._bytes_per_row = max(each, 0.7 * self._bytes_per_row + 0.3 * each)
            slowness = max(seconds / TARGET_SECONDS, coming / TARGET_COMING)
            if slowness > 1 and rows >= now // 2:
                self._rows = max(FEWEST_ROWS, self._rows * 0.7)
            elif slowness < 0.5:
                is_near = self._rows * _GROWTH > self._refused * _NEAR
                self._rows = min(self._most, self._rows * (_CAREFUL if is_near else _GROWTH))

    def refused(self, rows: int) -> None:
        """Learn that so many rows were too much for PostHog.

        :param rows: how many were asked for.
        """
        with self._lock:
            self._refused = rows
            self._rows = max(FEWEST_ROWS, min(self._rows, rows / 2))
            log.info("PostHog: %d rows were too much for one query; asking for %d from now on", rows, self._rows)
