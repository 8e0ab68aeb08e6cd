"""Refreshes that are killed, cut off, starved and out of time: nothing goes on behind them, and none turns green."""

from __future__ import annotations

import asyncio
import copy
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogSettingsError,
)
from tests.operators.support import (
    connect,
    context,
    finish,
    in_threads,
    outcome_errors,
    run_trigger,
    task_deferred,
)
from tests.support.scripted import Reply, ScriptedServer, error, html, ok

MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])


def refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    return PostHogRefreshInsightOperator(**{**given, **options})


def dashboard_refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 30, "deferrable": False}
    return PostHogRefreshDashboardOperator(**{**given, **options})


def saved(count: int, **fields: Any) -> list[int]:
    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    made = [
        hook.send(insights.create(query={"kind": "HogQLQuery", "query": f"select {number}"}, **fields))
        for number in range(count)
    ]
    return [each["id"] for each in made]


def calculations(posthog: EmulatorProcess) -> dict[str, int]:
    found: dict[str, int] = posthog.stats()["calculations"]
    return found


def asked(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    """The requests that had something calculated."""
    return [call for call in posthog.calls("/insights/", "GET") if "force_" in json.dumps(call["query"])]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def deferred(operator: Any, ctx: dict[str, Any]) -> Any:
    with pytest.raises(task_deferred()) as caught:
        operator.execute(ctx)
    return caught.value.trigger  # type: ignore[attr-defined]


def tidy(posthog: EmulatorProcess) -> None:
    """End what a test has left running, as no reset does."""
    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    for call in asked(posthog):
        PostHogHook().send(insights.cancel(call["query"]["client_query_id"]))


@contextmanager
def took(*, at_most: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < at_most


def _stamp() -> str:
    return datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _insight(**fields: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat()
    fresh = {"id": 7, "short_id": "abcdefgh", "name": "Signups", "result": [[1]], "is_cached": False}
    return {**fresh, "last_refresh": now, "query_status": None, **fields}


def _known() -> Reply:
    return ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


def forced(server: ScriptedServer) -> int:
    return sum("force_" in call.path for call in server.requests)


# As Airflow handles operators.


def test_airflow_may_copy_the_operators() -> None:
    """As ``airflow tasks test`` and clears do."""
    for operator in (refresh(insight=1), dashboard_refresh(dashboard=1)):
        assert copy.deepcopy(operator).task_id == "task"


def test_one_operator_may_run_again_after_a_kill(connected: EmulatorProcess) -> None:
    """Tests and ``dag.test()`` run the same object for each try."""
    (insight,) = saved(1)
    operator = refresh(insight=insight)
    operator.execute(context())
    operator.on_kill()
    assert operator.execute(context(try_number=2))["rows"] == 1


@MODES
def test_an_event_for_an_earlier_try_starts_over(connected: EmulatorProcess, deferrable: bool) -> None:
    """Airflow 3.0 hands a retry the last event of the try before."""
    first, second = saved(2)
    event = run_trigger(deferred(refresh(insight=first, deferrable=True), context()))
    event["items"][0]["state"] = "failed"
    operator = refresh(insight=second, deferrable=deferrable)
    again = context(try_number=2)
    if deferrable:
        with pytest.raises(task_deferred()):
            operator.execute_complete(again, event)
    else:
        assert operator.execute_complete(again, event)["id"] == second


# Out of time.


@pytest.mark.parametrize("count", [1, 5])
@MODES
def test_at_its_timeout_a_task_ends_and_cancels(connected: EmulatorProcess, deferrable: bool, count: int) -> None:
    """A request that waits may do so for ten minutes; what had no turn yet is not even begun."""
    insights = saved(count)
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    with took(at_most=30), pytest.raises(PostHogJobTimeout, match=f"{count} of {count}"):
        finish(refresh(insight=insights, deferrable=deferrable, timeout=3), context())
    until(lambda: calculations(connected)["running"] == 0)
    assert len(asked(connected)) == min(count, 3)
    assert calculations(connected)["begun"] == min(count, 3)


@pytest.mark.parametrize("background", [False, True])
def test_after_the_deadline_nothing_is_begun(scripted: ScriptedServer, background: bool) -> None:
    from airflow_provider_posthog.api.freshness import Target
    from airflow_provider_posthog.api.refresh import in_background, in_request
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    late = time.time() - 1
    steps = in_background(Target(7, "name"), late, 0.05, 3) if background else in_request(Target(7, "name"), late)
    outcome = run(steps, PostHogHook().client)
    assert (outcome.state, outcome.goes_on) == ("timeout", False)
    assert scripted.requests == []


@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
def test_a_server_that_hangs_does_not_hold_up_the_trigger(connected: EmulatorProcess, limit: str) -> None:
    (insight,) = saved(1)
    trigger = deferred(refresh(insight=insight, deferrable=True), context())
    trigger.deadline, trigger.limit = time.time() + 0.5, limit
    connected.faults(path="*/query/*", delay=60.0, count=-1)
    with took(at_most=30):
        event = run_trigger(trigger)
    connected.clear_faults()
    assert event["items"][0]["state"] == "timeout"
    expected = outcome_errors().task_timeout if limit == "execution_timeout" else PostHogJobTimeout
    with pytest.raises(expected, match="in time"):
        refresh(insight=insight).execute_complete(context(), event)


def test_execution_timeout_is_kept_while_deferred(connected: EmulatorProcess) -> None:
    (insight,) = saved(1)
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    operator = refresh(insight=insight, deferrable=True, execution_timeout=timedelta(seconds=1))
    with took(at_most=30), pytest.raises(outcome_errors().task_timeout):
        finish(operator, context())
    until(lambda: calculations(connected)["running"] == 0)


@pytest.mark.parametrize("count", [1, 4])
def test_execution_timeout_in_a_worker_leaves_nothing_behind(connected: EmulatorProcess, count: int) -> None:
    """Airflow raises it in the main thread by a signal, whatever that does."""
    insights = saved(count)
    connected.settings(query_seconds=60.0)
    error_ = outcome_errors().task_timeout

    def ring(*_: object) -> None:
        raise error_("out of time")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 3)
        with took(at_most=30), pytest.raises(error_, match=r"calculations \(.* did not end within its") as ended:
            refresh(insight=insights, execution_timeout=timedelta(seconds=3)).execute(context())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    until(lambda: calculations(connected)["running"] == 0)
    assert calculations(connected)["begun"] == min(count, 3)
    assert (ended.value.job_id is not None) == (count == 1)


def test_without_cancel_on_kill_it_goes_on(connected: EmulatorProcess) -> None:
    (insight,) = saved(1)
    connected.settings(query_seconds=60.0)
    with pytest.raises(PostHogJobTimeout):
        refresh(insight=insight, timeout=3, cancel_on_kill=False).execute(context())
    assert calculations(connected)["running"] == 1
    tidy(connected)


# Kills and retries.


def test_a_kill_ends_a_task_whose_request_waits(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3 calls on_kill and lets the task go on; this key may not cancel, so no answer comes."""
    (insight,) = saved(1)
    connected.settings(query_seconds=60.0)
    key = connected.create_key(["insight:read"])
    connection = {**json.loads(connected.airflow_connection_json()), "password": key}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    operator = refresh(insight=insight)

    def work(number: int) -> None:
        if number == 0:
            with took(at_most=30), pytest.raises(PostHogError, match="stopped"):
                operator.execute(context())
        else:
            until(lambda: calculations(connected)["running"] == 1)
            operator.on_kill()

    in_threads(work, 2)
    connect(monkeypatch, connected)
    tidy(connected)


def test_what_was_taken_up_is_cancelled_too(connected: EmulatorProcess) -> None:
    """It runs under the name of the try that started it."""
    (insight,) = saved(1)
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    trigger = deferred(refresh(insight=insight, deferrable=True), context())
    trigger.deadline = time.time() + 1
    run_trigger(trigger)
    assert calculations(connected)["running"] == 1
    with pytest.raises(PostHogJobTimeout):
        finish(refresh(insight=insight, deferrable=True, timeout=5), context(try_number=2))
    until(lambda: calculations(connected)["running"] == 0)
    assert len(asked(connected)) == 1


def test_a_killed_deferred_retry_cancels_what_it_took_up(connected: EmulatorProcess) -> None:
    insights = saved(3)
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    trigger = deferred(refresh(insight=insights, deferrable=True), context())
    trigger.deadline = time.time() + 2
    run_trigger(trigger)
    assert calculations(connected)["running"] == 3
    later = deferred(refresh(insight=insights, deferrable=True), context(try_number=2))
    asyncio.run(asyncio.wait_for(later.on_kill(), 10))
    assert calculations(connected)["running"] == 0


@pytest.mark.parametrize("state", ["unreachable", "cut"])
def test_what_the_trigger_lost_sight_of_is_cancelled(connected: EmulatorProcess, state: str) -> None:
    (insight,) = saved(1)
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    trigger = deferred(refresh(insight=insight, deferrable=True), context())
    trigger.deadline = time.time() + 2
    event = run_trigger(trigger)
    assert calculations(connected)["running"] == 1
    event["items"][0].update(state=state, reason="lost")
    with pytest.raises(PostHogJobFailed, match="lost"):
        refresh(insight=insight).execute_complete(context(), event)
    until(lambda: calculations(connected)["running"] == 0)


def test_of_several_with_overrides_all_are_cancelled_if_one_can_not_start(connected: EmulatorProcess) -> None:
    insights = saved(2)
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    # The look before, without ``refresh``, is spared; so is the start of the first.
    connected.faults(method="GET", path=f"*/insights/{insights[1]}/", status=400, count=-1, skip=2)
    overrides = {"filters_override": {"date_from": "-1d"}}
    with pytest.raises(PostHogAPIError):
        refresh(insight=insights, deferrable=True, **overrides).execute(context())
    until(lambda: calculations(connected)["running"] == 0)
    assert calculations(connected)["begun"] == 1


def test_a_second_trigger_of_the_same_try_starts_nothing(connected: EmulatorProcess) -> None:
    """A triggerer that was killed is followed by another with the same trigger."""
    (insight,) = saved(1)
    connected.settings(query_seconds=4.0, async_seconds=0.0)
    trigger = deferred(refresh(insight=insight, deferrable=True), context())
    end, trigger.deadline = trigger.deadline, time.time() + 2
    run_trigger(trigger)
    trigger.deadline = end
    event = run_trigger(trigger)
    assert refresh(insight=insight).execute_complete(context(), event)["rows"] == 1
    assert len(asked(connected)) == 1


# Faults on the way.


def test_polls_that_are_refused_for_long_are_waited_out(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a call waits by itself (max_rate_limit_wait): the calculation has not failed for that."""
    connect(monkeypatch, connected, max_rate_limit_wait=0)
    (insight,) = saved(1)
    connected.settings(query_seconds=0.0, async_seconds=0.0)
    trigger = deferred(refresh(insight=insight, deferrable=True, filters_override={"date_from": "-1d"}), context())
    assert trigger.items[0]["may_start"] is False
    connected.faults(method="GET", path="*/query/*", status=429, count=2)
    assert run_trigger(trigger)["items"][0]["state"] == "calculated"
    assert len(asked(connected)) == 1


def test_a_start_whose_answer_is_lost_is_found(connected: EmulatorProcess) -> None:
    (insight,) = saved(1)
    trigger = deferred(refresh(insight=insight, deferrable=True), context())
    connected.faults(method="GET", path="*/insights/*", cut="after")
    event = run_trigger(trigger)
    assert event["items"][0]["state"] == "calculated"
    assert refresh(insight=insight).execute_complete(context(), event)["rows"] == 1
    assert calculations(connected)["begun"] == 1


@pytest.mark.parametrize("gateway", [html(502), Reply(cut="after")], ids=["502", "cut"])
def test_a_start_that_never_arrived_is_told_as_it_was(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, gateway: Reply
) -> None:
    from airflow_provider_posthog.api import refresh as module
    from airflow_provider_posthog.api.freshness import Target
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    monkeypatch.setattr("airflow_provider_posthog.api.jobs.LOST_WAITS", (0.01, 0.01))  # only the patience, not the code
    missing = error(404, code="not_found")
    scripted.script(missing, gateway, missing, missing)
    outcome = run(module.in_background(Target(7, "name"), time.time() + 60, 0.05, 3), PostHogHook().client)
    assert outcome.state == "cut"
    assert outcome.goes_on
    assert "forgotten" not in outcome.reason
    assert forced(scripted) == 1


@pytest.mark.parametrize("may_start", [True, False])
def test_a_background_calculation_without_room_is_begun_again_by_who_may(
    scripted: ScriptedServer, may_start: bool
) -> None:
    """The trigger does not know the overrides of what the worker has started."""
    from airflow_provider_posthog.api.freshness import Target
    from airflow_provider_posthog.api.refresh import in_background
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    crowded = ok({"query_status": {"error": True, "error_message": "concurrency_limit_exceeded"}}, 400)
    begun = ok(_insight(result=None, query_status={"id": "name", "complete": False}))
    done = ok({"query_status": {"complete": True, "start_time": "2026-01-01T00:00:00Z"}})
    scripted.script(*([crowded, begun] if may_start else [crowded]), crowded, crowded, begun, done)
    target = Target(7, "name", may_start=may_start)
    outcome = run(in_background(target, time.time() + 60, 0.05, 3), PostHogHook().client)
    assert outcome.state == ("calculated" if may_start else "failed")
    assert forced(scripted) == (2 if may_start else 0)


def test_behind_a_cut_that_can_not_be_cancelled_no_second_one_runs(scripted: ScriptedServer) -> None:
    missing, refused = error(404, code="not_found"), error(403, code="permission_denied")
    scripted.script(_known(), _known(), html(504), missing, refused)
    with pytest.raises(PostHogJobFailed, match="cannot be cancelled"):
        refresh(insight=7).execute({})
    assert forced(scripted) == 1


@pytest.mark.parametrize(
    ("answers", "over"),
    [
        ([200], True),
        ([404, 404], True),
        ([404, 200], True),
        ([404, 403], False),
        ([403, 403], False),
        ([403, 200], True),
        ([503, 200], True),
        ([503, 503, 503, 403], False),
    ],
)
def test_what_is_said_to_be_cancelled_is(scripted: ScriptedServer, answers: list[int], over: bool) -> None:
    from airflow_provider_posthog.api.refresh import cancel
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    scripted.script(*(ok({}) if status == 200 else error(status) for status in answers))
    assert run(cancel("name"), PostHogHook().client) is over
    assert len(scripted.requests) == len(answers)


@pytest.mark.parametrize("status", [400, 402, 404, 500, 504, 512, 513])
def test_posthogs_own_errors_are_final(scripted: ScriptedServer, status: int) -> None:
    """Those of ClickHouse are the same for the same query; nothing goes on behind them."""
    scripted.script(_known(), _known(), error(status, "Timeout exceeded"))
    with pytest.raises(PostHogJobFailed, match="Timeout exceeded"):
        refresh(insight=7).execute({})
    assert forced(scripted) == 1
    assert [call.method for call in scripted.requests] == ["GET", "GET", "GET"]


# More lies.


def test_a_calculation_without_a_time_proves_nothing(scripted: ScriptedServer) -> None:
    """After a deferral, when it was started is all there is to compare with."""
    item = {"insight_id": 7, "query_id": "q", "state": "calculated", "reason": "", "seconds": 1.0, "started": 0.0}
    event = {"version": 1, "kind": "refresh", "outcome": "succeeded", "facts": {}, "limit": "timeout", "try_number": 1}
    scripted.script(ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z")))
    with pytest.raises(PostHogJobFailed, match="start_time"):
        refresh(insight=7).execute_complete(context(), {**event, "items": [item]})


@pytest.mark.parametrize(("seconds", "fresh"), [(-60, False), (-5, False), (-1, True), (0, True), (60, True)])
def test_only_as_much_slack_is_given_as_clocks_of_one_house_need(seconds: int, fresh: bool) -> None:
    from airflow_provider_posthog.api.freshness import Target, fault

    since = datetime.now(timezone.utc)
    answer: Any = _insight(last_refresh=(since + timedelta(seconds=seconds)).isoformat())
    assert (fault(answer, Target(7, "name", since=since), calculated_now=True) is None) is fresh


def test_an_earlier_run_of_the_same_name_does_not_count(connected: EmulatorProcess) -> None:
    """A run that was deleted and made again has the old one's names; Airflow's clock may be a minute off."""
    (insight,) = saved(1)
    long_ago, soon = datetime.now(timezone.utc) - timedelta(hours=1), datetime.now(timezone.utc) + timedelta(minutes=5)
    finish(refresh(insight=insight, deferrable=True), context(began=long_ago))
    finish(refresh(insight=insight, deferrable=True), context(try_number=2, began=long_ago))
    assert len(asked(connected)) == 1
    finish(refresh(insight=insight, deferrable=True), context(try_number=2, began=soon))
    assert len(asked(connected)) == 2


@MODES
def test_a_dashboard_that_posthog_would_ignore_is_refused(connected: EmulatorProcess, deferrable: bool) -> None:
    """It would calculate the bare insight, and answer as if nothing was wrong."""
    (insight,) = saved(1)
    with pytest.raises(PostHogSettingsError, match="does not show") as caught:
        finish(refresh(insight=insight, from_dashboard=1, deferrable=deferrable))
    assert caught.value.field == "from_dashboard"
    assert asked(connected) == []


def test_a_tile_that_posthog_can_not_show_is_no_text(scripted: ScriptedServer) -> None:
    tiles = [{"id": 1, "insight": _insight(), "text": None}, {"id": 2, "error": {"type": "X", "message": "y"}}]
    scripted.script(ok({"id": 5, "name": "Board", "tiles": tiles}, Date=_stamp()), ok(_insight()))
    with pytest.raises(PostHogJobFailed, match="tile 2"):
        dashboard_refresh(dashboard=5).execute({})


def test_a_tile_whose_numbers_could_not_be_shown_is_calculated(scripted: ScriptedServer) -> None:
    tile = {"id": 2, "insight": {"id": 7, "short_id": "abcdefgh"}, "error": {"type": "X", "message": "y"}}
    scripted.script(ok({"id": 5, "name": "Board", "tiles": [tile]}, Date=_stamp()), ok(_insight()))
    done = dashboard_refresh(dashboard=5).execute({})
    assert (done["refreshed"], done["hidden_tiles"]) == (1, 0)


def test_the_oldest_number_is_found_whatever_way_times_are_written() -> None:
    from airflow_provider_posthog.operators.insights import oldest

    texts = ["2026-01-01T00:00:00.5Z", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00.1Z"]
    assert oldest([{"last_refresh": text} for text in texts]) == texts[1]
    assert oldest([]) is None


def test_names_in_errors_hold_no_addresses(scripted: ScriptedServer) -> None:
    failed = {"query_status": {"error": True, "error_message": "bob@example.com is unknown"}}
    known = ok(_insight(name="Usage of ann@example.com"), Date=_stamp())
    scripted.script(known, known, ok(_insight(result=None, **failed)))
    with pytest.raises(PostHogJobFailed) as caught:
        refresh(insight=7).execute({})
    assert "@" not in str(caught.value)
    assert "Usage of" in str(caught.value)


def test_a_trigger_of_a_large_dashboard_fits_into_its_row(connected: EmulatorProcess) -> None:
    """MySQL keeps 64 KB of it, which Airflow's encryption makes a third longer."""
    from airflow_provider_posthog.api.freshness import Target
    from airflow_provider_posthog.tasks.identity import Identity

    operator = dashboard_refresh(dashboard=1)
    targets = [
        operator._named(Target(1234567 + number, "", dashboard_id=123456), Identity.of(context(began=datetime.now())))
        for number in range(300)
    ]
    from airflow_provider_posthog.triggers.refresh import item_of, target_of

    items = [item_of(target, may_start=True) for target in targets]
    assert len(json.dumps(items)) < 45_000
    back = target_of(json.loads(json.dumps(items[0])))
    assert (back.names, back.dashboard_id, back.may_start) == (targets[0].names, 123456, True)
    assert back.life_since == int(targets[0].life_since) > 0


def test_threads_are_not_left_waiting(connected: EmulatorProcess) -> None:
    refresh(insight=saved(4)).execute(context())
    until(lambda: not any(thread.name == "posthog" for thread in threading.enumerate()))


@pytest.mark.parametrize("board", [False, True], ids=["insight", "dashboard"])
def test_old_numbers_are_no_first_calculation(scripted: ScriptedServer, board: bool) -> None:
    """There were none before, so only the server's time tells that these are not of now."""
    tile = _insight(result=None, last_refresh=None)
    seen = ok({"id": 5, "name": "Board", "tiles": [{"id": 2, "insight": tile}]} if board else tile, Date=_stamp())
    old = ok(_insight(last_refresh="2026-01-01T00:00:00Z"))
    scripted.script(*([seen] if board else [seen, seen]), old)
    with pytest.raises(PostHogJobFailed, match="before this refresh"):
        (dashboard_refresh(dashboard=5) if board else refresh(insight=7)).execute({})


@pytest.mark.parametrize("outcome", ["timeout", "unreachable", "refused", "failed", "gone"])
def test_an_event_that_says_no_is_believed(scripted: ScriptedServer, outcome: str) -> None:
    item = {"insight_id": 7, "query_id": "q", "state": "calculated", "reason": "", "seconds": 1.0}
    event = {"version": 1, "kind": "refresh", "outcome": outcome, "facts": {}, "limit": "timeout", "try_number": 1}
    scripted.script(ok(_insight()))
    with pytest.raises(PostHogJobFailed, match=outcome):
        refresh(insight=7).execute_complete(context(), {**event, "items": [{**item, "started": time.time()}]})


def test_a_trigger_that_must_not_cancel_does_not(scripted: ScriptedServer) -> None:
    from airflow_provider_posthog.triggers.refresh import PostHogRefreshTrigger

    given: Any = {"items": [{"insight_id": 7, "query_id": "q"}], "in_flight": 1, "facts": {}}
    waiting: Any = {"posthog_conn_id": "posthog_default", "deadline": time.time() + 9, "poll_interval": 1.0}
    asyncio.run(PostHogRefreshTrigger(**given, **waiting).on_kill())
    assert scripted.requests == []
    asyncio.run(PostHogRefreshTrigger(**given, **waiting, cancel_on_kill=True).on_kill())
    assert [call.method for call in scripted.requests] == ["DELETE"]


def test_variables_are_sent_as_posthog_wants_them(scripted: ScriptedServer) -> None:
    scripted.script(_known(), _known(), ok(_insight()))
    refresh(insight=7, variables_override={"v1": {"code_name": "who", "value": "x"}}).execute({})
    asked_for = parse_qs(urlsplit(scripted.requests[-1].path).query)["variables_override"][0]
    assert json.loads(asked_for) == {"v1": {"variableId": "v1", "code_name": "who", "value": "x"}}


def test_a_failure_is_not_hidden_behind_a_timeout(scripted: ScriptedServer) -> None:
    item = {"insight_id": 7, "query_id": "q", "reason": "Unknown table", "seconds": 0.0, "started": 0.0}
    items = [{**item, "state": "timeout"}, {**item, "insight_id": 8, "state": "failed"}]
    event = {"version": 1, "kind": "refresh", "outcome": "succeeded", "facts": {}, "limit": "timeout", "try_number": 1}
    scripted.script(ok(_insight()))
    with pytest.raises(PostHogJobFailed, match="2 of 2"):
        refresh(insight=[7, 8]).execute_complete(context(), {**event, "items": items})


@MODES
def test_tiles_are_calculated_as_the_dashboard_shows_them(connected: EmulatorProcess, deferrable: bool) -> None:
    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.api.call import Call, json_object
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    board = hook.send(Call("create", "POST", "dashboards/", json_object, json={"name": "Nightly"}))["id"]
    numbers = saved(2, dashboards=[board])
    done = finish(dashboard_refresh(dashboard=board, deferrable=deferrable), context())
    assert [each["dashboard_id"] for each in done["insights"]] == [board, board]
    for number, each in zip(numbers, done["insights"], strict=True):
        assert hook.send(insights.retrieve(number, from_dashboard=board))["last_refresh"] == each["last_refresh"]
        assert hook.send(insights.retrieve(number))["last_refresh"] is None


def test_what_the_task_started_is_looked_at_even_after_the_deadline(scripted: ScriptedServer) -> None:
    """It runs, so it has to be cancelled."""
    from airflow_provider_posthog.api.freshness import Target
    from airflow_provider_posthog.api.refresh import in_background
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    scripted.script(ok({"query_status": {"id": "name", "complete": False}}, 202))
    target = Target(7, "name", may_start=False)
    assert run(in_background(target, time.time() - 1, 0.05, 3), PostHogHook().client).goes_on
