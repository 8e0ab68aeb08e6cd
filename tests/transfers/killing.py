"""Tries of a task as processes of their own, which can be killed at any time.

One helper process imports Airflow once and forks a child for each try, so that twenty kills do not cost twenty imports.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

_HELPER = """
import importlib, json, os, sys, traceback
from tests.operators.support import context
orders, answers = sys.stdin, os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what Airflow says goes to the errors
kind = json.loads(orders.readline())
operator = getattr(importlib.import_module(kind["module"]), kind["name"])
for name in kind["warm"]:
    importlib.import_module(name)
print("ready", file=answers, flush=True)
for line in orders:
    order = json.loads(line)
    child = os.fork()
    if not child:
        code = 1
        try:
            found = operator(task_id="task", **order["options"]).execute(context(**order["context"]))
            with open(order["result"], "w") as file:
                json.dump(found, file)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(child, file=answers, flush=True)
    print(os.waitpid(child, 0)[1], file=answers, flush=True)
"""

_WARM = (
    "hooks.posthog",
    "extract.copy_interval",
    "download.file_download",
    "extract.reader",
    "hooks.databases",
    "load.postgres",
    "load.copy_binary",
    "load.duckdb",
)


class Tries:
    """Runs an operator in processes; use it in a ``with``.

    :param operator: the class.
    :param connection: the text of the Airflow connection ``posthog_default``.
    :param folder: for results and for what a failed try says.
    """

    def __init__(self, operator: type, connection: str, folder: Path) -> None:
        self._operator = operator
        self._connection = connection
        self._result = folder / "result.json"
        self._said = folder / "said.txt"

    def __enter__(self) -> Tries:
        environment = {
            **os.environ,
            "AIRFLOW_CONN_POSTHOG_DEFAULT": self._connection,
            "OPENBLAS_NUM_THREADS": "1",  # no threads before the fork
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HELPER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said.open("wb"),
            text=True,
        )
        # What the operator imports in a task, so that the children need not.
        warm = [f"airflow_provider_posthog.{name}" for name in _WARM]
        kind = {"module": self._operator.__module__, "name": self._operator.__name__, "warm": warm}
        self._send(kind)
        assert self._line() == "ready", self._said.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.kill()
        self._process.wait(10)
        self._process.stdout.close()  # type: ignore[union-attr]

    def run(
        self,
        options: Mapping[str, Any],
        *,
        kill_after: float | None = None,
        kill_when: Callable[[], bool] | None = None,
        **context: Any,
    ) -> dict[str, Any] | None:
        """Run a try to its end, or kill it; returns what it returned, or ``None`` if it was killed before that.

        :param options: of the operator, as JSON.
        :param kill_after: seconds.
        :param kill_when: kills it as soon as this is so, in place of seconds.
        :param context: of the task, as JSON.
        """
        self._result.unlink(missing_ok=True)
        self._send({"options": options, "context": context, "result": str(self._result)})
        child = int(self._line())
        if kill_when is not None:
            end = time.monotonic() + 60
            while not kill_when() and time.monotonic() < end:
                time.sleep(0.02)
            kill_after = 0.0
        timer = threading.Timer(60 if kill_after is None else kill_after, self._kill, [child])
        timer.start()
        try:
            status = int(self._line())
        finally:
            timer.cancel()
        if os.WIFSIGNALED(status):
            return None
        assert status == 0, self._said.read_text()[-5000:]
        found: dict[str, Any] = json.loads(self._result.read_text())
        return found

    def kill_often(
        self, options: Mapping[str, Any], took: float, kills: int, check: Callable[[], None]
    ) -> dict[str, Any]:
        """Kill tries of a task at random times, then let one end; returns what that one returned.

        :param options: of the operator, as JSON.
        :param took: how many seconds a whole try takes; becomes less where one turns out to be faster.
        :param kills: how many.
        :param check: is called after each try.
        """
        chance, number, most = random.Random(7), 0, 2 * kills + 30
        while kills:
            number += 1
            assert number < most, "tries are too fast to be killed"
            began = time.monotonic()
            if self.run(options, kill_after=chance.uniform(0.05, 0.9) * took, try_number=number) is None:
                kills -= 1
            else:  # the machine was busy before
                took = min(took, time.monotonic() - began)
            check()
        found = self.run(options, try_number=number + 1)
        assert found is not None
        return found

    @staticmethod
    def _kill(child: int) -> None:
        os.kill(child, 9)  # our own child's child: its number is not given away before the helper has waited for it

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        """Return the next line of ours; Airflow logs to the same place."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not (line.strip().isdigit() or line.strip() == "ready"):
            line = self._process.stdout.readline()
        return line.strip()


_TRIGGERER = """
import asyncio, importlib, json, os, sys
import airflow_provider_posthog.hooks.posthog, airflow_provider_posthog.api.async_clients
import airflow_provider_posthog.triggers.checks, airflow_provider_posthog.triggers.refresh
async def fire(trigger):
    async for event in trigger.run():
        print(event, file=sys.stderr)
print("ready", flush=True)
for line in sys.stdin:
    path, arguments = json.loads(line)
    module, _, name = path.rpartition(".")
    child = os.fork()
    if not child:
        try:
            asyncio.run(fire(getattr(importlib.import_module(module), name)(**arguments)))
        finally:
            os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Triggerers:
    """Runs triggers in processes that are killed; use it in a ``with``. Airflow is imported once."""

    def __enter__(self) -> Triggerers:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TRIGGERER],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.kill()
        self._process.wait(10)
        self._process.stdout.close()  # type: ignore[union-attr]

    def kill_when(self, trigger: Any, condition: Callable[[], bool]) -> None:
        """Run a trigger, as Airflow stores it, and kill its process as soon as something is so.

        :param trigger: the trigger.
        :param condition: what.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(trigger.serialize()) + "\n")
        self._process.stdin.flush()
        child = int(self._line())
        end = time.monotonic() + 60
        try:
            while not condition():
                assert time.monotonic() < end, "it did not come to pass"
                time.sleep(0.02)
        finally:
            os.kill(child, 9)
        assert os.WIFSIGNALED(int(self._line())), "the trigger had ended before it was killed"

    def _line(self) -> str:
        """Return the next line of ours; Airflow logs to the same place."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not (line.strip().isdigit() or line.strip() == "ready"):
            line = self._process.stdout.readline()
        return line.strip()
