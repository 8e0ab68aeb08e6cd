"""What a load has read so far, kept in a table beside the target: in each database that can keep it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load import parts
from airflow_provider_posthog.load.parts import Parts
from tests.load.databases import Database, DuckDB, SQLite, postgres_database
from tests.load.mariadb import mariadb_database

Opened = tuple[str, Database, Callable[[], tuple[Any, str]]]
OWNER = {"owner": {}, "load": "1", "version": 1}


def _begun(connection: Any) -> tuple[Any, str]:
    connection.begin()
    return connection, "?"


@pytest.fixture(params=["postgres", "duckdb", "sqlite", "mysql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """A database, and what connects to it as a load does."""
    if request.param == "postgres":
        with postgres_database() as found:
            yield "postgres", found, lambda: (found.connect(), "%s")
    elif request.param == "mysql":
        with mariadb_database() as maria:
            yield "mysql", maria, lambda: (maria.connect(), "%s")
    elif request.param == "duckdb":
        duck = DuckDB(tmp_path / "lake.duckdb", held=True)
        yield "duckdb", duck, lambda: _begun(duck.connect())
    else:
        lite = SQLite(tmp_path / "lake.sqlite")
        yield "sqlite", lite, lambda: (lite.connect(), "?")


def parts_of(opened: Opened, tag: str = "a1", table: str = "events") -> Parts:
    return Parts(opened[2], opened[0], table, tag)


def test_parts_are_kept_and_found_by_a_later_try(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_PIECE", 3)
    kept, data = parts_of(opened), [b"\x00\xff'\\\n12", b"", b"ab"]
    assert kept.notes() == []
    for number, each in enumerate(data):
        kept.add(number, {**OWNER, "n": number}, each)
    assert parts_of(opened, "a2").notes() == []
    assert parts_of(opened, table="other").notes() == []
    later = parts_of(opened)
    assert [note["n"] for note in later.notes()] == [0, 1, 2]
    assert [later.data(number) for number in range(3)] == data
    later.drop()
    assert parts_of(opened).notes() == []


@pytest.mark.parametrize("gone", [0, 1])
def test_parts_of_which_one_is_gone_are_none(opened: Opened, gone: int) -> None:
    """What follows a gap would be taken for all that there is."""
    kept = parts_of(opened)
    for number in range(3):
        kept.add(number, {**OWNER, "n": number}, b"x")
    opened[1].run(f"DELETE FROM {kept.name} WHERE part = {gone}")
    assert parts_of(opened).notes() == []


def test_a_load_that_begins_anew_has_only_its_own_parts(opened: Opened) -> None:
    for number in range(2):
        parts_of(opened).add(0, {**OWNER, "n": number}, b"x")
    assert [note["n"] for note in parts_of(opened).notes()] == [1]


def test_only_what_is_old_is_swept(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    kept = parts_of(opened)
    kept.add(0, {**OWNER, "began": 100.0}, b"x")
    assert parts_of(opened, "none").sweep(50.0) == []
    assert len(parts_of(opened).notes()) == 1
    # The day in the name is today's.
    assert len(parts_of(opened, "none").sweep(4_000_000_000.0)) == 1
    assert parts_of(opened).notes() == []


def test_a_table_that_goes_on_is_not_swept_whatever_its_name_says(opened: Opened) -> None:
    parts_of(opened).add(0, {**OWNER, "began": 5_000_000_000.0}, b"x")
    assert parts_of(opened, "none").sweep(4_000_000_000.0) == []
    assert len(parts_of(opened).notes()) == 1


@pytest.mark.parametrize("table", ["E" * 60, 'x."y"', '"a b"."c`d"', '"Ünïcode-Tabelle-mit-langem-Namen-0123456789"'])
def test_names_of_any_length_and_kind(tmp_path: Path, table: str) -> None:
    with postgres_database() as found:
        for schema in ("x", "a b"):
            found.run(f'CREATE SCHEMA "{schema}"')
        kept = Parts(lambda: (found.connect(), "%s"), "postgres", table, "0123456789")
        kept.add(0, OWNER, b"x")
        assert Parts(lambda: (found.connect(), "%s"), "postgres", table, "0123456789").notes() == [OWNER]
        kept.drop()


def test_a_database_that_cannot_be_reached_is_told_and_fails_no_load(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def refuse() -> Any:
        raise OSError("password=secret")

    kept = Parts(refuse, "sqlite", "events", "a1")
    assert kept.notes() == []
    assert kept.sweep(0.0) == []
    kept.drop()
    with pytest.raises(PostHogLoadError, match="cannot be reached"):
        kept.add(0, {}, b"x")
    assert "cannot be read" in caplog.text
    assert "was not looked for" in caplog.text
    assert "may be dropped" in caplog.text
    assert "secret" not in caplog.text
