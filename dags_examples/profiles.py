"""Correct profiles, and read them back: remove a property, set one, and clear a company that left."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.operators.groups import PostHogClearGroupPropertiesOperator
from airflow_provider_posthog.operators.persons import (
    PostHogDeletePersonPropertyOperator,
    PostHogResolvePersonsOperator,
    PostHogUpdatePersonPropertiesOperator,
)

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG
    from airflow.models.param import Param

WORK = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://private") + "/{{ run_id | replace(':', '-') }}.jsonl"
PARAMS = {"requests_path": Param(None, type="string", description="a file of identifiers: CSV or JSON lines")}

with DAG("profiles", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), params=PARAMS) as dag:
    who = PostHogResolvePersonsOperator(task_id="who", identifiers_path="{{ params.requests_path }}", work_path=WORK)
    less = PostHogDeletePersonPropertyOperator(task_id="less", persons=who.output, properties=["email"])
    more = PostHogUpdatePersonPropertiesOperator(task_id="more", persons=who.output, properties={"plan": "none"})
    company = PostHogClearGroupPropertiesOperator(task_id="company", group_type="company", group_keys=["acme"])
    less >> more >> company
