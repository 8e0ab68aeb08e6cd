"""Runs the erasure example in good and in bad weather, with everything logged; ``test_erase_example.py`` reads it.

``python -m tests.airflow.erase_flow FOLDER`` with Airflow's settings and connections in the environment.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

settings = importlib.import_module("tests.conftest")  # before Airflow: it sets the log's level, too
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "DEBUG"

from airflow_provider_posthog.emulator.process import EmulatorProcess  # noqa: E402
from tests.erasure.support import Lab, Weekend  # noqa: E402
from tests.load.databases import DuckDB  # noqa: E402
from tests.operators.support import rows_of_database, task_states, xcoms  # noqa: E402

GROUP = "erase_persons"
TABLES = ("events", "persons")


class Flow:
    """The example with a person, a warehouse that has rows of it and of another one, and a place for all files."""

    def __init__(self, posthog: EmulatorProcess, run_dag: Callable[..., Any], folder: Path) -> None:
        folder.mkdir()
        self.posthog, self._run_dag, self.folder = posthog, run_dag, folder
        self.lab = Lab(posthog, folder)
        self.warehouse = DuckDB(folder / "warehouse.duckdb")
        self.requests = folder / "requests.csv"
        self.requests.write_text(f"email\n{self.lab.email}\n")
        self._fill()

    def _fill(self) -> None:
        with closing(self.warehouse.connect()) as database:
            database.execute("CREATE TABLE events (event TEXT, distinct_id TEXT, person_id UUID)")
            stranger = "00000000-0000-4000-8000-000000000001"
            # The last two were loaded before their persons were merged, and before somebody came back.
            rows = [[self.lab.name, self.lab.person], [self.lab.names[1], stranger], ["somebody else", stranger]]
            rows.append(["somebody else", self.lab.person])
            database.executemany("INSERT INTO events VALUES ('bought', ?, ?)", rows)
            for table in TABLES[1:]:
                database.execute(f"CREATE TABLE {table} (id UUID, properties TEXT)")
                database.executemany(f"INSERT INTO {table} VALUES (?, '')", [[self.lab.person], [stranger]])

    def run(self, **params: Any) -> Any:
        from dags_examples import erase_persons

        os.environ["AIRFLOW_CONN_WAREHOUSE"] = self.warehouse.airflow_connection()
        os.environ["POSTHOG_EXAMPLE_FILES"] = f"file://{self.folder}"
        os.environ["POSTHOG_EXAMPLE_APPROVAL"] = "params"
        dag = importlib.reload(erase_persons).dag
        for task in dag.tasks:
            task.retries = 0
        verify = dag.get_task(f"{GROUP}.verify")
        verify.mode, verify.poke_interval, verify.timeout, verify.failure_grace = "poke", 0.2, 15, 0.0
        verify.quiet_period = 0.0
        with dag:
            dag.get_task(f"{GROUP}.delete") >> Weekend(task_id="weekend", url=self.posthog.url) >> verify
        return self._run_dag(dag, run_conf={"ticket": "DSR-42", "approved": True, **params})

    def left(self) -> dict[str, int]:
        """How many rows the warehouse has."""
        return {table: self.warehouse.count(table) for table in TABLES}

    def told(self, run: Any) -> dict[str, Any]:
        """All that the tests want to know of a run."""
        rendered = rows_of_database(
            "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = ?", run.dag_id
        )
        return {
            "state": str(run.state),
            "states": {name.removeprefix(f"{GROUP}."): state for name, state in task_states(run).items()},
            "erased": xcoms(run).get((f"{GROUP}.erase_events", -1, "return_value")),
            "rendered": len(rendered),
            "readable": self.lab.readable(),
            "left": self.left(),
            "private": self.private(),
            "deleting": len([call for call in self.posthog.calls() if "bulk_delete" in call["path"]]),
            "secret": self.lab.name,
            "person": self.lab.person,
        }

    def private(self) -> list[str]:
        """All files outside the certificate that name the person."""
        places = [path for path in (self.folder / "private").rglob("*") if path.is_file()]
        return [path.name for path in places if self.lab.name in path.read_text()]


def main(folder: str) -> None:
    from airflow.utils import db

    for noisy in ("sqlalchemy", "aiosqlite", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    db.initdb()
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    root.addHandler(logging.StreamHandler(sys.stdout))  # also what Airflow's own handlers leave out
    posthog = EmulatorProcess()
    connection = json.loads(os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"])
    posthog.url, posthog.api_key = connection["host"], connection["password"]
    posthog.project_id = connection["extra"]["project_id"]
    run_dag = settings.run_dag.__wrapped__(None)
    found: dict[str, Any] = {}

    def story(name: str, prepare: Callable[[Flow], object], **params: Any) -> None:
        posthog.reset()
        flow = Flow(posthog, run_dag, Path(folder) / name)
        prepare(flow)
        found[name] = flow.told(flow.run(requests_path=f"file://{flow.requests}", **params))

    story("file", lambda flow: None)
    # PostHog leaves what is dated after the request.
    story("survivor", lambda flow: flow.lab.event(timestamp="2040-01-01T00:00:00Z"))
    story("unapproved", lambda flow: None, approved=False)
    story("refused", lambda flow: flow.warehouse.run("DROP TABLE events", "CREATE TABLE events (x TEXT)"))
    Path(folder, "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
