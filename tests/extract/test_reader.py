"""Reading in bulk against the emulator: whatever the rows are like, each of them lands once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError, PostHogValidationError
from airflow_provider_posthog.extract import named_sources, sources
from airflow_provider_posthog.extract.reader import Extraction, Progress
from airflow_provider_posthog.extract.windows import PARTS, Position
from tests.extract.reading import (
    SECOND,
    UTC,
    WAYS,
    column,
    event,
    full,
    lie_in_their_cells,
    read,
    settings_of,
    sliced,
    uuids,
)

pytestmark = pytest.mark.reliability

#: The emulator's own events.
FIRST, DAYS, EVENTS = datetime(2026, 3, 1, tzinfo=UTC), 40, 3000
LAST = FIRST + timedelta(days=DAYS)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(events=EVENTS, start="2026-03-01", days=DAYS) as process:
        yield process


@pytest.fixture
def settings(rows: EmulatorProcess) -> ClientSettings:
    return settings_of(rows.url, rows)


@pytest.mark.parametrize("generation", ["A", "C"])
@pytest.mark.parametrize(("by", "zone"), [("created_at", "America/New_York"), ("timestamp", "Asia/Kathmandu")])
def test_every_event_lands_once_and_in_its_cell(
    rows: EmulatorProcess, settings: ClientSettings, by: Any, zone: str, generation: str
) -> None:
    rows.settings(timezone=zone, generation=generation)
    chunks = read(settings, sources.events(time_column=by), FIRST, LAST, page_rows=200)
    found = column(chunks)
    assert len(found) == len(set(found)) == EVENTS == rows.count_events("2026-03-01", "2026-05-01", by)
    assert lie_in_their_cells(chunks)
    assert 15 <= len(full(chunks)) <= 25
    assert chunks[0].table.schema.names == list(sources.EVENT_COLUMNS)
    for chunk in chunks:
        times = chunk.table.column(by).to_pylist()
        assert all(chunk.window.start <= each < chunk.window.end for each in times)
        order = list(zip(times, column([chunk]), strict=True))
        assert order == sorted(order)
        assert chunk.resume_after == chunk.window.after()
    assert None not in [chunk.resume_after for chunk in chunks]


@pytest.mark.parametrize("generation", ["A", "C"])
@pytest.mark.parametrize(("by", "zone"), [("created_at", "America/New_York"), ("timestamp", "Asia/Kathmandu")])
def test_every_row_of_a_query_lands_once_and_in_order(
    rows: EmulatorProcess, settings: ClientSettings, by: Any, zone: str, generation: str
) -> None:
    """A query knows no key of PostHog's: it is read by slices of time."""
    rows.settings(timezone=zone, generation=generation)
    chunks = read(settings, sliced(by), FIRST, LAST, page_rows=200)
    found = column(chunks)
    assert len(found) == len(set(found)) == EVENTS
    order = list(zip(column(chunks, by), found, strict=True))
    assert order == sorted(order)
    assert 15 <= len(chunks) <= 20
    for chunk in chunks:
        times = chunk.table.column(by).to_pylist()
        assert all(chunk.window.start <= each < chunk.window.end for each in times)
        assert chunk.resume_after == Position(chunk.window.end)


def test_what_is_read_is_what_is_there(rows: EmulatorProcess, settings: ClientSettings, day: datetime) -> None:
    made = event(day + MICROSECOND, created=day + SECOND, name="Größe", text="💥 \\ \" '", deep={"a": [1, None]})
    rows.add_events([made])
    rows.settings(timezone="America/New_York")
    (chunk,) = full(read(settings, sources.events(), day, day + timedelta(days=1)))
    (row,) = chunk.table.to_pylist()
    assert row["uuid"] == made["uuid"]
    assert row["event"] == "Größe"
    assert row["timestamp"] == day + MICROSECOND
    assert row["created_at"] == day + SECOND
    assert "💥" in row["properties"]
    assert tuple(row) == sources.EVENT_COLUMNS


def test_windows_are_half_open(rows: EmulatorProcess, settings: ClientSettings, day: datetime) -> None:
    edges = [event(day - MICROSECOND), event(day), event(day + SECOND - MICROSECOND), event(day + SECOND)]
    rows.add_events(edges)
    assert sorted(column(read(settings, sources.events(), day, day + SECOND))) == uuids(edges[1:3])
    assert column(read(settings, sources.events(), day, day)) == []


@pytest.mark.parametrize("page_rows", [1, 7, 40, 100])
@pytest.mark.parametrize("way", WAYS)
def test_ties_at_every_edge(
    rows: EmulatorProcess, settings: ClientSettings, day: datetime, way: str, page_rows: int
) -> None:
    """Microseconds with many rows, close together and far apart; and days, events and distinct ids with many."""
    at = [
        day,
        day + MICROSECOND,
        day + 5 * MICROSECOND,
        day + SECOND,
        day + timedelta(hours=5),
        day + timedelta(days=1),
    ]
    made = [
        {**event(moment, name=f"e{number % 3}"), "distinct_id": f"d{number % 5 // 3}"}
        for moment, many in zip(at, [9, 1, 41, 30, 2, 9], strict=True)
        for number in range(many)
    ]
    rows.add_events(made)
    source = sources.events(time_column="timestamp") if way == "cells" else sliced("timestamp")
    chunks = read(settings, source, day, day + timedelta(days=2), page_rows=page_rows)
    assert sorted(column(chunks)) == uuids(made)
    assert len(column(chunks)) == len(made)
    safe = [chunk.resume_after for chunk in chunks if chunk.resume_after]
    assert safe[-1].as_json()["until" if way == "cells" else "time"] == f"{day + timedelta(days=2):%FT%T.%fZ}"
    assert all(chunk.resume_after is None for chunk in chunks if chunk.window.last != PARTS)
    for done in range(0, len(chunks), 9 if page_rows == 1 else 3):
        resume = chunks[done].resume_after
        if resume is None:
            continue
        again = column(read(settings, source, day, day + timedelta(days=2), page_rows=13, resume_after=resume))
        assert sorted([*column(chunks[: done + 1]), *again]) == uuids(made)


@pytest.mark.parametrize("way", WAYS)
def test_more_rows_in_a_microsecond_than_posthog_answers(
    rows: EmulatorProcess, settings: ClientSettings, day: datetime, way: str
) -> None:
    """As events have whose times are only days. They come in parts of their hashes, each counted by the server."""
    made = [event(day) for _ in range(50_500)]
    for first in range(0, len(made), 10_000):
        rows.add_events(made[first : first + 10_000])
    if way == "cells":  # of one event and one distinct id as well
        chunks = read(
            settings, sources.events(["uuid"], time_column="timestamp"), day, day + timedelta(days=1), page_rows=10_000
        )
        assert None not in [chunk.resume_after for chunk in chunks]
    else:
        source = sources.hogql("SELECT uuid, timestamp FROM events", key="uuid", time_column="timestamp")
        chunks = read(settings, source, day, day + timedelta(days=1), page_rows=10_000)
        *parts, last, rest = [chunk.resume_after for chunk in chunks]
        edges = Position(day + MICROSECOND), Position(day + timedelta(days=1))
        assert (set(parts), last, rest) == ({None}, *edges)
    assert sorted(column(chunks)) == uuids(made)
    assert max(chunk.rows for chunk in chunks) <= 10_000


def test_copies_are_counted_and_dropped(rows: EmulatorProcess, settings: ClientSettings, day: datetime) -> None:
    made = [event(day + number * SECOND) for number in range(20)]
    again = [{**each, "created_at": (day + timedelta(minutes=1)).isoformat(), "event": "again"} for each in made[:5]]
    rows.add_events([*made, made[7], made[7], *again])
    (chunk,) = full(read(settings, sources.events(), day, day + timedelta(days=1)))
    assert (chunk.rows, chunk.counted, chunk.duplicates) == (20, 27, 7)
    assert sorted(column([chunk])) == uuids(made)
    # The one that came last is kept, as PostHog keeps it.
    assert column([chunk], "event").count("again") == 5
    assert column([chunk], "created_at") == sorted(column([chunk], "created_at"))


def test_copies_in_different_cells_are_rows_of_their_own(
    rows: EmulatorProcess, settings: ClientSettings, day: datetime
) -> None:
    """As they are to PostHog: ClickHouse merges only what has the same day, event and distinct id."""
    made = [event(day + number * SECOND) for number in range(20)]
    earlier = (day - timedelta(days=9)).isoformat()
    rows.add_events([*made, {**made[0], "event": "x"}, {**made[1], "timestamp": earlier}, {**made[2], "event": "e"}])
    chunks = read(settings, sources.events(), day, day + timedelta(days=1), page_rows=20)
    assert sorted(column(chunks)) == sorted([*(each["uuid"] for each in made), made[0]["uuid"], made[1]["uuid"]])
    assert sum(chunk.duplicates for chunk in chunks) == 1


def test_a_range_without_rows(rows: EmulatorProcess, settings: ClientSettings, day: datetime) -> None:
    before = len(rows.calls("query/"))
    (chunk,) = read(settings, sources.events(), day, day + timedelta(days=1))
    assert chunk.rows == 0
    assert chunk.resume_after == Position(day + timedelta(days=1))
    assert chunk.table.schema.names == list(sources.EVENT_COLUMNS)
    assert len(rows.calls("query/")) - before == 2


def test_late_events_are_found_however_late(rows: EmulatorProcess, settings: ClientSettings, day: datetime) -> None:
    late = [event(day - timedelta(days=days), created=day + days * SECOND) for days in (0, 1, 6, 8, 400)]
    rows.add_events(late)
    until = day + timedelta(days=1)
    assert sorted(column(read(settings, sources.events(), day, until, page_rows=2))) == uuids(late)
    bounded = sources.events(scan_back=timedelta(days=7))
    assert sorted(column(read(settings, bounded, day, until, page_rows=2))) == uuids(late[:3])


@pytest.mark.parametrize("way", WAYS)
def test_a_reading_is_taken_up_again(rows: EmulatorProcess, settings: ClientSettings, way: str) -> None:
    first: list[Any] = []
    safe = None
    with Extraction(settings, WAYS[way](), FIRST, LAST, page_rows=200) as extraction:
        for chunk in extraction:
            first += column([chunk])
            safe = chunk.resume_after
            if len(first) > 1000:
                break
    assert safe is not None
    assert Position.from_json(safe.as_json()) == safe
    chunks = read(settings, WAYS[way](), FIRST, LAST, page_rows=300, resume_after=safe)
    assert chunks[0].window.start == safe.time
    assert len(first) + len(column(chunks)) == EVENTS
    assert len({*first, *column(chunks)}) == EVENTS


@pytest.mark.parametrize("by", ["created_at", "timestamp"])
def test_a_reading_is_taken_up_again_after_any_chunk(
    rows: EmulatorProcess, settings: ClientSettings, day: datetime, by: Any
) -> None:
    """With pages of another size, which make other cells."""
    names = ["$pageview", "$pageview", "$pageview", "a", "$autocapture", "ä", "b"]
    clocks = [0, 0, 0, -1, -400, 0, 1, 0]
    made = [
        {
            **event(day + number * SECOND, name=names[number % 7]),
            "timestamp": (
                day + timedelta(days=clocks[number % 8] if by == "created_at" else 0, seconds=number)
            ).isoformat(),
            "distinct_id": f"d{max(0, number % 9 - 4)}",
        }
        for number in range(150)
    ]
    rows.add_events(made)
    source, until = sources.events(["uuid"], time_column=by), day + timedelta(days=1)
    chunks = read(settings, source, day, until, page_rows=6)
    assert sorted(column(chunks)) == uuids(made)
    for done in range(0, len(chunks), 3):
        again = read(settings, source, day, until, page_rows=17, resume_after=chunks[done].resume_after)
        assert sorted([*column(chunks[: done + 1]), *column(again)]) == uuids(made)


def test_a_reading_that_was_begun_is_taken_up_again_for_a_range_that_ends_earlier(
    rows: EmulatorProcess, settings: ClientSettings, day: datetime
) -> None:
    made = [event(day + number * SECOND, name=f"e{number % 7}") for number in range(30)]
    rows.add_events(made)
    chunks = read(settings, sources.events(), day, day + timedelta(days=1), page_rows=5)
    until = day + 15 * SECOND
    again = read(settings, sources.events(), day, until, page_rows=4, resume_after=full(chunks)[1].resume_after)
    seen = {each for chunk in full(chunks)[:2] for each in column([chunk])}
    assert sorted(column(again)) == [each for each in uuids(made[:15]) if each not in seen]


@pytest.mark.parametrize("place", [(5, "a", 7, 3), (5, ("a", 1)), ("x",)])
def test_what_is_no_place_to_go_on_from_is_refused(settings: ClientSettings, day: datetime, place: Any) -> None:
    with (
        pytest.raises(PostHogSettingsError, match="resume_after: is not a place"),
        Extraction(settings, sources.events(), day, LAST, resume_after=Position(day, LAST, place)) as extraction,
    ):
        next(iter(extraction))


def test_what_was_begun_is_one_time_for_all_of_its_cells(rows: EmulatorProcess, settings: ClientSettings) -> None:
    """Its places say nothing about a part of it, as a reading that settles more slowly would make."""
    end = datetime.now(UTC)
    made = [event(end - timedelta(minutes=number), name=f"e{number}") for number in range(1, 9)]
    rows.add_events(made)
    start, source = (
        end - timedelta(hours=1),
        sources.events(where="event IN ('e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7', 'e8')"),
    )
    options: dict[str, Any] = {"page_rows": 1}
    chunks = full(read(settings, source, start, end, settle=timedelta(0), **options))
    resume = chunks[2].resume_after
    assert resume is not None
    assert resume.until == end
    wait = datetime.now(UTC) - end + timedelta(seconds=1)
    again = read(settings, source, start, end, settle=wait, resume_after=resume, **options)
    assert sorted([*column(chunks[:3]), *column(again)]) == uuids(made)
    assert {chunk.window.end for chunk in again} == {end}


def test_looking_back(rows: EmulatorProcess, settings: ClientSettings, day: datetime) -> None:
    made = [event(day - timedelta(hours=2)), event(day + SECOND)]
    rows.add_events(made)
    until = day + timedelta(hours=1)
    source = sources.events(time_column="timestamp")
    assert column(read(settings, source, day, until)) == [made[1]["uuid"]]
    assert column(read(settings, source, day, until, look_back=timedelta(hours=3))) == [each["uuid"] for each in made]


def test_what_has_not_settled_is_waited_for(rows: EmulatorProcess, settings: ClientSettings) -> None:
    end = datetime.now(UTC)
    early = event(end - timedelta(minutes=30))
    late = event(end - timedelta(milliseconds=200))
    rows.add_events([early])
    found = []
    source = sources.events(["uuid"], where="event = 'e'")
    with Extraction(settings, source, end - timedelta(hours=1), end, settle=timedelta(seconds=2)) as extraction:
        for chunk in extraction:
            if not found:
                assert datetime.now(UTC) < extraction.settled_at
                rows.add_events([late])  # which came to PostHog before, but is seen only now
            found += column([chunk])
    assert found == [early["uuid"], late["uuid"]]
    assert datetime.now(UTC) >= extraction.settled_at == end + timedelta(seconds=2)


def test_columns_of_ones_own(rows: EmulatorProcess, settings: ClientSettings) -> None:
    columns = {"browser": "properties.$browser", "amount": "properties.amount", "day of it": "toDate(timestamp)"}
    names = ["purchase", "add_to_cart"]
    source = sources.events(
        columns, events=names, where="timestamp < toDateTime({edge})", values={"edge": "2026-03-20"}
    )
    chunks = read(settings, source, FIRST, LAST, page_rows=10)
    total = read(settings, sources.events(["timestamp"], events=names), FIRST, LAST)
    assert len(column(chunks, "browser")) == sum(
        each < FIRST + timedelta(days=19) for each in column(total, "timestamp")
    )
    table = chunks[0].table
    assert [str(kind) for kind in table.schema.types] == ["string", "double", "date32[day]"]
    assert isinstance(table.column("day of it")[0].as_py(), date)
    assert 0 < len(column(read(settings, sources.events(events="purchase"), FIRST, LAST))) < EVENTS


def test_other_tables(rows: EmulatorProcess, settings: ClientSettings) -> None:
    until = datetime.now(UTC)
    people = read(settings, sources.persons(), until, until, page_rows=20)
    assert len(set(column(people, "id"))) == len(column(people, "id")) == 150
    assert len(people) > 5
    assert {chunk.resume_after for chunk in people} == {None}
    created = read(settings, sources.persons(["id"], time_column="created_at"), FIRST - timedelta(days=90), LAST)
    assert sorted(column(created, "id")) == sorted(column(people, "id"))
    assert len(column(read(settings, sources.groups(), FIRST, LAST, page_rows=10), "key")) == 25
    sessions = column(read(settings, sources.sessions(), FIRST, LAST, page_rows=500), "session_id")
    assert len(sessions) == len(set(sessions)) > 1000
    assert column(read(settings, named_sources.cohort_members(1), FIRST, LAST), "person_id") == []


def test_persons_of_a_clock_that_is_ahead_are_read_too(posthog: EmulatorProcess) -> None:
    now = datetime.now(UTC)
    ahead = [timedelta(minutes=5), timedelta(hours=23), timedelta(days=40)]
    times = [now - timedelta(days=400), *(now + each for each in ahead)]
    made = posthog.add_persons([{"distinct_ids": [uuid4().hex], "created_at": each.isoformat()} for each in times])
    with Extraction(settings_of(posthog.url, posthog), sources.persons(), page_rows=20) as extraction:
        found = [value for chunk in extraction for value in chunk.table.column("id").to_pylist()]
    assert set(made) <= set(found)
    assert len(found) == len(set(found)) == extraction.progress.rows


def test_queries(rows: EmulatorProcess, settings: ClientSettings) -> None:
    sql = "SELECT uuid AS id, timestamp AS at, event FROM events WHERE event = {name} -- only these"
    source = sources.hogql(sql, key="id", time_column="at", values={"name": "purchase"}, name="purchases")
    chunks = read(settings, source, FIRST, LAST, page_rows=10)
    assert chunks[0].table.schema.names == ["id", "at", "event"]
    assert len(column(chunks, "id")) == len(column(read(settings, sources.events(events="purchase"), FIRST, LAST)))
    counts = (
        "SELECT event, count() AS n FROM events WHERE timestamp > toDateTime('2026-01-01T00:00:00Z') GROUP BY event"
    )
    found = read(settings, sources.hogql(counts, key="event"), FIRST, LAST, page_rows=3)
    assert sum(column(found, "n")) >= EVENTS
    with pytest.raises(PostHogIncompleteError, match="event does not identify them"):
        read(settings, sources.hogql(sql, key="event", values={"name": "purchase"}), FIRST, LAST)
    with pytest.raises(PostHogIncompleteError, match="have no key"):
        read(settings, sources.hogql("SELECT NULL AS id FROM numbers(3)", key="id"), FIRST, LAST)
    with pytest.raises(PostHogValidationError, match="nope"):
        read(settings, sources.hogql("SELECT nope FROM events", key="nope"), FIRST, LAST)
    days = "SELECT uuid AS id, toDate(timestamp) AS day FROM events"
    with pytest.raises(PostHogSettingsError, match="day, which is not a time"):
        read(settings, sources.hogql(days, key="id", time_column="day"), FIRST, LAST)


def test_progress(rows: EmulatorProcess, settings: ClientSettings) -> None:
    said: list[Progress] = []
    options: dict[str, Any] = {"page_rows": 500, "on_progress": said.append}
    chunks = read(settings, sources.events(), FIRST, LAST, **options)
    assert [each.windows for each in said] == list(range(1, len(chunks) + 1))
    assert {each.rows_counted for each in said} == {EVENTS}
    assert said[-1].rows == EVENTS
    assert said[-1].seconds_left == 0
    assert said[0].seconds_left
    assert said[-1].size > 100 * EVENTS
    assert str(said[-1]).startswith(f"3,000 rows of 3,000 (100%) in {len(chunks)} windows, ")
    assert 6 <= len(full(chunks)) <= 9
    assert str(Progress(0, 0, 0, 0, 0, 0.0)) == "0 rows in 0 windows, 0 rows/s"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"page_rows": 0}, "page_rows"),
        ({"page_rows": 50_000}, "page_rows"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"settle": timedelta(seconds=-1)}, "settle"),
        ({"start": datetime(2026, 1, 1)}, "start"),
        ({"end": datetime(2026, 1, 1, tzinfo=UTC)}, "start"),
        ({"source": sources.groups(), "resume_after": Position(FIRST)}, "resume_after"),
    ],
)
def test_what_can_not_be_read(options: dict[str, Any], field: str) -> None:
    given = {"source": sources.events(), "start": FIRST, "end": LAST, **options}
    with pytest.raises(PostHogSettingsError, match=field):
        Extraction(ClientSettings(), **given)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: sources.events(time_column="inserted_at"), "time_column"),  # type: ignore[arg-type]
        (lambda: sources.events({"timestamp": "toStartOfDay(timestamp)"}), "columns"),
        (lambda: sources.events({"a`b": "event"}), "columns"),
        (lambda: sources.events({"event": "lower(event)"}, events="a"), "columns"),
        (lambda: sources.groups({"key": "lower(key)"}), "columns"),
        (lambda: sources.events(events=""), "events"),
        (lambda: sources.events(events=[]), "events"),
        (lambda: sources.events(events=["a", ""]), "events"),
        (lambda: sources.events(events="['a', 'b']"), "events"),
        (lambda: sources.events([]), "columns"),
        (lambda: sources.events("uuid"), "columns"),
        (lambda: sources.events(values={"window_start": 1}), "values"),
        (lambda: sources.hogql("SELECT 1; SELECT 2", key="a"), "query"),
        (lambda: sources.hogql("SELECT 1", key=" "), "key"),
    ],
)
def test_what_is_no_source(make: Any, field: str) -> None:
    with pytest.raises(PostHogSettingsError, match=field):
        make()


def test_names_that_are_no_columns_of_the_key() -> None:
    """Texts, functions and parts of other columns in a key have nothing to do with columns of these names."""
    columns = {"b": "1", "concat": "2", "key": "key", "c": "3"}
    assert sources.Source("x", "t", columns, key="concat('b', key, properties.c)").columns == columns
    assert sources.events({"event": "lower(event)"}).columns["event"] == "lower(event)"
    assert sources.events({"a": "event"}, events="[a] is a name").values == {"posthog_event_names": ["[a] is a name"]}
