"""Export all that PostHog has of a person (GDPR, Art. 15 and 20) into a folder that you can hand over.

Trigger it by hand for each request, with its ticket and a file with the person's identifiers. The folder holds personal
data: remove it when the person has it. `finish` removes the work file, and closes the certificate, if there is one.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.operators.access import PostHogExportPersonDataOperator, PostHogFinishAccessOperator
from airflow_provider_posthog.operators.persons import PostHogResolvePersonsOperator

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG
    from airflow.models.param import Param

# Few may read this folder.
PRIVATE = os.environ.get("POSTHOG_EXAMPLE_FILES", "file:///tmp/posthog-example") + "/private"
RUN = "{{ run_id | replace(':', '-') }}"

with DAG(
    "hand_out_person_data",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "ticket": Param(None, type="string", pattern="^[A-Za-z0-9._-]+$", description="the request's ticket; no name"),
        "requests_path": Param(None, type="string", description="a file of identifiers: CSV or JSON lines"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["posthog", "example"],
) as dag:
    resolve = PostHogResolvePersonsOperator(
        task_id="resolve",
        identifiers_path="{{ params.requests_path }}",
        work_path=f"{PRIVATE}/{RUN}.jsonl",
        ticket="{{ params.ticket }}",
        must_find_all=True,  # a mistyped address would look like somebody of whom there is nothing
    )
    export = PostHogExportPersonDataOperator(
        task_id="export",
        persons=resolve.output,
        path=f"{PRIVATE}/access-{RUN}",
    )
    PostHogFinishAccessOperator(task_id="finish", request=resolve.output, access=export.output)
