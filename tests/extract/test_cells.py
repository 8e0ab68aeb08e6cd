"""Cells tile the sort key of the events: whatever was counted, each row lies in one of them, and in one only."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.extract.cell_statements import among
from airflow_provider_posthog.extract.cells import (
    HASHES,
    LAST_DAY,
    MOST_GROUPS,
    Box,
    Cell,
    Edge,
    Group,
    boxes,
    hash_boxes,
)
from airflow_provider_posthog.extract.windows import Position

MOMENT = datetime(2026, 3, 1, tzinfo=timezone.utc)
HOME = (110, 112)
#: Bytes and characters sort differently: ClickHouse compares bytes.
names = st.text(alphabet="ab$é\uffff\U0001f600", min_size=1, max_size=3)
days = st.one_of(st.integers(-40, -1), st.integers(100, 130), st.integers(LAST_DAY - 5, LAST_DAY + 9000))
counted = st.lists(st.tuples(days, names, st.integers(1, 40)), max_size=60)
STEP = 1 << 60


def group(day: int, name: str, rows: int) -> Group:
    return Group(day, name, rows, MOMENT, MOMENT, (0, 1))


def order(edge: Edge) -> tuple[bytes, bool]:
    return edge[0].encode(), edge[1]


def groups_of(rows: list[tuple[int, str, int]]) -> list[Group]:
    counts: dict[tuple[int, str], int] = {}
    for day, name, more in rows:
        counts[day, name] = counts.get((day, name), 0) + more
    return sorted(
        (group(*key, many) for key, many in counts.items()), key=lambda each: (each.day, order((each.name, False)))
    )


def holds(cell: Cell, day: int, name: str, hashed: int = 5, key: int = 5) -> bool:
    """Whether a row lies in a cell; written anew, and not by the code that is tested."""
    day = min(max(day, -1), LAST_DAY)
    return (
        (cell.first_day is None or cell.first_day <= day)
        and (cell.last_day is None or day < cell.last_day)
        and (cell.low is None or order(cell.low) <= order((name, False)))
        and (cell.high is None or order((name, False)) < order(cell.high))
        and cell.hashes[0] <= hashed < cell.hashes[1]
        and cell.keys[0] <= key < cell.keys[1]
    )


@settings(max_examples=400)
@given(counted, st.integers(1, 60), st.lists(st.tuples(st.integers(-40, 70_000), names), max_size=20))
def test_each_row_lies_in_one_box_counted_or_not(
    rows: list[tuple[int, str, int]], size: int, others: list[tuple[int, str]]
) -> None:
    groups = groups_of(rows)
    made = list(boxes(Cell(), groups, HOME, lambda: size))
    for each in groups:
        assert [box for box in made if each in box.groups] == [
            box for box in made if holds(box.cell, each.day, each.name)
        ]
    for day, name in [*others, *((each.day, each.name) for each in groups)]:
        assert sum(holds(box.cell, day, name) for box in made) == 1
    assert sum(box.rows for box in made) == sum(each.rows for each in groups)


@settings(max_examples=400)
@given(counted, st.integers(1, 60))
def test_boxes_hold_no_more_than_a_page_but_for_an_event_of_a_day(rows: list[tuple[int, str, int]], size: int) -> None:
    for box in boxes(Cell(), groups_of(rows), HOME, lambda: size):
        assert box.rows <= size or box.cell.event is not None


@settings(max_examples=400)
@given(
    counted, st.integers(1, 60), st.integers(0, 99), st.lists(st.tuples(st.integers(-40, 70_000), names), max_size=20)
)
def test_what_is_left_behind_a_box_is_what_the_later_ones_hold(
    rows: list[tuple[int, str, int]], size: int, at: int, others: list[tuple[int, str]]
) -> None:
    groups = groups_of(rows)
    made = list(boxes(Cell(), groups, HOME, lambda: size))
    at %= len(made)
    left = Cell().after(made[at].cell.end())
    for day, name in [*others, *((each.day, each.name) for each in groups)]:
        assert sum(holds(cell, day, name) for cell in left) == any(holds(box.cell, day, name) for box in made[at + 1 :])


@settings(max_examples=300)
@given(
    st.dictionaries(st.integers(0, 15), st.integers(1, 30), max_size=16),
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 20),
)
def test_parts_of_an_event_tile_its_hashes(counts: dict[int, int], size: int, by_key: bool, at: int) -> None:
    cell = Cell(5, 6, ("a", False), ("a", True), hashes=(STEP, 2 * STEP) if by_key else (0, HASHES))
    made = list(hash_boxes(cell, sorted(counts.items()), STEP, lambda: size, by_key=by_key))
    spans = [part.keys if by_key else part.hashes for part, _ in made]
    assert spans[0][0] == 0
    assert spans[-1][1] == HASHES
    assert all(one[1] == two[0] for one, two in itertools.pairwise(spans))
    for (low, high), (_, many) in zip(spans, made, strict=True):
        assert many == sum(rows for number, rows in counts.items() if low <= number * STEP < high)
        assert many <= size or high - low == STEP
    at %= len(made)
    left = Cell(5, 6).after(made[at][0].end())
    for number in range(16):
        row = (STEP + 3, number * STEP) if by_key else (number * STEP, 9)
        later = any(holds(part, 5, "a", *row) for part, _ in made[at + 1 :])
        assert sum(holds(rest, 5, "a", *row) for rest in left) == later
    assert sum(holds(rest, 5, "b") for rest in left) == 1


def test_outliers_are_read_by_themselves() -> None:
    """A late event must not make a page scan all of the days between."""
    rows = [group(20, "a", 1), group(60, "b", 1), group(110, "a", 5), group(111, "a", 5), group(150, "a", 1)]
    made = list(boxes(Cell(), rows, HOME, lambda: 1000))
    assert [(box.is_outlier, box.rows) for box in made if box.rows] == [(True, 2), (False, 10), (True, 1)]


def test_no_statement_names_more_outliers_than_it_can_hold() -> None:
    rows = [group(day, name, 1) for day in range(10) for name in map(str, range(30))]
    made = [box for box in boxes(Cell(), rows, HOME, lambda: 10_000) if box.is_outlier]
    assert max(len(box.groups) for box in made) <= MOST_GROUPS


def test_days_that_the_key_cannot_hold_are_read_by_themselves() -> None:
    """ClickHouse's index looks for them at a wrong place."""
    rows = [
        group(-9000, "a", 1),
        group(-1, "a", 1),
        group(0, "a", 1),
        group(LAST_DAY - 1, "a", 1),
        group(LAST_DAY, "a", 1),
    ]
    made = [box.cell for box in boxes(Cell(), rows, HOME, lambda: 100) if box.rows]
    assert made == [Cell(None, 0), Cell(0, LAST_DAY), Cell(LAST_DAY, None)]
    alone = list(boxes(Cell(), [group(110, "a", 1), group(LAST_DAY + 700, "a", 1)], HOME, lambda: 100))
    assert [box.cell for box in alone] == [Cell(None, 111), Cell(111, LAST_DAY), Cell(LAST_DAY, None)]
    assert not any(box.is_outlier for box in alone), "their times are no hints: the index would not find them"


@pytest.mark.parametrize("first", [-9000, LAST_DAY + 7])
def test_many_rows_on_days_that_the_key_cannot_hold_are_read_by_event(first: int) -> None:
    """Any number of events of wrong clocks: no page holds all of them, and no statement names all of them."""
    rows = [group(first + day, name, 3) for day in range(2) for name in map(str, range(10, 90))]
    made = list(boxes(Cell(), rows, HOME, lambda: 20))
    assert max(box.rows for box in made) <= 20
    assert sum(box.rows for box in made) == 480
    for box in made:
        assert {each.name for each in box.groups} == {each.name for each in rows if holds(box.cell, first, each.name)}
        (rest, *_) = Cell().after(box.cell.end()) or [None]
        assert rest is None or rest.is_beyond or rest.first_day == 0


def test_a_reading_goes_on_with_days_that_the_key_cannot_hold_by_themselves() -> None:
    """By an index, a year from now on does not hold them."""
    assert Cell().after([20]) == [Cell(20, LAST_DAY), Cell(LAST_DAY)]
    assert Cell().after([20, ["a", True]]) == [Cell(20, 21, ("a", True)), Cell(21, LAST_DAY), Cell(LAST_DAY)]
    assert Cell().after([LAST_DAY, ["a", True]]) == [Cell(LAST_DAY, None, ("a", True))]
    assert Cell().after([-1, ["a", False]]) == [Cell(None, 0, ("a", False)), Cell(0, LAST_DAY), Cell(LAST_DAY)]
    assert Cell(5, 30).after([20]) == [Cell(20, 30)]
    assert Cell(5, 30).after([30]) == []


LOST = "b\ufffd"


def test_no_condition_names_an_event_of_which_bytes_were_lost() -> None:
    """PostHog answers U+FFFD for bytes that are no UTF-8: the text finds no event, and stands elsewhere in the key."""
    rows = [group(110, name, many) for name, many in [("a", 5), (LOST, 5), ("\ud800", 30), (LOST, 5), ("c", 5)]]
    made = list(boxes(Cell(), rows, HOME, lambda: 5))
    shown = [(box.cell.low, box.cell.high, box.rows) for box in made if box.rows]
    assert shown == [(None, ("a", True), 5), (("a", True), ("c", False), 40), (("c", False), None, 5)]
    alone = list(boxes(Cell(), rows[1:4], HOME, lambda: 5))
    assert [(box.cell.low, box.cell.high, box.rows) for box in alone if box.rows] == [(None, None, 40)]
    mixed = list(boxes(Cell(), [group(-5, LOST, 9), group(-4, "a", 9)], HOME, lambda: 5))
    assert [(box.cell, box.rows) for box in mixed if box.rows] == [(Cell(None, 0), 18)], "their order is not known"
    values: dict[str, object] = {}
    assert "events.event" not in among([rows[1]], values)
    assert LOST not in values.values()


def test_an_empty_range_is_one_box() -> None:
    assert list(boxes(Cell(), [], HOME, lambda: 10)) == [Box(Cell())]
    assert list(boxes(Cell(5, 6), [], HOME, lambda: 10)) == [Box(Cell(5, 6))]


NO_PLACES: list[object] = [
    [True],
    [-1],
    [10**9],
    ["a"],
    [5, [1]],
    [5, ["a", 1]],
    [5, [None, True]],
    [5, None, 1],
    [5, "a"],
    [5, "a", "b"],
    [5, "a", True],
    [5, "a", -1],
    [5, "a", HASHES + 1],
    [5, "a", 1, 2],
    [5, "a", 1, 2, "x"],
    [None],
]


@pytest.mark.parametrize("place", NO_PLACES)
def test_what_is_no_place_of_the_key_is_refused(place: list[object]) -> None:
    with pytest.raises((ValueError, IndexError)):
        Cell().after(place)
    with pytest.raises(ValueError):  # noqa: PT011 - the caller begins anew, whatever it says
        Position.from_json({"time": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "place": place})


hashes = st.integers(0, HASHES)
places = st.one_of(
    st.tuples(st.integers(0, LAST_DAY)),
    st.tuples(st.integers(-1, LAST_DAY), st.tuples(names, st.booleans())),
    st.tuples(st.integers(-1, LAST_DAY), names, hashes),
    st.tuples(st.integers(-1, LAST_DAY), names, hashes, hashes, hashes),
)


@given(st.none() | places, st.datetimes(datetime(1970, 1, 1), timezones=st.just(timezone.utc)))
def test_positions_survive_json(place: tuple[object, ...] | None, moment: datetime) -> None:
    at = Position(moment) if place is None else Position(moment, moment + timedelta(0), place)
    assert Position.from_json(json.loads(json.dumps(at.as_json()))) == at


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "2026",
        {},
        {"time": 5},
        {"time": "soon"},
        {"time": "2026-01-01T00:00:00"},
        {"time": "2026-01-01", "until": 1},
        {"time": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "place": 5},
        {"time": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00"},
    ],
)
def test_what_is_no_position_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller begins anew, whatever it says
        Position.from_json(value)


def test_a_cell_s_name_shows_no_event() -> None:
    """An event's name is anybody's text."""
    cell = replace(Cell(5, 6), low=("jane@example.com", False), high=("jane@example.com", True))
    assert "jane" not in str(cell)
    assert "1970-01-06..1970-01-07" in str(cell)
