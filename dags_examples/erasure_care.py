"""Look after erasures every day: report those that are due, check old ones again, and remove files that were left.

Two more DAGs are for a decision. Trigger them with the `request` as a task of the erasure returned it, and a `reason`.
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
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG
    from airflow.models.param import Param

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://private")
WEEK, DUE = timedelta(days=7), {"mode": "reschedule", "timeout": 60, "soft_fail": True}
BY_HAND = {"doc_md": __doc__, "schedule": None, "start_date": datetime(2026, 1, 1)}
REQUEST = {"request": "{{ params.request }}", "reason": "{{ params.reason }}"}
PARAMS = {"request": Param(None, type="object"), "reason": Param(None, type="string", description="no personal data")}
DECISION = Param(None, type="string", description="who accepts it, and when")

with DAG("erasure_care", **{**BY_HAND, "schedule": "@daily"}, catchup=False) as dag:
    PostHogErasuresDueSensor(task_id="due", audit_path=FILES + "/certificates", within=WEEK, **DUE)
    PostHogLookAgainOperator(task_id="look_again", sealed_path=FILES + "/sealed")
    PostHogSweepErasureFilesOperator(task_id="sweep", folder=FILES + "/private")

with DAG("erasure_extension", **BY_HAND, params=PARAMS, render_template_as_native_obj=True) as extension:
    PostHogExtendErasureOperator(task_id="extend", **REQUEST)

PARAMS = {**PARAMS, "decision": DECISION}
with DAG("erasure_ending", **BY_HAND, params=PARAMS, render_template_as_native_obj=True) as ending:
    PostHogCloseErasureOperator(task_id="close", decision="{{ params.decision }}", **REQUEST)
