"""A budget of bytes that runs short while events are read: ``python -m benchmarks.foretold`` takes a minute.

The embedded PostHog reads real bytes for each query, tells in each answer's header what is left of them, and refuses
(429) when nothing is. This provider and a loop that does not look at the header read the same events.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import requests  # noqa: TID253

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.reader import Extraction
from benchmarks.measure import table, write_section

EVENTS, PAGE = 20_000, 1_000
#: Bytes that are there at the beginning, and that come back in a second.
AT_FIRST, A_SECOND = 30_000_000, 2_000_000

_TEXT = """### A budget that runs short

`python -m benchmarks.foretold`: {events:,} events are read in pages of {page:,} from the embedded PostHog, while
{first:.0f} MB of the budget of bytes are left and {back:.0f} MB come back in a second. Answers report what is left, as
PostHog's do. This provider sends no query that the rest does not cover. The loop waits only when it is refused. It is
faster, because it goes below zero each time, but then all other tasks of the project have to wait.

{rows}
"""


def ours(posthog: EmulatorProcess, start: datetime, end: datetime) -> int:
    """Read all events as this provider does; return how many came.

    :param posthog: where they are.
    :param start: the beginning.
    :param end: the end.
    """
    settings = ClientSettings(
        base_url=posthog.url, api_key=posthog.api_key, project_id=posthog.project_id, max_rate_limit_wait=600.0
    )
    source = sources.events(time_column="timestamp")
    with Extraction(settings, source, start, end, page_rows=PAGE) as extraction:
        return sum(chunk.rows for chunk in extraction)


def a_loop(posthog: EmulatorProcess, start: datetime, end: datetime) -> int:
    """Read all events by time and uuid, and wait where PostHog asks to; return how many came.

    :param posthog: where they are.
    :param start: the beginning.
    :param end: the end.
    """
    after, rows = [start.isoformat(), "00000000-0000-0000-0000-000000000000"], 0
    columns = "uuid, event, distinct_id, person_id, timestamp, created_at, properties"
    sql = (
        f"SELECT {columns} FROM events WHERE (timestamp, toString(uuid)) > (toDateTime({{a}}), {{b}})"
        f" AND timestamp < toDateTime({{end}}) ORDER BY timestamp, toString(uuid) LIMIT {PAGE}"
    )
    while True:
        values = {"a": after[0], "b": after[1], "end": end.isoformat()}
        answer = requests.post(
            f"{posthog.url}/api/projects/{posthog.project_id}/query/",
            json={"query": {"kind": "HogQLQuery", "query": sql, "values": values}, "refresh": "force_blocking"},
            headers={"Authorization": f"Bearer {posthog.api_key}"},
            timeout=60,
        )
        if answer.status_code == 429:
            time.sleep(float(answer.headers["Retry-After"]))
            continue
        answer.raise_for_status()
        page = answer.json()["results"]
        rows += len(page)
        if len(page) < PAGE:
            return rows
        after = [page[-1][4], page[-1][0]]


def main() -> int:
    """Measure; 1 if events were lost, or a 429 was met that the header had foretold."""
    lines, bad = [], 0
    for who, read in (("this provider, 3 in flight", ours), ("a loop, one query at a time", a_loop)):
        with EmulatorProcess(events=EVENTS) as posthog:
            end = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
            start = end - timedelta(days=400)
            posthog.settings(query_bytes_per_hour=A_SECOND * 3600)
            posthog.query_budget(AT_FIRST)
            began = time.monotonic()
            rows = read(posthog, start, end)
            seconds = time.monotonic() - began
            calls: list[dict[str, Any]] = posthog.calls("/query/", "POST")
            there = posthog.count_events(start.isoformat(), end.isoformat(), "timestamp")
        refused = sum(call.get("status") == 429 for call in calls)
        bad += read is ours and (rows != there or bool(refused))
        lines.append([who, f"{rows:,} of {there:,}", str(len(calls)), str(refused), f"{seconds:.0f}"])
        print(*lines[-1], sep=", ", flush=True)
    head = ["", "events", "queries", "answers with 429", "s"]
    made = {"events": EVENTS, "page": PAGE, "first": AT_FIRST / 1e6, "back": A_SECOND / 1e6}
    write_section("foretold", _TEXT.format(rows=table(head, lines), **made))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
