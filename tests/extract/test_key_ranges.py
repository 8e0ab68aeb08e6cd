"""Persons, groups, cohorts and distinct ids come by ranges of what PostHog's tables are sorted by."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any
from uuid import UUID, uuid1, uuid4

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.extract import named_sources, sources, statements
from airflow_provider_posthog.extract.chunks import Chunk
from airflow_provider_posthog.extract.reader import Extraction
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import PARTS, Keys, Piece, Position, Window
from tests.extract.reading import REFUSALS, Middleman, Told, column, read, settings_of

UTC = timezone.utc
START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=1)
WHOLE = Window(START, END)
LONG_AGO = datetime(2015, 1, 1, tzinfo=UTC)
#: PostHog's own first ids have random second halves without the digit of the standard; versions 1 and 3 may have the
#: same one each time, and so have ids that somebody has written by hand.
IDS = st.one_of(
    st.uuids(),
    st.uuids(version=4),
    st.integers(0, 2**16).map(lambda number: UUID(int=number)),
    st.integers(0, 2**16).map(lambda number: UUID(int=number << 64 | 0x8123_4567_89AB_CDEF)),
    st.integers(0, 2**16 - 1).map(lambda number: UUID(int=number << 48)),
    st.sampled_from([UUID(int=0), UUID(int=2**128 - 1), UUID(int=2**64 - 1), UUID(int=1 << 63)]),
)


def ids(source_ids: list[UUID]) -> Source:
    table = "(SELECT toUUID(arrayJoin({ids})) AS id) AS listed"
    given = {"ids": [str(each) for each in source_ids]}
    return Source("ids", table, {"id": "id"}, "id", sort_key=("id",), is_uuid=True, values=given)


def keys(made: list[str]) -> Source:
    table = "(SELECT arrayJoin({keys}) AS distinct_id) AS listed"
    columns = {"distinct_id": "distinct_id"}
    return Source("keys", table, columns, "distinct_id", sort_key=("distinct_id",), values={"keys": made})


def settings_for(hypothesis_examples: int) -> Callable[[Any], Any]:
    ignored = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return hypothesis.settings(max_examples=hypothesis_examples, deadline=None, suppress_health_check=ignored)


@settings_for(20)
@given(made=st.lists(IDS, min_size=1, max_size=60, unique=True), page_rows=st.integers(1, 40))
def test_every_uuid_of_any_kind_is_read_once(
    settings: ClientSettings, rows: EmulatorProcess, made: list[UUID], page_rows: int
) -> None:
    found = column(read(settings, ids(made), START, END, page_rows=page_rows), "id")
    assert sorted(found) == sorted(map(str, made))


@settings_for(20)
@given(
    made=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=40, unique=True),
    page_rows=st.integers(1, 30),
)
def test_every_key_of_any_text_is_read_once(
    settings: ClientSettings, rows: EmulatorProcess, made: list[str], page_rows: int
) -> None:
    found = column(read(settings, keys(made), START, END, page_rows=page_rows), "distinct_id")
    assert sorted(found) == sorted(made)


def test_ids_that_are_alike_in_their_second_half_come_in_pages_of_one_part(settings: ClientSettings) -> None:
    made = [UUID(int=number << 64 | 1) for number in range(50)]
    chunks = read(settings, ids(made), START, END, page_rows=20)
    assert sorted(column(chunks, "id")) == sorted(map(str, made))
    assert max(chunk.rows for chunk in chunks) == 50


@pytest.fixture
def persons(rows: EmulatorProcess) -> list[str]:
    times = [(LONG_AGO + timedelta(hours=number)).isoformat() for number in range(24)]
    return sorted(rows.add_persons([{"distinct_ids": [uuid4().hex], "created_at": each} for each in times]))


def created(settings: ClientSettings, **options: Any) -> list[Chunk]:
    source = sources.persons(["id"], time_column="created_at")
    return read(settings, source, LONG_AGO, LONG_AGO + timedelta(days=1), page_rows=4, **options)


def test_persons_of_an_interval_are_taken_up_after_each_page(settings: ClientSettings, persons: list[str]) -> None:
    chunks = created(settings)
    assert sorted(column(chunks, "id")) == persons
    assert len(chunks) >= 6
    for number, chunk in enumerate(chunks):
        assert chunk.resume_after is not None
        after = Position.from_json(chunk.resume_after.as_json())
        source = sources.persons(["id"], time_column="created_at")
        with Extraction(
            settings, source, LONG_AGO, LONG_AGO + timedelta(days=1), page_rows=4, resume_after=after
        ) as rest:
            found = [value for each in rest for value in each.table.column("id").to_pylist()]
        assert sorted(column(chunks[: number + 1], "id") + found) == persons


@pytest.mark.parametrize("place", [("x",), (0,), (PARTS,), (1, 2), (None,), (True,), (1.5,)])
def test_a_place_that_is_no_part_is_refused(settings: ClientSettings, place: tuple[Any, ...]) -> None:
    until = LONG_AGO + timedelta(days=1)
    source = sources.persons(["id"], time_column="created_at")
    after = Position(LONG_AGO, until, place)
    extraction = Extraction(settings, source, LONG_AGO, until, resume_after=after)
    with extraction, pytest.raises(PostHogSettingsError, match="resume_after"):
        list(extraction)


def too_heavy(part: str, refusal: Told, times: int) -> Callable[[str, Mapping[str, Any], Callable[[], Told]], Told]:
    numbers, lock = count(), threading.Lock()

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if not re.search(part, sql):
            return ask()
        with lock:
            return refusal if next(numbers) < times else ask()

    return rule


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("part", [r"AS bucket", r"ORDER BY created_at.* LIMIT", r"LIMIT 10$"])
def test_what_is_too_much_is_asked_for_in_parts(
    settings: ClientSettings, man: Middleman, persons: list[str], part: str, refusal: Told
) -> None:
    man.rule = too_heavy(part, refusal, 3 if part != "LIMIT 10$" else 1)
    assert sorted(column(created(settings), "id")) == persons


def test_a_page_that_is_never_answered_is_an_error(
    settings: ClientSettings, man: Middleman, persons: list[str]
) -> None:
    man.rule = too_heavy(r"ORDER BY created_at.* LIMIT", REFUSALS[0], 10**6)
    with pytest.raises(PostHogIncompleteError, match="cannot answer for the"):
        created(settings)


@pytest.mark.parametrize("part", ["AS bounds", "ORDER BY concat.* LIMIT"])
def test_groups_whose_keys_are_too_many_for_a_query_come_by_hashes(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, part: str
) -> None:
    there = sorted(column(read(settings, sources.groups(), START, END), "key"))
    man.rule = too_heavy(part, REFUSALS[1], 1)
    assert sorted(column(read(settings, sources.groups(), START, END, page_rows=10), "key")) == there
    assert len(there) == 25


@pytest.mark.parametrize(
    "answer",
    [
        {"bounds": [], "keyed": 25, "counted": 25},
        {"bounds": [[0, 1]], "keyed": 3, "counted": 3},
        {"bounds": [[0]], "keyed": 3, "counted": 3},
        {"bounds": [["a"], ["b"]], "keyed": 3, "counted": 3},
        {"bounds": None, "keyed": 25, "counted": 25},
        {"bounds": [], "keyed": None, "counted": 25},
    ],
)
def test_ranges_of_another_shape_are_no_ranges(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, answer: Mapping[str, Any]
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, told = ask()
        return (status, {**told, "results": [list(answer.values())]}) if "AS bounds" in sql else (status, told)

    man.rule = rule
    with pytest.raises(Exception, match="cannot be read"):
        read(settings, sources.groups(), START, END, page_rows=4)


def test_ranges_that_lie_across_one_another_are_not_read(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, told = ask()
        if "AS bounds" in sql:
            ((bounds, *counts),) = told["results"]
            told["results"] = [[bounds[::-1], *counts]]
        return status, told

    man.rule = rule
    assert len(set(column(read(settings, sources.groups(), START, END, page_rows=4), "key"))) == 25


def test_no_key_is_told_in_a_windows_name() -> None:
    window = replace(WHOLE, keys=Keys(("ann@example.invalid",), ("bob@example.invalid",)))
    assert "example" not in str(window)
    assert str(window).endswith("a range of keys")


def test_persons_are_asked_for_by_their_ids() -> None:
    """Without an operator beside a column, as PostHog would take it out of what it looks persons up by."""
    window = Window(START, END, 0x5000, 0x5010)
    page = statements.page(sources.persons(), Piece(window, 5), 6, None)
    assert page.sql == (
        "SELECT id, created_at, properties, is_identified FROM persons WHERE created_at < toDateTime({window_end})"
        " AND created_at >= toDateTime({window_start}) AND id >= {window_first_key}"
        " AND id < {window_last_key} ORDER BY toString(id) LIMIT 6"
    )
    assert page.values["window_first_key"] == "00000000-0000-0000-a000-000000000000"
    assert page.values["window_last_key"] == "00000000-0000-0000-a020-000000000000"
    first = statements.page(sources.persons(), Piece(Window(START, END, 0, 5), 5), 6, None)
    last = statements.page(sources.persons(), Piece(Window(START, END, 5, PARTS), 5), 6, None)
    assert "id >=" not in first.sql
    assert "id <" not in last.sql
    for source in (sources.persons(), sources.sessions(), sources.hogql("SELECT 1 AS id", key="id")):
        assert " % " not in statements.page(source, Piece(window, 5), 6, None).sql


def test_groups_are_asked_for_column_by_column() -> None:
    window = replace(WHOLE, keys=Keys((0, "it's"), (1, "b")))
    page = statements.page(sources.groups(where="key != 'x' -- so"), Piece(window, 5), 6, None)
    assert (
        "WHERE (`index` > {window_low_key_0} OR (`index` = {window_low_key_0} AND key >= {window_low_key_1}))"
        " AND (`index` < {window_high_key_0} OR (`index` = {window_high_key_0} AND key < {window_high_key_1}))"
        " AND (key != 'x' -- so\n)"
    ) in page.sql
    given = {name: value for name, value in page.values.items() if "_key_" in name}
    assert list(given.values()) == ["it's", 0, "b", 1]


def test_ids_with_a_time_come_in_even_pages(settings: ClientSettings) -> None:
    """Ids of version 7 begin with their time, and what a range goes by is random all the same."""
    made = [UUID(int=(0x0199_0000_0000 + number) << 80 | 7 << 76 | (uuid4().int & 2**64 - 1)) for number in range(400)]
    chunks = read(settings, ids(made), START, END, page_rows=100)
    assert sorted(column(chunks, "id")) == sorted(map(str, made))
    assert max(chunk.rows for chunk in chunks) <= 100


def test_ids_of_one_machine_are_read_once(settings: ClientSettings) -> None:
    made = [uuid1(node=1, clock_seq=7) for _ in range(60)]
    assert sorted(column(read(settings, ids(made), START, END, page_rows=9), "id")) == sorted(map(str, made))


@pytest.mark.parametrize("generation", ["A", "C"])
def test_all_generations_have_every_person_once(generation: str) -> None:
    with EmulatorProcess(generation=generation, events=500) as posthog:
        settings = settings_of(posthog.url, posthog)
        made = posthog.add_persons([{"distinct_ids": [uuid4().hex]} for _ in range(30)])
        now = datetime.now(UTC)
        found = column(read(settings, sources.persons(), now, now, page_rows=25), "id")
        assert len(found) == len(set(found))
        assert set(made) <= set(found)
        names = column(read(settings, named_sources.person_distinct_ids(), START, END, page_rows=7), "distinct_id")
        assert len(names) == len(set(names)) >= 30
        for source in (sources.groups(), named_sources.cohort_members(1)):
            read(settings, source, START, END, page_rows=7)
