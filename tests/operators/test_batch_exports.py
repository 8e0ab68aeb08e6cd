"""Backfills of batch exports as tasks: what is started, taken up, waited for and proved."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogLoadError,
    PostHogSettingsError,
)
from airflow_provider_posthog.operators.batch_exports import (
    PostHogBackfillBatchExportOperator,
    PostHogPauseBatchExportOperator,
    PostHogRetryBatchExportRunOperator,
    PostHogUnpauseBatchExportOperator,
    backfill,
)
from airflow_provider_posthog.tasks.export_proof import DestinationCount
from tests.emulator.client import Client
from tests.operators.support import Store, context, finish, run_trigger, task_deferred

#: What has no offset is UTC, and no local time.
pytestmark = pytest.mark.usefixtures("far_from_utc")

FIRST = "Events to the lake"
UTC = timezone.utc


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_poll, "_missing", {})


@pytest.fixture
def api(connected: EmulatorProcess) -> Client:
    connected.settings(batch_run_seconds=0.2, backfill_hidden_seconds=0.3, batch_jitter_seconds=0)
    return Client(connected.url, connected.api_key)


def days_ago(days: int) -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days)


def make(api: Client, **more: object) -> str:
    body = {"name": "to nowhere", "interval": "day", "destination": {"type": "NoOp", "config": {}}, **more}
    answer = api.post("batch_exports/", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def operator(**options: Any) -> PostHogBackfillBatchExportOperator:
    given = {"task_id": "task", "batch_export": FIRST, "poll_interval": 0.2, "deferrable": False, "timeout": 30}
    return PostHogBackfillBatchExportOperator(**{**given, "start": days_ago(4), "end": days_ago(2), **options})


def backfills(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    return [call for call in posthog.calls("/backfills/", "POST") if call["path"].endswith("/backfills/")]


@pytest.fixture(params=["C", "A"], ids=["with system tables", "without"])
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_backfill_is_waited_for_and_its_rows_are_told(
    api: Client, connected: EmulatorProcess, deferrable: bool, generation: str
) -> None:
    connected.settings(generation=generation, batch_run_seconds=0.2, backfill_hidden_seconds=0.5)
    result = finish(operator(deferrable=deferrable))
    rows = connected.count_events(days_ago(4).isoformat(), days_ago(2).isoformat())
    assert [result["rows"], result["run_count"], result["batch_export"]] == [rows, 2, FIRST]
    assert sum(run["rows"] for run in result["runs"]) == rows > 0
    assert [run["status"] for run in result["runs"]] == ["Completed"] * 2
    assert len(backfills(connected)) == 1


def test_each_interval_needs_a_good_run_though_the_backfill_says_completed(
    api: Client, connected: EmulatorProcess
) -> None:
    connected.settings(batch_outcome="Failed")
    with pytest.raises(PostHogJobFailed, match=r"2 of 2 intervals were not written as a whole: .*Failed: it failed"):
        finish(operator())


def test_one_good_run_is_not_enough_for_two_intervals(
    api: Client, connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_RUNS_LATE", ())
    began = datetime.now(UTC) - timedelta(seconds=5)
    done = finish(operator(), context(began=began))
    path = f"batch_exports/{done['batch_export_id']}/runs/"
    page = api.get(path, params={"start": f"{days_ago(4):%Y-%m-%dT00:00:00Z}"}).json()
    good, other = (run for run in page["results"] if str(run.get("backfill")) == done["backfill_id"])
    changes = ({"status": "Failed"}, {"status": "Running"}, {"records_failed": 3}, {"backfill": str(uuid.uuid4())})
    for number, runs in enumerate([[good], *([good, {**other, **change}] for change in changes)], 2):
        connected.clear_faults()
        body = {**page, "results": runs, "next": None}
        connected.faults(method="GET", path="*/runs/", status=200, body=body, count=-1)
        with pytest.raises(PostHogJobFailed, match="1 of 2 intervals were not written as a whole: "):
            finish(operator(), context(try_number=number, retries=9, began=began))
    connected.clear_faults()


def test_records_that_failed_are_no_success(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(batch_records_failed=3)
    with pytest.raises(PostHogJobFailed, match="Completed, but 3 records failed"):
        finish(operator())


def test_a_range_without_data_completes_with_no_rows(api: Client, connected: EmulatorProcess) -> None:
    result = finish(operator(start=days_ago(400), end=days_ago(399)))
    assert [result["rows"], result["runs"]] == [0, []]


def test_a_live_backfill_of_the_same_range_is_taken_up(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(batch_run_seconds=1.5)
    export = api.get("batch_exports/").json()["results"][0]["id"]
    body = {"start_at": f"{days_ago(4):%Y-%m-%d}", "end_at": f"{days_ago(2):%Y-%m-%d}"}
    theirs = api.post(f"batch_exports/{export}/backfills/", body).json()["backfill_id"]
    connected.advance(1)
    result = finish(operator())
    assert result["backfill_id"] == theirs
    assert len(backfills(connected)) == 1


def test_a_retry_takes_up_what_the_killed_try_started(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(batch_run_seconds=2)
    began, store = datetime.now(UTC) - timedelta(seconds=5), Store()
    with pytest.raises(task_deferred()):
        operator(deferrable=True).execute(context(store=store, began=began))
    result = finish(operator(), context(try_number=2, store=store, began=began))
    assert result["run_count"] == 2
    assert len(backfills(connected)) == 1


def test_without_a_store_a_retry_finds_the_ended_backfill_of_its_own_run(
    api: Client, connected: EmulatorProcess
) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    first = finish(operator(), context(began=began))
    again = finish(operator(), context(try_number=2, began=began))
    assert again["backfill_id"] == first["backfill_id"]
    assert len(backfills(connected)) == 1


def test_a_clear_backfills_again(api: Client, connected: EmulatorProcess) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    finish(operator(), context(began=began))
    finish(operator(), context(try_number=2, max_tries=3, began=began))
    assert len(backfills(connected)) == 2


@pytest.mark.parametrize("status", [500, 502])
def test_a_lost_answer_starts_no_second_backfill(api: Client, connected: EmulatorProcess, status: int) -> None:
    connected.faults(method="POST", path="*/backfills/", status=status, work=True)
    result = finish(operator())
    assert result["run_count"] == 2
    export = result["batch_export_id"]
    assert len(api.get(f"batch_exports/{export}/backfills/").json()["results"]) == 1


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_too_many_at_once_is_waited_out(
    api: Client, connected: EmulatorProcess, deferrable: bool, generation: str
) -> None:
    connected.settings(generation=generation, max_backfills=1, batch_run_seconds=1, backfill_hidden_seconds=0)
    other = make(api)
    body = {"start_at": f"{days_ago(5):%Y-%m-%d}", "end_at": f"{days_ago(4):%Y-%m-%d}"}
    assert api.post(f"batch_exports/{other}/backfills/", body).status_code == 201
    task, ctx = operator(deferrable=deferrable), context()
    deferrals = 0
    step: Any = lambda: task.execute(ctx)  # noqa: E731
    while True:
        try:
            result = step()
            break
        except task_deferred() as deferred:
            deferrals += 1
            assert deferrals < 20
            event = run_trigger(deferred.trigger)  # type: ignore[attr-defined]
            step = lambda event=event: task.execute_complete(ctx, event)  # noqa: E731
    assert result["run_count"] == 2
    assert bool(deferrals) is deferrable


def test_the_wait_for_a_place_has_an_end(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(max_backfills=1, batch_run_seconds=600)
    other = make(api)
    body = {"start_at": f"{days_ago(5):%Y-%m-%d}", "end_at": f"{days_ago(4):%Y-%m-%d}"}
    assert api.post(f"batch_exports/{other}/backfills/", body).status_code == 201
    with pytest.raises(PostHogJobTimeout, match="did not end within the timeout"):
        finish(operator(timeout=1))


def test_out_of_time_it_is_cancelled(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(batch_run_seconds=600)
    with pytest.raises(PostHogJobTimeout, match="It was cancelled"):
        finish(operator(timeout=1.5))
    export = api.get("batch_exports/").json()["results"][0]["id"]
    assert api.get(f"batch_exports/{export}/backfills/").json()["results"][0]["status"] == "Cancelled"


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
def test_a_task_that_is_killed_while_posthog_hides_its_backfill_cancels_it(
    api: Client, connected: EmulatorProcess, deferrable: bool
) -> None:
    connected.settings(batch_run_seconds=600, backfill_hidden_seconds=1)
    task = operator(deferrable=True)
    with pytest.raises(task_deferred()) as deferred:
        task.execute(context())
    asyncio.run(deferred.value.trigger.on_kill()) if deferrable else task.on_kill()  # type: ignore[attr-defined]
    export = api.get("batch_exports/").json()["results"][0]["id"]
    assert api.get(f"batch_exports/{export}/backfills/").json()["results"][0]["status"] == "Cancelled"


def test_a_backfill_takes_events_by_when_they_happened(api: Client, connected: EmulatorProcess, lake: Path) -> None:
    """Unlike a scheduled run: what came in the range and happened before it is not in it."""
    came = days_ago(3) + timedelta(hours=3)
    times = {"timestamp": (came - timedelta(days=9)).isoformat(), "created_at": came.isoformat()}
    who = {"uuid": str(uuid.uuid4()), "distinct_id": "d", "person_id": str(uuid.uuid4())}
    before = finish(operator(check_path=f"file://{lake}"))
    connected.add_events([{"event": "late", **who, **times, "properties": {}}])
    after = finish(operator(check_path=f"file://{lake}"))
    assert after["rows"] == after["destination_rows"] == before["rows"]


@pytest.mark.parametrize(
    ("zone", "start", "end", "days"),
    [
        # 25 hours, 23 hours, and a zone that is 5:45 ahead.
        ("America/New_York", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z", ["2025-11-02", "2025-11-03"]),
        ("America/New_York", "2025-03-09T05:00:00Z", "2025-03-10T04:00:00Z", ["2025-03-09", "2025-03-10"]),
        ("Asia/Kathmandu", "2025-11-02T18:15:00Z", "2025-11-03T18:15:00Z", ["2025-11-03", "2025-11-04"]),
    ],
)
def test_a_day_of_another_zone_is_asked_for_by_its_date(
    api: Client, connected: EmulatorProcess, zone: str, start: str, end: str, days: list[str]
) -> None:
    export = make(api, timezone=zone)
    assert finish(operator(batch_export=export, start=start, end=end))["rows"] == 0
    (call,) = backfills(connected)
    assert [call["body"]["start_at"], call["body"]["end_at"]] == days


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_a_day_of_utc_is_none_of_another_zone_s_and_those_are_told(
    api: Client, connected: EmulatorProcess, zone: str
) -> None:
    export = make(api, timezone=zone)
    with pytest.raises(PostHogSettingsError, match=r"2025-11-0\dT\d\d:\d\d:00Z to 2025-11-0\dT\d\d:\d\d:00Z"):
        operator(batch_export=export, start="2025-11-02T00:00:00Z", end="2025-11-03T00:00:00Z").execute(context())
    assert not backfills(connected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_export": "Events to the lak"}, "Did you mean 'Events to the lake'"),
        ({"batch_export": "01a200ca-b698-0000-24c1-84e2ab7ef77e"}, "PostHog knows no"),
        ({"batch_export": ""}, "is not text"),
        ({"start": datetime(2026, 1, 1, 12, tzinfo=UTC), "end": datetime(2026, 1, 3, tzinfo=UTC)}, "is not an edge of"),
        ({"start": datetime(2026, 1, 1, tzinfo=UTC), "end": datetime(2026, 1, 1, 1, tzinfo=UTC)}, "is not an edge of"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_started(
    api: Client, connected: EmulatorProcess, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(PostHogSettingsError, match=text):
        operator(**options).execute(context())
    assert not backfills(connected)


def failed_run(api: Client, connected: EmulatorProcess) -> tuple[str, dict[str, Any]]:
    """The batch export that is there from the start, and its newest run, which has failed."""
    connected.settings(batch_outcome="Failed")
    export = api.get("batch_exports/").json()["results"][0]
    connected.settings(batch_outcome="Completed")
    run = export["latest_runs"][0]
    assert run["status"] == "Failed"
    return export["id"], run


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize("by_id", [False, True], ids=["interval", "run_id"])
def test_a_failed_run_is_retried_and_the_new_run_waited_for(
    api: Client, connected: EmulatorProcess, deferrable: bool, by_id: bool, generation: str
) -> None:
    connected.settings(generation=generation, batch_run_seconds=0.2)
    export, run = failed_run(api, connected)
    which = {"run_id": run["id"]} if by_id else {"start": run["data_interval_start"], "end": run["data_interval_end"]}
    task = PostHogRetryBatchExportRunOperator(
        task_id="retry", batch_export=export, deferrable=deferrable, poll_interval=0.2, timeout=30, **which
    )
    result = finish(task)
    assert [result["status"], result["retried"]] == ["Completed", True]
    assert result["id"] != run["id"]
    again = finish(task)
    assert [again["id"], again["retried"]] == [result["id"], False]
    assert len(connected.calls("/retry/", "POST")) == 1


def test_pausing_and_going_on_say_what_was(api: Client, connected: EmulatorProcess) -> None:
    pause = PostHogPauseBatchExportOperator(task_id="pause", batch_export=FIRST)
    go_on = PostHogUnpauseBatchExportOperator(task_id="go_on", batch_export=FIRST)
    told = [(one["paused"], one["was_paused"]) for one in (finish(task) for task in (pause, pause, go_on, go_on))]
    assert told == [(True, False), (True, True), (False, True), (False, False)]


@pytest.mark.parametrize(
    ("kind", "word"), [(PostHogPauseBatchExportOperator, "pause"), (PostHogUnpauseBatchExportOperator, "unpause")]
)
def test_a_pause_that_posthog_only_says_is_none(api: Client, connected: EmulatorProcess, kind: Any, word: str) -> None:
    if word == "unpause":
        finish(PostHogPauseBatchExportOperator(task_id="before", batch_export=FIRST))
    connected.faults(method="POST", path=f"*/{word}/", status=200, body={"paused": word == "pause"})
    with pytest.raises(PostHogJobFailed, match=f"is still {'not ' if word == 'pause' else ''}paused"):
        finish(kind(task_id="task", batch_export=FIRST))


@pytest.fixture
def lake(api: Client, connected: EmulatorProcess, tmp_path: Path) -> Path:
    """The folder of a destination that really gets the rows."""
    connected.settings(batch_destination=str(tmp_path))
    return tmp_path


def test_the_files_at_the_destination_are_counted_each_event_once(lake: Path, connected: EmulatorProcess) -> None:
    result = finish(operator(check_path=f"file://{lake}"))
    assert result["destination_rows"] == result["posthog_rows"] == result["rows"] > 0


def test_times_without_a_zone_in_files_are_utc(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = pa.array([datetime(2026, 11, 1, 0, 30), datetime(2026, 11, 1, 23, 30)], pa.timestamp("us"))
    pq.write_table(pa.table({"uuid": ["a", "b"], "timestamp": times}), tmp_path / "events.parquet")
    counted = DestinationCount(path=f"file://{tmp_path}")
    assert counted.of((datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))) == 2


@pytest.mark.parametrize("pattern", ["", "/", "/*.parquet", "/**/*.parquet", "/*/2*.parquet", "/*/*+00:00.parquet"])
def test_a_pattern_names_the_files_that_are_counted(lake: Path, connected: EmulatorProcess, pattern: str) -> None:
    result = finish(operator(check_path=f"file://{lake}{pattern}"))
    assert result["destination_rows"] == result["rows"] > 0
    counts = DestinationCount(path=f"file://{lake}{pattern or '/*nothing'}").of((days_ago(4), days_ago(3)))
    assert bool(counts) is bool(pattern)


def test_a_file_that_cannot_be_counted_is_named(lake: Path, connected: EmulatorProcess) -> None:
    for name, content in (("broken.parquet", b"no parquet"), ("another.parquet", None)):
        if content is None:
            duckdb.execute(f"COPY (SELECT 1 AS x) TO '{lake / name}' (FORMAT parquet)")
        else:
            (lake / name).write_bytes(content)
        with pytest.raises(PostHogLoadError, match=f"The file {name} in check_path cannot be counted"):
            DestinationCount(path=f"file://{lake}").of((days_ago(4), days_ago(3)))
        (lake / name).unlink()


def test_a_connection_that_is_not_there_is_found_out_before_anything_is_started(
    api: Client, connected: EmulatorProcess
) -> None:
    with pytest.raises(Exception, match="nowhere"):
        operator(check_sql_conn_id="nowhere", check_table="events").execute(context())
    assert not backfills(connected)


def test_rows_that_the_destination_lacks_fail_the_task(
    api: Client, connected: EmulatorProcess, tmp_path: Path, lake: Path
) -> None:
    connected.settings(batch_destination=None)
    with pytest.raises(PostHogIncompleteError, match="the destination holds 0 rows, and PostHog has written"):
        finish(operator(check_path=f"file://{tmp_path}"))


def test_a_table_at_the_destination_is_counted_in_its_own_database(
    lake: Path, connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(operator())
    path = str(tmp_path / "lake.duckdb")
    with duckdb.connect(path) as database:
        database.execute(
            "CREATE TABLE posthog_events AS SELECT uuid, CAST(timestamp AT TIME ZONE 'UTC' AS TIMESTAMP) AS timestamp "
            f"FROM read_parquet('{lake}/**/*.parquet')"
        )
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "duckdb", "host": path}))
    result = finish(operator(check_sql_conn_id="lake", check_table="posthog_events"))
    assert result["destination_rows"] == result["rows"] > 0
    counted = "SELECT count(DISTINCT uuid) FROM posthog_events WHERE timestamp >= {start} AND timestamp < {end}"
    assert finish(operator(check_sql_conn_id="lake", check_sql=counted))["destination_rows"] == result["rows"]


@pytest.mark.parametrize(
    "options",
    [
        {"check_table": "events"},
        {"check_sql_conn_id": "lake"},
        {"check_sql_conn_id": "lake", "check_table": "a", "check_sql": "b"},
        {"check_sql_conn_id": "lake", "check_table": "a", "check_path": "file:///tmp"},
        {"check_sql_conn_id": "lake", "check_table": "a; DROP TABLE b"},
    ],
)
def test_a_count_that_cannot_be_is_refused_before_anything_is_started(
    api: Client, connected: EmulatorProcess, options: dict[str, Any]
) -> None:
    with pytest.raises(PostHogSettingsError):
        operator(**options).execute(context())
    assert not backfills(connected)
