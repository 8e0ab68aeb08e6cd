"""Wait for an export that something else has created, and fetch its file. Trigger it with the export's id."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG
    from airflow.models.param import Param

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://lake")
PARAMS = {"export_id": Param(None, type="integer", minimum=1, description="the export's number")}
START, WHICH = datetime(2026, 1, 1), "{{ params.export_id }}"

with DAG("export_of_somebody_else", doc_md=__doc__, schedule=None, start_date=START, params=PARAMS) as dag:
    ready = PostHogExportSensor(task_id="ready", export_id=WHICH, deferrable=True, timeout=3600)
    fetch = PostHogExportToObjectStorageOperator(task_id="fetch", export_id=WHICH, path=f"{FILES}/exports/{WHICH}.csv")
    ready >> fetch
