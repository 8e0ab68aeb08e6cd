"""Write an experiment's results as rows every night, and wait until one of them is significant."""

from __future__ import annotations

import os
from datetime import datetime

from airflow_provider_posthog.operators.experiments import PostHogExperimentResultsOperator
from airflow_provider_posthog.sensors.experiments import PostHogExperimentResultSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

EXPERIMENT = int(os.environ.get("POSTHOG_EXAMPLE_EXPERIMENT", "1"))
PATH = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://lake") + "/experiments/{{ ds }}.jsonl"
START = datetime(2026, 1, 1)

with DAG("experiment_results", doc_md=__doc__, schedule="@daily", start_date=START, catchup=False) as dag:
    rows = PostHogExperimentResultsOperator(task_id="rows", experiment_id=EXPERIMENT, path=PATH, overwrite=True)
    found = PostHogExperimentResultSensor(task_id="found", experiment_id=EXPERIMENT, mode="reschedule", timeout=3600)
    rows >> found
