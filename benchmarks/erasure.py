"""Many persons erased: ``python -m benchmarks.erasure [--persons 100000]``.

An emulator has so many persons, and a tenth of them before. The tasks of an erasure run one after another, each in a
process of its own: resolve, delete, verify. The deletion is killed (SIGKILL) three times, and begun again. Afterwards
the emulator tells whom it was asked to delete, and how often. Writes a section of ``docs/benchmarks.md``. Ends with 1
if somebody was asked for twice, or is not proved to be erased.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_posthog.emulator.process import EmulatorProcess
from benchmarks import measure
from benchmarks.measure import ROOT, Cost, python

_TEXT = """## {persons} persons erased

`python -m benchmarks.erasure`. Each task is a process; *peak* is the most that it held. The deletion was killed three
times with SIGKILL, after about {shares} of its calls, and started again. The rows show its last attempt; *killed* is
the most memory of the others. PostHog lets 480 calls a minute and 4,800 an hour through that delete
([limits](limits.md)); each of our calls is for up to 1,000 persons. The proof is two searches. For 1,000 persons,
each of them makes ten calls for persons, because PostHog answers for 200 at once, and four queries.

{table}

Asked for twice after an acceptance: {twice} persons. Proved to be erased: {proved} of {persons}.
"""
TASKS = ("resolve", "delete", "verify")
#: After which share of the deletion's calls it is killed.
KILLS = (0.15, 0.4, 0.7)


@dataclass
class Erasure:
    """What came of one.

    :param persons: how many.
    :param costs: of each task; of the deletion that of its last try.
    :param killed: the most MiB that a killed try held.
    :param calls: how many calls each task made.
    :param twice: for how many persons a deletion was asked again after it had been accepted.
    :param proved: how many are proved to be erased.
    """

    persons: int
    costs: dict[str, Cost] = field(default_factory=dict)
    killed: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    twice: int = 0
    proved: int = 0


def erase(persons: int, room: Path) -> Erasure:
    """Erase persons.

    :param persons: how many.
    :param room: a folder.
    """
    found = Erasure(persons)
    with EmulatorProcess(events=0) as posthog:
        os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"] = posthog.airflow_connection_json()
        uuids = posthog.add_persons(persons)
        (room / "identifiers.csv").write_text("uuid\n" + "\n".join(uuids) + "\n", encoding="utf-8")
        for task in TASKS:
            posthog.control("DELETE", "calls")
            if task == "delete":
                _kill_often(posthog, room, persons, found)
            found.costs[task] = measure.run(python("benchmarks.clients.erasing", task, room), room / "log.txt")
            found.calls[task] = len(posthog.calls())
            if task == "delete":
                found.twice = asked_twice(posthog, uuids)
                posthog.sweep()
            cost = found.costs[task]
            print(f"  {task:8} {cost.wall:7.1f} s {cost.memory:5.0f} MiB {found.calls[task]:6,} calls", flush=True)
    verified = json.loads((room / "verify.json").read_text(encoding="utf-8"))
    found.proved = int(verified["states"].get("VERIFIED", 0))
    return found


def _kill_often(posthog: EmulatorProcess, room: Path, persons: int, found: Erasure) -> None:
    calls = 2 * -(-persons // 1000)
    for share in KILLS:
        command = python("benchmarks.clients.erasing", "delete", room)
        with (room / "killed.txt").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            while len(posthog.calls("bulk_delete")) < share * calls and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode > 0:
            raise measure.RunFailed(f"the deletion failed:\n{(room / 'killed.txt').read_text()}")
        found.killed = max(found.killed, usage.ru_maxrss / 1024)


def asked_twice(posthog: EmulatorProcess, uuids: Sequence[str]) -> int:
    """Return for how many persons a deletion was asked again after it had been accepted.

    :param posthog: the emulator.
    :param uuids: of everybody who was to be erased.
    :raises RunFailed: if somebody was not asked for.
    """
    asked: set[str] = set()
    accepted: Counter[tuple[str, bool]] = Counter()
    for call in posthog.calls("bulk_delete"):
        asked.update(call["body"]["ids"])
        # Without a status, the task was killed before it could hear the answer. PostHog has deleted them all the same.
        if call["status"] == 202:
            accepted.update((uuid, bool(call["body"].get("keep_person"))) for uuid in call["body"]["ids"])
    if asked != set(uuids):
        raise measure.RunFailed("not everybody was asked for")
    return len({uuid for (uuid, _), times in accepted.items() if times > 1})


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=100_000)
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True, help="write docs/benchmarks.md")
    arguments = parser.parse_args(given)
    erasures = []
    for persons in (arguments.persons // 10, arguments.persons):
        print(f"{persons:,} persons", flush=True)
        with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
            erasures.append(erase(persons, Path(room)))
    rows = [
        [
            f"{found.persons:,} persons, {task}",
            f"{cost.wall:.0f}",
            f"{cost.cpu:.0f}",
            f"{cost.memory:.0f}",
            f"{found.killed:.0f}" if task == "delete" else "",
            f"{found.calls[task]:,}",
        ]
        for found in erasures
        for task, cost in found.costs.items()
    ]
    table = measure.table(["", "s", "CPU s", "peak MiB", "killed: peak MiB", "calls"], rows)
    last = erasures[-1]
    print(f"\n{table}\n\ntwice: {last.twice}, proved: {last.proved:,} of {last.persons:,}")
    if arguments.docs:
        shares = " %, ".join(f"{share * 100:.0f}" for share in KILLS) + " %"
        facts = {"persons": f"{last.persons:,}", "proved": f"{last.proved:,}", "twice": last.twice, "shares": shares}
        measure.write_section("erasure", _TEXT.format(table=table, **facts))
    return 0 if all(not found.twice and found.proved == found.persons for found in erasures) else 1


if __name__ == "__main__":
    sys.exit(main())
