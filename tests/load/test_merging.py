"""A merge touches only rows that changed, says what it did, and knows what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.load.loader import Loaded
from airflow_provider_posthog.load.target import Target
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from tests.load.databases import Database, DuckDB, Postgres, SQLite, Standard, appending, events, merging, replacing
from tests.load.mariadb import mariadb_database

NOW = datetime(2026, 11, 2, 3, tzinfo=timezone.utc)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("price", pa.decimal128(12, 2)),
        ("yes", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


@pytest.fixture(params=["psycopg2", "psycopg", "duckdb", "sqlite", "mariadb"])
def each(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Each database whose rows are compared."""
    if request.param == "mariadb":
        with mariadb_database() as database:
            yield database
        return
    if request.param in ("duckdb", "sqlite"):
        yield request.getfixturevalue({"duckdb": "duck", "sqlite": "sqlite"}[request.param])
        return
    yield request.getfixturevalue("postgres").through(request.param)


def row(number: int, **parts: Any) -> dict[str, Any]:
    made = {"id": f"{number}", "name": "Acme", "n": 1, "x": 0.1, "price": Decimal("1.50"), "yes": True}
    return {**made, "day": NOW.date(), "at": NOW, **parts}


def rows(*each: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(each), SCHEMA)


def counted(loaded: Loaded) -> tuple[Any, ...]:
    """New, changed, unchanged, gone."""
    return loaded.inserted, loaded.changed, loaded.unchanged, loaded.gone


@pytest.mark.parametrize(
    "other",
    [
        {"name": "acme"},
        {"name": "Acme "},
        {"name": "Acmé"},
        {"name": ""},
        {"name": None},
        {"n": 2},
        {"n": None},
        {"x": 0.1 + 2**-53},
        {"price": Decimal("1.51")},
        {"price": None},
        {"yes": False},
        {"yes": None},
        {"day": NOW.date() + timedelta(days=1)},
        {"at": NOW + timedelta(microseconds=1)},
        {"at": None},
    ],
)
def test_a_merge_counts_what_is_new_changed_and_unchanged(each: Database, other: dict[str, Any]) -> None:
    target = merging("t", ("id",))
    first = [row(number) for number in range(4)]
    assert counted(each.load(target, rows(*first))) == (4, 0, 0, None)
    assert counted(each.load(target, rows(*first))) == (0, 0, 4, None)
    changed = row(1, **other)
    assert counted(each.load(target, rows(*first[:1], changed, row(7)))) == (1, 1, 1, None)
    assert counted(each.load(target, rows(changed))) == (0, 0, 1, None), "it is there now"
    assert counted(each.load(target, rows(row(1)))) == (0, 1, 0, None), "and back again"


def test_rows_of_nothing_but_nulls_do_not_differ(each: Database) -> None:
    empty = rows({"id": "1", **dict.fromkeys(SCHEMA.names[1:])})
    for new in (1, 0):
        assert counted(each.load(merging("t", ("id",)), empty)) == (new, 0, 1 - new, None)


def test_unchanged_rows_are_not_touched(postgres: Postgres) -> None:
    postgres.load(merging(), events(50))
    places = postgres.rows("SELECT uuid, ctid::text, xmin::text, xmax::text FROM events ORDER BY uuid")
    changed = pa.concat_tables([events(49), events(50, event="new").slice(49)])
    loaded = postgres.load(merging(), changed)
    assert counted(loaded) == (0, 1, 49, None)
    after = postgres.rows("SELECT uuid, ctid::text, xmin::text, xmax::text FROM events ORDER BY uuid")
    assert after[:49] == places[:49], "neither written nor locked"
    assert after[49] != places[49]


def test_what_a_trigger_sees_of_a_merge_is_what_changed(sqlite: SQLite) -> None:
    sqlite.load(merging(), events(5))
    sqlite.run(
        "CREATE TABLE seen (what text)",
        "CREATE TRIGGER u AFTER UPDATE ON events BEGIN INSERT INTO seen VALUES ('changed'); END",
        "CREATE TRIGGER d AFTER DELETE ON events BEGIN INSERT INTO seen VALUES ('deleted'); END",
    )
    sqlite.load(merging(), pa.concat_tables([events(4), events(5, event="new").slice(4), events(1, first=9)]))
    assert sqlite.rows("SELECT what FROM seen") == [("changed",)]


@pytest.mark.parametrize("kind", ["json", "jsonb", "varchar(200)", "text"])
def test_columns_of_every_kind_are_compared(postgres: Postgres, kind: str) -> None:
    postgres.run(f"CREATE TABLE t (id text PRIMARY KEY, v {kind})")
    schema = pa.schema([("id", pa.string()), ("v", pa.string())])
    for value in ('"a"', '"A"', None):
        table = pa.table([["1"], [value]], schema)
        first, again = (postgres.load(merging("t", ("id",)), table) for _ in range(2))
        assert (first.inserted + (first.changed or 0), first.unchanged) == (1, 0)
        assert counted(again) == (0, 0, 1, None)


def test_a_collation_of_the_columns_own_hides_no_change(each: Database) -> None:
    form = {
        DuckDB: "VARCHAR COLLATE NOCASE",
        SQLite: "TEXT COLLATE NOCASE",
    }.get(type(each), "VARCHAR(40)")
    each.run(f"CREATE TABLE t (id VARCHAR(40) PRIMARY KEY, name {form})")
    schema = pa.schema([("id", pa.string()), ("name", pa.string())])
    for name in ("acme", "Acme", "ACME"):
        each.load(merging("t", ("id",)), pa.table([["1"], [name]], schema))
        assert each.rows("SELECT name FROM t") == [(name,)]


def test_a_database_of_which_only_standard_sql_is_known_counts_what_it_can(postgres: Postgres) -> None:
    database = Standard(postgres)
    database.load(merging(), events(3))
    assert counted(database.load(merging(), events(4))) == (1, None, None, None)
    for options in ({"deleted": "delete"}, {"deleted": "mark"}):
        with pytest.raises(PostHogSettingsError, match="deleted: is not for databases"):
            database.load(merging(**options), events(3))
    with pytest.raises(PostHogSettingsError, match="write_disposition: is not for databases"):
        database.load(Target("other", "scd2", key=("uuid",)), events(3))


def test_the_counts_are_told_in_words() -> None:
    assert Loaded(1_300, 0, 1, 1_200, 99, 3).describe() == " (1 new, 1,200 changed, 99 unchanged, 3 gone)"
    assert Loaded(1, 0, 1, 0, 0).describe() == " (1 new, 0 changed, 0 unchanged)"
    assert Loaded(7, 0, 7).describe() == ""


# What is gone.


def some(first: int, end: int) -> pa.Table:
    return events(end).slice(first)


def test_what_is_gone_is_counted_and_kept(each: Database) -> None:
    each.load(merging(whole=True), events(10))
    assert counted(each.load(merging(whole=True), some(3, 8))) == (0, 0, 5, 5)
    assert each.count() == 10


def test_what_is_gone_is_deleted(each: Database) -> None:
    target = merging(deleted="delete")
    assert counted(each.load(target, events(10))) == (10, 0, 0, 0)
    loaded = each.load(target, some(3, 13))
    assert (counted(loaded)[0], loaded.gone, loaded.deleted) == (3, 3, 3)
    assert len(each.uuids()) == 10
    assert each.load(target, some(3, 13)).gone == 0


def test_what_is_gone_is_marked_once_and_comes_back(each: Database) -> None:
    def target(hours: int) -> Target:
        return merging(deleted="mark", now=NOW + timedelta(hours=hours))

    each.load(target(0), events(4))
    assert counted(each.load(target(1), events(3))) == (0, 0, 3, 1)
    assert counted(each.load(target(2), events(3))) == (0, 0, 3, 0), "it is marked already"
    marked = each.rows("SELECT deleted_at FROM events WHERE deleted_at IS NOT NULL")
    assert [moment(value) for (value,) in marked] == [NOW + timedelta(hours=1)]
    assert counted(each.load(target(3), events(4))) == (0, 1, 3, 0)
    assert each.count(where="deleted_at IS NULL") == 4


def moment(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def test_rows_of_others_are_not_gone(each: Database) -> None:
    schema = pa.schema([("cohort_id", pa.int64()), ("person_id", pa.string())])

    def members(cohort: int, *persons: str, **options: Any) -> Loaded:
        target = Target("members", "merge", key=("cohort_id", "person_id"), only={"cohort_id": (cohort,)}, **options)
        return each.load(target, pa.table([[cohort] * len(persons), list(persons)], schema))

    members(1, "a", "b", "c")
    members(2, "a", "b", "c")
    assert members(1, "a", whole=True).gone == 2
    assert members(2, "a", "b", deleted="delete").gone == 1
    assert each.rows("SELECT cohort_id, count(*) FROM members GROUP BY cohort_id ORDER BY 1") == [(1, 3), (2, 2)]
    assert members(1, "c", deleted="mark").gone == 2
    assert each.count("members", "deleted_at IS NULL") == 3


@pytest.mark.parametrize("deleted", ["delete", "mark"])
def test_far_too_many_are_not_gone(each: Database, deleted: Any) -> None:
    each.load(merging(deleted=deleted), events(1_200))
    before = each.rows("SELECT * FROM events ORDER BY uuid")
    for fewer in (events(500), some(900, 1_900), events(0)):
        with pytest.raises(PostHogIncompleteError, match="allow_shrink"):
            each.load(merging(deleted=deleted), fewer)
        assert each.rows("SELECT * FROM events ORDER BY uuid") == before
    loaded = each.load(merging(deleted=deleted, guard=ShrinkGuard(allow_shrink=True)), events(500))
    assert loaded.gone == 700


def test_columns_of_the_users_own_stay_where_rows_are_marked(each: Database) -> None:
    each.load(merging(deleted="mark"), events(2))
    each.run("ALTER TABLE events ADD COLUMN mine integer", "UPDATE events SET mine = 7")
    assert counted(each.load(merging(deleted="mark"), some(1, 3))) == (1, 0, 1, 1)
    assert [value for (value,) in each.rows("SELECT mine FROM events ORDER BY uuid")] == [7, 7, None]


@pytest.mark.parametrize("make", [replacing, appending])
@pytest.mark.parametrize("deleted", ["delete", "mark"])
def test_only_a_merge_knows_what_is_gone(make: Any, deleted: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="deleted: is not for write"):
        make(deleted=deleted)
    with pytest.raises(PostHogSettingsError, match="deleted: is 'gone', which is not known"):
        merging(deleted="gone")


# Load columns.

STAMPS = {"_posthog_loaded_at": NOW, "_posthog_interval_start": None, "_posthog_run": "it's run 1"}


def stamped(hours: int) -> dict[str, Any]:
    return {**STAMPS, "_posthog_loaded_at": NOW + timedelta(hours=hours)}


def loaded_at(database: Database) -> list[int]:
    found = database.rows("SELECT _posthog_loaded_at FROM events ORDER BY uuid")
    return [(moment(value) - NOW) // timedelta(hours=1) for (value,) in found]


def test_load_columns_say_when_a_row_was_written_last(each: Database) -> None:
    each.load(merging(stamps=stamped(0)), events(3))
    assert each.rows("SELECT DISTINCT _posthog_interval_start, _posthog_run FROM events") == [(None, "it's run 1")]
    mixed = pa.concat_tables([events(1), events(2, event="new").slice(1), some(3, 4)])
    assert counted(each.load(merging(stamps=stamped(1)), mixed)) == (1, 1, 1, None)
    assert loaded_at(each) == [0, 1, 0, 1]
    each.load(merging(stamps=stamped(2), deleted="mark", now=NOW + timedelta(hours=2)), mixed.slice(0, 2))
    assert loaded_at(each) == [0, 1, 2, 2], "those that were marked"
    each.load(appending(stamps=stamped(3)), events(5))
    assert loaded_at(each) == [0, 1, 2, 2, 3]
    each.load(replacing(stamps=stamped(4), other_columns="null"), events(4))
    assert loaded_at(each) == [4] * 4


def test_a_column_of_the_load_that_is_loaded_already_is_refused(each: Database) -> None:
    table = events(1).append_column("_posthog_run", pa.array(["x"])).append_column("deleted_at", pa.array(["x"]))
    for target, argument in [
        (merging(stamps=STAMPS), "load_columns"),
        (merging(deleted="mark"), "deleted"),
        (Target("events", "scd2", key=("uuid",)), "write_disposition"),
    ]:
        more = table.append_column("valid_to", pa.array(["x"])) if argument == "write_disposition" else table
        with pytest.raises(PostHogSettingsError, match=f"{argument}: adds a column"):
            each.load(target, more)


# History.


def history(hours: int, **options: Any) -> Target:
    return Target("t", "scd2", key=("id",), now=NOW + timedelta(hours=hours), **options)


def versions(database: Database) -> list[tuple[Any, ...]]:
    found = database.rows("SELECT id, name, valid_from, valid_to FROM t ORDER BY id, valid_from")

    def hour(value: Any) -> int | None:
        return None if value is None else (moment(value) - NOW) // timedelta(hours=1)

    return [(number, name, hour(begin), hour(end)) for number, name, begin, end in found]


def test_history_has_each_version_with_its_time(each: Database) -> None:
    assert counted(each.load(history(0), rows(row(1), row(2), row(3)))) == (3, 0, 0, None)
    assert counted(each.load(history(1), rows(row(1), row(2), row(3)))) == (0, 0, 3, None)
    loaded = each.load(history(2, deleted="mark"), rows(row(1, name="B"), row(2), row(4)))
    assert counted(loaded) == (2, 1, 1, 1)
    assert counted(each.load(history(3, deleted="mark"), rows(row(1, name="Acme"), row(2), row(3), row(4)))) == (
        2,
        1,
        2,
        0,
    )
    assert versions(each) == [
        ("1", "Acme", 0, 2),
        ("1", "B", 2, 3),
        ("1", "Acme", 3, None),
        ("2", "Acme", 0, None),
        ("3", "Acme", 0, 2),
        ("3", "Acme", 3, None),
        ("4", "Acme", 2, None),
    ]


def test_history_is_not_written_by_a_load_that_began_before_a_later_one(each: Database) -> None:
    each.load(history(5), rows(row(1)))
    with pytest.raises(PostHogIncompleteError, match="a later load was faster"):
        each.load(history(4), rows(row(1, name="old")))
    assert versions(each) == [("1", "Acme", 5, None)]


def test_history_is_not_written_after_a_later_load_that_only_ended_versions(each: Database) -> None:
    each.load(history(0), rows(row(1), row(2)))
    each.load(history(5, deleted="mark"), rows(row(1)))
    with pytest.raises(PostHogIncompleteError, match="a later load was faster"):
        each.load(history(4, deleted="mark"), rows(row(1), row(2)))
    assert versions(each) == [("1", "Acme", 0, None), ("2", "Acme", 0, 5)]


def test_history_keeps_what_is_gone_if_it_is_to(each: Database) -> None:
    each.load(history(0), rows(row(1), row(2)))
    assert counted(each.load(history(1, whole=True), rows(row(2)))) == (0, 0, 1, 1)
    assert [end for *_, end in versions(each)] == [None, None]
    with pytest.raises(PostHogSettingsError, match="would remove the history"):
        history(1, deleted="delete")
