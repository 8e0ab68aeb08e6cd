"""What holds for every database."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from tests.load.databases import DAY, END, SCHEMA, START, Database, appending, events, merging, replacing


def uuids_of(table: pa.Table) -> list[str]:
    return sorted(table.column("uuid").to_pylist())


def test_the_table_is_made_and_holds_the_rows(database: Database) -> None:
    first, second = events(1_500), events(10, first=5_000, start=START + timedelta(hours=2))
    loaded = database.load(replacing(), first, second)
    assert (loaded.rows, loaded.deleted, loaded.inserted) == (1_510, 0, 1_510)
    assert database.uuids() == uuids_of(pa.concat_tables([first, second]))
    assert database.columns() == SCHEMA.names


def test_a_second_load_replaces_the_first(database: Database) -> None:
    database.load(replacing(), events(100))
    database.load(replacing(), events(100))
    assert database.uuids() == uuids_of(events(100))
    loaded = database.load(replacing(), events(30, first=1_000))
    assert loaded.deleted == 100
    assert database.uuids() == uuids_of(events(30, first=1_000))


def test_only_the_interval_is_replaced_and_it_is_half_open(database: Database) -> None:
    edge = timedelta(microseconds=1)
    at = [START - edge, START, END - edge, END]
    for number, moment in enumerate(at):
        database.load(replacing(start=moment, end=moment + edge), events(1, first=number, start=moment))
    assert database.count() == 4
    loaded = database.load(replacing(), events(1, first=9, start=START + DAY / 2))
    assert loaded.deleted == 2
    assert database.uuids() == [f"00000000-0000-0000-0000-{number:012}" for number in (0, 3, 9)]


def test_a_load_that_is_not_committed_changes_nothing(database: Database) -> None:
    database.load(replacing(), events(50))
    with database.loader(replacing()) as loader:
        loader.open(SCHEMA)
        loader.write(events(70, first=500))
    assert database.uuids() == uuids_of(events(50))
    database.load(merging("other"), events(1))
    with suppress(RuntimeError), database.loader(merging("other")) as loader:
        loader.open(SCHEMA)
        loader.write(events(70, event="new"))
        raise RuntimeError
    assert database.rows("SELECT event FROM other") == [("click",)]


def test_a_row_outside_the_interval_is_refused(database: Database) -> None:
    database.load(replacing(), events(5))
    for moment in (END, START - timedelta(microseconds=1)):
        with pytest.raises(PostHogIncompleteError, match="not in the interval"):
            database.load(replacing(), events(5), events(1, first=9, start=moment))
    assert database.uuids() == uuids_of(events(5))


def test_a_row_without_a_time_is_refused(database: Database) -> None:
    database.load(replacing(), events(5))
    table = events(2).set_column(2, SCHEMA.field(2), pa.array([START, None], SCHEMA.field(2).type))
    for some in (table, table.slice(1)):
        with pytest.raises(PostHogIncompleteError, match="not in the interval"):
            database.load(replacing(), some)
    assert database.count() == 5


def test_merge_replaces_by_key_and_keeps_the_last_of_two(database: Database) -> None:
    database.load(merging(), events(10))
    twice = pa.concat_tables([events(3, first=8, event="first"), events(2, first=8, event="last")])
    loaded = database.load(merging(), twice, events(1, first=8, event="really last"))
    found = dict(database.rows("SELECT uuid, event FROM events"))
    assert len(found) == 11
    assert [found[f"00000000-0000-0000-0000-{number:012}"] for number in (7, 8, 9, 10)] == [
        "click",
        "really last",
        "last",
        "first",
    ]
    assert loaded.rows in (3, 6)


def test_append_adds_only_what_is_not_there(database: Database) -> None:
    database.load(appending(), events(10))
    loaded = database.load(appending(), events(10, first=5, event="new"), events(10, first=5, event="new"))
    assert loaded.inserted == 5
    assert loaded.deleted == 0
    found = [event for _, event in sorted(database.rows("SELECT uuid, event FROM events"))]
    assert found == ["click"] * 10 + ["new"] * 5
    assert database.load(appending(), events(10, first=5, event="again")).inserted == 0


def test_a_key_of_several_columns(database: Database) -> None:
    schema = pa.schema([("cohort_id", pa.int64()), ("person_id", pa.string()), ("n", pa.int64())])
    first = pa.table([[1, 1, 2], ["a", "b", "a"], [1, 1, 1]], schema)
    database.load(merging("members", ("cohort_id", "person_id")), first)
    database.load(merging("members", ("cohort_id", "person_id")), pa.table([[1, 2], ["b", "b"], [2, 2]], schema))
    found = sorted(database.rows("SELECT cohort_id, person_id, n FROM members"))
    assert found == [(1, "a", 1), (1, "b", 2), (2, "a", 1), (2, "b", 2)]


def test_a_key_that_is_null_is_refused(database: Database) -> None:
    table = events(2).set_column(0, SCHEMA.field(0), pa.array(["a", None], pa.string()))
    database.load(merging(), events(1))
    with pytest.raises(PostHogIncompleteError, match="null"):
        database.load(merging(), table)
    assert database.count() == 1


def test_a_new_column_is_added_and_null_in_old_rows(database: Database) -> None:
    database.load(replacing(), events(2))
    wider = events(1, first=5, start=START + DAY).append_column("browser", pa.array(["Firefox"]))
    database.load(replacing(start=END, end=END + DAY), wider)
    assert database.columns() == [*SCHEMA.names, "browser"]
    assert sorted(database.rows("SELECT uuid, browser FROM events"))[1:] == [
        ("00000000-0000-0000-0000-000000000001", None),
        ("00000000-0000-0000-0000-000000000005", "Firefox"),
    ]


def test_a_column_that_is_no_longer_loaded_is_an_error_before_anything_changes(database: Database) -> None:
    database.load(replacing(), events(2))
    with pytest.raises(PostHogSettingsError, match="lack the table's column 'event'"):
        database.load(replacing(), events(3).drop_columns(["event"]).append_column("more", pa.array(["x"] * 3)))
    assert database.columns() == SCHEMA.names
    assert database.count() == 2


def test_a_column_that_the_database_fills_may_stay(known: Database) -> None:
    known.load(replacing(), events(2))
    known.run("ALTER TABLE events ADD COLUMN source varchar(20) DEFAULT 'posthog'")
    known.load(replacing(), events(3))
    assert {row[0] for row in known.rows("SELECT source FROM events")} == {"posthog"}


def test_a_column_of_another_type_is_an_error_before_anything_changes(known: Database) -> None:
    known.load(replacing(), events(2))
    changed = events(2).set_column(1, pa.field("event", pa.int64()), pa.array([1, 2]))
    with pytest.raises(PostHogSettingsError, match="'event' as int64"):
        known.load(replacing(), changed.append_column("more", pa.array(["x"] * 2)))
    assert known.columns() == SCHEMA.names
    assert known.count() == 2


@pytest.mark.parametrize("sql_type", ["time", "integer", "double precision", "date"])
def test_columns_that_would_lose_a_part_of_a_value_are_refused(known: Database, sql_type: str) -> None:
    known.run(f"CREATE TABLE events (uuid text, event text, created_at {sql_type}, properties text)")
    with pytest.raises(PostHogSettingsError, match="'created_at' as"):
        known.load(merging(), events(1))


@pytest.mark.parametrize(
    ("value", "sql_type"),
    [
        (pa.array([2**53 + 1]), "double precision"),
        (pa.array([7], pa.uint64()), "double precision"),
        (pa.array([Decimal("1.123")], pa.decimal128(38, 3)), "numeric(12, 2)"),
        (pa.array([Decimal("1.1")], pa.decimal128(38, 1)), "numeric(12)"),
        (pa.array(["x"]), "numeric(12, 2)"),
        (pa.array([START]), "timestamp(3)"),
        (pa.array([START], pa.timestamp("ms")), "timestamp(0)"),
    ],
)
def test_columns_that_would_round_are_refused(known: Database, value: pa.Array, sql_type: str) -> None:
    table = events(1).append_column("n", value)
    with pytest.raises(PostHogSettingsError, match="would be changed by it") as refused:
        known.load(merging(column_types={"n": sql_type}), table)
    assert refused.value.field == "column_types"
    others = "uuid varchar(40) PRIMARY KEY, event text, created_at timestamp, properties text"
    known.run(f"CREATE TABLE events ({others}, n {sql_type})")
    with pytest.raises(PostHogSettingsError, match="'n' as"):
        known.load(merging(), table)


def test_columns_that_hold_all_that_comes(known: Database) -> None:
    known.run(
        "CREATE TABLE events (uuid varchar(40) PRIMARY KEY, event text, created_at timestamp, properties text, "
        "a double precision, b numeric(12, 3), c bigint, d numeric(30))"
    )
    table = events(1)
    values = [
        pa.array([7], pa.int32()),
        pa.array([Decimal("1.25")], pa.decimal128(12, 2)),
        pa.array([2**63 - 1], pa.uint64()),
        pa.array([2**53 + 1]),
    ]
    for name, value in zip("abcd", values, strict=True):
        table = table.append_column(name, value)
    known.load(merging(), table)
    ((a, b, c, d),) = known.rows("SELECT a, b, c, d FROM events")
    assert (a, float(b), c, int(d)) == (7.0, 1.25, 2**63 - 1, 2**53 + 1)


@pytest.mark.parametrize("hour", [0, 1, 23])
def test_a_day_belongs_to_the_interval_that_holds_its_midnight(database: Database, hour: int) -> None:
    """Days of a zone that is not UTC are intervals from 23:00, say."""
    schema = pa.schema([("day", pa.date32()), ("n", pa.int64())])
    begin = START - DAY + timedelta(hours=hour)
    midnight = (begin - timedelta(microseconds=1)).date() + DAY

    def load(number: int, count: int) -> Any:
        rows = pa.table([[midnight + number * DAY] * count, [number] * count], schema)
        guard = ShrinkGuard(allow_shrink=True)
        span = begin + number * DAY, begin + (number + 1) * DAY
        return database.load(replacing("days", *span, by="day", guard=guard), rows)

    for number in range(3):
        assert load(number, 4).deleted == 0
    assert load(1, 0).deleted == 4
    assert sorted(row[0] for row in database.rows("SELECT n FROM days")) == [0] * 4 + [2] * 4


NAMES = [
    'select "x"; DROP TABLE events; --',
    "group",
    "Mixed Case",
    "100% 'quoted' %s {0} $1",
    "ключ",
    "a`b",
    "c\\d",
]


@pytest.mark.parametrize("write", [replacing, merging, appending])
def test_names_are_only_names(database: Database, write: Any) -> None:
    database.load(replacing(), events(1))
    named = events(2).rename_columns([NAMES[0], NAMES[1], NAMES[2], NAMES[3]])
    for name in NAMES[4:]:
        named = named.append_column(name, pa.array([name, None]))
    options = {"by": NAMES[2]} if write is replacing else {"key": (NAMES[0], NAMES[3])}
    table = '"My ""odd"" table%s; DROP"'
    for _ in range(2):
        database.load(write(table, **options), named)
    assert database.columns(table) == named.column_names
    assert database.count(table) == 2
    assert database.count() == 1


@pytest.mark.parametrize("table", ["", "a b", "events; DROP TABLE events", "a.", ".a", "a.b.c.d", '"a', "1a", "x'"])
def test_a_table_with_an_impossible_name_is_refused(database: Database, table: str) -> None:
    with pytest.raises(PostHogSettingsError, match="table"):
        database.load(replacing(table), events(1))


def test_columns_that_are_one_name_to_the_database_are_refused(duck: Database, sqlite: Database) -> None:
    twice = events(1).append_column("EVENT", pa.array(["x"]))
    for database in (duck, sqlite):
        with pytest.raises(PostHogSettingsError, match="one name"):
            database.load(replacing(), twice)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (replacing(by="moment"), "by"),
        (replacing(by="event"), "by"),
        (merging(key=("id",)), "key"),
        (replacing(column_types={"nope": "text"}), "column_types"),
    ],
)
def test_arguments_that_name_no_column_are_refused(database: Database, target: Any, field: str) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        database.load(target, events(1))
    assert refused.value.field == field


def test_types_that_no_column_takes_are_refused(database: Database) -> None:
    nested = events(1).append_column("tags", pa.array([["a"]]))
    with pytest.raises(PostHogSettingsError, match="toJSONString"):
        database.load(replacing(), nested)


def test_column_types_of_the_users_own(database: Database) -> None:
    database.load(replacing(column_types={"event": "varchar(40)"}), events(1))
    assert database.count(where="event = 'click'") == 1


def test_no_value_of_a_row_gets_into_an_error(database: Database) -> None:
    """Also none of the errors before it, which a log would show."""
    database.load(merging(), events(1))
    database.run("CREATE UNIQUE INDEX only_one ON events (event)")
    secret = events(3, first=7, event='it\'s "jane@example.com" said\n Jane')
    with pytest.raises(PostHogLoadError) as refused:
        database.load(merging(), secret)
    error: BaseException | None = refused.value
    while error is not None and not error.__suppress_context__:
        error = error.__cause__ or error.__context__
    assert "jane" not in str(refused.value).lower()
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert database.count() == 1


def test_a_table_that_something_else_writes_to_is_noticed(database: Database) -> None:
    """A trigger that drops rows, here by an interval's count that does not match."""
    database.load(replacing(), events(2))
    with database.loader(replacing()) as loader:
        loader.open(SCHEMA)
        loader.write(events(5))
        loader._rows += 1  # as if one more had been written than the table will hold
        with pytest.raises(PostHogIncompleteError, match=r"5 rows of the interval, but 6"):
            loader.commit()
    assert database.count() == 2
