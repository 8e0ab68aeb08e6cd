"""Reading in bulk while PostHog misbehaves: all rows, or an error that says which are in doubt."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogTransportError,
)
from airflow_provider_posthog.extract import cell_planning, page_size, sources, statements
from airflow_provider_posthog.extract.reader import Extraction
from airflow_provider_posthog.extract.windows import Position
from airflow_provider_posthog.results.clickhouse_values import moment_of
from tests.extract.reading import (
    REFUSALS,
    SECOND,
    WAYS,
    Middleman,
    Rule,
    Told,
    column,
    envelope,
    event,
    full,
    read,
    refusing,
    settings_of,
    sliced,
    uuids,
)

pytestmark = pytest.mark.reliability

ROWS = 120
DAY = timedelta(days=1)
QUERY = "*/query/"
Answer = dict[str, Any]


@pytest.fixture
def made(rows: EmulatorProcess, day: datetime) -> list[Answer]:
    """Of the day, one each ten minutes."""
    events = [event(day + timedelta(minutes=10 * number)) for number in range(ROWS)]
    rows.add_events(events)
    return events


def is_page(sql: str) -> bool:
    return "ORDER BY created_at" in sql


def on_pages(change: Callable[[int, Answer], Told], times: int = 10**6) -> Rule:
    """Change the answers to the first so many pages that have rows; the change gets the page's number."""
    numbers = count()
    lock = threading.Lock()

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        if not is_page(sql) or not answer.get("results"):
            return status, answer
        with lock:
            number = next(numbers)
        return change(number, answer) if number < times else (status, answer)

    return rule


def landed(settings: ClientSettings, day: datetime, way: str = "cells", **options: Any) -> list[str]:
    chunks = read(settings, WAYS[way](), day, day + DAY, **{"page_rows": 20, **options})
    found = column(chunks)
    assert len(found) == len(set(found))
    return sorted(found)


def lost(number: int, answer: Answer) -> Told:
    return 200, {**answer, "results": answer["results"][1:]}


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_are_missing_once_are_read_again(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    man.rule = on_pages(lost, times=2)
    assert landed(settings, day, way) == uuids(made)
    assert sum("uniqExact" in sql for sql in man.asked) == 2


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_stay_missing_are_an_error_with_both_numbers(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    man.rule = on_pages(lost)
    with pytest.raises(PostHogIncompleteError) as raised:
        landed(settings, day, way, page_rows=200)
    said = str(raised.value)
    assert "counted 120 rows" in said
    assert "answered 119" in said
    assert day.strftime("[%Y-%m-%dT00:00:00.000000Z") in said


@pytest.mark.parametrize("way", WAYS)
def test_events_that_arrive_during_the_reading_land(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime, way: str
) -> None:
    late = event(day + timedelta(hours=5, seconds=1))

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if is_page(sql) and not arrived.is_set():
            arrived.set()
            rows.add_events([late])
        return ask()

    arrived = threading.Event()
    man.rule = rule
    assert landed(settings, day, way, page_rows=200) == uuids([*made, late])


@pytest.mark.parametrize("way", WAYS)
def test_events_that_never_stop_arriving_are_an_error(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime, way: str
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if is_page(sql):
            rows.add_events([event(day + SECOND)])
        return ask()

    man.rule = rule
    with pytest.raises(PostHogIncompleteError, match="Rows may still be arriving"):
        landed(settings, day, way, page_rows=200)


def test_copies_that_are_merged_meanwhile_are_no_loss(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    """Counted while there were two of each, read when ClickHouse has merged them, for ever after."""
    rows.add_events(made[:5])

    def merged(number: int, answer: Answer) -> Told:
        seen = {row[0]: row for row in answer["results"]}
        return 200, {**answer, "results": list(seen.values())}

    man.rule = on_pages(merged)
    assert landed(settings, day, page_rows=200) == uuids(made)


@pytest.mark.parametrize("name", ["cached", "error", "no results", "no types", "no JSON object"])
def test_answers_that_prove_nothing(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, name: str
) -> None:
    changes: dict[str, tuple[Callable[[Answer], Any], type[Exception], str]] = {
        "cached": (lambda a: {**a, "is_cached": True}, PostHogTransportError, "cache"),
        "error": (lambda a: {**a, "error": "Unknown column"}, PostHogJobFailed, "Unknown column"),
        "no results": (lambda a: {"query_status": {"complete": False}}, PostHogTransportError, "no 'results'"),
        "no types": (lambda a: {**a, "types": None}, PostHogTransportError, "what its columns are"),
        "no JSON object": (lambda a: [1], PostHogTransportError, "no 'results'"),
    }
    change, kind, text = changes[name]
    man.rule = on_pages(lambda number, answer: (200, change(answer)))
    with pytest.raises(kind, match=text):
        landed(settings, day)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("refusal", REFUSALS, ids=[f"{status}-{number}" for number, (status, _) in enumerate(REFUSALS)])
def test_windows_that_are_too_much_are_halved(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, refusal: Told, way: str
) -> None:
    man.rule = refusing(20, refusal)
    assert landed(settings, day, way, page_rows=60) == uuids(made)


@pytest.mark.parametrize("way", WAYS)
def test_windows_whose_answer_is_too_large_are_halved(
    settings: ClientSettings,
    rows: EmulatorProcess,
    day: datetime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    """The first rows are short, and so are those of the first look: nobody knows before that others are long."""
    monkeypatch.setattr(page_size, "TARGET_BYTES", 60_000)
    caplog.set_level("INFO")
    short = [event(day + number * SECOND, name="a") for number in range(200)]
    long = [event(day + (400 + number) * SECOND, name="b", text="x" * 2000) for number in range(200)]
    rows.add_events([*short, *long])
    assert landed(settings, day, way, page_rows=200) == uuids([*short, *long])
    said = [record.getMessage() for record in caplog.records if "was too large" in record.getMessage()]
    assert said
    assert not any("too much for one query" in record.getMessage() for record in caplog.records)


def test_many_rows_in_a_microsecond_are_halved_by_hash(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    crowd = [event(day + SECOND) for _ in range(30)]
    rows.add_events(crowd)
    man.rule = refusing(10, REFUSALS[0])
    chunks = read(settings, sliced(), day, day + DAY, page_rows=60)
    assert sorted(column(chunks)) == uuids(crowd)
    assert sum(not chunk.window.is_whole for chunk in chunks) >= 3
    assert chunks[-1].resume_after == Position(day + DAY)


CROWDS: dict[str, Callable[[int], Answer]] = {
    "days": lambda number: {"timestamp": f"2011-12-{number + 1:02}T00:00:00Z"},
    "events of a day": lambda number: {"event": f"e{number}"},
    "distinct ids of an event": lambda number: {"distinct_id": f"d{number}"},
    "uuids of a distinct id": lambda number: {},
    "two distinct ids": lambda number: {"distinct_id": f"d{number % 2}"},
    "days before the key's": lambda number: {"timestamp": f"1969-12-{number + 1:02}T00:00:00Z", "event": f"e{number}"},
}


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("most", [10, 2])
def test_a_cell_that_is_too_much_is_halved_by_what_tells_its_rows_apart(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, crowd: str, most: int
) -> None:
    """Pages that were planned while larger ones were answered."""
    made = [{**event(day + SECOND), **CROWDS[crowd](number)} for number in range(30)]
    rows.add_events(made)
    man.rule = refusing(most, REFUSALS[0])
    chunks = read(settings, sources.events(["uuid"]), day, day + DAY, page_rows=60)
    assert sorted(column(chunks)) == uuids(made)
    assert max(chunk.rows for chunk in chunks) <= most
    safe = chunks[len(chunks) // 2].resume_after
    man.rule = lambda sql, values, ask: ask()
    again = read(settings, sources.events(["uuid"]), day, day + DAY, page_rows=7, resume_after=safe)
    assert sorted([*column(chunks[: len(chunks) // 2 + 1]), *column(again)]) == uuids(made)


def test_copies_of_one_uuid_cannot_be_halved(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """Nothing tells them apart: not an endless search, but an error."""
    rows.add_events([event(day)] * 30)
    assert len(landed(settings, day)) == 1
    man.rule = refusing(10, REFUSALS[0])
    before = len(man.asked)
    with pytest.raises(PostHogIncompleteError, match=r"cannot answer for the 30 rows"):
        landed(settings, day, page_rows=60)
    assert len(man.asked) - before < 20


def test_rows_that_the_count_for_halves_forgets_are_an_error(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """The first count is right, the one that a page is halved by is not."""
    rows.add_events([event(day + number * SECOND, name=f"e{number}") for number in range(30)])
    counts = count()

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = refusing(20, REFUSALS[0])(sql, values, ask)
        if "first_hash" in sql and next(counts):
            answer["results"] = answer["results"][1:]
        return status, answer

    man.rule = rule
    with pytest.raises(PostHogIncompleteError, match=r"counted 30 rows in .*, but 29 in its parts"):
        landed(settings, day, page_rows=60)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_always_too_much_is_an_error_that_ends(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    man.rule = refusing(-1, REFUSALS[0])
    with pytest.raises(PostHogIncompleteError, match=r"cannot answer for the .* rows of \["):
        landed(settings, day, way)
    assert len(man.asked) < 100


def test_counting_that_is_too_much_is_halved(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        edges = [moment_of(values[name]) for name in ("window_start", "window_end") if name in values]
        is_long = "intDiv" in sql and edges[1] - edges[0] > timedelta(hours=7)
        return REFUSALS[0] if is_long or sql.endswith("LIMIT 10") else ask()

    man.rule = rule
    assert landed(settings, day, "slices") == uuids(made)
    man.rule = lambda sql, values, ask: REFUSALS[1] if "intDiv" in sql else ask()
    with pytest.raises(PostHogIncompleteError, match="cannot even count"):
        landed(settings, day, "slices")


#: Days on which events of one day of arrival have happened, by wrong clocks and by phones that were offline.
CLOCKS = [0, 0, 1, 2, 40, 400, 1500, 4500, 14_000, 16_000, 30_000, -1, -300, -50_000, -60_000]


@pytest.mark.parametrize("most", [2, 4, 8])
def test_a_count_that_is_too_much_is_split_by_days_what_is_recent_from_the_history(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, most: int
) -> None:
    """Days before 1970 and after 2149 are each counted by themselves: no index finds them among the others."""
    made = [{**event(day), "timestamp": (day - timedelta(days=clock)).isoformat()} for clock in CLOCKS]
    rows.add_events(made)
    asked: list[tuple[datetime | None, datetime | None]] = []

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if sql.endswith("LIMIT 10"):
            return REFUSALS[0]
        if "first_hash" not in sql:
            return ask()
        first, last = (values.get(name) for name in ("window_first_day", "window_last_moment"))
        asked.append((first and moment_of(first), last and moment_of(last)))
        if "19700101" in sql or "21471219" in sql:  # these are found by the months of the table
            return ask()
        held = [
            clock
            for clock in CLOCKS
            if (not first or day - timedelta(days=clock) >= moment_of(first))
            and (not last or day - timedelta(days=clock) <= moment_of(last))
        ]
        return REFUSALS[0] if len(held) > most else ask()

    man.rule = rule
    source = sources.events(["uuid", "timestamp"])
    chunks = read(settings, source, day, day + DAY, page_rows=2)
    assert sorted(column(chunks)) == uuids(made)
    assert asked[0] == (None, None)
    recent = day - timedelta(days=2)
    assert [each for each in asked if each[0] == recent or each[1] == recent - timedelta(microseconds=1)]
    assert not [each for each in asked if each[0] and each[1] and each[0] < recent < each[1]]
    assert len(asked) < 60
    read_by = [max(column([chunk], "timestamp")) for chunk in chunks if chunk.rows]
    assert read_by[0] > read_by[-1], "the newest days come first"
    for at, chunk in enumerate(chunks):
        again = read(settings, source, day, day + DAY, page_rows=3, resume_after=_by_json(chunk.resume_after))
        assert sorted([*column(chunks[: at + 1]), *column(again)]) == uuids(made), "what was read is not read again"


def _by_json(place: Position | None) -> Position:
    assert place is not None
    return Position.from_json(json.loads(json.dumps(place.as_json())))


def test_a_day_that_cannot_be_counted_is_an_error_that_ends(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    man.rule = lambda sql, values, ask: REFUSALS[1] if "first_hash" in sql else ask()
    with pytest.raises(PostHogIncompleteError, match=r"cannot even count the rows of .* days 2147-12-19\.\."):
        landed(settings, day)
    man.rule = lambda sql, values, ask: (
        REFUSALS[1] if "first_hash" in sql and not {"19700101", "21471219"} & set(sql.split()) else ask()
    )
    before = len(man.asked)
    with pytest.raises(PostHogIncompleteError, match=r"cannot even count the rows of .* days 2147-12-18\.\.2147-12-19"):
        landed(settings, day)
    assert len(man.asked) - before < 40


@pytest.mark.parametrize("by", ["created_at", "timestamp"])
@pytest.mark.parametrize("page_rows", [7, 60])
def test_a_day_whose_count_is_too_much_is_counted_by_ranges_of_hashes(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, by: str, page_rows: int
) -> None:
    """Also where a page is too much, whose parts have to be counted, and where the reading is taken up again."""
    names = ["a", "b", "Ä", "\U0001f600"]
    made = [
        {**event(day + number * SECOND, name=names[number % 4]), "distinct_id": f"d{number % 37}"}
        for number in range(120)
    ]
    rows.add_events(made)
    widths: list[int] = []

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        first, last = (values.get(name) for name in ("window_first_day", "window_last_moment"))
        holds_day = (not first or moment_of(first) <= day) and (not last or day <= moment_of(last))
        if "first_hash" in sql and holds_day and not {"19700101", "21471219"} & set(sql.split()):
            widths.append(values.get("window_hash_high", 1 << 64) - values.get("window_hash_low", 0))
            if widths[-1] > 1 << 62:
                return REFUSALS[len(widths) % len(REFUSALS)]
        return refusing(20, REFUSALS[0])(sql, values, ask)

    man.rule = rule
    source = sources.events(["uuid"], time_column=by)  # type: ignore[arg-type]
    chunks = read(settings, source, day, day + DAY, page_rows=page_rows)
    assert sorted(column(chunks)) == uuids(made)
    assert min(widths) == 1 << 62
    places = [chunk.resume_after for chunk in chunks]
    resumed = read(settings, source, day, day + DAY, page_rows=page_rows, resume_after=places[len(places) // 2])
    assert sorted(column(chunks[: len(places) // 2 + 1]) + column(resumed)) == uuids(made)


def test_days_without_rows_that_cannot_be_counted_at_once_are_an_error_that_ends(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    """Counting parts of each day of the history would go on for days where PostHog is just slow."""

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        width = values.get("window_hash_high", 1 << 64) - values.get("window_hash_low", 0)
        return REFUSALS[0] if "first_hash" in sql and width > 1 << 63 else ask()

    man.rule = rule
    with pytest.raises(PostHogIncompleteError, match="cannot even count"):
        landed(settings, day)
    assert len(man.asked) < 200


def test_a_count_by_hashes_that_is_too_much_is_halved(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    made = [{**event(day + number * SECOND), "distinct_id": f"d{number % 37}"} for number in range(120)]
    rows.add_events(made)

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        low, high = values.get("window_hash_low", 0), values.get("window_hash_high", 1 << 64)
        return REFUSALS[0] if "intDiv" in sql and high - low > 1 << 62 else ask()

    man.rule = rule
    assert landed(settings, day) == uuids(made)
    man.rule = lambda sql, values, ask: REFUSALS[1] if "intDiv" in sql else ask()
    with pytest.raises(PostHogIncompleteError, match=r"cannot even count .* of one event"):
        landed(settings, day)


@pytest.mark.parametrize("most", [1, 3, 7])
@pytest.mark.parametrize("by", ["created_at", "timestamp"])
def test_more_groups_than_posthog_answers_are_counted_on(
    settings: ClientSettings,
    man: Middleman,
    rows: EmulatorProcess,
    day: datetime,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    by: Any,
) -> None:
    for module in (cell_planning, statements):
        monkeypatch.setattr(module, "MAX_ROWS", most)
    made = [
        {**event(day + number * SECOND, name=f"e{number % 5}"), "timestamp": (day - timedelta(days=clock)).isoformat()}
        for number, clock in enumerate(CLOCKS if by == "created_at" else [0] * 15)
    ]
    rows.add_events(made)
    source = sources.events(["uuid"], time_column=by)
    assert sorted(column(read(settings, source, day, day + DAY, page_rows=3))) == uuids(made)
    groups = {(each["event"], each["timestamp"][:10]) for each in made}
    counts = sum("first_hash" in sql for sql in man.asked)
    assert len(groups) // most <= counts <= len(groups) // most + 2
    man.rule = refusing(3, REFUSALS[0])
    assert sorted(column(read(settings, source, day, day + DAY, page_rows=20))) == uuids(made)


def test_groups_that_are_answered_twice_are_no_endless_count(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (cell_planning, statements):
        monkeypatch.setattr(module, "MAX_ROWS", 3)
    rows.add_events([event(day, name=f"e{number}") for number in range(7)])
    first: list[Told] = []

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if "first_hash" not in sql:
            return ask()
        first.append(ask())
        return first[0]

    man.rule = rule
    with pytest.raises(PostHogTransportError, match="cannot be read"):
        landed(settings, day)
    assert len(first) == 2


def test_other_refusals_are_passed_on(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    man.rule = on_pages(lambda number, answer: (505, envelope("error", "No.")))
    with pytest.raises(PostHogServerError, match="answered 505"):
        landed(settings, day)


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": "middle", "cut_bytes": 300, "count": 3},
        {"cut": "before", "count": 2},
        {"status": 503, "count": 2, "skip": 1},
        {"status": 429, "count": 1, "skip": 3, "headers": {"Retry-After": "1"}},
    ],
    ids=["middle", "before", "503", "429"],
)
def test_the_network_and_the_limits(
    rows: EmulatorProcess, made: list[Answer], day: datetime, fault: dict[str, Any]
) -> None:
    rows.faults(path=QUERY, **fault)
    assert landed(settings_of(rows.url, rows), day) == uuids(made)
    assert rows.control("GET", "faults")["faults"] == [], "not all of it happened"


def test_a_limit_that_lasts_longer_than_a_worker_waits(
    rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    rows.faults(path=QUERY, status=429, headers={"Retry-After": "3000"}, count=-1, skip=4)
    with pytest.raises(PostHogRateLimitError) as raised:
        landed(settings_of(rows.url, rows), day)
    assert raised.value.retry_after == 3000


@pytest.mark.parametrize("way", WAYS)
def test_queries_in_flight_and_windows_in_memory_are_few(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    """Memory does not grow with the range: no page is asked for while so many windows wait to be taken."""
    lock = threading.Lock()
    busy, busiest, pages = 0, 0, 0

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        nonlocal busy, busiest, pages
        with lock:
            busy, pages = busy + 1, pages + is_page(sql)
            busiest = max(busiest, busy)
        try:
            time.sleep(0.01)  # as a query takes
            return ask()
        finally:
            with lock:
                busy -= 1

    man.rule = rule
    taken = 0
    with Extraction(settings, WAYS[way](), day, day + DAY, page_rows=3, max_in_flight=2) as extraction:
        for chunk in extraction:
            taken += 1
            assert pages <= taken + 4
            # The rows of one event are divided by hashes of their random uuids: rarely evenly.
            assert chunk.rows <= (6 if way == "cells" else 3)
    assert pages >= ROWS // 3
    assert busiest == 2


@pytest.mark.parametrize("way", WAYS)
def test_closing_ends_it(settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str) -> None:
    with Extraction(settings, WAYS[way](), day, day + DAY, page_rows=3, max_in_flight=2) as extraction:
        for chunk in extraction:
            if chunk.rows:
                break
    time.sleep(0.05)  # what is on its way arrives
    asked = len(man.asked)
    assert asked < 12
    time.sleep(0.1)
    assert len(man.asked) == asked


def test_answers_that_only_python_can_parse(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """NaN, halves of surrogate pairs and long integers."""

    def change(number: int, answer: Answer) -> Told:
        row = [*answer["results"][0][:-1], float("nan"), "\ud800", 2**100]
        return 200, {**answer, "results": [row]}

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        answer["types"] = [*answer["types"][:-3], ["a", "Float64"], ["b", "String"], ["c", "UInt128"]]
        if is_page(sql):
            answer["results"] = [[*row[:-3], float("nan"), "\ud800", 2**100] for row in answer["results"]]
        return status, answer

    rows.add_events([event(day)])
    man.rule = lambda sql, values, ask: ask() if "counted" in sql else rule(sql, values, ask)
    source = sources.events({"uuid": "uuid", "created_at": "created_at", "a": "1", "b": "2", "c": "3"})
    (chunk,) = full(read(settings, source, day, day + DAY))
    (row,) = chunk.table.to_pylist()
    assert str(row["a"]) == "nan"
    assert row["b"] == "?"
    assert row["c"] == str(2**100)
