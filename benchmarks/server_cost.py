"""What a reading costs PostHog: bytes that ClickHouse reads, queries, hours by the limits. Ours and others' ways.

``python -m benchmarks.server_cost`` measures some minutes, and writes docs/benchmarks.md; ``--quick`` measures little
in half a minute, and writes nothing; ``--calculator`` prints the table of docs/limits.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.reader import Extraction
from airflow_provider_posthog.extract.sources import Source
from benchmarks import server_cost_report
from benchmarks.clickhouse import Age, Asked, ClickHouse, Server
from benchmarks.limits_model import calculator
from benchmarks.server_cost_peers import PEERS, Peer

DAY = timedelta(days=1)
START = datetime(2026, 3, 15, tzinfo=timezone.utc)
PERSONS_CAME = (datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 6, 1, tzinfo=timezone.utc))
SCAN_BACK = timedelta(days=7)
#: Where pages are measured of who would read for hours: at these shares of the day.
_SHARES = (0.0, 0.5, 0.95)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    :param days: events of a day, for each day that is read.
    :param before: up to so many of them the version before this one reads all; beyond, pages of it are measured.
    :param history: events of a day after a history, and of that together.
    :param months: of the history.
    :param persons: how many, for each reading of persons.
    """

    days: tuple[int, ...]
    before: int
    history: tuple[int, int]
    months: int
    persons: tuple[int, ...]


FULL = Size((500_000, 5_000_000), 500_000, (200_000, 7_300_000), 24, (500_000, 2_000_000))
QUICK = Size((10_000, 30_000), 10_000, (5_000, 100_000), 12, (10_000,))


@dataclass
class Line:
    """What a reading has cost.

    :param what: was read.
    :param who: has read it.
    :param there: rows that are there.
    :param size: their bytes, as ClickHouse holds the columns that are read.
    :param asked: its queries.
    :param landed: different rows that it brought; ``None`` where only some of its pages were measured.
    :param passes: rows that ClickHouse read, by those that it should read once.
    :param held: bytes that ClickHouse read, by those that the days of ``scan_back`` hold.
    :param age: of the server.
    :param an_hour: how many of its queries PostHog lets through in an hour.
    """

    what: str
    who: str
    there: int
    size: int
    asked: list[Asked]
    landed: int | None = None
    passes: float | None = None
    held: float | None = None
    age: Age = "new"
    an_hour: int = 2400
    seconds: float = field(default=0.0, compare=False)

    @property
    def ratio(self) -> float:
        """Bytes read for each byte delivered."""
        return sum(each.read for each in self.asked) / self.size

    @property
    def is_whole(self) -> bool:
        """Whether all rows landed, as far as that is known."""
        return self.landed is None or self.landed == self.there


class Bench:
    """Reads from one ClickHouse.

    :param clickhouse: the server.
    :param url: where it answers.
    """

    def __init__(self, clickhouse: ClickHouse, url: str) -> None:
        self.clickhouse = clickhouse
        self._settings = ClientSettings(base_url=url, api_key="phx_" + "x" * 12, project_id=1)

    def read(self, what: str, who: str, source: Source, start: datetime, end: datetime, there: tuple[int, int]) -> Line:
        """Read a range as this provider does.

        :param what: how it is called.
        :param who: who reads it so.
        :param source: what is read.
        :param start: the beginning.
        :param end: the end.
        :param there: how many rows are there, and their bytes.
        """
        asked = self.clickhouse.log.asked
        asked.clear()
        began = time.monotonic()
        keys: list[pa.ChunkedArray] = []
        with Extraction(self._settings, source, start, end, page_rows=49_999) as extraction:
            for chunk in extraction:
                keys.append(chunk.table.column(source.key))
        landed = pc.count_distinct(pa.chunked_array([part for key in keys for part in key.chunks], pa.string())).as_py()
        line = Line(what, who, *there, list(asked), landed, age=self.clickhouse.age)
        line.seconds = time.monotonic() - began
        _say(line)
        return line

    def pages(self, what: str, peer: Peer, there: tuple[int, int]) -> Line:
        """Measure some pages of somebody's loop over a day, and reckon it from them.

        :param what: how it is called.
        :param peer: whose.
        :param there: how many rows are there, and their bytes.
        """
        asked = self.clickhouse.log.asked
        asked.clear()
        for share in _SHARES:
            self.clickhouse.ask(*peer.page(START + share * DAY, START + DAY))
        read = sum(each.read for each in asked) // len(asked)
        scanned = sum(each.scanned for each in asked) // len(asked)
        count = -(-there[0] // peer.rows)
        every = [Asked(read, scanned, min(peer.rows, there[0]))] * count
        line = Line(what, peer.name, *there, every, age=self.clickhouse.age, an_hour=peer.an_hour)
        _say(line)
        return line

    def size_of(self, source: Source, start: datetime, end: datetime) -> tuple[int, int]:
        """Return how many rows a range has, and the bytes of the columns that are read of them.

        :param source: events or persons.
        :param start: the beginning.
        :param end: the end.
        """
        table = "events" if source.table == "events" else "person FINAL"
        where = f"created_at >= '{start:%F %T}' AND created_at < '{end:%F %T}'"
        where += " AND is_deleted = 0" if source.table == "persons" else ""
        bytes_of = f"sum(byteSize({', '.join(source.columns)}))"
        one, two = (f"SELECT {each} FROM {table} WHERE {where}" for each in ("count()", bytes_of))
        return self.clickhouse.number(one), self.clickhouse.number(two)


@contextmanager
def bench(age: Age, fill: Callable[[ClickHouse], None]) -> Iterator[Bench]:
    """Yield a server with something in it.

    :param age: of the PostHog.
    :param fill: puts it in.
    """
    clickhouse = ClickHouse(age)
    try:
        fill(clickhouse)
        with Server(clickhouse) as server:
            yield Bench(clickhouse, server.url)
    finally:
        clickhouse.close()


def day(events: int, age: Age, size: Size) -> list[Line]:
    """Read a day of events, ours and others' ways.

    :param events: how many.
    :param age: of the server.
    :param size: how much is measured.
    """

    def fill(clickhouse: ClickHouse) -> None:
        for days, count in ((-1, events // 10), (0, events), (1, events // 10)):
            clickhouse.add_events(START + days * DAY, count)
        clickhouse.settle()

    what = f"a day of {events:,} events"
    with bench(age, fill) as at:
        there = at.size_of(sources.events(), START, START + DAY)
        lines = [at.read(what, server_cost_report.OURS, sources.events(), START, START + DAY, there)]
        if age == "old":
            return lines
        hour = START + timedelta(hours=12), START + timedelta(hours=13)
        lines.append(at.read(f"{what}: one hour of it", server_cost_report.OURS, sources.events(), *hour, there))
        lines[-1].there = at.size_of(sources.events(), *hour)[0]
        if events <= size.before:
            slices = replace(sources.events(), cells=False)
            lines.append(
                at.read(what, "slices of time, as this provider read before", slices, START, START + DAY, there)
            )
        return [*lines, *(at.pages(what, peer, there) for peer in PEERS)]


def history(size: Size) -> list[Line]:
    """Read a day by when events came, after a history with late ones, and with clocks that are wrong by a year.

    :param size: how much is measured.
    """
    events, before = size.history
    days = size.months * 365 // 12

    def fill(clickhouse: ClickHouse) -> None:
        clickhouse.add_events(START - days * DAY, before, days=days, late=0.01, outliers=0.0002)
        clickhouse.add_events(START, events, late=0.01, outliers=0.0002)
        clickhouse.add_events(START + DAY, events // 10)
        clickhouse.settle()

    what = f"a day of {events:,} events after {size.months} months"
    with bench("new", fill) as at:
        there = at.size_of(sources.events(), START, START + DAY)
        line = at.read(what, server_cost_report.OURS, sources.events(), START, START + DAY, there)
        line.passes = _scanned(line) / at.clickhouse.number("SELECT count() FROM events")
        return [line, _recent(at, what)]


def recent(size: Size) -> list[Line]:
    """Read a day after a month of days like it, of those events that happened within the last seven days.

    :param size: how much is measured.
    """
    events = size.history[0]

    def fill(clickhouse: ClickHouse) -> None:
        clickhouse.add_events(START - 30 * DAY, 31 * events, days=31, late=0.01, outliers=0.0002)
        clickhouse.add_events(START + DAY, events // 10)
        clickhouse.settle()

    with bench("new", fill) as at:
        return [_recent(at, f"a day of {events:,} events after a month of such days")]


def _recent(at: Bench, what: str) -> Line:
    """Read the day's events that happened within the last seven days, and compare that with what these days hold."""
    happened = f"timestamp >= '{START - SCAN_BACK:%F %T}'"
    came = f"created_at >= '{START:%F %T}' AND created_at < '{START + DAY:%F %T}'"
    source = sources.events(scan_back=SCAN_BACK)
    size_of = f"sum(byteSize({', '.join(source.columns)}))"
    there, size, rows, held = (
        at.clickhouse.number(f"SELECT {each} FROM events WHERE {where}")
        for where in (f"{happened} AND {came}", happened)
        for each in ("count()", size_of)
    )
    line = at.read(f"{what}, scan_back=7 days", server_cost_report.OURS, source, START, START + DAY, (there, size))
    line.passes = _scanned(line) / rows
    line.held = sum(each.read for each in line.asked) / held
    return line


def _scanned(line: Line) -> int:
    return sum(each.scanned for each in line.asked)


def persons(count: int, age: Age) -> list[Line]:
    """Read all persons.

    :param count: how many.
    :param age: of the server.
    """
    what = f"{count:,} persons"
    with bench(age, lambda clickhouse: clickhouse.add_persons(count)) as at:
        there = at.size_of(sources.persons(), *PERSONS_CAME)
        lines = [at.read(what, server_cost_report.OURS, sources.persons(), *PERSONS_CAME, there)]
        if age == "new":
            came = sources.persons(time_column="created_at")
            lines.append(at.read(f"{what}, by created_at", server_cost_report.OURS, came, *PERSONS_CAME, there))
        return lines


def _say(line: Line) -> None:
    landed = f", {line.landed:,} landed" if line.landed is not None else ", reckoned from some pages"
    print(
        f"{line.what} ({line.age} server), {line.who}: {line.ratio:,.2f} bytes read for each delivered,"
        f" {len(line.asked):,} queries{landed}, {line.seconds:.0f} s",
        flush=True,
    )


def measure_all(size: Size) -> list[Line]:
    """Measure everything.

    :param size: how much.
    """
    lines = [line for events in size.days for line in day(events, "new", size)]
    lines += day(size.days[0], "old", size)
    lines += history(size) + recent(size)
    lines += [line for count in size.persons for line in persons(count, "new")]
    return lines + persons(size.persons[0], "old")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and tell whether all rows landed and our targets are met.

    :param arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure little, and write nothing")
    parser.add_argument("--calculator", action="store_true", help="print the table of docs/limits.md")
    chosen = parser.parse_args(arguments)
    if chosen.calculator:
        print(calculator())
        return 0
    lines = measure_all(QUICK if chosen.quick else FULL)
    if not chosen.quick:
        server_cost_report.write(lines)
    lost = [line for line in lines if not line.is_whole]
    for line in lost:
        print(f"{line.what}, {line.who}: {line.landed:,} rows landed, {line.there:,} are there", file=sys.stderr)
    landed = sum(line.landed or 0 for line in lines)
    print(f"rows landed {landed:,}, lost {len(lost)} times")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
