"""One poll for all that wait for jobs in the threads of one process, as the triggerer has it for its triggers.

A single wait polls on its own. Once enough waits in a process make a list cheaper, their polls go through the
triggerer's own poller (:mod:`~airflow_provider_posthog.triggers.poller`), on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as LateError
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from airflow_provider_posthog.api.jobs import LAST_POLL, JobKind
from airflow_provider_posthog.api.poller import Waiter
from airflow_provider_posthog.api.polls import Seen
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.within import within

if TYPE_CHECKING:
    from airflow_provider_posthog.triggers.poller import JobPoller

#: Seconds for which a poke waits for those of others: all that come by then are answered by one list.
TOGETHER = 0.2
#: Seconds in which the event loop has to do what takes a moment.
_SOON = 5.0

_Key = tuple[JobKind, ClientSettings]


class SharedWait:
    """The wait of one thread for one job.

    :param kind: the kind of job.
    :param job_id: the job's id.
    :param interval: the longest wait between two polls, in seconds.
    :param settings: where the project is.
    """

    def __init__(self, kind: JobKind, job_id: str, interval: float, settings: ClientSettings) -> None:
        self._kind = kind
        self._settings = settings
        self._waiter = Waiter(job_id, interval)
        self._stack = AsyncExitStack()
        self._poller: JobPoller | None = None

    @property
    def key(self) -> _Key:
        """What those have in common that one poller can answer."""
        return self._kind, self._settings

    @property
    def is_shared(self) -> bool:
        """Whether so many wait for such jobs here that one list is the cheaper way."""
        listing = self._kind.listing
        return listing is not None and _waits.count(self.key) >= listing.least

    def look(self, seconds: float, left: float) -> Seen:
        """Wait for what the poller of all sees next.

        :param seconds: when to look at the latest, unless the rate limits forbid it.
        :param left: seconds until the deadline. There is a look then, whatever the limits say.
        """
        from airflow_provider_posthog.triggers import poller  # noqa: F401 - in this thread, as it takes a while

        limit = max(left, seconds) + LAST_POLL
        going = asyncio.run_coroutine_threadsafe(within(self._ask(seconds, left), limit), _waits.loop())
        try:
            return going.result(limit + _SOON)
        except (LateError, asyncio.TimeoutError):
            return Seen(Verdict("pending", "the last poll did not end in time: PostHog held it open"))
        finally:
            going.cancel()  # a task may be killed, or run out of its time, while it waits here

    async def _ask(self, seconds: float, left: float) -> Seen:
        if self._poller is None:
            self._poller = await self._join()
        return await self._poller.ask(self._waiter, seconds, left)

    async def _join(self) -> JobPoller:
        from airflow_provider_posthog.api.async_clients import AsyncClient
        from airflow_provider_posthog.triggers.poller import joined

        async def read_again() -> ClientSettings:
            read = settings.read_again
            return settings if read is None else await asyncio.to_thread(read, settings)

        settings = self._settings
        client = await self._stack.enter_async_context(AsyncClient(settings, read_again, role="worker"))
        return await self._stack.enter_async_context(joined(self._kind, self._waiter, (), client))

    def leave(self) -> None:
        """Wait no more."""
        if self._poller is not None:
            going = asyncio.run_coroutine_threadsafe(self._stack.aclose(), _waits.loop())
            with suppress(LateError):
                going.result(_SOON)


class _Waits:
    """All that wait in this process, and the event loop on which they look together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Key, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def count(self, key: _Key) -> int:
        """Return how many wait for what one poller can answer."""
        return self._counts.get(key, 0)

    def add(self, key: _Key) -> None:
        """Let somebody in."""
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, key: _Key) -> None:
        """Let somebody out; the last one out stops the event loop."""
        with self._lock:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
            loop, thread = self._loop, self._thread
            if self._counts or loop is None or thread is None:
                return
            self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_SOON)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop; whoever asks for it has been let in."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: it must not hold up a process that is being killed.
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="posthog-polls", daemon=True)
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


_waits = _Waits()
_phase = random.random()  # noqa: S311 - spreads the pokes of processes


@contextmanager
def sharing(kind: JobKind, job_id: str, interval: float, settings: ClientSettings) -> Iterator[SharedWait]:
    """Wait for a job, beside all others of this process.

    :param kind: the kind of job.
    :param job_id: the job's id.
    :param interval: the longest wait between two polls, in seconds.
    :param settings: where the project is.
    """
    wait = SharedWait(kind, job_id, interval, settings)
    _waits.add(wait.key)
    try:
        yield wait
    finally:
        try:
            wait.leave()
        finally:
            _waits.remove(wait.key)


def in_step(interval: float) -> float:
    """Return how many seconds away the next common moment is of all in this process that look after such an interval.

    :param interval: the interval, in seconds.
    """
    return interval - (time.monotonic() + _phase * interval) % interval


def _forget() -> None:
    """Start anew in a forked process, which has neither the others' threads nor their event loop."""
    global _waits
    _waits = _Waits()


os.register_at_fork(after_in_child=_forget)
