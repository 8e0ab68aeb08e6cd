"""Work that takes several calls, written once for workers and for the triggerer.

A generator yields calls and pauses, and gets each call's value back; :func:`run` executes it with the blocking client
and :func:`run_async` with the asynchronous one. It reads like ordinary code::

    def newest(insight_id: int) -> Steps[str | None]:
        insight = yield insights.retrieve(insight_id)
        return insight.get("last_refresh")

    run(newest(7), client)                          # in a worker
    await run_async(newest(7), async_client)      # in the triggerer

An error of a call is raised at its ``yield``, where it can be caught like any other.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.async_clients import AsyncClient
    from airflow_provider_posthog.api.clients import Client

T = TypeVar("T")

#: Seconds after the deadline in which tasks may still report why they did not end. Airflow 2.11 leaves a few.
_GRACE = 1.0
#: Seconds between two checks of a waiting thread whether it has to stop.
_POLL = 0.5


@dataclass(frozen=True)
class Pause:
    """Wait.

    :param seconds: how long.
    """

    seconds: float


@dataclass(frozen=True)
class Send:
    """Send a call with a retry policy other than the connection's.

    :param call: the call.
    :param policy: how patient to be, such as :data:`~airflow_provider_posthog.api.retry.ONCE`.
    """

    call: Call[Any]
    policy: RetryPolicy


Step = Call[Any] | Send | Pause
#: Yields steps, receives the value of each call, and returns the result.
Steps = Generator[Step, Any, T]


class Stopped(PostHogError):
    """Raised in the work at its next step when it has to stop, so that it can clean up."""


class _DeadlinePassed(Exception):
    """The deadline has passed."""


def run(
    steps: Steps[T], client: Client, *, stop: threading.Event | None = None, policy: RetryPolicy | None = None
) -> T:
    """Execute steps with the blocking client.

    :param steps: the work.
    :param client: the client.
    :param stop: ends the work with :class:`Stopped` before its next step, once it is set.
    :param policy: how patient to be with each call that does not say so itself; the connection's by default.
    :returns: what the work returns.
    :raises PostHogError: what a call raised and the work did not catch.
    """
    result: object = None
    try:
        while True:
            step = _next(steps, result)
            try:
                if stop is not None and stop.is_set():
                    raise Stopped("stopped")
                result = _do(step, client, stop, policy)
            except PostHogError as error:
                result = error
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def run_async(steps: Steps[T], client: AsyncClient, *, policy: RetryPolicy | None = None) -> T:
    """Execute steps with the asynchronous client.

    :param steps: the work.
    :param client: the client.
    :param policy: how patient to be with each call that does not say so itself; the connection's by default.
    :returns: what the work returns.
    :raises PostHogError: what a call raised and the work did not catch.
    """
    result: object = None
    try:
        while True:
            step = _next(steps, result)
            try:
                result = await _do_async(step, client, policy)
            except PostHogError as error:
                result = error
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def run_all(
    tasks: Iterable[Steps[T]],
    make_client: Callable[[], Client],
    *,
    max_workers: int,
    stop: threading.Event | None = None,
    deadline: float | None = None,
    on_timeout: T | None = None,
) -> list[T]:
    """Run several tasks in parallel, each on a client of its own, and return their results in the tasks' order.

    :param tasks: the tasks. They return their failures: the first error that one raises ends them all.
    :param make_client: makes a client for a thread.
    :param max_workers: how many run at once, from 1.
    :param stop: ends the running tasks once it is set; a task that waits for an answer is left behind.
    :param deadline: when to give up a task that waits for an answer, in seconds since 1970 (and a moment later).
    :param on_timeout: the result of a task that had not ended by then.
    :raises Stopped: if ``stop`` was set by another.
    :raises PostHogError: the first error that a task raised, after the others were stopped.
    """
    stop = stop or threading.Event()
    tasks = list(tasks)
    results: dict[int, T] = {}
    pool = _WorkerPool(tasks, make_client, stop)
    pool.start(min(max_workers, len(tasks)))
    try:
        while len(results) < len(tasks):
            number, result = pool.wait(deadline)
            if isinstance(result, BaseException):
                raise result
            results[number] = result
    except _DeadlinePassed:
        stop.set()
    except BaseException:  # a kill is a BaseException of Airflow's; the threads must not go on behind it
        stop.set()
        raise
    return [results.get(number, cast(T, on_timeout)) for number in range(len(tasks))]


class _WorkerPool(Generic[T]):
    """Threads that run tasks, each on a client of its own, and put the results into :attr:`done`."""

    def __init__(self, tasks: Sequence[Steps[T]], make_client: Callable[[], Client], stop: threading.Event) -> None:
        self.done: queue.Queue[tuple[int, T | BaseException]] = queue.Queue()
        self._pending = iter(enumerate(tasks))
        self._make_client = make_client
        self._stop = stop
        self._lock = threading.Lock()

    def start(self, count: int) -> None:
        """Start so many threads."""
        # Daemons: a thread that waits for an answer for minutes must not block a process that is being killed.
        for _ in range(count):
            threading.Thread(target=self._work, name="posthog", daemon=True).start()

    def wait(self, deadline: float | None) -> tuple[int, T | BaseException]:
        """Wait for the next result.

        :param deadline: as for :func:`run_all`.
        :raises Stopped: if the work was stopped meanwhile.
        :raises _DeadlinePassed: if it does not come in time.
        """
        while True:
            left = _POLL if deadline is None else deadline + _GRACE - time.time()
            try:
                return self.done.get(timeout=max(0.0, min(left, _POLL)))
            except queue.Empty:
                if self._stop.is_set():
                    raise Stopped("stopped") from None
                if left <= 0:
                    raise _DeadlinePassed from None

    def _work(self) -> None:
        try:
            with self._make_client() as client:
                while True:
                    with self._lock:
                        number, steps = next(self._pending, (-1, None))
                    if steps is None:
                        return
                    self.done.put((number, run(steps, client, stop=self._stop)))
        except BaseException as error:
            self.done.put((-1, error))  # for the thread that waits to raise


async def run_all_async(
    tasks: Sequence[Steps[T]],
    client: AsyncClient,
    *,
    max_workers: int,
    deadline: float | None = None,
    on_timeout: T | None = None,
) -> list[T]:
    """Run several tasks concurrently on one client, and return their results in the tasks' order.

    :param tasks: the tasks. They return their failures: the first error that one raises ends them all.
    :param client: the client.
    :param max_workers: how many run at once, from 1.
    :param deadline: when to give up, in seconds since 1970, as for :func:`run_all`.
    :param on_timeout: the result of a task that had not ended by then.
    """
    slots = asyncio.Semaphore(max_workers)

    async def work(steps: Steps[T]) -> T:
        async with slots:
            return await run_async(steps, client)

    futures = [asyncio.ensure_future(work(steps)) for steps in tasks]
    left = None if deadline is None else max(0.0, deadline + _GRACE - time.time())
    try:
        if futures:
            await asyncio.wait(futures, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
        return [task.result() if task.done() else cast(T, on_timeout) for task in futures]
    finally:
        for task in futures:
            task.cancel()
        await asyncio.gather(*futures, return_exceptions=True)  # the caller closes the client next


def _next(steps: Steps[Any], result: object) -> Step:
    """Send the last step's result into the work (or raise its error there), and return the next step."""
    return steps.throw(result) if isinstance(result, PostHogError) else steps.send(result)


def _do(step: Step, client: Client, stop: threading.Event | None, policy: RetryPolicy | None) -> object:
    if isinstance(step, Pause):
        if stop is None:
            time.sleep(step.seconds)
        elif stop.wait(step.seconds):
            raise Stopped("stopped")
        return None
    return client.send(step.call, policy=step.policy) if isinstance(step, Send) else client.send(step, policy=policy)


async def _do_async(step: Step, client: AsyncClient, policy: RetryPolicy | None) -> object:
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds)
        return None
    if isinstance(step, Send):
        return await client.send(step.call, policy=step.policy)
    return await client.send(step, policy=policy)
