"""``system.information_schema``: HogQL's description of its tables."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_posthog.emulator.data.own import OwnTables
from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.schema import tables
from airflow_provider_posthog.emulator.hogql.schema_types import Link, Table
from airflow_provider_posthog.emulator.hogql.system import Rows, Sources

_TYPES = {
    "string": "String",
    "json": "JSON",
    "datetime": "DateTime",
    "date": "Date",
    "number": "Float",
    "integer": "Integer",
    "uuid": "UUID",
}


def information_sources(own: OwnTables) -> Sources:
    """Return what fills the tables, by name.

    :param own: what tests have given the project.
    """
    return {
        "system.information_schema.tables": lambda: _tables(own),
        "system.information_schema.columns": lambda: list(_columns(own)),
        "system.information_schema.relationships": lambda: list(_relationships(own)),
    }


def _known(own: OwnTables) -> dict[str, Table]:
    return {name: table for name, table in {**tables(newer=True), **own.tables}.items() if name != "numbers"}


def _place(name: str, own: OwnTables) -> tuple[str, str]:
    """Return the kind of a table, and the schema that PostHog puts it into."""
    if name.startswith("system.information_schema."):
        return "information_schema", "information_schema"
    if name.startswith("system."):
        return "system", "system"
    if name in own.views:
        return "view", "views"
    return ("data_warehouse", "warehouse") if name in own.tables else ("posthog", "public")


def _tables(own: OwnTables) -> Rows:
    tables: Rows = []
    for name in sorted([*_known(own), *own.views]):
        kind, schema = _place(name, own)
        place: dict[str, object] = {"table_catalog": name, "table_schema": schema, "table_type": kind}
        tables.append({**place, "table_name": name, "team_id": own.team})
    return tables


def _columns(own: OwnTables) -> Iterator[dict[str, object]]:
    for name, table in _known(own).items():
        columns = [(column, field) for column, field in table.fields.items() if isinstance(field, Column)]
        for position, (column, known) in enumerate(columns, 1):
            yield {
                "table_schema": _place(name, own)[1],
                "table_name": name,
                "column_name": column,
                "ordinal_position": position,
                "data_type": _TYPES.get(known.kind, "Unknown"),
                "is_nullable": known.nullable,
                "is_array": False,
                "field_kind": "column",
                "team_id": own.team,
            }


def _relationships(own: OwnTables) -> Iterator[dict[str, object]]:
    for name, table in _known(own).items():
        for link in (field for field in table.fields.values() if isinstance(field, Link)):
            ends = {"source_table": name, "source_column": link.left, "target_table": link.table}
            yield {**ends, "target_column": link.right, "relationship_kind": "lazy_join", "team_id": own.team}
