"""Runs a command and tells what it cost: it, and all processes that it started."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
#: Environments of the peers, and results; hides itself from git.
ROOM = ROOT / ".peers"
TIMEOUT = 1800.0


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    :param cpu: seconds of CPU, user and system, of the process and its children.
    :param wall: seconds.
    :param memory: the most MiB that one process held.
    :param output: the last line that it printed.
    """

    cpu: float
    wall: float
    memory: float
    output: str = ""


class RunFailed(Exception):
    """A command ended with an error, or too late."""


def run(command: Sequence[str], log: Path, output: Path | None = None) -> Cost:
    """Run a command and measure it.

    This process has to be small: what it holds counts as the command's, until that has begun.

    :param command: the command.
    :param log: gets what it prints.
    :param output: gets its standard output, if that is not the log.
    :raises RunFailed: if it fails or takes longer than :data:`TIMEOUT`.
    """
    # Modules are compiled once where they are installed; else every run of our own sources would pay for it.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") as errors, (output or log).open("ab") as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=errors, start_new_session=True)
        timer = threading.Timer(TIMEOUT, _kill, [process.pid])
        timer.daemon = True
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if process.returncode:
        raise RunFailed(f"{' '.join(command)[:200]} ended with {process.returncode}:\n" + "\n".join(lines[-15:]))
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, lines[-1] if lines else "")


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs one of our modules.

    :param module: its name.
    :param arguments: its arguments.
    """
    return [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)]


def median(costs: Iterable[Cost]) -> Cost:
    """Return the median of each figure; the output is the last one.

    :param costs: at least one.
    """
    runs = list(costs)
    figures = {
        field.name: statistics.median(getattr(one, field.name) for one in runs)
        for field in fields(Cost)
        if field.name != "output"
    }
    return Cost(**figures, output=runs[-1].output)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table in Markdown.

    :param head: its head.
    :param rows: its rows.
    """
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put a text into the page of measurements, in place of what stood there.

    :param name: of the section.
    :param text: Markdown.
    :param page: the page.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = page.read_text(encoding="utf-8") if page.exists() else "# Measurements\n"
    section = f"{begin}\n{text.strip()}\n{end}"
    head, found, rest = before.partition(begin)
    text = head + section + rest.partition(end)[2] if found else f"{before.rstrip()}\n\n{section}\n"
    page.write_text(text, encoding="utf-8")


def keep(name: str, figures: object) -> None:
    """Keep a run's figures, so that the page can be written again without measuring.

    :param name: of the measurement.
    :param figures: JSON.
    """
    ROOM.mkdir(exist_ok=True)
    (ROOM / ".gitignore").write_text("*\n", encoding="utf-8")
    (ROOM / f"{name}.json").write_text(json.dumps(figures, indent=1, default=asdict), encoding="utf-8")
