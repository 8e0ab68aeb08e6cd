"""Persons read, or read and merged: ``python -m benchmarks.clients.persons_merged read|load|merge URL SOCKET``.

``read`` reads all of them and lets them go, ``load`` fills a table of PostgreSQL, and ``merge`` merges into it. Prints
seconds, without imports, and rows as a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

WAY, URL, SOCKET = sys.argv[1:4]


def read() -> dict[str, object]:
    """Read, with all proofs."""
    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.extract import sources
    from airflow_provider_posthog.extract.reader import Extraction

    settings = ClientSettings(base_url=URL, api_key="phx_bench", project_id=1)
    began, rows = time.perf_counter(), 0
    with Extraction(settings, sources.persons(), settle=timedelta(0)) as extraction:
        for chunk in extraction:
            rows += chunk.table.num_rows
    return {"seconds": time.perf_counter() - began, "rows": rows}


def load() -> dict[str, object]:
    """Merge, as the task does."""
    import pyarrow.compute  # noqa: F401 - an import, not a part of loading

    from airflow_provider_posthog.load import copy_binary  # noqa: F401
    from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

    extra = {"project_id": 1}
    posthog = {"conn_type": "posthog", "host": URL, "password": "phx_bench", "extra": extra}
    postgres = {"conn_type": "postgres", "host": SOCKET, "login": "postgres", "schema": "postgres"}
    os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"] = json.dumps(posthog)
    os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(postgres)
    task = PostHogToSqlOperator(
        task_id="merge",
        source="persons",
        sql_conn_id="warehouse",
        table="persons",
        write_disposition="merge",
        settle=timedelta(0),
        on_retention="ignore",
    )
    began = time.perf_counter()
    found = task.execute({})
    counts = {name: found[name] for name in ("rows", "inserted", "changed", "unchanged", "gone")}
    return {"seconds": time.perf_counter() - began, **counts}


if __name__ == "__main__":
    print(json.dumps(read() if WAY == "read" else load()))
