"""Many tasks that wait, on a whole Airflow: ``python -m benchmarks.deployment [--exports 60 20] [--minutes 2 4]``.

PostgreSQL, scheduler, API server, triggerer and workers on this machine (the group ``e2e``), beside the embedded
PostHog in a process of its own. So many exports take so many minutes each, sensors look at insights each minute, and
PostHog's throttles hold, in proportion: 400 exports and 50 sensors have the whole of them. No task may retry. Prints
what the tasks needed, and how late the ends of the exports were noticed, by the times in the tasks' logs.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests  # noqa: TID253 - a measurement's own

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, wait_for

#: How many exports have all of PostHog's throttles.
WHOLE = 400
#: As its users have it; the end-to-end tests kill parts of it, and have no time.
PATIENT = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "60",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
}
DAGS = """
from datetime import datetime, timezone
from airflow.sdk import DAG
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
HOW = {"deferrable": True, "retries": 0, "pool": "waiting"}
for name, count in {"short": SHORT, "long": LONG}.items():
    with DAG(name, schedule=None, start_date=START) as dag:
        PostHogCreateExportOperator.partial(task_id="export", on_retention="ignore", poll_interval=10, **HOW).expand(
            query=[f"SELECT uuid FROM events WHERE event != 'nobody-{number}' LIMIT 10" for number in range(count)]
        )
    globals()[name] = dag
with DAG("sensors", schedule=None, start_date=START):
    PostHogInsightFreshSensor.partial(task_id="insight", poke_interval=60, timeout=7200, **HOW).expand(
        insight=[1 + number % 3 for number in range(SENSORS)], fresher_than=["2026-01-01T00:00:00+00:00"]
    )
"""
_READY = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)).*?export (\d+) is ready, after")


def main() -> None:
    """Run them, and print what they needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exports", type=int, nargs=2, default=[60, 20], metavar=("SHORT", "LONG"))
    parser.add_argument("--minutes", type=float, nargs=2, default=[2.0, 4.0], metavar=("SHORT", "LONG"))
    parser.add_argument("--sensors", type=int, default=10)
    arguments = parser.parse_args()
    scale = sum(arguments.exports) / WHOLE
    with EmulatorProcess(events=100) as posthog, tempfile.TemporaryDirectory() as home:
        posthog.settings(rate_limits=scale, stuck_seconds=86_400)
        dags = Path(home, "dags")
        dags.mkdir()
        numbers = dict(zip(("SHORT", "LONG"), arguments.exports, strict=True)) | {"SENSORS": arguments.sensors}
        (dags / "waiting.py").write_text("".join(f"{name} = {number}\n" for name, number in numbers.items()) + DAGS)
        connection = posthog.airflow_connection_json(
            rate_limit_share={"worker": 0.05 * scale, "triggerer": 0.6 * scale}
        )
        env = {**PATIENT, "AIRFLOW_CONN_POSTHOG_DEFAULT": connection}
        with Deployment(Path(home), dags, env) as airflow:
            _measure(airflow, posthog, arguments)


def _measure(airflow: Deployment, posthog: EmulatorProcess, arguments: argparse.Namespace) -> None:
    airflow.wait_for_dags("short", "long", "sensors")
    airflow.call("POST", "pools", {"name": "waiting", "slots": 6, "include_deferred": False})
    began, runs = time.time(), {"sensors": airflow.trigger("sensors", {})}
    for name, count, minutes in zip(("long", "short"), arguments.exports[::-1], arguments.minutes[::-1], strict=True):
        posthog.next_exports("succeed", count=count, export_seconds=60 * minutes)
        runs[name] = airflow.trigger(name, {})
        _wait_for_exports(posthog, name, posthog.stats()["exports"]["created"] + count)
    ready = _ready(posthog, dict(zip(("short", "long"), arguments.minutes, strict=True)), arguments.exports)
    for name in ("short", "long"):
        assert airflow.wait_for_run(name, runs[name], 7200.0) == "success", name
    for insight in (1, 2, 3):
        _api(posthog, f"insights/{insight}/?refresh=force_blocking")
    assert airflow.wait_for_run("sensors", runs["sensors"], 1200.0) == "success"
    _tell(posthog, time.time() - began, _tries(airflow, runs), _late(airflow, ready))


def _wait_for_exports(posthog: EmulatorProcess, name: str, wanted: int) -> None:
    wait_for(f"the {name} exports", lambda: posthog.stats()["exports"]["created"] >= wanted, 3600.0, every=2.0)


def _ready(posthog: EmulatorProcess, minutes: dict[str, float], counts: list[int]) -> dict[str, float]:
    """Return when each export has its file, by its id: the long ones were created first."""
    rows = sorted(_api(posthog, f"exports/?limit={sum(counts)}")["results"], key=lambda row: int(row["id"]))
    lengths = [minutes["long"]] * counts[1] + [minutes["short"]] * counts[0]
    return {str(row["id"]): _time(row["created_at"]) + 60 * length for row, length in zip(rows, lengths, strict=True)}


def _api(posthog: EmulatorProcess, path: str) -> Any:  # noqa: ANN401 - JSON
    address = f"{posthog.url}/api/projects/{posthog.project_id}/{path}"
    answer = requests.get(address, headers={"Authorization": f"Bearer {posthog.create_key()}"}, timeout=60)
    answer.raise_for_status()
    return answer.json()


def _tries(airflow: Deployment, runs: dict[str, str]) -> list[int]:
    tries: list[int] = []
    for dag, run in runs.items():
        address, found = f"dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances?limit=100&offset=", [None]
        offset = 0
        while found:
            found = airflow.call("GET", f"{address}{offset}")["task_instances"]
            tries += [task["try_number"] for task in found]
            offset += len(found)
    return tries


def _late(airflow: Deployment, ready: dict[str, float]) -> list[float]:
    """Return how many seconds after its end each export was noticed."""
    noticed: dict[str, float] = {}
    for path in airflow.home.rglob("*.log"):
        for moment, job in _READY.findall(path.read_text(errors="replace")):
            noticed[job] = min(_time(moment), noticed.get(job, float("inf")))
    return [noticed[job] - at for job, at in ready.items() if job in noticed]


def _time(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def _tell(posthog: EmulatorProcess, seconds: float, tries: list[int], late: list[float]) -> None:
    calls = posthog.calls()
    lists = [call for call in calls if call["method"] == "GET" and "/exports/" in call["path"]]
    limits = json.dumps(sum(call["status"] == 429 for call in calls))
    print(f"{len(tries)} tasks, all green at try {max(tries)} after {seconds / 60:.0f} min; answers with 429: {limits}")
    print(f"exports: {len(lists) * 60 / seconds:.0f} GET a minute")
    if late:
        print(
            f"{len(late)} ends noticed in the triggerer; late {statistics.median(late):.1f} s (p50), {max(late):.1f} s"
        )


if __name__ == "__main__":
    main()
