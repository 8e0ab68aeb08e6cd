"""``python -m tests.soak [--minutes 30] [--seed N]`` (``make soak``): runs, breaks, counts, and reports.

The exit code is 0 if all books are right. Where they are not, Airflow's folder with its logs is kept, and named.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, wait_for
from tests.load.databases import Postgres, postgres_folder
from tests.soak.books import Done, problems
from tests.soak.ground import POOLS, Ground
from tests.soak.jobs import JOBS, Run
from tests.soak.weather import Weather

#: Runs that go on at a time, and seconds between two looks at them.
MOST, LOOK = 5, 2.0
#: Seconds that all runs have to end in when nothing is wrong any more.
CALM = 600.0


class Going(NamedTuple):
    """A run that goes on.

    :param dag_id: the example.
    :param run_id: of the run.
    :param run: what it is for.
    """

    dag_id: str
    run_id: str
    run: Run


class Soak:
    """Runs examples one after the other, some at a time.

    :param airflow: where.
    """

    def __init__(self, airflow: Deployment) -> None:
        self._airflow = airflow
        self._numbers: Counter[str] = Counter()
        self._next = self._names()
        self.going: list[Going] = []
        self.done: Done = {}
        #: Runs that failed for a fault that lasted longer than their tries, and were cleared.
        self.again: Counter[str] = Counter()
        self.failed: list[str] = []

    @staticmethod
    def _names() -> Iterator[str]:
        while True:
            yield from JOBS

    def fill(self) -> None:
        """Start runs, as many as there is room for, none beside another of its example."""
        for _ in JOBS:
            if len(self.going) >= MOST:
                return
            name = next(self._next)
            if name not in {each.dag_id for each in self.going}:
                self._start(name)

    def _start(self, name: str) -> None:
        run = JOBS[name](self._numbers[name])
        self._numbers[name] += 1
        moments = {"data_interval_start": run.start, "data_interval_end": run.end}
        moments["logical_date"] = datetime.now(timezone.utc)  # Airflow has no interval of a run without one
        body = {"conf": run.conf, **{key: at.isoformat() for key, at in moments.items()}}
        made = self._airflow.call("POST", f"dags/{name}/dagRuns", {**body, "dag_run_id": f"soak_{self._numbers[name]}"})
        self.going.append(Going(name, made["dag_run_id"], run))

    def look(self) -> None:
        """Take note of the runs that have ended; what failed is cleared, as its owner would."""
        for each in [*self.going]:
            state = self._airflow.run_state(each.dag_id, each.run_id)
            if state == "success":
                self.going.remove(each)
                self.done.setdefault(each.dag_id, []).append(each.run)
            elif state == "failed":
                self._clear(each)

    def _clear(self, each: Going) -> None:
        self.again[each.dag_id] += 1
        failed = [task for task in self._airflow.tasks(each.dag_id, each.run_id) if task["state"] == "failed"]
        self.failed += [
            f"{each.dag_id}.{task['task_id']} ({each.run_id}, {task['try_number']} tries)" for task in failed
        ]
        body = {"dry_run": False, "only_failed": True, "dag_run_id": each.run_id, "reset_dag_runs": True}
        self._airflow.call("POST", f"dags/{each.dag_id}/clearTaskInstances", body)

    def pids(self) -> list[int]:
        """Return the processes of the tasks that run."""
        found = self._airflow.call("GET", "dags/~/dagRuns/~/taskInstances?state=running&limit=100")["task_instances"]
        return [int(each["pid"]) for each in found if each["pid"]]


def main() -> int:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave no part of Airflow behind
    print(f"{arguments.minutes:g} minutes of {len(JOBS)} examples, seed {arguments.seed}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="posthog_soak_"))
    for name in ("airflow", "files"):
        (home / name).mkdir()
    with EmulatorProcess(events=20_000) as posthog:
        ground = Ground(posthog, Postgres(postgres_folder()), home / "files")
        env = ground.env(Postgres(postgres_folder()).airflow_connection())
        with Deployment(home / "airflow", Path(__file__).parent / "dags", env) as airflow:
            airflow.wait_for_dags(*JOBS)
            for name, slots in POOLS.items():
                airflow.call("POST", "pools", {"name": name, "slots": slots, "include_deferred": name == "backfills"})
            soak, weather = Soak(airflow), Weather(posthog, airflow, random.Random(arguments.seed))
            wrong = _soaked(soak, weather, arguments.minutes * 60)
            wrong += problems(ground, soak.done, soak.again, home / "airflow")
    print(_report(soak, weather, wrong))
    if wrong:
        print(f"Logs: {home}")
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


def _soaked(soak: Soak, weather: Weather, seconds: float) -> list[str]:
    """Run examples in bad weather, and to their ends in good weather; return what never ended."""
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        soak.fill()
        weather.turn(now, soak.pids)
        time.sleep(LOOK)
        soak.look()
    weather.clear()

    def ended() -> bool:
        soak.look()
        return not soak.going

    try:
        wait_for("the ends of all runs", ended, CALM, LOOK)
    except AssertionError:
        return [f"never ended: {each.dag_id} {each.run_id}" for each in soak.going]
    return []


def _report(soak: Soak, weather: Weather, wrong: list[str]) -> str:
    def told(counts: Counter[str]) -> str:
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"

    runs: Counter[str] = Counter({name: len(found) for name, found in soak.done.items()})
    lines = [
        f"runs    {runs.total()}: {told(runs)}",
        f"faults  {weather.faults.total()}: {told(weather.faults)}",
        f"kills   {weather.kills.total()}: {told(weather.kills)}",
        f"failed, cleared and done: {'; '.join(soak.failed) or 'none'}",
        *(f"WRONG   {each}" for each in wrong),
        "The books are "
        + (f"wrong: {len(wrong)}" if wrong else "right: no row lost or twice, no job left, no file, no canary"),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
