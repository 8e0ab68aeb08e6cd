"""The HogQL of bulk reading, run as a server of October 2024 takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.data.warehouse import Warehouse
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract import named_sources, sources, statements
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import PARTS, Keys, Piece, Window

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
END = START + timedelta(days=2)
WINDOW = Window(START, END)
QUERY = "SELECT uuid AS id, timestamp AS at, event FROM events WHERE event != {other} -- all but those"
SOURCES = [
    sources.events(),
    sources.events(time_column="timestamp"),
    sources.events({"b": "properties.$browser"}, events=["purchase", "it's"], scan_back=timedelta(days=7)),
    sources.events(where="event = {a} -- so", values={"a": "x\\'); --"}),
    sources.persons(),
    sources.persons(time_column="created_at"),
    sources.sessions(),
    sources.groups(),
    named_sources.person_distinct_ids(),
    named_sources.cohort_members(7),
    named_sources.cohort_members(),
    named_sources.session_replays(),
    named_sources.feature_flag_calls(),
    replace(sources.sessions(complete_after=timedelta(hours=1)), complete_at=END),
    sources.hogql(QUERY, key="id", time_column="at", values={"other": "$pageview"}),
    sources.hogql(QUERY, key="concat(toString(id), event)", values={"other": "$pageview"}),
    replace(
        sources.hogql(QUERY, key=["at", "`event`"], time_column="at", values={"other": "$pageview"}),
        zoned=frozenset({"at"}),
    ),
]


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        ("concat(id, 'x')", True),
        ("`id`", True),
        ('"id"', True),
        ("f'{id}'", True),
        ("a -- id", False),
        ("a // 'id', id", False),
        ("concat(a, 'it''s', 'id')", False),
        ("id(a)", False),
        ("a.id", False),
        ("a /* id */", False),
    ],
)
def test_the_columns_that_rows_are_found_by_keep_their_meaning(key: str, refused: bool) -> None:
    def source() -> Source:
        return Source(name="rows", table="t", columns={"id": "upper(id)"}, key=key)

    if refused:
        with pytest.raises(PostHogSettingsError, match="reuse 'id', a column by which"):
            source()
    else:
        source()


@pytest.mark.parametrize("sql", ["SELECT a;", "SELECT a ;; -- all;", "SELECT a; # x"])
def test_a_querys_semicolon_is_left_out(sql: str) -> None:
    assert sources.hogql(sql, key="a").table == "(SELECT a\n) AS source"


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    opened = Warehouse(events=300, start=START, days=2, timezone="America/New_York", newer_functions=False)
    yield opened
    opened.close()


def all_of(source: Source) -> Iterator[Statement]:
    part = Window(START, END, 3, PARTS // 2)
    after = (START, "0191") if source.time else (None, "it's {window_key}")
    for window in (WINDOW, part):
        piece = Piece(window, 5, START, END)
        yield statements.sample(source, window)
        yield statements.sample(source, window, 0)
        yield statements.groups_by_hash(source, window)
        if source.sort_key:
            key = (0, "it's {x}")[-len(source.sort_key) :] if not source.is_uuid else (str(uuid4()),)
            yield statements.ranges_of_keys(source, replace(window, keys=Keys(key, None)), 10)
            yield statements.page(source, replace(piece, window=replace(window, keys=Keys(None, key))), 10, None)
        yield statements.count(source, window)
        if source.columns:
            yield statements.page(source, piece, 10, None)
            yield statements.page(source, piece, 10, after)
        if source.time:
            yield statements.groups_by_time(source, window, 60)
            yield statements.groups_of_query(source, window, 60)
            yield statements.groups_by_moment(source, window, None)
            yield statements.groups_by_moment(source, window, START)


@pytest.mark.parametrize("source", SOURCES, ids=[f"{number}-{each.name}" for number, each in enumerate(SOURCES)])
def test_every_statement_is_taken(warehouse: Warehouse, source: Source) -> None:
    for statement in all_of(source):
        warehouse.query(statement.sql, statement.values)
        assert " OFFSET " not in statement.sql
        assert re.search(r" LIMIT \d+$", statement.sql)
        assert "2026" not in statement.sql, "a time in the text instead of in the values"


def test_columns_are_found_out(warehouse: Warehouse) -> None:
    source = SOURCES[-2]
    found = warehouse.query(*_pair(statements.sample(source, WINDOW)))
    assert found.columns == ["id", "at", "event", sources.KEY_NAME, *statements.part_names(source)]
    named = statements.with_columns(source, found.columns[:-2])
    page = warehouse.query(*_pair(statements.page(named, Piece(WINDOW, 1), 10, None)))
    assert (page.columns, page.types) == (found.columns[:-1], found.types[:-1])
    keys = [str(row[-1]) for row in page.rows]
    assert keys == sorted(keys)


def test_no_rows_are_asked_for_without_losing_the_types(warehouse: Warehouse) -> None:
    none = warehouse.query(*_pair(statements.sample(SOURCES[0], WINDOW, 0)))
    some = warehouse.query(*_pair(statements.sample(SOURCES[0], WINDOW)))
    assert none.rows == []
    assert some.rows
    assert none.types == some.types


def _pair(statement: Statement) -> tuple[str, dict[str, object]]:
    return statement.sql, statement.values
