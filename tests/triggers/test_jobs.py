"""The trigger, as a triggerer runs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobError
from airflow_provider_posthog.triggers.jobs import JobEvent, PostHogJobTrigger
from tests.operators.support import connect, export_operator, run_trigger
from tests.support.waiting import wait_for


def _trigger(**options: Any) -> PostHogJobTrigger:
    given = {
        "kind": "export",
        "job_id": "1",
        "posthog_conn_id": "posthog_default",
        "deadline": time.time() + options.pop("seconds", 20.0),
        "poll_interval": 0.1,
        "failure_grace": 0.3,
    }
    return PostHogJobTrigger(**{**given, **options})


def _export(posthog: EmulatorProcess, outcome: str = "succeed", **plan: Any) -> None:
    posthog.next_exports(outcome, **plan)
    export_operator(wait_for_completion=False).execute({})


def test_it_survives_being_written_down() -> None:
    path, kwargs = _trigger(
        project_id="7", first_wait=2.0, growth=1.0, silent_fail=True, cancel_on_kill=True, limit="execution_timeout"
    ).serialize()
    assert path == "airflow_provider_posthog.triggers.jobs.PostHogJobTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert PostHogJobTrigger(**kwargs).serialize() == (path, kwargs)
    assert all(type(value) in (str, int, float, bool, type(None)) for value in kwargs.values())


def test_airflows_own_serialization_takes_it() -> None:
    kwargs = _trigger().serialize()[1]
    try:
        from airflow.sdk.serde import deserialize, serialize
    except ImportError:
        from airflow.serialization.serialized_objects import BaseSerialization

        assert BaseSerialization.deserialize(BaseSerialization.serialize(kwargs)) == kwargs
    else:
        assert deserialize(serialize(kwargs)) == kwargs


def test_making_it_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT", raising=False)
    _trigger()


GOOD = {"version": 1, "kind": "export", "job_id": "7", "outcome": "succeeded", "reason": "", "limit": "timeout"}


def test_a_good_event_is_read() -> None:
    told = JobEvent.parse({**GOOD, "outcome": "failed", "reason": "why", "limit": "execution_timeout"}, "export", "7")
    assert (told.job_id, told.ended.outcome, told.ended.reason) == ("7", "failed", "why")
    assert told.limit == "execution_timeout"


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        [],
        "succeeded",
        {"status": "success"},
        {**GOOD, "version": 0},
        {**GOOD, "version": 2},
        {**GOOD, "version": None},
        {**GOOD, "kind": "query"},
        {**GOOD, "kind": None},
        {**GOOD, "job_id": "8"},
        {**GOOD, "job_id": 7},
        {**GOOD, "job_id": ""},
        {**GOOD, "job_id": None},
        {**GOOD, "outcome": "success"},
        {**GOOD, "outcome": "SUCCEEDED"},
        {**GOOD, "outcome": None},
        {**GOOD, "outcome": True},
        {key: value for key, value in GOOD.items() if key != "outcome"},
        {key: value for key, value in GOOD.items() if key != "version"},
    ],
)
def test_an_event_that_is_not_surely_ours_is_an_error(event: Any) -> None:
    with pytest.raises(PostHogJobError):
        JobEvent.parse(event, "export", "7")


@pytest.mark.parametrize("outcome", [["succeeded"], {"a": 1}])
def test_an_outcome_that_is_no_text_is_an_error(outcome: Any) -> None:
    with pytest.raises(PostHogJobError):
        JobEvent.parse({**GOOD, "outcome": outcome}, "export", "7")


@pytest.mark.parametrize(
    "event", [None, {}, {**GOOD, "version": 2}, {**GOOD, "outcome": "done"}, {**GOOD, "kind": "x"}]
)
def test_an_operator_does_not_succeed_by_an_unknown_event(connected: EmulatorProcess, event: Any) -> None:
    with pytest.raises(PostHogJobError):
        export_operator().execute_complete({}, event=event)


@pytest.mark.parametrize(
    ("outcome", "plan", "expected"),
    [
        ("succeed", {}, ("succeeded", "")),
        ("exception", {"exception_text": "Unknown table 'x'"}, ("failed", "Unknown table 'x'")),
        ("exception", {"exception_text": "Odd."}, ("failed", "Odd.")),
        (
            "exception",
            {"exception_text": "Odd, says ann@example.org with phx_abcdefghij"},
            ("failed", "Odd, says <e-mail> with <key>"),
        ),
    ],
)
def test_it_tells_how_an_export_ended(
    connected: EmulatorProcess, outcome: str, plan: dict[str, Any], expected: tuple[str, str]
) -> None:
    _export(connected, outcome, **plan)
    event = run_trigger(_trigger())
    assert (event["outcome"], event["reason"]) == expected
    assert {"version", "kind", "job_id", "outcome", "reason", "limit", "try_number"} == set(event) - {"facts"}
    assert ("facts" in event) == (outcome == "succeed")


def test_an_exception_that_posthog_mends_is_waited_out(connected: EmulatorProcess) -> None:
    connected.settings(retry_seconds=0.5)
    _export(connected, "exception_then_success")
    assert run_trigger(_trigger(failure_grace=10))["outcome"] == "succeeded"


def test_an_unknown_export_is_gone(connected: EmulatorProcess) -> None:
    event = run_trigger(_trigger(job_id="99"))
    assert event["outcome"] == "gone"
    assert "404" in event["reason"]


def test_the_deadline_holds(connected: EmulatorProcess) -> None:
    _export(connected, "slow")
    began = time.monotonic()
    assert run_trigger(_trigger(seconds=0.7, poll_interval=60))["outcome"] == "timeout"
    assert 0.6 < time.monotonic() - began < 5


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": "before"}, {"cut": "after"}, {"status": 408}])
def test_the_budget_of_failures_is_of_those_in_a_row(connected: EmulatorProcess, fault: dict[str, Any]) -> None:
    _export(connected, export_seconds=0.8)
    for skip in (0, 1):  # two, one that works, two
        connected.faults(method="GET", path="*/exports/1/", count=2, skip=skip, **fault)
    assert run_trigger(_trigger(max_poll_failures=3))["outcome"] == "succeeded"
    connected.clear_faults()
    connected.faults(method="GET", path="*/exports/1/", count=3, **fault)
    assert run_trigger(_trigger(max_poll_failures=3))["outcome"] == "unreachable"


def test_a_rate_limit_is_waited_out_and_never_a_failure(connected: EmulatorProcess) -> None:
    _export(connected)
    connected.faults(method="GET", path="*/exports/1/", status=429, headers={"Retry-After": "1"})
    connected.faults(method="GET", path="*/exports/1/", status=429, count=6)
    began = time.monotonic()
    assert run_trigger(_trigger(max_poll_failures=2))["outcome"] == "succeeded"
    assert time.monotonic() - began >= 1.0
    assert [call["status"] for call in connected.calls("/exports/1/")] == [429] * 7 + [200]


def test_a_rate_limit_does_not_outlast_the_deadline(connected: EmulatorProcess) -> None:
    _export(connected, "slow")
    connected.faults(method="GET", path="*/exports/1/", status=429, headers={"Retry-After": "3600"}, count=-1)
    began = time.monotonic()
    assert run_trigger(_trigger(seconds=0.8))["outcome"] == "timeout"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_ends_it(connected: EmulatorProcess, status: int) -> None:
    _export(connected, "slow")
    connected.faults(method="GET", path="*/exports/1/", status=status, count=-1)
    assert run_trigger(_trigger())["outcome"] == "refused"


def test_a_missing_connection_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch, airflow_db: None) -> None:
    with pytest.raises(Exception, match="nowhere_at_all"):
        run_trigger(_trigger(posthog_conn_id="nowhere_at_all"))


def test_a_connection_that_can_not_be_used_is_an_error(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, connected, verify="/nowhere/ca.pem")
    event = run_trigger(_trigger())
    assert event["outcome"] == "refused"
    assert "verify" in event["reason"]


def test_it_notices_the_end_within_an_interval_and_a_second(connected: EmulatorProcess) -> None:
    _export(connected, export_seconds=2.5)
    began = time.monotonic()
    assert run_trigger(_trigger(poll_interval=1.0))["outcome"] == "succeeded"
    assert time.monotonic() - began < 2.5 + 1.0 + 1.0


# silent_fail: what a sensor asks for that wants to see the timeout only


def test_silent_fail_goes_on_until_the_deadline_and_no_longer(connected: EmulatorProcess) -> None:
    event = run_trigger(_trigger(job_id="99", silent_fail=True, seconds=1.0, poll_interval=0.25), seconds=8)
    assert event["outcome"] == "timeout"
    assert "404" in event["reason"]
    assert 2 <= len(connected.calls("/exports/99/")) <= 8


def test_silent_fail_sees_a_later_success(connected: EmulatorProcess) -> None:
    _export(connected, export_seconds=0.5)
    connected.faults(method="GET", path="*/exports/1/", status=404, count=3)
    assert run_trigger(_trigger(silent_fail=True))["outcome"] == "succeeded"


# Ending early.


def _start_query(posthog: EmulatorProcess) -> str:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    posthog.settings(async_seconds=30.0, query_seconds=30.0)
    call = queries.start(queries.hogql("SELECT 1"), refresh="force_async", client_query_id="ours")
    status = PostHogHook().send(call)["query_status"]
    assert status is not None
    return status["id"]


@pytest.mark.parametrize(("cancel", "calls"), [(True, ["DELETE"]), (False, [])])
def test_killing_a_query_cancels_it_if_asked_to(connected: EmulatorProcess, cancel: bool, calls: list[str]) -> None:
    query = _start_query(connected)
    asyncio.run(_trigger(kind="query", job_id=query, cancel_on_kill=cancel).on_kill())
    assert [call["method"] for call in connected.calls(f"/query/{query}/")] == calls
    if cancel:
        assert run_trigger(_trigger(kind="query", job_id=query))["outcome"] == "gone"


def test_killing_an_export_sends_nothing(connected: EmulatorProcess) -> None:
    asyncio.run(_trigger(cancel_on_kill=True).on_kill())
    assert connected.calls() == []


def test_a_cancelled_trigger_closes_its_connections_and_cancels_nothing(connected: EmulatorProcess) -> None:
    _export(connected, "slow")

    async def start_and_cancel() -> list[str]:
        async def run() -> None:
            async for _ in _trigger(poll_interval=0.2).run():
                raise AssertionError("it cannot end")

        task = asyncio.create_task(run())
        await asyncio.to_thread(wait_for, lambda: len(connected.calls("/exports/1/")) >= 2)
        task.cancel("Triggerer is shutting down")
        with pytest.raises(asyncio.CancelledError):
            await task
        loop = asyncio.get_running_loop()
        return [str(each) for each in asyncio.all_tasks(loop) if each is not asyncio.current_task()]

    assert asyncio.run(start_and_cancel()) == []
    before = len(connected.calls())
    time.sleep(0.5)  # two polls' time: nothing must come
    assert len(connected.calls()) == before
    assert {call["method"] for call in connected.calls("/exports/1/")} == {"GET"}


LAG = """
import asyncio, json, sys, time
import airflow.triggers.base, httpx
from airflow_provider_posthog.compat import get_connection_async
from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

async def main():
    await get_connection_async("posthog_default")  # Airflow's own first imports, which a triggerer has behind it
    computed, waited, stop = 0.0, 0.0, False
    async def probe():
        nonlocal computed, waited
        await asyncio.sleep(0.05)
        while not stop:
            before = time.thread_time(), time.perf_counter()
            await asyncio.sleep(0.005)
            computed = max(computed, time.thread_time() - before[0])
            waited = max(waited, time.perf_counter() - before[1])
    task = asyncio.create_task(probe())
    await asyncio.sleep(0.1)
    async def one(job_id):
        trigger = PostHogJobTrigger(kind="export", job_id=job_id, posthog_conn_id="posthog_default",
                                    deadline=time.time() + 20, poll_interval=0.2)
        return [event.payload["outcome"] async for event in trigger.run()]
    ended = await asyncio.gather(*(one(str(n)) for n in range(1, 6)))
    stop = True
    await task
    print(json.dumps({"computed": computed, "waited": waited, "ended": sorted(each[0] for each in ended)}))

asyncio.run(main())
"""


def test_it_never_holds_up_the_other_triggers(connected: EmulatorProcess) -> None:
    """In a fresh process, as in a triggerer that just started; the connection comes from the environment."""
    connected.next_exports("succeed", count=5, export_seconds=0.5)
    for _ in range(5):
        export_operator(wait_for_completion=False).execute({})
    connected.faults(method="GET", path="*/exports/*/", delay=1.0, count=5)  # a slow answer holds up nobody
    done = subprocess.run([sys.executable, "-c", LAG], capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ended"] == ["succeeded"] * 5
    # Not by the clock alone, as the machine may be busy: neither did the loop compute for long, nor wait for an answer.
    assert found["computed"] < 0.15
    assert found["waited"] < 0.9


def test_a_trigger_of_an_export_that_ends_while_it_watches(connected: EmulatorProcess) -> None:
    _export(connected, export_seconds=0.6)
    event = run_trigger(_trigger())
    wait_for(lambda: connected.stats()["exports"]["with_content"] == 1)
    assert event["outcome"] == "succeeded"
