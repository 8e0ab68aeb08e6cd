"""Erase persons, from the request to the certificate: in PostHog, and in the tables that were loaded from it.

Trigger it by hand for each request, with its ticket. The identifiers come from a file (``requests_path``) or, if that
is left empty, from the table ``erasure_requests`` (``ticket``, ``kind``, ``value``) of the warehouse. To check the
certificate: ``python -m airflow_provider_posthog.audit verify <folder>``.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.task_groups.erase_persons import erase_persons

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG
    from airflow.models.param import Param

# Few may read this folder: until an erasure is proved, it holds who is erased.
PRIVATE = os.environ.get("POSTHOG_EXAMPLE_PRIVATE", "file:///tmp/posthog-example/private")
# Nobody may change this one. The PostHog connection needs the extra audit_secret.
CERTIFICATES = os.environ.get("POSTHOG_EXAMPLE_CERTIFICATES", "file:///tmp/posthog-example/certificates")
# An Airflow connection of type postgres, or duckdb with the file's path as host.
WAREHOUSE = os.environ.get("POSTHOG_EXAMPLE_SQL_CONN", "warehouse")
# "hitl" asks a person in Airflow (3.1 and newer, and then the default); "params" wants {"approved": true}.
APPROVAL: Any = os.environ.get("POSTHOG_EXAMPLE_APPROVAL") or None

RUN = "{{ run_id | replace(':', '-') }}"

with DAG(
    "erase_persons",
    description="Persons erased in PostHog and in the warehouse, with a certificate",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "ticket": Param("DSR-0", type="string", pattern="^[A-Za-z0-9._-]+$", description="The request; no name"),
        "requests_path": Param("", type="string", description="CSV or JSON lines: distinct_id, email, uuid"),
        "approved": Param(False, type="boolean", description="Only where no person is asked in Airflow"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["posthog", "example"],
) as dag:

    @task
    def collect(path: str, params: dict[str, Any] | None = None) -> str:
        """Write down who is to be erased, in a file that is removed at the end; return its path.

        It is a copy, as identifiers must not travel through XComs, and the source may change meanwhile.

        :param path: where to, without its suffix.
        :param params: the run's parameters, from Airflow.
        """
        import json

        from airflow_provider_posthog.compat import ObjectStoragePath

        asked = params or {}
        source = asked.get("requests_path")
        if source:
            target = path + ObjectStoragePath(source).suffix  # which tells CSV from JSON lines
            ObjectStoragePath(target).parent.mkdir(parents=True, exist_ok=True)
            ObjectStoragePath(target).write_bytes(ObjectStoragePath(source).read_bytes())
            return target
        with closing(connect()) as warehouse, closing(warehouse.cursor()) as cursor:
            cursor.execute("SELECT ticket, kind, value FROM erasure_requests")
            rows = [{kind: value} for ticket, kind, value in cursor.fetchall() if ticket == asked["ticket"]]
        if not rows:
            raise ValueError(f"erasure_requests has no row for {asked['ticket']}")
        target = f"{path}.jsonl"
        ObjectStoragePath(target).parent.mkdir(parents=True, exist_ok=True)
        ObjectStoragePath(target).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return target

    erase_persons(
        identifiers_path=collect(f"{PRIVATE}/{RUN}.requests"),
        remove_identifiers=True,
        work_path=f"{PRIVATE}/{RUN}.jsonl",
        audit_path=CERTIFICATES,
        ticket="{{ params.ticket }}",
        approval=APPROVAL,
        warehouse=[
            # What load_events and load_persons have loaded.
            {
                "sql_conn_id": WAREHOUSE,
                "table": "events",
                "distinct_id_column": "distinct_id",
                "person_id_column": "person_id",
            },
            {"sql_conn_id": WAREHOUSE, "table": "persons", "person_id_column": "id"},
            {"sql_conn_id": WAREHOUSE, "table": "persons_snapshot", "person_id_column": "id"},
        ],
        # PostHog deletes events on one of the next weekends: look once an hour, and hold no worker meanwhile.
        verify_options={"poke_interval": timedelta(hours=1), "timeout": timedelta(days=30)},
    )


def connect() -> Any:  # noqa: ANN401 - a PEP 249 connection
    """Connect to the warehouse."""
    from airflow_provider_posthog.compat import BaseHook

    connection = BaseHook.get_connection(WAREHOUSE)
    if connection.conn_type != "duckdb":
        return connection.get_hook().get_conn()
    import duckdb  # needs no provider of Airflow

    return duckdb.connect(connection.host)
