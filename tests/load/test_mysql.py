"""MySQL's dialect, spoken to a database that stands in for it: SQLite, which reads backticks, too.

It keeps what MySQL does about names, placeholders, sessions and collations. What MySQL makes of values
it does not show.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.generic import MYSQL, GenericLoader
from tests.load.databases import SCHEMA, START, SQLite, appending, events, merging, replacing


class _Cursor:
    """A cursor with %s for values and MySQL's words."""

    def __init__(self, connection: _MySQL) -> None:
        self._connection = connection
        self._cursor = connection.lite.cursor()

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> None:
        self._connection.said.append(statement)
        if statement.startswith("SET "):
            return
        if "information_schema" in statement:
            asked = re.search(r"table_name = (%s) AND table_schema = coalesce\((%s), database\(\)\)", statement)
            assert asked
            kind = (
                "SELECT name, type, coalesce(dflt_value, 'NULL') <> 'NULL' OR hidden > 0 FROM pragma_table_xinfo(?, ?)"
            )
            assert values is not None
            self._cursor.execute(kind, values)
            return
        self._cursor.execute(_translated(statement, values), [_bound(value) for value in values or ()])

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.said.append(statement)
        self._cursor.executemany(_translated(statement, rows), [[_bound(value) for value in row] for row in rows])

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def close(self) -> None:
        self._cursor.close()


class _MySQL:
    """A connection as mysqlclient's: ``autocommit`` is a function, and errors are its attributes."""

    Error = sqlite3.Error

    def __init__(self, path: Any) -> None:
        self.lite = sqlite3.connect(path)
        self.said: list[str] = []

    def autocommit(self, on: bool) -> None:
        raise AssertionError(on)

    def cursor(self) -> _Cursor:
        return _Cursor(self)

    def commit(self) -> None:
        self.lite.commit()

    def rollback(self) -> None:
        self.lite.rollback()

    def close(self) -> None:
        self.lite.close()


def _translated(statement: str, values: Any) -> str:
    # Collations of MySQL's that are not told ignore case.
    statement = statement.replace("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "COLLATE BINARY")
    statement = re.sub(r"VARCHAR\(255\)(?! COLLATE)", "VARCHAR(255) COLLATE NOCASE", statement)
    statement = statement.replace("LONGTEXT CHARACTER SET utf8mb4", "LONGTEXT COLLATE NOCASE")
    assert "utf8mb4" not in statement
    if not values:
        return statement
    return re.sub("%(.)", lambda found: {"s": "?", "%": "%"}[found[1]], statement)


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        assert value.tzinfo is None, "MySQL's drivers leave the zone out"
    return str(value) if isinstance(value, (datetime, date, Decimal)) else value


class MySQL(SQLite):
    """The stand-in."""

    def loader(self, target: Any) -> GenericLoader:
        self.connection = _MySQL(self.path)
        return GenericLoader(self.connection, target, MYSQL, "%s")


@pytest.fixture
def mysql(sqlite: SQLite) -> MySQL:
    return MySQL(sqlite.path)


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_loads_can_be_repeated(mysql: MySQL, write: Any) -> None:
    for count in (1_500, 1_500, 1_501):
        mysql.load(write(), events(count))
    assert mysql.count() == 1_501
    assert mysql.rows("SELECT min(created_at) FROM events") == [(START.strftime("%Y-%m-%d %H:%M:%S"),)]


def test_only_the_interval_is_replaced(mysql: MySQL) -> None:
    edge = timedelta(microseconds=1)
    for number, moment in enumerate((START - edge, START, START + edge)):
        mysql.load(replacing(start=moment, end=moment + edge), events(1, first=number, start=moment))
    assert mysql.load(replacing(start=START, end=START + edge), events(1, first=9)).deleted == 1
    assert [uuid[-1] for uuid in mysql.uuids()] == ["0", "2", "9"]


def test_the_session_refuses_what_mysql_would_change(mysql: MySQL) -> None:
    mysql.load(replacing(), events(1))
    said = mysql.connection.said
    assert said.index("SET time_zone = '+00:00'") < said.index(next(one for one in said if one.startswith("CREATE")))
    assert any(one.startswith("SET sql_mode = ") and "STRICT_ALL_TABLES" in one for one in said)


def test_keys_that_differ_in_case_are_two(mysql: MySQL) -> None:
    rows = [pa.table({"key": [key], "n": [number]}) for number, key in enumerate(["Acme", "acme"])]
    mysql.load(merging("groups", ("key",)), *rows)
    assert sorted(mysql.rows("SELECT `key`, n FROM `groups`")) == [("Acme", 0), ("acme", 1)]
    mysql.run("CREATE TABLE own (`key` text COLLATE NOCASE, n integer)")
    with pytest.raises(PostHogLoadError, match="binary collation"):
        mysql.load(merging("own", ("key",)), *rows)


def test_names_are_only_names(mysql: MySQL) -> None:
    named = events(2).rename_columns(["100% 'x' %s", "a`b", "group", 'q"'])
    for _ in range(2):
        mysql.load(merging('"odd `table` %s"', ("100% 'x' %s", "a`b")), named)
    assert mysql.count('"odd `table` %s"') == 2
    assert mysql.columns('"odd `table` %s"') == named.column_names


def test_a_column_without_a_default_is_missed(mysql: MySQL) -> None:
    mysql.load(merging(), events(1))
    mysql.run("ALTER TABLE events ADD COLUMN more text DEFAULT NULL")
    with pytest.raises(PostHogSettingsError, match="'more' is not among"):
        mysql.load(merging(), events(1))
    mysql.run("ALTER TABLE events DROP COLUMN more", "ALTER TABLE events ADD COLUMN more text DEFAULT 'x'")
    mysql.load(merging(), events(2))
    assert mysql.connection.said[2].startswith("SELECT column_name, column_type, coalesce(column_default, 'NULL')")


def test_floats_of_32_bits_are_refused(mysql: MySQL) -> None:
    table = events(1).append_column("x", pa.array([0.1]))
    with pytest.raises(PostHogSettingsError, match="column_types"):
        mysql.load(merging(column_types={"x": "float"}), table)
    mysql.load(merging(column_types={"x": "double"}), table)
    assert mysql.columns() == [*SCHEMA.names, "x"]
