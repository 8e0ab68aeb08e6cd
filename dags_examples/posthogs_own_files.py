"""Download a day's events as the Parquet files that PostHog writes itself, and count them."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG

FILES = os.environ.get("POSTHOG_EXAMPLE_FILES", "s3://lake") + "/own/"
DAILY = CronDataIntervalTimetable("@daily", timezone="UTC")

with DAG("posthogs_own_files", doc_md=__doc__, schedule=DAILY, start_date=datetime(2026, 1, 1), catchup=False) as dag:
    PostHogFileDownloadOperator(task_id="events", path=FILES, model="events", deferrable=True)
