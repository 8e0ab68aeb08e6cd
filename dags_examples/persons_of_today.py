"""After persons were merged, give the loaded events their current person, and sync PostHog's own source again."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.operators.warehouse import PostHogSyncSourceOperator
from airflow_provider_posthog.transfers.person_overrides import PostHogPersonOverridesOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

with DAG("persons_of_today", doc_md=__doc__, schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False) as dag:
    persons = PostHogPersonOverridesOperator(
        task_id="persons", sql_conn_id="warehouse", table="person_distinct_ids", remap=["events"]
    )
    sync = PostHogSyncSourceOperator(task_id="sync", source="Postgres")
    persons >> sync
