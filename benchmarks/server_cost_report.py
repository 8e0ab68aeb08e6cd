"""What came of :mod:`benchmarks.server_cost`, as a section of docs/benchmarks.md."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

from benchmarks.clickhouse import Asked
from benchmarks.limits_model import FREE, PAID, SECONDS_A_ROW, Query, hours, time_taken
from benchmarks.measure import table, write_section
from benchmarks.server_cost_peers import PEERS

if TYPE_CHECKING:
    from benchmarks.server_cost import Line

OURS = "this provider"
#: The loops that bring every event, also those of the same moment as a page's last.
COMPLETE = tuple(peer.name for peer in PEERS if peer.is_complete)
MANY = 100_000_000

_TEXT = """## What a reading costs PostHog

`python -m benchmarks.server_cost`. An embedded ClickHouse with PostHog's own partitions, sort keys and versions, behind
a server that writes HogQL as PostHog's printer does; *old* is the printer before April 2026 (persons: before November
2024). A day lies between two others with a tenth of its events; events have 0.5 KB, persons 0.6 KB, and one person in
ten has two versions. *Bytes read* are what ClickHouse counts and PostHog debits, for each byte of the columns that are
read, as ClickHouse stores them. The times are simulated: 240 queries a minute, 2,400 an hour (`GET events/`:
1,200), three at once, 50 ms and 60 µs a row for each, and the budget of bytes of a free plan (20 GB an hour) or a paid
one (200 GB), full at the beginning. Of others' loops three pages were measured, at the beginning, in the middle and at
the end of the day, and the rest reckoned from them; what they lose is told further up.

{days}

An hour of a day that has ended reads {hour:.2f} times what that day's whole load reads: its rows lie in all granules of
the day, so that 24 hourly loads read as much as {hours:.0f} daily ones.

### {many} events, as 20 days of {events}

{simulated}

{fastest}

### After a history, and persons

*passes* are rows that ClickHouse read in all queries together, by the rows of the table; with `scan_back` by those of
the last seven days, and *of these days* is the same by bytes, which are what PostHog debits. With `scan_back`, rows are
read twice. No key of PostHog's table finds late events, and of 200,000 events that arrive on a day, some lie in
nearly every granule of the days before. So ClickHouse reads all rows of these days to count them (four short columns
of each), and nearly all again to deliver the counted ones. Without the count it would be one pass, and no
proof that all arrived.

{others}

### Against our own targets

{verdict}
"""


def write(lines: Sequence[Line]) -> None:
    """Write the section.

    :param lines: what was measured.
    """
    days = [line for line in lines if line.what.endswith("events") and line.what.startswith("a day")]
    new = [line for line in days if line.age == "new"]
    most = max(line.there for line in new)
    largest = [line for line in new if line.there == most]
    hour = _hour(lines, most)
    text = _TEXT.format(
        days=table(_HEAD, [_row(line) for line in days]),
        hour=hour,
        hours=24 * hour,
        many=f"{MANY:,}",
        events=f"{most:,}",
        simulated=table(["", "queries", "TB read", "time, free", "time, paid"], [_many(line) for line in largest]),
        fastest=_fastest(largest),
        others=table(
            [*_HEAD[:6], "passes", "of these days"],
            [_other(line) for line in lines if line not in days and _is_other(line)],
        ),
        verdict=table(["", "target", "measured", ""], _verdict(lines, new)),
    )
    write_section("server_cost", text)


_HEAD = ["", "who", "server", "bytes read a byte", "queries", "rows a query", "time, free", "time, paid"]


def _row(line: Line) -> list[str]:
    free, paid = (_time(line.asked, budget, line.an_hour) for budget in (FREE, PAID))
    rows = line.there / len(line.asked)
    return [line.what, line.who, line.age, f"{line.ratio:,.2f}", f"{len(line.asked):,}", f"{rows:,.0f}", free, paid]


def _other(line: Line) -> list[str]:
    return [*_row(line)[:6], *("" if each is None else f"{each:.2f}" for each in (line.passes, line.held))]


def _is_other(line: Line) -> bool:
    return "one hour of it" not in line.what


def _time(asked: Sequence[Asked], budget: float, an_hour: int, times: int = 1) -> str:
    made = chain.from_iterable(repeat([Query(each.read, each.rows) for each in asked], times))
    return time_taken(hours(made, budget, an_hour=an_hour))


def _many(line: Line) -> list[str]:
    times = MANY // line.there
    read = times * sum(each.read for each in line.asked) / 1e12
    free, paid = (_time(line.asked, budget, line.an_hour, times) for budget in (FREE, PAID))
    return [line.who, f"{times * len(line.asked):,}", f"{read:,.2f}", free, paid]


def _fastest(lines: Sequence[Line]) -> str:
    """Say how much longer or shorter ours takes than the fastest loop of others that brings all events."""
    ours = next(line for line in lines if line.who == OURS)
    others = [line for line in lines if line.who in COMPLETE]
    parts = []
    for plan, budget in (("free", FREE), ("paid", PAID)):
        mine, best = _seconds(ours, budget), min(others, key=lambda line: _seconds(line, budget))
        times = f"{_seconds(best, budget) / mine:,.3g} times as fast as {best.who}"
        read = f"which reads {best.ratio / ours.ratio:.0f} times as many bytes"
        parts.append(f"on a {plan} plan {time_taken(mine / 3600)}, {times}, {read}")
    text = (
        f"Of those that bring all events within the limits, this provider takes {'; and '.join(parts)}. The rows alone "
        f"take {MANY * SECONDS_A_ROW / 3 / 60:.0f} minutes, three at once: what is left are counts, and pages that are "
        "not quite full."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _seconds(line: Line, budget: float) -> float:
    made = chain.from_iterable(repeat([Query(each.read, each.rows) for each in line.asked], MANY // line.there))
    return 3600 * hours(made, budget, an_hour=line.an_hour)


def _hour(lines: Sequence[Line], events: int) -> float:
    of_day = f"a day of {events:,} events"
    (whole,) = (line for line in lines if (line.what, line.who, line.age) == (of_day, OURS, "new"))
    (hour,) = (line for line in lines if line.what == f"{of_day}: one hour of it")
    return hour.ratio / whole.ratio


def _verdict(lines: Sequence[Line], days: Sequence[Line]) -> list[list[str]]:
    ours = [line for line in days if line.who == OURS]
    goals = [(line.what, line.ratio, 3.0, "bytes read a byte") for line in ours]
    ratios = [line.ratio for line in ours]
    goals.append(("the largest day by the smallest", max(ratios) / min(ratios), 1.1, "x"))
    for line in lines:
        if line.held is not None:
            goals.append((line.what, line.held, 1.5, "x the bytes of these days"))
        if line.passes is not None:
            goals.append((line.what, line.passes, 1.5, "passes" if line.held is None else "x the rows of these days"))
    goals += [(line.what, line.ratio, 5.0, "bytes read a byte") for line in _persons(lines)]
    persons = [line.ratio for line in _persons(lines) if "by created_at" not in line.what]
    goals.append(("the most persons by the fewest", max(persons) / min(persons), 1.1, "x"))
    return [
        [what, f"at most {most} {unit}", f"{found:.2f}", "met" if found <= most else "**not met**"]
        for what, found, most, unit in goals
    ]


def _persons(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if "persons" in line.what and line.age == "new"]
