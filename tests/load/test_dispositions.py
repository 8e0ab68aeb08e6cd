"""Every way of writing into every database: run again, killed, with a new column, with far less, beside another.

What has to be there is reckoned by a model of some lines, which knows nothing of databases.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.target import Target
from tests.load.databases import DAY, START, Database
from tests.load.mariadb import mariadb_database

SCHEMA = pa.schema([("id", pa.string()), ("name", pa.string()), ("at", pa.timestamp("us", "UTC"))])
#: A load: names by number.
Load = dict[int, str]
#: Rows that are there: number, name, and whether it is the newest version and not gone.
Rows = list[tuple[int, str, bool]]
NOW = datetime(2026, 11, 2, tzinfo=timezone.utc)

DISPOSITIONS: dict[str, dict[str, Any]] = {
    "replace_interval": {"write_disposition": "replace_interval", "by": "at", "start": START, "end": START + DAY},
    "replace": {"write_disposition": "replace"},
    "merge": {"write_disposition": "merge", "key": ("id",)},
    "merge, delete": {"write_disposition": "merge", "key": ("id",), "deleted": "delete"},
    "merge, mark": {"write_disposition": "merge", "key": ("id",), "deleted": "mark"},
    "append": {"write_disposition": "append", "key": ("id",)},
    "scd2": {"write_disposition": "scd2", "key": ("id",), "deleted": "mark"},
}
#: Those that take what does not come for gone.
EXACT = ("replace_interval", "replace", "merge, delete", "merge, mark", "scd2")
FIRST: Load = {number: "a" for number in range(5)}
#: One changed, one is gone, two are new, two have not changed.
SECOND: Load = {0: "a", 1: "b", 2: "a", 3: "a", 7: "a", 8: "c"}


def model(disposition: str, *loads: Load) -> Rows:
    """Return what has to be there after some loads."""
    rows: Rows = []
    for load in loads:
        if disposition in ("replace_interval", "replace", "merge, delete"):
            rows = [(number, name, True) for number, name in load.items()]
            continue
        alive = {number: name for number, name, is_open in rows if is_open}
        if disposition == "append":
            rows += [(number, name, True) for number, name in load.items() if number not in alive]
        elif disposition == "scd2":
            same = {number for number, name in alive.items() if load.get(number) == name}
            rows = [(number, name, is_open and number in same) for number, name, is_open in rows]
            rows += [(number, name, True) for number, name in load.items() if number not in same]
        else:
            kept = {number: name for number, name, _ in rows}
            gone = disposition == "merge, mark"
            rows = [(number, name, not gone or number in load) for number, name in {**kept, **load}.items()]
    return sorted(rows)


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


@pytest.fixture(params=DISPOSITIONS)
def disposition(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Table:
    """The table that is loaded into."""

    def __init__(self, database: Database, disposition: str) -> None:
        self.database = database
        self.disposition = disposition
        self._hours = 0

    def target(self) -> Target:
        self._hours += 1
        return Target("t", **{**DISPOSITIONS[self.disposition], "now": NOW + timedelta(hours=self._hours)})

    def load(self, load: Load, **more: str) -> Any:
        return self.database.load(self.target(), rows_of(load, **more))

    @property
    def rows(self) -> Rows:
        end = {"merge, mark": "deleted_at", "scd2": "valid_to"}.get(self.disposition)
        found = self.database.rows(f"SELECT id, name, {end or 'NULL'} FROM t")
        return sorted((int(number), name, ended is None) for number, name, ended in found)


@pytest.fixture
def table(database: Database, disposition: str) -> Table:
    return Table(database, disposition)


def rows_of(load: Load, **more: str) -> pa.Table:
    times = [START + timedelta(seconds=number) for number in load]
    table = pa.table([[str(number) for number in load], list(load.values()), times], SCHEMA)
    for name, value in more.items():
        table = table.append_column(name, pa.array([value] * len(load)))
    return table


def test_a_load_that_runs_again_leaves_the_same_table(table: Table) -> None:
    for load in (FIRST, FIRST, SECOND, SECOND):
        table.load(load)
    assert table.rows == model(table.disposition, FIRST, SECOND)


def test_a_load_that_is_killed_changes_nothing_and_its_retry_all(table: Table) -> None:
    table.load(FIRST)
    for commits in (False, True):
        loader = table.database.loader(table.target())
        loader.open(SCHEMA)
        loader.write(rows_of(SECOND))
        if commits:
            loader._finish()  # killed before the commit
        loader._connection.close()
        assert table.rows == model(table.disposition, FIRST)
    table.load(SECOND)
    assert table.rows == model(table.disposition, FIRST, SECOND)


def test_a_new_column_is_added_and_the_counts_are_those_of_the_rows(table: Table) -> None:
    table.load(FIRST)
    loaded = table.load(SECOND, extra="x")
    with_value = table.database.count("t", "extra = 'x'")
    if table.disposition == "scd2":  # with the column all rows differ
        assert (loaded.inserted, loaded.changed, loaded.gone) == (6, 4, 1)
        assert with_value == len([row for row in table.rows if row[2]]) == 6
        return
    assert table.rows == model(table.disposition, FIRST, SECOND)
    assert with_value == {"append": 2}.get(table.disposition, 6)


def test_a_column_of_another_type_changes_nothing(table: Table) -> None:
    table.load(FIRST)
    coming = rows_of(SECOND)
    changed = coming.set_column(1, "name", pa.array([*SECOND]))
    with pytest.raises(PostHogSettingsError, match="name"):
        table.database.load(table.target(), changed)
    assert table.rows == model(table.disposition, FIRST)
    table.load(SECOND)
    assert table.rows == model(table.disposition, FIRST, SECOND)


def test_far_less_changes_nothing_where_it_would_be_taken_for_gone(table: Table) -> None:
    many: Load = dict.fromkeys(range(1_200), "a")
    few: Load = dict.fromkeys(range(1_150, 1_300), "b")
    table.load(many)
    for load in (few, {}):
        if table.disposition in EXACT:
            with pytest.raises(PostHogIncompleteError, match="allow_shrink"):
                table.load(load)
        else:
            table.load(load)
    loads = [many] if table.disposition in EXACT else [many, few]
    assert table.rows == model(table.disposition, *loads)


def test_two_loads_side_by_side_leave_what_one_leaves(table: Table) -> None:
    table.load(FIRST)
    failed: list[BaseException] = []

    def load(target: Callable[[], Target]) -> None:
        try:
            for _ in range(5):  # a database may refuse one of two, as SQLite and DuckDB do
                with suppress(PostHogLoadError):
                    table.database.load(target(), rows_of(SECOND))
                    return
        except PostHogIncompleteError as error:
            if "a later load was faster" not in str(error):
                failed.append(error)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=load, args=(table.target,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert table.rows == model(table.disposition, FIRST, SECOND)
