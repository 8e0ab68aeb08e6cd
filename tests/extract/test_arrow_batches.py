"""Rows that were converted while they came: equal to what came, in memory that is used again, and never too early."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.extract.arrow_batches import ROOM, Batches, Rooms

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def table(rooms: Rooms, *parts: list[list[Any]]) -> pa.Table:
    batches = Batches(SCHEMA, rooms)
    for part in parts:
        batches.add(part)
    return batches.value()


def page(mark: str, rows: int = 2_000) -> list[list[list[Any]]]:
    """Return some 8 MB in parts of 100 rows."""
    return [[[number, mark * 4_000] for number in range(at, at + 100)] for at in range(0, rows, 100)]


def plain(rows: pa.Table) -> list[list[Any]]:
    return [list(row.values()) for row in rows.to_pylist()]


@given(st.lists(st.lists(st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.text()))))
def test_rows_are_those_that_came(parts: list[list[tuple[int | None, str | None]]]) -> None:
    given_rows = [[list(row) for row in part] for part in parts]
    found = table(Rooms(), *given_rows)
    assert found.schema == SCHEMA
    assert plain(found) == [row for part in given_rows for row in part]


def test_memory_is_used_again_when_nobody_has_rows_in_it() -> None:
    rooms = Rooms()
    for mark in "abc":
        found = table(rooms, *page(mark))
        assert set(found.column("text").to_pylist()) == {mark * 4_000}
        del found
    assert rooms.size <= 3 * ROOM


@pytest.mark.parametrize(
    "keep", [lambda found: found, lambda found: found.slice(1_990), lambda found: found.column("text")]
)
def test_memory_is_not_used_again_while_anybody_has_a_part_of_it(keep: Any) -> None:
    rooms = Rooms()
    kept = keep(table(rooms, *page("a")))
    before = kept.to_pylist()
    for mark in "bc":
        table(rooms, *page(mark))
    assert kept.to_pylist() == before


def test_a_part_that_is_larger_than_a_room_has_one_of_its_own() -> None:
    rooms = Rooms()
    long = "x" * (2 * ROOM)
    assert plain(table(rooms, [[1, "a"]], [[2, long]], [[3, "b"]])) == [[1, "a"], [2, long], [3, "b"]]
    assert rooms.size <= 2 * ROOM


def test_what_is_no_row_is_an_error() -> None:
    with pytest.raises(PostHogTransportError):
        table(Rooms(), [[1, "a"]], [[1, "a", 2]])
