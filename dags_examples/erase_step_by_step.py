"""Erase persons with separate tasks, for a DAG that needs another order than `erase_persons` has."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow_provider_posthog.operators.erasure import (
    PostHogDiscardErasureOperator,
    PostHogEraseFromFilesOperator,
    PostHogEraseFromSqlOperator,
    PostHogErasureGateOperator,
    PostHogFinishErasureOperator,
    PostHogSealErasureOperator,
    PostHogSuppressPersonsOperator,
)
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://private")
WORK = {"work_path": FILES + "/private/{{ run_id | replace(':', '-') }}.jsonl", "audit_path": FILES + "/certificates"}
TABLE = {"sql_conn_id": "warehouse", "table": "events"}
COLUMNS = {"distinct_id_column": "distinct_id", "person_id_column": "person_id"}  # the second: from before a merge, too
PARAMS = {"requests_path": "", "approved": False}

with DAG("erase_step_by_step", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), params=PARAMS) as dag:
    who = PostHogResolvePersonsOperator(task_id="who", identifiers_path="{{ params.requests_path }}", **WORK)
    gate = PostHogErasureGateOperator(task_id="gate", persons=who.output)
    delete = PostHogDeletePersonsOperator(task_id="delete", persons=who.output, approval=gate.output)
    verify = PostHogPersonsErasedSensor(
        task_id="verify", request=delete.output, keep_work_file=True, close_certificate=False, mode="reschedule"
    )
    proved: Any = {"request": delete.output, "proof": verify.output}
    table = PostHogEraseFromSqlOperator(task_id="table", **TABLE, **COLUMNS, **proved)
    files = PostHogEraseFromFilesOperator(task_id="files", path=FILES + "/lake", **COLUMNS, **proved)
    suppress = PostHogSuppressPersonsOperator(task_id="suppress", suppress_path=FILES + "/erased", **proved)
    seal = PostHogSealErasureOperator(task_id="seal", sealed_path=FILES + "/sealed", **proved)
    finish = PostHogFinishErasureOperator(task_id="finish", **proved)
    discard = PostHogDiscardErasureOperator(task_id="discard", request=who.output, trigger_rule="one_failed")
    gate >> discard
    verify >> [table, files, suppress, seal] >> finish
