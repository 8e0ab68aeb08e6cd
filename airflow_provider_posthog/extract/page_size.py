"""How many rows to ask for at once: as many as fit into memory, PostHog's ten seconds, and what its limits leave."""

from __future__ import annotations

import logging
import math
import threading
from typing import Protocol

from airflow_provider_posthog.api.byte_budget import AT_ONCE
from airflow_provider_posthog.api.call import MAX_BYTES

log = logging.getLogger(__name__)

#: The most bytes of an answer: three in flight, one waiting and one being written fit into memory.
TARGET_BYTES = 48 * 1024 * 1024
#: How much longer than that an answer may be before it is left, as its rows are longer than those before.
SLACK = 2.5
#: Bytes of all answers in memory at once, if more than three are in flight.
IN_MEMORY = 5 * TARGET_BYTES
#: Seconds that a query may take: PostHog stops it after ten, and its speed is not the same each time.
TARGET_SECONDS = 6.0
#: The same where the hour's requests do not bring all rows: larger pages are worth some that are refused.
LONG_SECONDS = 8.0
#: Seconds that an answer may take to arrive, once it has begun: if it is cut, it has to be sent again.
TARGET_COMING = 60.0
#: The most rows of a page before any row was read.
FIRST_ROWS = 1_000
#: The fewest rows of a page, however slow answers are.
FEWEST_ROWS = 100
#: How pages grow if answers are fast, and if they are almost as large as what PostHog has refused.
_GROWTH, _CAREFUL = 1.1, 1.01
_NEAR = 0.8
#: The part of the remaining budget that pages use, so that those that read slightly more need not wait.
_SPARE = 0.9


class Left(Protocol):
    """What is left of a project's limits."""

    def bytes_left(self) -> float | None:
        """Return how many bytes ClickHouse may still read; ``None`` if that is not known."""
        ...

    def is_short(self, rows: int) -> bool:
        """Return whether the remaining requests are too few for all that is still to be read.

        :param rows: of a page.
        """
        ...


class PageSize:
    """The number of rows per page, which adapts to their length and speed. Safe to use from threads.

    :param most: the most rows of a page.
    :param in_flight: how many pages are on their way at once.
    :param left: what is left of the project's limits; ``None`` to ignore them.
    """

    def __init__(self, most: int, in_flight: int = 3, left: Left | None = None) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._left = left
        # Those in flight, one that waits and one that is written.
        self._bytes = min(TARGET_BYTES, IN_MEMORY // (in_flight + 2))
        # Until it is known how long rows are, no page may be more than memory can hold.
        self._rows = float(min(most, FIRST_ROWS))
        self._bytes_per_row = self._reads_per_row = 0.0
        self._refused = math.inf

    def assume(self, rows: int) -> None:
        """Assume that memory can hold a page of so many rows, before any row was read.

        :param rows: how many.
        """
        with self._lock:
            if not self._bytes_per_row:
                self._rows = float(min(self._most, rows))

    def __call__(self) -> int:
        """Return how many rows to ask for.

        What is left of the budget of bytes is for as many pages as PostHog runs at once: smaller ones go on where large
        ones would have to wait, and leave something to others.
        """
        rows = self.fitting()
        left = self._left.bytes_left() if self._left is not None and self._reads_per_row else None
        if left is None:
            return rows
        return min(rows, max(FIRST_ROWS, int(_SPARE * left / AT_ONCE / self._reads_per_row)))

    def fitting(self) -> int:
        """Return how many rows fit into memory and time, whatever is left of the budget of bytes."""
        with self._lock:
            row_bytes, rows = self._bytes_per_row, self._rows
        fit = self._bytes / row_bytes if row_bytes else self._most
        return int(max(min(rows, fit, self._most), 1))

    def most_bytes(self, rows: int) -> int:
        """Return how many bytes an answer may have: memory holds a few that are longer than expected, and no more.

        :param rows: how many were asked for; few of them may be as long as PostHog lets them be.
        """
        return MAX_BYTES if rows <= FEWEST_ROWS else int(min(self._bytes * SLACK, MAX_BYTES))

    def reads(self, rows: int) -> float | None:
        """Return about how many bytes ClickHouse reads for so many rows; ``None`` if PostHog does not say.

        :param rows: how many.
        """
        return rows * self._reads_per_row or None

    def saw(self, rows: int, size: int, seconds: float = 0.0, coming: float = 0.0, read: int | None = None) -> None:
        """Learn from an answer.

        :param rows: its rows.
        :param size: its bytes.
        :param seconds: how long PostHog took until it began.
        :param coming: how long it took to arrive, after that.
        :param read: bytes that ClickHouse read for it; ``None`` if that is not known.
        """
        if not rows:
            return
        now = self.fitting()
        target = LONG_SECONDS if self._left is not None and self._left.is_short(now) else TARGET_SECONDS
        with self._lock:
            if not self._bytes_per_row:
                self._rows = self._most
            # Longer rows count at once, shorter ones gradually.
            self._bytes_per_row = _learned(self._bytes_per_row, size / rows)
            if read is not None and rows >= FIRST_ROWS:  # few rows have as much read around them
                self._reads_per_row = _learned(self._reads_per_row, read / rows)
            slowness = max(seconds / target, coming / TARGET_COMING)
            if slowness > 1 and rows >= now // 2:
                self._rows = max(FEWEST_ROWS, self._rows * 0.7)
            elif slowness < 0.5:
                is_near = self._rows * _GROWTH > self._refused * _NEAR
                self._rows = min(self._most, self._rows * (_CAREFUL if is_near else _GROWTH))

    def overran(self, rows: int) -> None:
        """Learn that the answer for so many rows was larger than :meth:`most_bytes` of them.

        :param rows: how many were asked for.
        """
        with self._lock:
            self._bytes_per_row = max(self._bytes_per_row, self.most_bytes(rows) / max(1, rows))
            fit = self._bytes / self._bytes_per_row
            log.info("PostHog: the answer for %d rows was too large; asking for %d, as they are long", rows, fit)

    def refused(self, rows: int) -> None:
        """Learn that so many rows were too much for PostHog.

        :param rows: how many were asked for.
        """
        with self._lock:
            self._refused = rows
            self._rows = max(FEWEST_ROWS, min(self._rows, rows / 2))
            log.info("PostHog: %d rows were too much for one query; asking for %d from now on", rows, self._rows)


def _learned(before: float, now: float) -> float:
    return max(now, 0.7 * before + 0.3 * now)
