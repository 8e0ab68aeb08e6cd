"""dlt into Parquet files: ``python with_dlt.py URL FOLDER {rest|hogql}``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

BASE, FOLDER, HOW = sys.argv[1:4]
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["DLT_DATA_DIR"] = f"{FOLDER}/dlt"

import dlt  # type: ignore[import-not-found,unused-ignore]  # noqa: E402
from dlt.sources.helpers import requests  # type: ignore[import-not-found,unused-ignore]  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found,unused-ignore]  # noqa: E402


def rest() -> Any:  # noqa: ANN401 - a dlt source
    """Read ``GET events/`` by dlt's own source for REST APIs."""
    endpoint = {
        "path": "api/projects/1/events/",
        "data_selector": "results",
        "params": {"limit": 1000, "after": "2025-12-31T00:00:00Z"},
    }
    events = {"name": "events", "primary_key": "id", "write_disposition": "append", "endpoint": endpoint}
    client = {
        "base_url": BASE,
        "auth": {"type": "bearer", "token": "phx_bench"},
        "paginator": {"type": "json_link", "next_url_path": "next"},
    }
    return rest_api_source({"client": client, "resources": [events]})


@dlt.resource(name="events", primary_key="uuid", write_disposition="append")  # type: ignore[untyped-decorator,unused-ignore]
def hogql() -> Iterator[list[dict[str, Any]]]:
    """Read HogQL by keyset, as was proposed for dlt's verified sources (#696)."""
    where, values = "timestamp > toDateTime({t})", {"t": "2025-12-31T00:00:00Z"}
    while True:
        sql = f"SELECT * FROM events WHERE {where} ORDER BY timestamp, toString(uuid) LIMIT 10000"
        answer = requests.post(
            f"{BASE}/api/projects/1/query/",
            json={"query": {"kind": "HogQLQuery", "query": sql, "values": values}},
            headers={"Authorization": "Bearer phx_bench"},
        ).json()
        rows = [dict(zip(answer["columns"], row, strict=True)) for row in answer["results"]]
        yield rows
        if len(rows) < 10_000:
            return
        where = "(timestamp, toString(uuid)) > (toDateTime({t}), {u})"
        values = {"t": rows[-1]["timestamp"], "u": rows[-1]["uuid"]}


if __name__ == "__main__":
    lake = dlt.destinations.filesystem(bucket_url=f"file://{FOLDER}/lake")
    pipeline = dlt.pipeline("bench", destination=lake, dataset_name="posthog", pipelines_dir=f"{FOLDER}/pipelines")
    print(pipeline.run(rest() if HOW == "rest" else hogql(), loader_file_format="parquet"))
