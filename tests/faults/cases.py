"""A case: one task, one fault at one of its calls, in one mode; what came of it, and what the books say."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.faults.clock import JumpingClock
from tests.faults.kinds import Fault
from tests.faults.place import EMAIL, PERSON, SALT, FaultyPlace, prepare
from tests.faults.running import KeptStore, Runner, Try
from tests.operators import test_scopes

MODES = ("blocking", "deferrable", "reschedule")
#: Tries of a task, as its ``retries`` would have it, and how long Airflow waits between them.
MOST_TRIES = 4
RETRY_DELAY = 1500.0
HOUR = 3600.0
#: A task that waits for longer is said to wait.
_WAITS = 15.0
_ID = re.compile(r"/(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27}|airflow-[0-9a-f-]+|[0-9a-f]{12,})(?=/)")
#: What reads although it is no GET.
_READS = re.compile(r"/(query|batch_by_\w+|endpoints/[^/]+/run)/?$")

Target = tuple[str, str]


@dataclass(frozen=True)
class Course:
    """What a task did when nothing was wrong.

    :param reads: the calls that read: method and regular expression of the path, each once.
    :param writes: the calls that change something.
    :param changed: the paths of those.
    :param books: what was there afterwards.
    """

    reads: list[Target]
    writes: list[Target]
    changed: list[str]
    books: Mapping[str, Any]

    def target(self, fault: Fault, number: int) -> Target:
        """Choose the call that a fault falls on."""
        if fault.hour:
            return "*", "/api/*"
        calls = self.writes if fault.prefers_write and self.writes else self.reads + self.writes
        return calls[number % len(calls)]


@dataclass(frozen=True)
class Case:
    """What came of a fault.

    :param fault: its name.
    :param call: ``read`` or ``write``: what it fell on.
    :param mode: of the task.
    :param outcome: ``succeeds``, ``waits and succeeds`` or ``fails``.
    :param reason: the text of the first error.
    :param tries: how many tries there were.
    :param problems: what must not be.
    """

    fault: str
    call: str
    mode: str
    outcome: str
    reason: str
    tries: int
    problems: list[str]


def pattern(path: str) -> str:
    """Return a regular expression for a path, whatever its ids."""
    shown = re.sub(r"export-[0-9-]+", "export-[0-9-]+", _ID.sub("/[^/]+", path.replace(".", r"\.")))
    return f"^{shown.rstrip('/')}/?$"


class Weather:
    """Makes faults for one task after the other.

    :param posthog: the emulator.
    :param folder: an empty folder.
    """

    def __init__(self, posthog: EmulatorProcess, folder: Path) -> None:
        self.posthog = posthog
        self._folder = folder
        self._number = 0

    def course(self, make: Callable[[FaultyPlace], Any]) -> Course:
        """Run a task when nothing is wrong."""
        with self.ready(make, "blocking") as (runner, place, _):
            found = runner.attempt()
            assert found.error is None, found.error
            calls = [(call["method"], call["path"]) for call in self.posthog.calls()]
            reads, writes = _split(calls)
            changed = [path for method, path in calls if not _is_read(method, path)]
            return Course(reads, writes, changed, place.books(changed))

    def case(self, make: Callable[[FaultyPlace], Any], course: Course, fault: Fault, mode: str, number: int) -> Case:
        """Run a task while something is wrong, again where that fails, and count."""
        target = course.target(fault, number)
        call = "any" if fault.hour or not fault.wish else "write" if target in course.writes else "read"
        with self.ready(make, mode) as (runner, place, clock):
            self._spoil(fault, target, clock)
            tries = self._tries(runner, fault, clock)
            problems = _problems(tries, runner, place, self.posthog.api_key)
            self.posthog.clear_faults()
            books = place.books(course.changed)
            if books != course.books:
                told = {key: (value, course.books.get(key)) for key, value in books.items()}
                problems.append(f"books {[(key, *pair) for key, pair in told.items() if pair[0] != pair[1]]}")
            return Case(fault.name, call, mode, _outcome(tries[0]), str(tries[0].error or ""), len(tries), problems)

    @contextmanager
    def ready(
        self, make: Callable[[FaultyPlace], Any], mode: str
    ) -> Iterator[tuple[Runner, FaultyPlace, JumpingClock]]:
        """Make a place, a clock and a task."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        place, clock = FaultyPlace(self.posthog, folder), JumpingClock(self.posthog.advance)
        with pytest.MonkeyPatch.context() as patch:
            self._connect({}, patch)
            prepare(place, patch)
            clock.install(patch)
            for options, every in ((test_scopes.WAIT, "poll_interval"), (test_scopes.LOOK, "poke_interval")):
                patch.setitem(options, "timeout", 600)
                patch.setitem(options, every, 5.0 if every == "poll_interval" else 60.0)
                patch.setitem(options, "deferrable", mode == "deferrable")
            with pytest.MonkeyPatch.context() as preparing:
                preparing.setattr(asyncio, "run", clock.run)  # what a task needs is made by triggers, too
                task = make(place)
            if mode == "reschedule" and getattr(task, "mode", None) == "poke":
                task.mode = "reschedule"
            self.posthog.control("DELETE", "calls")
            store = KeptStore(self._folder / f"{self._number}.store")
            yield Runner(task, clock, f"run_{self._number}", first_poke(patch), store), place, clock

    def _spoil(self, fault: Fault, target: Target, clock: JumpingClock) -> None:
        if fault.wish:
            wish = {"method": target[0], "path": target[1], "count": -1 if fault.hour else 1, **fault.wish}
            self.posthog.faults(**wish)
        if fault.hour:
            clock.at(clock.jumped + HOUR, self.posthog.clear_faults)
        clock.skew(fault.skew)
        if "delay" in fault.wish:  # which is real: what comes late comes while the task looks for it
            clock.late = 4.0

    def _tries(self, runner: Runner, fault: Fault, clock: JumpingClock) -> list[Try]:
        tries: list[Try] = []
        while len(tries) < MOST_TRIES and (not tries or tries[-1].error is not None):
            with pytest.MonkeyPatch.context() as patch:
                self._connect({} if tries else fault.connection, patch)
                if tries and fault.hour:
                    clock.jump(RETRY_DELAY)
                tries.append(runner.attempt())
        return tries

    def _connect(self, changes: Mapping[str, Any], patch: pytest.MonkeyPatch) -> None:
        made = json.loads(self.posthog.airflow_connection_json(audit_secret=SALT, rate_limit_share=0))
        extra = {key: value for key, value in changes.items() if key not in ("host", "scheme")}
        made["host"] = changes.get("host", made["host"])
        if changes.get("scheme"):
            made["host"] = made["host"].replace("http://", "https://")
        made["extra"] |= extra
        patch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(made))


def first_poke(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let Airflow 2.11 ask here when a rescheduled sensor was first poked."""
    began = SimpleNamespace(at=None)
    try:
        from airflow.sensors import base
    except ImportError:
        return began
    if hasattr(base, "_orig_start_date"):
        patch.setattr(base, "_orig_start_date", lambda *_, **__: began.at)
    return began


def _is_read(method: str, path: str) -> bool:
    return method == "GET" or _READS.search(path) is not None


def _split(calls: list[tuple[str, str]]) -> tuple[list[Target], list[Target]]:
    found = list(dict.fromkeys((method, pattern(path), _is_read(method, path)) for method, path in calls))
    return [each[:2] for each in found if each[2]], [each[:2] for each in found if not each[2]]


def _outcome(first: Try) -> str:
    if first.error is not None:
        return "fails"
    return "waits and succeeds" if first.waited >= _WAITS else "succeeds"


def _problems(tries: list[Try], runner: Runner, place: FaultyPlace, key: str) -> list[str]:
    found = [f"foreign {type(each.error).__name__}: {each.error}" for each in tries if each.error and not each.is_ours]
    if tries[-1].error is not None:
        found.append(f"never succeeds: {tries[-1].error}")
    for name, secret in (("key", key), ("salt", SALT), ("e-mail", EMAIL), ("distinct id", PERSON)):
        found += [f"{name} leaked: {text}" for text in runner.told.holding(secret)[:2]]
        if name in ("key", "salt"):
            found += [f"{name} in {path}" for path in place.holding(secret)]
    return found
