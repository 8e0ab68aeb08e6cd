"""The trigger of checks, as a triggerer runs it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_provider_posthog.api import insights
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.within import within
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobError, PostHogTransportError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger, check_event
from airflow_provider_posthog.triggers.shared_checks import CheckResult, Question
from tests.operators.support import run_trigger
from tests.support.checks import says, scripted_check, use
from tests.support.scripted import Reply, ScriptedServer, error
from tests.support.waiting import wait_for

__all__ = ["scripted_check"]


def _trigger(**options: Any) -> PostHogCheckTrigger:
    given = {
        "check": "scripted",
        "arguments": {"number": 5},
        "posthog_conn_id": "posthog_default",
        "deadline": time.time() + options.pop("seconds", 20.0),
        "poll_interval": 0.1,
        "first_wait": 0.1,
        "failure_grace": 0.3,
    }
    return PostHogCheckTrigger(**{**given, **options})


def test_it_survives_being_written_down() -> None:
    path, kwargs = _trigger(project_id="7", looked=True, silent_fail=True, limit="execution_timeout").serialize()
    assert path == "airflow_provider_posthog.triggers.checks.PostHogCheckTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert PostHogCheckTrigger(**kwargs).serialize() == (path, kwargs)
    try:
        from airflow.sdk.serde import deserialize, serialize
    except ImportError:
        from airflow.serialization.serialized_objects import BaseSerialization

        assert BaseSerialization.deserialize(BaseSerialization.serialize(kwargs)) == kwargs
    else:
        assert deserialize(serialize(kwargs)) == kwargs


def test_making_it_reads_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT", raising=False)
    _trigger(check="nothing of ours")


GOOD = {"version": 1, "check": "scripted", "outcome": "succeeded", "reason": "", "limit": "timeout", "facts": {"n": 1}}


def test_a_good_event_is_read() -> None:
    told = check_event({**GOOD, "limit": "execution_timeout", "try_number": 3}, "scripted")
    assert (told.ended.outcome, told.facts, told.limit, told.try_number) == (
        "succeeded",
        {"n": 1},
        "execution_timeout",
        3,
    )


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "succeeded",
        {},
        {"status": "success"},
        {**GOOD, "version": 0},
        {**GOOD, "version": 2},
        {**GOOD, "version": True, "check": None},
        {**GOOD, "check": "insight_fresh"},
        {**GOOD, "check": None},
        {**GOOD, "outcome": "success"},
        {**GOOD, "outcome": ["succeeded"]},
        {**GOOD, "outcome": None},
        {**GOOD, "facts": None},
        {**GOOD, "facts": [1]},
        {**GOOD, "facts": {1: 2}},
        {name: value for name, value in GOOD.items() if name != "facts"},
        {name: value for name, value in GOOD.items() if name != "outcome"},
        {**GOOD, "kind": "export", "check": "export"},
    ],
)
def test_an_event_that_is_not_surely_ours_is_an_error(event: Any) -> None:
    with pytest.raises(PostHogJobError):
        check_event(event, "scripted")


def test_it_looks_until_the_check_says_yes_and_hands_on_the_last_facts(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("pending", "no", n=1), says("pending", "no", n=2), says("succeeded", n=3))
    event = run_trigger(_trigger(try_number=2))
    assert event == {
        "version": 1,
        "check": "scripted",
        "facts": {"n": 3},
        "outcome": "succeeded",
        "reason": "",
        "limit": "timeout",
        "try_number": 2,
    }
    assert [request.path for request in scripted_check.requests] == ["/api/projects/1/exports/5/"] * 3


def test_a_failure_that_is_final_ends_it(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("failed", "never more", n=1), says("succeeded"))
    event = run_trigger(_trigger())
    assert (event["outcome"], event["reason"], event["facts"]) == ("failed", "never more", {"n": 1})


def test_a_failure_that_may_pass_has_to_stand(scripted_check: ScriptedServer) -> None:
    passing = says("failed", "a hiccup", final=False)
    scripted_check.script(passing, passing, says("succeeded"))
    assert run_trigger(_trigger(failure_grace=10))["outcome"] == "succeeded"
    scripted_check.script(passing)
    assert run_trigger(_trigger())["outcome"] == "failed"


def test_the_deadline_holds(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("pending", "not yet"))
    began = time.monotonic()
    event = run_trigger(_trigger(seconds=0.7, poll_interval=60, first_wait=60))
    assert (event["outcome"], event["reason"]) == ("timeout", "not yet")
    assert 0.6 < time.monotonic() - began < 5
    assert len(scripted_check.requests) == 2


def test_a_look_that_hangs_does_not_outlast_the_deadline_for_long(scripted_check: ScriptedServer) -> None:
    scripted_check.script(Reply(200, {}, b"{}", delay=60))
    began = time.monotonic()
    event = run_trigger(_trigger(seconds=0.2, limit="execution_timeout"))
    assert (event["outcome"], event["limit"]) == ("timeout", "execution_timeout")
    assert time.monotonic() - began < 10


def test_after_a_look_of_the_worker_it_waits_first(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("succeeded"))
    began = time.monotonic()
    assert run_trigger(_trigger(looked=True, first_wait=0.4))["outcome"] == "succeeded"
    assert 0.4 <= time.monotonic() - began < 5
    began = time.monotonic()  # but not beyond the deadline
    assert run_trigger(_trigger(looked=True, first_wait=60, seconds=0.2))["outcome"] == "succeeded"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("fault", [error(501), error(599)])
def test_the_budget_of_failures_is_of_those_in_a_row(scripted_check: ScriptedServer, fault: Reply) -> None:
    scripted_check.script(fault, fault, says("pending", "p"), fault, fault, says("succeeded", n=1))
    assert run_trigger(_trigger(max_poll_failures=3))["outcome"] == "succeeded"
    scripted_check.script(says("pending", n=1), fault)
    event = run_trigger(_trigger(max_poll_failures=2))
    assert (event["outcome"], event["facts"]) == ("unreachable", {})


def test_a_rate_limit_is_waited_out_and_never_a_failure(
    scripted_check: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, scripted_check, max_rate_limit_wait=0)  # the triggerer may wait longer than a worker
    scripted_check.script(says("pending"), error(429, Retry_After="0"), says("succeeded"))
    assert run_trigger(_trigger(check="scripted_twice", max_poll_failures=1))["outcome"] == "succeeded"
    asked = [request.path.split("/")[-2] for request in scripted_check.requests]
    assert asked == ["1", "5", "5"], "a look of many calls is not begun again"


def test_a_rate_limit_does_not_outlast_the_deadline(scripted_check: ScriptedServer) -> None:
    scripted_check.script(error(429, Retry_After="3600"))
    began = time.monotonic()
    assert run_trigger(_trigger(seconds=0.6))["outcome"] == "timeout"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("options", "script", "expected"),
    [
        ({}, [error(403)], ("refused", "403")),
        ({}, [error(401)], ("refused", "401")),
        ({}, [error(400)], ("refused", "400")),
        ({}, [error(404)], ("gone", "404")),
        ({"check": "of_next_year"}, [], ("refused", "'of_next_year', which this version")),
        ({"arguments": {"name": "x"}}, [], ("refused", "same version")),
        ({"arguments": {"number": "x"}}, [], ("refused", "not an id")),
    ],
)
def test_what_can_not_come_true_any_more_ends_it(
    scripted_check: ScriptedServer, options: dict[str, Any], script: list[Reply], expected: tuple[str, str]
) -> None:
    scripted_check.script(*script, says("succeeded"))
    event = run_trigger(_trigger(**options))
    assert event["outcome"] == expected[0]
    assert expected[1] in event["reason"]


def test_silent_fail_sees_a_later_success(scripted_check: ScriptedServer) -> None:
    scripted_check.script(error(404), says("failed", "no"), error(403), says("succeeded", n=1))
    event = run_trigger(_trigger(silent_fail=True))
    assert (event["outcome"], event["facts"]) == ("succeeded", {"n": 1})


def test_silent_fail_goes_on_until_the_deadline_and_no_longer(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("failed", "no"))
    event = run_trigger(_trigger(silent_fail=True, seconds=0.6), seconds=8)
    assert (event["outcome"], event["reason"]) == ("timeout", "no")


def test_a_mistake_in_a_check_is_no_success(scripted_check: ScriptedServer) -> None:
    scripted_check.script(Reply(200, {"Content-Type": "application/json"}, b'{"what": "else"}'))
    with pytest.raises(KeyError):
        run_trigger(_trigger())


def test_a_cancelled_trigger_asks_no_more(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("pending", "p"))

    async def start_and_cancel() -> list[str]:
        async def go() -> None:
            async for _ in _trigger().run():
                raise AssertionError("it cannot end")

        task = asyncio.create_task(go())
        await asyncio.to_thread(wait_for, lambda: len(scripted_check.requests) >= 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loop = asyncio.get_running_loop()
        return [str(each) for each in asyncio.all_tasks(loop) if each is not asyncio.current_task()]

    assert asyncio.run(start_and_cancel()) == []
    wait_for(lambda: scripted_check.open_connections == 0)


@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_is_not_forgotten_when_the_work_ends_meanwhile(turns: int) -> None:
    async def race() -> tuple[bool, bool]:
        end = asyncio.get_running_loop().create_future()

        async def work() -> object:
            return await end

        task = asyncio.create_task(within(work(), 10))
        for _ in range(3):
            await asyncio.sleep(0)
        end.set_result(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        is_cancelled = task.cancel()
        await asyncio.wait({task})
        return is_cancelled, task.cancelled()

    asked, done = asyncio.run(race())
    assert asked == done


def test_work_that_takes_too_long_is_ended() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(within(work(), 0.01))
    assert ended == [True]


def test_what_the_work_raises_comes_out() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(within(work(), 10))


# Many that ask the same.


def _all(*triggers: PostHogCheckTrigger) -> list[dict[str, Any]]:
    async def event(trigger: PostHogCheckTrigger) -> dict[str, Any]:
        (fired,) = [event async for event in trigger.run()]
        return dict(fired.payload)

    async def run() -> list[dict[str, Any]]:
        return await asyncio.gather(*(event(trigger) for trigger in triggers))

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_20_that_ask_the_same_cost_one_look_an_interval(scripted_check: ScriptedServer) -> None:
    scripted_check.script(*[says("pending")] * 5, says("succeeded", n=7))
    events = _all(*(_trigger(first_wait=0.2, poll_interval=0.2, growth=1.0) for _ in range(20)))
    assert {(event["outcome"], event["facts"]["n"]) for event in events} == {("succeeded", 7)}
    assert len(scripted_check.requests) == 6


def test_sensors_of_one_insight_share_their_looks_and_each_dashboard_has_its_own(
    connected: EmulatorProcess,
) -> None:
    def fresh(**options: Any) -> PostHogCheckTrigger:
        arguments = {"insight": 1, "fresher_than": "2020-01-01T00:00:00+00:00", "from_dashboard": None, **options}
        return _trigger(check="insight_fresh", arguments=arguments)

    PostHogHook().send(insights.retrieve(1, refresh="force_blocking"))
    before = len(connected.calls("/insights/", "GET"))
    later = "2090-01-01T00:00:00+00:00"
    waiting = [_trigger(check="insight_fresh", arguments=fresh(fresher_than=later).arguments, seconds=0.05)]
    events = _all(*(fresh() for _ in range(10)), *waiting)
    assert [event["outcome"] for event in events] == [*["succeeded"] * 10, "timeout"]
    assert len(connected.calls("/insights/", "GET")) - before <= 1 + 3, "one for ten, and those of another question"


def test_a_failure_counts_for_those_who_wanted_to_look() -> None:
    failed, good = CheckResult(PostHogTransportError("no connection")), CheckResult(Verdict("pending"))
    looks = []

    async def look(found: CheckResult) -> CheckResult:
        looks.append(found)
        return found

    async def run() -> list[CheckResult]:
        question = Question()
        slow = asyncio.ensure_future(question.ask(0.2, 60.0, lambda: look(good)))
        quick = [asyncio.ensure_future(question.ask(0.05, 60.0, lambda: look(failed))) for _ in range(3)]
        return await asyncio.gather(*quick, slow)

    *quick, slow = asyncio.run(run())
    assert (slow, looks.count(good)) == (good, 1)
    assert quick == [failed] * 3


def test_who_is_cancelled_leaves_the_look_to_the_others(scripted_check: ScriptedServer) -> None:
    scripted_check.script(Reply(delay=60), says("succeeded"))

    async def run() -> list[Any]:
        looks = asyncio.ensure_future(_drain(_trigger()))
        while not scripted_check.requests:  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.01)
        others = [asyncio.ensure_future(_drain(_trigger())) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert len(scripted_check.requests) == 1
        looks.cancel()
        return await asyncio.gather(looks, *others, return_exceptions=True)

    first, *others = asyncio.run(asyncio.wait_for(run(), 30))
    assert isinstance(first, asyncio.CancelledError)
    assert others == ["succeeded"] * 3
    assert len(scripted_check.requests) == 2


async def _drain(trigger: PostHogCheckTrigger) -> str:
    (fired,) = [event async for event in trigger.run()]
    return str(fired.payload["outcome"])


def test_a_look_that_hangs_keeps_nobody_from_looking_at_the_deadline() -> None:
    done = CheckResult(Verdict("succeeded"))

    async def hang() -> CheckResult:
        await asyncio.sleep(60)
        return done

    async def look() -> CheckResult:
        return done

    async def run() -> list[CheckResult]:
        question = Question()
        first = asyncio.ensure_future(question.ask(0.0, 60.0, hang))
        await asyncio.sleep(0)
        found = await asyncio.gather(*(question.ask(0.01, 0.1 + each, look) for each in range(3)))
        first.cancel()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [done] * 3, "who is first at its deadline tells the others"
