"""What erasures need every day: those that are due are told, old ones are looked at again, left files are swept.

Two more tasks are for a decision, and run only when the DAG is triggered with `{"reason": ...}` and the request.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow_provider_posthog.operators.erasure import (
    PostHogCloseErasureOperator,
    PostHogExtendErasureOperator,
    PostHogLookAgainOperator,
)
from airflow_provider_posthog.operators.persons import PostHogSweepErasureFilesOperator
from airflow_provider_posthog.sensors.erasures import PostHogErasuresDueSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://private")
WEEK, DUE = timedelta(days=7), {"mode": "reschedule", "timeout": 60, "soft_fail": True}
REQUEST = {"request": "{{ params.request }}", "reason": "{{ params.reason }}"}
PARAMS = {"request": {}, "reason": "", "decision": ""}
START = datetime(2026, 1, 1)

with DAG("erasure_care", doc_md=__doc__, schedule="@daily", start_date=START, catchup=False) as dag:
    PostHogErasuresDueSensor(task_id="due", audit_path=FILES + "/certificates", within=WEEK, **DUE)
    PostHogLookAgainOperator(task_id="look_again", sealed_path=FILES + "/sealed")
    PostHogSweepErasureFilesOperator(task_id="sweep", folder=FILES + "/private")

with DAG("erasure_decisions", doc_md=__doc__, schedule=None, start_date=START, params=PARAMS) as decisions:
    extend = PostHogExtendErasureOperator(task_id="extend", **REQUEST)
    close = PostHogCloseErasureOperator(task_id="close", decision="{{ params.decision }}", **REQUEST)
