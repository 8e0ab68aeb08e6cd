"""DuckDB's own ways."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.load.databases import DuckDB, appending, events, merging, replacing


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
