"""Batch exports: runs by schedule, by backfill and by retry, and what PostHog's answers do not say."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, wait_for

HOUR = 3600.0
DAY = 24 * HOUR


def _create(api: Client, interval: str = "hour", **more: object) -> str:
    body = {"name": "to nowhere", "interval": interval, "destination": {"type": "NoOp", "config": {}}, **more}
    answer = api.post("batch_exports/", body)
    assert answer.status_code == 201, answer.text
    return f"batch_exports/{answer.json()['id']}/"


def _runs(api: Client, path: str, query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"{path}runs/?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def _day(days: int) -> str:
    return (datetime.now(timezone.utc) - timedelta(days=days)).strftime("%Y-%m-%d")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.fixture
def still(posthog: EmulatorProcess) -> EmulatorProcess:
    """Let runs begin at once and end when the clock is moved."""
    posthog.settings(batch_jitter_seconds=0, batch_run_seconds=60, backfill_hidden_seconds=5)
    return posthog


def test_there_is_one_from_the_start(api: Client, posthog: EmulatorProcess) -> None:
    listed = api.get("batch_exports/").json()
    assert listed["count"] == 1
    export = listed["results"][0]
    assert api.get(f"batch_exports/{export['id']}/").json() == export
    assert [export["interval"], export["paused"], export["team_id"]] == ["day", False, 1]
    run = export["latest_runs"][0]
    assert run["status"] == "Completed"
    start, end = run["data_interval_start"], run["data_interval_end"]
    assert _moment(end) - _moment(start) == timedelta(days=1)
    assert run["records_completed"] == posthog.count_events(start, end, "created_at")


def test_the_schedule(api: Client, still: EmulatorProcess) -> None:
    path = _create(api)
    assert _runs(api, path) == []
    still.advance(3 * HOUR)
    runs = _runs(api, path)
    assert len(runs) == 3
    starts = [_moment(run["data_interval_start"]) for run in runs]
    assert starts == sorted(starts, reverse=True)
    assert {each.minute for each in starts} == {0}
    assert _moment(runs[0]["created_at"]) == _moment(runs[0]["data_interval_end"])
    assert api.get(f"{path}runs/{runs[0]['id']}/").json() == runs[0]


def test_runs_begin_later_than_their_interval_ends(api: Client, posthog: EmulatorProcess) -> None:
    path = _create(api)
    posthog.advance(24 * HOUR)
    late = [_moment(run["created_at"]) - _moment(run["data_interval_end"]) for run in _runs(api, path)]
    assert timedelta(0) < max(late) <= timedelta(minutes=15)
    assert len(set(late)) == len(late)


@pytest.mark.parametrize("outcome", ["Completed", "Failed", "FailedRetryable", "FailedBilling", "TimedOut"])
def test_the_life_of_a_run(api: Client, still: EmulatorProcess, outcome: str) -> None:
    still.settings(batch_outcome=outcome)
    still.advance(DAY)
    path = f"batch_exports/{api.get('batch_exports/').json()['results'][0]['id']}/"
    still.settings(batch_outcome=outcome)
    made = api.post(f"{path}runs/{_runs(api, path)[0]['id']}/retry/")
    assert made.status_code == 201
    run = _runs(api, path)[0]
    assert (run["status"], run["finished_at"]) == ("Starting", None)
    still.advance(30)
    assert api.get(f"{path}runs/{run['id']}/").json()["status"] == "Running"
    still.advance(30)
    done = api.get(f"{path}runs/{run['id']}/").json()
    assert done["status"] == outcome
    assert bool(done["latest_error"]) is (outcome != "Completed")
    assert _moment(done["finished_at"]) - _moment(done["created_at"]) == timedelta(seconds=60)


def test_without_bounds_the_list_shows_a_week(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, "day")
    still.advance(20 * DAY)
    # those that have begun since the midnight of a week ago
    assert len(_runs(api, path)) == 8
    assert len(_runs(api, path, "after=-30d")) == 20
    newest = _runs(api, path)[0]
    oldest = _runs(api, path, "after=-30d")[-1]
    assert oldest not in _runs(api, path)
    assert api.get(f"{path}runs/{oldest['id']}/").json() == oldest, "one run is found, however old"
    before = quote(newest["created_at"])
    assert newest not in _runs(api, path, f"before={quote(oldest['created_at'])}&after=-30d")
    assert newest in _runs(api, path, f"before={before}")


def test_ordered_by_interval_other_bounds_count(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, "day")
    still.advance(20 * DAY)
    # after means nothing in this order
    assert len(_runs(api, path, "ordering=data_interval_start&after=-30d")) < 8
    everything = _runs(api, path, "ordering=data_interval_start&start=-30d")
    starts = [run["data_interval_start"] for run in everything]
    assert (len(starts), starts) == (20, sorted(starts))
    wanted = everything[4]
    window = f"start={wanted['data_interval_start']}&end={wanted['data_interval_end']}"
    assert _runs(api, path, f"ordering=-data_interval_start&{window}") == [wanted]
    assert api.get(f"{path}runs/?after=whenever").status_code == 400


def test_pages_of_runs(api: Client, still: EmulatorProcess) -> None:
    path = _create(api)
    still.advance(6 * DAY)
    first = api.get(f"{path}runs/").json()
    assert set(first) == {"next", "previous", "results"}
    assert (len(first["results"]), first["previous"]) == (100, None)
    # a run that comes in between moves nothing
    still.advance(HOUR)
    second = api.get(first["next"].removeprefix(still.url)).json()
    assert (len(second["results"]), second["next"]) == (44, None)
    ids = [run["id"] for run in first["results"] + second["results"]]
    assert len(set(ids)) == len(ids) == 144
    back = api.get(second["previous"].removeprefix(still.url)).json()
    assert [run["id"] for run in back["results"]] == ids[:100]
    assert api.get(f"{path}runs/?cursor=nonsense").json()["detail"] == "Invalid cursor"


def test_runs_by_status(api: Client, still: EmulatorProcess) -> None:
    path = _create(api)
    still.advance(2 * HOUR)
    assert len(_runs(api, path)) == 2
    still.settings(batch_outcome="Failed")
    still.advance(2 * HOUR)
    assert len(_runs(api, path, "status=Failed")) == 2
    assert len(_runs(api, path, "status=Failed&status=Completed")) == 4
    assert _runs(api, path, "status=TimedOut") == []


def test_a_retry_names_no_backfill(api: Client, still: EmulatorProcess) -> None:
    path = _create(api)
    still.advance(HOUR)
    run = _runs(api, path)[0]
    answer = api.post(f"{path}runs/{run['id']}/retry/")
    assert answer.status_code == 201
    name = answer.json()["backfill_id"]
    assert "-Backfill-" in name
    still.advance(10)
    assert api.get(f"{path}backfills/{quote(name)}/").status_code == 404
    window = ("data_interval_start", "data_interval_end")
    again = [each for each in _runs(api, path) if [each[name] for name in window] == [run[name] for name in window]]
    assert len(again) == 2
    assert again[0]["status"] in ("Starting", "Running")


def test_only_a_running_run_is_cancelled(api: Client, still: EmulatorProcess) -> None:
    path = _create(api)
    still.advance(HOUR)
    run = _runs(api, path)[0]
    still.advance(60)
    refused = api.post(f"{path}runs/{run['id']}/cancel/")
    assert refused.status_code == 400
    assert refused.json()["detail"] == "Cannot cancel a run that is in 'Completed' status"
    api.post(f"{path}runs/{run['id']}/retry/")
    again = _runs(api, path)[0]
    assert api.post(f"{path}runs/{again['id']}/cancel/").json() == {"cancelled": True}
    still.advance(60)
    assert api.get(f"{path}runs/{again['id']}/").json()["status"] == "Cancelled"
    assert api.post(f"{path}runs/nothing/cancel/").status_code == 404


def test_paused_exports_run_nothing(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, model="persons")
    assert api.post(f"{path}pause/").json() == {"paused": True}
    still.advance(3 * HOUR)
    assert _runs(api, path) == []
    assert api.get(path).json()["last_paused_at"] is not None
    assert api.post(f"{path}unpause/").json() == {"paused": False}
    still.advance(HOUR)
    assert len(_runs(api, path)) == 1
    api.post(f"{path}pause/")
    still.advance(3 * HOUR)
    api.post(f"{path}unpause/", {"backfill": True})
    still.advance(3 * 60)
    assert len([run for run in _runs(api, path) if run["backfill"]]) == 3


def test_a_backfill(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, "day")
    body = {"start_at": _day(4), "end_at": _day(1)}
    answer = api.post(f"{path}backfills/", body)
    assert answer.status_code == 201
    assert set(answer.json()) == {"backfill_id"}
    one = f"{path}backfills/{answer.json()['backfill_id']}/"
    assert api.get(one).status_code == 404, "the row comes after the id"
    assert api.get(f"{path}backfills/").json()["results"] == []
    still.advance(5)
    running = api.get(one).json()
    assert (running["status"], running["progress"]["total_runs"]) == ("Running", 3)
    assert [each["id"] for each in api.get(f"{path}backfills/").json()["results"]] == [running["id"]]
    still.advance(60)
    assert api.get(one).json()["progress"]["finished_runs"] == 1
    still.advance(120)
    done = api.get(one).json()
    assert (done["status"], done["progress"]["progress"]) == ("Completed", 1.0)
    counted = still.count_events(f"{_day(4)}T00:00:00+00:00", f"{_day(1)}T00:00:00+00:00", "timestamp")
    assert done["total_records_count"] == counted
    runs = [run for run in _runs(api, path) if run["backfill"] == done["id"]]
    assert sorted(run["data_interval_start"][:10] for run in runs) == [_day(4), _day(3), _day(2)]


def test_a_completed_backfill_may_have_failed_runs(api: Client, still: EmulatorProcess) -> None:
    still.settings(batch_outcome="Failed")
    path = _create(api, "day")
    backfill = api.post(f"{path}backfills/", {"start_at": _day(2), "end_at": _day(1)}).json()["backfill_id"]
    still.advance(60)
    assert api.get(f"{path}backfills/{backfill}/").json()["status"] == "Completed"
    assert [run["status"] for run in _runs(api, path) if run["backfill"] == backfill] == ["Failed"]


def test_a_backfill_without_data_is_done_at_once(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, "day")
    backfill = api.post(f"{path}backfills/", {"start_at": "2001-01-01", "end_at": "2001-02-01"}).json()["backfill_id"]
    still.advance(5)
    done = api.get(f"{path}backfills/{backfill}/").json()
    assert (done["status"], done["total_records_count"]) == ("Completed", 0)


@pytest.mark.parametrize(
    ("interval", "start", "end", "words"),
    [
        ("day", "2026-01-02T00:00:00Z", "2026-01-03", "only the date component"),
        ("hour", "2026-01-02T00:00:00", "2026-01-02T05:00:00", "is naive"),
        ("hour", "2026-01-02", "2026-01-03", "is naive"),
        ("day", "2026-01-03", "2026-01-03", "must happen before"),
        ("day", "2026-01-03", "2999-01-01", "in the future"),
        ("day", None, "2026-01-03", "needs both ends"),
        ("week", "2026-01-05", "2026-01-11", "not on the day"),
    ],
)
def test_backfills_that_can_not_be(api: Client, interval: str, start: str | None, end: str, words: str) -> None:
    path = _create(api, interval)
    refused = api.post(f"{path}backfills/", {"start_at": start, "end_at": end})
    assert refused.status_code == 400
    assert words in refused.json()["detail"]
    assert api.post(f"{path}backfills/", {"end_at": end}).json()["code"] == "required"


def test_too_many_backfills_and_the_same_one_twice(api: Client, still: EmulatorProcess) -> None:
    still.settings(max_backfills=2)
    path = _create(api, "day")
    bodies = [{"start_at": _day(days + 1), "end_at": _day(days)} for days in (1, 2, 3)]
    assert api.post(f"{path}backfills/", bodies[0]).status_code == 201
    assert api.post(f"{path}backfills/", bodies[0]).status_code == 500, "one workflow has that name"
    assert api.post(f"{path}backfills/", bodies[1]).status_code == 201
    refused = api.post(f"{path}backfills/", bodies[2])
    assert (refused.status_code, refused.json()["type"]) == (429, "server_error")
    assert refused.json()["code"] == "too_many_concurrent_backfills"
    assert "Retry-After" not in refused.headers
    still.advance(60)
    assert api.post(f"{path}backfills/", bodies[2]).status_code == 201


def test_a_cancelled_backfill_begins_no_more_runs(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, "day")
    backfill = api.post(f"{path}backfills/", {"start_at": _day(9), "end_at": _day(1)}).json()["backfill_id"]
    still.advance(70)
    assert api.post(f"{path}backfills/{backfill}/cancel/").json() == {"cancelled": True}
    still.advance(DAY)
    statuses = [run["status"] for run in _runs(api, path) if run["backfill"] == backfill]
    assert sorted(statuses) == ["Cancelled", "Completed"]
    assert api.get(f"{path}backfills/{backfill}/").json()["status"] == "Cancelled"
    assert api.post(f"{path}backfills/{backfill}/cancel/").status_code == 400


def test_days_are_those_of_the_exports_own_zone(api: Client, still: EmulatorProcess) -> None:
    path = _create(api, "day", timezone="America/New_York", offset_hour=2)
    still.advance(2 * DAY)
    starts = [_moment(run["data_interval_start"]) for run in _runs(api, path)]
    assert {each.hour for each in starts} <= {6, 7}, "two o'clock in New York"


def test_what_can_not_be_made(api: Client) -> None:
    def refused(**change: object) -> dict[str, Any]:
        body = {"name": "x", "interval": "hour", "destination": {"type": "NoOp"}, **change}
        answer = api.post("batch_exports/", body)
        assert answer.status_code == 400
        found: dict[str, Any] = answer.json()
        return found

    assert refused(destination={"type": "S3"})["attr"] == "destination__type"
    assert "Integration is required" in refused(destination={"type": "Snowflake"})["detail"]
    assert refused(interval="month")["code"] == "invalid_choice"
    assert refused(timezone="Nowhere")["attr"] == "timezone"
    assert refused(name=None)["code"] == "required"


def test_deleted_and_scopes(api: Client, posthog: EmulatorProcess) -> None:
    path = _create(api)
    reader = Client(posthog.url, posthog.create_key(["batch_export:read"]))
    assert reader.get(f"{path}runs/").status_code == 200
    for refused in (reader("DELETE", path), reader.post(f"{path}pause/"), reader.post(f"{path}backfills/", {})):
        assert refused.json()["detail"] == "API key missing required scope 'batch_export:write'"
    assert api("DELETE", path).status_code == 204
    assert api.get(path).status_code == 404


def test_in_real_time(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(batch_run_seconds=0.05, backfill_hidden_seconds=0.02)
    path = _create(api, "day")
    backfill = api.post(f"{path}backfills/", {"start_at": _day(3), "end_at": _day(1)}).json()["backfill_id"]
    wait_for(lambda: api.get(f"{path}backfills/{backfill}/").json().get("status") == "Completed")
