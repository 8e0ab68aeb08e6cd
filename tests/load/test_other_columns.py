"""Columns that the table has and that are not loaded: whose values they are, and when they may stay."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.columns import is_null
from tests.load.databases import DAY, END, Database, DuckDB, Standard, appending, events, merging, replacing

NULL = ["", "DEFAULT NULL", "DEFAULT (NULL)"]


@pytest.mark.parametrize("default", NULL)
def test_values_of_columns_that_are_not_loaded_stay_by_merge_and_append(known: Database, default: str) -> None:
    known.load(merging(), events(2))
    known.run(f"ALTER TABLE events ADD COLUMN mine integer {default}", "UPDATE events SET mine = 7")
    merged = known.load(merging(), events(3, event="new"))
    assert (merged.rows, merged.changed, merged.inserted) == (3, 2, 1)
    assert known.load(appending(), events(4, event="newer")).inserted == 1
    found = known.rows("SELECT event, mine FROM events ORDER BY uuid")
    assert found == [("new", 7), ("new", 7), ("new", None), ("newer", None)]


@pytest.mark.parametrize("default", NULL)
def test_values_that_would_be_lost_with_their_interval_are_not_replaced_unasked(known: Database, default: str) -> None:
    known.load(replacing(), events(2))
    known.run(f"ALTER TABLE events ADD COLUMN mine integer {default}", "UPDATE events SET mine = 7")
    with pytest.raises(PostHogSettingsError, match=r"lack the table's column 'mine'.*other_columns='null'"):
        known.load(replacing(), events(3, event="new"))
    assert known.rows("SELECT event, mine FROM events") == [("click", 7)] * 2
    later = events(1, first=9, start=END, event="new")
    known.load(replacing(start=END, end=END + DAY, other_columns="null"), later)
    assert sorted(known.rows("SELECT event, mine FROM events"), key=str) == [("click", 7), ("click", 7), ("new", None)]


def test_a_value_that_was_changed_in_a_column_with_a_default_stays_by_merge(known: Database) -> None:
    known.load(merging(), events(1))
    known.run("ALTER TABLE events ADD COLUMN mine integer DEFAULT 1", "UPDATE events SET mine = 7")
    known.load(merging(), events(2, event="new"))
    assert known.rows("SELECT event, mine FROM events ORDER BY uuid") == [("new", 7), ("new", 1)]


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_a_column_that_takes_no_null_and_has_no_default_is_refused(known: Database, write: Any) -> None:
    columns = "uuid varchar(40) PRIMARY KEY, event text, created_at timestamp, properties text"
    known.run(f"CREATE TABLE events ({columns}, mine integer NOT NULL)")
    options = {"other_columns": "null"} if write is replacing else {}
    with pytest.raises(PostHogSettingsError, match="lack the table's column 'mine', which takes no null"):
        known.load(write(**options), events(1))


def test_of_two_rows_of_one_key_the_last_one_is_put_beside_the_other_columns(known: Database) -> None:
    known.load(merging(), events(1))
    known.run("ALTER TABLE events ADD COLUMN mine integer", "UPDATE events SET mine = 7")
    known.load(merging(), pa.concat_tables([events(1, event="first"), events(2, event="last")]))
    assert known.rows("SELECT event, mine FROM events ORDER BY uuid") == [("last", 7), ("last", None)]


def test_a_table_that_is_all_key_keeps_its_other_columns(known: Database) -> None:
    members = events(3).select(["uuid", "event"])
    known.load(merging(key=("uuid", "event")), members.slice(0, 2))
    known.run("ALTER TABLE events ADD COLUMN mine integer", "UPDATE events SET mine = 7")
    assert known.load(merging(key=("uuid", "event")), members).rows == 3
    assert sorted(known.rows("SELECT mine FROM events"), key=str) == [(7,), (7,), (None,)]


def test_a_table_of_which_only_the_names_are_known_keeps_its_other_columns(postgres: Any) -> None:
    database = Standard(postgres)
    database.load(merging(), events(2))
    database.run("ALTER TABLE events ADD COLUMN mine integer", "UPDATE events SET mine = 7")
    database.load(merging(), events(3, event="new"))
    assert sorted(database.rows("SELECT event, mine FROM events"), key=str) == [("new", 7), ("new", 7), ("new", None)]
    with pytest.raises(PostHogSettingsError, match="other_columns"):
        database.load(replacing(), events(3))


@pytest.mark.parametrize(
    ("default", "empty"),
    [
        (None, True),
        ("NULL", True),
        ("null", True),
        ("(NULL)", True),
        ("NULL::character varying", True),
        ("CAST(NULL AS INTEGER)", True),
        ("'NULL'", False),
        ("nullif(1, 2)", False),
        ("now()", False),
        ("", False),
    ],
)
def test_a_default_that_is_no_value_is_none(default: str | None, empty: bool) -> None:
    assert is_null(default) is empty


@pytest.mark.parametrize("other_columns", ["keep", "", None, "NULL"])
def test_other_columns_is_fail_or_null(other_columns: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="other_columns"):
        replacing(other_columns=other_columns)


@pytest.mark.parametrize("taken", [["posthog order"], ["POSTHOG Order", "posthog order 1"]])
def test_a_column_may_have_the_name_of_the_loaders_own(known: Database, taken: list[str]) -> None:
    table = events(2)
    for name in [*taken, "n", "c0"]:
        table = table.append_column(name, pa.array(["x", "y"]))
    for write in (merging, appending):
        for _ in range(2):
            known.load(write(write.__name__), table)
        assert known.columns(write.__name__) == table.column_names


@pytest.mark.parametrize("name", ["stage", "chosen", "there", "target", "excluded", "posthog_stage", "STAGE", "t"])
def test_a_table_may_have_the_name_of_the_loaders_own(known: Database, name: str) -> None:
    """An alias that hides the table would make every row one to be replaced."""
    known.load(merging(name), events(5))
    merged = known.load(merging(name), events(3, first=4, event="new"))
    assert merged.rows == 3
    known.load(appending(name), events(8))
    assert known.count(name) == 8
    assert known.count(name, "event = 'new'") == 3
    known.load(replacing(name), events(6))
    assert known.count(name) == 6
    known.run(f"ALTER TABLE {name} ADD COLUMN mine integer", f"UPDATE {name} SET mine = 7")
    if known.load(merging("other"), events(1)):
        known.run(f"CREATE UNIQUE INDEX own ON {name} (uuid)") if not isinstance(known, DuckDB) else None
    known.load(merging(name), events(2, event="newest"))
    assert known.count(name, "mine = 7") == 6
    assert known.count(name, "event = 'newest'") == 2


def test_a_table_with_the_name_of_duckdbs_variable_is_not_read_for_it(duck: DuckDB) -> None:
    duck.run("CREATE TABLE posthog_batch_of_this_load AS SELECT 1 AS n")
    with pytest.raises(PostHogSettingsError, match="a name that loads need"):
        duck.load(replacing(), events(2))


def test_a_stage_of_the_same_name_as_a_table_of_the_users_is_none(duck: DuckDB) -> None:
    duck.run('CREATE TABLE "posthog stage of events" AS SELECT 1 AS n')
    duck.load(merging(), events(2))
    assert duck.count('"posthog stage of events"') == 1


@pytest.mark.parametrize("names", [["\u00c9", "\u00e9"], ["stra\u00dfe", "strasse"]])
def test_columns_that_the_database_tells_apart_are_two(known: Database, names: list[str]) -> None:
    table = events(2)
    for name in names:
        table = table.append_column(name, pa.array([name, None]))
    for _ in range(2):
        known.load(merging(), table)
    assert known.columns() == table.column_names


def test_a_table_that_takes_a_renamed_ones_place_gets_an_index_of_its_own(known: Database) -> None:
    known.load(replacing(), events(2))
    known.run("ALTER TABLE events RENAME TO old")
    known.load(replacing(), events(3))
    assert (known.count("old"), known.count()) == (2, 3)
