"""One poller for all triggers of an event loop that wait for jobs of one kind on one connection.

When to ask is in :mod:`~airflow_provider_posthog.api.poller`, and how in :mod:`~airflow_provider_posthog.api.polls`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.jobs import JobKind
from airflow_provider_posthog.api.poller import Poll, Rounds, Waiter
from airflow_provider_posthog.api.polls import ListReader, Reading, Seen, poll_job
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run_async
from airflow_provider_posthog.exceptions import PostHogTransportError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.async_clients import AsyncClient

log = logging.getLogger(__name__)

#: Seconds after which a poller goes on that has met a fault of its own.
_AFTER_FAULT = 1.0
#: Seconds between two thoughts of what is due: triggers that start together are answered together.
_BREATH = 0.02
#: Triggers that get their answer in one turn of the event loop.
_AT_ONCE = 50

_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[JobPoller]] = weakref.WeakKeyDictionary()


class JobPoller:
    """Looks for all that wait. It runs while somebody waits, and the last one out stops it.

    :param kind: the kind of job.
    :param connection: which connection it goes by: its id, and the task's project.
    :param client: a client of the connection, which is the poller's own from now on.
    """

    def __init__(self, kind: JobKind, connection: tuple[Any, ...], client: AsyncClient) -> None:
        self.kind = kind
        self.connection = connection
        self.client = client
        self._reader = ListReader(kind, kind.listing, client.settings.base_url) if kind.listing else None
        self._rounds = Rounds(kind.listing.least if kind.listing else None)
        self._answers: dict[Waiter, asyncio.Future[Seen]] = {}
        self._polls: dict[asyncio.Task[None], Poll] = {}
        self._wake = asyncio.Event()
        self._main = self._start()

    def _start(self) -> asyncio.Task[None]:
        # In a context of its own: Airflow would send what is logged here to the log of whichever trigger came first.
        return contextvars.Context().run(asyncio.ensure_future, self._run())

    async def ask(self, waiter: Waiter, seconds: float, left: float) -> Seen:
        """Wait for the next answer.

        :param waiter: who waits; has joined.
        :param seconds: when to poll at the latest, unless the rate limits forbid it.
        :param left: seconds until the deadline. There is a poll then, whatever the limits say.
        """
        if self._main.done():  # somebody has cancelled it
            self._main = self._start()
        now = time.monotonic()
        answer: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._answers[waiter] = answer
        waiter.want(now + seconds, now + max(left, seconds))
        self._wake.set()
        return await answer

    def join(self, waiter: Waiter) -> None:
        """Let somebody in.

        :param waiter: who.
        """
        self._rounds.waiters.add(waiter)

    async def leave(self, waiter: Waiter) -> None:
        """Let somebody out; the last one out stops the poller.

        :param waiter: who.
        """
        self._rounds.waiters.discard(waiter)
        answer = self._answers.pop(waiter, None)
        if answer is not None:
            answer.cancel()
        if self._rounds.waiters:
            self._wake.set()
            return
        others = _pollers.get(asyncio.get_running_loop(), [])
        if self in others:
            others.remove(self)
        tasks = [self._main, *self._polls]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.client.aclose()

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except asyncio.CancelledError as error:
                self._fail(list(self._answers), error)
                raise
            except Exception as error:  # nobody may wait for ever
                self._fail(list(self._answers), error)
                self._rounds.go_on()
                await asyncio.sleep(_AFTER_FAULT)

    async def _round(self) -> None:
        self._wake.clear()
        for poll in self._rounds.begin(time.monotonic()):
            task = asyncio.ensure_future(self._poll(poll))
            self._polls[task] = poll
            task.add_done_callback(self._polls.pop)
        for task, poll in self._polls.items():
            if not poll.listed and not self._rounds.needs(poll):
                task.cancel()  # it may stand in line for a turn that nobody needs any more
        await asyncio.sleep(_BREATH)
        await _set_within(self._wake, self._rounds.next_at() - time.monotonic())

    async def _poll(self, poll: Poll) -> None:
        try:
            await (self._poll_list(poll) if poll.listed else self._poll_alone(poll))
        except Exception as error:
            self._fail(poll.waiters, error)
        self._wake.set()

    async def _poll_alone(self, poll: Poll) -> None:
        policy = poll.policy(time.monotonic())
        seen = await run_async(poll_job(self.kind, poll.waiters[0].job_id, policy), self.client)
        for waiter in poll.waiters:
            self._answer(waiter, seen, poll)

    async def _poll_list(self, poll: Poll) -> None:
        assert self._reader is not None  # noqa: S101 - for mypy
        ids = {waiter.job_id for waiter in poll.waiters}
        pages = 1
        try:
            reading = await run_async(self._reader.read(ids, poll.policy(time.monotonic())), self.client)
            pages = reading.pages
        finally:
            self._rounds.end(poll, pages)
        if not self._reader.usable:
            self._rounds.without_list()
        for number, waiter in enumerate(poll.waiters):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # so many triggers must not hold up the others, all in one turn
            seen = reading.seen.get(waiter.job_id)
            if seen is None and reading.error is not None:
                seen = Seen(reading.error)
            if seen is not None:
                self._answer(waiter, seen, poll)
        missed = self._rounds.missed(poll, reading)
        await asyncio.gather(*(self._poll_alone(alone) for alone in missed))
        if self._rounds.is_list_bad(reading):
            await self._poll_whether_only_the_list_fails(poll, reading)

    async def _poll_whether_only_the_list_fails(self, poll: Poll, reading: Reading) -> None:
        single = Poll(poll.waiters[:1], listed=False, last=poll.last)
        seen = await run_async(
            poll_job(self.kind, single.waiters[0].job_id, single.policy(time.monotonic())), self.client
        )
        if isinstance(seen.verdict, Verdict):
            log.warning("The list of jobs fails, polls at single ones do not: these from now on. %s", reading.error)
            self._rounds.without_list()

    def _answer(self, waiter: Waiter, seen: Seen, poll: Poll) -> None:
        answer = self._answers.get(waiter)
        if answer is None or answer.done() or not self._rounds.answers(waiter, seen, poll, time.monotonic()):
            return
        answer.set_result(seen)

    def _fail(self, waiters: Iterable[Waiter], error: BaseException) -> None:
        """Tell of a fault of ours: as a poll that brought nothing, so that no task ends before it is there for good."""
        answers = {waiter: self._answers.get(waiter) for waiter in waiters}
        waiting = {waiter: answer for waiter, answer in answers.items() if answer is not None and not answer.done()}
        if not waiting:
            return
        log.error("The poll of all that wait for a job (%s) has failed", self.kind.name, exc_info=error)
        why = f"the poll at all jobs of this kind has failed ({type(error).__name__}); see the triggerer's own log"
        for waiter, answer in waiting.items():
            waiter.waits = False
            answer.set_result(Seen(PostHogTransportError(why)))


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for longer."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(max(0.0, min(seconds, 3600.0)), event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


@asynccontextmanager
async def joined(
    kind: JobKind, waiter: Waiter, connection: tuple[Any, ...], client: AsyncClient
) -> AsyncIterator[JobPoller]:
    """Join the poller of this event loop, kind and connection.

    :param kind: the kind of job.
    :param waiter: who joins.
    :param connection: which connection to go by: its id, and the task's project.
    :param client: a client of the connection as it is now; connections may be edited while others wait.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), [])
    for poller in pollers:
        if (poller.kind, poller.connection, poller.client.settings) == (kind, connection, client.settings):
            break
    else:
        poller = JobPoller(kind, connection, client.twin())
        pollers.append(poller)
    poller.join(waiter)
    try:
        yield poller
    finally:
        await poller.leave(waiter)
