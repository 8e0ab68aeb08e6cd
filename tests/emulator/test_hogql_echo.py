"""The texts PostHog answers beside the rows: ``hogql``, ``clickhouse``, column names and types.

The expected texts are answers of a PostHog server of October 2024, word for word.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_posthog.emulator.data.warehouse import Warehouse

SETTINGS = (
    " SETTINGS readonly=2, max_execution_time=60, allow_experimental_object_type=1, format_csv_allow_double_quotes=0, "
    "max_ast_elements=4000000, max_expanded_ast_elements=4000000, max_bytes_before_external_group_by=0"
)
PERSON = "01a20104-0ea3-0000-377d-bff1b95c70a4"


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(events=0, newer_functions=False)
    moment = datetime(2026, 11, 21, 22, 9, 32, 852556, timezone.utc)
    house.insert_events(
        {
            "uuid": f"00000000-0000-4000-8000-{number:012d}",
            "event": "$pageview" if number < 24 else "signed up",
            "distinct_id": "user-4" if number < 3 else "user-5",
            "person_id": PERSON if number < 3 else "01a20104-0000-0000-0000-bff1b95c70a4",
            "timestamp": moment - timedelta(hours=number),
            "created_at": moment,
            "properties": {"$current_url": "https://example.invalid/0", "n": number},
        }
        for number in range(36)
    )
    yield house
    house.close()


def test_grouped_events(warehouse: Warehouse) -> None:
    result = warehouse.query("select event, count() from events group by event order by event")
    assert result.hogql == (
        "SELECT\n    event,\n    count()\nFROM\n    events\nGROUP BY\n    event\nORDER BY\n    event ASC\n"
        "LIMIT 101\nOFFSET 0"
    )
    assert result.clickhouse == (
        "SELECT\n    events.event AS event,\n    count()\nFROM\n    events\nWHERE\n    equals(events.team_id, 1)\n"
        "GROUP BY\n    events.event\nORDER BY\n    events.event ASC\nLIMIT 101\nOFFSET 0" + SETTINGS
    )
    assert result.columns == ["event", "count()"]
    assert result.types == [("event", "String"), ("count()", "UInt64")]
    assert result.rows == [["$pageview", 24], ["signed up", 12]]
    assert (result.has_more, result.limit, result.offset, result.timezone) == (False, 100, 0, "UTC")


def test_one(warehouse: Warehouse) -> None:
    result = warehouse.query("select 1")
    assert result.hogql == "SELECT\n    1\nLIMIT 101\nOFFSET 0"
    assert result.clickhouse == "SELECT\n    1\nLIMIT 101\nOFFSET 0" + SETTINGS
    assert (result.columns, result.types, result.rows) == (["1"], [("1", "UInt8")], [[1]])


def test_aliases(warehouse: Warehouse) -> None:
    result = warehouse.query("select event, count() as n from events group by event order by n desc")
    assert result.hogql == (
        "SELECT\n    event,\n    count() AS n\nFROM\n    events\nGROUP BY\n    event\nORDER BY\n    n DESC\n"
        "LIMIT 101\nOFFSET 0"
    )
    assert result.types == [("event", "String"), ("n", "UInt64")]


def test_lists_and_times(warehouse: Warehouse) -> None:
    result = warehouse.query("select count(), max(timestamp) from events where distinct_id in {l}", {"l": ["user-4"]})
    assert result.hogql == (
        "SELECT\n    count(),\n    max(timestamp)\nFROM\n    events\nWHERE\n    in(distinct_id, ['user-4'])\n"
        "LIMIT 101\nOFFSET 0"
    )
    assert result.clickhouse == (
        "SELECT\n    count(),\n    max(toTimeZone(events.timestamp, %(hogql_val_0)s))\nFROM\n    events\nWHERE\n"
        "    and(equals(events.team_id, 1), in(events.distinct_id, %(hogql_val_1)s))\nLIMIT 101\nOFFSET 0" + SETTINGS
    )
    assert result.columns == ["count()", "max(timestamp)"]
    assert result.types == [("count()", "UInt64"), ("max(toTimeZone(timestamp, 'UTC'))", "DateTime64(6, 'UTC')")]
    assert result.rows == [[3, "2026-11-21T22:09:32.852556Z"]]


def test_values_are_numbered_once(warehouse: Warehouse) -> None:
    result = warehouse.query("select {a} as a from events where lower(event) != upper({b}) or properties.$os like {c}",
        {"a": "x", "b": "y", "c": "z"},
    )  # fmt: skip
    assert "(%(hogql_val_0)s AS a" in result.clickhouse.replace("SELECT\n    ", "(")
    assert "ifNull(notEquals(lower(events.event), upper(%(hogql_val_1)s)), isNotNull(lower(events.event)) or " in (
        result.clickhouse
    )
    assert [f"hogql_val_{number})" in result.clickhouse for number in range(5)] == [True, True, True, True, False]


def test_persons_of_events(warehouse: Warehouse) -> None:
    result = warehouse.query("select count(), max(timestamp) from events where person_id = {u}", {"u": PERSON})
    assert result.hogql == (
        f"SELECT\n    count(),\n    max(timestamp)\nFROM\n    events\nWHERE\n    equals(person_id, '{PERSON}')\n"
        "LIMIT 101\nOFFSET 0"
    )
    assert result.rows == [[3, "2026-11-21T22:09:32.852556Z"]]


def test_persons(warehouse: Warehouse) -> None:
    result = warehouse.query("select id from persons where id = {u}", {"u": PERSON})
    assert result.hogql == f"SELECT\n    id\nFROM\n    persons\nWHERE\n    equals(id, '{PERSON}')\nLIMIT 101\nOFFSET 0"
    assert (result.columns, result.types, result.rows) == (["id"], [("id", "UUID")], [])


def test_nested_queries_are_indented(warehouse: Warehouse) -> None:
    result = warehouse.query(
        "select sum(total) as count, day_start from (select count() as total, toStartOfDay(timestamp) as day_start "
        "from events as e sample 1 where timestamp >= toDateTime('2026-11-15 00:00:00') and event = '$pageview' "
        "group by day_start) group by day_start order by day_start asc limit 50000"
    )
    assert result.hogql == (
        "SELECT\n    sum(total) AS count,\n    day_start\nFROM\n    (SELECT\n        count() AS total,\n"
        "        toStartOfDay(timestamp) AS day_start\n    FROM\n        events AS e SAMPLE 1\n    WHERE\n"
        "        and(greaterOrEquals(timestamp, toDateTime('2026-11-15 00:00:00')), equals(event, '$pageview'))\n"
        "    GROUP BY\n        day_start)\nGROUP BY\n    day_start\nORDER BY\n    day_start ASC\nLIMIT 50000"
    )
    assert sum(int(str(row[0])) for row in result.rows) == 24


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("properties.$browser", "$browser"),
        ("properties.a.b", "a__b"),
        ("person.properties.email", "email"),
        ("events.event", "event"),
        ("`event`", "event"),
        ('"event"', "event"),
        ("count(*)", "count(*)"),
        ("COUNT(DISTINCT event)", "COUNT(DISTINCT event)"),
        ("event = 'x' and not uuid = 'y'", "and(equals(event, 'x'), not(equals(uuid, 'y')))"),
        ("quantile(0.5)(1)", "quantile(0.5)(1)"),
        ("event is not null", "notEquals(event, NULL)"),
        ("-1.5", "-1.5"),
        ("true", "true"),
    ],
)
def test_column_names(warehouse: Warehouse, column: str, name: str) -> None:
    query = f"select {column} from events where uuid = '00000000-0000-4000-8000-000000000000'"
    assert warehouse.query(query.replace("'y'", f"'{PERSON}'")).columns == [name.replace("'y'", f"'{PERSON}'")]
