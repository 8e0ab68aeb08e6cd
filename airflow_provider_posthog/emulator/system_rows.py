"""The server's own state as rows of the tables ``system.*``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.hogql_system import Rows, Sources
    from airflow_provider_posthog.emulator.state import State


def sources(state: State) -> Sources:
    """Return what fills the tables, by name.

    :param state: the server's state.
    """
    return {
        "system.exports": lambda: _exports(state),
        "system.insights": lambda: [_of_project(state, vars(each)) for each in state.insights.all()],
        "system.dashboards": lambda: [_of_project(state, vars(each)) for each in state.dashboards.all()],
        "system.batch_exports": lambda: _batch_exports(state),
        "system.batch_export_runs": lambda: _runs(state),
        "system.batch_export_backfills": lambda: _backfills(state),
    }


def _of_project(state: State, row: Json) -> dict[str, object]:
    return {"updated_at": row.get("last_modified_at"), **row, "team_id": state.project.id}


def _exports(state: State) -> Rows:
    return [_of_project(state, vars(each)) for each in state.exports.all()]


def _batch_exports(state: State) -> Rows:
    now = state.clock.now()
    shown = [each.as_json(now, state.project.id) for each in state.batch_exports.all()]
    return [{**each, "deleted": 0, "destination_id": each["id"]} for each in shown]


def _runs(state: State) -> Rows:
    now = state.clock.now()
    rows = []
    for export in state.batch_exports.all():
        for run in export.visible_runs(now):
            shown = run.as_json(now)
            links = {"batch_export_id": shown["batch_export"], "backfill_id": shown["backfill"]}
            rows.append({**shown, **links, "team_id": state.project.id})
    return rows


def _backfills(state: State) -> Rows:
    now, project = state.clock.now(), state.project.id
    shown = [
        backfill.as_json(now, project)
        for export in state.batch_exports.all()
        for backfill in export.backfills
        if backfill.visible_from <= now
    ]
    return [{**each, "team_id": each["team"], "batch_export_id": each["batch_export"]} for each in shown]
