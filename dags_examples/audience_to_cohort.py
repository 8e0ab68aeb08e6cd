"""Fill a static cohort from a database each night. The task fails if PostHog leaves somebody out."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.operators.cohorts import PostHogStaticCohortOperator
from airflow_provider_posthog.sensors.cohorts import PostHogCohortCalculatedSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

with DAG(
    "audience_to_cohort", doc_md=__doc__, schedule="@daily", start_date=datetime(2026, 11, 1), catchup=False
) as dag:
    fill = PostHogStaticCohortOperator(
        task_id="fill",
        name="Likely to churn",
        sql_conn_id="warehouse",
        sql="SELECT customer FROM churn_scores WHERE score > 0.8",
        replace=True,  # who is no longer in it leaves the cohort
        max_rejects=100,  # customers whom PostHog has never seen
    )
    ready = PostHogCohortCalculatedSensor(
        task_id="ready", cohort_id="{{ ti.xcom_pull('fill')['cohort_id'] }}", mode="reschedule", timeout=3600
    )
    fill >> ready
