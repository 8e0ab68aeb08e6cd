"""Work of several calls: the same in a worker, in the triggerer, and side by side."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.retry import ONCE, RetryPolicy
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.steps import Pause, Send, Steps, Stopped, run, run_all, run_all_async, run_async
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogServerError
from tests.support.scripted import Reply, ScriptedServer, error, ok
from tests.support.waiting import wait_for

QUICK = RetryPolicy(max_attempts=3, base=0.01, cap=0.02)
Runner = Callable[..., Any]


def _settings(server: ScriptedServer) -> ClientSettings:
    return ClientSettings(base_url=server.url, api_key="phx_key", project_id=1)


def _run(steps: Steps[Any], settings: ClientSettings, **options: Any) -> Any:
    with Client(settings) as client:
        return run(steps, client, **options)


def _run_async(steps: Steps[Any], settings: ClientSettings, **options: Any) -> Any:
    async def go() -> Any:
        async with AsyncClient(settings) as client:
            return await run_async(steps, client, **options)

    return asyncio.run(go())


@pytest.fixture(params=[_run, _run_async], ids=["worker", "triggerer"])
def runner(request: pytest.FixtureRequest) -> Runner:
    found: Runner = request.param
    return found


def _asks(*numbers: int) -> Steps[list[int]]:
    seen = []
    for each in numbers:
        answer = yield exports.retrieve(each)
        seen.append(answer["id"])
    return seen


def _paths(server: ScriptedServer) -> list[str]:
    return [request.path.rstrip("/").rpartition("/")[-1] for request in server.requests]


# One work.


def test_each_call_brings_its_value_back(runner: Runner, server: ScriptedServer) -> None:
    server.script(ok({"id": 10}), ok({"id": 20}))
    assert runner(_asks(1, 2), _settings(server)) == [10, 20]
    assert _paths(server) == ["1", "2"]


def test_work_without_a_step(runner: Runner, server: ScriptedServer) -> None:
    assert runner(_asks(), _settings(server)) == []
    assert server.requests == []


def test_steps_within_steps(runner: Runner, server: ScriptedServer) -> None:
    def outer() -> Steps[list[int]]:
        first = yield from _asks(1)
        return first + (yield from _asks(2))

    server.script(ok({"id": 10}), ok({"id": 20}))
    assert runner(outer(), _settings(server)) == [10, 20]


def test_an_error_is_raised_where_the_call_stands(runner: Runner, server: ScriptedServer) -> None:
    def work() -> Steps[str]:
        try:
            yield exports.retrieve(1)
        except PostHogNotFoundError:
            answer = yield exports.retrieve(2)
            return f"then {answer['id']}"
        return "no error"

    server.script(error(404), ok({"id": 20}))
    assert runner(work(), _settings(server)) == "then 20"


def test_an_error_that_nobody_catches_ends_it(runner: Runner, server: ScriptedServer) -> None:
    tidied = []

    def work() -> Steps[None]:
        try:
            yield exports.retrieve(1)
            yield exports.retrieve(2)
        finally:
            tidied.append(True)

    server.script(error(404))
    with pytest.raises(PostHogNotFoundError):
        runner(work(), _settings(server))
    assert (tidied, _paths(server)) == ([True], ["1"])


def test_a_mistake_in_the_work_is_not_hidden(runner: Runner, server: ScriptedServer) -> None:
    def work() -> Steps[str]:
        answer = yield exports.retrieve(1)
        return str(answer["no such key"])

    server.script(ok({"id": 1}))
    with pytest.raises(KeyError):
        runner(work(), _settings(server))


@pytest.mark.parametrize(
    ("step", "options", "attempts"),
    [
        (exports.retrieve(1), {"policy": QUICK}, 3),
        (exports.retrieve(1), {"policy": ONCE}, 1),
        (Send(exports.retrieve(1), ONCE), {"policy": QUICK}, 1),
        (Send(exports.retrieve(1), QUICK), {"policy": ONCE}, 3),
        (Send(exports.retrieve(1), ONCE), {}, 1),
    ],
)
def test_patience_is_the_step_s_own_or_the_runner_s(
    runner: Runner, server: ScriptedServer, step: Any, options: dict[str, Any], attempts: int
) -> None:
    def work() -> Steps[None]:
        yield step

    server.script(error(503))
    with pytest.raises(PostHogServerError):
        runner(work(), _settings(server), **options)
    assert server.attempts == attempts


def test_a_pause_waits(runner: Runner, server: ScriptedServer) -> None:
    def work() -> Steps[object]:
        value = yield Pause(0.3)
        return value

    began = time.monotonic()
    assert runner(work(), _settings(server)) is None
    assert 0.3 <= time.monotonic() - began < 5


# Stopping.


def test_a_stop_ends_a_pause_and_keeps_the_next_call_from_being_sent(server: ScriptedServer) -> None:
    stop, seen = threading.Event(), []

    def work() -> Steps[None]:
        try:
            yield exports.retrieve(1)
            threading.Timer(0.1, stop.set).start()
            yield Pause(60)
            yield exports.retrieve(2)
        except Stopped:
            seen.append("told")
            raise
        finally:
            seen.append("tidied")

    server.script(ok({"id": 1}))
    began = time.monotonic()
    with pytest.raises(Stopped):
        _run(work(), _settings(server), stop=stop)
    assert time.monotonic() - began < 10
    assert (seen, _paths(server)) == (["told", "tidied"], ["1"])


def test_work_that_was_stopped_before_it_began_sends_nothing(server: ScriptedServer) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        _run(_asks(1, 2), _settings(server), stop=stop)
    assert server.requests == []


def test_work_that_does_not_let_itself_be_told_is_stopped_all_the_same(server: ScriptedServer) -> None:
    stop, refused = threading.Event(), []

    def work() -> Steps[str]:
        for number in range(5):
            try:
                yield exports.retrieve(number + 1)
                stop.set()
            except Stopped:
                refused.append(number)
        return "through"

    server.script(ok({"id": 1}))
    assert _run(work(), _settings(server), stop=stop) == "through"
    assert (refused, len(server.requests)) == ([1, 2, 3, 4], 1)


def test_a_cancelled_trigger_ends_the_work(server: ScriptedServer) -> None:
    tidied = []

    def work() -> Steps[None]:
        try:
            yield Pause(60)
        finally:
            tidied.append(True)

    async def go() -> None:
        async with AsyncClient(_settings(server)) as client:
            await asyncio.wait_for(run_async(work(), client), 0.1)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(go())
    assert tidied == [True]


# Several works.


def _all(works: list[Steps[Any]], settings: ClientSettings, at_once: int) -> list[Any]:
    return run_all(works, lambda: Client(settings), max_workers=at_once)


def _all_async(works: list[Steps[Any]], settings: ClientSettings, at_once: int) -> list[Any]:
    async def go() -> list[Any]:
        async with AsyncClient(settings) as client:
            return await run_all_async(works, client, max_workers=at_once)

    return asyncio.run(go())


@pytest.fixture(params=[_all, _all_async], ids=["worker", "triggerer"])
def all_runner(request: pytest.FixtureRequest) -> Runner:
    found: Runner = request.param
    return found


@pytest.mark.parametrize(("works", "at_once"), [(0, 3), (1, 3), (7, 3), (3, 1)])
def test_results_come_in_the_works_order(all_runner: Runner, server: ScriptedServer, works: int, at_once: int) -> None:
    def work(number: int) -> Steps[int | None]:
        yield Pause(0.02 * (works - number))  # the last one is the first to end
        yield exports.retrieve(number + 1)
        return None if number == 0 else number

    server.script(ok({"id": 1}))
    found = all_runner([work(number) for number in range(works)], _settings(server), at_once)
    assert found == [None if number == 0 else number for number in range(works)]
    assert len(server.requests) == works


def test_no_more_at_once_than_allowed_and_no_fewer(all_runner: Runner, server: ScriptedServer) -> None:
    server.script(Reply(200, {"Content-Type": "application/json"}, b'{"id": 1}', delay=0.15))
    assert all_runner([_asks(1) for _ in range(9)], _settings(server), 3) == [[1]] * 9
    assert server.busiest == 3


def test_the_first_error_ends_the_others(all_runner: Runner, server: ScriptedServer) -> None:
    begun, ended = [], []

    def goes_on(number: int) -> Steps[None]:
        begun.append(number)
        try:
            for _ in range(1000):
                yield Pause(0.05)
        finally:
            ended.append(number)

    def fails() -> Steps[None]:
        yield Pause(0.1)
        yield exports.retrieve(1)

    server.script(error(404))
    began = time.monotonic()
    with pytest.raises(PostHogNotFoundError):
        all_runner([goes_on(1), fails(), goes_on(2), goes_on(3)], _settings(server), 3)
    assert time.monotonic() - began < 10
    wait_for(lambda: {1, 2} <= set(ended) == set(begun))


def test_a_client_that_can_not_be_made_is_an_error(server: ScriptedServer) -> None:
    def broken() -> Client:
        raise PostHogServerError(status=503, method="GET", path="/")

    with pytest.raises(PostHogServerError):
        run_all([_asks(1), _asks(2)], broken, max_workers=2)


def test_each_thread_has_a_client_of_its_own(server: ScriptedServer) -> None:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client(_settings(server)))
        return made[-1]

    server.script(Reply(200, {"Content-Type": "application/json"}, b'{"id": 1}', delay=0.05))
    run_all([_asks(1) for _ in range(6)], make, max_workers=2)
    assert len(made) == 2


def test_a_stop_from_outside_ends_all(server: ScriptedServer) -> None:
    stop = threading.Event()

    def work() -> Steps[None]:
        yield Pause(60)

    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_all([work(), work()], lambda: Client(_settings(server)), max_workers=2, stop=stop)
    assert time.monotonic() - began < 10


def test_a_stop_from_outside_does_not_wait_for_an_answer(server: ScriptedServer) -> None:
    stop = threading.Event()
    server.script(Reply(200, {}, b"{}", delay=30))
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_all([_asks(1)], lambda: Client(_settings(server)), max_workers=1, stop=stop)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("asynchronous", [False, True], ids=["worker", "triggerer"])
def test_at_the_deadline_it_gives_up_what_waits_for_an_answer(server: ScriptedServer, asynchronous: bool) -> None:
    server.script(ok({"id": 1}), Reply(200, {}, b"{}", delay=30))
    works, settings = [_asks(number) for number in range(1, 5)], _settings(server)
    began = time.monotonic()
    options: Any = {"max_workers": 1, "deadline": time.time() + 0.3, "on_timeout": "late"}

    async def go() -> list[Any]:
        async with AsyncClient(settings) as client:
            return await run_all_async(works, client, **options)

    stop = threading.Event()
    found = asyncio.run(go()) if asynchronous else run_all(works, lambda: Client(settings), stop=stop, **options)
    assert 0.3 < time.monotonic() - began < 6
    assert found == [[1], "late", "late", "late"]
    assert len(server.requests) == 2
    assert asynchronous or stop.is_set()  # nobody begins the third


@pytest.mark.parametrize("asynchronous", [False, True], ids=["worker", "triggerer"])
def test_a_deadline_does_not_hide_an_error(server: ScriptedServer, asynchronous: bool) -> None:
    server.script(error(404))
    works, settings = [_asks(1), _asks(2)], _settings(server)
    options: Any = {"max_workers": 2, "deadline": time.time() + 10, "on_timeout": "late"}

    async def go() -> list[Any]:
        async with AsyncClient(settings) as client:
            return await run_all_async(works, client, **options)

    with pytest.raises(PostHogNotFoundError):
        asyncio.run(go()) if asynchronous else run_all(works, lambda: Client(settings), **options)


class Killed(BaseException):
    """As Airflow's own, which is not an Exception either."""


@pytest.fixture
def kill_soon() -> Iterator[None]:
    """A signal's handler raises in the main thread, as when Airflow ends a task."""

    def kill(*_: object) -> None:
        raise Killed

    before = signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_kill_stops_the_threads(kill_soon: None, server: ScriptedServer) -> None:
    ended = []

    def work(number: int) -> Steps[None]:
        try:
            while True:
                yield exports.retrieve(number)
                yield Pause(0.05)
        finally:
            ended.append(number)

    server.script(ok({"id": 1}))
    with pytest.raises(Killed):
        run_all([work(1), work(2)], lambda: Client(_settings(server)), max_workers=2)
    wait_for(lambda: sorted(ended) == [1, 2])
    assert len(server.requests) >= 2


def test_a_kill_tidies_up_behind_one_work(kill_soon: None, server: ScriptedServer) -> None:
    tidied = []

    def work() -> Steps[None]:
        try:
            yield Pause(60)
        finally:
            tidied.append(True)

    with pytest.raises(Killed):
        _run(work(), _settings(server))
    assert tidied == [True]
