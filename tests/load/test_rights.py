"""What a load may not do is told before rows are read, with the names of things and without values."""

from __future__ import annotations

import sqlite3
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.generic import SQLITE, GenericLoader
from airflow_provider_posthog.load.transactions import leave_autocommit
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from tests.load.databases import (
    DAY,
    END,
    SCHEMA,
    Database,
    Postgres,
    SQLite,
    Standard,
    appending,
    events,
    merging,
    replacing,
)


@pytest.fixture(params=["postgres", "standard"])
def limited(request: pytest.FixtureRequest, postgres: Postgres) -> Any:
    """A function that opens a load as a user of some rights, and undoes what it gave."""
    postgres.run("DROP ROLE IF EXISTS limited", "CREATE ROLE limited")

    def load(target: Any, *rights: str) -> None:
        database = Standard(postgres) if request.param == "standard" else postgres
        postgres.run(*(f"GRANT {right} TO limited" for right in ["ALL ON SCHEMA public", *rights]))
        loader = database.loader(target)
        cursor = loader._connection.cursor()
        cursor.execute("SET SESSION AUTHORIZATION limited")
        loader._connection.commit()
        with loader:
            loader.open(SCHEMA)

    yield load
    postgres.run("DROP OWNED BY limited", "DROP ROLE limited")


@pytest.mark.parametrize(
    ("write", "rights", "missing"),
    [
        (replacing, "SELECT, INSERT", "DELETE"),
        (replacing, "SELECT, DELETE", "INSERT"),
        (replacing, "INSERT, DELETE", "SELECT"),
        (merging, "SELECT, INSERT", "UPDATE|DELETE"),
        (merging, "SELECT, UPDATE, DELETE", "INSERT"),
        (appending, "SELECT", "INSERT"),
        (appending, "INSERT", "SELECT"),
    ],
)
def test_a_right_that_is_missing_is_told_before_rows_are_read(
    limited: Any, postgres: Postgres, write: Any, rights: str, missing: str
) -> None:
    postgres.load(write(), events(2))
    with pytest.raises((PostHogSettingsError, PostHogLoadError), match=rf"\b({missing}) on events") as refused:
        limited(write(), f"{rights} ON events")
    assert "limited" not in str(refused.value)
    limited(write(), "SELECT, INSERT, UPDATE, DELETE ON events")


@pytest.mark.parametrize("limited", ["postgres"], indirect=True)
def test_rights_of_columns_are_enough_where_they_are_all_that_is_needed(postgres: Postgres, limited: Any) -> None:
    postgres.load(appending(), events(1))
    postgres.run("ALTER TABLE events ADD COLUMN mine text")
    columns = ", ".join(SCHEMA.names)
    limited(appending(), f"SELECT ({columns}), INSERT ({columns}) ON events")
    with pytest.raises((PostHogSettingsError, PostHogLoadError), match="UPDATE on events"):
        limited(merging())


def test_a_file_that_is_only_read_is_told_before_rows_are_read(sqlite: SQLite) -> None:
    sqlite.load(replacing(), events(2))
    connection = sqlite3.connect(f"file:{sqlite.path}?mode=ro", uri=True)
    with (
        GenericLoader(connection, replacing(), SQLITE) as loader,
        pytest.raises(PostHogLoadError, match="readonly"),
    ):
        loader.open(SCHEMA)


@pytest.mark.parametrize("write", [merging, appending])
def test_a_partitioned_table_is_told_which_key_it_can_have(postgres: Postgres, write: Any) -> None:
    postgres.run(
        "CREATE TABLE events (uuid text, event text, created_at timestamptz, properties text) "
        "PARTITION BY RANGE (created_at)",
        "CREATE TABLE first PARTITION OF events DEFAULT",
    )
    with pytest.raises(PostHogSettingsError, match=r"partitioned by created_at") as refused:
        postgres.load(write(), events(3))
    assert 'key=["uuid", "created_at"]' in str(refused.value)
    advice = str(refused.value).partition("run once: ")[2]
    postgres.run(advice)
    for _ in range(2):
        postgres.load(write(key=("uuid", "created_at")), events(3))
    assert postgres.count() == 3


def test_a_table_partitioned_by_columns_of_the_key_is_told_the_usual(postgres: Postgres) -> None:
    postgres.run(
        "CREATE TABLE events (uuid text, event text, created_at timestamptz, properties text) PARTITION BY HASH (uuid)",
        "CREATE TABLE first PARTITION OF events FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    )
    with pytest.raises(PostHogSettingsError, match="has no unique index") as refused:
        postgres.load(merging(), events(3))
    postgres.run(str(refused.value).partition("Run once: ")[2])
    postgres.load(merging(), events(3))


@pytest.mark.parametrize(
    ("made", "told_so"),
    [
        ("CREATE TABLE events ({}) PARTITION BY RANGE (date_trunc('day', created_at))", "by an expression"),
        ("CREATE TABLE base ({}); CREATE VIEW events AS SELECT * FROM base", "is a view"),
    ],
)
def test_a_table_that_can_have_no_unique_index_is_told_so(postgres: Postgres, made: str, told_so: str) -> None:
    postgres.run(made.format("uuid text, event text, created_at timestamp, properties text"))
    with pytest.raises(PostHogSettingsError, match=told_so):
        postgres.load(merging(), events(1))


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_names_of_tables_and_constraints_are_told(postgres: Postgres, driver: str) -> None:
    server = postgres.through(driver)
    server.run(
        "CREATE TABLE events (uuid text PRIMARY KEY, event text NOT NULL CONSTRAINT short CHECK (length(event) < 9), "
        "created_at timestamptz, properties text)"
    )
    server.load(replacing(), events(1))
    server.run(
        "CREATE TABLE mine (uuid text CONSTRAINT of_events REFERENCES events)",
        "INSERT INTO mine SELECT uuid FROM events",
    )
    cases = {
        "table events, constraint short": events(1, start=END, event="jane@example.com"),
        "table events, column event": events(1, start=END).set_column(1, "event", pa.array([None], pa.string())),
        "table mine, constraint of_events": events(0),
    }
    for names, table in cases.items():
        with pytest.raises(PostHogLoadError) as refused:
            server.load(
                replacing(guard=ShrinkGuard(allow_shrink=True))
                if table.num_rows == 0
                else replacing(start=END, end=END + DAY),
                table,
            )
        assert f"({names})" in str(refused.value)
        assert "jane" not in str(refused.value)
    assert server.count() == 1


def test_a_row_without_a_partition_is_told_by_its_table(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE events (uuid text, event text, created_at timestamptz, properties text) "
                 "PARTITION BY RANGE (created_at)")  # fmt: skip
    with pytest.raises(PostHogLoadError, match=r"no partition .*\(table events\)"):
        postgres.load(replacing(start=END, end=END + DAY), events(1, start=END))


def test_what_a_trigger_says_is_not_told(postgres: Postgres) -> None:
    """It may say the row."""
    postgres.load(replacing(), events(1))
    postgres.run(
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no %, please', NEW.event; END $$ "
        "LANGUAGE plpgsql",
        "CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(PostHogLoadError, match="P0001: a trigger or function raised") as refused:
        postgres.load(replacing(), events(1, event="jane"))
    assert "jane" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "told_so"),
    [
        ((1062, "Duplicate entry 'jane' for key 'events.one'"), "(key events.one)"),
        ((1062, "Duplicate entry 'jane's\n \"x\" for key 'y' for key 'PRIMARY'"), "(key PRIMARY)"),
        ((1406, "Data too long for column 'distinct_id' at row 3"), "(column distinct_id)"),
        ((1366, "Incorrect integer value: 'jane' for column `db`.`t`.`n` at row 1"), "(column n)"),
        ((1048, "Column 'uuid' cannot be null"), "(column uuid)"),
        ((1142, "INSERT command denied to user 'jane'@'x' for table `db`.`t`"), "(table db.t)"),
        (('Constraint Error: Duplicate key "uuid: jane" violates primary key constraint.',), "(column uuid)"),
        (("The duplicate key value is (jane, 7).",), "value (...)"),
        (("Violation of UNIQUE KEY constraint 'one'. The duplicate key value is (jane).",), "UNIQUE KEY"),
        (("the text 'jane was cut",), "'..."),
        (('first "jane\nsecond',), '"...'),
    ],
)
def test_names_are_told_of_what_a_driver_says_and_values_are_not(arguments: tuple[Any, ...], told_so: str) -> None:
    with pytest.raises(PostHogLoadError) as refused, translate_errors(object(), "trying"):
        raise RuntimeError(*arguments)
    assert told_so in str(refused.value)
    assert "jane" not in str(refused.value)


class _Told(Exception):
    def __init__(self, number: int, text: str, sqlstate: str | None) -> None:
        super().__init__(number, text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "told_so"),
    [
        (_Told(1366, "Incorrect integer value: 'jane' for column 'n' at row 1", "HY000"), "(column n)"),
        (_Told(1644, "no jane, please", "45000"), "an exception of its own"),
        (_Told(1644, "no jane, please", None), "an exception of its own"),
    ],
)
def test_mysql_s_own_states_tell_no_values(error: _Told, told_so: str) -> None:
    with pytest.raises(PostHogLoadError) as refused, translate_errors(object(), "trying"):
        raise error
    assert told_so in str(refused.value)
    assert "jane" not in str(refused.value)


class _Driver:
    """A connection that tells of its autocommit as some driver does."""

    def __init__(self, on: bool, obeys: bool = True) -> None:
        self.on, self.obeys = on, obeys

    def turn(self, value: bool) -> None:
        self.on = value if self.obeys else self.on

    def rollback(self) -> None:
        assert not self.on


class _MySQL(_Driver):
    def get_autocommit(self) -> bool:
        return self.on

    def autocommit(self, value: bool) -> None:
        self.turn(value)


class _SqlServer(_Driver):
    @property
    def autocommit_state(self) -> bool:
        return self.on

    def autocommit(self, value: bool) -> None:
        self.turn(value)


class _Java(_Driver):
    @property
    def jconn(self) -> Any:
        return self

    def getAutoCommit(self) -> bool:
        return self.on

    def setAutoCommit(self, value: bool) -> None:
        self.turn(value)


class _Odbc(_Driver):
    @property
    def autocommit(self) -> bool:
        return self.on

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.turn(value)


@pytest.mark.parametrize("kind", [_MySQL, _SqlServer, _Java, _Odbc])
def test_a_connection_is_taken_out_of_autocommit_or_refused_however_its_driver_tells(kind: Any) -> None:
    for before in (True, False):
        connection = kind(before)
        leave_autocommit(connection)
        assert not connection.on
    with pytest.raises(PostHogSettingsError, match="stays in autocommit"):
        leave_autocommit(kind(True, obeys=False))


def test_a_connection_that_can_not_undo_is_refused() -> None:
    class NotSupportedError(Exception):
        pass

    class Hive:
        def rollback(self) -> None:
            raise NotSupportedError

    for connection in (Hive(), object()):
        with pytest.raises(PostHogSettingsError, match="has no transactions"):
            leave_autocommit(connection)


@pytest.mark.parametrize("limited", ["postgres", "standard"], indirect=True)
def test_a_right_that_is_missing_is_told_before_a_column_is_added(limited: Any, postgres: Postgres) -> None:
    postgres.load(replacing(), events(1).select(["uuid", "created_at"]))
    with pytest.raises((PostHogSettingsError, PostHogLoadError), match="INSERT on events"):
        limited(replacing(), "SELECT, DELETE ON events")
    assert postgres.columns() == ["uuid", "created_at"]


def test_a_schema_that_is_not_there_is_to_be_created(database: Database) -> None:
    if isinstance(database, SQLite):
        pytest.skip("It has no schemas.")
    with pytest.raises(PostHogLoadError, match=r"Create the schema: tasks make tables, and no schemas\.$") as caught:
        database.load(replacing("analytics.events"), events(1))
    assert "!" not in str(caught.value)
