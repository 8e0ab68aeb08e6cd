"""Turn the companies of a CRM into groups in PostHog each night, with what the CRM knows of them."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.notifications.posthog import PostHogNotifier
from airflow_provider_posthog.transfers.sql_to_posthog import PostHogFromSqlOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

with DAG("crm_to_groups", doc_md=__doc__, schedule="@daily", start_date=datetime(2026, 11, 1), catchup=False) as dag:
    PostHogFromSqlOperator(
        task_id="companies",
        sql_conn_id="warehouse",
        sql="SELECT account_id, name, plan, seats FROM accounts",
        kind="groups",
        group_type="company",
        distinct_id="account_id",  # the group's key
        properties=["name", "plan", "seats"],
        on_failure_callback=PostHogNotifier(content="The companies of {{ ds }} did not arrive"),
    )
