"""Kills, clears and bad minutes: each run ends right, with the exact number of exports, and nothing polls on."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, kill_process, wait_for

ROUNDS = pytest.mark.parametrize("round_", [1, 2, 3])
POLL_INTERVAL = 2.0
# Room for all, as the watcher of events asks too.
CALCULATING: dict[str, Any] = {"query_seconds": 15.0, "concurrency": 20}
NOT_CALCULATING: dict[str, Any] = {"query_seconds": 0.0, "concurrency": 3}


class Case:
    """One run of one DAG, whose exports are told from others' by their file name."""

    def __init__(self, airflow: Deployment, posthog: EmulatorProcess, dag_id: str, name: str) -> None:
        self.airflow, self.posthog, self.dag_id, self.name = airflow, posthog, dag_id, name
        self.run_id = airflow.trigger(dag_id, {"name": name})

    def exports(self) -> list[int]:
        answer = requests.get(
            f"{self.posthog.url}/api/projects/{self.posthog.project_id}/exports/?limit=1000",
            headers={"Authorization": f"Bearer {self.posthog.api_key}"},
            timeout=10,
        )
        results = answer.json()["results"]
        return [e["id"] for e in results if e["export_context"].get("filename") == self.name]

    def wait_for_export(self) -> int:
        ids: list[int] = wait_for(f"the export of {self.name}", self.exports)
        return ids[0]

    def wait_for_state(self, state: str) -> dict[str, object]:
        return self.airflow.wait_for_task(self.dag_id, self.run_id, state)

    def polls(self, export_id: int) -> int:
        path = f"/api/projects/{self.posthog.project_id}/exports/{export_id}/"
        return sum(1 for call in self.posthog.calls() if call["path"] == path)

    def finish(self, state: str, exports: int) -> None:
        """The run ends in this state, made so many exports, and nobody asks for them any more."""
        assert self.airflow.wait_for_run(self.dag_id, self.run_id) == state, self.dump()
        ids = self.exports()
        assert len(ids) == exports, self.dump()
        wait_for(f"{self.name} is left alone", lambda: self.is_quiet(ids), timeout=30)

    def is_quiet(self, ids: list[int]) -> bool:
        """Nobody asked for these exports for a while, which only looking for a while can show."""
        before = [self.polls(export_id) for export_id in ids]
        time.sleep(2.5 * POLL_INTERVAL)
        return [self.polls(export_id) for export_id in ids] == before

    def dump(self) -> str:
        tasks = self.airflow.tasks(self.dag_id, self.run_id)
        lines = [f"{self.name}: exports {self.exports()}"]
        for task in tasks:
            lines.append(f"{task['task_id']}[{task['map_index']}] {task['state']} try {task['try_number']}")
            if len(tasks) == 1:
                for attempt in range(1, task["try_number"] + 1):
                    lines.append(self.airflow.log(self.dag_id, self.run_id, task["task_id"], attempt)[-4000:])
        return "\n".join(lines)


class Calculations:
    """A run of two refreshes and two queries, in a worker and deferred each, all under way on PostHog."""

    TASKS = ("refresh_in_worker", "refresh_deferred", "query_in_worker", "query_deferred")

    def __init__(self, airflow: Deployment, posthog: EmulatorProcess, name: str) -> None:
        self.airflow, self.posthog, self.name = airflow, posthog, name
        self._before = len(posthog.calls())
        self.run_id = airflow.trigger("calculations", {"name": name})
        wait_for("four calculations", lambda: all(self.started(task) for task in self.TASKS))

    def calls(self) -> list[dict[str, Any]]:
        return self.posthog.calls()[self._before :]

    def started(self, task: str) -> list[str]:
        """The names under which the task had something calculated."""
        kind, _, where = task.partition("_")
        insight = "/insights/1/" if where == "in_worker" else "/insights/2/"
        names = []
        for call in self.calls():
            if kind == "query" and f"{where}-{self.name}'" in str(call["body"]):
                names.append(call["body"]["client_query_id"])
            elif kind == "refresh" and call["path"].endswith(insight) and "force_" in str(call["query"].get("refresh")):
                names.append(call["query"]["client_query_id"])
        return names

    def task(self, task_id: str, state: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            tasks = self.airflow.tasks("calculations", self.run_id)
            return next((task for task in tasks if (task["task_id"], task["state"]) == (task_id, state)), None)

        found: dict[str, Any] = wait_for(f"{task_id} {state}", there)
        return found

    def finish(self, **started: int) -> None:
        """All end well, were calculated so often (once unless said), and never twice at a time."""
        state = self.airflow.wait_for_run("calculations", self.run_id)
        assert state == "success", self.airflow.tasks("calculations", self.run_id)
        for task in self.TASKS:
            assert len(self.started(task)) == started.get(task, 1), (task, self.started(task))
            for name, following in pairwise(self.started(task)):
                self._was_cancelled(name, following)

    def _was_cancelled(self, name: str, following: str) -> None:
        """A calculation had ended before the next one of its task began: the emulator answers a cancel after that."""
        calls = self.calls()
        told = [str((call["method"], call["path"], call["query"], call["body"])) for call in calls]
        begin = next(n for n, text in enumerate(told) if following in text and "force_" in text)
        ends = [n for n, text in enumerate(told[:begin]) if name in text and ("DELETE" in text or "/cancel/" in text)]
        assert any(calls[n]["status"] in (200, 201) for n in ends), told


def kill_the_task_process(case: Case) -> None:
    case.wait_for_export()
    kill_process(int(str(case.wait_for_state("running")["pid"])))
    case.finish("success", exports=1)


def mark_failed_while_running(case: Case) -> None:
    case.wait_for_export()
    case.wait_for_state("running")
    case.airflow.mark_failed(case.dag_id, case.run_id, "export")
    case.finish("failed", exports=1)


def mark_failed_while_deferred(case: Case) -> None:
    case.wait_for_state("deferred")
    case.airflow.mark_failed(case.dag_id, case.run_id, "export")
    case.finish("failed", exports=1)


def clear_while_running(case: Case) -> None:
    case.wait_for_export()
    case.wait_for_state("running")
    case.airflow.clear(case.dag_id, case.run_id, "export")
    case.finish("success", exports=1)


def clear_while_deferred(case: Case) -> None:
    case.wait_for_state("deferred")
    case.airflow.clear(case.dag_id, case.run_id, "export")
    case.finish("success", exports=1)


def clear_after_success(case: Case) -> None:
    case.finish("success", exports=1)
    case.airflow.clear(case.dag_id, case.run_id, "export")
    wait_for("the cleared run's start", lambda: case.airflow.run_state(case.dag_id, case.run_id) != "success")
    case.finish("success", exports=2)


def twenty_mapped_at_once(case: Case) -> None:
    case.finish("success", exports=20)


USER_CASES = (
    ("in_worker", kill_the_task_process),
    ("in_worker", mark_failed_while_running),
    ("deferred", mark_failed_while_deferred),
    ("in_worker", clear_while_running),
    ("deferred", clear_while_deferred),
    ("deferred", clear_after_success),
    ("mapped", twenty_mapped_at_once),
)


@ROUNDS
def test_what_users_and_kernels_do_to_tasks(airflow: Deployment, posthog_alone: EmulatorProcess, round_: int) -> None:
    posthog_alone.settings(export_seconds=25.0)
    with ThreadPoolExecutor(len(USER_CASES)) as pool:
        waiting = {
            act.__name__: pool.submit(act, Case(airflow, posthog_alone, dag_id, f"{act.__name__}-{round_}"))
            for dag_id, act in USER_CASES
        }
    failures = {name: result.exception() for name, result in waiting.items() if result.exception()}
    assert not failures, "\n\n".join(f"{name}: {error!r}" for name, error in failures.items())


@ROUNDS
def test_the_triggerer_and_workers_are_killed(airflow: Deployment, posthog_alone: EmulatorProcess, round_: int) -> None:
    posthog_alone.settings(export_seconds=10.0, **CALCULATING)
    calculations = Calculations(airflow, posthog_alone, f"triggerer-{round_}")
    case = Case(airflow, posthog_alone, "deferred", f"triggerer-{round_}")
    export_id = case.wait_for_export()
    case.wait_for_state("deferred")
    for task_id in ("refresh_deferred", "query_deferred"):
        calculations.task(task_id, "deferred")
    for task_id in ("refresh_in_worker", "query_in_worker"):
        kill_process(int(calculations.task(task_id, "running")["pid"]))
    wait_for("a poll by the trigger", lambda: case.polls(export_id) > 0)
    airflow.kill("triggerer")
    airflow.start("triggerer")
    case.finish("success", exports=1)
    # What only a request waited for is cancelled and begun anew; the rest is taken up.
    calculations.finish(refresh_in_worker=2)
    posthog_alone.settings(**NOT_CALCULATING)


@ROUNDS
def test_the_scheduler_is_killed(airflow: Deployment, posthog_alone: EmulatorProcess, round_: int) -> None:
    posthog_alone.settings(export_seconds=25.0)
    dag_ids = ("in_worker", "deferred")
    cases = [Case(airflow, posthog_alone, dag_id, f"scheduler-{dag_id}-{round_}") for dag_id in dag_ids]
    for case, state in zip(cases, ("running", "deferred"), strict=True):
        case.wait_for_export()
        case.wait_for_state(state)
    airflow.kill("scheduler")
    airflow.start("scheduler")
    for case in cases:
        case.finish("success", exports=1)


@ROUNDS
def test_the_triggerer_is_killed_while_it_watches_for_events(
    airflow: Deployment, posthog_alone: EmulatorProcess, round_: int
) -> None:
    def looks() -> int:
        return sum(1 for call in posthog_alone.calls() if "e2e_sign_up" in str(call["body"]))

    def runs() -> int:
        total: int = airflow.call("GET", "dags/watching/dagRuns?limit=1")["total_entries"]
        return total

    before, seen = runs(), looks()
    wait_for("a look for events", lambda: looks() > seen)
    sign_up(posthog_alone, round_ * 10)
    wait_for("a run for the event", lambda: runs() == before + 1)
    airflow.kill("triggerer")
    sign_up(posthog_alone, round_ * 10 + 1)  # nobody looks
    airflow.start("triggerer")
    wait_for("a run for what came meanwhile", lambda: runs() == before + 2)
    seen = looks()
    wait_for("three more looks", lambda: looks() > seen + 2)
    assert runs() == before + 2  # neither event started a second run


def sign_up(posthog: EmulatorProcess, day: int) -> None:
    moment = datetime(2030, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)
    event = {
        "uuid": str(uuid.uuid4()),
        "event": "e2e_sign_up",
        "distinct_id": "someone",
        "person_id": str(uuid.uuid4()),
        "timestamp": moment.isoformat(),
        "created_at": moment.isoformat(),
        "properties": {},
    }
    posthog.add_events([event])


def test_posthog_answers_503_for_a_minute(airflow: Deployment, posthog_alone: EmulatorProcess) -> None:
    """Once: no moment of it is left to chance, as that of a kill is."""
    posthog_alone.settings(export_seconds=5.0)
    case = Case(airflow, posthog_alone, "bad_minute", "minute")
    case.wait_for_export()
    case.wait_for_state("deferred")
    posthog_alone.faults(method="GET", path="/api/*", status=503, count=-1)
    time.sleep(60)  # the minute is the case
    posthog_alone.clear_faults()
    case.finish("success", exports=1)
