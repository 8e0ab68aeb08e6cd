"""An erasure that a person has to approve."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_provider_posthog.task_groups.erase_persons import erase_persons

with DAG("erasure", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), max_active_runs=10):
    erase_persons(
        identifiers_path="{{ dag_run.conf['folder'] }}/requests.csv",
        remove_identifiers=True,
        work_path="{{ dag_run.conf['folder'] }}/work.jsonl",
        audit_path="{{ dag_run.conf['folder'] }}/certificates",
        ticket="DSR-42",
        approval="hitl",
        # Nobody waits an hour for late events here, nor long between two looks. But Airflow fails a task that is due
        # again before the scheduler has heard of its last poke.
        verify_options={"poke_interval": 20, "quiet_period": 0},
    )
