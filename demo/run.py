"""Runs three example DAGs on real Airflow against an embedded PostHog, and counts what came of it on both sides.

Everything it makes is in ``.demo``: Airflow's home (SQLite), its log, the files and the warehouses.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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
EXPORTED = LANDING / "warehouse.duckdb"
LOADED = HOME / "loaded.duckdb"
LOG = HOME / "airflow.log"
DAYS = 4
EVENTS = 60_000
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST_DAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - (DAYS + 1) * DAY
MORNING = FIRST_DAY + DAY + 10 * HOUR
#: It happened on the first day; PostHog took it in on the second, between eleven and twelve.
LATE = {
    "uuid": "01890000-0000-7000-8000-000000000001",
    "event": "offline",
    "distinct_id": "a phone in a tunnel",
    "person_id": "01890000-0000-7000-8000-000000000002",
    "timestamp": (FIRST_DAY + 9 * HOUR).isoformat(),
    "created_at": (MORNING + 1.5 * HOUR).isoformat(),
    "properties": {},
}


@dataclass(frozen=True)
class Job:
    """One run of a DAG.

    :param dag_id: the DAG, which is also the name of its file.
    :param start: the start of its interval.
    :param end: the end of it.
    :param note: what is special about the run.
    :param conf: its parameters.
    """

    dag_id: str
    start: datetime
    end: datetime
    note: str = ""
    conf: dict[str, str] = field(default_factory=dict)


#: The task whose rows count, and the time by which its interval is one.
COUNTED = {
    "export_to_warehouse": ("fetch", "timestamp"),
    "load_events": ("load", "created_at"),
    "backfill_history": ("load_week", "created_at"),
}
LAST_DAY = FIRST_DAY + (DAYS - 1) * DAY
JOBS = (
    Job("export_to_warehouse", FIRST_DAY + DAY, FIRST_DAY + 2 * DAY, "a day, as a CSV export"),
    Job("export_to_warehouse", FIRST_DAY + DAY, FIRST_DAY + 2 * DAY, "again"),
    Job("load_events", MORNING, MORNING + HOUR, "an hour, by queries"),
    Job("load_events", MORNING + HOUR, MORNING + 2 * HOUR, "the next one, with an event that was a day late"),
    Job("load_events", MORNING, MORNING + HOUR, "again"),
    Job(
        "backfill_history",
        FIRST_DAY,
        LAST_DAY + DAY,
        "all there is",
        {"first_day": f"{FIRST_DAY:%Y-%m-%d}", "last_day": f"{LAST_DAY:%Y-%m-%d}"},
    ),
)


def main() -> int:
    """Run the demo; return 0 if every task succeeded and the warehouses equal PostHog."""
    screen = os.fdopen(os.dup(1), "w", buffering=1)
    started = time.monotonic()
    for stale in (LANDING, LOADED):
        shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink(missing_ok=True)
    AIRFLOW_HOME.mkdir(parents=True, exist_ok=True)
    with _quiet():
        from airflow_provider_posthog.emulator.process import EmulatorProcess

        with EmulatorProcess(events=EVENTS, start=f"{FIRST_DAY:%Y-%m-%d}", days=DAYS) as posthog:
            posthog.add_events([LATE])
            _say(screen, f"PostHog   embedded, project {posthog.project_id}, {EVENTS:,} events, {posthog.url}")
            version = _start_airflow(posthog)
            _say(screen, f"Airflow   {version}, home {_short(AIRFLOW_HOME)}, log {_short(LOG)}")
            _say(screen, "DAGs      dags_examples/, whose tasks count on both sides\n")
            _say(screen, f"{'DAG':19}  {'interval (UTC)':26} {'seconds':>7} {'PostHog':>8} {'warehouse':>9}")
            succeeded = [_show(screen, job) for job in JOBS]
            equal = _compare(screen)
    _say(screen, f"\nDone in {time.monotonic() - started:.0f} s. Clean up with: make clean")
    return 0 if equal and all(succeeded) else 1


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
        "POSTHOG_EXAMPLE_FILES": f"file://{LANDING}",
        "POSTHOG_EXAMPLE_HOST": posthog.url.partition("://")[2],
        "POSTHOG_EXAMPLE_PROJECT": str(posthog.project_id),
        "POSTHOG_EXAMPLE_START": FIRST_DAY.isoformat(),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "duckdb", "host": str(LOADED)}),
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


def _show(screen: TextIO, job: Job) -> bool:
    """Run a DAG, and show what was counted on both sides."""
    interval = f"{job.start:%m-%d %H:%M} to {job.end:%m-%d %H:%M}"
    _say(screen, f"{job.dag_id:19}  {interval:26}", end="")
    began = time.monotonic()
    states, counted = _run(job)
    succeeded = set(states) == {"success"}
    there, landed = (f"{counted[side]:,}" if side in counted else "" for side in ("posthog", "warehouse"))
    note = job.note if succeeded else f"FAILED, see {_short(LOG)}"
    _say(screen, f" {time.monotonic() - began:7.1f} {there:>8} {landed:>9}  {note}")
    return succeeded


def _run(job: Job) -> tuple[list[str], dict[str, int]]:
    """Run a DAG; return the states of its tasks, and how many events PostHog has and have landed."""
    task, by = COUNTED[job.dag_id]
    dag = importlib.import_module(f"dags_examples.{job.dag_id}").dag
    run = dag.test(logical_date=job.end, run_conf=job.conf or None)
    which = [job.dag_id, run.run_id]
    with sqlite3.connect(DATABASE) as db:
        states = db.execute("SELECT state FROM task_instance WHERE dag_id = ? AND run_id = ?", which).fetchall()
        values = db.execute(
            "SELECT value FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = ? AND key = 'return_value'",
            [*which, task],
        ).fetchall()
    landed = sum(int(_json(value)["rows"]) for (value,) in values)
    return [str(state) for (state,) in states], {"posthog": _there(by, job.start, job.end), "warehouse": landed}


def _there(by: str, start: datetime, end: datetime) -> int:
    """Count the different events that PostHog has of an interval."""
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    window = f"{by} >= toDateTime({{start}}) AND {by} < toDateTime({{end}})"
    edges = {"start": start.isoformat(), "end": end.isoformat()}
    row = PostHogHook().get_first(f"SELECT count(DISTINCT uuid) FROM events WHERE {window}", edges)  # noqa: S608 - ours
    return int(row[0]) if row else 0


def _json(value: Any) -> dict[str, Any]:  # noqa: ANN401 - what SQLite holds
    while isinstance(value, (str, bytes)):
        value = json.loads(value)
    return value or {}


def _compare(screen: TextIO) -> bool:
    """Count each warehouse against PostHog, events and different events."""
    import duckdb

    from airflow_provider_posthog.hooks.posthog import PostHogHook

    _say(screen, f"\n{'now in the table events of':55} {'PostHog':>8} {'warehouse':>9}")
    equal = True
    for path, since, start, end in (
        (EXPORTED, "timestamp >= toDateTime({start}) AND timestamp", FIRST_DAY + DAY, FIRST_DAY + 2 * DAY),
        (LOADED, "created_at >= toDateTime({start}) AND created_at", FIRST_DAY, LAST_DAY + DAY),
    ):
        there = PostHogHook().get_first(
            f"SELECT count(), uniqExact(uuid) FROM events WHERE {since} < toDateTime({{end}})",  # noqa: S608 - our own
            {"start": start.isoformat(), "end": end.isoformat()},
        )
        with duckdb.connect(str(path), read_only=True) as warehouse:
            landed = warehouse.execute("SELECT count(*), count(DISTINCT uuid) FROM events").fetchone()
        rows, (wanted, _) = (landed or (0, 0))[0], there or (0, 0)
        equal = equal and wanted > 0 and tuple(there or ()) == tuple(landed or ())
        _say(screen, f"{_short(path):55} {wanted:>8,} {rows:>9,}")
    _say(screen, "Equal: no event is missing, and none is there twice." if equal else "NOT EQUAL")
    return equal


if __name__ == "__main__":
    sys.exit(main())
