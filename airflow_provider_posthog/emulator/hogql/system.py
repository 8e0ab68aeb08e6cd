"""``system.*`` and other tables of today's servers: what HogQL shows of the server's own state."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.schema_types import Link, Table, Through

Rows = list[dict[str, object]]
# what fills a table, by its name
Sources = Mapping[str, Callable[[], Rows]]
_KINDS = {
    "int": ("integer", "Nullable(Int64)"),
    "float": ("number", "Nullable(Float64)"),
    "decimal": ("number", "Nullable(Decimal(38, 10))"),
    "bool": ("other", "Nullable(Bool)"),
    "str": ("string", "Nullable(String)"),
    "uuid": ("uuid", "Nullable(UUID)"),
    "json": ("json", "String"),
    "time": ("datetime", "Nullable(DateTime64(6, 'UTC'))"),
    "floats": ("other", "Array(Float64)"),
    "strs": ("other", "Array(String)"),
}
_DATA = Path(__file__).parent / "system_tables.tsv"


@cache
def _read() -> dict[str, list[tuple[str, str]]]:
    """Read PostHog's own columns by the table; all tables that have no source here stay empty."""
    lines = (line.split("\t") for line in _DATA.read_text(encoding="utf-8").splitlines()[1:])
    return {
        name: [(column, kind) for column, _, kind in (entry.partition(":") for entry in columns.split())]
        for name, columns in lines
    }


@cache
def system_tables() -> dict[str, Table]:
    """Describe the tables to HogQL, by name."""
    return {name: _table(name, columns) for name, columns in _read().items()}


def _table(name: str, columns: list[tuple[str, str]]) -> Table:
    fields: dict[str, Column | Link | Through] = {column: Column(_KINDS[kind][0]) for column, kind in columns}
    if name == "posthog.ai_events":
        fields |= {
            "pdi": Link("person_distinct_ids", "distinct_id", "distinct_id"),
            "person": Through(("pdi", "person")),
        }
    # only those of the server's database show whose they are
    return Table(name, fields, frozenset() if _says_whose(name) else frozenset({"team_id"}))


def _says_whose(name: str) -> bool:
    # runs have no project of their own, only their exports have
    without = name.startswith("system.information_schema.") or name == "system.batch_export_runs"
    return name.startswith("system.") and not without


def create_statement(database: str, name: str) -> str:
    """Write the statement that makes a table in ClickHouse anew.

    :param database: the project's ClickHouse database
    :param name: the table's name in HogQL
    """
    columns = ", ".join(f"`{column}` {_KINDS[kind][1]}" for column, kind in _read()[name])
    return f"CREATE OR REPLACE TABLE {database}.{clickhouse_name(name)} ({columns}) ENGINE = Memory"


def clickhouse_name(name: str) -> str:
    """Give the name of a table in ClickHouse.

    :param name: its name in HogQL
    """
    return name.replace(".", "__")


def lines_of(name: str, rows: Rows) -> str:
    """Write the rows of a table as ClickHouse reads them.

    :param name: of the table
    :param rows: what its columns hold; those that are missing are null
    """
    columns = _read()[name]
    return "\n".join(json.dumps({key: _value(row.get(key), kind) for key, kind in columns}) for row in rows)


def _value(value: object, kind: str) -> object:
    if kind == "json":
        return value if isinstance(value, str) else json.dumps(value)
    if kind in ("floats", "strs"):
        return value or []
    if isinstance(value, datetime):
        return value.isoformat()
    return int(value) if isinstance(value, bool) else value
