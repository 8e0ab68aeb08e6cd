"""The HogQL of cells: what ClickHouse can answer from PostHog's sort key, and nothing that a column's name changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.extract import sources, statements
from airflow_provider_posthog.extract.cell_statements import within
from airflow_provider_posthog.extract.cells import HASHES, LAST_DAY, Cell, Group
from airflow_provider_posthog.extract.windows import Piece, Window
from tests.extract.reading import SECOND, UTC, Middleman, column, event, read, settings_of, uuids

START = datetime(2026, 3, 15, tzinfo=UTC)
DAY = (START - datetime(1970, 1, 1, tzinfo=UTC)).days
WINDOW = Window(START, START + timedelta(days=1))
FROM = ("events.timestamp >= toDateTime({window_first_day})", {"window_first_day": "2026-03-15T00:00:00.000000Z"})
TO = (
    "events.timestamp <= toDateTime({window_last_moment})",
    {"window_last_moment": "2026-03-15T23:59:59.999999Z"},
)
ONE: dict[str, Any] = {"first_day": DAY, "last_day": DAY + 1, "low": ("it's {x}", False), "high": ("it's {x}", True)}
SAME = ("events.event = {window_event}", {"window_event": "it's {x}"})
LOW = ("events.event >= {window_low_event}", {"window_low_event": "a"})
BEHIND = ("events.event > {window_low_event}", {"window_low_event": "a"})
BEFORE = ("events.event < {window_high_event}", {"window_high_event": "b"})
HIGH = ("events.event <= {window_high_event}", {"window_high_event": "b"})
HASH, KEY = "cityHash64(events.distinct_id)", "cityHash64(events.uuid)"
HASHED = [
    (f"{HASH} >= {{window_hash_low}}", {"window_hash_low": 5}),
    (f"{HASH} < {{window_hash_high}}", {"window_hash_high": HASHES - 1}),
]
KEYED = [
    (f"{KEY} >= {{window_key_hash_low}}", {"window_key_hash_low": 6}),
    (f"{KEY} < {{window_key_hash_high}}", {"window_key_hash_high": 7}),
]
UTC_DAY = "toYYYYMMDD(toTimeZone(events.timestamp, 'UTC'))"


@pytest.mark.parametrize(
    ("cell", "conditions"),
    [
        (Cell(), []),
        (Cell(DAY), [FROM]),
        (Cell(None, DAY + 1), [TO]),
        (Cell(DAY, DAY + 1), [FROM, TO]),
        (Cell(None, 0), [(f"{UTC_DAY} < 19700101", {})]),
        (Cell(LAST_DAY), [(f"{UTC_DAY} >= 21471219", {})]),
        (Cell(DAY, DAY + 1, ("a", False), None), [FROM, TO, LOW]),
        (Cell(DAY, DAY + 1, ("a", True), ("b", False)), [FROM, TO, BEHIND, BEFORE]),
        (Cell(DAY, DAY + 1, None, ("b", True)), [FROM, TO, HIGH]),
        (Cell(**ONE), [FROM, TO, SAME]),
        (Cell(**ONE, hashes=(5, HASHES - 1)), [FROM, TO, SAME, *HASHED]),
        (Cell(**ONE, hashes=(0, HASHES - 1)), [FROM, TO, SAME, HASHED[1]]),
        (Cell(**ONE, hashes=(5, HASHES - 1), keys=(6, 7)), [FROM, TO, SAME, *HASHED, *KEYED]),
        (Cell(**ONE, hashes=(5, HASHES), keys=(0, 7)), [FROM, TO, SAME, HASHED[0], KEYED[1]]),
    ],
    ids=str,
)
def test_the_conditions_of_each_kind_of_cell(cell: Cell, conditions: list[tuple[str, dict[str, Any]]]) -> None:
    """Times are compared by themselves: inside of a function, no index would be used."""
    values: dict[str, Any] = {}
    assert within(cell, values) == [text for text, _ in conditions]
    assert values == {name: value for _, given in conditions for name, value in given.items()}


def test_the_whole_text_of_what_is_asked() -> None:
    source = sources.events(["uuid", "event"], where="1 = 1")
    window = replace(WINDOW, cell=Cell(**ONE))
    when = "created_at >= toDateTime({window_start}) AND created_at < toDateTime({window_end})"
    inside = f"{when} AND {FROM[0]} AND {TO[0]} AND {SAME[0]} AND (1 = 1\n)"
    assert statements.groups_by_event(source, window).sql == (
        f"SELECT {UTC_DAY} AS day, events.event AS name, count() AS counted, min(events.timestamp) AS low, "
        f"max(events.timestamp) AS high, min({HASH}) AS first_hash, max({HASH}) AS last_hash "
        f"FROM events WHERE {inside} GROUP BY day, name ORDER BY day, name LIMIT 50000"
    )
    behind = statements.groups_by_event(source, window, (20260315, "b"))
    assert f"({UTC_DAY}, events.event) > (20260315, {{window_after_event}})" in behind.sql
    assert behind.values["window_after_event"] == "b"
    for by_key, hashed in ((False, HASH), (True, KEY)):
        assert statements.groups_of_event(source, window, 1 << 60, by_key=by_key).sql == (
            f"SELECT intDiv({hashed}, {1 << 60}) AS bucket, count() AS counted "
            f"FROM events WHERE {inside} GROUP BY bucket ORDER BY bucket LIMIT 50000"
        )
    hint = "timestamp >= toDateTime({window_low}) AND timestamp <= toDateTime({window_high})"
    piece = Piece(window, 5, START, START + SECOND)
    selected = "SELECT uuid, event, created_at AS posthog_time FROM events"
    order = "ORDER BY created_at, toString(uuid) LIMIT 6"
    assert statements.page(source, piece, 6, None).sql == f"{selected} WHERE {inside} AND {hint} {order}"


def test_outliers_are_asked_for_by_what_was_counted_of_them() -> None:
    groups = tuple(Group(day, "it's", 2, START, START + SECOND, (7, HASHES - 1)) for day in (5, 9))
    piece = Piece(replace(WINDOW, cell=Cell(0, 30)), 4, START, START, groups=groups, is_outlier=True)
    page = statements.page(sources.events(["uuid"]), piece, 6, None)
    for number in (0, 1):
        name = f"window_group_{number}"
        assert (
            f"(events.timestamp >= toDateTime({{{name}_low}}) AND events.timestamp <= toDateTime({{{name}_high}})"
            f" AND events.event = {{{name}_event}} AND {HASH} >= {{{name}_first}} AND {HASH} <= {{{name}_last}})"
        ) in page.sql
        assert page.values[f"{name}_event"] == "it's"
        assert page.values[f"{name}_last"] == HASHES - 1
    assert "window_low" not in page.values


@pytest.mark.parametrize("cell", [Cell(None, 0), Cell(LAST_DAY)])
def test_times_that_no_index_finds_are_no_hints(cell: Cell) -> None:
    piece = Piece(replace(WINDOW, cell=cell), 4, START, START)
    assert "window_low" not in statements.page(sources.events(["uuid"]), piece, 6, None).sql


@pytest.mark.parametrize("generation", ["A", "C"])
@pytest.mark.parametrize("by", ["created_at", "timestamp"])
@pytest.mark.parametrize(
    "columns",
    [
        {"event": "upper(event)", "id": "uuid"},
        {"distinct_id": "'x'", "id": "uuid"},
        {"timestamp2": "timestamp", "day": "toDate(timestamp)", "name": "event", "id": "uuid", "counted": "1"},
        {"low": "lower(event)", "high": "upper(event)", "first_hash": "cityHash64(distinct_id)", "id": "uuid"},
        {"events": "event", "bucket": "toString(timestamp)", "id": "uuid"},
    ],
    ids=["event", "distinct_id", "time", "counts", "table"],
)
def test_columns_under_the_names_of_others_change_no_cell(
    settings: ClientSettings,
    man: Middleman,
    rows: EmulatorProcess,
    day: datetime,
    columns: dict[str, str],
    by: Any,
    generation: str,
) -> None:
    rows.settings(timezone="Asia/Kathmandu", generation=generation)
    made = [
        {**event(day + number * SECOND, name=["a", "B", "c"][number % 3]), "distinct_id": f"d{number % 5}"}
        for number in range(30)
    ]
    rows.add_events(made)
    chunks = read(settings, sources.events(columns, time_column=by), day, day + timedelta(days=1), page_rows=3)
    assert sorted(map(str, column(chunks, "id"))) == uuids(made)
    assert any("intDiv" in sql for sql in man.asked)


def test_an_hour_of_a_day_is_read_whatever_the_project_s_time_zone(rows: EmulatorProcess, day: datetime) -> None:
    """The days of PostHog's key are those of UTC."""
    made = [event(day + timedelta(minutes=minutes)) for minutes in range(0, 48 * 60, 17)]
    rows.add_events(made)
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns"):
        rows.settings(timezone=zone)
        for by in ("created_at", "timestamp"):
            for hours in ((0, 48), (5, 6), (23, 25)):
                start, end = (day + timedelta(hours=hour) for hour in hours)
                source = sources.events(time_column=by)  # type: ignore[arg-type]
                found = column(read(settings_of(rows.url, rows), source, start, end, page_rows=9))
                inside = [each for each in made if start.isoformat() <= each["timestamp"] < end.isoformat()]
                assert sorted(found) == uuids(inside)
