"""One poll for all triggers that wait: how often PostHog is asked, and what each of them learns."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_posthog.api.poller import Poll, Rounds
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger
from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger
from airflow_provider_posthog.triggers.watching import PostHogWatchingTrigger
from tests.operators.support import connect, export_operator, run_trigger
from tests.support.checks import says, scripted_check, use
from tests.support.scripted import Reply, ScriptedServer, cut, error, ok

__all__ = ["scripted_check"]


def _trigger(job_id: int | str, **options: Any) -> PostHogJobTrigger:
    given = {
        "kind": "export",
        "posthog_conn_id": "posthog_default",
        "deadline": time.time() + options.pop("seconds", 20.0),
        "poll_interval": 0.2,
        "first_wait": 0.2,
        "failure_grace": 0.3,
    }
    return PostHogJobTrigger(job_id=str(job_id), **{**given, **options})


async def _event(trigger: PostHogWatchingTrigger) -> dict[str, Any]:
    (event,) = [event async for event in trigger.run()]
    return dict(event.payload)


def _run(*triggers: PostHogWatchingTrigger) -> list[dict[str, Any]]:
    async def all_of_them() -> list[dict[str, Any]]:
        before = asyncio.all_tasks()
        events = await asyncio.gather(*(_event(trigger) for trigger in triggers))
        assert asyncio.all_tasks() == before, "the last one out stops the poller"
        return events

    return asyncio.run(asyncio.wait_for(all_of_them(), 30))


def _create(posthog: EmulatorProcess, count: int, seconds: float) -> list[int]:
    posthog.next_exports("succeed", count=count, export_seconds=seconds)
    return [export_operator(wait_for_completion=False).execute({})["id"] for _ in range(count)]


def _list_of(*rows: dict[str, Any]) -> Reply:
    return ok({"count": len(rows), "next": None, "results": list(rows)})


class Log:
    """What triggers have logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def lines(self, what: str) -> list[str]:
        return [line[line.index(what) :] for line in map(str, self._caplog.messages) if what in line]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(PostHogWatchingTrigger, "log", logging.getLogger("tests.triggers"))  # whatever Airflow's is
    caplog.set_level(logging.INFO)
    return Log(caplog)


def test_40_exports_cost_a_call_a_round_and_each_is_noticed(connected: EmulatorProcess) -> None:
    ids = _create(connected, 40, 1.5)
    before = len(connected.calls("/exports/", "GET"))
    began = time.monotonic()
    events = _run(*(_trigger(each) for each in ids))
    waited = time.monotonic() - began
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert [event["facts"]["id"] for event in events] == ids
    calls = connected.calls("/exports/", "GET")[before:]
    assert len([call for call in calls if call["path"].endswith("/exports/")]) <= waited / 0.18 + 2
    assert len(calls) <= waited / 0.18 + 12, "a poll at each would be 40 a round"


def test_a_few_are_looked_at_one_by_one(connected: EmulatorProcess) -> None:
    ids = _create(connected, 2, 0.5)
    before = len(connected.calls("/exports/", "GET"))
    _run(*(_trigger(each) for each in ids))
    assert not [call for call in connected.calls("/exports/", "GET")[before:] if call["path"].endswith("/exports/")]


def test_each_learns_its_own_end(connected: EmulatorProcess) -> None:
    ids = _create(connected, 3, 0.6)
    connected.next_exports("exception", exception_text="Unknown table 'x'")
    ids.append(export_operator(wait_for_completion=False).execute({})["id"])
    events = _run(*(_trigger(each) for each in [*ids, 999]), _trigger(ids[0]), _trigger(5, kind="nothing"))
    assert [event["outcome"] for event in events] == [*["succeeded"] * 3, "failed", "gone", "succeeded", "refused"]


def test_what_is_beyond_the_list_is_looked_at_alone(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server)
    server.script(_list_of({"id": 9, "has_content": False}), ok({"id": 1, "has_content": True}))
    events = _run(*(_trigger(1) for _ in range(2)), *(_trigger(each, seconds=5.0) for each in (1, 2, 3)))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert {request.path.split("?")[0] for request in server.requests[1:]} == {
        f"/api/projects/1/exports/{each}/" for each in (1, 2, 3)
    }


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_lists_no_exports_is_asked_for_each(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    use(monkeypatch, server)
    server.script(error(status), ok({"has_content": True}))
    events = _run(*(_trigger(each) for each in range(1, 6)))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert len([request for request in server.requests if "/exports/?" in request.path]) == 1


def test_failures_of_the_list_count_for_those_who_wanted_to_look(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    server.script(error(503))
    quick = [_trigger(each, max_poll_failures=3) for each in range(1, 5)]
    slow = _trigger(9, max_poll_failures=3, poll_interval=60, seconds=1.5)
    events = _run(*quick, slow)
    assert [event["outcome"] for event in events] == [*["unreachable"] * 4, "timeout"]
    assert len(server.requests) <= 3 + 2 * 4


def test_a_file_downloads_list_says_only_that_it_goes_on(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    ids = [f"00000000-0000-4000-8000-00000000000{each}" for each in range(4)]
    running = [{"id": each, "status": "Running"} for each in ids]
    ended = [{"id": each, "status": "Completed" if each == ids[0] else "Running"} for each in ids]
    over = {"results": [{"id": each, "status": "Completed"} for each in ids], "next": None}
    every = ok({"id": ids[0], "status": "Completed", "files": ["f"], **over})
    server.script(_list_of(*running), _list_of(*ended), every)
    events = _run(*(_trigger(each, kind="file_download") for each in ids))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert any(request.path.endswith(f"/{ids[0]}/") for request in server.requests)


def test_one_list_tells_all_that_wait_for_a_slot(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server)
    server.script(_list_of(*({"id": each, "status": "Running"} for each in "abc")), _list_of())
    waiting: Any = {"deadline": time.time() + 20, "poll_interval": 0.2, "first_wait": 0.2}
    slot: Any = {"check": "file_download_slot", "arguments": {"refused_at": 3}, "looked": True}
    events = _run(*(PostHogCheckTrigger(**slot, **waiting) for _ in range(4)))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert len(server.requests) <= 4


def test_who_is_cancelled_leaves_and_the_others_go_on(connected: EmulatorProcess) -> None:
    ids = _create(connected, 5, 1.0)

    async def some() -> list[Any]:
        tasks = [asyncio.ensure_future(_event(_trigger(each))) for each in ids]
        await asyncio.sleep(0.4)
        for task in tasks[:3]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, ended = (found := asyncio.run(some()))[:3], found[3:]
    assert all(isinstance(each, asyncio.CancelledError) for each in cancelled)
    assert [each["outcome"] for each in ended] == ["succeeded"] * 2


def test_a_list_that_hangs_does_not_keep_anybody_behind_the_deadline(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, read_timeout=30)
    monkeypatch.setattr(PostHogJobTrigger, "last_poll", 0.5)
    server.script(Reply(delay=60), _list_of(*({"id": each, "has_content": True} for each in range(1, 6))))
    events = _run(*(_trigger(each, seconds=0.5) for each in range(1, 6)))
    assert {event["outcome"] for event in events} == {"succeeded"}, "the poll at the deadline is one of its own"


def test_connections_do_not_share_a_poller(
    server: ScriptedServer, connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = _create(connected, 3, 0.3)
    server.script(_list_of(*({"id": each, "has_content": True} for each in ids)))
    other = {"conn_type": "posthog", "host": server.url, "password": "phx_key", "extra": {"project_id": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(other))
    events = _run(*(_trigger(each) for each in ids), *(_trigger(each, posthog_conn_id="other") for each in ids))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert server.requests
    assert connected.calls("/exports/", "GET")


# Keys that are replaced.


@pytest.mark.parametrize("status", [401, 403])
def test_50_that_wait_go_on_with_the_connections_new_key(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    log: Log,
    status: int,
) -> None:
    use(monkeypatch, server)
    pending = _list_of(*({"id": each, "has_content": False} for each in range(1, 51)))
    done = _list_of(*({"id": each, "has_content": True} for each in range(1, 51)))
    server.script(pending, pending, error(status), done)

    async def rotate() -> list[Any]:
        tasks = [asyncio.ensure_future(_event(_trigger(each))) for each in range(1, 51)]
        while len(server.requests) < 1:  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.01)
        connection = {"conn_type": "posthog", "host": server.url, "password": "phx_new", "extra": {"project_id": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
        return await asyncio.gather(*tasks)

    with caplog.at_level(logging.INFO):
        events = asyncio.run(asyncio.wait_for(rotate(), 30))
    assert {event["outcome"] for event in events} == {"succeeded"}
    keys = [request.headers["authorization"] for request in server.requests]
    assert keys == [*["Bearer phx_key"] * 3, *["Bearer phx_new"] * (len(keys) - 3)]
    assert len(log.lines("going on with that")) == 1
    assert len({line for line in caplog.messages if line.endswith("another one: going on")}) == 50, "in each task's log"
    assert "phx_" not in caplog.text


def test_checks_go_on_with_the_new_key_too(scripted_check: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_check.script(says("pending"), error(401), says("succeeded"))
    trigger = PostHogCheckTrigger(
        check="scripted", arguments={"number": 5}, deadline=time.time() + 20, poll_interval=0.1, first_wait=0.1
    )

    async def rotate() -> dict[str, Any]:
        task = asyncio.ensure_future(_event(trigger))
        while len(scripted_check.requests) < 1:  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.005)
        extra = {"project_id": 1}
        connection = {"conn_type": "posthog", "host": scripted_check.url, "password": "phx_new", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
        return await task

    assert asyncio.run(rotate())["outcome"] == "succeeded"
    assert scripted_check.requests[-1].headers["authorization"] == "Bearer phx_new"


def test_a_key_that_is_refused_and_is_the_connections_own_ends_it(connected: EmulatorProcess) -> None:
    ids = _create(connected, 4, 30)
    connected.faults(method="GET", path="*/exports/*", status=401, count=-1)
    assert {event["outcome"] for event in _run(*(_trigger(each) for each in ids))} == {"refused"}


# What the log says.


def test_the_log_tells_of_changes_and_failures_once_and_of_the_end(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    use(monkeypatch, server)
    pending, bad = ok({"id": 1, "has_content": False}), error(503, "Down for a moment.")
    server.script(pending, pending, bad, bad, bad, pending, pending, ok({"id": 1, "has_content": True}))
    run_trigger(_trigger(1, poll_interval=0.05))
    first, second, last = log.lines("export 1")  # that it was pending at first is no news
    assert "answered 503" in first
    assert second.startswith("export 1: pending (waiting for ")
    assert last.startswith("export 1 is ready, after ")


def test_a_timeout_says_what_posthog_said_last(connected: EmulatorProcess) -> None:
    (one,) = _create(connected, 1, 30)
    assert "pending" in run_trigger(_trigger(one, seconds=0.4))["reason"]


def test_the_log_says_that_the_limits_hold_back_the_polls_and_until_when(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.api.wait_log._LATE", 0.1)
    ids = _create(connected, 3, 30)
    connect(monkeypatch, connected, rate_limit_share=0.01)
    events = _run(*(_trigger(each, seconds=1.5) for each in ids))
    assert {event["outcome"] for event in events} == {"timeout"}
    held = log.lines("PostHog's rate limits hold back the next poll, until about ")
    assert 1 <= len(held) <= 3


# What must not end the wait of all.


def test_50_queries_go_on_with_the_new_key_though_most_stand_in_line_for_a_connection(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    gate = threading.Event()
    refused = dataclasses.replace(error(401), gate=gate)
    server.script(*[refused] * 16, ok({"query_status": {"id": "q", "complete": True, "results": {}}}))

    async def rotate() -> list[Any]:
        tasks = [asyncio.ensure_future(_event(_trigger(f"q{each}", kind="query"))) for each in range(50)]
        while len(server.requests) < 16:  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.01)
        connection = {"conn_type": "posthog", "host": server.url, "password": "phx_new", "extra": {"project_id": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
        gate.set()
        return await asyncio.gather(*tasks)

    events = asyncio.run(asyncio.wait_for(rotate(), 30))
    assert {(event["outcome"], event["reason"]) for event in events} == {("succeeded", "")}


def test_a_fault_of_the_poller_is_told_to_all_and_it_goes_on(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    ids = _create(connected, 4, 1.0)  # none has ended before all of them wait
    begin, faults = Rounds.begin, iter([KeyError("a fault of ours")])

    def faulty(rounds: Rounds, now: float) -> Iterator[Poll]:
        if sum(waiter.waits for waiter in rounds.waiters) == len(ids):
            for fault in faults:
                raise fault
        return begin(rounds, now)

    monkeypatch.setattr(Rounds, "begin", faulty)
    events = _run(*(_trigger(each) for each in ids))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert len(log.lines("failed (KeyError)")) == len(ids), "each task's log tells"


def test_a_poller_that_somebody_has_cancelled_lives_again(connected: EmulatorProcess) -> None:
    ids = _create(connected, 4, 1.0)

    async def cancel() -> list[Any]:
        before = asyncio.all_tasks()
        tasks = [asyncio.ensure_future(_event(_trigger(each))) for each in ids]
        await asyncio.sleep(0.4)
        pollers = [task for task in asyncio.all_tasks() if "JobPoller._run" in repr(task.get_coro())]
        assert len(pollers) == 1
        pollers[0].cancel()
        events = await asyncio.gather(*tasks)
        assert asyncio.all_tasks() == before
        return events

    assert {event["outcome"] for event in asyncio.run(asyncio.wait_for(cancel(), 30))} == {"succeeded"}


@pytest.mark.parametrize(
    "reply", [error(500), error(504), ok({"results": None}), Reply(200, {}, b"<html>"), cut("body")]
)
def test_a_list_that_fails_for_good_is_not_asked_for_where_single_looks_work(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    use(monkeypatch, server)
    done = ok({"id": 1, "has_content": True, "exception": None})
    server.script(reply, reply, reply, done)
    events = _run(*(_trigger(each, max_poll_failures=5) for each in range(1, 5)))
    assert {event["outcome"] for event in events} == {"succeeded"}
    lists = [request for request in server.requests if "/exports/?" in request.path]
    assert len(lists) == 3


def test_triggers_run_on_an_event_loop_after_another_was_given_up(connected: EmulatorProcess) -> None:
    ids = _create(connected, 3, 0.3)
    loop = asyncio.new_event_loop()
    left = [loop.create_task(_event(_trigger(each))) for each in ids]
    loop.run_until_complete(asyncio.sleep(0.1))
    assert {event["outcome"] for event in _run(*(_trigger(each) for each in ids))} == {"succeeded"}
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def test_threads_with_event_loops_of_their_own_do_not_disturb_each_other(connected: EmulatorProcess) -> None:
    ids = _create(connected, 5, 0.5)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(_run, *(_trigger(each) for each in ids)) for _ in range(4)]
        outcomes = {event["outcome"] for run in runs for event in run.result()}
    assert outcomes == {"succeeded"}


@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
@pytest.mark.parametrize("count", [1, 5])
def test_a_429_until_behind_the_deadline_does_not_keep_the_look_at_the_deadline_from_being_made(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, count: int, limit: str
) -> None:
    use(monkeypatch, server, rate_limit_share=1)
    rows = [{"id": each, "has_content": True} for each in range(1, count + 1)]
    done = ok({**rows[0], "count": count, "next": None, "results": rows})  # a list, and each of them
    server.script(error(429, Retry_After="1800"), done)
    deadline = time.time() + 2.0
    events = _run(*(_trigger(each, deadline=deadline, limit=limit) for each in range(1, count + 1)))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert 2 <= len(server.requests) <= 1 + count, "none before the deadline"


def test_a_check_looks_at_its_deadline_whatever_posthog_asked(
    scripted_check: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, scripted_check, rate_limit_share=1)
    scripted_check.script(error(429, Retry_After="1800"), says("succeeded"))
    trigger = PostHogCheckTrigger(
        check="scripted", arguments={"number": 5}, deadline=time.time() + 1, poll_interval=0.1, first_wait=0.1
    )
    assert run_trigger(trigger)["outcome"] == "succeeded"
    assert len(scripted_check.requests) == 2
