"""DuckDB's own ways."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError
from tests.load.databases import DAY, SCHEMA, START, DuckDB, appending, events, merging, replacing


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_a_primary_key_of_the_users_own(duck: DuckDB, write: Any) -> None:
    duck.run(
        "CREATE TABLE events (uuid UUID PRIMARY KEY, event ENUM ('click', 'view'), created_at TIMESTAMPTZ, "
        "properties JSON, loaded TIMESTAMPTZ DEFAULT now())"
    )
    for count in (10, 12, 12):
        duck.load(write(), events(count - 5), events(5, first=count - 5))
    assert duck.count() == 12
    assert duck.count(where="properties ->> 'n' = '3'") == 1


@pytest.mark.parametrize("schema", ["main", '"My %s"'])
def test_a_row_that_a_foreign_key_refers_to_is_changed_by_a_merge(duck: DuckDB, schema: str) -> None:
    duck.run(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    duck.run(
        f"CREATE TABLE {schema}.Events (uuid VARCHAR PRIMARY KEY, event VARCHAR, created_at TIMESTAMPTZ, "
        "properties VARCHAR)"
    )
    duck.load(merging(f"{schema}.events"), events(3))
    duck.run(
        f"CREATE TABLE {schema}.sales (uuid VARCHAR REFERENCES {schema}.events (uuid))",
        f"INSERT INTO {schema}.sales SELECT uuid FROM {schema}.events",
    )
    loaded = duck.load(merging(f"{schema}.events"), events(4, event="view"))
    assert (loaded.changed, loaded.inserted) == (3, 1)
    assert duck.count(f"{schema}.events", "event = 'view'") == 4


def test_schemas_and_databases(duck: DuckDB) -> None:
    duck.run("CREATE SCHEMA analytics")
    duck.load(merging("analytics.events"), events(2))
    duck.load(merging("warehouse.analytics.EVENTS"), events(3))
    duck.load(replacing("Events"), events(1))
    assert duck.count("analytics.events") == 3
    assert duck.count("main.events") == 1
    assert duck.rows("SELECT count(*) FROM duckdb_tables()") == [(2,)]


@pytest.mark.parametrize("write", [replacing, merging])
def test_the_memory_of_a_load_does_not_grow_with_it(duck: DuckDB, write: Any) -> None:
    """Arrow's of no batch is kept, and what is not committed goes to the disk."""
    connection = duck.connect()
    connection.execute("SET memory_limit = '80MB'; SET threads = 1")
    seen = []
    with duck.loader_of(connection, write()) as loader:
        loader.open(events(0).schema)
        for number in range(12):
            table = events(5_000, first=number * 5_000)
            # 8 MB that compress badly
            texts = [f"{hash((number, at)):x}" * 100 for at in range(5_000)]
            loader.write(table.set_column(3, "properties", [texts]))
            del table, texts
            seen.append(pa.total_allocated_bytes())
        loader.commit()
    assert max(seen) < seen[0] + 20_000_000
    assert duck.count() == 60_000


def test_the_first_part_of_a_name_can_be_the_database(duck: DuckDB) -> None:
    duck.run("CREATE SCHEMA Analytics")
    for table in (
        "Warehouse.events",
        "warehouse.events",
        "warehouse.main.Events",
        "analytics.events",
        "ANALYTICS.events",
    ):
        duck.load(replacing(table), events(2))
    assert duck.count() == duck.count("analytics.events") == 2
    assert duck.rows("SELECT count(*) FROM duckdb_tables()") == [(2,)]


@pytest.mark.parametrize("write", [replacing, merging])
def test_times_without_a_zone_are_utc_whatever_the_session_s_zone(duck: DuckDB, write: Any) -> None:
    duck.run("CREATE TABLE events (uuid text, event text, created_at TIMESTAMP, properties text)")
    for _ in range(2):
        connection = duck.connect()
        connection.execute("SET TimeZone = 'America/New_York'")
        with duck.loader_of(connection, write()) as loader:
            loader.open(events(0).schema)
            loader.write(events(1))
            loader.commit()
    assert duck.rows("SELECT created_at FROM events") == [(START.replace(tzinfo=None),)]


def test_the_last_of_two_rows_stays_whatever_order_duckdb_keeps(duck: DuckDB) -> None:
    connection = duck.connect()
    connection.execute("SET preserve_insertion_order = false; SET threads = 4")
    count = 300_000
    texts = pa.array([f"{number % 1000}" for number in range(count)])
    table = pa.table({"uuid": texts, "n": pa.array(range(count), pa.int64())})
    with duck.loader_of(connection, merging()) as loader:
        loader.open(table.schema)
        loader.write(table.slice(0, 1000))
        loader.write(table.slice(1000))
        loader.commit()
    assert duck.rows("SELECT count(*), min(n) FROM events") == [(1000, count - 1000)]


@pytest.mark.parametrize("write", [replacing, merging])
@pytest.mark.parametrize(
    ("limit", "meanwhile"), [("4GiB", "512.0 MiB"), ("300MiB", "300.0 MiB"), ("2048000TiB", "512.0 MiB")]
)
def test_memory_is_bounded_while_rows_come(duck: DuckDB, write: Any, limit: str, meanwhile: str) -> None:
    """What is not committed would stay in memory, up to the limit, which is most of the machine's."""
    other = duck.connect()
    other.execute(f"SET memory_limit = '{limit}'")
    before = limit_of(other)
    with duck.loader(write()) as loader:
        loader.open(events(0).schema)
        loader.write(events(5))
        assert limit_of(other) == meanwhile
        loader.commit()
        assert limit_of(other) == before
    with duck.loader(write()) as loader:
        loader.open(events(0).schema)
        assert limit_of(other) == meanwhile
    assert limit_of(other) == before


def test_an_index_may_take_all_memory(duck: DuckDB) -> None:
    duck.run(
        "CREATE TABLE events (uuid text PRIMARY KEY, event text, created_at timestamptz, properties text)",
        "CREATE SCHEMA other; CREATE TABLE other.events AS FROM events",
    )
    connection = duck.connect()
    before = limit_of(connection)
    for table, bounded in (("events", False), ("other.events", True)):
        with duck.loader(merging(table)) as loader:
            loader.open(events(0).schema)
            assert (limit_of(connection) != before) is bounded


def limit_of(connection: Any) -> str:
    return str(connection.execute("SELECT current_setting('memory_limit')").fetchone()[0])


def test_rows_of_a_key_that_are_there_twice_are_noticed(duck: DuckDB) -> None:
    duck.run("CREATE TABLE t (k text, n bigint)", "INSERT INTO t VALUES ('a', 1), ('a', 2)")
    table = pa.table({"k": ["a"], "n": [3]})
    with pytest.raises(PostHogIncompleteError, match="2 of the keys, but 1"):
        duck.load(appending("t", ("k",)), table)
    assert duck.load(merging("t", ("k",)), table).changed == 1
    assert duck.rows("SELECT k, n FROM t") == [("a", 3)]


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_of_two_loads_that_only_add_rows_one_is_refused(duck: DuckDB, write: Any) -> None:
    """In one process; DuckDB would take both, as neither sees the other's rows."""
    duck.load(replacing(start=START - DAY, end=START), events(3, start=START - DAY, first=90))
    duck.run("COMMENT ON TABLE events IS 'it''s ours'")
    first, second = duck.loader(write()), duck.loader(write())
    with first, second:
        for loader in (first, second):
            loader.open(SCHEMA)
            loader.write(events(5))
        first.commit()
        with pytest.raises(PostHogLoadError, match="onflict"):
            second.commit()
    assert duck.count() == 8
    assert duck.rows("SELECT comment FROM duckdb_tables() WHERE table_name = 'events'") == [("it's ours",)]
    duck.load(write(), events(5))
    assert duck.count() == 8
