"""Runs a mapped, a deferred and a failing task in a process of its own, in which OpenLineage's plugin listens.

``python -m tests.transfers.lineage_flow FOLDER DAYS`` with Airflow's settings and connections in the environment.
"""

from __future__ import annotations

import importlib
import json
import sys
from datetime import timedelta
from typing import Any


def _fill(folder: str, days: list[str]) -> None:
    from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
    from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

    first, second, third = days
    mapped = PostHogQueryToObjectStorageOperator.partial(
        task_id="mapped", path=f"file://{folder}/{{{{ 'la' + 'ke' }}}}/", source="events", settle=timedelta(0)
    )
    mapped.expand_kwargs([{"start": first, "end": second}, {"start": second, "end": third}])
    PostHogFileDownloadOperator(
        task_id="deferred", path=f"{folder}/files", poll_interval=0.1, deferrable=True, start=first, end=second
    )
    PostHogQueryToObjectStorageOperator(
        task_id="failed", path=f"{folder}/no", query="SELECT * FROM nowhere", key="id", start=first, end=second
    )


def main(folder: str, days: Any) -> None:
    settings = importlib.import_module("tests.conftest")  # before Airflow
    from tests.operators.support import make_dag

    settings.run_dag.__wrapped__(None)(make_dag("lineage", lambda: _fill(folder, json.loads(days))))


if __name__ == "__main__":
    main(*sys.argv[1:])
