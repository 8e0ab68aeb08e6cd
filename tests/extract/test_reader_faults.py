"""Reading in bulk while PostHog misbehaves: all rows, or an error that says which are in doubt."""

from __future__ import annotations

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
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.reader import Extraction
from tests.extract.reading import (
    REFUSALS,
    SECOND,
    Middleman,
    Rule,
    Told,
    column,
    envelope,
    event,
    read,
    refusing,
    settings_of,
    uuids,
)

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
    """Change the answers to the first so many pages; the change gets the page's number."""
    numbers = count()
    lock = threading.Lock()

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        if not is_page(sql):
            return status, answer
        with lock:
            number = next(numbers)
        return change(number, answer) if number < times else (status, answer)

    return rule


def landed(settings: ClientSettings, day: datetime, **options: Any) -> list[str]:
    chunks = read(settings, sources.events(), day, day + DAY, **{"page_rows": 20, **options})
    found = column(chunks)
    assert len(found) == len(set(found))
    return sorted(found)


def lost(number: int, answer: Answer) -> Told:
    return 200, {**answer, "results": answer["results"][1:]}


def test_rows_that_are_missing_once_are_read_again(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    man.rule = on_pages(lost, times=2)
    assert landed(settings, day) == uuids(made)
    assert sum("uniqExact" in sql for sql in man.asked) == 2


def test_rows_that_stay_missing_are_an_error_with_both_numbers(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    man.rule = on_pages(lost)
    with pytest.raises(PostHogIncompleteError) as raised:
        landed(settings, day, page_rows=200)
    said = str(raised.value)
    assert "counted 120 rows" in said
    assert "answered 119" in said
    assert day.strftime("[%Y-%m-%dT00:00:00.000000Z") in said


def test_events_that_arrive_during_the_reading_land(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    late = event(day + timedelta(hours=5, seconds=1))

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if is_page(sql) and not arrived.is_set():
            arrived.set()
            rows.add_events([late])
        return ask()

    arrived = threading.Event()
    man.rule = rule
    assert landed(settings, day, page_rows=200) == uuids([*made, late])


def test_events_that_never_stop_arriving_are_an_error(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if is_page(sql):
            rows.add_events([event(day + SECOND)])
        return ask()

    man.rule = rule
    with pytest.raises(PostHogIncompleteError, match="Rows may still be arriving"):
        landed(settings, day, page_rows=200)


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


@pytest.mark.parametrize("refusal", REFUSALS, ids=[f"{status}-{number}" for number, (status, _) in enumerate(REFUSALS)])
def test_windows_that_are_too_much_are_halved(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, refusal: Told
) -> None:
    man.rule = refusing(20, refusal)
    assert landed(settings, day, page_rows=60) == uuids(made)


def test_many_rows_in_a_microsecond_are_halved_by_hash(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    crowd = [event(day + SECOND) for _ in range(30)]
    rows.add_events(crowd)
    man.rule = refusing(10, REFUSALS[0])
    chunks = read(settings, sources.events(), day, day + DAY, page_rows=60)
    assert sorted(column(chunks)) == uuids(crowd)
    assert sum(not chunk.window.is_whole for chunk in chunks) >= 3
    assert chunks[-1].resume_after == day + DAY


def test_what_is_always_too_much_is_an_error_that_ends(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    man.rule = refusing(-1, REFUSALS[0])
    with pytest.raises(PostHogIncompleteError, match=r"can not answer for the .* rows of \["):
        landed(settings, day)
    assert len(man.asked) < 100


def test_counting_that_is_too_much_is_halved(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        start, end = (
            datetime.fromisoformat(values[name].replace("Z", "+00:00")) for name in ("window_start", "window_end")
        )
        is_long = "intDiv" in sql and end - start > timedelta(hours=7)
        return REFUSALS[0] if is_long or sql.endswith("LIMIT 10") else ask()

    man.rule = rule
    assert landed(settings, day) == uuids(made)
    man.rule = lambda sql, values, ask: REFUSALS[1] if "intDiv" in sql else ask()
    with pytest.raises(PostHogIncompleteError, match="can not even count"):
        landed(settings, day)


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


def test_queries_in_flight_and_windows_in_memory_are_few(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
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
    with Extraction(settings, sources.events(), day, day + DAY, page_rows=3, in_flight=2) as extraction:
        for _ in extraction:
            taken += 1
            assert pages <= taken + 4
    assert taken == 40
    assert busiest == 2


def test_closing_ends_it(settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime) -> None:
    with Extraction(settings, sources.events(), day, day + DAY, page_rows=3, in_flight=2) as extraction:
        for chunk in extraction:
            assert chunk.rows
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
    man.rule = lambda sql, values, ask: ask() if "bucket" in sql else rule(sql, values, ask)
    source = sources.events({"uuid": "uuid", "created_at": "created_at", "a": "1", "b": "2", "c": "3"})
    (chunk,) = read(settings, source, day, day + DAY)
    (row,) = chunk.table.to_pylist()
    assert str(row["a"]) == "nan"
    assert row["b"] == "?"
    assert row["c"] == str(2**100)
