"""The cap on queries at once, where clients with different settings, threads and event loops share it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.in_flight import InFlight
from airflow_provider_posthog.api.settings import ClientSettings
from tests.api.cases import QUERY, settings_for
from tests.support.scripted import Reply, ScriptedServer
from tests.support.waiting import wait_for

_projects = itertools.count(2000)


def ask(settings: ClientSettings) -> object:
    with Client(settings) as client:
        return client.send(QUERY)


async def ask_async(settings: ClientSettings) -> object:
    async with AsyncClient(settings) as client:
        return await client.send(QUERY)


@contextlib.contextmanager
def threads(gate: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads that come to an end even where the test fails."""
    with ThreadPoolExecutor(8) as pool:
        try:
            yield pool
        finally:
            gate.set()


def test_a_later_clients_limit_holds(server: ScriptedServer) -> None:
    gate = threading.Event()
    server.script(Reply(body=b"{}", gate=gate))
    project = next(_projects)
    one, three = (settings_for(server, project_id=project, max_in_flight=most) for most in (1, 3))
    with threads(gate) as pool:
        asked = [pool.submit(ask, one)]
        wait_for(lambda: server.busy == 1, what="the first query")
        asked += [pool.submit(ask, one), *(pool.submit(ask, three) for _ in range(3))]
        wait_for(lambda: server.busy == 3, what="three queries at once")
        gate.set()
        assert [one.result(timeout=30) for one in asked] == [{}] * 5
    assert server.busiest == 3


def test_threads_and_event_loops_count_together(server: ScriptedServer) -> None:
    gate = threading.Event()
    server.script(Reply(body=b"{}", gate=gate))
    settings = settings_for(server, project_id=next(_projects), max_in_flight=2)
    with threads(gate) as pool:
        asked = [pool.submit(ask, settings)]
        asked += [pool.submit(lambda: asyncio.run(ask_async(settings))) for _ in range(3)]
        asked.append(pool.submit(ask, settings))
        wait_for(lambda: server.busy == 2, what="two queries at once")
        gate.set()
        assert [one.result(timeout=30) for one in asked] == [{}] * 5
    assert server.busiest == 2


@pytest.mark.parametrize("given", [False, True], ids=["while waiting", "when the slot was just given"])
def test_a_cancelled_waiter_leaves_as_many_slots_as_before(given: bool) -> None:
    slots = InFlight()
    inside = 0

    async def hold() -> None:
        nonlocal inside
        async with slots.slot_async(1):
            inside += 1
            await asyncio.Event().wait()

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def run() -> None:
        with slots.slot(1):
            waiting = asyncio.create_task(hold())
            await asyncio.sleep(0)  # it waits now
            if not given:
                await end(waiting)
        await end(waiting)
        assert inside == 0
        first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
        await asyncio.sleep(0)
        assert inside == 1, "there is one slot"
        await end(first)
        await asyncio.sleep(0)
        await end(second)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_who_waits_first_goes_first() -> None:
    slots = InFlight()
    order: list[int] = []

    async def one(number: int) -> None:
        async with slots.slot_async(1):
            order.append(number)

    async def run() -> None:
        with slots.slot(1):
            tasks = [asyncio.create_task(one(number)) for number in range(5)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(run(), 10))
    assert order == [0, 1, 2, 3, 4]
