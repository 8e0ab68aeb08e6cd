"""What the examples stand on: an emulator with data, a warehouse, connections, variables and pools."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.load.databases import Database
from tests.soak.jobs import BACKFILLS, DAY, HOUR, today

SALT = "ca9a5a1700d157a79031e1c40f85931829bc5fc5528f3c1e0a7d24b6a90e5f4d"
EMAIL = "canary.mail@example.org"
#: Distinct ids of customers of the warehouse.
CANARY = "canary-person"
POOLS = {"posthog": 2, "backfills": 4}
_TREND = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview", "math": "total"}]}
_NONE = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "checkout_error", "math": "total"}]}


class Ground:
    """The ground.

    :param posthog: the emulator.
    :param warehouse: the database.
    :param folder: of the files.
    """

    def __init__(self, posthog: EmulatorProcess, warehouse: Database, folder: Path) -> None:
        self.posthog, self.warehouse, self.folder = posthog, warehouse, folder
        self._prepare_posthog()
        self._fill_warehouse()
        board = self.post("dashboards/", {"name": "Nightly"})
        self._dashboard = str(board["id"])
        self._gate = self.post("insights/", {"query": _TREND, "name": "Views", "dashboards": [board["id"]]})["short_id"]
        self._errors = self.post("insights/", {"query": _NONE, "name": "Errors"})["short_id"]

    def _prepare_posthog(self) -> None:
        quick = ("export", "batch_run", "warehouse_job", "file_download")
        self.posthog.settings(**{f"{name}_seconds": 3.0 for name in quick}, batch_jitter_seconds=0)
        self.posthog.settings(event_retention_months=3, events_retention_enforced=True, max_backfills=20)
        old = [today() - number * DAY for number in range(35, 80, 3)]
        self.posthog.add_events([_event("aged", moment.isoformat()) for moment in old])
        person = {"distinct_ids": [CANARY], "properties": {"email": EMAIL}, "created_at": (today() - DAY).isoformat()}
        self.posthog.add_persons([person])
        groups = [{"properties": [], "rollout_percentage": 10}]
        self.posthog.add_records(
            "feature_flags", [{"key": "new-checkout", "active": True, "filters": {"groups": groups}}]
        )

    def _fill_warehouse(self) -> None:
        first = today() - 20 * DAY
        orders = ", ".join(
            f"({number}, 'buyer {number % 7}', '{(first + number * HOUR / 3).isoformat()}', 1)"
            for number in range(3 * 24 * 20)
        )
        self.warehouse.run(
            "CREATE TABLE orders (id BIGINT, customer TEXT, placed_at TIMESTAMPTZ, total DOUBLE PRECISION)",
            f"INSERT INTO orders VALUES {orders}",
            "CREATE TABLE churn_scores (customer TEXT, score DOUBLE PRECISION)",
            f"INSERT INTO churn_scores VALUES ('{CANARY}', 0.9), ('nobody', 0.95), ('somebody', 0.1)",
            "CREATE TABLE accounts (account_id TEXT, name TEXT, plan TEXT, seats INT)",
            "INSERT INTO accounts VALUES ('acme', 'Acme', 'pro', 7)",
        )

    def env(self, warehouse_connection: str) -> dict[str, str]:
        """Return the environment of the deployment.

        :param warehouse_connection: of the database, as Airflow takes it.
        """
        bucket = json.dumps({"conn_type": "aws", "login": "AKIA", "password": "not-a-secret"})
        return {
            "POSTHOG_EXAMPLE_FILES": f"file://{self.folder}",
            "POSTHOG_EXAMPLE_HOST": self.posthog.url.partition("://")[2],
            "POSTHOG_EXAMPLE_PROJECT": str(self.posthog.project_id),
            "POSTHOG_EXAMPLE_DASHBOARD": self._dashboard,
            "POSTHOG_EXAMPLE_GATE": self._gate,
            "POSTHOG_EXAMPLE_CONDITION": "change >= -1000 %",
            "POSTHOG_EXAMPLE_DAYS": str(BACKFILLS),
            "AIRFLOW_CONN_POSTHOG_DEFAULT": self.posthog.airflow_connection_json(audit_secret=SALT),
            "AIRFLOW_CONN_WAREHOUSE": warehouse_connection,
            "AIRFLOW_CONN_AWS_READER": bucket,
            "AIRFLOW_VAR_CHECKOUT_ERRORS_INSIGHT": self._errors,
            "AIRFLOW__CORE__PARALLELISM": "4",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    # What PostHog has.

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Make something in PostHog.

        :param path: within the project.
        :param body: what.
        """
        return ask(self.posthog, "POST", path, body)

    def query(self, sql: str) -> list[list[Any]]:
        """Return the rows of HogQL.

        :param sql: the query.
        """
        rows: list[list[Any]] = self.post("query/", {"query": {"kind": "HogQLQuery", "query": sql}})["results"]
        return rows


def listed(posthog: EmulatorProcess, path: str) -> Iterator[dict[str, Any]]:
    """Yield all that a list of PostHog's has, page by page: it gives out as many at once as it likes.

    :param posthog: the emulator.
    :param path: of the list, within the project.
    """
    page = ask(posthog, "GET", path)
    while True:
        yield from page["results"]
        if not page["next"]:
            return
        page = ask(posthog, "GET", path + "?" + page["next"].partition("?")[2])


def ask(posthog: EmulatorProcess, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Send a request about the project, and return PostHog's answer.

    :param posthog: the emulator.
    :param method: the HTTP method.
    :param path: within the project.
    :param body: what to send as JSON.
    """
    answer = requests.request(
        method,
        f"{posthog.url}/api/projects/{posthog.project_id}/{path}",
        json=body,
        headers={"Authorization": f"Bearer {posthog.api_key}"},
        timeout=30,
    )
    answer.raise_for_status()
    return answer.json()


def _event(name: str, moment: str) -> dict[str, Any]:
    made = {"uuid": str(uuid.uuid4()), "event": name, "distinct_id": "a", "person_id": str(uuid.uuid4())}
    return {**made, "properties": {}, "timestamp": moment, "created_at": moment}
