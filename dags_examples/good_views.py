"""Rebuild a view every night, then run PostHog's own checks of it (an alpha of PostHog, for some projects)."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.operators.warehouse import PostHogRunDataQualityOperator, PostHogRunViewOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

VIEW = "daily_orders"

with DAG("good_views", doc_md=__doc__, schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False) as dag:
    made = PostHogRunViewOperator(task_id="made", view=VIEW)
    checks = PostHogRunDataQualityOperator(task_id="checks", view=VIEW)
    made >> checks
