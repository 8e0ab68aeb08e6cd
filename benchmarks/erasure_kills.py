"""An erasure whose tasks are killed again and again: ``python -m benchmarks.erasure_kills [--kills 32]``.

Resolve, delete, verify, seal and finish run one after another, each in a process of its own, with a certificate. Each
is killed (SIGKILL) several times, at random moments of its work, and begun again. Afterwards nobody was asked for
twice, everybody is proved to be erased, the certificate is whole, and no file holds an identifier. Writes a section of
``docs/benchmarks.md``. Ends with 1 if one of this is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_posthog.audit.__main__ import main as audit
from airflow_provider_posthog.emulator.process import EmulatorProcess
from benchmarks import measure
from benchmarks.erasure import asked_twice
from benchmarks.measure import ROOT, python

_TEXT = """### An erasure whose tasks are killed

`python -m benchmarks.erasure_kills`: {persons} persons of two distinct ids each, {chunk} a call; all five tasks, with a
certificate. {kills} times SIGKILL at random moments of their work (seed {seed}): {table}.

Asked for twice after an acceptance: {twice} persons. Proved to be erased: {proved} of {persons}. The certificate:
{certificate}. Files that hold an identifier at the end: {left}.
"""
TASKS = ("resolve", "delete", "verify", "seal", "finish")
_CHUNK = 50
_SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"


@dataclass
class Killed:
    """What came of it.

    :param persons: how many persons.
    :param kills: how often each task was killed while it worked.
    :param twice: for how many persons a deletion was asked again after it had been accepted.
    :param proved: how many are proved to be erased.
    :param certificate: what ``audit verify`` exits with: 0 for a whole one.
    :param left: the files that hold an identifier.
    """

    persons: int
    kills: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    proved: int = 0
    certificate: int = -1
    left: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether all is as it should be."""
        return not self.twice and self.proved == self.persons and not self.certificate and not self.left


def erase(persons: int, kills: int, seed: int, room: Path) -> Killed:
    """Erase persons, and kill the tasks that do it.

    :param persons: how many persons.
    :param kills: how many kills, over all tasks.
    :param seed: of the moments.
    :param room: a folder.
    """
    found, chance = Killed(persons), random.Random(seed)
    with EmulatorProcess(events=0) as posthog:
        os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"] = posthog.airflow_connection_json(audit_secret=_SALT)
        os.environ["ERASING_CHUNK"] = str(_CHUNK)
        names = [f"mark-{number}-of-somebody" for number in range(persons)]
        uuids = posthog.add_persons([{"distinct_ids": [name, f"{name}-too"]} for name in names])
        (room / "identifiers.csv").write_text("distinct_id\n" + "\n".join(names) + "\n", encoding="utf-8")
        (room / "certificates").mkdir()
        for number, task in enumerate(TASKS):
            share = kills // len(TASKS) + (number < kills % len(TASKS))
            _run(task, share, chance, room, found)
            if task == "delete":
                found.twice = asked_twice(posthog, uuids)
                posthog.sweep()
            print(f"  {task:8} killed {found.kills[task]} times", flush=True)
    verified = json.loads((room / "verify.json").read_text(encoding="utf-8"))
    found.proved = int(verified["states"].get("VERIFIED", 0))
    os.environ["POSTHOG_AUDIT_SALT"] = _SALT
    found.certificate = audit(["verify", str(room / "certificates")])
    secrets = [*uuids, "mark-"]
    for path in sorted(path for path in room.rglob("*") if path.is_file()):
        content = path.read_text(encoding="utf-8", errors="replace")
        if any(secret in content for secret in secrets):
            found.left.append(str(path.relative_to(room)))
    return found


def _run(task: str, kills: int, chance: random.Random, room: Path, found: Killed) -> None:
    """Run a task to its end, after it was killed so often; at the beginning nobody knows how long it takes."""
    longest = 1.0
    while found.kills[task] < kills and longest > 0.001:
        process = _begun(task, room)
        try:
            process.wait(chance.uniform(0.0, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        status = process.wait()
        if status == -signal.SIGKILL:
            found.kills[task] += 1
        elif status:
            raise measure.RunFailed(f"{task} failed:\n{(room / 'log.txt').read_text(errors='replace')[-3000:]}")
        else:
            longest /= 2  # it was at its end before its time had come: it runs again, as a cleared task does
    cost = measure.run(python("benchmarks.clients.erasing", task, room), room / "log.txt")
    print(f"  {task:8} {json.loads(cost.output)['seconds']:.2f} s", flush=True)


def _begun(task: str, room: Path) -> subprocess.Popen[bytes]:
    """Start a task, and return it when its imports are done."""
    begun = room / f"{task}.begun"
    begun.unlink(missing_ok=True)
    with (room / "log.txt").open("wb") as log:
        process = subprocess.Popen(python("benchmarks.clients.erasing", task, room), cwd=ROOT, stdout=log, stderr=log)
    while not begun.exists() and process.poll() is None:
        time.sleep(0.005)
    return process


def main(given: Sequence[str] | None = None) -> int:
    """Do it, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=32)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True, help="write docs/benchmarks.md")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
        found = erase(arguments.persons, arguments.kills, arguments.seed, Path(room))
    text = _TEXT.format(
        persons=f"{found.persons:,}",
        chunk=_CHUNK,
        kills=found.kills.total(),
        seed=arguments.seed,
        table=", ".join(f"{task} {times}" for task, times in found.kills.items()),
        twice=found.twice,
        proved=f"{found.proved:,}",
        certificate="closed, complete and unaltered" if not found.certificate else f"exit {found.certificate}",
        left=", ".join(found.left) or "none",
    )
    print(text)
    if arguments.docs:
        measure.write_section("erasure_kills", text)
    return 0 if found.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
