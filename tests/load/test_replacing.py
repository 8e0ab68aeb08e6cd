"""What a load replaces, and what it leaves: an interval or a whole table, a filter's rows only, never most by few."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.stock import Stock
from airflow_provider_posthog.load.target import Target
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from tests.load.databases import DAY, END, SCHEMA, START, Database, DuckDB, Postgres, SQLite, events, merging, replacing

NAMES = ["click", "Click", "click ", "it's", "back\\slash", "100%", "ключ", "💚", "$pageview", "a\nb"]
ALLOWED = ShrinkGuard(allow_shrink=True)


def whole(table: str = "events", **options: Any) -> Target:
    return Target(table, "replace", **options)


def named(count: int, name: str, *, first: int = 0, start: datetime = START) -> pa.Table:
    return events(count, first=first, start=start, event=name)


def held(database: Database) -> dict[str, int]:
    return dict(database.rows("SELECT event, count(*) FROM events GROUP BY event"))


# The shrink guard.


def test_rows_of_an_interval_are_not_replaced_by_none(database: Database) -> None:
    database.load(replacing(), events(5))
    with pytest.raises(PostHogIncompleteError) as refused:
        database.load(replacing(), SCHEMA.empty_table())
    for part in ("events, 2026-11-01 00:00:00 to 2026-11-02 00:00:00 (UTC)", "5 rows are there", "shows 0"):
        assert part in str(refused.value)
    assert database.uuids() == events(5).column("uuid").to_pylist()
    loaded = database.load(replacing(guard=ALLOWED), SCHEMA.empty_table())
    assert (loaded.rows, loaded.deleted, database.count()) == (0, 5, 0)
    assert database.load(replacing(), SCHEMA.empty_table()).deleted == 0, "nothing is there: nothing is lost"


def test_nor_by_fewer_than_max_shrink_leaves(database: Database) -> None:
    database.load(replacing(), events(1_000))
    with pytest.raises(PostHogIncompleteError, match=r"1,000 rows are there, and PostHog shows 499"):
        database.load(replacing(), events(499))
    assert database.count() == 1_000
    with pytest.raises(PostHogIncompleteError, match=r"shows 899"):
        database.load(replacing(guard=ShrinkGuard(max_shrink=0.1)), events(899))
    database.load(replacing(), events(500))
    assert database.count() == 500


def test_other_intervals_are_not_counted(database: Database) -> None:
    database.load(replacing(start=END, end=END + DAY), events(2_000, start=END))
    database.load(replacing(), events(1, first=5_000))
    assert database.count() == 2_001


def test_many_new_rows_do_not_hide_that_those_of_the_look_back_are_missing(database: Database) -> None:
    database.load(replacing(), events(40))
    again = replacing(start=START, end=END + DAY, since=END)
    with pytest.raises(PostHogIncompleteError, match=r"2026-11-01 00:00:00 to 2026-11-02 .*40 rows .* shows 0"):
        database.load(again, events(3_000, first=100, start=END))
    assert database.count() == 40
    database.load(again, events(40), events(30, first=100, start=END))
    assert database.count() == 70


@pytest.mark.parametrize("since", [START, END, START - DAY, None])
def test_an_interval_without_a_look_back_is_one_piece(since: datetime | None) -> None:
    assert replacing(since=since).spans == ((START, END),)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 47), max_size=30), st.integers(1, 47))
def test_each_row_that_comes_is_counted_in_its_piece(hours: list[int], edge: int) -> None:
    moment = START + timedelta(hours=edge)
    stock = Stock(replacing(end=START + 2 * DAY, since=moment))
    for hour in hours:
        stock.see(events(1, start=START + timedelta(hours=hour)))
    early = sum(hour < edge for hour in hours)
    assert stock._coming == [early, len(hours) - early]


# The whole table.


def test_replace_puts_the_rows_in_place_of_all_there_are(database: Database) -> None:
    loaded = database.load(whole(), events(5))
    assert (loaded.rows, loaded.deleted, loaded.inserted) == (5, 0, 5)
    loaded = database.load(whole(), events(3, first=3), events(1, first=9, start=START - 900 * DAY))
    assert (loaded.rows, loaded.deleted) == (4, 5)
    assert database.uuids() == [f"00000000-0000-0000-0000-{number:012}" for number in (3, 4, 5, 9)]


def test_a_replace_that_is_not_committed_changes_nothing(database: Database) -> None:
    database.load(whole(), events(5))
    with database.loader(whole()) as loader:
        loader.open(SCHEMA)
        loader.write(events(70, first=500))
    assert database.uuids() == events(5).column("uuid").to_pylist()


def test_a_table_is_not_replaced_by_nothing_or_far_less(database: Database) -> None:
    database.load(whole(), events(1_000))
    for few in (SCHEMA.empty_table(), events(400)):
        with pytest.raises(PostHogIncompleteError, match=r"^events: 1,000 rows are there"):
            database.load(whole(), few)
    assert database.count() == 1_000
    database.load(whole(guard=ALLOWED), SCHEMA.empty_table())
    assert database.count() == 0


def test_replace_of_a_table_that_has_a_key(database: Database) -> None:
    """One that was merged into before."""
    database.load(merging(), events(10))
    database.load(whole(), events(10, first=5))
    assert database.uuids() == events(10, first=5).column("uuid").to_pylist()


def test_a_trigger_that_drops_rows_of_a_replace_is_noticed(sqlite: SQLite) -> None:
    sqlite.load(whole(), events(5))
    sqlite.run("CREATE TRIGGER some AFTER INSERT ON events BEGIN DELETE FROM events WHERE uuid LIKE '%7'; END")
    with pytest.raises(PostHogIncompleteError, match="would hold 9 rows, but 10"):
        sqlite.load(whole(), events(10))
    assert sqlite.count() == 5


# A filter's rows only.


def test_only_the_rows_that_the_filter_covers_are_replaced(database: Database) -> None:
    for number, name in enumerate(NAMES[3:]):
        loaded = database.load(replacing(only={"event": (name,)}), named(3, name, first=number * 10))
        assert loaded.deleted == 0
    for number, name in enumerate(NAMES[3:]):
        loaded = database.load(replacing(only={"event": (name,)}), named(2, name, first=number * 10))
        assert (loaded.rows, loaded.deleted) == (2, 3)
    assert held(database) == dict.fromkeys(NAMES[3:], 2)


def test_of_several_values_each_is_replaced(database: Database) -> None:
    database.load(replacing(), named(5, "a"), named(5, "b", first=10), named(5, "c", first=20))
    loaded = database.load(replacing(only={"event": ("a", "b")}), named(4, "a"), named(3, "b", first=10))
    assert (loaded.rows, loaded.deleted) == (7, 10)
    assert held(database) == {"a": 4, "b": 3, "c": 5}


def test_the_filter_is_exact_whatever_the_column_takes_for_one(known: Database) -> None:
    kind = "text COLLATE NOCASE" if isinstance(known, (DuckDB, SQLite)) else "text"
    known.run(f"CREATE TABLE events (uuid text, event {kind}, created_at timestamp, properties text)")
    known.load(replacing(), named(3, "click"), named(4, "Click", first=10))
    target = replacing(only={"event": ("click",)})
    if isinstance(known, SQLite):
        with pytest.raises(PostHogLoadError, match="treats values as equal that differ in event"):
            known.load(target, named(1, "click"))
        assert known.count() == 7
    else:
        assert known.load(target, named(1, "click")).deleted == 3
        assert known.count() == 5


def test_the_guard_counts_the_rows_that_the_filter_covers(database: Database) -> None:
    database.load(replacing(), named(1_500, "a"), named(8, "b", first=5_000))
    with pytest.raises(PostHogIncompleteError, match=r"1,500 rows are there, and PostHog shows 100"):
        database.load(replacing(only={"event": ("a",)}), named(100, "a"))
    with pytest.raises(PostHogIncompleteError, match=r"8 rows are there, and PostHog shows 0"):
        database.load(replacing(only={"event": ("b",)}), SCHEMA.empty_table())
    database.load(replacing(only={"event": ("b",)}), named(1, "b", first=5_000))
    assert held(database) == {"a": 1_500, "b": 1}


def test_rows_that_have_no_value_there_are_an_error(database: Database) -> None:
    """Of an older load without the column: nobody can tell whether they are of the filter, and would be doubled."""
    database.load(replacing(), events(4).drop_columns(["event"]))
    with pytest.raises(PostHogSettingsError, match="has 4 rows without 'event'"):
        database.load(replacing(only={"event": ("click",)}), events(4))
    assert database.count() == 4
    following = replacing(start=END, end=END + DAY, only={"event": ("click",)})
    assert database.load(following, events(2, first=50, start=END)).rows == 2


def test_a_filter_by_a_number_and_of_a_whole_table(database: Database) -> None:
    schema = pa.schema([("person_id", pa.string()), ("cohort_id", pa.int64())])

    def members(cohort: int, *persons: str) -> Any:
        table = pa.table([list(persons), [cohort] * len(persons)], schema)
        return database.load(whole("members", only={"cohort_id": (cohort,)}), table)

    members(7, "a", "b")
    members(8, "a", "c")
    assert members(7, "b").deleted == 2
    found = sorted(database.rows("SELECT cohort_id, person_id FROM members"))
    assert found == [(7, "b"), (8, "a"), (8, "c")]


def test_a_filter_by_a_column_that_is_not_loaded_is_refused(database: Database) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        database.load(replacing(only={"name": ("click",)}), events(1))
    assert refused.value.field == "columns"


def test_loads_of_several_filters_side_by_side_end_with_all_rows(postgres: Postgres) -> None:
    """As mapped tasks do; the first of them makes the table."""
    for _ in range(2):
        with ExitStack() as stack:
            targets = [replacing(only={"event": (name,)}) for name in ("a", "b", "c")]
            loaders = [stack.enter_context(postgres.loader(target)) for target in targets]
            for loader in loaders:
                loader.open(SCHEMA)
            for at, loader in enumerate(loaders):
                loader.write(named(10 + at, "abc"[at], first=at * 100))
            for loader in reversed(loaders):
                loader.commit()
        assert held(postgres) == {"a": 10, "b": 11, "c": 12}


def test_replaces_of_a_whole_table_side_by_side_do_not_double_it(postgres: Postgres) -> None:
    with postgres.loader(whole()) as first, postgres.loader(whole()) as second:
        for loader, rows in ((first, events(5)), (second, events(4))):
            loader.open(SCHEMA)
            loader.write(rows)
        second.commit()
        first.commit()
    assert postgres.uuids() == events(5).column("uuid").to_pylist()


# Counting along.


def test_pieces_of_time_are_counted_before_the_commit(database: Database) -> None:
    database.load(replacing(), events(6), events(2, start=START + timedelta(hours=1)))
    hour = timedelta(hours=1)
    with database.loader(replacing(start=END, end=END + DAY, only={"event": ("click",)})) as loader:
        loader.open(SCHEMA)
        spans = [(START, START + hour), (START + hour, START + 2 * hour), (START + 2 * hour, END)]
        assert loader.counts(spans) == [6, 2, 0]
        assert loader.counts([(START, END)], "uuid") == [6]
