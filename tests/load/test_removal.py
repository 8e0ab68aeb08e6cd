"""Erasing persons' rows: the right ones, all of them, and nothing of them in an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.erasure.addresses import spellings
from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.mysql_removal import MySQLRemoval
from airflow_provider_posthog.load.removal import Criterion, Removal, as_text
from tests.load.databases import Database, DuckDB, Postgres, SQLite, merging, postgres_database
from tests.load.mariadb import MariaDB, mariadb_database

UUID = "3dc16883-e41d-573c-94ce-5d5370469f17"
OTHER = "00000000-0000-4000-8000-000000000001"
STRANGE = ["Ann", 'o\'brien "x"; DROP TABLE events', "50% {a} ? %s", "snow\u2603man", "two\nlines", "a,b", " "]


@pytest.fixture(params=["duckdb", "psycopg2", "psycopg", "sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "duckdb":
        yield DuckDB(tmp_path / "file.duckdb", held=True)
    elif request.param == "sqlite":
        yield SQLite(tmp_path / "file.sqlite")
    elif request.param == "mariadb":
        with mariadb_database() as maria:
            # In which names in the tests' statements stand in the same quotes as elsewhere.
            maria.options = {"sql_mode": "ANSI_QUOTES"}
            yield maria
    else:
        with postgres_database() as found:
            yield found.through(request.param)


def removal_of(database: Database, connection: Any, table: str = "events") -> Removal:
    if isinstance(database, DuckDB):
        connection.begin()
    if isinstance(database, MariaDB):
        return MySQLRemoval(connection, table)
    return Removal(connection, table, "%s" if isinstance(database, Postgres) else "?")


def fill(database: Database, rows: list[tuple[str | None, str | None]], kind: str = "UUID") -> None:
    value = "%s" if isinstance(database, (Postgres, MariaDB)) else "?"
    with closing(database.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(f'CREATE TABLE events (n INTEGER, "distinct%id" TEXT, person_id {kind})')
        for number, row in enumerate(rows):
            cursor.execute(f"INSERT INTO events VALUES ({value}, {value}, {value})", [number, *row])
        connection.commit()


def remove(database: Database, names: list[str], uuids: list[str], table: str = "events") -> dict[str, int]:
    with closing(database.connect()) as connection:
        criteria = [Criterion("distinct%id", iter(names)), Criterion("person_id", iter(uuids), any_case=True)]
        removed = removal_of(database, connection, table).run(criteria)
        connection.commit()
        return removed


def test_rows_of_both_kinds_go_and_no_others(database: Database) -> None:
    rows: list[tuple[str | None, str | None]] = [(name, OTHER) for name in STRANGE]
    fill(database, [*rows, ("somebody", UUID), ("Ann", UUID), (None, None), ("ann", OTHER), ("Ann ", OTHER)])
    removed = remove(database, STRANGE, [UUID.upper()])
    assert removed == {"distinct%id": len(STRANGE) + 1, "person_id": 1}
    assert as_text(removed) == "9 rows (8 by distinct%id, 1 by person_id)"
    left = [row[0] for row in database.rows('SELECT "distinct%id" FROM events ORDER BY n')]
    assert left == [None, "ann", "Ann "]
    assert remove(database, STRANGE, [UUID]) == {"distinct%id": 0, "person_id": 0}


def test_more_persons_than_fit_into_a_statement(database: Database) -> None:
    names = [f"id-{number}" for number in range(1203)]
    fill(database, [(name, OTHER) for name in ("id-0", "id-499", "id-500", "id-1202", "id-1203")], "TEXT")
    assert remove(database, names, [])["distinct%id"] == 4
    assert database.count() == 1


def test_uuids_in_capitals_are_the_same(database: Database) -> None:
    fill(database, [("a", UUID.upper())], "TEXT")
    assert remove(database, [], [UUID])["person_id"] == 1


KINDS = {
    "postgres": {"text[]": "ARRAY['ann']", "jsonb": "'\"ann\"'", "json": "'[\"ann\"]'", "bytea": "'ann'"},
    "duckdb": {"VARCHAR[]": "['ann']", "JSON": "'\"ann\"'", "STRUCT(id VARCHAR)": "{'id': 'ann'}", "BLOB": "'ann'"},
    "sqlite": {"JSON": "'[\"ann\"]'", "VARBINARY(9)": "'ann'"},
    "mariadb": {
        "JSON": "'[\"ann\"]'",
        "VARBINARY(9)": "'ann'",
        "BINARY(16)": "'ann'",
        "MEDIUMBLOB": "'ann'",
        "SET('ann', 'bob')": "'ann'",
    },
}


def test_a_column_whose_values_are_not_one_identifier_each_is_refused(database: Database) -> None:
    """Compared as texts they would be nobody's, and "0 are left" would be said of rows that are there."""
    name = {DuckDB: "duckdb", SQLite: "sqlite", MariaDB: "mariadb"}.get(type(database), "postgres")
    for number, (kind, value) in enumerate(KINDS[name].items()):
        table = f"t{number}"
        database.run(f'CREATE TABLE {table} ("distinct%id" {kind}, person_id TEXT)')
        database.run(f"INSERT INTO {table} VALUES ({value}, NULL)")
        with pytest.raises(PostHogLoadError, match="not one identifier in each row") as error:
            remove(database, ["ann"], [], table)
        assert "ann" not in str(error.value)
        assert database.count(table) == 1


@pytest.mark.parametrize("asked", ["Jörg@bücher.example", "JO\u0308RG@xn--bcher-kva.example"])
def test_an_address_is_the_same_however_it_is_spelt(database: Database, asked: str) -> None:
    """The case of letters that are not ASCII, composed or not, the host's two forms, and blanks around it."""
    texts = ["JÖRG@BÜCHER.EXAMPLE", "jo\u0308rg@bücher.example", " jörg@xn--bcher-kva.example ", "jörg@example.org"]
    fill(database, [(None, text) for text in texts], "TEXT")
    assert remove(database, [], [*spellings(asked)])["person_id"] == 3
    assert database.rows("SELECT person_id FROM events") == [("jörg@example.org",)]


@pytest.mark.parametrize("table", ["nowhere", "events"])
def test_what_is_not_there_is_named(database: Database, table: str) -> None:
    database.run("CREATE TABLE events (x TEXT)")
    with pytest.raises(PostHogLoadError, match=f"reading column distinct%id of {table}"):
        remove(database, ["secret"], [], table)


def test_a_name_that_is_none_is_refused(database: Database) -> None:
    with pytest.raises(PostHogSettingsError, match="not the name of a table"):
        remove(database, [], [], "events; DROP TABLE events")


def test_a_refusal_changes_nothing_and_shows_nothing(tmp_path: Path) -> None:
    with postgres_database() as database:
        fill(database, [("secret-1", UUID), ("secret-2", OTHER)])
        database.run(
            'ALTER TABLE events ADD UNIQUE ("distinct%id")',
            'CREATE TABLE orders (who TEXT REFERENCES events ("distinct%id"))',
            "INSERT INTO orders VALUES ('secret-1')",
        )
        with pytest.raises(PostHogLoadError, match="23503") as error:
            remove(database, ["secret-1", "secret-2"], [])
        assert "secret" not in str(error.value)
        assert error.value.__cause__ is None
        assert database.count() == 2


def test_rows_that_stay_although_deleted_are_an_error() -> None:
    with postgres_database() as database:
        fill(database, [("secret-1", UUID)])
        database.run("CREATE RULE keep AS ON DELETE TO events DO INSTEAD NOTHING")
        with pytest.raises(PostHogLoadError, match="1 rows of events are still there") as error:
            remove(database, ["secret-1"], [])
        assert "secret" not in str(error.value)


def test_a_kill_before_the_commit_changes_nothing(database: Database) -> None:
    fill(database, [("a", UUID)])
    with closing(database.connect()) as connection:
        criteria: list[Any] = [Criterion("distinct%id", iter(["a"]))]
        assert removal_of(database, connection).run(criteria) == {"distinct%id": 1}
    assert database.count() == 1


def _erased(database: Database, names: list[str], uuids: list[str], table: str = "people") -> Removal:
    with closing(database.connect()) as connection:
        removal = removal_of(database, connection, table)
        removal.run([Criterion("it's", iter(names)), Criterion("person_id", iter(uuids), any_case=True)])
        connection.commit()
        return removal


@pytest.mark.parametrize("table", ["people", '"Some""thing".people'])
def test_rows_in_quarantine_go_too_and_no_others(database: Database, table: str) -> None:
    if table != "people" and isinstance(database, SQLite):
        table = "main.people"
    elif table != "people" and isinstance(database, MariaDB):
        table = "warehouse.people"
    elif table != "people":
        database.run('CREATE SCHEMA "Some""thing"')
    database.run(f"""CREATE TABLE {table} (n INTEGER PRIMARY KEY, "it's" TEXT, person_id TEXT, price INTEGER)""")
    names = [*STRANGE, "half \ud83d".encode("utf-8", "replace").decode(), "zero \\u0000", "stranger", None]
    rows = [(name, OTHER) for name in names] + [("somebody", UUID.upper())]
    columns = {"n": [*range(len(rows))], "it's": [row[0] for row in rows], "person_id": [row[1] for row in rows]}
    coming = pa.table({**columns, "price": ["no number"] * len(rows)})
    loaded = database.load(merging(table, key=("n",), schema_policy="quarantine"), coming)
    assert (loaded.rejected, loaded.rows) == (len(rows), 0)
    asked = [name for name in names if name not in (None, "stranger")]
    assert _erased(database, [*map(str, asked)], [UUID], table).rejected == len(asked) + 1
    left = database.rows(f"SELECT data FROM {table}__rejected")
    assert ["stranger" in row[0] or "null" in row[0] for row in left] == [True, True]
    assert _erased(database, [*map(str, asked)], [UUID], table).rejected == 0, "a retry finds nothing"


def test_rows_in_quarantine_that_stay_although_deleted_are_an_error() -> None:
    with postgres_database() as database:
        database.run("""CREATE TABLE people (n INTEGER PRIMARY KEY, "it's" TEXT, person_id TEXT, price INTEGER)""")
        coming = pa.table({"n": [1], "it's": ["Ann"], "person_id": [UUID], "price": ["no number"]})
        assert database.load(merging("people", key=("n",), schema_policy="quarantine"), coming).rejected == 1
        database.run("CREATE RULE keep AS ON DELETE TO people__rejected DO INSTEAD NOTHING")
        with pytest.raises(PostHogLoadError, match=r"1 rows of .*people__rejected.* are still there") as error:
            _erased(database, ["Ann"], [])
        assert "Ann" not in str(error.value)


def test_a_table_without_a_quarantine_says_so(database: Database) -> None:
    database.run("""CREATE TABLE people ("it's" TEXT, person_id TEXT)""", "CREATE TABLE others__rejected (data TEXT)")
    assert _erased(database, ["Ann"], []).rejected is None


def test_nothing_is_erased_while_a_load_keeps_what_it_has_read(database: Database) -> None:
    database.run(
        """CREATE TABLE people ("it's" TEXT, person_id TEXT)""",
        "INSERT INTO people VALUES ('Ann', 'x')",
        "CREATE TABLE people__loading_posthog_20261129_ab12 (part INTEGER)",
        "CREATE TABLE others__loading_posthog_20261129_ab12 (part INTEGER)",
    )
    with pytest.raises(
        PostHogLoadError, match="people__loading_posthog_20261129_ab12, and may be of these persons"
    ) as refused:
        _erased(database, ["Ann"], [])
    assert "others" not in str(refused.value)
    assert database.count("people") == 1
    database.run("DROP TABLE people__loading_posthog_20261129_ab12")
    _erased(database, ["Ann"], [])
    assert database.count("people") == 0


def test_rows_that_a_policy_hides_are_an_error_and_not_nothing() -> None:
    """Whoever counts sees as little as whoever deletes."""
    with postgres_database() as database, closing(database.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT current_schema()")
        (schema,) = cursor.fetchone()
        role = f"{schema}_reader"
        for statement in (
            "CREATE TABLE events (who TEXT, region TEXT)",
            "INSERT INTO events VALUES ('ann', 'us')",
            "ALTER TABLE events ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY here ON events USING (region = 'eu')",
            f'CREATE ROLE "{role}"',
            f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"',
            f'GRANT SELECT, DELETE ON events TO "{role}"',
            f'SET ROLE "{role}"',
        ):
            cursor.execute(statement)
        with pytest.raises(PostHogLoadError, match="row-level security"):
            Removal(connection, "events", "%s").run([Criterion("who", iter(["ann"]))])
        connection.rollback()
