"""Erase persons, from the request to the certificate: in PostHog, and in the tables that were loaded from it.

Trigger it by hand for each request, with its ticket and a file of identifiers (CSV or JSON lines with distinct_id,
email or uuid), which is removed at the end. Somebody approves it in Airflow; before 3.1, the parameter `approved` does.
To check the certificate: `python -m airflow_provider_posthog.audit verify <folder>`.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.task_groups.erase_persons import erase_persons

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG
    from airflow.models.param import Param

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "file:///tmp/posthog-example")
# "hitl" asks a person in Airflow (3.1 and newer, and then the default); "params" wants {"approved": true}.
APPROVAL: Any = os.environ.get("POSTHOG_EXAMPLE_APPROVAL") or None
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
PARAMS = {
    "ticket": Param(None, type="string", pattern="^[A-Za-z0-9._-]+$", description="the request's ticket; no name"),
    "requests_path": Param(None, type="string", description="the file of identifiers, such as s3://private/DSR-1.csv"),
    "approved": Param(False, type="boolean", description="approves it where Airflow cannot ask a person"),
}

with DAG("erase_persons", doc_md=__doc__, schedule=None, start_date=START, params=PARAMS, tags=["posthog"]) as dag:
    erase_persons(
        identifiers_path="{{ params.requests_path }}",
        remove_identifiers=True,
        # Few may read this folder: until an erasure is proved, it holds who is erased.
        work_path=FILES + "/private/{{ run_id | replace(':', '-') }}.jsonl",
        # Nobody may change this one. The PostHog connection needs the extra audit_secret.
        audit_path=FILES + "/certificates",
        ticket="{{ params.ticket }}",
        approval=APPROVAL,
        warehouse=[  # what load_events and load_persons have loaded
            {"sql_conn_id": "warehouse", "table": "persons", "person_id_column": "id"},
            # By the person, too: that also finds what was loaded before somebody's persons were merged.
            {"sql_conn_id": "warehouse", "table": "events", "distinct_id_column": "distinct_id"}
            | {"person_id_column": "person_id"},
        ],
        # PostHog deletes events on one of the next weekends: look once an hour, and hold no worker meanwhile.
        verify_options={"poke_interval": timedelta(hours=1), "timeout": timedelta(days=30)},
    )
