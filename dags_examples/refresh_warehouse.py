"""Make files in a bucket a table of PostHog, rebuild a view of it, and refresh a dashboard."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.operators.warehouse import PostHogLinkTableOperator, PostHogRunViewOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

ORDERS = "https://lake.s3.eu-central-1.amazonaws.com/orders/*.parquet"
DASHBOARD = int(os.environ.get("POSTHOG_EXAMPLE_DASHBOARD", "7"))

with DAG(
    "refresh_warehouse", doc_md=__doc__, schedule=None, start_date=datetime(2026, 1, 1), tags=["posthog", "example"]
) as dag:
    # The task that drops the files comes before. Of a source that PostHog itself loads, take PostHogSyncSourceOperator.
    link = PostHogLinkTableOperator(task_id="link", name="orders", url_pattern=ORDERS, bucket_conn_id="aws_reader")
    view = PostHogRunViewOperator(task_id="view", view="daily_orders", poll_interval=10)
    refresh = PostHogRefreshDashboardOperator(task_id="refresh", dashboard=DASHBOARD)
    link >> view >> refresh
