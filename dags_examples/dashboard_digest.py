"""Do something whenever a dashboard is fresh, such as send a message. The asset of `refresh_insights` starts it."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.assets import create_asset
from airflow_provider_posthog.operators.annotations import PostHogAnnotationOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

HOST = os.environ.get("POSTHOG_EXAMPLE_HOST", "us.posthog.com")
PROJECT = os.environ.get("POSTHOG_EXAMPLE_PROJECT", "12345")
DASHBOARD = int(os.environ.get("POSTHOG_EXAMPLE_DASHBOARD", "7"))
FRESH_DASHBOARD = create_asset(host=HOST, project_id=PROJECT, kind="dashboard", id=DASHBOARD)

with DAG("dashboard_digest", doc_md=__doc__, schedule=[FRESH_DASHBOARD], start_date=datetime(2026, 1, 1)) as dag:
    PostHogAnnotationOperator(task_id="mark", content="The dashboard was sent to those who read it")
