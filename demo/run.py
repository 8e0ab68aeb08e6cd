"""Runs the example DAG ``export_to_warehouse`` on real Airflow against an embedded PostHog, and shows what came of it.

Everything it makes is in ``.demo``: Airflow's home (SQLite), its log, the files and the warehouse.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.process import EmulatorProcess

HERE = Path(__file__).resolve().parent.parent
HOME = HERE / ".demo"
AIRFLOW_HOME = HOME / "airflow"
DATABASE = AIRFLOW_HOME / "airflow.db"
LANDING = HOME / "landing"
WAREHOUSE = HOME / "warehouse.duckdb"
LOG = HOME / "airflow.log"
DAG_ID = "export_to_warehouse"
FIRST_DAY = datetime(2026, 11, 1, tzinfo=timezone.utc)
DAYS = 4
EVENTS = 60_000
TASKS = ("create_export", "fetch", "load", "prove")


@dataclass(frozen=True)
class Run:
    """One run of the DAG.

    :param title: how it is called on the screen.
    :param day: the start of its data interval.
    :param tasks: a row per task: name, state, seconds, and what it handed on.
    """

    title: str
    day: datetime
    tasks: list[tuple[str, str, float, dict[str, Any]]]

    @property
    def succeeded(self) -> bool:
        """Whether all of its tasks did."""
        return [state for _, state, _, _ in self.tasks] == ["success"] * len(TASKS)


def main() -> int:
    """Run the demo; return 0 if every task succeeded and the warehouse equals PostHog."""
    screen = os.fdopen(os.dup(1), "w", buffering=1)
    started = time.monotonic()
    for stale in (LANDING, WAREHOUSE):
        shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink(missing_ok=True)
    AIRFLOW_HOME.mkdir(parents=True, exist_ok=True)
    with _quiet():
        from airflow_provider_posthog.emulator.process import EmulatorProcess

        with EmulatorProcess(events=EVENTS, start=f"{FIRST_DAY:%Y-%m-%d}", days=DAYS) as posthog:
            _say(screen, f"PostHog   embedded, project {posthog.project_id}, {EVENTS:,} events, {posthog.url}")
            version = _start_airflow(posthog)
            _say(screen, f"Airflow   {version}, home {_short(AIRFLOW_HOME)}, log {_short(LOG)}")
            _say(
                screen, f"DAG       {DAG_ID} (dags_examples/{DAG_ID}.py), deferrable, for two days and one day again\n"
            )
            first, second = FIRST_DAY + timedelta(days=1), FIRST_DAY + timedelta(days=2)
            runs = []
            for title, day in (("run 1", first), ("run 2", second), ("re-run", first)):
                _say(screen, f"{title:7} {day:%Y-%m-%d} ... ", end="")
                runs.append(_run(title, day))
                _say(screen, "success" if runs[-1].succeeded else f"FAILED, see {_short(LOG)}")
            equal = _report(screen, runs, posthog)
    _say(screen, f"\nDone in {time.monotonic() - started:.0f} s. Clean up with: make clean")
    return 0 if equal and all(run.succeeded for run in runs) else 1


def _say(screen: TextIO, text: str, end: str = "\n") -> None:
    screen.write(text + end)
    screen.flush()


def _short(path: Path) -> str:
    return str(path.relative_to(HERE))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what Airflow prints to the log; it says a hundred times more than the demo."""
    kept = os.dup(1), os.dup(2)
    with LOG.open("w") as log:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)


def _start_airflow(posthog: EmulatorProcess) -> str:
    """Point Airflow at its home and at the embedded PostHog, and make its database."""
    os.environ |= {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{DATABASE}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags_examples"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_POSTHOG_DEFAULT": posthog.airflow_connection_json(),
        "POSTHOG_EXAMPLE_LANDING": f"file://{LANDING}",
        "POSTHOG_EXAMPLE_WAREHOUSE": str(WAREHOUSE),
        "NO_PROXY": "127.0.0.1",
    }
    import airflow

    made_by = AIRFLOW_HOME / "made-by"
    if not DATABASE.exists() or not made_by.exists() or made_by.read_text() != airflow.__version__:
        from airflow.utils.db import initdb

        DATABASE.unlink(missing_ok=True)
        initdb()
        made_by.write_text(airflow.__version__)
    logging.getLogger().setLevel(logging.INFO)
    return airflow.__version__


def _run(title: str, day: datetime) -> Run:
    """Run the DAG for the day that starts at ``day``."""
    from dags_examples.export_to_warehouse import dag

    run = dag.test(logical_date=day + timedelta(days=1))
    with sqlite3.connect(DATABASE) as db:
        rows = db.execute(
            "SELECT ti.task_id, ti.state,"
            " julianday(ti.end_date) - julianday(min(ti.start_date, ti.scheduled_dttm)), x.value"
            " FROM task_instance ti LEFT JOIN xcom x"
            " ON (x.dag_id, x.run_id, x.task_id, x.key) = (ti.dag_id, ti.run_id, ti.task_id, 'return_value')"
            " WHERE ti.dag_id = ? AND ti.run_id = ?",
            [DAG_ID, run.run_id],
        ).fetchall()
    found = {name: (name, str(state), (days or 0.0) * 86400, _json(value)) for name, state, days, value in rows}
    return Run(title, day, [found[name] for name in TASKS if name in found])


def _json(value: Any) -> dict[str, Any]:  # noqa: ANN401 - what SQLite holds
    while isinstance(value, (str, bytes)):
        value = json.loads(value)
    return value or {}


def _report(screen: TextIO, runs: list[Run], posthog: EmulatorProcess) -> bool:
    """Show a row per task, then count the warehouse against PostHog."""
    _say(screen, f"\n{'run':7} {'day':10}  {'task':14} {'state':15} {'seconds':>7} {'rows':>7} {'bytes':>10}  file")
    for run in runs:
        for name, state, seconds, handed_on in run.tasks:
            rows, size = handed_on.get("rows"), handed_on.get("bytes")
            file = _short(Path(handed_on["path"].removeprefix("file://"))) if "path" in handed_on else ""
            _say(
                screen,
                f"{run.title:7} {run.day:%Y-%m-%d}  {name:14} {state:15} {seconds:7.1f} "
                f"{_number(rows):>7} {_number(size):>10}  {file}".rstrip(),
            )
    created = posthog.stats()["exports"]["created"]
    _say(screen, f"\nWarehouse: table events in {_short(WAREHOUSE)}. Exports that PostHog was asked for: {created}")
    return _compare(screen, runs) and created == len(runs)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _compare(screen: TextIO, runs: list[Run]) -> bool:
    import duckdb

    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    equal = True
    total = {"PostHog": 0, "warehouse": 0}
    with duckdb.connect(str(WAREHOUSE), read_only=True) as warehouse:
        for day in sorted({run.day for run in runs}):
            start, end = day.isoformat(), (day + timedelta(days=1)).isoformat()
            there = hook.get_first(
                "SELECT count(), uniq(uuid) FROM events"
                " WHERE timestamp >= toDateTime({start}) AND timestamp < toDateTime({end})",
                {"start": start, "end": end},
            )
            landed = warehouse.execute(
                'SELECT count(*), count(DISTINCT uuid) FROM events WHERE "timestamp" >= ? AND "timestamp" < ?',
                [start, end],
            ).fetchone()
            equal = equal and bool(there) and bool(landed) and list(there or ()) == list(landed or ())
            total["PostHog"] += there[0] if there else 0
            total["warehouse"] += landed[0] if landed else 0
            _say(
                screen,
                f"{day:%Y-%m-%d}: PostHog holds {(there or [0])[0]:,} events, the warehouse {(landed or [0])[0]:,}",
            )
    verdict = "equal, also after the re-run" if equal else "NOT EQUAL"
    _say(screen, f"Together: PostHog {total['PostHog']:,}, warehouse {total['warehouse']:,}: {verdict}")
    return equal and total["PostHog"] > 0


if __name__ == "__main__":
    sys.exit(main())
