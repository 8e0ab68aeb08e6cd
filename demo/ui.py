"""Airflow's own pages with all examples, beside an embedded PostHog and a warehouse: ``make ui``.

It takes the Airflow that is installed here, 2.11 or 3. Everything listens on loopback only, and Ctrl-C stops it all.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airflow_provider_posthog.emulator.process import EmulatorProcess
from demo.shop import furnish
from tests.e2e.deployment import Deployment

EXAMPLES = Path(__file__).resolve().parent.parent / "dags_examples"
EVENTS = 20_000
#: A real one is a secret.
SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
#: What examples read from the warehouse, beside what others have loaded into it.
SHOP = """\\connect warehouse
CREATE TABLE orders (id BIGINT, customer TEXT, placed_at TIMESTAMPTZ, total NUMERIC);
INSERT INTO orders SELECT n, 'c' || n % 50, date_trunc('hour', now()) - n * interval '7 minutes', n % 90
    FROM generate_series(1, 2000) n;
CREATE TABLE churn_scores (customer TEXT, score FLOAT);
INSERT INTO churn_scores SELECT 'c' || n, n / 50.0 FROM generate_series(0, 49) n;
CREATE TABLE accounts (account_id TEXT, name TEXT, plan TEXT, seats INT);
INSERT INTO accounts VALUES ('acme', 'Acme', 'pro', 7), ('initech', 'Initech', 'free', 2);
"""
#: What runs at once, so that there is something to see and the warehouse is filled; the others wait for a click.
BEGUN = ("load_events", "load_persons", "model_after_load", "refresh_insights", "dashboard_digest")


class Playground:
    """An emulator, Airflow, and a warehouse in the same PostgreSQL.

    :param home: an empty folder.
    :param more: a folder of more DAG files than the examples.
    """

    posthog: EmulatorProcess
    airflow: Deployment

    def __init__(self, home: Path, more: Path | None = None) -> None:
        self.home = home
        self._dags = home / "dags"
        self._dags.mkdir()
        for path in [*EXAMPLES.glob("*.py"), *(more.glob("*.py") if more else ())]:
            (self._dags / path.name).symlink_to(path)  # whoever edits one sees it; recipes need more providers

    @contextmanager
    def running(self) -> Iterator[Playground]:
        """Start all, let the ``with`` block run, and stop all."""
        with ExitStack() as stack:
            self.posthog = stack.enter_context(EmulatorProcess(events=EVENTS))
            furnish(self.posthog, self.home / "files")
            self.airflow = stack.enter_context(
                Deployment(self.home, self._dags, self._environment(), prepare=self._make_warehouse)
            )
            yield self

    def _environment(self) -> dict[str, str]:
        start = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
        return {
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW_CONN_POSTHOG_DEFAULT": self.posthog.airflow_connection_json(audit_secret=SALT),
            "AIRFLOW_CONN_AWS_READER": json.dumps({"conn_type": "aws", "login": "reader", "password": "not-a-secret"}),
            "AIRFLOW_VAR_CHECKOUT_ERRORS_INSIGHT": "2",
            "POSTHOG_EXAMPLE_FILES": f"file://{self.home}/files",
            "POSTHOG_EXAMPLE_HOST": self.posthog.url.partition("://")[2],
            "POSTHOG_EXAMPLE_PROJECT": str(self.posthog.project_id),
            "POSTHOG_EXAMPLE_DASHBOARD": "1",
            "POSTHOG_EXAMPLE_GATE": "2",
            "POSTHOG_EXAMPLE_START": start.isoformat(),
        }

    def _make_warehouse(self, postgres: Any) -> dict[str, str]:  # noqa: ANN401 - a server without types
        postgres.psql("CREATE DATABASE warehouse")
        postgres.psql(SHOP)
        host = postgres.get_uri().partition("host=")[2]
        found = {"conn_type": "postgres", "host": host, "login": "postgres", "schema": "warehouse"}
        return {"AIRFLOW_CONN_WAREHOUSE": json.dumps(found)}

    def begin(self) -> None:
        """Let the examples run that load something."""
        self.airflow.wait_for_dags(*BEGUN)
        for name in BEGUN:
            self.airflow.call("PATCH", f"dags/{name}?update_mask=is_paused", {"is_paused": False})

    def has_loaded(self) -> bool:
        """Tell whether the first hour of events is in the warehouse."""
        runs = self.airflow.call("GET", "dags/load_events/dagRuns?limit=100")["dag_runs"]
        return any(run["state"] == "success" for run in runs)


def main(arguments: list[str]) -> int:
    """Start all, say where it is, and wait for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make ui", description=__doc__.split("\n")[0])
    parser.add_argument("--more", type=Path, help="a folder of DAG files that come beside the examples")
    more = parser.parse_args(arguments).more
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    began = time.monotonic()
    _say("Starting Airflow, PostgreSQL and an embedded PostHog (about a minute) ...")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="posthog_ui_", ignore_cleanup_errors=True) as home,
            Playground(Path(home), more and more.resolve()).running() as place,
        ):
            place.begin()
            _say(f"\nAirflow    {place.airflow.url}    user admin, password admin    ({version('apache-airflow')})")
            _say(f"PostHog    {place.posthog.url}    project {place.posthog.project_id}, key {place.posthog.api_key}")
            _say(f"Files      {home}/files")
            _say(f"Logs       {home}/logs")
            _say(f"\nReady after {time.monotonic() - began:.0f} s. Ctrl-C stops it all and removes its files.")
            while not place.has_loaded():
                time.sleep(2)
            _say("The warehouse has its first events (connection warehouse, table events).")
            while True:
                signal.pause()
    except KeyboardInterrupt:
        _say("Stopped.")
    return 0


def _stop(*_: object) -> None:
    """End as Ctrl-C does, and let nobody interrupt that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
