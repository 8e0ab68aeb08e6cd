"""PostHog's table of events on embedded ClickHouse, and our HogQL as PostHog's servers print it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_posthog.emulator.data import warehouse
from airflow_provider_posthog.extract.query_client import Result
from airflow_provider_posthog.extract.statements import Statement

#: As posthog/models/event/sql.py has it; fewer rows in a granule, so that fewer are needed.
GRANULE = 64
DATABASE = "posthog_key"
SCHEMA = f"""
CREATE TABLE {DATABASE}.events (
    uuid UUID, event String, properties String, timestamp DateTime64(6, 'UTC'), team_id Int64, distinct_id String,
    created_at DateTime64(6, 'UTC'), person_id UUID
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))
SETTINGS index_granularity = {GRANULE}, index_granularity_bytes = 0, min_bytes_for_wide_part = 0
"""
_TIME = re.compile(r"\b(?:events\.)?(timestamp|created_at)\b(?: (>=|<=|<|>) toDateTime\(\{(\w+)\}\))?")
_WORDS = {">=": "greaterOrEquals", "<=": "lessOrEquals", "<": "less", ">": "greater"}
_SETTINGS = "SETTINGS output_format_json_quote_64bit_integers = 0, date_time_output_format = 'iso'"


class Table:
    """The table, asked as a planner asks PostHog.

    :param is_new: whether comparisons of times are printed as servers since April 2026 print them.
    :param zone: the project's time zone.
    """

    def __init__(self, *, is_new: bool = True, zone: str = "America/New_York") -> None:
        self.is_new, self.zone = is_new, zone

    def ask(self, statement: Statement) -> Result:
        answer = json.loads(warehouse._run(f"{self.printed(statement)} {_SETTINGS}", "JSONCompact"))
        types = [[each["name"], each["type"]] for each in answer["meta"]]
        return Result([name for name, _ in types], types, answer["data"], 0)

    def granules(self, statement: Statement) -> tuple[int, int]:
        """Return how many granules a query reads, and how many there are in the months that it opens."""
        plan = warehouse._run(f"EXPLAIN indexes = 1 {self.printed(statement)}", "TSVRaw").decode()
        found = {name: 0 for name in ("Min-Max", "Partition", "PrimaryKey")}
        for part in re.split(r"\n(?= *(?:Min-Max|Partition|PrimaryKey)\n)", plan)[1:]:
            selected = re.search(r"Granules: (\d+)/", part)
            assert selected, plan
            found[part.split()[0]] += int(selected[1])
        return found["PrimaryKey"], found["Partition"]

    def printed(self, statement: Statement) -> str:
        """Write HogQL as PostHog writes it for ClickHouse."""
        values = statement.values

        def moment(name: str) -> str:
            return f"parseDateTime64BestEffortOrNull({_literal(values[name])}, 6, '{self.zone}')"

        def time(match: re.Match[str]) -> str:
            name, sign, value = match.groups()
            wrapped = f"toTimeZone(events.{name}, '{self.zone}')"
            if sign is None:
                return wrapped
            column = f"events.{name}" if self.is_new else wrapped
            return f"ifNull({_WORDS[sign]}({column}, {moment(value)}), 0)"

        sql = _TIME.sub(time, statement.sql)
        sql = re.sub(r"toDateTime\(\{(\w+)\}\)", lambda match: moment(match[1]), sql)
        sql = re.sub(r"\{(\w+)\}", lambda match: _literal(values[match[1]]), sql)
        return sql.replace(" FROM events WHERE ", f" FROM {DATABASE}.events AS events WHERE events.team_id = 1 AND ", 1)


def _literal(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    return f"'{text}'"


def run(sql: str) -> str:
    """Run SQL of a test's own."""
    return warehouse._run(sql).decode()


@contextmanager
def opened() -> Iterator[None]:
    """An empty table."""
    run(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    run(SCHEMA)
    try:
        yield
    finally:
        run(f"DROP DATABASE {DATABASE}")
