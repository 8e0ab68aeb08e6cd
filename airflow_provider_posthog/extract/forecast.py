"""What a reading will need, told before it begins: rows, queries, bytes, and when PostHog's limits let it end.

Pure: no clock, no sockets. Rows are counted by PostHog; the rest is estimated from a page's size and the first rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_posthog.api.budget import HOUR, LIMITS, MINUTE, limit_of

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Forecast:
    """What a reading will need.

    :param rows: how many rows PostHog has counted.
    :param page_rows: how many rows a page has.
    :param row_bytes: how long a row is in an answer; 0 if no row was seen.
    :param share: the part of PostHog's limits that may be used up, from 0 (none are kept) to 1.
    """

    rows: int
    page_rows: int
    row_bytes: float
    share: float

    @property
    def queries(self) -> int:
        """About how many queries bring the rows."""
        return max(1, -(-self.rows // max(1, self.page_rows)))

    @property
    def size(self) -> int:
        """About how many bytes PostHog answers, as JSON."""
        return round(self.rows * self.row_bytes)

    @property
    def seconds(self) -> float:
        """How long PostHog's limits let it take at the least, however fast it answers."""
        if not self.share:
            return 0.0
        (minute, _), (hour, _) = LIMITS["query"]
        hours, rest = divmod(self.queries - 1, limit_of(hour, self.share))
        return hours * HOUR + rest // limit_of(minute, self.share) * MINUTE

    def text(self, what: str, now: datetime) -> str:
        """Say it in a sentence.

        :param what: what is read, such as ``events``.
        :param now: the time, in UTC.
        """
        needs = f"{what}: {self.rows:,} rows to read, by about {self.queries:,} queries and {_bytes(self.size)}"
        if not self.share:
            return f"{needs}; no rate limits are kept"
        minute, hour = (limit_of(limit, self.share) for limit, _ in LIMITS["query"])
        limits = f"{minute:,} queries a minute and {hour:,} an hour"
        if not self.seconds:
            return f"{needs}; the limits ({limits}) do not slow it down"
        end = now + timedelta(seconds=self.seconds)
        return f"{needs}; the limits ({limits}) let it end at {end:%F %R} UTC at the earliest"


def _bytes(size: float) -> str:
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:,.0f} {_UNITS[unit]}" if size >= 10 or not unit else f"{size:.1f} {_UNITS[unit]}"
