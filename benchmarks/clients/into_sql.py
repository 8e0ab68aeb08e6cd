"""One way of loading events: ``python -m benchmarks.clients.into_sql WAY FOLDER ROWS SOCKET``.

Prints how long the loading took, without imports and without what was made ready for it, and how many rows are there.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

WAY, FOLDER, ROWS, SOCKET = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
BATCH = 10_000
START = datetime(2026, 11, 1, tzinfo=timezone.utc)
NAMES = ["uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties"]
TIMES = ("timestamp", "created_at")
_COLUMNS = (
    "uuid text, event text, distinct_id text, person_id text, timestamp timestamp with time zone, "
    "created_at timestamp with time zone, properties text"
)
_COPY = "COPY events FROM STDIN WITH (FORMAT csv, HEADER)"


def files() -> dict[str, float]:
    """Write the events, as Arrow and as CSV."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    from benchmarks import fake_events
    from benchmarks.fake_events import iso

    few = fake_events.Events(BATCH)
    begin = (START - fake_events.START) // timedelta(microseconds=1)
    rows = json.loads(b"[" + bytes(few.rows.cut(0, len(few))) + b"]")
    texts = {name: pa.array(column, pa.string()) for name, column in zip(NAMES, zip(*rows, strict=True), strict=True)}
    csv = pa_csv.CSVWriter(str(FOLDER / "events.csv"), pa.schema([(name, pa.string()) for name in NAMES]))
    writer: Any = None
    for first in range(0, ROWS, BATCH):
        count = min(BATCH, ROWS - first)
        columns = {name: column.slice(0, count) for name, column in texts.items()}
        numbers = range(first, first + count)
        columns["uuid"] = pa.array([f"{number:08x}-0000-7000-8000-000000000000" for number in numbers])
        for name in TIMES:
            columns[name] = pa.array([iso(begin + number * 1000) for number in numbers])
        csv.write(pa.table(columns))
        for name in TIMES:
            columns[name] = columns[name].cast(pa.timestamp("us", "UTC"))
        table = pa.table(columns)
        writer = writer or pa.ipc.new_file(str(FOLDER / "events.arrow"), table.schema)
        writer.write(table)
    writer.close()
    csv.close()
    return {"rows": ROWS}


def _tables() -> Iterator[Any]:
    import pyarrow as pa

    left = ROWS
    with pa.OSFile(str(FOLDER / "events.arrow")) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            if left <= 0:
                return
            table = pa.Table.from_batches([reader.get_batch(number)]).slice(0, left)
            left -= table.num_rows
            yield table


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _ours(loader_of: Callable[[Any, Any], Any], connection: Any) -> dict[str, float]:  # noqa: ANN401
    from airflow_provider_posthog.load.target import Target

    target = Target("events", "replace_interval", by="created_at", start=START, end=START + timedelta(days=1))
    first = next(_tables())
    import pyarrow.compute  # noqa: F401 - an import, not a part of loading

    def work() -> None:
        with loader_of(connection, target) as loader:
            loader.open(first.schema)
            for table in _tables():
                loader.write(table)
            loader.commit()

    return _timed(work)


def _rows() -> list[tuple[Any, ...]]:
    """Return rows as Python objects, as whoever parses JSON has them."""
    return [tuple(row.values()) for table in _tables() for row in table.to_pylist()]


def _insert_rows(connect: Callable[[], Any], mark: str) -> dict[str, float]:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    class Hook(DbApiHook):
        """Airflow's own way, with this connection."""

        conn_name_attr = "conn_id"
        default_conn_name = "bench"
        supports_autocommit = False
        placeholder = mark

        def get_conn(self) -> Any:  # noqa: ANN401
            return connect()

        @property
        def dialect_name(self) -> str:
            return "default"  # a provider's hook would ask its connection

    rows = _rows()
    os.environ["AIRFLOW_CONN_BENCH"] = '{"conn_type": "generic"}'
    hook = Hook(conn_id="bench")
    hook.insert_rows("events", rows[:1], NAMES)  # what is imported on first use
    return _timed(lambda: hook.insert_rows("events", rows[1:], NAMES))


def _postgres() -> Any:  # noqa: ANN401 - a connection
    return importlib.import_module("psycopg2").connect(host=SOCKET, user="postgres", dbname="postgres")


def _made(index: bool = True) -> None:
    with closing(_postgres()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE events ({_COLUMNS})")
        if index:
            cursor.execute("CREATE INDEX ON events (created_at)")


def postgres_ours() -> dict[str, float]:
    """Load by this provider."""
    from airflow_provider_posthog.load import copy_binary  # noqa: F401 - imported when it is used first
    from airflow_provider_posthog.load.postgres import PostgresLoader

    return _ours(PostgresLoader, _postgres())


def postgres_merge() -> dict[str, float]:
    """Merge rows by their key that are all there as they are: nothing is to be written."""
    from airflow_provider_posthog.load import copy_binary  # noqa: F401 - imported when it is used first
    from airflow_provider_posthog.load.postgres import PostgresLoader
    from airflow_provider_posthog.load.target import Target

    first = next(_tables())

    def merge() -> None:
        with PostgresLoader(_postgres(), Target("events", "merge", key=("uuid",))) as loader:
            loader.open(first.schema)
            for table in _tables():
                loader.write(table)
            loader.commit()

    merge()
    with closing(_postgres()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT max(xmin::text::bigint) FROM events")
        made_by = cursor.fetchone()[0]
    found = _timed(merge)
    with closing(_postgres()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT count(*) FROM events WHERE xmin::text::bigint <> {made_by} OR xmax <> 0")
        if touched := cursor.fetchone()[0]:
            raise SystemExit(f"{touched:,} rows were written or locked that had not changed")
    return found


def postgres_copy(index: bool = True) -> dict[str, float]:
    r"""Do what psql's ``\copy`` does."""
    _made(index)

    def work() -> None:
        with closing(_postgres()) as connection, (FOLDER / "events.csv").open("rb") as file:
            connection.cursor().copy_expert(_COPY, file, 1024 * 1024)
            connection.commit()

    return _timed(work)


def postgres_copy_bare() -> dict[str, float]:
    """Do the same, into a table without an index."""
    return postgres_copy(index=False)


def postgres_to_sql() -> dict[str, float]:
    """Load by pandas and SQLAlchemy."""
    import pyarrow as pa
    import sqlalchemy

    _made()
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://postgres@/postgres?host={SOCKET}")
    frame = pa.concat_tables(_tables()).to_pandas()
    return _timed(lambda: frame.to_sql("events", engine, if_exists="append", index=False, chunksize=BATCH))


def postgres_insert_rows() -> dict[str, float]:
    """Load by Airflow's hook."""
    _made()
    return _insert_rows(_postgres, "%s")


def _duckdb() -> Any:  # noqa: ANN401 - a connection
    import duckdb

    return duckdb.connect(str(FOLDER / "events.duckdb"))


def duckdb_ours() -> dict[str, float]:
    """Load by this provider."""
    from airflow_provider_posthog.load.duckdb import DuckDBLoader

    return _ours(DuckDBLoader, _duckdb())


def duckdb_copy() -> dict[str, float]:
    """Load by DuckDB's own COPY."""
    with _duckdb() as connection:
        connection.execute(f"CREATE TABLE events ({_COLUMNS})")
        path = str(FOLDER / "events.csv")
        return _timed(lambda: connection.execute(f"COPY events FROM '{path}' (FORMAT csv, HEADER)"))


def duckdb_insert_rows() -> dict[str, float]:
    """Load by Airflow's hook."""
    connection = _duckdb()
    connection.execute(f"CREATE TABLE events ({_COLUMNS})")
    return _insert_rows(connection.cursor, "?")


def _there() -> int:
    connect = _postgres if WAY.startswith("postgres") else _duckdb
    with closing(connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM events")
        return int(cursor.fetchone()[0])


WAYS: dict[str, Callable[[], dict[str, float]]] = {
    way.__name__: way
    for way in (
        postgres_ours,
        postgres_merge,
        postgres_copy,
        postgres_copy_bare,
        postgres_to_sql,
        postgres_insert_rows,
        duckdb_ours,
        duckdb_copy,
        duckdb_insert_rows,
    )
}

if __name__ == "__main__":
    if WAY == "files":
        print(json.dumps(files()))
    else:
        found = WAYS[WAY]()
        print(json.dumps({**found, "rows": _there()}))
