"""What groups, distinct ids and sessions cost PostHog: bytes that ClickHouse reads for each byte delivered.

``python -m benchmarks.server_cost_lazy groups:60000 distinct_ids:100000 sessions:20000`` takes half a minute for each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.extract import named_sources, sources
from airflow_provider_posthog.extract.reader import Extraction
from airflow_provider_posthog.extract.sources import Source
from benchmarks.clickhouse import ClickHouse, Server
from benchmarks.server_cost import DAY, START

#: The columns of sessions that the table of this benchmark has.
_SESSION_COLUMNS = (
    "session_id", "distinct_id", "$start_timestamp", "$end_timestamp", "$entry_current_url", "$exit_current_url",
    "$pageview_count",
)  # fmt: skip


def source_of(name: str) -> Source:
    """Return what is read.

    :param name: ``groups``, ``distinct_ids`` or ``sessions``.
    """
    if name == "sessions":
        return sources.sessions(_SESSION_COLUMNS)
    return sources.groups() if name == "groups" else named_sources.person_distinct_ids()


def measure(name: str, count: int) -> tuple[int, float, int]:
    """Read all of a table, or a day of sessions in the middle of fifteen.

    :param name: what is read.
    :param count: how many rows are there; of sessions, on each day.
    :returns: how many rows landed, bytes read for each byte delivered (as Arrow), and how many queries it took.
    """
    clickhouse = ClickHouse("new")
    try:
        clickhouse.add(name, count, START - timedelta(days=7))
        with Server(clickhouse) as server:
            settings = ClientSettings(base_url=server.url, api_key="phx_" + "x" * 12, project_id=1)
            rows = size = 0
            with Extraction(settings, source_of(name), START, START + DAY, page_rows=49_999) as extraction:
                for chunk in extraction:
                    rows += chunk.table.num_rows
                    size += chunk.table.nbytes
        return rows, clickhouse.log.read / size, len(clickhouse.log.asked)
    finally:
        clickhouse.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and tell whether all rows landed.

    :param arguments: what is read, with how many rows: ``groups:60000``.
    """
    lost = 0
    for argument in sys.argv[1:] if arguments is None else arguments:
        name, _, count = argument.partition(":")
        rows, ratio, queries = measure(name, int(count))
        lost += rows != int(count)
        print(f"{name}, {rows:,} of {int(count):,} rows: {ratio:.2f} bytes read for each delivered, {queries} queries")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
