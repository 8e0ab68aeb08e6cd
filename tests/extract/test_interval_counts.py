"""Intervals that were read before, counted again: one question for many, whatever their length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.data.warehouse import Warehouse
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError, PostHogTransportError
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.interval_counts import MOST, Recount, recount, statement
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import Window
from tests.extract.reading import REFUSALS, SECOND, UTC, Middleman, event, read, settings_of

FIRST, DAYS, EVENTS = datetime(2026, 3, 1, tzinfo=UTC), 10, 2000
HOUR = timedelta(hours=1)
WINDOW = Window(FIRST, FIRST + HOUR)


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(events=EVENTS, start="2026-03-01", days=DAYS) as process:
        yield process


def hours(count: int, length: timedelta = HOUR) -> list[Window]:
    return [Window(FIRST + at * length, FIRST + (at + 1) * length) for at in range(count)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_each_interval_has_as_many_rows_as_are_read_of_it(rows: EmulatorProcess, zone: str) -> None:
    rows.settings(timezone=zone)
    settings = settings_of(rows.url, rows)
    windows = [*hours(3, timedelta(days=1)), Window(FIRST + SECOND / 3, FIRST + 7 * HOUR + SECOND / 7)]
    for source in (sources.events(), sources.events(time_column="timestamp", events="purchase"), sources.sessions()):
        found = recount(settings, source, windows)
        assert [one.window for one in found] == windows
        for one in found:
            chunks = read(settings, source, one.window.start, one.window.end)
            assert one.rows == one.keys == sum(chunk.rows for chunk in chunks)
    assert found[0].rows > 10


def test_fifty_are_counted_by_one_query(rows: EmulatorProcess) -> None:
    before = len(rows.calls("/query/"))
    found = recount(settings_of(rows.url, rows), sources.events(time_column="timestamp"), hours(2 * MOST + 1))
    assert len(rows.calls("/query/")) - before == 3
    assert sum(one.rows for one in found) == rows.count_events(
        "2026-03-01", (FIRST + (2 * MOST + 1) * HOUR).isoformat()
    )
    assert recount(settings_of(rows.url, rows), sources.events(), []) == []


def test_copies_are_counted_as_rows_and_as_one_key(rows: EmulatorProcess, day: datetime) -> None:
    made = event(day + SECOND)
    rows.add_events([made, {**made, "created_at": (day + 5 * SECOND).isoformat()}, event(day + 2 * SECOND)])
    (found,) = recount(settings_of(rows.url, rows), sources.events(), [Window(day, day + HOUR)])
    assert (found.rows, found.keys) == (3, 2)


def test_a_row_at_the_edge_of_two_intervals_is_of_the_second(rows: EmulatorProcess, day: datetime) -> None:
    rows.add_events([event(day), event(day + HOUR), event(day + 2 * HOUR)])
    windows = [Window(day, day + HOUR), Window(day + HOUR, day + 2 * HOUR)]
    for source in (sources.events(), sources.events(time_column="timestamp")):
        assert [found.rows for found in recount(settings_of(rows.url, rows), source, windows)] == [1, 1]


def test_what_was_left_out_by_scan_back_is_left_out_of_the_count_of_each_interval(
    rows: EmulatorProcess, day: datetime
) -> None:
    """Though it is within reach of the first of them."""
    made = [event(day - HOUR, created=day + SECOND), event(day - HOUR, created=day + 9 * HOUR + SECOND)]
    rows.add_events(made)
    windows = [Window(day, day + HOUR), Window(day + 9 * HOUR, day + 10 * HOUR)]
    found = recount(settings_of(rows.url, rows), sources.events(scan_back=2 * HOUR), windows)
    assert [one.rows for one in found] == [1, 0]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_too_much_for_posthog_is_asked_in_halves(
    rows: EmulatorProcess, man: Middleman, refusal: tuple[int, dict[str, Any]]
) -> None:
    man.rule = lambda sql, values, ask: refusal if "rows_2" in sql else ask()
    found = recount(settings_of(man.url, rows), sources.events(time_column="timestamp"), hours(7))
    assert [one.rows for one in found] == [
        one.rows for one in recount(settings_of(rows.url, rows), sources.events(time_column="timestamp"), hours(7))
    ]
    man.rule = lambda sql, values, ask: refusal
    with pytest.raises(PostHogError):
        recount(settings_of(man.url, rows), sources.events(), hours(4))


def test_another_error_is_not_asked_again(rows: EmulatorProcess, man: Middleman) -> None:
    man.rule = lambda sql, values, ask: (403, {"detail": "no"})
    with pytest.raises(PostHogAPIError):
        recount(settings_of(man.url, rows), sources.events(), hours(4))
    assert len(man.asked) == 1


@pytest.mark.parametrize("answer", [[], [[1]], [[1, 1], [1, 1]], [["x", 1]], [[None, None]], [[1, 1, 1]], [[1.5, 1]]])
def test_an_answer_of_another_shape_is_an_error(rows: EmulatorProcess, man: Middleman, answer: list[Any]) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Any) -> tuple[int, dict[str, Any]]:
        status, told = ask()
        return status, {**told, "results": answer}

    man.rule = rule
    with pytest.raises(PostHogTransportError, match="cannot be read"):
        recount(settings_of(man.url, rows), sources.events(), [WINDOW])


QUERY = "SELECT uuid AS id, timestamp AS at, event FROM events WHERE event != {other} -- all but those"


@pytest.mark.parametrize(
    "source",
    [
        sources.events(events="it's", where="event = {a} -- so", values={"a": "x"}, scan_back=timedelta(days=7)),
        sources.persons(time_column="created_at"),
        sources.sessions(),
        sources.hogql(QUERY, key="id", time_column="at", values={"other": "$pageview"}),
    ],
)
def test_a_server_of_october_2024_takes_it(source: Source) -> None:
    opened = Warehouse(events=300, start=FIRST, days=2, timezone="America/New_York", newer_functions=False)
    try:
        asked = statement(source, hours(MOST))
        answer = opened.query(asked.sql, asked.values)
    finally:
        opened.close()
    assert len(answer.rows[0]) == 2 * MOST


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_copies_hide_no_row_that_is_missing(keys: int, copies: int, kept: int, doubled: int) -> None:
    there = Recount(WINDOW, keys + copies, keys)
    assert there.agrees(kept + doubled, kept) == (kept == keys)
    assert there.agrees(kept, None) == (keys <= kept <= keys + copies)
