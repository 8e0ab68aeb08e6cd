"""Run SQL whenever a run of a batch export was completed, for just its interval (Airflow 3 and newer)."""

from __future__ import annotations

import os
from typing import Any

try:
    from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
    from airflow.sdk import DAG, Asset, AssetWatcher, task

    from airflow_provider_posthog.triggers.completed import PostHogBatchExportRunTrigger
except ImportError:  # Airflow 2 has no watchers
    pass
else:
    EXPORT = os.environ.get("POSTHOG_EXAMPLE_BATCH_EXPORT_ID", "01a200ca-b698-0000-24c1-84e2ab7ef77e")
    watcher = AssetWatcher(name="run", trigger=PostHogBatchExportRunTrigger(batch_export=EXPORT))
    RUNS, SQL = Asset("posthog_runs", watchers=[watcher]), "CALL refresh_days(%(start)s, %(end)s)"

    with DAG("on_batch_export", doc_md=__doc__, schedule=[RUNS], max_active_runs=1, tags=["posthog", "example"]) as dag:

        @task
        def intervals(triggering_asset_events: Any = None) -> list[dict[str, str]]:  # noqa: ANN401 - from Airflow
            """Return the interval of each run; one may be told twice, so what follows replaces it as a whole."""
            payloads = (event.extra["payload"] for event in triggering_asset_events[RUNS])
            return [{"start": run["start"], "end": run["end"]} for run in payloads]

        SQLExecuteQueryOperator.partial(task_id="step", conn_id="warehouse", sql=SQL).expand(parameters=intervals())
