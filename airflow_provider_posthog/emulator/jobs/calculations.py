"""What is being calculated: how much at once, under which ids, and how it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import Json

T = TypeVar("T")


@dataclass(eq=False)
class Calculation:
    """One run of a query.

    :param ids: by which it can be cancelled.
    :param running: whether it counts as running: not while it waits for its turn.
    """

    ids: frozenset[str]
    running: bool = False
    task: asyncio.Task[Any] | None = field(default=None, repr=False)


class Calculations:
    """The calculations of insights and queries.

    Each is a task of its own: as at PostHog, it goes on when the client that waits for it has gone away.

    :param spawn: starts a task that ends with the server.
    """

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]) -> None:
        self._spawn = spawn
        self._all: set[Calculation] = set()
        self._begun = self._cancelled = self._most = 0

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(calculation.running for calculation in self._all)

    def begin(self, calculation: Calculation) -> None:
        """Count a calculation as running.

        :param calculation: from :meth:`run`.
        """
        calculation.running = True
        self._all.add(calculation)
        self._begun += 1
        self._most = max(self._most, self.running)

    def end(self, calculation: Calculation) -> None:
        """Count a calculation as running no more; it does not matter if it never was.

        :param calculation: from :meth:`run`.
        """
        calculation.running = False

    async def run(self, calculation: Calculation, work: Coroutine[Any, Any, T]) -> T:
        """Do the work of a calculation, and wait for it.

        :param calculation: counted already, or by its work.
        :param work: what to run.
        :raises HogQLError: when it was cancelled.
        """
        task: asyncio.Task[T] = self._spawn(work)
        calculation.task = task
        self._all.add(calculation)

        def forget(ended: asyncio.Task[T]) -> None:
            self.end(calculation)
            self._all.discard(calculation)
            if not ended.cancelled():
                ended.exception()  # the client may have gone away and not ask what came of it

        task.add_done_callback(forget)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise HogQLError("Query was cancelled", code="query_was_cancelled", status=500) from None
            raise

    async def cancel(self, wanted: str) -> bool:
        """Cancel the calculation with an id, and return whether there was one; on return it has stopped.

        :param wanted: the id.
        """
        tasks = [
            calculation.task for calculation in self._all if wanted in calculation.ids and calculation.task is not None
        ]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._cancelled += len(tasks)
        return bool(tasks)

    def as_json(self) -> Json:
        """Return the numbers: running now, most at once, begun and cancelled since the last reset."""
        return {
            "running": self.running,
            "most_at_once": self._most,
            "begun": self._begun,
            "cancelled": self._cancelled,
        }
