"""What is written into a PythonOperator: ``python naive.py URL FOLDER {rest|hogql}`` with requests and pandas."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd  # noqa: TID253
import requests  # noqa: TID253

HEADERS = {"Authorization": "Bearer phx_bench"}


def rest(base: str) -> list[dict[str, Any]]:
    """Read ``GET events/`` page by page."""
    events: list[dict[str, Any]] = []
    url = f"{base}/api/projects/1/events/?limit=1000&after=2025-12-31T00:00:00Z"
    while url:
        answer = requests.get(url, headers=HEADERS, timeout=120)
        answer.raise_for_status()
        page = answer.json()
        events.extend(page["results"])
        url = page["next"]
    return events


def hogql(base: str) -> list[dict[str, Any]]:
    """Read HogQL page by page, by the time of the last row."""
    events: list[dict[str, Any]] = []
    last = "2025-12-31T00:00:00Z"
    while True:
        sql = "SELECT * FROM events WHERE timestamp > toDateTime({last}) ORDER BY timestamp LIMIT 10000"
        query = {"kind": "HogQLQuery", "query": sql, "values": {"last": last}}
        answer = requests.post(f"{base}/api/projects/1/query/", headers=HEADERS, json={"query": query}, timeout=120)
        answer.raise_for_status()
        page = answer.json()
        if not page["results"]:
            return events
        events.extend(dict(zip(page["columns"], row, strict=True)) for row in page["results"])
        last = events[-1]["timestamp"]


if __name__ == "__main__":
    read = {"rest": rest, "hogql": hogql}[sys.argv[3]]
    pd.DataFrame(read(sys.argv[1])).to_parquet(f"{sys.argv[2]}/out.parquet")
