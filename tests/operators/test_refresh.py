"""Refreshing insights: none of the answers by which PostHog lies turns a task green."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogSettingsError,
)
from tests.operators.support import connect, context, finish, in_threads, run_trigger, task_deferred
from tests.support.scripted import Reply, ScriptedServer, error, html, ok

BROKEN: dict[str, Any] = {"kind": "HogQLQuery", "query": "select nope from events"}
GOOD = {"kind": "HogQLQuery", "query": "select event, count() as n from events group by event order by event"}
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])


def refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    return PostHogRefreshInsightOperator(**{**given, **options})


def dashboard_refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 30, "deferrable": False}
    return PostHogRefreshDashboardOperator(**{**given, **options})


def api(posthog: EmulatorProcess) -> Any:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    return PostHogHook()


def saved(posthog: EmulatorProcess, query: Any = GOOD, **fields: Any) -> dict[str, Any]:
    from airflow_provider_posthog.api import insights

    made: dict[str, Any] = api(posthog).send(insights.create(query=query, **fields))
    return made


def cached(posthog: EmulatorProcess, insight: int, dashboard: int | None = None) -> dict[str, Any]:
    from airflow_provider_posthog.api import insights

    found: dict[str, Any] = api(posthog).send(insights.retrieve(insight, from_dashboard=dashboard))
    return found


def when(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def asked(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    """The requests that had something calculated."""
    return [call for call in posthog.calls("/insights/", "GET") if "force_" in json.dumps(call["query"])]


def board(posthog: EmulatorProcess, count: int) -> tuple[int, list[int]]:
    from airflow_provider_posthog.api.call import Call, json_object

    made = api(posthog).send(Call("create", "POST", "dashboards/", json_object, json={"name": "Nightly"}))
    numbers = []
    for number in range(count):
        query = {"kind": "HogQLQuery", "query": f"select {number}"}
        numbers.append(saved(posthog, query, name=f"Tile {number}", dashboards=[made["id"]])["id"])
    return made["id"], numbers


@MODES
@pytest.mark.parametrize("cache", ["none", "fresh", "stale"])
def test_numbers_are_new_whatever_the_cache_holds(connected: EmulatorProcess, deferrable: bool, cache: str) -> None:
    insight = saved(connected)["id"]
    before = None
    if cache != "none":
        connected.settings(cache_seconds=0.0 if cache == "stale" else 3600.0)
        before = finish(refresh(insight=insight))["last_refresh"]
    connected.capture([{"event": "brand_new", "distinct_id": "someone"}])
    done = finish(refresh(insight=insight, deferrable=deferrable))
    result = cached(connected, insight)
    assert "brand_new" in json.dumps(result["result"])
    assert done["last_refresh"] == result["last_refresh"]
    assert before is None or when(done["last_refresh"]) > when(before)
    assert done["rows"] == len(result["result"])
    assert done["id"] == insight
    assert done["short_id"] == result["short_id"]
    assert done["url"].endswith(f"/insights/{result['short_id']}")
    assert done["path"] is None
    assert json.loads(json.dumps(done)) == done


@MODES
@pytest.mark.parametrize("errors", ["status", "raise"])
def test_a_broken_query_fails_with_posthogs_reason(connected: EmulatorProcess, deferrable: bool, errors: str) -> None:
    connected.settings(insight_errors=errors)
    insight = saved(connected, BROKEN, name="Broken one")["id"]
    with pytest.raises(PostHogJobFailed, match="nope") as caught:
        finish(refresh(insight=insight, deferrable=deferrable))
    assert "Broken one" in str(caught.value)


@MODES
def test_a_failure_that_posthog_remembers_does_not_stick(connected: EmulatorProcess, deferrable: bool) -> None:
    """Without force, PostHog hands out the failed status of 20 minutes ago."""
    from airflow_provider_posthog.api import insights

    insight = saved(connected, BROKEN)["id"]
    with pytest.raises(PostHogJobFailed):
        finish(refresh(insight=insight, deferrable=True), context())
    api(connected).send(insights.update(insight, query=GOOD))
    assert finish(refresh(insight=insight, deferrable=deferrable), context())["rows"] > 0


@MODES
def test_an_error_beside_a_new_last_refresh_is_no_success(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(insight_outcome="concurrency")
    with pytest.raises((PostHogJobTimeout, PostHogJobFailed)) as caught:
        finish(refresh(insight=saved(connected)["id"], deferrable=False, timeout=2.5))
    assert "concurrency" in str(caught.value)


def test_for_room_among_the_running_queries_it_waits(connected: EmulatorProcess) -> None:
    connected.settings(insight_outcome="concurrency")
    insight = saved(connected)["id"]
    threading.Timer(0.5, lambda: connected.settings(insight_outcome="compute")).start()
    assert refresh(insight=insight).execute({})["rows"] > 0


def _insight(**fields: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    fresh = {"id": 7, "short_id": "abcdefgh", "name": "Signups", "result": [[1]], "is_cached": False}
    return {**fresh, "last_refresh": now.isoformat(), "query_status": None, **fields}


def _stamp(seconds: float = 0.0) -> str:
    at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return at.strftime("%a, %d %b %Y %H:%M:%S GMT")


FAILED_200 = {"query_status": {"error": True, "complete": False, "error_message": "Unknown table `x`", "id": ""}}
LIES = {
    "an error in a 200": (_insight(result=None, last_refresh=None, **FAILED_200), "Unknown table"),
    "an error beside numbers": (_insight(**FAILED_200), "Unknown table"),
    "from the cache": (_insight(is_cached=True), "cache"),
    "no result": (_insight(result=None), "no result"),
    "old numbers": (_insight(last_refresh="2026-01-01T00:00:00Z"), "2026-01-01"),
    "no time": (_insight(last_refresh=None), "last_refresh"),
    "no readable time": (_insight(last_refresh="just now"), "last_refresh"),
    "nothing of what was asked": ({"id": 7, "short_id": "abcdefgh"}, "no result"),
}


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_of_a_waiting_request_is_believed(scripted: ScriptedServer, lie: str) -> None:
    answer, reason = LIES[lie]
    known = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())
    scripted.script(known, known, ok(answer))
    with pytest.raises(PostHogJobFailed, match=reason):
        refresh(insight=7).execute({})
    assert "refresh=force_blocking" in scripted.requests[2].path


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "from the cache"])
def test_no_lie_of_the_cache_is_believed_after_a_deferral(scripted: ScriptedServer, lie: str) -> None:
    """The calculation is reported complete, and what is read back is not its result."""
    from airflow_provider_posthog.api.freshness import Outcome, Target
    from airflow_provider_posthog.api.refresh import read_back
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    answer, reason = LIES[lie]
    scripted.script(ok(answer))
    outcome: Outcome = run(read_back(Target(7, "name"), time.time()), PostHogHook().client)
    assert outcome.state == "failed"
    assert reason in outcome.reason


def test_the_servers_clock_counts_and_not_ours(scripted: ScriptedServer) -> None:
    """A server whose clock is an hour behind calculates in what looks like the past."""
    behind = -3600.0
    known = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp(behind))
    made = (datetime.now(timezone.utc) + timedelta(seconds=behind + 1)).isoformat()
    scripted.script(known, known, ok(_insight(last_refresh=made)))
    assert refresh(insight=7).execute({})["last_refresh"] == made


def test_without_a_servers_clock_the_numbers_must_have_changed(scripted: ScriptedServer) -> None:
    last = datetime.now(timezone.utc).isoformat()
    known = ok(_insight(is_cached=True, last_refresh=last))
    scripted.script(known, known, ok(_insight(last_refresh=last)))
    with pytest.raises(PostHogJobFailed, match="still those"):
        refresh(insight=7).execute({})


#: Whose page may look like an answer of PostHog's.
GATEWAYS = error(502, code="error")


@pytest.mark.parametrize(
    "cut", [Reply(cut="after"), Reply(cut="headers"), html(502), html(504), html(524), GATEWAYS], ids=str
)
def test_a_request_that_is_cut_goes_on_in_the_background(scripted: ScriptedServer, cut: Reply) -> None:
    known = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())
    missing = error(404, code="not_found")
    running = ok({"query_status": {"id": "q", "complete": False, "error": False}}, 202)
    done = ok({"query_status": {"id": "q", "complete": True, "error": False}})
    scripted.script(
        known,
        known,
        cut,
        missing,  # may it watch?
        ok({"message": "cancelled"}),  # what goes on behind the cut
        missing,  # no calculation of this name runs
        ok(_insight(result=None, last_refresh=None, query_status={"id": "q", "complete": False})),
        running,
        done,
        ok(_insight(is_cached=True)),
    )
    assert refresh(insight=7).execute({})["rows"] == 1
    sent = [(call.method, call.path.split("?")[0].rsplit("/", 3)[1]) for call in scripted.requests]
    assert [method for method, _ in sent] == ["GET", "GET", "GET", "GET", "DELETE", "GET", "GET", "GET", "GET", "GET"]
    assert "refresh=force_async" in scripted.requests[6].path


def test_a_request_that_is_cut_fails_where_the_key_may_not_watch(scripted: ScriptedServer) -> None:
    known = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())
    refused = error(403, "API key missing required scope 'query:read'", code="permission_denied")
    scripted.script(known, known, html(504), refused)
    with pytest.raises(PostHogJobFailed, match="query:read"):
        refresh(insight=7).execute({})
    assert sum("force_" in call.path for call in scripted.requests) == 1


def test_one_force_is_never_sent_twice(scripted: ScriptedServer) -> None:
    """A second one would calculate beside the first."""
    known = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())
    scripted.script(known, known, error(500))
    with pytest.raises(PostHogJobFailed):
        refresh(insight=7).execute({})
    assert sum("force_" in call.path for call in scripted.requests) == 1


BUSY = {
    **{"429": error(429, code="throttled"), "503": error(503, Retry_After="1")},
    **{"408": error(408), "521": error(521, code="error"), "521 of a gateway": html(521)},
}


@pytest.mark.parametrize("busy", BUSY.values(), ids=BUSY)
def test_a_busy_server_is_waited_for(scripted: ScriptedServer, busy: Reply) -> None:
    known = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())
    scripted.script(known, known, busy, ok(_insight()))
    assert refresh(insight=7).execute({})["rows"] == 1


def test_a_key_that_may_not_watch_waits_in_the_worker(
    connected: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    insight = saved(connected)["id"]
    key = connected.create_key(["insight:read"])
    connection = {**json.loads(connected.airflow_connection_json()), "password": key}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    assert refresh(insight=insight, deferrable=True).execute(context())["rows"] > 0
    assert "query:read" in caplog.text + capfd.readouterr().out
    assert "force_blocking" in json.dumps(asked(connected))


def test_more_than_a_trigger_can_hold_is_waited_for_in_the_worker(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL takes 65,535 characters of a trigger, and Airflow encrypts them first."""
    from airflow_provider_posthog.triggers import refresh as trigger

    first, second = saved(connected, name="A"), saved(connected, name="B")
    monkeypatch.setattr(trigger, "MOST_CHARACTERS", 150)
    done = refresh(insight=[first["id"], second["id"]], deferrable=True).execute(context())
    assert [each["name"] for each in done] == ["A", "B"]
    with pytest.raises(task_deferred()):
        refresh(insight=first["id"], deferrable=True).execute(context())


def test_a_trigger_is_not_larger_than_mysqls_column() -> None:
    from cryptography.fernet import Fernet

    from airflow_provider_posthog.api.freshness import Earlier, Target
    from airflow_provider_posthog.triggers.refresh import fit, item_of

    def target(number: int) -> Target:
        names = [f"airflow-{digit * 32}" for digit in "ab"]
        return Target(10**9 + number, names[0], 10**6, earlier=(Earlier(names[1], True),), life_since=1.7e9)

    targets = [target(number) for number in range(1000)]
    most = next(count for count in range(1000) if not fit(targets[: count + 1]))
    assert most > 200
    held = json.dumps([item_of(one, may_start=False) for one in targets[:most]])
    assert len(Fernet(Fernet.generate_key()).encrypt(held.encode())) < 65_535 - 2_000


@MODES
def test_a_list_brings_a_list(connected: EmulatorProcess, deferrable: bool) -> None:
    first, second = saved(connected, name="A"), saved(connected, {"kind": "HogQLQuery", "query": "select 1"}, name="B")
    done = finish(refresh(insight=[first["short_id"], second["id"]], deferrable=deferrable))
    assert [each["id"] for each in done] == [first["id"], second["id"]]
    assert [each["name"] for each in done] == ["A", "B"]


@MODES
def test_of_several_the_failed_are_named_together(connected: EmulatorProcess, deferrable: bool) -> None:
    good, bad, worse = saved(connected), saved(connected, BROKEN, name="Bad"), saved(connected, BROKEN, name="Worse")
    with pytest.raises(PostHogJobFailed) as caught:
        finish(refresh(insight=[good["id"], bad["id"], worse["id"]], deferrable=deferrable))
    text = str(caught.value)
    assert "2 of 3" in text
    assert "Bad" in text
    assert "Worse" in text


@MODES
def test_a_tile_has_numbers_of_its_own(connected: EmulatorProcess, deferrable: bool) -> None:
    dashboard, (insight,) = board(connected, 1)
    finish(refresh(insight=insight))
    bare = cached(connected, insight)["last_refresh"]
    assert cached(connected, insight, dashboard)["last_refresh"] is None
    done = finish(refresh(insight=insight, from_dashboard=dashboard, deferrable=deferrable))
    assert cached(connected, insight, dashboard)["last_refresh"] == done["last_refresh"]
    assert cached(connected, insight)["last_refresh"] == bare


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"insight": []}, "insight"),
        ({"insight": [1, "1"]}, "insight"),
        ({"insight": True}, "insight"),
        ({"insight": 1, "from_dashboard": "x"}, "from_dashboard"),
        ({"insight": 1, "timeout": 0}, "timeout"),
        ({"insight": 1, "poll_interval": float("nan")}, "poll_interval"),
        ({"insight": 1, "max_in_flight": 0}, "max_in_flight"),
        ({"insight": 1, "variables_override": "x"}, "variables_override"),
        ({"insight": 1, "variables_override": {"v": 5}}, "variables_override"),
        ({"insight": 1, "filters_override": [1]}, "filters_override"),
        ({"insight": 1, "timeout": timedelta(0)}, "timeout"),
        ({"insight": 1, "poll_interval": "5"}, "poll_interval"),
        ({"insight": [1, 2], "path": "memory://x/one.csv"}, "path"),
        ({"insight": 1, "format": "csv"}, "format"),
        ({"insight": 1, "path": "memory://x/a.csv", "format": "json"}, "format"),
        ({"insight": 1, "path": "memory://x/", "format": "doc"}, "format"),
        ({"insight": 1, "path": "memory://x/a.doc"}, "path"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        refresh(**options).execute({})
    assert caught.value.field == field
    assert connected.calls() == []


def test_an_unknown_insight_is_said_to_be_unknown(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="no such insight"):
        refresh(insight="nosuchid").execute({})


def test_results_are_written_as_the_suffix_says(connected: EmulatorProcess, tmp_path: Any) -> None:
    insight = saved(connected)
    done = finish(refresh(insight=[insight["id"]], path=f"file://{tmp_path}/{{short_id}}.csv"))
    written = tmp_path / f"{insight['short_id']}.csv"
    assert done[0]["path"] == f"file://{written}" or done[0]["path"] == str(written)
    lines = written.read_text().splitlines()
    assert lines[0] == "event,n"
    assert len(lines) == done[0]["rows"] + 1
    assert [path.name for path in tmp_path.iterdir()] == [written.name]


@pytest.mark.parametrize("made", [None, "csv", "json", "jsonl", "xlsx", "parquet"])
def test_a_folder_has_a_file_for_each_insight(connected: EmulatorProcess, tmp_path: Any, made: str | None) -> None:
    insights = [saved(connected), saved(connected, {"kind": "HogQLQuery", "query": "select 1 as one"})]
    numbers = [each["id"] for each in insights]
    refresh(insight=numbers, path=f"file://{tmp_path}/", format=made, timeout=timedelta(seconds=30)).execute({})
    names = sorted(f"{each['short_id']}.{made or 'csv'}" for each in insights)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_sheet_has_the_dashboards_numbers(connected: EmulatorProcess, tmp_path: Any) -> None:
    """PostHog's own table of an insight has not the dashboard's filters."""
    from openpyxl import load_workbook

    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.api.call import Call, json_object
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    node = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
    node |= {"dateRange": {"date_from": "-20d"}}
    dashboard = hook.send(Call("make", "POST", "dashboards/", json_object, json={"name": "Two days"}))["id"]
    path = f"dashboards/{dashboard}/"
    hook.send(Call("make", "PATCH", path, json_object, json={"filters": {"date_from": "-2d"}}))
    made = hook.send(insights.create(query=node, name="Views", dashboards=[dashboard]))
    one = {"insight": made["id"], "from_dashboard": dashboard, "poll_interval": timedelta(seconds=0.05)}
    refresh(path=f"file://{tmp_path}/sheet.xlsx", **one).execute({})
    rows = list(load_workbook(tmp_path / "sheet.xlsx").active.values)
    (item,) = hook.send(insights.retrieve(made["id"], from_dashboard=dashboard))["result"]
    assert len(item["days"]) == 3
    assert [row[-2:] for row in rows] == [("date", "value"), *zip(item["days"], item["data"], strict=True)]


def test_nothing_is_written_if_one_is_not_fresh(connected: EmulatorProcess, tmp_path: Any) -> None:
    insights = [saved(connected)["id"], saved(connected, BROKEN)["id"]]
    with pytest.raises(PostHogJobFailed):
        refresh(insight=insights, path=f"file://{tmp_path}/{{id}}.json").execute({})
    assert list(tmp_path.iterdir()) == []


# Dashboards.


@MODES
def test_forty_tiles_are_calculated_three_at_once(connected: EmulatorProcess, deferrable: bool) -> None:
    dashboard, numbers = board(connected, 40)
    connected.settings(query_seconds=0.3, async_seconds=0.0)
    began = time.monotonic()
    done = finish(dashboard_refresh(dashboard=dashboard, deferrable=deferrable))
    seconds = time.monotonic() - began
    assert sorted(each["id"] for each in done["insights"]) == sorted(numbers)
    assert done["refreshed"] == 40
    assert connected.stats()["calculations"]["most_at_once"] == 3
    if not deferrable:  # fourteen rounds of 0.3 s; deferred, polls come on top
        assert seconds < 6


@MODES
def test_tiles_that_failed_are_named_together(connected: EmulatorProcess, deferrable: bool) -> None:
    dashboard, _ = board(connected, 2)
    saved(connected, BROKEN, name="Revenue", dashboards=[dashboard])
    saved(connected, BROKEN, name="Churn", dashboards=[dashboard])
    with pytest.raises(PostHogJobFailed) as caught:
        finish(dashboard_refresh(dashboard=dashboard, deferrable=deferrable))
    assert "2 of 4" in str(caught.value)
    assert "Revenue" in str(caught.value)
    assert "Churn" in str(caught.value)


def test_tiles_that_the_key_may_not_see_are_counted(connected: EmulatorProcess) -> None:
    dashboard, numbers = board(connected, 2)
    connected.settings(hidden_insights=[numbers[0]])
    done = dashboard_refresh(dashboard=dashboard).execute({})
    assert (done["refreshed"], done["hidden_tiles"]) == (1, 1)
    with pytest.raises(PostHogSettingsError, match="may not be seen"):
        dashboard_refresh(dashboard=dashboard, require_all=True).execute({})
    connected.settings(hidden_insights=numbers)
    with pytest.raises(PostHogSettingsError, match="may not be seen"):
        dashboard_refresh(dashboard=dashboard).execute({})


def test_an_unknown_dashboard_is_an_error(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="dashboard: is 999, and the project has no such dashboard"):
        dashboard_refresh(dashboard=999).execute({})


def test_an_empty_dashboard_is_said_to_be_empty(
    connected: EmulatorProcess, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    dashboard, _ = board(connected, 0)
    done = dashboard_refresh(dashboard=dashboard).execute({})
    assert (done["refreshed"], done["insights"], done["last_refresh"]) == (0, [], None)
    assert "no insights" in caplog.text + capfd.readouterr().out


# The life cycle.


def running(posthog: EmulatorProcess) -> int:
    return int(posthog.stats()["calculations"]["running"])


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_a_retry_leaves_no_second_calculation_running(connected: EmulatorProcess) -> None:
    """The first worker was killed while its request waited: its calculation goes on at PostHog."""
    insight = saved(connected)["id"]
    connected.settings(query_seconds=3.0)

    def attempt(number: int) -> Any:
        if number == 0:
            with pytest.raises(PostHogJobError):
                refresh(insight=insight).execute(context(try_number=1))
            return None
        until(lambda: running(connected) == 1)
        connected.settings(query_seconds=0.0)
        done = refresh(insight=insight).execute(context(try_number=2))
        assert running(connected) == 0
        return done

    assert in_threads(attempt, 2)[1]["rows"] > 0


def test_a_retry_takes_up_a_deferred_calculation(connected: EmulatorProcess) -> None:
    insight = saved(connected)["id"]
    connected.settings(query_seconds=2.0, async_seconds=0.0)
    with pytest.raises(task_deferred()) as deferred:
        refresh(insight=insight, deferrable=True).execute(context(try_number=1))
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    trigger.deadline = time.time() + 0.3  # the triggerer that has it is lost soon
    run_trigger(trigger)
    assert running(connected) == 1
    done = finish(refresh(insight=insight, deferrable=True), context(try_number=2))
    assert done["rows"] > 0
    assert len(asked(connected)) == 1


def test_a_success_before_a_clear_does_not_count_after_it(connected: EmulatorProcess) -> None:
    insight = saved(connected)["id"]
    first = finish(refresh(insight=insight, deferrable=True), context(try_number=1))
    again = finish(refresh(insight=insight, deferrable=True), context(try_number=2, max_tries=3, retries=2))
    assert when(again["last_refresh"]) > when(first["last_refresh"])
    assert len(asked(connected)) == 2


def test_a_kill_cancels_what_is_calculated(connected: EmulatorProcess) -> None:
    insights = [saved(connected, {"kind": "HogQLQuery", "query": f"select {number}"})["id"] for number in range(5)]
    connected.settings(query_seconds=30.0)
    operator = refresh(insight=insights)

    def work(number: int) -> None:
        if number == 0:
            with pytest.raises(PostHogError):
                operator.execute(context())
        else:
            until(lambda: running(connected) == 3)
            operator.on_kill()

    in_threads(work, 2)
    until(lambda: running(connected) == 0)
    assert len(asked(connected)) == 3


def test_out_of_time_it_cancels_and_says_so(connected: EmulatorProcess) -> None:
    insight = saved(connected)["id"]
    connected.settings(query_seconds=30.0, async_seconds=0.0)
    with pytest.raises(PostHogJobTimeout):
        finish(refresh(insight=insight, deferrable=True, timeout=0.5), context())
    until(lambda: running(connected) == 0)


def test_a_killed_deferred_task_cancels_in_the_triggerer(connected: EmulatorProcess) -> None:
    import asyncio

    insight = saved(connected)["id"]
    connected.settings(query_seconds=30.0, async_seconds=0.0)
    with pytest.raises(task_deferred()) as deferred:
        refresh(insight=insight, deferrable=True).execute(context())
    trigger = deferred.value.trigger  # type: ignore[attr-defined]

    async def killed() -> None:
        watching = asyncio.ensure_future(anext(aiter(trigger.run())))
        while running(connected) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await trigger.on_kill()
        watching.cancel()

    asyncio.run(asyncio.wait_for(killed(), 10))
    until(lambda: running(connected) == 0)


def test_overrides_do_not_go_to_the_triggerer(connected: EmulatorProcess) -> None:
    query: dict[str, Any] = {
        "kind": "HogQLQuery",
        "query": "select count() from events where distinct_id = {variables.who}",
    }
    query["variables"] = {"v1": {"code_name": "who", "variableId": "v1", "value": "nobody"}}
    insight = saved(connected, query)["id"]
    overrides = {"variables_override": {"v1": {"code_name": "who", "value": "ann@example.com"}}}
    with pytest.raises(task_deferred()) as deferred:
        refresh(insight=insight, deferrable=True, **overrides).execute(context())
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    assert "ann@example.com" not in json.dumps(trigger.serialize())
    assert len(asked(connected)) == 1
    many = [saved(connected, query)["id"] for _ in range(4)]
    assert len(refresh(insight=many, deferrable=True, **overrides).execute(context())) == 4


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"version": 1, "kind": "refresh", "outcome": "succeeded", "items": [], "facts": {}},
        {"version": 1, "kind": "refresh", "outcome": "succeeded", "items": [{"insight_id": 1}], "facts": {}},
        {"version": 9, "kind": "refresh", "outcome": "succeeded", "items": [], "facts": {}},
    ],
)
def test_an_event_that_can_not_be_trusted_is_no_success(connected: EmulatorProcess, event: Any) -> None:
    with pytest.raises(PostHogJobError, match="trigger"):
        refresh(insight=1, deferrable=True).execute_complete(context(), event)


def test_a_trigger_can_not_claim_that_it_is_fresh(connected: EmulatorProcess) -> None:
    item = {"insight_id": 1, "dashboard_id": None, "query_id": "q", "reason": "", "seconds": 1.0, "started": 0.0}
    told = {"version": 1, "kind": "refresh", "outcome": "succeeded", "facts": {}, "limit": "timeout", "try_number": 1}
    with pytest.raises(PostHogJobError, match="trigger"):
        refresh(insight=1).execute_complete(context(), {**told, "items": [{**item, "state": "fresh"}]})


def test_mapped_tasks_have_calculations_of_their_own(connected: EmulatorProcess) -> None:
    insight = saved(connected)["id"]
    connected.settings(async_seconds=0.0)
    in_threads(lambda index: finish(refresh(insight=insight), context(map_index=index)), 2)
    names = {call["query"]["client_query_id"] for call in asked(connected)}
    assert len(names) == 2


def test_extra_of_the_asset_event_tells_the_numbers(connected: EmulatorProcess) -> None:
    from types import SimpleNamespace

    from airflow_provider_posthog.assets import create_asset

    class Events:
        """As Airflow's: found by the asset, which cannot be a dictionary's key before 3.2."""

        def __getitem__(self, asset: Any) -> Any:
            assert asset.uri.endswith(f"/dashboard/{dashboard}")
            return event

    dashboard, _ = board(connected, 2)
    asset = create_asset(project_id=1, kind="dashboard", id=dashboard, host="localhost")
    event = SimpleNamespace(extra={})
    operator = dashboard_refresh(dashboard=dashboard, outlets=[asset])
    operator.execute({**context(), "outlet_events": Events()})
    assert event.extra["refreshed"] == 2
    assert event.extra["dashboard_id"] == dashboard


def test_an_outlet_of_another_project_is_warned_of(
    connected: EmulatorProcess, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_posthog.assets import create_asset
    from airflow_provider_posthog.tasks import outlets

    # Airflow may take the handlers of the root away while a task runs.
    monkeypatch.setattr(outlets.log, "handlers", [caplog.handler])
    monkeypatch.setattr(outlets.log, "propagate", False)
    dashboard, _ = board(connected, 1)
    host = connected.url.removeprefix("http://")
    own = create_asset(project_id=1, kind="dashboard", id=dashboard, host=host)
    wrong = create_asset(project_id=12345, kind="dashboard", id=dashboard, host=host)
    operator = dashboard_refresh(dashboard=dashboard, outlets=[own, wrong])
    operator.execute({**context(), "task": operator})
    warned = [record.getMessage() for record in caplog.records if record.name == outlets.log.name]
    assert len(warned) == 1
    assert f"{host}/12345/dashboard" in warned[0]
    assert f"posthog://{host}/1" in warned[0]


def test_an_outlet_is_told_though_the_connection_can_no_longer_be_read() -> None:
    """The work is done by then."""
    from airflow_provider_posthog.assets import create_asset
    from airflow_provider_posthog.tasks.outlets import tell_outlets

    class Events:
        def __getitem__(self, wanted: object) -> SimpleNamespace:
            return event

    event = SimpleNamespace(extra={})
    asset = create_asset(project_id=1, kind="dashboard", id=7)
    operator = dashboard_refresh(dashboard=7, outlets=[asset], posthog_conn_id="gone")
    tell_outlets({"task": operator, "outlet_events": Events()}, [asset], {"refreshed": 2})
    assert event.extra == {"refreshed": 2}


def test_connect_is_used(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, connected, max_in_flight=1)
    dashboard, _ = board(connected, 3)
    connected.settings(query_seconds=0.1)
    dashboard_refresh(dashboard=dashboard).execute({})
    assert connected.stats()["calculations"]["most_at_once"] == 1
