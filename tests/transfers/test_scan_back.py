"""``scan_back``: what PostHog need not look for is left out, counted once a day, and said."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.bulk import ends_a_day
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB
from tests.operators.support import context
from tests.transfers.choosing import source_in
from tests.transfers.test_posthog_to_sql import day, event
from tests.transfers.test_query_to_object_storage import table_of

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
COUNTS = "window_left_out"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb", held=True)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


@pytest.fixture
def name(connection: EmulatorProcess) -> str:
    """Events of this test alone: two in time, three from long ago, all taken in on one day, and at its last hour."""
    made = f"scan back {uuid4()}"
    came = datetime.fromisoformat(day(3)) - timedelta(minutes=10)
    happened = [came, came - timedelta(days=6), *(came - timedelta(days=days) for days in (9, 30, 400))]
    connection.add_events([event(moment.isoformat(), event=made, created_at=came.isoformat()) for moment in happened])
    return made


def sql(name: str, **options: Any) -> dict[str, Any]:
    given = {"start": day(4), "end": day(3), "scan_back": WEEK, "settle": timedelta(0), "events": name}
    task = PostHogToSqlOperator(
        task_id="t", sql_conn_id="warehouse", table="events", **{**source_in(options), **given, **options}
    )
    found: dict[str, Any] = task.execute(context())
    return found


def files(folder: Path, name: str, **options: Any) -> dict[str, Any]:
    given = {"start": day(4), "end": day(3), "scan_back": WEEK, "settle": timedelta(0), "events": name}
    task = PostHogQueryToObjectStorageOperator(
        task_id="t", path=str(folder), **{**source_in(options), **given, **options}
    )
    found: dict[str, Any] = task.execute(context())
    return found


def counts(connection: EmulatorProcess) -> int:
    return len([call for call in connection.calls("/query/", "POST") if COUNTS in json.dumps(call["body"])])


def test_a_load_leaves_out_what_happened_long_before_and_says_how_much(
    connection: EmulatorProcess, lake: DuckDB, name: str, caplog: Any, capsys: Any
) -> None:
    found = sql(name)
    assert (found["rows"], found["left_out"], lake.count()) == (2, 3, 2)
    said = caplog.text + capsys.readouterr().out
    assert "leaves out 3 events" in said
    assert "without scan_back" in said
    assert (sql(name, scan_back=None)["rows"], lake.count()) == (5, 5)


def test_files_note_what_was_left_out(connection: EmulatorProcess, tmp_path: Path, name: str) -> None:
    found = files(tmp_path, name)
    manifest = json.loads(Path(found["manifest"]).read_text())
    assert (found["rows"], found["left_out"], table_of(tmp_path).num_rows) == (2, 3, 2)
    assert (manifest["left_out"], manifest["source"]["scan_back"]) == (3, 7 * 86400.0)


def test_nothing_is_counted_or_said_without_it(connection: EmulatorProcess, tmp_path: Path, name: str) -> None:
    before = counts(connection)
    found = files(tmp_path, name, scan_back=None)
    assert (found["rows"], found["left_out"]) == (5, None)
    assert "scan_back" not in json.loads(Path(found["manifest"]).read_text())["source"]
    assert counts(connection) == before


def test_hourly_loads_count_once_a_day_and_for_all_of_it(connection: EmulatorProcess, lake: DuckDB, name: str) -> None:
    before, left_out = counts(connection), []
    midnight = datetime.fromisoformat(day(3))
    for hours in (3, 2, 1, 0):
        end = midnight - timedelta(hours=hours)
        edges = {"start": (end - timedelta(hours=1)).isoformat(), "end": end.isoformat()}
        left_out.append(sql(name, **edges)["left_out"])
    assert left_out == [None, None, None, 3]
    assert counts(connection) - before == 1


def test_what_only_the_later_hours_of_a_day_leave_out_is_counted_too(connection: EmulatorProcess, lake: DuckDB) -> None:
    """Each hour looks back from its own beginning: what it leaves out, the first hour of the day would have found."""
    made, midnight = f"scan back {uuid4()}", datetime.fromisoformat(day(3))
    came = [midnight - timedelta(hours=hours, minutes=-30) for hours in (3, 2, 1)]
    ages = (WEEK - timedelta(minutes=1), WEEK + timedelta(minutes=29), WEEK + timedelta(minutes=31), WEEK + 20 * HOUR)
    connection.add_events(
        [event((at - age).isoformat(), event=made, created_at=at.isoformat()) for at in came for age in ages]
    )
    for hours in (2, 1, 0):
        end = midnight - timedelta(hours=hours)
        found = sql(made, start=(end - HOUR).isoformat(), end=end.isoformat())
    assert (found["left_out"], lake.count()) == (6, 6)


def test_what_looking_back_has_left_out_is_counted_where_it_goes(connection: EmulatorProcess, lake: DuckDB) -> None:
    """A load that reads the day before again looks no farther back from there than from its own day."""
    made, came = f"scan back {uuid4()}", datetime.fromisoformat(day(5)) + HOUR
    connection.add_events([event((came - WEEK - 12 * HOUR).isoformat(), event=made, created_at=came.isoformat())])
    before = sql(made, start=day(5), end=day(4), look_back=24 * HOUR)
    assert (before["left_out"], lake.count()) == (0, 1)
    found = sql(made, look_back=24 * HOUR, allow_shrink=True)
    assert (found["left_out"], lake.count()) == (1, 0)


@pytest.mark.parametrize(
    ("start", "end", "ends"),
    [
        ((1, 0), (2, 0), True),
        ((1, 5), (2, 5), True),
        ((1, 23), (2, 0), True),
        ((1, 0), (1, 1), False),
        ((1, 22), (1, 23), False),
        ((1, 23), (2, 1), True),
        ((1, 0), (9, 0), True),
    ],
)
def test_of_intervals_that_follow_one_another_one_ends_a_day(
    start: tuple[int, int], end: tuple[int, int], ends: bool
) -> None:
    first, last = (datetime(2026, 5, day, hour, tzinfo=timezone.utc) for day, hour in (start, end))
    assert ends_a_day(first, last) is ends


def test_a_count_that_fails_costs_no_load(connection: EmulatorProcess, lake: DuckDB, name: str) -> None:
    before = len(connection.calls("/query/", "POST"))
    assert sql(name, start=day(4))["left_out"] == 3
    asked = len(connection.calls("/query/", "POST")) - before
    connection.faults(method="POST", path="*/query/", status=504, skip=asked - 1)
    found = sql(name)
    connection.clear_faults()
    assert (found["rows"], found["left_out"], lake.count()) == (2, None, 2)


def test_earlier_files_are_compared_with_what_they_were_read_by(
    connection: EmulatorProcess, tmp_path: Path, name: str
) -> None:
    """Not with what was left out of them: they would be read again each time."""
    files(tmp_path, name)
    found = files(tmp_path, name, start=day(3), end=day(2), verify_back=timedelta(days=2))
    assert (found["verified"], found["reloaded"]) == (1, 0)
    late = (datetime.fromisoformat(day(3)) - timedelta(minutes=9)).isoformat()
    connection.add_events([event(late, event=name)])
    found = files(tmp_path, name, start=day(3), end=day(2), verify_back=timedelta(days=2))
    assert (found["verified"], found["reloaded"]) == (1, 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"source": "persons"}, "scan_back"),
        ({"source": "sessions"}, "scan_back"),
        ({"query": "SELECT uuid, event FROM events", "key": "uuid"}, "scan_back"),
        ({"time_column": "timestamp"}, "scan_back"),
        ({"scan_back": 7}, "scan_back"),
        ({"scan_back": timedelta(0)}, "scan_back"),
        ({"scan_back": timedelta(days=-1)}, "scan_back"),
        ({"verify_back": timedelta(days=2)}, "verify_back"),
    ],
)
def test_what_it_is_not_for_is_refused_before_anything_is_sent(
    connection: EmulatorProcess, lake: DuckDB, options: dict[str, Any], field: str
) -> None:
    before = len(connection.calls())
    given: dict[str, Any] = {"events": None, **options}
    with pytest.raises(PostHogSettingsError) as error:
        sql(given.pop("events"), **given)
    assert error.value.field == field
    assert len(connection.calls()) == before


@pytest.mark.parametrize("options", [{"source": "persons"}, {"time_column": "timestamp"}, {"scan_back": "7 days"}])
def test_files_refuse_it_alike(connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any]) -> None:
    given = {"events": None, **options}
    with pytest.raises(PostHogSettingsError, match="scan_back"):
        files(tmp_path, given.pop("events"), **given)
    assert not list(tmp_path.iterdir())
