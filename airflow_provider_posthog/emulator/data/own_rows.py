"""What a project has of its own, as rows of the tables ``system.*``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.hogql.system import Rows, Sources
    from airflow_provider_posthog.emulator.insights.activity import Entry

    Entries = Callable[[], Iterable[Entry]]

# property definitions: the kinds of things that have properties
_EVENT, _PERSON, _GROUP = 1, 2, 3


def own_sources(
    core: Core,
    *,
    activity: Entries,
    queries: Callable[[], Iterable[dict[str, object]]],
    views: Callable[[], Rows],
    definitions: Callable[[], Rows],
) -> Sources:
    """Return what fills the tables, by name.

    :param core: the clock, the project, the store.
    :param activity: who changed what.
    :param queries: those that were run.
    :param views: those of PostHog's warehouse, but for those that tests have made.
    :param definitions: of properties, besides those of the data.
    """

    def of_project(make: Callable[[Core], Rows]) -> Callable[[], Rows]:
        return lambda: [{"team_id": core.project.id, **row} for row in make(core)]

    made = {
        "system.actions": _actions,
        "system.data_warehouse_tables": _tables,
        "system.data_modeling_views": lambda core: [*views(), *_views(core)],
        "system.teams": _teams,
        "system.groups": _groups,
        "system.group_type_mappings": _group_types,
        "system.property_definitions": lambda core: [*_properties(core), *definitions()],
        "system.activity_logs": lambda core: _activity(activity),
        "query_log": lambda core: list(queries()),
        "console_logs_log_entries": lambda core: _logs(core, "session_replay"),
        "batch_export_log_entries": lambda core: _logs(core, "batch_export"),
    }
    return {name: of_project(make) for name, make in made.items()}


def _actions(core: Core) -> Rows:
    return [
        {
            "id": action.id,
            "name": action.name,
            "description": "",
            "deleted": 0,
            "created_at": core.project.created_at,
            "updated_at": core.project.created_at,
            "steps_json": [asdict(step) for step in action.steps],
        }
        for action in core.warehouse.own.actions.values()
    ]


def _tables(core: Core) -> Rows:
    return [
        {"id": name, "name": name, "columns": {column: {} for column in table.star()}, "deleted": 0}
        for name, table in core.warehouse.own.tables.items()
    ]


def _views(core: Core) -> Rows:
    return [
        {"id": name, "name": name, "query": {"kind": "HogQLQuery", "query": text}, "is_materialized": 0, "deleted": 0}
        for name, text in core.warehouse.own.views.items()
    ]


def _teams(core: Core) -> Rows:
    project = core.project
    shown = {"id": project.id, "name": project.name, "timezone": core.settings.timezone, "test_account_filters": []}
    return [{**shown, "created_at": project.created_at, "updated_at": project.created_at}]


def _groups(core: Core) -> Rows:
    rows = core.warehouse.execute(
        "SELECT rowNumberInAllBlocks() + 1 AS id, key AS group_key, `index` AS group_type_index,"
        " properties AS group_properties, toString(created_at) AS created_at FROM {db}.groups ORDER BY created_at, key"
    )
    return [dict(row) for row in rows]


def _group_types(core: Core) -> Rows:
    return [{"id": 1, "group_type": "company", "name_singular": None, "name_plural": None}]


def _properties(core: Core) -> Rows:
    made: Rows = []
    for table, kind in (("events", _EVENT), ("persons", _PERSON), ("groups", _GROUP)):
        rows: list[dict[str, Any]] = core.warehouse.execute(
            "SELECT pair.1 AS name, countIf(pair.2 NOT IN ('Int64', 'UInt64', 'Double')) = 0 AS number"  # noqa: S608
            " FROM (SELECT arrayJoin(arrayMap(key -> (key, toString(JSONType(properties, key))),"
            f" JSONExtractKeys(properties))) AS pair FROM {{db}}.{table}) GROUP BY name ORDER BY name"
        )
        for row in rows:
            shown = {"id": f"{kind}:{row['name']}", "name": row["name"], "type": kind}
            number = bool(int(row["number"]))
            shown |= {"property_type": "Numeric" if number else "String", "is_numerical": int(number)}
            made.append({**shown, "group_type_index": 0 if kind == _GROUP else None})
    return made


def _activity(entries: Entries) -> Rows:
    return [
        {
            "id": str(number),
            "activity": entry.activity,
            "item_id": entry.item_id,
            "scope": entry.scope,
            "detail": entry.detail,
            "created_at": entry.created_at,
        }
        for number, entry in enumerate(entries(), 1)
    ]


def _logs(core: Core, source: str) -> Rows:
    return [row for row in core.warehouse.own.rows.get("log_entries", []) if row.get("log_source") == source]
