"""A clock that jumps where a task would wait: an hour of refusals takes a moment."""

from __future__ import annotations

import asyncio
import importlib
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

# They take the clock when they are imported, and would keep that of one test for all others.
for _name in ("capture.sender", "download.http", "extract.progress"):
    importlib.import_module(f"airflow_provider_posthog.{_name}")
#: Seconds that a loop beside the task jumps at once: the task's own thread has to keep up.
_STRIDE = 5.0
#: Seconds that a jump really takes, and that it may take while something is late.
_MOMENT, _LONG_MOMENT = 0.001, 0.25
#: What waits in naps, so that a kill need not wait for it.
_NAPPING = ("extract.query_client", "tasks.into_posthog", "transfers.posthog_to_sql")
_time, _monotonic, _sleep = time.time, time.monotonic, time.sleep
#: Seconds that the clock has to be ahead of the server's before the server hears of it.
_TELL = 1.0


class JumpingClock:
    """Stands for ``time.time``, ``time.monotonic`` and ``time.sleep``, and makes event loops that do not wait either.

    :param tell: called with the seconds that passed at once, so that a server keeps up.
    """

    #: Seconds that all of these have jumped over: to a process, time never goes back (what paces polls remembers it).
    ever = 0.0

    def __init__(self, tell: Callable[[float], object]) -> None:
        self.jumped = 0.0
        #: Seconds that the next jumps really take together, where a request of before has to arrive meanwhile.
        self.late = 0.0
        self._wrong = 0.0
        self._tell = tell
        self._told = 0.0
        self._alarms: list[tuple[float, Callable[[], object]]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: _time() + self.jumped + self._wrong)
        monkeypatch.setattr(time, "monotonic", lambda: _monotonic() + JumpingClock.ever)
        monkeypatch.setattr(time, "sleep", self.jump)
        monkeypatch.setattr(asyncio, "new_event_loop", lambda: _Loop(self, _STRIDE))  # of tasks that share polls
        for module in _NAPPING:  # a nap of a quarter of a second takes a jump, and an hour has many
            monkeypatch.setattr(f"airflow_provider_posthog.{module}._NAP", 10.0)

    def jump(self, seconds: float) -> None:
        """Let time pass, and the processor do something else for a moment."""
        self.jumped += max(0.0, seconds)
        JumpingClock.ever += max(0.0, seconds)
        moment = min(max(seconds, _MOMENT), _LONG_MOMENT if self.late > 0 else _MOMENT)
        self.late -= moment
        _sleep(moment)
        if self.jumped - self._told >= _TELL:
            step, self._told = self.jumped - self._told, self.jumped
            self._tell(step)
        for alarm in [each for each in self._alarms if each[0] <= self.jumped]:
            self._alarms.remove(alarm)
            alarm[1]()

    def skew(self, seconds: float) -> None:
        """Put the task's clock wrong; the server's goes on as it did, and so does what measures lengths of time."""
        self._wrong += seconds

    def at(self, jumped: float, what: Callable[[], object]) -> None:
        """Do something once so many seconds were jumped over in all."""
        self._alarms.append((jumped, what))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What ``asyncio.run`` does, without its waits."""
        loop = _Loop(self)
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(work)
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            loop.close()


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    loop: _Loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        # Somebody waits for a socket (the loop's own one aside) or for a thread: that takes real time.
        if len(self.get_map()) > 1 or self.loop.threads:
            return super().select(min(timeout, 0.05))
        self.loop.clock.jump(min(timeout, self.loop.stride))
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: JumpingClock, stride: float = math.inf) -> None:
        self.clock = clock
        self.stride = stride
        self.threads = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self.threads -= 1
