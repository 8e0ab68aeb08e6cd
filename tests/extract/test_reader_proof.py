"""The proof of bulk reading: what counts and pages would have to say for a row to be lost without an error."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from types import CodeType, FrameType
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogTransportError
from airflow_provider_posthog.extract import query_client as asking
from airflow_provider_posthog.extract import reader, sources
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.extract.reader import Extraction
from airflow_provider_posthog.extract.windows import PARTS as HASH_PARTS
from tests.extract.reading import (
    REFUSALS,
    SECOND,
    UTC,
    WAYS,
    Middleman,
    Rule,
    Told,
    column,
    event,
    read,
    refusing,
    sliced,
    uuids,
)

pytestmark = pytest.mark.reliability

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


def landed(settings: ClientSettings, day: datetime, way: str = "cells", **options: Any) -> list[str]:
    found = column(read(settings, WAYS[way](), day, day + DAY, **{"page_rows": 100, **options}))
    assert len(found) == len(set(found))
    return sorted(found)


PAGE, COUNT = "ORDER BY created_at", "uniqExact"
#: How slices of time are counted; and cells: by day and event, by the hashes of distinct ids, and of uuids.
STEPS, MOMENTS, PARTS = "intDiv(toUnixTimestamp", "created_at AS bucket", f", {HASH_PARTS}) AS bucket"
GROUPS, HASHES, KEYS = "first_hash", "intDiv(cityHash64(events.distinct_id)", "intDiv(cityHash64(events.uuid)"
#: Which of the counts of a reading comes first.
FIRST = {"cells": GROUPS, "slices": STEPS}


def doubled(answer: Answer) -> Answer:
    """As many rows as there are, but one of them twice, and another not at all."""
    rows = answer["results"]
    return {"results": [rows[0], *rows[:-1]]}


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_comes_twice_in_place_of_another(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    man.rule = changing(PAGE, doubled, times=1)
    assert landed(settings, day, way) == uuids(made)
    man.rule = changing(PAGE, doubled)
    with pytest.raises(PostHogIncompleteError, match=r"60 rows with 60 keys .* answered 60 with 59"):
        landed(settings, day, way)


def test_copies_cost_one_query_more(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime
) -> None:
    rows.add_events(made[:2])
    assert landed(settings, day) == uuids(made)
    assert [sum(part in sql for sql in man.asked) for part in (PAGE, COUNT)] == [1, 1]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_that_a_page_ends_before_is_counted(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime, way: str
) -> None:
    rows.add_events([sorted(made, key=lambda each: (each["created_at"], each["uuid"]))[6]])
    man.rule = changing(PAGE, lambda answer: {"results": answer["results"][:7]})
    chunks = read(settings, WAYS[way](), day, day + DAY, page_rows=100)
    assert [sum(getattr(chunk, name) for chunk in chunks) for name in ("rows", "counted", "duplicates")] == [60, 61, 1]
    assert sorted(column(chunks)) == uuids(made)


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
    assert landed(settings, day, "slices", page_rows=5) == uuids(crowd)
    assert sum(MOMENTS in sql for sql in man.asked) == 5, "30 microseconds, 7 at a time"
    man.rule = changing(MOMENTS, lambda answer: {"results": []})
    with pytest.raises(PostHogIncompleteError, match=r"counted 60 rows in .* but 0 in its parts"):
        landed(settings, day, "slices", page_rows=5)


@pytest.mark.parametrize(
    ("way", "part"), [("slices", STEPS), ("slices", PARTS), ("cells", GROUPS), ("cells", HASHES), ("cells", KEYS)]
)
def test_counts_of_parts_that_forget_some(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, way: str, part: str
) -> None:
    """The first count of a range is right, the finer ones are not; nor those that pages are halved by."""
    at = [day + number * SECOND for number in range(60)] if part == STEPS else [day] * 60
    people = 60 if part == HASHES else 1
    rows.add_events(
        [
            {**event(moment, name=f"e{number if part == GROUPS else 0}"), "distinct_id": f"d{number % people}"}
            for number, moment in enumerate(at)
        ]
    )
    firsts = count()

    def forget(answer: Answer) -> Answer:
        return {"results": answer["results"][1:]} if part not in FIRST.values() or next(firsts) else {}

    forgetting = changing(part, forget)
    too_much = refusing(20, REFUSALS[0])
    man.rule = lambda sql, values, ask: forgetting(sql, values, lambda: too_much(sql, values, ask))
    with pytest.raises(PostHogIncompleteError, match=r"counted 60 rows in .* but 5\d in its parts"):
        landed(settings, day, way, page_rows=60 if part == GROUPS else 5)


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_were_seen_are_not_counted_away(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    """An empty answer to the first count, where the first look has seen rows."""
    man.rule = changing(FIRST[way], lambda answer: {"results": []})
    with pytest.raises(PostHogIncompleteError, match=r"counted 0 rows in .* and 60 afterwards"):
        landed(settings, day, way)


@pytest.mark.parametrize(
    "source",
    [sources.events(), sliced(), sources.hogql("SELECT number AS id FROM numbers(30)", key="id")],
    ids=["cells", "slices", "hash"],
)
def test_rows_that_were_seen_but_are_counted_nowhere_are_an_error(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, source: sources.Source
) -> None:
    """A replica that lags says 0 each time it counts."""
    empty = changing("GROUP BY", lambda answer: {"results": []})
    total = changing("SELECT count() AS counted", lambda answer: {"results": [[0]]})
    man.rule = lambda sql, values, ask: empty(sql, values, lambda: total(sql, values, ask))
    with pytest.raises(PostHogIncompleteError, match=r"counted 0 rows in .* and 0 afterwards, but .* showed 10"):
        read(settings, source, day, day + DAY)


def test_fewer_rows_than_were_seen_are_an_error(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    rows.add_events([event(day + timedelta(hours=number), name=f"e{number}") for number in range(9)])
    less = changing(GROUPS, lambda answer: {"results": answer["results"][:1]})
    total = changing("SELECT count() AS counted FROM", lambda answer: {"results": [[1]]})
    man.rule = lambda sql, values, ask: less(sql, values, lambda: total(sql, values, ask))
    with pytest.raises(PostHogIncompleteError, match="showed 9"):
        read(settings, sources.events(["uuid"]), day, day + DAY)


@pytest.mark.parametrize(
    "time", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00.000001+05:00", "1960-01-01T00:00:00", None]
)
@pytest.mark.parametrize("columns", [None, ["uuid"]], ids=["shown", "added"])
def test_rows_outside_of_their_window_are_an_error(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, time: str | None, columns: Any
) -> None:
    def moved(answer: Answer) -> Answer:
        at = answer["columns"].index("created_at" if columns is None else "posthog_time")
        *rows, last = answer["results"]
        return {"results": [*rows, [*last[:at], time, *last[at + 1 :]]]}

    man.rule = changing(PAGE, moved)
    with pytest.raises(PostHogIncompleteError, match="no time, or one outside"):
        read(settings, sources.events(columns), day, day + DAY)


def test_the_first_moment_is_of_a_window_and_the_one_after_it_is_not(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    rows.add_events([event(day), event(day + DAY - MICROSECOND)])
    assert len(column(read(settings, sources.events(), day, day + DAY))) == 2
    end = (day + DAY).isoformat()
    man.rule = changing(PAGE, lambda answer: {"results": [[*row[:5], end, *row[6:]] for row in answer["results"]]})
    with pytest.raises(PostHogIncompleteError, match="outside"):
        read(settings, sources.events(), day, day + DAY)


@pytest.mark.parametrize("kind", ["Int64", "DateTime64(6)", "Float64", "Decimal(10, 2)"])
def test_a_type_that_changes_between_windows_is_an_error(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, kind: str
) -> None:
    """All values are null, so nothing else would tell."""

    def change(answer: Answer) -> Answer:
        types = [*answer["types"][:-1], ["nothing", f"Nullable({kind})"]]
        return {"types": types, "results": [[*row[:-1], None] for row in answer["results"]]}

    source = sources.events({"uuid": "uuid", "created_at": "created_at", "nothing": "nullIf(event, event)"})
    assert len(column(read(settings, source, day, day + DAY, page_rows=20))) == 60
    man.rule = changing(PAGE, change)
    with pytest.raises(PostHogTransportError, match="'nothing' has changed its type"):
        read(settings, source, day, day + DAY, page_rows=20)


@pytest.mark.parametrize("way", WAYS)
def test_nullable_and_not_is_no_change_of_type(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, way: str
) -> None:
    man.rule = changing(PAGE, lambda answer: {"types": [[name, f"Nullable({kind})"] for name, kind in answer["types"]]})
    assert landed(settings, day, way) == uuids(made)


DISORDER: dict[str, Callable[[list[Any]], list[Any]]] = {
    "backwards": lambda rows: rows[::-1],
    "twice": lambda rows: [*rows, rows[-1]],
    "elsewhere": lambda rows: [[_far(rows[0][0]), *rows[0][1:]], *rows[1:]],
}


@pytest.mark.parametrize(
    ("part", "disorder"),
    # A microsecond may be there twice: PostHog's times may be finer.
    [
        (part, each)
        for part in (STEPS, MOMENTS, PARTS, GROUPS, HASHES, KEYS)
        for each in DISORDER
        if (part, each) != (MOMENTS, "twice")
    ],
)
def test_groups_that_do_not_follow_one_another_are_no_counts(
    settings: ClientSettings,
    man: Middleman,
    rows: EmulatorProcess,
    day: datetime,
    part: str,
    disorder: str,
) -> None:
    """What lies between two groups is taken for empty, and is not read."""
    change = DISORDER[disorder]
    moments = {STEPS: 10 * SECOND, MOMENTS: MICROSECOND}
    later = moments.get(part, 0 * SECOND)
    rows.add_events(
        [
            {
                **event(day + SECOND + number % 4 * later, name=f"e{number % 3 if part == GROUPS else 0}"),
                "distinct_id": f"d{number if part == HASHES else 0}",
            }
            for number in range(12)
        ]
    )
    man.rule = changing(part, lambda answer: {"results": change(answer["results"])})
    source = sources.events(["uuid"]) if part in (GROUPS, HASHES, KEYS) else sliced()
    with pytest.raises((PostHogTransportError, PostHogIncompleteError), match=r"cannot be read|but \d+ in its parts"):
        read(settings, source, day, day + DAY, page_rows=2)
    assert any(part in sql for sql in man.asked)


#: What is not a group of a cell: of another day, of no event, and with wrong hashes; by the number of its column.
NO_GROUPS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "a day that is none": (0, lambda day: 20261301),
    "a day as text": (0, lambda day: f"{day}"[:4] + "-01-01"),
    "another day": (0, lambda day: day + 1),
    "no event": (1, lambda name: None),
    "a number for an event": (1, lambda name: 5),
    "no row": (2, lambda counted: 0),
    "less than no row": (2, lambda counted: -1),
    "a count as text": (2, lambda counted: "many"),
    "a fraction of a row": (2, lambda counted: 1.5),
    "a truth for a count": (2, lambda counted: True),
    "no count": (2, lambda counted: None),
    "a lowest time of another day": (3, lambda low: "2011-01-01T00:00:00Z"),
    "a highest time of another day": (4, lambda high: "2099-01-01T00:00:00Z"),
    "no time": (4, lambda high: None),
    "a first hash behind the last": (5, lambda first: (1 << 64) - 1),
    "a hash below 0": (5, lambda first: -1),
    "a last hash that is none": (6, lambda last: 1 << 64),
    "a hash as a fraction": (6, lambda last: 1.5e18),
}


@pytest.mark.parametrize("wrong", NO_GROUPS)
def test_what_is_no_group_of_a_cell_is_no_count(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, wrong: str
) -> None:
    at, change = NO_GROUPS[wrong]
    rows.add_events([event(day + number * SECOND, name=f"e{number}") for number in range(3)])

    def changed(answer: Answer) -> Answer:
        first, *rest = answer["results"]
        return {"results": [[*first[:at], change(first[at]), *first[at + 1 :]], *rest]}

    man.rule = changing(GROUPS, changed)
    with pytest.raises(PostHogTransportError, match="cannot be read"):
        landed(settings, day)


@pytest.mark.parametrize("by", ["created_at", "timestamp"])
def test_groups_outside_of_what_was_asked_for_are_no_counts(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, by: Any
) -> None:
    """By created_at, a day of timestamp may be any; what a reading has left behind is over, and so are other events."""
    rows.add_events([event(day + number * SECOND, name=f"e{number}") for number in range(3)])
    source = sources.events(["uuid"], time_column=by)
    chunks = read(settings, source, day, day + DAY, page_rows=1)
    resume = next(chunk.resume_after for chunk in chunks if chunk.rows)

    def earlier(answer: Answer) -> Answer:
        return {"results": [[row[0], "a", *row[2:]] for row in answer["results"][:1]]}

    man.rule = changing(GROUPS, earlier)
    with pytest.raises(PostHogTransportError, match="cannot be read"):
        read(settings, source, day, day + DAY, resume_after=resume)

    def before(answer: Answer) -> Answer:
        (at, name, counted, _, high, *hashes), *rest = answer["results"]
        return {"results": [[at, name, counted, (day + SECOND).isoformat(), high, *hashes], *rest]}

    man.rule = changing(GROUPS, before)
    start = day + SECOND + MICROSECOND
    if by == "timestamp":
        with pytest.raises(PostHogTransportError, match="cannot be read"):
            read(settings, source, start, day + DAY)
    else:  # what was taken in then has happened at any time
        assert len(column(read(settings, source, start, day + DAY))) == 1


ODD = [
    "",
    "\0",
    "a\0b",
    "'",
    "\\",
    "{x}",
    "{{x}}",
    "%(x)s",
    "%",
    '"',
    "`",
    "\n",
    "\ud7ff",
    "\uffff",
    "\U00010000",
    "💥",
]
NAMES = [*ODD, "A", "a", "ä", "Ä", "a ", " a"]


@pytest.mark.parametrize("page_rows", [1, 3, 50])
def test_events_of_any_name_land(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, page_rows: int
) -> None:
    """ClickHouse compares bytes: neither letters, nor the units that others count characters in."""
    made = [event(day + number * SECOND, name=name) for number, name in enumerate([*NAMES, *NAMES[:4]])]
    rows.add_events(made)
    late = [{**each, "uuid": event(day)["uuid"], "timestamp": (day - 50 * DAY).isoformat()} for each in made]
    rows.add_events(late)
    assert landed(settings, day, page_rows=page_rows) == uuids([*made, *late])
    man.rule = refusing(2, REFUSALS[0])
    assert landed(settings, day) == uuids([*made, *late])


@pytest.mark.parametrize("page_rows", [2, 3, 100])
def test_events_whose_names_lose_bytes_on_the_way_land(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, page_rows: int
) -> None:
    """PostHog answers U+FFFD where a name is not UTF-8, and no condition finds it by that."""
    made = [event(day + number * SECOND, name=name) for number, name in enumerate(["a", "b", "b1", "b2", "z"] * 3)]
    late = [{**each, "uuid": event(day)["uuid"], "timestamp": (day - 50 * DAY).isoformat()} for each in made]
    rows.add_events([*made, *late])

    def lost(answer: Answer) -> Answer:
        return {"results": [[row[0], row[1] if len(row[1]) == 1 else "b\ufffd", *row[2:]] for row in answer["results"]]}

    man.rule = changing(GROUPS, lost)
    assert landed(settings, day, page_rows=page_rows) == uuids([*made, *late])


def _far(bucket: Any) -> Any:
    return 10**15 if isinstance(bucket, int) else "2031-01-01T00:00:00Z"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**25) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["columns", "types", "results"]), found=JSON | st.lists(st.lists(JSON)), part=st.data())
def test_an_answer_of_any_shape_is_the_rows_or_an_error_of_ours(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, field: str, found: Any, part: st.DataObject
) -> None:
    day = datetime(2011, 1, 1, tzinfo=UTC)
    man.rule = lambda sql, values, ask: ask()
    if not column(read(settings, sources.events(), day, day + DAY)):
        rows.add_events([event(day + number * SECOND) for number in range(3)])
    there = sorted(column(read(settings, sources.events(), day, day + DAY)))
    man.rule = changing(part.draw(st.sampled_from([PAGE, GROUPS, HASHES, "LIMIT 10"])), lambda _: {field: found})
    with suppress(PostHogError):
        assert sorted(column(read(settings, sources.events(), day, day + DAY))) == there


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_go_meanwhile_are_no_loss(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, made: list[Answer], day: datetime, way: str
) -> None:
    """Copies that the first look and the first count have seen, and that ClickHouse has merged since."""
    seen: set[str] = set()

    def more(answer: Answer) -> Answer:
        if seen:
            return {}
        seen.add(way)
        counts = [5 if name in ("counted", "keyed") else None for name in answer["columns"]]
        (first, *rest) = answer["results"]
        return {"results": [[each + more if more else each for each, more in zip(first, counts, strict=True)], *rest]}

    sampled = changing("LIMIT 10", lambda answer: {"results": answer["results"] * 2})
    counted = changing(FIRST[way], more)
    man.rule = lambda sql, values, ask: sampled(sql, values, lambda: counted(sql, values, ask))
    assert landed(settings, day, way, page_rows=20) == uuids(made)


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


@pytest.mark.parametrize("part", [STEPS, MOMENTS, HASHES])
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
    with pytest.raises(PostHogTransportError, match=r"how many rows \[.* cannot be read"):
        landed(settings, day, "cells" if part == HASHES else "slices", page_rows=2)


@pytest.mark.parametrize("results", [[], [[]], [[1, 1], [1, 1]], [[60, 60, None, None, None, None, None]]])
def test_second_counts_that_are_none(
    settings: ClientSettings, man: Middleman, made: list[Answer], day: datetime, results: list[Any]
) -> None:
    lost = changing(PAGE, lambda answer: {"results": answer["results"][1:]})
    broken = changing(COUNT, lambda answer: {"results": results})
    man.rule = lambda sql, values, ask: lost(sql, values, lambda: broken(sql, values, ask))
    with pytest.raises(PostHogTransportError, match=r"how many rows \[.* cannot be read"):
        landed(settings, day)


def test_rows_without_a_key_behind_the_first_page(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """A page that goes on behind a key leaves out rows of that time without one, and so does the count of keys."""
    rows.add_events([event(day, name="none" if number == 5 else "some") for number in range(10)])
    paged = changing("ORDER BY at", lambda answer: {"results": answer["results"][:7]})
    # The first count, which would tell, is wrong.
    counted = changing(STEPS, lambda answer: {"results": [[row[0], row[2], row[2]] for row in answer["results"]]})
    man.rule = lambda sql, values, ask: paged(sql, values, lambda: counted(sql, values, ask))
    sql = "SELECT if(event = 'none', NULL, toString(uuid)) AS id, timestamp AS at FROM events"
    with pytest.raises(PostHogIncompleteError, match="no key"):
        read(settings, sources.hogql(sql, key="id", time_column="at"), day, day + DAY)
    assert any(COUNT in sql for sql in man.asked), "the pages had all of them"


def test_a_crowd_in_two_microseconds_is_halved_between_them(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    crowd = [event(day + SECOND + number % 2 * MICROSECOND) for number in range(40)]
    rows.add_events(crowd)
    man.rule = refusing(25, REFUSALS[0])
    chunks = read(settings, sliced(), day, day + DAY)
    assert sorted(column(chunks)) == uuids(crowd)
    assert [chunk.rows for chunk in chunks] == [20, 20]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", [lambda names: names[::-1], lambda names: names[1:], lambda names: [*names, "x"]])
def test_columns_that_change_between_pages(
    settings: ClientSettings,
    man: Middleman,
    made: list[Answer],
    day: datetime,
    change: Callable[[list[str]], list[str]],
    way: str,
) -> None:
    man.rule = changing(PAGE, lambda answer: {"columns": change(answer["columns"])})
    with pytest.raises(PostHogTransportError, match="other columns"):
        landed(settings, day, way)


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


@pytest.mark.parametrize("place", ["submit", "ask"])
def test_told_to_stop_at_a_moment_that_holds_locks(
    settings: ClientSettings, made: list[Answer], day: datetime, place: str
) -> None:
    code = {"submit": reader.ThreadPoolExecutor.submit, "ask": asking.Asker.ask}[place].__code__

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
