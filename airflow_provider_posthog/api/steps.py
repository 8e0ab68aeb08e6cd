"""Work that takes several calls, written once for workers and for the triggerer.

A function that yields calls and pauses, and gets each call's value back, says *what* is done; :func:`run` does it with
the blocking client and :func:`run_async` with the asynchronous one. It reads like ordinary code::

    def newest(insight_id: int) -> Steps[str | None]:
        insight = yield insights.retrieve(insight_id)
        return insight.get("last_refresh")

    run(newest(7), client)                          # in a worker
    await run_async(newest(7), async_client)      # in the triggerer

An error of a call is raised at its ``yield``, where it can be caught like any other.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.exceptions import PostHogError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.clients import AsyncClient, Client

T = TypeVar("T")


@dataclass(frozen=True)
class Pause:
    """Wait.

    :param seconds: how long.
    """

    seconds: float


@dataclass(frozen=True)
class Send:
    """Send a call with another patience than the connection's.

    :param call: the call.
    :param policy: how patient to be, such as :data:`~airflow_provider_posthog.api.retry.ONCE`.
    """

    call: Call[Any]
    policy: RetryPolicy


Step = Call[Any] | Send | Pause
#: Yields steps, gets the value of each call, and returns what came of it all.
Steps = Generator[Step, Any, T]


class Stopped(PostHogError):
    """The work was told to stop; raised at its next step, so that it can tidy up behind itself."""


def run(steps: Steps[T], client: Client, *, stop: threading.Event | None = None) -> T:
    """Do the work with the blocking client.

    :param steps: the work.
    :param client: the client.
    :param stop: ends the work with :class:`Stopped` before its next step, once it is set.
    :returns: what the work returns.
    :raises PostHogError: what a call raised and the work did not catch.
    """
    advance: Callable[[], Step] = lambda: next(steps)  # noqa: E731 - replaced in each round
    try:
        while True:
            step = advance()
            try:
                if stop is not None and stop.is_set():
                    raise Stopped("stopped")
                value = _do(step, client, stop)
            except PostHogError as error:
                advance = _throw(steps, error)
            else:
                advance = _resume(steps, value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def run_async(steps: Steps[T], client: AsyncClient) -> T:
    """Do the work with the asynchronous client.

    :param steps: the work.
    :param client: the client.
    :returns: what the work returns.
    :raises PostHogError: what a call raised and the work did not catch.
    """
    advance: Callable[[], Step] = lambda: next(steps)  # noqa: E731 - replaced in each round
    try:
        while True:
            step = advance()
            try:
                value = await _do_async(step, client)
            except PostHogError as error:
                advance = _throw(steps, error)
            else:
                advance = _resume(steps, value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def run_all(
    works: Iterable[Steps[T]],
    make_client: Callable[[], Client],
    *,
    at_once: int,
    stop: threading.Event | None = None,
) -> list[T]:
    """Do several works side by side, each on a client of its own, and return what came of each, in their order.

    :param works: the works; they report their failures as values, as the first error raised ends all of them.
    :param make_client: makes a client for a thread.
    :param at_once: how many at once, from 1.
    :param stop: ends the works that go on, once it is set.
    :raises PostHogError: the first error that a work raised, after the others were told to stop.
    """
    stop = stop or threading.Event()

    def work(steps: Steps[T]) -> T:
        with make_client() as client:
            return run(steps, client, stop=stop)

    with ThreadPoolExecutor(at_once, thread_name_prefix="posthog") as threads:
        futures = [threads.submit(work, steps) for steps in works]
        try:
            return [future.result() for future in futures]
        except BaseException:  # a kill is a BaseException of Airflow's; the threads must not go on behind it
            stop.set()
            for future in futures:
                future.cancel()
            raise


async def run_all_async(works: Sequence[Steps[T]], client: AsyncClient, *, at_once: int) -> list[T]:
    """Do several works side by side on one client, and return what came of each, in their order.

    :param works: the works; they report their failures as values, as the first error raised ends all of them.
    :param client: the client.
    :param at_once: how many at once, from 1.
    """
    places = asyncio.Semaphore(at_once)

    async def work(steps: Steps[T]) -> T:
        async with places:
            return await run_async(steps, client)

    tasks = [asyncio.ensure_future(work(steps)) for steps in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _resume(steps: Steps[Any], value: object) -> Callable[[], Step]:
    return lambda: steps.send(value)


def _throw(steps: Steps[Any], error: PostHogError) -> Callable[[], Step]:
    return lambda: steps.throw(error)


def _do(step: Step, client: Client, stop: threading.Event | None) -> object:
    if isinstance(step, Pause):
        if stop is None:
            time.sleep(step.seconds)
        else:
            stop.wait(step.seconds)
        return None
    return client.send(step.call, policy=step.policy) if isinstance(step, Send) else client.send(step)


async def _do_async(step: Step, client: AsyncClient) -> object:
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds)
        return None
    return await (client.send(step.call, policy=step.policy) if isinstance(step, Send) else client.send(step))
