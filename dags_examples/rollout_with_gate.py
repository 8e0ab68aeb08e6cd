"""Give half of the users a feature flag, and take it back if there are many errors."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.operators.flags import PostHogFeatureFlagOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightThresholdSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

with DAG("rollout_with_gate", doc_md=__doc__, schedule=None, start_date=datetime(2026, 11, 1)) as dag:
    ramp = PostHogFeatureFlagOperator(task_id="ramp", flag="new-checkout", rollout_percentage=50, active=True)
    few_errors = PostHogInsightThresholdSensor(
        task_id="few_errors", insight="{{ var.value.checkout_errors_insight }}", condition="< 10", timeout=3600
    )
    back = PostHogFeatureFlagOperator(
        task_id="back",
        flag="new-checkout",
        rollout_percentage="{{ ti.xcom_pull('ramp')['before']['rollout_percentage'] }}",
        active="{{ ti.xcom_pull('ramp')['before']['active'] }}",
        trigger_rule="one_failed",
    )
    ramp >> few_errors >> back
