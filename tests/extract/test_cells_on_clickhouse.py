"""Cells on ClickHouse with PostHog's partitions and sort key: its index finds each row, and reads little else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from airflow_provider_posthog.extract import sources, statements
from airflow_provider_posthog.extract.cell_planning import CellPlanner
from airflow_provider_posthog.extract.cells import EPOCH, HASHES, LAST_DAY, Cell, Group
from airflow_provider_posthog.extract.page_size import PageSize
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.ranges import left_of
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import Piece, Position, Window
from tests.extract.clickhouse import DATABASE, GRANULE, Table, opened, run
from tests.extract.reading import UTC

pytestmark = pytest.mark.reliability

HOME = datetime(2026, 3, 15, tzinfo=UTC)
RANGE = Window(HOME, HOME + timedelta(days=1))
SOURCE = sources.events(["uuid"])
DAY = (HOME - EPOCH).days
#: A day's events: some that are many, many that are few.
EVENTS = "['$pageview', '$pageview', '$pageview', '$autocapture', concat('e', toString(number % 40))][number % 5 + 1]"
#: Wrong clocks; ClickHouse keeps days in 16 bits, so that the last four lie in the key on days of the middle.
CLOCKS = [
    "2026-03-02",
    "2025-11-20",
    "2024-02-29",
    "1970-01-01",
    "1969-12-31",
    "1953-01-02",
    "2148-05-06",
    "2150-03-15",
]


def fill(
    day: str, rows: int, *, team: int = 1, person: str = "toString(intDiv(number, 3))", event: str = EVENTS
) -> None:
    at = f"toDateTime64('{day} 00:00:01', 6, 'UTC') + toIntervalMicrosecond(intDiv(86000000000, {rows}) * number)"
    uuid = f"reinterpretAsUUID(sipHash128(number, '{day}', {person}))"
    run(
        f"INSERT INTO {DATABASE}.events SELECT {uuid}, {event}, '{{}}', {at}, {team}, {person}, "
        f"toDateTime64('2026-03-15 10:00:00', 6, 'UTC') + toIntervalSecond(number % 3600), generateUUIDv4() "
        f"FROM numbers({rows})"
    )


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    with opened():
        for day in ("2026-03-13", "2026-03-14", "2026-03-15", "2026-03-16"):
            fill(day, 3000)
            fill(day, 500, team=2)
        fill("2026-03-15", 2000, person="'one that is many'", event="'$pageview'")
        for clock in CLOCKS:
            fill(clock, 70)
        run(f"OPTIMIZE TABLE {DATABASE}.events FINAL")
        yield


ROWS = 4 * 3000 + 2000 + 70 * len(CLOCKS)
ALL = f"SELECT count() FROM {DATABASE}.events WHERE team_id = 1 AND "


def planner(asked: Table, most: int, source: sources.Source = SOURCE) -> CellPlanner:
    size = PageSize(most)
    size.saw(1, 1)
    return CellPlanner(cast("Asker", asked), source, size)


def keys_of(asked: Table, piece: Piece) -> list[str]:
    """A page's rows, as a reader asks for them."""
    return [row[0] for row in asked.ask(statements.page(SOURCE, piece, piece.rows + 10, None)).rows]


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("most", [37, 700, 49_999])
def test_each_row_is_found_once(is_new: bool, most: int) -> None:
    asked = Table(is_new=is_new)
    pieces = list(planner(asked, most).pieces(replace(RANGE, cell=Cell())))
    found = [key for piece in pieces if piece.rows for key in keys_of(asked, piece)]
    assert len(found) == len(set(found)) == sum(piece.rows for piece in pieces) == ROWS
    assert max(piece.rows for piece in pieces) <= most


@pytest.mark.parametrize("is_new", [True, False])
def test_each_row_is_found_once_wherever_a_reading_is_taken_up_again(is_new: bool) -> None:
    asked = Table(is_new=is_new)
    pieces = list(planner(asked, 150).pieces(replace(RANGE, cell=Cell())))
    sums = [0]
    for piece in pieces:
        sums.append(sums[-1] + piece.rows)
    for at in range(0, len(pieces), 7):
        left = left_of(RANGE, SOURCE, pieces[at].window.after())
        again = [piece for window in left for piece in planner(asked, 400).pieces(window)]
        assert sums[at + 1] + sum(piece.rows for piece in again) == ROWS
        if at % 70 == 0:
            assert sum(len(keys_of(asked, piece)) for piece in again if piece.rows) == ROWS - sums[at + 1]


def group(name: str, day: int = DAY, condition: str = "1") -> Group:
    where = f"event = '{name}' AND toYYYYMMDD(timestamp) = {(EPOCH + timedelta(days=day)):%Y%m%d} AND {condition}"
    hashes = "min(cityHash64(distinct_id)), max(cityHash64(distinct_id))"
    columns = f"count(), toString(min(timestamp)), toString(max(timestamp)), {hashes}"
    rows, low, high, first, last = run(f"SELECT {columns} FROM {DATABASE}.events WHERE team_id = 1 AND {where}").split(
        "\t"
    )
    times = [datetime.fromisoformat(f"{text}+00:00") for text in (low, high)]
    return Group(day, name, int(rows), *times, (int(first), int(last)))


def many() -> int:
    return int(run("SELECT cityHash64('one that is many')"))


VIEW: dict[str, Any] = {"low": ("$pageview", False), "high": ("$pageview", True)}
#: Each kind of cell; and with what it may be more than what it holds: an edge of each range of the index.
CELLS: dict[str, Any] = {
    "days": lambda: (Cell(DAY - 2, DAY), 2),
    "a day": lambda: (Cell(DAY, DAY + 1), 2),
    "from a day on": lambda: (Cell(DAY, LAST_DAY), 2),
    "to a day": lambda: (Cell(0, DAY), 12),  # a part of each month
    "some events": lambda: (Cell(DAY, DAY + 1, ("$pageview", True), ("e2", True)), 2),
    "from an event on": lambda: (Cell(DAY, DAY + 1, ("e2", False), None), 2),
    "to an event": lambda: (Cell(DAY, DAY + 1, None, ("$pageview", False)), 2),
    "an event": lambda: (Cell(DAY, DAY + 1, **VIEW), 2),
    "hashes": lambda: (Cell(DAY, DAY + 1, **VIEW, hashes=(HASHES // 4, HASHES // 2)), 2),
    "the first hashes": lambda: (Cell(DAY, DAY + 1, **VIEW, hashes=(0, HASHES // 3)), 2),
    "keys": lambda: (
        Cell(DAY, DAY + 1, **VIEW, hashes=(many(), many() + 1), keys=(HASHES // 4, HASHES // 2)),
        2,
    ),
    "before 1970": lambda: (Cell(None, 0), 4),
    "after 2147": lambda: (Cell(LAST_DAY), 4),
}


def page_of(cell: Cell) -> tuple[Piece, Statement]:
    piece = Piece(replace(RANGE, cell=cell), 1)
    return piece, statements.page(SOURCE, piece, 10, None)


@pytest.mark.parametrize("kind", CELLS)
def test_a_page_reads_what_its_cell_holds(kind: str) -> None:
    """As servers since April 2026 print it."""
    cell, more = CELLS[kind]()
    asked = Table()
    rows = asked.ask(statements.total(SOURCE, replace(RANGE, cell=cell))).rows[0][0]
    read, _ = asked.granules(page_of(cell)[1])
    assert 0 < rows < ROWS
    assert 0 < read <= rows / GRANULE + more


@pytest.mark.parametrize("kind", CELLS)
def test_older_servers_leave_out_what_they_can(kind: str) -> None:
    """Months, and events and hashes where each day's are together; days they do not."""
    cell, _ = CELLS[kind]()
    asked = Table(is_new=False)
    read, months = asked.granules(page_of(cell)[1])
    everything = int(run(f"SELECT sum(marks) FROM system.parts WHERE database = '{DATABASE}' AND active"))
    assert 0 < read <= months < everything
    if cell.event is not None:
        # On each of the days, of which there are five in the month.
        assert read <= months * (0.75 if cell.is_hashed else 1.0)
    if kind in ("some events", "keys"):
        assert read <= months // 2


@pytest.mark.parametrize("is_new", [True, False])
def test_outliers_are_found_by_what_was_counted_of_them(is_new: bool) -> None:
    """One late event must not make a page read all the days between."""
    asked = Table(is_new=is_new)
    groups = tuple(group("e4", (datetime.fromisoformat(clock) - datetime(1970, 1, 1)).days) for clock in CLOCKS[:3])
    piece = Piece(
        replace(RANGE, cell=Cell(0, DAY - 5)), sum(each.rows for each in groups), groups=groups, is_outlier=True
    )
    statement = statements.page(SOURCE, piece, 100, None)
    assert len(asked.ask(statement).rows) == piece.rows
    read, months = asked.granules(statement)
    assert read <= (len(groups) * 2 if is_new else months // 10)


@pytest.mark.parametrize("is_new", [True, False])
def test_the_hints_of_a_count_lose_no_row(is_new: bool) -> None:
    """The lowest and the highest time of what was counted narrow the scan, where an index finds them."""
    asked = Table(is_new=is_new)
    for clock in ("1953-01-02", "2150-03-15", "2026-03-02"):
        day = (datetime.fromisoformat(clock) - datetime(1970, 1, 1)).days
        whole = replace(
            RANGE, cell=Cell(LAST_DAY) if day > LAST_DAY else Cell(None, 0) if day < 0 else Cell(day, day + 1)
        )
        (piece,) = planner(asked, 1000).count(whole)
        assert piece.rows in (70, 140)
        assert len(keys_of(asked, piece)) == piece.rows


def test_a_position_in_a_later_day_reads_no_earlier_one() -> None:
    asked = Table()
    windows = left_of(RANGE, SOURCE, Position(RANGE.start, RANGE.end, (DAY, ["$pageview", True])))
    first = asked.granules(statements.groups_by_event(SOURCE, windows[0]))[0]
    held = asked.ask(statements.total(SOURCE, windows[0])).rows[0][0]
    assert first <= held / GRANULE + 2
