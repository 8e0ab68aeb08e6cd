"""The proof of bulk reading: what counts and pages would have to say for a row to be lost without an error."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import count
from types import CodeType, FrameType
from typing import Any

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogTransportError
from airflow_provider_posthog.extract import asking, reader, sources
from airflow_provider_posthog.extract.asking import Stopped
from airflow_provider_posthog.extract.reader import Extraction
from tests.extract.reading import (
    REFUSALS,
    SECOND,
    Middleman,
    Rule,
    Told,
    column,
    event,
    read,
    refusing,
    uuids,
)

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
Answer = dict[str, Any]


@pytest.fixture
def made(rows: EmulatorProcess, day: datetime) -> list[Answer]:
    events = [event(day + timedelta(minutes=10 * number)) for number in range(60)]
    rows.add_events(events)
    return events


def changing(part: str, change: Callable[[Answer], Any], times: int = 10**6) -> Rule:
    """Change the answers to the first so many queries that hold a text."""
    left = list(range(times)) if times < 1000 else None

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        if part not in sql or (left is not None and not left):
            return status, answer
        if left is not None:
            left.pop()
        return status, {**answer, **change(answer)}

    return rule


def landed(settings: ClientSettings, day: datetime, **options: Any) -> list[str]:
    found = column(read(settings, sources.events(), day, day + DAY, **{"page_rows": 100, **options}))
    assert len(found) == len(set(found))
    return sorted(found)


PAGE, STEPS, MOMENTS, PARTS, COUNT = "ORDER BY created_at", "intDiv", "created_at AS bucket", "cityHash64", "uniqExact"


def doubled(answer: Answer) -> Answer:
    """As many rows as there are, but one of them twice, and another not at all."""
    rows = answer["results"]
    return {"results": [rows[0], *rows[:-1]]}


def test_a_row_that_comes_twice_in_place_of_another(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    man.rule = changing(PAGE, doubled, times=1)
    assert landed(settings, day) == uuids(made)
    man.rule = changing(PAGE, doubled)
    with pytest.raises(PostHogIncompleteError, match=r"60 rows with 60 keys .* answered 60 with 59"):
        landed(settings, day)


def test_copies_cost_one_query_more(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    rows.add_events(made[:2])
    assert landed(settings, day) == uuids(made)
    assert [sum(part in sql for sql in man.asked) for part in (PAGE, COUNT)] == [1, 1]


@pytest.mark.parametrize("most", [7, 59])
def test_servers_with_a_lower_limit_of_rows(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, most: int
) -> None:
    man.rule = changing(PAGE, lambda answer: {"results": answer["results"][:most]})
    assert landed(settings, day) == uuids(made)
    assert len(man.asked) == 2 + -(-60 // most), "no query too many"


def test_a_second_is_counted_to_its_end(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """PostHog answers a part of the microseconds at a time."""
    crowd = [event(day + number // 2 * MICROSECOND) for number in range(60)]
    rows.add_events(crowd)
    man.rule = changing(MOMENTS, lambda answer: {"results": answer["results"][:7]})
    assert landed(settings, day, page_rows=5) == uuids(crowd)
    assert sum(MOMENTS in sql for sql in man.asked) == 5, "30 microseconds, 7 at a time"
    man.rule = changing(MOMENTS, lambda answer: {"results": []})
    with pytest.raises(PostHogIncompleteError, match=r"counted 60 rows in .* but 0 in its parts"):
        landed(settings, day, page_rows=5)


@pytest.mark.parametrize("part", [STEPS, PARTS])
def test_counts_of_parts_that_forget_some(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, part: str
) -> None:
    """The first count of a range is right, the finer ones are not."""
    at = [day + number * SECOND for number in range(60)] if part == STEPS else [day] * 60
    rows.add_events([event(moment) for moment in at])
    firsts = count()

    def forget(answer: Answer) -> Answer:
        return {"results": answer["results"][1:]} if part != STEPS or next(firsts) else {}

    man.rule = changing(part, forget)
    with pytest.raises(PostHogIncompleteError, match=r"counted 60 rows in .* but 5\d in its parts"):
        landed(settings, day, page_rows=5)


def test_rows_that_were_seen_are_not_counted_away(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime
) -> None:
    """An empty answer to the first count, where the first look has seen rows."""
    man.rule = changing(STEPS, lambda answer: {"results": []})
    with pytest.raises(PostHogIncompleteError, match=r"counted 0 rows in .* and 60 afterwards"):
        landed(settings, day)


def test_rows_that_go_meanwhile_are_no_loss(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    """Copies that the first look and the first count have seen, and that ClickHouse has merged since."""
    seen: set[str] = set()

    def more(answer: Answer) -> Answer:
        if STEPS in seen:
            return {}
        seen.add(STEPS)
        ((first, *_), *rest) = [list(row) for row in answer["results"]]
        return {"results": [[first, answer["results"][0][1] + 5, *answer["results"][0][2:]], *rest]}

    sampled = changing("LIMIT 100", lambda answer: {"results": answer["results"] * 2})
    counted = changing(STEPS, more)
    man.rule = lambda sql, values, ask: sampled(sql, values, lambda: counted(sql, values, ask))
    assert landed(settings, day, page_rows=20) == uuids(made)


WRONG: list[Callable[[list[Any]], Any]] = [
    lambda row: [*row[:-1], None] if len(row) == 1 else [row[0], None, *row[2:]],
    lambda row: [row[0], "many", *row[2:]],
    lambda row: [row[0], 1.5, *row[2:]],
    lambda row: [row[0], True, *row[2:]],
    lambda row: [row[0], -1, *row[2:]],
    lambda row: row[:1],
    lambda row: [row[0], row[1], "yesterday", *row[3:]],
    lambda row: ["x", *row[1:]],
    lambda row: [[], *row[1:]],
    lambda row: None,
]


@pytest.mark.parametrize("part", [STEPS, MOMENTS])
@pytest.mark.parametrize("wrong", WRONG)
def test_counts_that_are_none(
    settings: ClientSettings,
    man: Middleman,
    rows: EmulatorProcess,
    day: datetime,
    part: str,
    wrong: Callable[[list[Any]], Any],
) -> None:
    rows.add_events([event(day) for _ in range(6)])
    man.rule = changing(part, lambda answer: {"results": [wrong(row) for row in answer["results"]]})
    with pytest.raises(PostHogTransportError, match=r"how many rows \[.* can not be read"):
        landed(settings, day, page_rows=2)


@pytest.mark.parametrize("results", [[], [[]], [[1, 1], [1, 1]], [[60, 60, None, None, None, None, None]]])
def test_second_counts_that_are_none(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, results: list[Any]
) -> None:
    lost = changing(PAGE, lambda answer: {"results": answer["results"][1:]})
    broken = changing(COUNT, lambda answer: {"results": results})
    man.rule = lambda sql, values, ask: lost(sql, values, lambda: broken(sql, values, ask))
    with pytest.raises(PostHogTransportError, match=r"how many rows \[.* can not be read"):
        landed(settings, day)


def test_rows_without_a_key_behind_the_first_page(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """A page that goes on behind a key leaves out rows of that time without one, and so does the count of keys."""
    rows.add_events([event(day, name="none" if number == 5 else "some") for number in range(10)])
    man.rule = changing("ORDER BY at", lambda answer: {"results": answer["results"][:7]})
    sql = "SELECT if(event = 'none', NULL, toString(uuid)) AS id, timestamp AS at FROM events"
    with pytest.raises(PostHogIncompleteError, match="no key"):
        read(settings, sources.hogql(sql, key="id", time="at"), day, day + DAY)
    assert any(COUNT in sql for sql in man.asked), "the pages had all of them"


def test_a_crowd_in_two_microseconds_is_halved_between_them(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    crowd = [event(day + SECOND + number % 2 * MICROSECOND) for number in range(40)]
    rows.add_events(crowd)
    man.rule = refusing(25, REFUSALS[0])
    chunks = read(settings, sources.events(), day, day + DAY)
    assert sorted(column(chunks)) == uuids(crowd)
    assert [chunk.rows for chunk in chunks] == [20, 20]


@pytest.mark.parametrize("change", [lambda names: names[::-1], lambda names: names[1:], lambda names: [*names, "x"]])
def test_columns_that_change_between_pages(
    settings: ClientSettings,
    man: Middleman,
    made: list[Answer],
    day: datetime,
    change: Callable[[list[str]], list[str]],
) -> None:
    man.rule = changing(PAGE, lambda answer: {"columns": change(answer["columns"])})
    with pytest.raises(PostHogTransportError, match="other columns"):
        landed(settings, day)


class Watch:
    """Calls something in the middle of a function of the main thread, as a handler of signals is called."""

    def __init__(self, code: CodeType, line: int, call: Callable[[], None]) -> None:
        self._code, self._left, self._call = code, line, call
        self.called = False

    def __call__(self, frame: FrameType, what: str, _: Any) -> Watch | None:
        if frame.f_code is not self._code:
            return None
        if what == "line" and not self.called:
            self._left -= 1
            if self._left < 0:
                self.called = True
                self._call()
        return self


@pytest.mark.parametrize("place", ["submit", "fetch"])
def test_told_to_stop_at_a_moment_that_holds_locks(
    settings: ClientSettings, made: list[Answer], day: datetime, place: str
) -> None:
    code = {"submit": reader.ThreadPoolExecutor.submit, "fetch": asking.Asker.fetch}[place].__code__

    def too_long(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    try:
        for line in range(1, 10):
            extraction = Extraction(settings, sources.events(), day, day + DAY, page_rows=20)
            watch = Watch(code, line, extraction.close)
            signal.alarm(20)
            sys.settrace(watch)
            try:
                with extraction, pytest.raises(Stopped):
                    list(extraction)
            finally:
                sys.settrace(None)
                signal.alarm(0)
            assert watch.called
    finally:
        signal.signal(signal.SIGALRM, before)
    for thread in threading.enumerate():
        if thread.name.startswith("posthog-extract"):
            thread.join(10)
            assert not thread.is_alive()
