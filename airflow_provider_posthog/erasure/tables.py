"""Count rows of persons in tables that PostHog's deletion does not touch: sessions, heatmaps, and newer ones.

For a deleted person, PostHog sweeps the tables of events and flag evaluations, marks recordings, and nothing else.
Newer servers list their tables; on older ones the known tables are tried.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.queries import batched, is_unknown_table, packed
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogIncompleteError,
    PostHogPermissionError,
    PostHogServerError,
    PostHogValidationError,
)

_CATALOG = (
    "SELECT DISTINCT table_name FROM system.information_schema.columns WHERE column_name = {name} ORDER BY table_name"
)
#: Where PostHog's servers before 2026, which do not tell their tables, may keep distinct ids.
_KNOWN = ("sessions", "raw_sessions", "heatmaps")
#: Tables that each check counts anyway.
LOOKED_AT = frozenset({"events", "flag_evaluations", "person_distinct_ids", "persons"}) | {
    "session_replay_events",
    "raw_session_replay_events",
}
_NAME = re.compile(r"[A-Za-z_]\w{0,99}(?:\.[A-Za-z_]\w{0,99}){0,3}")
_MOST = 50
_BATCH = 1000
#: How many tables one query counts, and how many bytes of values it holds, once for each table.
_TOGETHER = 5
_LONGEST = 200_000
#: Refusals of one table, which say nothing of the others: its name, its size, or access control.
_OF_A_TABLE = (PostHogValidationError, PostHogServerError, PostHogPermissionError)
NOT_OFFERED = "this server does not offer it"


@dataclass
class Left:
    """The rows in those tables.

    :param rows: how many rows of the persons, by table; also where there are none.
    :param not_looked_at: the tables that could not be read, and why.
    """

    rows: dict[str, int] = field(default_factory=dict)
    not_looked_at: dict[str, str] = field(default_factory=dict)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the tables that have rows, as a certificate lists them."""
        return [{"table": table, "rows": rows} for table, rows in sorted(self.rows.items()) if rows]

    @property
    def text(self) -> str:
        """What is left, as a sentence; empty if nothing is."""
        named = ", ".join(f"{table} {rows:,}" for table, rows in sorted(self.rows.items()) if rows)
        return f"PostHog's deletion leaves rows of these persons in other tables: {named}." if named else ""


def left_in_tables(client: ErasureClient, people: Iterable[Person]) -> Left:
    """Count the rows of persons, by every distinct id.

    :param client: asks PostHog.
    :param people: the persons; a batch of them is in memory at a time.
    """
    left = Left()
    tables = _tables(client, left)
    for batch in batched(people, _BATCH):
        ids = sorted({name for person in batch for name in person.distinct_ids})
        readable = [table for table in tables if table not in left.not_looked_at]
        if not _count_at_once(client, readable, ids, left):
            for table in readable:
                _count(client, table, ids, left)
    if "sessions" in left.rows:  # the same in another form
        left.rows.pop("raw_sessions", None)
        left.not_looked_at.pop("raw_sessions", None)
    return left


def _tables(client: ErasureClient, left: Left) -> list[str]:
    try:
        rows = client.rows(_CATALOG, {"name": "distinct_id"}, str)
    except (PostHogValidationError, PostHogPermissionError) as error:
        left.not_looked_at["other tables"] = (
            "this server does not tell which there are" if _why(error) == NOT_OFFERED else _why(error)
        )
        return [*_KNOWN]
    tables = [str(row[0]) for row in rows if str(row[0]) not in LOOKED_AT]
    names = [name for name in tables if _NAME.fullmatch(name)][:_MOST]
    if len(names) < len(tables):
        left.not_looked_at["other tables"] = f"{len(tables) - len(names)} more have distinct ids"
    for table in ("heatmaps", "flag_evaluations"):
        if table not in {str(row[0]) for row in rows}:
            left.not_looked_at[table] = NOT_OFFERED
    return names


def _count_at_once(client: ErasureClient, tables: Sequence[str], ids: Sequence[str], left: Left) -> bool:
    """Count in all tables by a few queries; return whether it worked: a failing table fails its whole query."""
    totals: Counter[str] = Counter()
    for batch in batched(tables, _TOGETHER):
        arms = " UNION ALL ".join(
            f"SELECT '{table}' AS place, count() AS found FROM {table} WHERE distinct_id IN {{ids}}"  # noqa: S608
            for table in batch
        )
        for pack in packed(ids, text=_LONGEST // len(batch)):
            try:
                rows = client.rows(f"SELECT * FROM ({arms})", {"ids": pack}, str, int)  # noqa: S608 - names of its own
            except _OF_A_TABLE:
                return False
            if sorted(row[0] for row in rows) != sorted(batch):
                return False
            totals.update({str(table): int(number) for table, number in rows})
    for table in tables:
        left.rows[table] = left.rows.get(table, 0) + totals[table]
    return True


def _count(client: ErasureClient, table: str, ids: Sequence[str], left: Left) -> None:
    """Count in one table; a failure is reported, but does not fail the erasure."""
    try:
        for pack in packed(ids):
            sql = f"SELECT count() FROM {table} WHERE distinct_id IN {{ids}}"  # noqa: S608 - a name of its own
            rows = client.rows(sql, {"ids": pack}, int)
            if len(rows) != 1:
                raise PostHogIncompleteError(f"PostHog answered {len(rows)} rows, and not a count")
            left.rows[table] = left.rows.get(table, 0) + int(rows[0][0])
    except (*_OF_A_TABLE, PostHogIncompleteError) as error:
        left.rows.pop(table, None)
        left.not_looked_at[table] = _why(error) if isinstance(error, PostHogAPIError) else str(error)


def _why(error: PostHogAPIError) -> str:
    unknown = isinstance(error, PostHogValidationError) and is_unknown_table(error)
    return NOT_OFFERED if unknown else f"PostHog answered {error.status}"
