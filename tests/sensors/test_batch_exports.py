"""The sensor of a batch export's scheduled run."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from airflow_provider_posthog.api import jobs, system_poll
from airflow_provider_posthog.api.watched import Watched, deciding_run, row, run_text
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.sensors.batch_exports import PostHogBatchExportRunSensor
from tests.emulator.client import Client
from tests.operators.support import finish, outcome_errors

FIRST = "Events to the lake"
UTC = timezone.utc


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_poll, "_missing", {})


@pytest.fixture
def api(connected: EmulatorProcess) -> Client:
    connected.settings(batch_run_seconds=0.2, backfill_hidden_seconds=0.1, batch_jitter_seconds=0)
    return Client(connected.url, connected.api_key)


@pytest.fixture(params=["C", "A"], ids=["with system tables", "without"])
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["poke", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def midnight(days: int) -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)


def sensor(days: int = 2, **options: Any) -> PostHogBatchExportRunSensor:
    given = {"task_id": "task", "batch_export": FIRST, "poke_interval": 0.2, "timeout": 20, "failure_grace": 0.3}
    return PostHogBatchExportRunSensor(**{**given, "start": midnight(days), "end": midnight(days - 1), **options})


def export_of(api: Client) -> str:
    return str(api.get("batch_exports/").json()["results"][0]["id"])


def test_the_run_of_the_interval_tells_what_it_wrote(
    api: Client, connected: EmulatorProcess, deferrable: bool, generation: str
) -> None:
    connected.settings(generation=generation)
    result = finish(sensor(deferrable=deferrable))
    start, end = midnight(2).isoformat(), midnight(1).isoformat()
    assert result["rows"] == connected.count_events(start, end, "created_at")
    assert (result["start"], result["end"], result["batch_export_id"]) == (start, end, export_of(api))


def test_a_run_older_than_posthogs_default_of_seven_days_is_found(
    api: Client, connected: EmulatorProcess, deferrable: bool
) -> None:
    export_of(api)
    connected.advance(10 * 86_400)
    assert finish(sensor(deferrable=deferrable))["start"] == midnight(2).isoformat()


@pytest.mark.parametrize("status", ["Failed", "FailedBilling", "Terminated", "TimedOut", "FailedRetryable"])
def test_a_failed_run_fails_with_its_status(
    api: Client, connected: EmulatorProcess, status: str, deferrable: bool
) -> None:
    connected.settings(batch_outcome=status)
    with pytest.raises(PostHogJobFailed, match=f"{status}: "):
        finish(sensor(deferrable=deferrable))


def test_a_failure_that_posthog_mends_with_another_run_is_none(
    api: Client, connected: EmulatorProcess, deferrable: bool
) -> None:
    connected.settings(batch_outcome="FailedRetryable")
    export = export_of(api)
    runs = api.get(f"batch_exports/{export}/").json()["latest_runs"]
    run = next(one for one in runs if one["data_interval_start"].startswith(f"{midnight(2):%Y-%m-%d}"))
    connected.settings(batch_outcome="Completed", batch_run_seconds=0.6)
    assert api.post(f"batch_exports/{export}/runs/{run['id']}/retry/").status_code == 201
    result = finish(sensor(deferrable=deferrable, failure_grace=10))
    assert result["run_id"] != run["id"]


def test_a_good_run_beside_failed_ones_is_enough(api: Client, connected: EmulatorProcess) -> None:
    export = export_of(api)
    runs = api.get(f"batch_exports/{export}/").json()["latest_runs"]
    run = next(one for one in runs if one["data_interval_start"].startswith(f"{midnight(2):%Y-%m-%d}"))
    connected.settings(batch_outcome="Failed")
    api.post(f"batch_exports/{export}/runs/{run['id']}/retry/")
    connected.advance(1)
    assert finish(sensor())["run_id"] == run["id"]


def test_a_backfill_of_the_interval_alone_is_not_the_scheduled_run(
    api: Client, connected: EmulatorProcess, deferrable: bool, generation: str
) -> None:
    connected.settings(generation=generation, batch_run_seconds=0.1, backfill_hidden_seconds=0)
    export, days = export_of(api), 20  # older than the export
    body = {"start_at": f"{midnight(days):%Y-%m-%d}", "end_at": f"{midnight(days - 1):%Y-%m-%d}"}
    assert api.post(f"batch_exports/{export}/backfills/", body).status_code == 201
    connected.advance(5)
    with pytest.raises(outcome_errors().timeout):
        finish(sensor(days, deferrable=deferrable, timeout=1.0))


@pytest.mark.parametrize(
    ("scheduled", "backfill", "state", "told"),
    [
        ("Running", "Completed", "pending", "2"),
        ("Starting", "Failed", "pending", "2"),
        ("Failed", "Completed", "succeeded", "2"),
        ("Completed", "Completed", "succeeded", "1"),
        ("Completed", "Failed", "succeeded", "1"),
    ],
)
def test_a_backfill_s_run_does_not_stand_for_a_scheduled_one_that_goes_on_or_is_good(
    scheduled: str, backfill: str, state: str, told: str
) -> None:
    made = {"batch_export": "e", "created_at": "2026-11-02T00:10:00Z"}
    made |= {"data_interval_start": "2026-11-01T00:00:00Z", "data_interval_end": "2026-11-02T00:00:00Z"}
    runs = [{**made, "id": "1", "status": scheduled}, {**made, "id": "2", "status": backfill, "backfill": "b"}]
    text = run_text("e", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    rows = [row(run) for run in runs]
    assert jobs.WATCHED.judge({"id": text, "rows": rows, "at": 0.0}).state == state
    assert (deciding_run(Watched.parse(text), rows) or {})["id"] == told


def test_a_run_that_begins_late_as_posthog_s_do_is_waited_for(
    api: Client, connected: EmulatorProcess, deferrable: bool, generation: str
) -> None:
    late = (datetime.now(UTC) - midnight(0)).total_seconds() + 1.0
    connected.settings(generation=generation, batch_jitter_seconds=late)
    assert finish(sensor(1, deferrable=deferrable))["start"] == midnight(1).isoformat()


def test_records_that_failed_are_no_success(api: Client, connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(batch_records_failed=2)
    with pytest.raises(PostHogJobFailed, match="2 records failed"):
        finish(sensor(deferrable=deferrable))


def test_fewer_records_than_asked_for_fail(api: Client, connected: EmulatorProcess, deferrable: bool) -> None:
    with pytest.raises(PostHogJobFailed, match="fewer than min_records=1,000,000"):
        finish(sensor(deferrable=deferrable, min_records=1_000_000))


def test_a_range_of_several_intervals_names_them(api: Client, connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="the range has 2 intervals of the export"):
        finish(sensor(end=midnight(0)))
    with pytest.raises(PostHogSettingsError, match="is not a number of records"):
        finish(sensor(min_records=-1))


@pytest.fixture
def lake(connected: EmulatorProcess, tmp_path: Path) -> Path:
    """The folder of a destination that really gets the rows."""
    connected.settings(batch_destination=str(tmp_path / "lake"))
    return tmp_path / "lake"


def late_event(posthog: EmulatorProcess, days: int) -> None:
    """An event that came on a day, and happened three days before it."""
    came = midnight(days) + timedelta(hours=3)
    times = {"timestamp": (came - timedelta(days=3)).isoformat(), "created_at": came.isoformat()}
    who = {"uuid": str(uuid.uuid4()), "distinct_id": "d", "person_id": str(uuid.uuid4())}
    posthog.add_events([{"event": "late", **who, **times, "properties": {}}])


def test_the_rows_of_a_run_are_those_that_came_in_its_interval_and_are_counted_in_its_files(
    api: Client, lake: Path, connected: EmulatorProcess, deferrable: bool
) -> None:
    late_event(connected, 2)
    result = finish(sensor(deferrable=deferrable, check_path=f"file://{lake}"))
    start, end = midnight(2).isoformat(), midnight(1).isoformat()
    assert result["destination_rows"] == result["rows"] == connected.count_events(start, end, "created_at")
    assert result["posthog_rows"] == result["rows"]


def test_a_destination_without_the_rows_of_the_run_fails(
    api: Client, lake: Path, connected: EmulatorProcess, deferrable: bool
) -> None:
    export_of(api)
    (file,) = [one for one in lake.rglob("*.parquet") if one.name.startswith(f"{midnight(2):%Y-%m-%d}")]
    file.unlink()
    with pytest.raises(PostHogIncompleteError, match="the destination holds 0 rows, and PostHog has written"):
        finish(sensor(deferrable=deferrable, check_path=f"file://{lake}"))


def test_a_table_is_counted_by_its_time_of_ingestion(
    api: Client, lake: Path, connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_event(connected, 2)
    finish(sensor())
    path = str(tmp_path / "lake.duckdb")
    with duckdb.connect(path) as database:
        made = "CREATE TABLE events AS SELECT uuid, CAST(created_at AT TIME ZONE 'UTC' AS TIMESTAMP) AS received FROM"
        database.execute(f"{made} read_parquet('{lake}/**/*.parquet')")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "duckdb", "host": path}))
    result = finish(sensor(check_sql_conn_id="lake", check_table="events", check_column="received"))
    assert result["destination_rows"] == result["rows"] > 0
    counted = "SELECT count(*) FROM events WHERE received >= {start} AND received < {end}"
    assert finish(sensor(check_sql_conn_id="lake", check_sql=counted))["destination_rows"] == result["rows"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"check_sql_conn_id": "lake", "check_table": "events"}, "check_column"),
        ({"check_sql_conn_id": "lake"}, "check_sql_conn_id"),
        ({"check_table": "events"}, "check_sql_conn_id"),
        ({"check_path": "file:///tmp", "check_sql_conn_id": "lake", "check_sql": "SELECT 1"}, "check_path"),
    ],
)
def test_a_count_by_when_events_happened_is_refused(
    api: Client, connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        finish(sensor(**options))
    assert caught.value.field == field
