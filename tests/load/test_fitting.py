"""Types that HogQL's conditions and counts come as, and what may become of their values."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.columns import sql_family
from airflow_provider_posthog.load.fitting import fitted, kept_as
from airflow_provider_posthog.load.postgres import DIALECT
from tests.load.databases import Database, Postgres, SQLite, appending, events, merging, replacing

#: ClickHouse's largest number, and that of BIGINT.
UNSIGNED, LARGEST = 2**64 - 1, 2**63 - 1


def counted(numbers: list[int | None]) -> pa.Table:
    return events(len(numbers)).append_column("n", pa.array(numbers, pa.uint64()))


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_a_count_is_a_number_that_sorts_as_one(known: Database, write: Any) -> None:
    known.load(write(), counted([69, 631, 7, None, LARGEST]))
    found = known.rows("SELECT n FROM events WHERE n IS NOT NULL ORDER BY n DESC")
    assert found == [(LARGEST,), (631,), (69,), (7,)]
    assert known.rows("SELECT sum(n) FROM events WHERE n < 100") == [(76,)]


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_a_count_that_bigint_does_not_hold_is_told_by_its_column(known: Database, write: Any) -> None:
    known.run(
        "CREATE TABLE events (uuid text PRIMARY KEY, event text, created_at timestamp, properties text, n bigint)"
    )
    with pytest.raises(PostHogLoadError, match=r"'n' holds a number above .*column_types=\{'n': ") as refused:
        known.load(write(), counted([1, LARGEST + 1]))
    assert str(LARGEST + 1) not in str(refused.value)
    assert known.count() == 0


def test_a_column_that_was_chosen_for_them_holds_the_largest_counts(postgres: Postgres, sqlite: SQLite) -> None:
    for database, sql_type in ((postgres, "numeric(20,0)"), (sqlite, "TEXT")):
        for _ in range(2):
            database.load(merging(column_types={"n": sql_type}), counted([1, UNSIGNED]))
            # The table knows it from now on.
            database.load(merging(), counted([1, UNSIGNED]))
        assert [int(row[0]) for row in database.rows("SELECT n FROM events ORDER BY uuid")] == [1, UNSIGNED]


@pytest.mark.parametrize("write", [replacing, merging, appending])
@pytest.mark.parametrize("kind", [pa.uint8(), pa.int64(), pa.uint64()])
def test_a_condition_becomes_a_boolean_where_that_is_asked_for(known: Database, write: Any, kind: Any) -> None:
    table = events(3).append_column("paid", pa.array([1, 0, None], kind))
    for _ in range(2):
        known.load(write(column_types={"paid": "boolean"}), table)
    assert known.rows("SELECT count(*) FROM events WHERE paid") == [(1,)]
    assert known.rows("SELECT count(*) FROM events WHERE NOT paid") == [(1,)]


@pytest.mark.parametrize("write", [replacing, merging, appending])
@pytest.mark.parametrize("number", [2, -1])
def test_another_number_than_0_and_1_is_no_boolean(known: Database, write: Any, number: int) -> None:
    options = {"column_types": {"paid": "boolean"}}
    known.load(write(**options), events(1).append_column("paid", pa.array([1], pa.int8())))
    with pytest.raises(PostHogLoadError, match="'paid' goes into a boolean column") as refused:
        known.load(write(**options), events(2).append_column("paid", pa.array([1, number], pa.int8())))
    assert str(number) not in str(refused.value).replace("0 and 1", "")
    assert known.count() == 1


@given(st.lists(st.none() | st.integers(-2, 3), min_size=1))
def test_numbers_are_booleans_or_an_error(numbers: list[int | None]) -> None:
    table = pa.table({"x": pa.array(numbers, pa.int64())})
    types = {"x": "boolean"}
    if set(numbers) <= {None, 0, 1}:
        made = fitted(table, types, DIALECT)
        assert made.schema == kept_as(table.schema, types)
        assert made.column("x").to_pylist() == [None if one is None else bool(one) for one in numbers]
        return
    with pytest.raises(PostHogLoadError):
        fitted(table, types, DIALECT)


@pytest.mark.parametrize(
    "sql_type", ["text[]", "text [3]", "TEXT ARRAY", "int[][]", "STRUCT(a int)", "map(text)", "list"]
)
def test_a_type_of_arrays_is_refused_with_what_to_write(sql_type: str) -> None:
    with pytest.raises(PostHogSettingsError, match=r"array or structure .*which comes as JSON text.*'jsonb'"):
        replacing(column_types={"tags": sql_type})
    assert sql_family(sql_type) == "nested"


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_uuids_are_uuids_where_that_is_asked_for(known: Database, write: Any) -> None:
    for count in (2, 3):
        known.load(write(column_types={"uuid": "uuid"}), events(count))
    found = [row[0] for row in known.rows("SELECT uuid FROM events ORDER BY uuid")]
    assert [UUID(str(one)) for one in found] == [UUID(one) for one in events(3).column("uuid").to_pylist()]
