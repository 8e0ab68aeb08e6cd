"""What SQLite, and databases that are only known by their driver, do to values and keys."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.generic import SQLITE, GenericLoader
from tests.load.databases import (
    DAY,
    SCHEMA,
    START,
    Postgres,
    SQLite,
    Standard,
    appending,
    events,
    merging,
    replacing,
)


@pytest.mark.parametrize("sql_type", ["STRING", "name", "enum", "FOO", "integer", "numeric", "CHARINT"])
def test_a_text_is_not_put_where_sqlite_makes_a_number_of_it(sqlite: SQLite, sql_type: str) -> None:
    """'007' would be 7."""
    sqlite.run(f"CREATE TABLE events (uuid text, event {sql_type}, created_at timestamp, properties text)")
    with pytest.raises(PostHogSettingsError, match="'event' as string"):
        sqlite.load(merging(), events(1, event="007"))


@pytest.mark.parametrize("sql_type", ["VARCHAR(20)", "nchar(9)", "clob", "text", ""])
def test_a_text_that_looks_like_a_number_stays_a_text(sqlite: SQLite, sql_type: str) -> None:
    sqlite.run(f"CREATE TABLE events (uuid UUID, event {sql_type}, created_at timestamp, properties JSON)")
    sqlite.load(merging(), events(1, event="007"))
    assert sqlite.rows("SELECT event FROM events") == [("007",)]


@pytest.mark.parametrize(("precision", "refused"), [(15, False), (16, True)])
def test_decimals_that_sqlite_would_round_are_refused(sqlite: SQLite, precision: int, refused: bool) -> None:
    sqlite.run("CREATE TABLE t (id text, d numeric)")
    digits = "1234567890123456"[:precision]
    value = pa.array([Decimal(f"0.{digits}")], pa.decimal128(precision, precision))
    table = pa.table({"id": ["a"], "d": value})
    if refused:
        with pytest.raises(PostHogSettingsError, match="'d' as decimal"):
            sqlite.load(merging("t", ("id",)), table)
        return
    sqlite.load(merging("t", ("id",)), table)
    assert sqlite.rows("SELECT d FROM t") == [(float(f"0.{digits}"),)]


def test_numbers_beyond_sqlites_are_refused_not_rounded(sqlite: SQLite) -> None:
    sqlite.run("CREATE TABLE t (id text, n integer)")
    largest = pa.table({"id": ["a"], "n": pa.array([2**63 - 1], pa.uint64())})
    sqlite.load(merging("t", ("id",)), largest)
    assert sqlite.rows("SELECT n, typeof(n) FROM t") == [(2**63 - 1, "integer")]
    beyond = largest.set_column(1, "n", pa.array([2**63], pa.uint64()))
    with pytest.raises(PostHogLoadError, match="'n' holds a number above"):
        sqlite.load(merging("t", ("id",)), beyond)
    assert sqlite.rows("SELECT n FROM t") == [(2**63 - 1,)]


@pytest.mark.parametrize("sql_type", ["integer", "text", "numeric"])
def test_a_key_of_big_numbers_is_found_again(sqlite: SQLite, sql_type: str) -> None:
    """Also in a table without a unique index, where it would be doubled."""
    sqlite.run(f"CREATE TABLE t (id {sql_type}, n text)")
    table = pa.table({"id": pa.array([1, 2], pa.uint64()), "n": ["a", "b"]})
    for inserted in (2, 0):
        loaded = sqlite.load(appending("t", ("id",)), table)
        assert (loaded.rows, loaded.inserted) == (2, inserted)
    assert sqlite.count("t") == 2


@pytest.mark.parametrize(("sql_type", "precision"), [("numeric", 15), ("text", 30)])
def test_a_key_of_decimals_is_found_again(sqlite: SQLite, sql_type: str, precision: int) -> None:
    sqlite.run(f"CREATE TABLE t (id {sql_type}, n text)")
    digits = ["0.1" + "0" * (precision - 5) + end for end in ("00", "01", "02")]
    ids = pa.array([Decimal(one) for one in digits], pa.decimal128(precision, precision - 1))
    table = pa.table({"id": ids, "n": ["a", "b", "c"]})
    for inserted in (3, 0):
        assert sqlite.load(appending("t", ("id",)), table).inserted == inserted
    assert sqlite.load(merging("t", ("id",)), table).unchanged == 3
    assert sqlite.count("t") == 3


@pytest.mark.parametrize("write", [merging, appending])
def test_keys_that_the_database_takes_for_one_are_refused(sqlite: SQLite, write: Any) -> None:
    """As MySQL's and SQL Server's usual collations do: the second would replace the first."""
    sqlite.run("CREATE TABLE t (k text COLLATE NOCASE, n integer)")
    rows = [pa.table({"k": [key], "n": [number]}) for number, key in enumerate(["Acme", "acme"])]
    for tables in ([rows[0], rows[1]], rows[:1]):
        with (
            pytest.raises(PostHogLoadError, match="binary collation") if len(tables) == 2 else closing(sqlite.connect())
        ):
            sqlite.load(write("t", ("k",)), *tables)
    assert sqlite.rows("SELECT k, n FROM t") == [("Acme", 0)]


def test_rows_of_a_key_that_are_there_twice_are_noticed(sqlite: SQLite) -> None:
    sqlite.run("CREATE TABLE t (k text, n integer)", "INSERT INTO t VALUES ('a', 1), ('a', 2)")
    table = pa.table({"k": ["a"], "n": [3]})
    with pytest.raises(Exception, match="2 of the keys, but 1"):
        sqlite.load(appending("t", ("k",)), table)
    assert sqlite.load(merging("t", ("k",)), table).changed == 1
    assert sqlite.rows("SELECT k, n FROM t") == [("a", 3)]


@pytest.fixture
def in_new_york(postgres: Postgres) -> Iterator[Standard]:
    postgres.run("ALTER DATABASE postgres SET timezone TO 'America/New_York'")
    yield Standard(postgres)
    postgres.run("ALTER DATABASE postgres RESET timezone")


def test_a_key_of_times_is_found_again_whatever_the_session_s_zone(in_new_york: Standard) -> None:
    for inserted in (3, 0):
        assert in_new_york.load(merging(key=("uuid", "created_at")), events(3)).inserted == inserted
    assert in_new_york.count() == 3


def test_an_interval_of_times_without_a_zone_is_utc_whatever_the_session_s_zone(in_new_york: Standard) -> None:
    schema = pa.schema([("at", pa.timestamp("us")), ("n", pa.int64())])

    def load(number: int) -> Any:
        start = START + number * DAY
        with in_new_york.loader(replacing("t", start, start + DAY, by="at")) as loader:
            loader.open(schema)
            hours = [(start + timedelta(hours=hour)).replace(tzinfo=None) for hour in (0, 3, 23)]
            loader.write(pa.table([hours, [number] * 3], schema))
            return loader.commit()

    assert [load(number).deleted for number in (0, 1, 2, 1)] == [0, 0, 0, 3]
    assert sorted(row[0] for row in in_new_york.rows("SELECT n FROM t")) == [0] * 3 + [1] * 3 + [2] * 3


def _plain(sqlite: SQLite) -> Any:
    return sqlite3.connect(sqlite.path, isolation_level=None)


def _newer(sqlite: SQLite) -> Any:
    connection = sqlite3.connect(sqlite.path)
    connection.autocommit = True  # type: ignore[attr-defined, unused-ignore]
    return connection


@pytest.mark.parametrize(
    "connect",
    [_plain, pytest.param(_newer, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12's"))],
)
def test_a_connection_in_autocommit_is_taken_out_of_it(sqlite: SQLite, connect: Any) -> None:
    sqlite.load(replacing(), events(5))
    with GenericLoader(connect(sqlite), replacing(), SQLITE) as loader:
        loader.open(SCHEMA)
        loader.write(events(2, first=50))
    assert sqlite.count() == 5
    with GenericLoader(connect(sqlite), replacing(), SQLITE) as loader:
        loader.open(SCHEMA)
        loader.write(events(2, first=50))
        loader.commit()
    assert sqlite.count() == 2


def test_a_connection_that_stays_in_autocommit_is_refused(sqlite: SQLite) -> None:
    class Stubborn(sqlite3.Connection):
        @property
        def autocommit(self) -> bool:  # type: ignore[override, unused-ignore]
            return True

        @autocommit.setter
        def autocommit(self, value: bool) -> None:
            pass

    connection = sqlite3.connect(sqlite.path, factory=Stubborn)
    with (
        pytest.raises(PostHogSettingsError, match="autocommit"),
        GenericLoader(connection, replacing(), SQLITE) as loader,
    ):
        loader.open(SCHEMA)
