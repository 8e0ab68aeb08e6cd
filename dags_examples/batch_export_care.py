"""Wait for each day's run of a batch export. If it failed, pause the schedule, run it again, and resume."""

from __future__ import annotations

from datetime import datetime

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.operators.batch_exports import (
    PostHogPauseBatchExportOperator,
    PostHogRetryBatchExportRunOperator,
    PostHogUnpauseBatchExportOperator,
)
from airflow_provider_posthog.sensors.batch_exports import PostHogBatchExportRunSensor

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

EXPORT = {"batch_export": "Events to the lake"}
SPAN = {"start": "{{ data_interval_start.isoformat() }}", "end": "{{ data_interval_end.isoformat() }}"}
DAILY = CronDataIntervalTimetable("@daily", timezone="UTC")

with DAG("batch_export_care", doc_md=__doc__, schedule=DAILY, start_date=datetime(2026, 1, 1), catchup=False) as dag:
    arrived = PostHogBatchExportRunSensor(task_id="arrived", **EXPORT, deferrable=True, timeout=6 * 3600)
    pause = PostHogPauseBatchExportOperator(task_id="pause", **EXPORT, trigger_rule="one_failed")
    again = PostHogRetryBatchExportRunOperator(task_id="again", **EXPORT, **SPAN)
    go_on = PostHogUnpauseBatchExportOperator(task_id="go_on", **EXPORT, trigger_rule="none_skipped")
    arrived >> pause >> again >> go_on
