"""Erasing rows of warehouses that keep statements: the right rows go, and no statement names anybody."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load import hashed_removal
from airflow_provider_posthog.load.hashed_removal import FLAVOURS, HashedRemoval
from airflow_provider_posthog.load.removal import Criterion

UUID = "3dc16883-e41d-573c-94ce-5d5370469f17"
STRANGE = ["Ann", 'o\'brien "x"; DROP TABLE events', "50% {a} ? %s", "snow\u2603man", "two\nlines", " "]


class Warehouse:
    """Runs a warehouse's statements in SQLite, which has its functions here."""

    Error = sqlite3.Error

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.statements: list[str] = []
        self.sqlite = sqlite3.connect(":memory:", isolation_level=None)
        self.sqlite.create_function("SHA2", 2, lambda text, bits: None if text is None else _sha(text))
        self.sqlite.create_function("SHA256", 1, lambda text: None if text is None else _sha(text))
        self.sqlite.create_function("TO_HEX", 1, lambda text: text)
        self.sqlite.create_function("CONCAT", -1, lambda *texts: None if None in texts else "".join(texts))
        self.sqlite.create_function("LOWER", 1, lambda text: None if text is None else text.lower())
        name = "EVENTS" if kind == "snowflake" else "events"
        self.sqlite.execute(f'CREATE TABLE {name} (n INTEGER, "distinct-id" TEXT, person_id TEXT)')

    def cursor(self) -> Any:
        return self

    def execute(self, statement: str) -> None:
        self.statements.append(statement)
        self._found = self.sqlite.execute(
            statement.replace("AS STRING)", "AS TEXT)").replace("AS VARCHAR)", "AS TEXT)")
        )

    def fetchone(self) -> Any:
        return self._found.fetchone()

    def close(self) -> None:
        self.sqlite.close()

    def fill(self, *rows: tuple[str | None, str | None]) -> None:
        for number, row in enumerate(rows):
            self.sqlite.execute("INSERT INTO events VALUES (?, ?, ?)", [number, *row])

    def numbers(self) -> list[int]:
        return [row[0] for row in self.sqlite.execute("SELECT n FROM events ORDER BY n")]

    def remove(self, names: list[str], uuids: list[str], table: str = "events") -> dict[str, int]:
        criteria = [Criterion('"distinct-id"', iter(names)), Criterion("person_id", iter(uuids), any_case=True)]
        return HashedRemoval(self, table, FLAVOURS[self.kind]).run(criteria)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(params=sorted(FLAVOURS))
def warehouse(request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    with closing(Warehouse(request.param)) as made:
        yield made


def test_rows_of_both_kinds_go_and_no_others(warehouse: Warehouse) -> None:
    warehouse.fill(*((name, "x") for name in STRANGE), ("x", UUID.upper()), ("Ann", UUID), ("ann", "x"), (None, None))
    assert warehouse.remove(STRANGE, [UUID]) == {'"distinct-id"': len(STRANGE) + 1, "person_id": 1}
    assert warehouse.numbers() == [len(STRANGE) + 2, len(STRANGE) + 3]
    assert warehouse.remove(STRANGE, [UUID]) == {'"distinct-id"': 0, "person_id": 0}


def test_no_statement_names_anybody(warehouse: Warehouse) -> None:
    warehouse.fill(("secret-name", UUID))
    warehouse.remove(["secret-name"], [UUID])
    warehouse.remove(["secret-name"], [UUID])
    told = "".join(warehouse.statements)
    assert "secret" not in told
    assert UUID not in told
    assert _sha("secret-name") not in told
    assert len({one.partition("CONCAT('")[2][:32] for one in warehouse.statements}) == 2, "another salt each time"


def test_the_very_statements() -> None:
    """As Snowflake and BigQuery are told them."""
    for kind, name, column in (
        ("snowflake", '"EVENTS"', "SHA2(CONCAT('S', LOWER(TRIM(CAST(\"PERSON_ID\" AS VARCHAR)))), 256)"),
        ("gcpbigquery", "`events`", "TO_HEX(SHA256(CONCAT('S', LOWER(TRIM(CAST(`person_id` AS STRING))))))"),
    ):
        with closing(Warehouse(kind)) as made:
            made.fill(("x", UUID))
            made.remove([], [UUID])
            salt = made.statements[0].partition("CONCAT('")[2][:32]
            said = [one.replace(salt, "S").replace(_sha(salt + UUID), "H") for one in made.statements]
            assert said[2:] == [
                f"SELECT count(*) FROM {name} WHERE {column} IN ('H')",
                f"DELETE FROM {name} WHERE {column} IN ('H')",
                f"SELECT count(*) FROM {name} WHERE {column} IN ('H')",
            ]
    with closing(Warehouse("gcpbigquery")) as made, pytest.raises(PostHogLoadError):
        made.remove([], [], '"my-project".posthog.events')
    assert made.statements[0].endswith("IS NULL AND 1 = 0")
    assert "FROM `my-project`.`posthog`.`events` WHERE" in made.statements[0]


def test_more_persons_than_fit_into_a_statement(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_removal, "_BATCH", 7)
    warehouse.fill(*((f"id-{number}", "x") for number in range(30)))
    assert warehouse.remove([f"id-{number}" for number in range(29)], [])['"distinct-id"'] == 29
    assert warehouse.numbers() == [29]


def test_rows_that_stay_are_an_error(warehouse: Warehouse) -> None:
    warehouse.fill(("secret", UUID))
    warehouse.sqlite.execute("CREATE TRIGGER keep BEFORE DELETE ON events BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(PostHogLoadError, match="1 rows of events are still there") as error:
        warehouse.remove(["secret"], [])
    assert "secret" not in str(error.value)


def test_names_are_names(warehouse: Warehouse) -> None:
    with pytest.raises(PostHogSettingsError, match="not the name of a table"):
        warehouse.remove([], [], "events; DROP TABLE events")
    with pytest.raises(PostHogLoadError, match="of nowhere"):
        warehouse.remove([], [], "nowhere")
