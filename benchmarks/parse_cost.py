"""What a DAG file that uses this provider costs to parse: ``python -m benchmarks.parse_cost``.

Airflow parses every DAG file again and again, in a fresh process each time, so imports at the top of a provider's
modules are paid for by everyone. Measured is the CPU time beyond what a DAG of Airflow's own parts takes (the base
classes of ``airflow.sdk`` or of Airflow 2; a timetable, an operator, a task), as the median of five fresh processes.
Ends with 1 if ours is too much.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 5
#: Milliseconds that a DAG file may lose to this provider.
LIMIT = 60.0

OURS = "airflow_provider_posthog's operators, sensors, transfers"
EXAMPLE = "... and dags_examples/export_to_warehouse.py"
SQL = "airflow.providers.common.sql.hooks.sql"
HTTP = "airflow.providers.http.operators.http"

# In the order in which they are imported; each one's cost is what it adds to those before it.
_PROBE = """
import importlib, json, sys, time
from datetime import datetime

def timed(*names):
    start = time.process_time()
    for name in names:
        importlib.import_module(name)
    return (time.process_time() - start) * 1000

try:
    import airflow.sdk
    from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task
except ImportError:
    from airflow.models.baseoperator import BaseOperator
    from airflow.models.dag import DAG
    from airflow.sensors.base import BaseSensorOperator
    from airflow.decorators import task
from airflow.timetables.interval import CronDataIntervalTimetable

# What Airflow imports when the first DAG, operator and task are made is no provider's doing.
with DAG("own", schedule=CronDataIntervalTimetable("@daily", timezone="UTC"), start_date=datetime(2026, 1, 1)):
    @task
    def second(): ...
    BaseOperator(task_id="first") >> second()

costs = [timed(*names) for names in json.loads(sys.argv[1])]
print(json.dumps(costs))
"""


def our_modules() -> list[str]:
    """Return all modules that a DAG file may import of this provider."""
    package = ROOT / "airflow_provider_posthog"
    return [
        f"airflow_provider_posthog.{folder}.{path.stem}"
        for folder in ("operators", "sensors", "task_groups", "transfers")
        for path in sorted((package / folder).glob("*.py"))
        if path.stem != "__init__"
    ]


def measure(*groups: list[str]) -> list[float]:
    """Import groups of modules, one after the other, in fresh processes.

    :param groups: the modules' names.
    :returns: the median cost of each group, in milliseconds of CPU time.
    """
    runs = [_run(groups) for _ in range(RUNS + 1)][1:]  # the first one may have to compile
    return [statistics.median(costs) for costs in zip(*runs, strict=True)]


def _run(groups: tuple[list[str], ...]) -> list[float]:
    with tempfile.TemporaryDirectory() as home:
        folders = [str(ROOT), str(ROOT / "dags_examples")]
        environment = {**os.environ, "AIRFLOW_HOME": home, "PYTHONPATH": os.pathsep.join(folders)}
        # As installed, where modules are compiled once and not for each DAG file.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PROBE, json.dumps(groups)],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            timeout=120,
        )
    costs: list[float] = json.loads(done.stdout.splitlines()[-1])
    return costs


def main() -> int:
    """Print the table; return 1 if our modules cost :data:`LIMIT` or more."""
    modules, example = measure(our_modules(), ["export_to_warehouse"])
    table = {OURS: modules, EXAMPLE: modules + example}
    for other in (SQL, HTTP):
        if _is_there(other):
            (table[f"for comparison: {other}"],) = measure([other])
    width = max(map(len, table))
    print(f"{'CPU time beyond Airflow itself':{width}}      ms")
    for name, cost in table.items():
        print(f"{name:{width}}  {cost:6.1f}")
    if table[EXAMPLE] >= LIMIT:
        print(f"Too much: the limit is {LIMIT:.0f} ms.", file=sys.stderr)
        return 1
    return 0


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
