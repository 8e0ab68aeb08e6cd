"""The server's own state as rows of the tables ``system.*``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.data.records import Records
    from airflow_provider_posthog.emulator.hogql.system import Rows, Sources
    from airflow_provider_posthog.emulator.jobs.batch_exports import BatchExport
    from airflow_provider_posthog.emulator.jobs.file_downloads import FileDownloadService
    from airflow_provider_posthog.emulator.jobs.warehouse_jobs import WarehouseService

    Things = Callable[[], Iterable[Any]]
    BatchExports = Callable[[], Iterable[BatchExport]]


def sources(
    core: Core,
    *,
    exports: Things,
    insights: Things,
    dashboards: Things,
    batch_exports: BatchExports,
    warehouse_jobs: WarehouseService,
    downloads: FileDownloadService,
    records: Records,
) -> Sources:
    """Return what fills the tables, by name.

    :param core: the clock and the project.
    :param exports: all of them, and so on.
    """

    def rows(things: Things) -> Callable[[], Rows]:
        return lambda: [_of_project(core, dict(vars(thing))) for thing in things()]

    kept = {
        f"system.{kind}": partial(_records, core, records, kind)
        for kind in ("annotations", "experiments", "feature_flags", "surveys")
    }
    return {
        **kept,
        "system.exports": rows(exports),
        "system.insights": rows(insights),
        "system.dashboards": rows(dashboards),
        "system.batch_exports": lambda: _batch_exports(core, batch_exports),
        "system.batch_export_runs": lambda: [*_runs(core, batch_exports), *_download_runs(core, downloads)],
        "system.batch_export_on_demands": lambda: _on_demands(core, downloads),
        "system.batch_export_backfills": lambda: _backfills(core, batch_exports),
        "system.source_sync_jobs": warehouse_jobs.sync_rows,
        "system.data_modeling_jobs": warehouse_jobs.view_rows,
        "system.data_warehouse_sources": warehouse_jobs.source_rows,
        "system.source_schemas": warehouse_jobs.schema_rows,
    }


def _of_project(core: Core, row: Json) -> dict[str, object]:
    return {"updated_at": row.get("last_modified_at"), **row, "team_id": core.project.id}


def _records(core: Core, records: Records, kind: str) -> Rows:
    """Show records under the names of the database's columns: ``created_by`` is there ``created_by_id``."""
    rows: Rows = []
    for record in records.all(kind):
        author = record.get("created_by")
        ids = {"created_by_id": author.get("id") if isinstance(author, dict) else None}
        rows.append({**record, **ids, "dashboard_item_id": record.get("dashboard_item"), "team_id": core.project.id})
    return rows


def _on_demands(core: Core, downloads: FileDownloadService) -> Rows:
    return [
        {
            "id": download.id,
            "team_id": core.project.id,
            "destination_id": download.id,
            "model": download.wanted.model,
            "deleted": 0,
            "created_at": download.created_at,
            "last_updated_at": download.created_at,
        }
        for download in downloads.all()
    ]


def _download_runs(core: Core, downloads: FileDownloadService) -> Rows:
    """Show each file download as the run of a batch export on demand."""
    return [
        {
            "id": download.id,
            "team_id": core.project.id,
            "batch_export_on_demand_id": download.id,
            "data_interval_start": download.wanted.start,
            "data_interval_end": download.wanted.end,
            "status": downloads.status(download),
            "created_at": download.created_at,
            "finished_at": download.finished_at,
            "last_updated_at": download.finished_at or download.created_at,
            "records_completed": download.rows if download.finished_at else None,
            "bytes_exported": sum(len(content) for _, content in download.files) if download.finished_at else None,
        }
        for download in downloads.all()
    ]


def _batch_exports(core: Core, batch_exports: BatchExports) -> Rows:
    now = core.clock.now()
    shown = [export.as_json(now, core.project.id) for export in batch_exports()]
    return [{**export, "deleted": 0, "destination_id": export["id"]} for export in shown]


def _runs(core: Core, batch_exports: BatchExports) -> Rows:
    now = core.clock.now()
    rows = []
    for export in batch_exports():
        for run in export.visible_runs(now):
            shown = run.as_json(now)
            links = {"batch_export_id": shown["batch_export"], "backfill_id": shown["backfill"]}
            rows.append({**shown, **links, "team_id": core.project.id})
    return rows


def _backfills(core: Core, batch_exports: BatchExports) -> Rows:
    now, project = core.clock.now(), core.project.id
    shown = [
        backfill.as_json(now, project)
        for export in batch_exports()
        for backfill in export.backfills
        if backfill.visible_from <= now
    ]
    return [{**run, "team_id": run["team"], "batch_export_id": run["batch_export"]} for run in shown]
