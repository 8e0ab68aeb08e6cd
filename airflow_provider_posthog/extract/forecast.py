"""Forecast what a reading will need: rows, queries, bytes, and when PostHog's limits let it end.

Pure: no clock, no sockets. Rows are counted by PostHog; the rest is estimated from a page's size and the first rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_posthog.api.budget import HOUR, LIMITS, MINUTE, limit_of

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
#: Bytes that PostHog's ClickHouse reads for each byte of the answers, as measured (docs/benchmarks.md).
READ_A_BYTE = 1.5
#: The same for sessions, which it merges from parts.
READ_A_BYTE_OF_SESSIONS = 4.0


@dataclass(frozen=True)
class Forecast:
    """What a reading will need.

    :param rows: how many rows PostHog has counted.
    :param page_rows: how many rows a page has.
    :param row_bytes: how long a row is in an answer; 0 if no row was seen.
    :param share: the part of PostHog's limits that may be used up, from 0 (none are kept) to 1.
    :param left: bytes that are left of PostHog's budget of what queries read; ``None`` if that is not known, or it is
        not known what a row costs of it.
    :param reads: bytes that PostHog reads for each byte of its answers.
    :param refill: bytes that come back to it in a second, at the least; 0 if that is not known.
    """

    rows: int
    page_rows: int
    row_bytes: float
    share: float
    left: float | None = None
    refill: float = 0.0
    reads: float = READ_A_BYTE

    @property
    def queries(self) -> int:
        """About how many queries bring the rows."""
        return max(1, -(-self.rows // max(1, self.page_rows)))

    @property
    def size(self) -> int:
        """About how many bytes PostHog answers, as JSON."""
        return round(self.rows * self.row_bytes)

    @property
    def read(self) -> int:
        """About how many bytes PostHog reads for that."""
        return round(self.size * self.reads)

    @property
    def missing(self) -> float:
        """How many bytes of that exceed what is left of the budget, as far as is known."""
        return 0.0 if self.left is None else max(0.0, self.read - self.left)

    @property
    def seconds(self) -> float:
        """The least seconds that it takes under PostHog's limits, however fast PostHog answers."""
        if not self.share:
            return 0.0
        (minute, _), (hour, _) = LIMITS["query"]
        hours, rest = divmod(self.queries - 1, limit_of(hour, self.share))
        by_requests = hours * HOUR + rest // limit_of(minute, self.share) * MINUTE
        return max(by_requests, self.missing / self.refill if self.refill else 0.0)

    def text(self, what: str, now: datetime) -> str:
        """Return the forecast as a sentence.

        :param what: what is read, such as ``events``.
        :param now: the time, in UTC.
        """
        size = f" and {_bytes(self.size)}" if self.row_bytes or not self.rows else ""
        asked = "query" if self.queries == 1 else "queries"
        needs = f"{what}: {self.rows:,} rows to read, by about {self.queries:,} {asked}{size}"
        if not self.share:
            return f"{needs}; no rate limits are kept"
        return f"{needs}{self._budget()}; {self._limits(now)}"

    def _budget(self) -> str:
        if self.left is None or not self.read:
            return ""
        left = _bytes(max(0.0, self.left))
        known = f"; PostHog reads about {_bytes(self.read)} for that, and {left} of its budget are left"
        if self.missing and not self.refill:
            return f"{known}: the rest waits until the budget refills"
        return known

    def _limits(self, now: datetime) -> str:
        minute, hour = (limit_of(limit, self.share) for limit, _ in LIMITS["query"])
        back = f", {_bytes(self.refill * HOUR)} an hour are added" if self.missing and self.refill else ""
        limits = f"the limits ({minute:,} queries a minute and {hour:,} an hour{back})"
        if self.seconds:
            end = now + timedelta(seconds=self.seconds)
            return f"{limits} let it end at {end:%F %R} UTC at the earliest"
        return f"{limits} do not slow it down" if not self.missing else f"{limits} alone do not slow it down"


def _bytes(size: float) -> str:
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:,.0f} {_UNITS[unit]}" if size >= 10 or not unit else f"{size:.1f} {_UNITS[unit]}"
