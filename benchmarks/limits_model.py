"""PostHog's limits, simulated: how many hours a reading takes that is made of so many queries."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.measure import table

HOUR = 3600.0
DAY_HOURS = 24
#: What a query takes by itself, and for each row that it answers.
SECONDS_A_QUERY, SECONDS_A_ROW = 0.05, 60e-6
FREE, PAID = 20e9, 200e9


@dataclass(frozen=True)
class Query:
    """A query, or several alike.

    :param read: bytes that ClickHouse reads for it.
    :param rows: rows that it answers.
    """

    read: float
    rows: float


def hours(
    queries: Iterable[Query], budget: float, *, a_minute: int = 240, an_hour: int = 2400, at_once: int = 3
) -> float:
    """Return how many hours queries take, one after another as soon as the limits let them.

    :param queries: the queries.
    :param budget: bytes that may be read in an hour; a day's worth can be saved, and is at the beginning.
    :param a_minute: how many may begin in a minute.
    :param an_hour: how many may begin in an hour.
    :param at_once: how many run side by side.
    """
    running = [0.0] * at_once
    minute: deque[float] = deque()
    hour: deque[float] = deque()
    filled, left, now = 0.0, budget * DAY_HOURS, 0.0
    for query in queries:
        now = max(now, heapq.heappop(running))
        if len(minute) == a_minute:
            now = max(now, minute.popleft() + 60)
        if len(hour) == an_hour:
            now = max(now, hour.popleft() + HOUR)
        left, filled = min(budget * DAY_HOURS, left + (now - filled) * budget / HOUR), now
        if left < 0:  # who is below zero waits until it is filled up
            now += -left * HOUR / budget
            left, filled = 0.0, now
        # A query runs to its end; more than an hour's worth is not owed.
        left = max(left - query.read, -budget)
        minute.append(now)
        hour.append(now)
        heapq.heappush(running, now + SECONDS_A_QUERY + SECONDS_A_ROW * query.rows)
    return max(running) / HOUR


#: What docs/limits.md reckons with: what ``python -m benchmarks.server_cost`` measures, with room for longer events.
BYTES_A_BYTE, ROWS_A_QUERY, EVENT_BYTES = 2.0, 35_000, 1000
_EVENTS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
#: Of a month's budget, the share that loads may take: other keys' queries need the rest.
_SHARE = 0.5


def calculator() -> str:
    """Return the table of docs/limits.md: what a month's events take, and which way to read them."""
    rows = []
    for events in _EVENTS:
        size = events * EVENT_BYTES
        count = -(-events // ROWS_A_QUERY)
        each = Query(size * BYTES_A_BYTE / count, events / count)
        free, paid = (hours([each] * count, budget) for budget in (FREE, PAID))
        read = size * BYTES_A_BYTE
        way = _way(read, free, paid)
        rows.append([f"{events:,}", _gb(size), _gb(read), f"{count:,}", time_taken(free), time_taken(paid), way])
    head = ["events a month", "GB", "GB read", "queries", "the month at once, free plan", "paid plan", "which way"]
    return table(head, rows)


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f}" if size < 10e9 else f"{size / 1e9:,.0f}"


def time_taken(taken: float) -> str:
    """Write hours for people.

    :param taken: the hours.
    """
    if taken < 1:
        return f"{max(1, round(taken * 60))} min"
    return f"{taken:,.1f} h" if taken < 3 * DAY_HOURS else f"{taken / DAY_HOURS:,.0f} days"


def _way(read: float, free: float, paid: float) -> str:
    if read > FREE * 30 * DAY_HOURS * _SHARE and paid > DAY_HOURS:
        return "batch exports"
    return "a load a day; history by file downloads" if free > DAY_HOURS else "loads, history too"
