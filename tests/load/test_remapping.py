"""Rows with the persons of yesterday get those of today, in the transaction that loads the distinct ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError
from airflow_provider_posthog.load.remapping import AT, NEW, OLD, Remapping
from airflow_provider_posthog.load.target import Target
from tests.load.databases import Database, DuckDB, Postgres
from tests.load.mariadb import mariadb_database

A, B, C = (f"{letter * 8}-0000-0000-0000-000000000000" for letter in "abc")
MAPPING = Target("mapping", "merge", key=("distinct_id",))


@pytest.fixture(params=["psycopg2", "psycopg", "duckdb", "sqlite", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "mariadb":
        with mariadb_database() as found:
            yield found
        return
    if request.param in ("duckdb", "sqlite"):
        yield request.getfixturevalue({"duckdb": "duck", "sqlite": "sqlite"}[request.param])
        return
    yield request.getfixturevalue("postgres").through(request.param)


def remap(database: Database, persons: dict[str, str], remapping: Remapping) -> dict[str, int]:
    schema = pa.schema([("distinct_id", pa.string()), ("person_id", pa.string())])
    with database.loader(MAPPING) as loader:
        loader.open(schema)
        loader.write(pa.table([list(persons), list(persons.values())], schema))
        loader.commit(remapping)
    return remapping.rows


def make(database: Database, kind: str = "VARCHAR(40)") -> None:
    overrides = pa.schema([(OLD, pa.string()), (NEW, pa.string()), (AT, pa.timestamp("us", "UTC"))])
    with database.loader(Target("overrides", "append", key=(OLD, NEW))) as loader:
        loader.open(overrides)
        loader.commit()
    rows = [("1", "a", A), ("2", "A", C), ("3", "b", B), ("4", "b", B), ("5", "nobody", B), ("6", "b", None)]
    values = ", ".join(f"({n}, '{who}', {'NULL' if uuid is None else repr(uuid)})" for n, who, uuid in rows)
    database.run(
        f"CREATE TABLE events (n INTEGER, distinct_id VARCHAR(400), person_id {kind})",
        f"INSERT INTO events VALUES {values}",
    )


def persons(database: Database) -> list[str | None]:
    return [None if uuid is None else str(uuid) for (uuid,) in database.rows("SELECT person_id FROM events ORDER BY n")]


def test_rows_of_merged_persons_are_counted_and_get_the_new_one(database: Database) -> None:
    make(database)
    found = remap(database, {"a": A, "A": C, "b": A}, Remapping(["events"], overrides="overrides"))
    assert found == {"events": 3}
    assert persons(database) == [A, C, A, A, B, A], "who is unknown keeps the person; 'A' is not 'a'"
    assert database.rows(f"SELECT {OLD}, {NEW} FROM overrides") == [(B, A)]
    assert database.count("overrides", f"{AT} IS NOT NULL") == 1
    assert remap(database, {"a": A, "A": C, "b": A}, Remapping(["events"], overrides="overrides")) == {"events": 0}
    assert remap(database, {"b": C}, Remapping(["events"], overrides="overrides")) == {"events": 3}
    assert sorted(database.rows(f"SELECT {OLD}, {NEW} FROM overrides")) == [(A, C), (B, A)]


def test_a_failure_leaves_the_mapping_and_all_tables_as_they_were(database: Database) -> None:
    make(database)
    remap(database, {"a": A, "b": B}, Remapping(["events"]))
    before = persons(database)
    with pytest.raises(PostHogLoadError):
        remap(database, {"a": C, "b": A}, Remapping(["events", "is_not_there"]))
    assert persons(database) == before
    assert sorted(database.rows("SELECT person_id FROM mapping")) == [(A,), (B,)]


@pytest.mark.parametrize("name", ["postgres", "duck"])
def test_persons_may_be_uuids_in_one_and_texts_in_the_other(name: str, request: pytest.FixtureRequest) -> None:
    database: Any = request.getfixturevalue(name)
    make(database, "uuid")
    assert remap(database, {"b": A}, Remapping(["events"], overrides="overrides")) == {"events": 3}
    assert persons(database) == [A, C, A, A, B, A]
    assert database.rows(f"SELECT {OLD}, {NEW} FROM overrides") == [(B, A)]


def test_columns_and_tables_of_other_names(duck: DuckDB) -> None:
    duck.run(
        "CREATE SCHEMA other",
        'CREATE TABLE other."my events" ("who, then" VARCHAR, "person" VARCHAR)',
        f"INSERT INTO other.\"my events\" VALUES ('a', '{B}')",
    )
    remapping = Remapping(['other."my events"'], "who, then", "person")
    assert remap(duck, {"a": A}, remapping) == {'other."my events"': 1}
    assert duck.rows('SELECT person FROM other."my events"') == [(A,)]


def test_a_trigger_that_keeps_the_old_person_is_noticed(postgres: Postgres) -> None:
    make(postgres)
    postgres.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER keep BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    with pytest.raises(PostHogIncompleteError, match="3 of 3 rows of events still have another person"):
        remap(postgres, {"b": A}, Remapping(["events"]))
    assert postgres.rows("SELECT to_regclass('mapping')") == [("mapping",)]
    assert postgres.count("mapping") == 0
