"""The poll that the watchers of one project share, on one event loop, and who takes part in it.

Airflow 3.3 drives it (``shared_stream_key``); before, :func:`shared` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import AsyncIterator, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.results.heaviness import is_too_heavy
from airflow_provider_posthog.triggers.event_looks import DAY, Counted, LateLook, Look, Member, Seen, Terms, next_after
from airflow_provider_posthog.triggers.event_questions import ask_clock, ask_counts, late, recent

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to wait before the look of a day is tried again.
_LATE_AGAIN = 3600.0
#: Where the look of a day is too heavy as a whole: days before it that are looked at one after the other, newest first.
_STEPS = (31, 366)
#: Seconds in which watchers that start together may join before the first poll.
_GATHER = 1.0
#: Looks that a watcher may be behind; it asks by itself for what it has missed.
_QUEUED = 100

Looks = Look | LateLook
_Loops = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, T]]
_members: _Loops[list[Member]] = weakref.WeakKeyDictionary()
_streams: _Loops[_Stream] = weakref.WeakKeyDictionary()


@contextmanager
def taking_part(key: Hashable, member: Member) -> Iterator[None]:
    """Have a watcher's events looked for.

    :param key: what its poll is known by.
    :param member: the watcher.
    """
    of_loop = _members.setdefault(asyncio.get_running_loop(), {})
    of_loop.setdefault(key, []).append(member)
    try:
        yield
    finally:
        left = [other for other in of_loop.get(key, []) if other is not member]
        if left:
            of_loop[key] = left
        else:
            of_loop.pop(key, None)


def members_of(key: Hashable) -> list[Member]:
    """Return the watchers that take part in a poll now.

    :param key: what it is known by.
    """
    return list(_members.get(asyncio.get_running_loop(), {}).get(key, []))


async def client_of(terms: Terms) -> AsyncClient:
    """Make the client of a poll. Close it, or use it in an ``async with``.

    :param terms: the terms.
    :raises PostHogError: if the connection cannot be read, or used.
    """
    try:
        return await PostHogHook(terms.posthog_conn_id, terms.project_id).async_client()
    except PostHogError:
        raise
    except Exception as error:
        # Such as Airflow's API server, which is starting again. What others say may hold anything.
        reason = f"the connection {terms.posthog_conn_id!r} cannot be read ({type(error).__name__})"
        raise PostHogError(reason) from None


class Poll:
    """Asks what came in, for all watchers of the same terms together.

    :param terms: the terms.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._overlap = timedelta(seconds=terms.overlap)
        self._after: datetime | None = None
        self._newest: datetime | None = None
        self._clock: tuple[datetime, float] | None = None
        self._late_from = 0.0

    async def looks(self) -> AsyncIterator[Looks]:
        """Poll for ever; what fails is logged and tried again."""
        while True:
            wait = self._terms.poll_interval
            try:
                async with await client_of(self._terms) as client:
                    async for look in self._looks_of(client):
                        yield look
            except PostHogError as error:
                retry_in = error.retry_after if isinstance(error, PostHogAPIError) else None
                wait = max(wait, retry_in or 0.0)
                log.warning("Looking for new events failed, trying again in %.0f s: %s", wait, error)
            await asyncio.sleep(wait)  # and then with the connection as it is then: its key may be another one

    async def _looks_of(self, client: AsyncClient) -> AsyncIterator[Looks]:
        self._clock = None
        while True:
            await self._gather()
            yield await self._look(client)
            for look in await self._late_looks(client):
                yield look
            await asyncio.sleep(self._terms.poll_interval)

    async def _gather(self) -> None:
        """Wait until there is a watcher, and at the first time for those that start together with it."""
        while self._after is None or not members_of(self._terms):
            await asyncio.sleep(min(_GATHER, self._terms.poll_interval))
            if members_of(self._terms):
                return

    async def _now(self, client: AsyncClient) -> datetime:
        """Return what time it is at PostHog, which is asked once; our own clock may be wrong."""
        if self._clock is None:
            before = time.monotonic()
            self._clock = await ask_clock(client), before
        return self._clock[0] + timedelta(seconds=time.monotonic() - self._clock[1])

    async def _look(self, client: AsyncClient) -> Look:
        now = await self._now(client)
        if self._after is None or self._newest is None:
            # Farther back than it would be otherwise, as it is not known yet whether PostHog is behind.
            self._after = self._newest = now - DAY - self._overlap
        begin = next_after(self._after, self._newest, now, self._overlap)
        names = frozenset(member.event for member in members_of(self._terms))
        look = Look(names, now, self._after, begin, self._newest, {})
        statement = recent(self._terms, look, self._terms.scan_from(self._after))
        look = replace(look, counts=await ask_counts(client, statement, names))
        self._after, self._newest = look.next, look.seen
        return look

    async def _late_looks(self, client: AsyncClient) -> list[LateLook]:
        """Look once a day for events that happened longer before they came in than the other looks go back."""
        now = await self._now(client)
        members = [member for member in members_of(self._terms) if member.late is not None]
        due = any(now - self._overlap - member.late >= DAY for member in members if member.late is not None)
        if self._terms.scan_back is None or not due or time.monotonic() < self._late_from:
            return []
        looks: list[LateLook] = []
        until = now - self._overlap
        try:
            for after in sorted({member.late for member in members if member.late is not None and member.late < until}):
                names = frozenset(member.event for member in members if member.late == after)
                looks.append(LateLook(names, after, until, await self._count_late(client, names, (after, until))))
        except PostHogError as error:
            log.warning("Looking for events that came in late failed, trying again in an hour: %s", error)
            self._late_from = time.monotonic() + _LATE_AGAIN
        return looks

    async def _count_late(
        self, client: AsyncClient, names: Collection[str | None], arrived: tuple[datetime, datetime]
    ) -> Mapping[str | None, Counted]:
        last = arrived[1] - timedelta(seconds=self._terms.scan_back or 0.0)
        try:
            return await ask_counts(client, late(self._terms, names, arrived, (None, last)), names)
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
        total: dict[str | None, Counted] = {}
        high = last
        for low in [*(last - timedelta(days=days) for days in _STEPS), None]:
            try:
                counts = await ask_counts(client, late(self._terms, names, arrived, (low, high)), names)
            except PostHogError as error:
                if not is_too_heavy(error):
                    raise
                log.warning("Events that happened before %s and came in today cannot be counted: %s", high, error)
                break
            none = Counted()
            total = {name: total.get(name, none).plus(counts.get(name, none)) for name in {*total, *counts}}
            high = low or high
        return total


async def catch_up(client: AsyncClient, terms: Terms, look: Look, seen: Seen, event: str | None) -> Look:
    """Look for what one watcher has missed, up to a look of the poll.

    :param client: the client.
    :param terms: the poll's terms.
    :param look: the poll's look.
    :param seen: what the watcher had seen before.
    :param event: its events.
    :raises PostHogError: if there is no good answer.
    """
    names = frozenset({event})
    own = replace(look, names=names, after=seen.after, newest=seen.newest, counts={})
    begin = min(own.after, own.next)
    try:
        return replace(own, counts=await ask_counts(client, recent(terms, own, terms.scan_from(begin)), names))
    except PostHogError as error:
        if not is_too_heavy(error) or terms.scan_back is None or begin >= look.after:
            raise
        scan_from = terms.scan_from(look.after)
        log.warning(
            "What came in since %s is too much: events before %s are not looked for: %s", begin, scan_from, error
        )
        return replace(own, counts=await ask_counts(client, recent(terms, own, scan_from), names))


@dataclass(eq=False)
class _Stream:
    """A poll's task, and those who listen to it."""

    task: asyncio.Task[None] | None = None
    queues: list[asyncio.Queue[Any]] = field(default_factory=list)

    async def run(self, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                self._tell(item)
        except Exception as error:  # each listener raises it
            self._tell(_Broken(error))

    def _tell(self, item: object) -> None:
        for queue in self.queues:
            if queue.full():  # it will see that looks are missing
                queue.get_nowait()
            queue.put_nowait(item)


@dataclass(frozen=True)
class _Broken:
    error: Exception


async def shared(terms: Terms) -> AsyncIterator[Looks]:
    """Take part in the poll of all on this event loop who want the same; it ends with the last one.

    :param terms: the terms.
    """
    streams = _streams.setdefault(asyncio.get_running_loop(), {})
    stream = streams.get(terms)
    if stream is None:
        stream = streams[terms] = _Stream()
        stream.task = asyncio.create_task(stream.run(Poll(terms).looks()))
    queue: asyncio.Queue[Any] = asyncio.Queue(_QUEUED)
    stream.queues.append(queue)
    try:
        while True:
            item = await queue.get()
            if isinstance(item, _Broken):
                raise item.error
            yield item
    finally:
        stream.queues.remove(queue)
        if streams.get(terms) is stream and (not stream.queues or stream.task is None or stream.task.done()):
            del streams[terms]
        if not stream.queues and stream.task is not None:
            stream.task.cancel()
