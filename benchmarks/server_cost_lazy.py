"""What groups, distinct ids and sessions cost PostHog: bytes that ClickHouse reads for each byte delivered.

``python -m benchmarks.server_cost_lazy groups:60000 distinct_ids:100000 sessions:20000`` takes half a minute for each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.extract import named_sources, sources
from airflow_provider_posthog.extract.reader import Extraction
from airflow_provider_posthog.extract.sources import Source
from benchmarks.clickhouse import Age, ClickHouse, Server
from benchmarks.server_cost import DAY, START

#: The columns of sessions that the table of this benchmark has.
_SESSION_COLUMNS = (
    "session_id", "distinct_id", "$start_timestamp", "$end_timestamp", "$entry_current_url", "$exit_current_url",
    "$pageview_count",
)  # fmt: skip


#: Sessions by name: the age of their PostHog, the table that they are put into, and how many of a hundred thousand have
#: the id of a clock that is wrong by days.
_SESSIONS: Mapping[str, tuple[Age, str, int]] = {
    "sessions": ("new", "sessions", 0),
    "sessions_wrong": ("new", "sessions", 20),
    "sessions_v3": ("v3", "sessions_v3", 0),
    "sessions_v3_wrong": ("v3", "sessions_v3", 20),
    "sessions_old": ("old", "sessions", 0),
}


def source_of(name: str) -> Source:
    """Return what is read.

    :param name: ``groups``, ``distinct_ids`` or a name of sessions.
    """
    if name in _SESSIONS:
        return sources.sessions(_SESSION_COLUMNS)
    return sources.groups() if name == "groups" else named_sources.person_distinct_ids()


def measure(name: str, count: int, days: int = 1) -> tuple[int, float, int]:
    """Read all of a table, or some days of sessions in the middle of fifteen.

    :param name: what is read.
    :param count: how many rows are there; of sessions, on each day.
    :param days: of sessions, how many days are read.
    :returns: how many rows landed, bytes read for each byte delivered (as Arrow), and how many queries it took.
    """
    age, table, wrong = _SESSIONS.get(name, ("new", name, 0))
    clickhouse = ClickHouse(age)
    try:
        clickhouse.add(table, count, START - timedelta(days=7), wrong)
        with Server(clickhouse) as server:
            settings = ClientSettings(base_url=server.url, api_key="phx_" + "x" * 12, project_id=1)
            rows = size = 0
            start = START - days // 2 * DAY
            with Extraction(settings, source_of(name), start, start + days * DAY, page_rows=49_999) as extraction:
                for chunk in extraction:
                    rows += chunk.table.num_rows
                    size += chunk.table.nbytes
        return rows, clickhouse.log.read / size, len(clickhouse.log.asked)
    finally:
        clickhouse.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and tell whether all rows landed.

    :param arguments: what is read, with how many rows: ``groups:60000``; of sessions a day, of how many days:
        ``sessions:20000:7``.
    """
    lost = 0
    for argument in sys.argv[1:] if arguments is None else arguments:
        name, count, days = (*argument.split(":"), "1")[:3]
        there = int(count) * int(days)
        rows, ratio, queries = measure(name, int(count), int(days))
        lost += rows != there
        print(
            f"{argument}, {rows:,} of {there:,} rows: {ratio:.2f} bytes read for each delivered, {queries} queries",
            flush=True,
        )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
