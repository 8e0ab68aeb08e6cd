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
        self._told: list[Any] | None = None

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> None:
        self._connection.said.append(statement)
        self._told = None
        if statement.startswith("SET "):
            return
        if "GET_LOCK" in statement:
            self._told = [(1,)]
            return
        if statement == "SELECT @@autocommit":
            self._told = [(self._connection.stays_in_autocommit,)]
            return
        if "information_schema.collations" in statement:
            self._told = [("utf8mb4_bin",), (self._connection.collation,)]
            return
        if "information_schema" in statement:
            asked = re.search(r"table_name = (%s) AND (t.)?table_schema = coalesce\((%s), database\(\)\)", statement)
            assert asked
            assert values is not None
            if "information_schema.engines" in statement:
                self._told = [self._connection.engine]
                return
            kind = (
                "SELECT name, type, coalesce(dflt_value, 'NULL'), hidden > 0, \"notnull\" = 0 "
                "FROM pragma_table_xinfo(?, ?)"
            )
            self._cursor.execute(kind, values)
            return
        self._cursor.execute(_translated(statement, values), [_bound(value) for value in values or ()])

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.said.append(statement)
        self._cursor.executemany(_translated(statement, rows), [[_bound(value) for value in row] for row in rows])

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall() if self._told is None else self._told

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
        self.stays_in_autocommit = 0
        self.collation = "utf8mb4_nopad_bin"
        self.engine = ("BASE TABLE", "InnoDB", "YES")

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
    statement = statement.replace("CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", "COLLATE BINARY")
    statement = statement.replace("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "COLLATE RTRIM")
    statement = re.sub(r"VARCHAR\((\d+)\)(?! COLLATE)", r"VARCHAR(\1) COLLATE NOCASE", statement)
    statement = statement.replace("LONGTEXT CHARACTER SET utf8mb4", "LONGTEXT COLLATE NOCASE")
    compared = re.sub(r"CAST\(CONVERT\((.*?) USING utf8mb4\) AS BINARY\)", r"CAST(\1 AS BLOB)", statement)
    statement = compared.replace("<=>", "IS")
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

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.like: dict[str, Any] = {}

    def loader(self, target: Any) -> GenericLoader:
        self.connection = _MySQL(self.path)
        for name, value in self.like.items():
            setattr(self.connection, name, value)
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
    """MariaDB says NULL in letters where there is no default."""
    mysql.load(replacing(), events(1))
    mysql.run("ALTER TABLE events ADD COLUMN more text DEFAULT NULL")
    with pytest.raises(PostHogSettingsError, match="lack the table's column 'more'"):
        mysql.load(replacing(), events(1))
    mysql.run("ALTER TABLE events DROP COLUMN more", "ALTER TABLE events ADD COLUMN more text DEFAULT 'x'")
    mysql.load(replacing(), events(2))


@pytest.mark.parametrize("write", [replacing, merging, appending])
@pytest.mark.parametrize("engine", [("BASE TABLE", "MyISAM", "NO"), ("BASE TABLE", "?", "NO"), ("VIEW", "", "NO")])
def test_an_engine_that_can_not_undo_is_refused_before_anything_is_written(
    mysql: MySQL, write: Any, engine: Any
) -> None:
    """Also that of a table which the server has just made by its default; it is not left."""
    for made in (False, True):
        mysql.like = {"engine": engine}
        with pytest.raises(PostHogSettingsError, match="half a load") as refused:
            mysql.load(write(), events(3))
        assert refused.value.field == "table"
        assert mysql.rows("SELECT count(*) FROM sqlite_master WHERE name = 'events'") == [(int(made),)]
        mysql.like = {}
        mysql.load(write(), events(2))
    assert mysql.count() == 2


def test_a_session_that_stays_in_autocommit_is_refused(mysql: MySQL) -> None:
    mysql.like = {"stays_in_autocommit": 1}
    with pytest.raises(PostHogSettingsError, match="stays in autocommit"):
        mysql.load(merging(), events(1))
    assert "SET autocommit = 0" in mysql.connection.said


@pytest.mark.parametrize(("key", "length"), [(("uuid",), 768), (("uuid", "event"), 384), (("uuid", "n"), 760)])
def test_a_text_of_a_key_is_as_long_as_its_index_can_be(mysql: MySQL, key: tuple[str, ...], length: int) -> None:
    mysql.load(merging(key=key), events(1).append_column("n", pa.array([1])))
    made = next(one for one in mysql.connection.said if one.startswith("CREATE TABLE"))
    assert made.count(f"VARCHAR({length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin") == len(
        {"uuid", "event"} & set(key)
    )


@pytest.mark.parametrize("keys", [["acme", "acme "], ["Acme", "acme"]])
def test_keys_that_a_collation_takes_for_one_are_told_by_their_column(mysql: MySQL, keys: list[str]) -> None:
    """A server that knows no collation without padding, and a table of the user's own."""
    mysql.like = {"collation": "utf8mb4_bin"}
    mysql.load(merging("t", ("key", "n")), pa.table({"key": ["x"], "n": [0]}))
    if keys == ["Acme", "acme"]:
        mysql.run("DROP TABLE t", "CREATE TABLE t (key text COLLATE NOCASE, n integer, PRIMARY KEY (key, n))")
    both = pa.table({"key": keys, "n": [1, 1]})
    for write in (merging, appending):
        for tables in ([both], [both.slice(0, 1), both.slice(1)]):
            with pytest.raises(PostHogLoadError, match=r"that differ in key, .*utf8mb4_nopad_bin") as refused:
                mysql.load(write("t", ("key", "n")), *tables)
            assert "acme" not in str(refused.value).lower()


def test_floats_of_32_bits_are_refused(mysql: MySQL) -> None:
    table = events(1).append_column("x", pa.array([0.1]))
    with pytest.raises(PostHogSettingsError, match="column_types"):
        mysql.load(merging(column_types={"x": "float"}), table)
    mysql.load(merging(column_types={"x": "double"}), table)
    assert mysql.columns() == [*SCHEMA.names, "x"]
