"""One task under one fault: tried as Airflow tries it, and all that it said on its way kept."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_provider_posthog.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow_provider_posthog.exceptions import PostHogError
from tests.faults.clock import JumpingClock
from tests.operators.support import Store, context, task_deferred
from tests.sensors.modes import rescheduled

#: What Airflow itself ends tasks with.
_AIRFLOWS = (AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout)
_MOST_TURNS = 500


@dataclass
class Told:
    """What left a task: by its log, its result, its errors, its trigger, its fields and its assets."""

    lines: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def holding(self, secret: str) -> list[str]:
        """Return what holds a text that must not be there, shortened."""
        return [each[:400] for each in (*self.lines, *self.shown) if secret in each]


class KeptStore(Store):
    """Airflow's task state store, in a file: it outlives a process that is killed.

    :param path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        if path.exists():
            self.kept = json.loads(path.read_text(encoding="utf-8"))

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        self.path.write_text(json.dumps(self.kept), encoding="utf-8")

    def delete(self, key: str) -> None:
        super().delete(key)
        self.path.write_text(json.dumps(self.kept), encoding="utf-8")


class Ears(logging.Handler):
    """Keeps what is logged, at every level."""

    def __init__(self, told: Told) -> None:
        super().__init__(logging.DEBUG)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "".join(traceback.format_exception(record.exc_info[1]))
        self._told.lines.append(text)


@dataclass(frozen=True)
class Try:
    """How a try of a task ended.

    :param error: with what; ``None`` for success.
    :param result: what it returned.
    :param waited: how many seconds the clock was moved on meanwhile.
    """

    error: BaseException | None
    result: Any
    waited: float

    @property
    def is_ours(self) -> bool:
        return isinstance(self.error, (PostHogError, *_AIRFLOWS))


class Runner:
    """Runs the tries of one task.

    :param task: the task; each try gets a copy of its own, as each is a process in Airflow.
    :param clock: the clock.
    :param run_id: of the run of the DAG.
    :param first_poke: of :func:`tests.sensors.modes.first_poke`.
    :param store: where Airflow keeps things for the task between two tries, as 3.3 does.
    """

    def __init__(self, task: Any, clock: JumpingClock, run_id: str, first_poke: Any, store: KeptStore) -> None:
        self._task = task
        self._clock = clock
        self._run_id = run_id
        self._first_poke = first_poke
        self._began = datetime.now(timezone.utc) - timedelta(seconds=3)
        self._store = store
        self.told = Told()
        self.tries = 0
        self._show_fields()

    def attempt(self) -> Try:
        """Run the next try to its end."""
        self.tries += 1
        self._store = KeptStore(self._store.path)
        ctx = context(try_number=self.tries, run_id=self._run_id, store=self._store, began=self._began)
        ctx["ti"].get_first_reschedule_date = lambda _: self._first_poke.at
        self._first_poke.at = None
        before, ears, root = self._clock.jumped, Ears(self.told), logging.getLogger()
        level, error, result = root.level, None, None
        root.addHandler(ears)
        root.setLevel(logging.DEBUG)
        try:
            result = self._execute(copy.deepcopy(self._task), ctx)
        except Exception as caught:
            error = caught
            self.told.shown.append("".join(traceback.format_exception(caught)))
            self.told.shown.append(repr(vars(caught)))
        finally:
            root.removeHandler(ears)
            root.setLevel(level)
        self.told.shown.append(json.dumps(result, default=repr))
        self.told.shown.append(json.dumps(ctx["ti"].pushed, default=repr))
        self.told.shown.append(json.dumps(self._store.kept))
        return Try(error, result, self._clock.jumped - before)

    def _execute(self, task: Any, ctx: Mapping[str, Any]) -> Any:
        call: Any = lambda: task.execute(ctx)  # noqa: E731
        for _ in range(_MOST_TURNS):
            try:
                return call()
            except task_deferred() as deferred:
                call = self._after(task, deferred, ctx)
            except rescheduled() as again:
                now = datetime.now(timezone.utc)
                self._first_poke.at = self._first_poke.at or now
                self._clock.jump((again.reschedule_date - now).total_seconds())  # type: ignore[attr-defined]
        raise AssertionError("the task never ends")

    def _after(self, task: Any, deferred: Any, ctx: Mapping[str, Any]) -> Any:
        path, kwargs = deferred.trigger.serialize()
        self.told.shown.append(json.dumps([kwargs, deferred.kwargs], default=repr))
        module, _, name = path.rpartition(".")
        there = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))
        event = json.loads(json.dumps(self._clock.run(_only_event(there))))
        self.told.shown.append(json.dumps(event))
        resumed = {**(deferred.kwargs or {}), "event": event}
        return lambda: task.resume_execution(deferred.method_name, resumed, ctx)

    def _show_fields(self) -> None:
        for name in getattr(self._task, "template_fields", ()):
            self.told.shown.append(f"{name}={getattr(self._task, name, None)!r}")


async def _only_event(trigger: Any) -> Any:
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return events[0]
