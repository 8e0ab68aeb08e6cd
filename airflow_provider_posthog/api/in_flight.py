"""How many queries of a process are on their way to a project at once: PostHog refuses more than three.

One count for all clients of the process, blocking and asynchronous, on whichever thread or event loop.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import asynccontextmanager, contextmanager

from airflow_provider_posthog.api.settings import ClientSettings


class NoSlotError(Exception):
    """All slots stayed taken for as long as the caller could wait."""


class InFlight:
    """The calls that are on their way to one project.

    Each caller passes its own limit, so that a changed connection takes effect at once, and not only after a restart of
    the triggerer. Callers go in the order in which they came, among those whose limit allows it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._waiting: deque[tuple[int, Future[None]]] = deque()

    @contextmanager
    def slot(self, limit: int, seconds: float = math.inf) -> Iterator[None]:
        """Hold a slot; wait for it as long as it takes.

        :param limit: how many slots there are for this caller, from 1.
        :param seconds: how long to wait at the most.
        :raises NoSlotError: if none became free by then.
        """
        slot = self._enter(limit)
        try:
            try:
                slot.result(None if seconds == math.inf else max(0.0, seconds))
            except FutureTimeoutError:
                raise NoSlotError from None
            yield
        finally:
            self._leave(slot)

    @asynccontextmanager
    async def slot_async(self, limit: int) -> AsyncIterator[None]:
        """Hold a slot as :meth:`slot` does, without blocking the event loop.

        :param limit: how many slots there are for this caller, from 1.
        """
        slot = self._enter(limit)
        try:
            if not slot.done():
                await asyncio.wrap_future(slot)
            yield
        finally:
            self._leave(slot)

    def _enter(self, limit: int) -> Future[None]:
        slot: Future[None] = Future()
        with self._lock:
            # All waiting callers have reached their limits, so that nobody is overtaken here.
            if self._busy < limit:
                self._busy += 1
                slot.set_result(None)
            else:
                self._waiting.append((limit, slot))
        return slot

    def _leave(self, slot: Future[None]) -> None:
        with self._lock:
            if slot.cancel():  # the slot was never granted
                self._waiting = deque(item for item in self._waiting if item[1] is not slot)
                return
            self._busy -= 1
            following = self._following()
        if following is not None:
            following.set_result(None)

    def _following(self) -> Future[None] | None:
        """Return the waiting slot to grant next, if any may go."""
        for item in list(self._waiting):
            limit, slot = item
            if self._busy < limit:
                self._waiting.remove(item)
                if slot.set_running_or_notify_cancel():  # from now on it cannot be cancelled
                    self._busy += 1
                    return slot
        return None


_in_flight: dict[tuple[str, int | None], InFlight] = {}


def in_flight_to(settings: ClientSettings) -> InFlight:
    """Return the count that all clients of this process share for a project.

    :param settings: where the project is.
    """
    return _in_flight.setdefault((settings.base_url, settings.project_id), InFlight())


# A forked process has none of its parent's calls on their way.
os.register_at_fork(after_in_child=_in_flight.clear)
