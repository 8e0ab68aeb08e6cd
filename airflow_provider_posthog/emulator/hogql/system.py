"""``system.*`` and other tables of today's servers: what HogQL shows of the server's own state."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.schema_types import Table

Rows = list[dict[str, object]]
# what fills a table, by its name
Sources = Mapping[str, Callable[[], Rows]]
_KINDS = {
    "int": ("integer", "Nullable(Int64)"),
    "str": ("string", "Nullable(String)"),
    "json": ("json", "String"),
    "time": ("datetime", "Nullable(DateTime64(6, 'UTC'))"),
}
# PostHog's own columns, by the table; all that have no source here stay empty
_COLUMNS = {
    "system.exports": "id:int team_id:int export_format:str created_at:time export_context:json",
    "system.dashboards": "id:int team_id:int name:str description:str created_at:time deleted:int filters:json "
    "variables:json",
    "system.insights": "id:int short_id:str team_id:int name:str description:str filters:json query:json "
    "query_metadata:json deleted:int saved:int favorited:int created_at:time updated_at:time",
    "system.batch_exports": "id:str team_id:int name:str model:str interval:str paused:int deleted:int "
    "destination_id:str timezone:str interval_offset:int created_at:time last_updated_at:time last_paused_at:time "
    "start_at:time end_at:time",
    "system.batch_export_runs": "id:str team_id:int batch_export_id:str batch_export_on_demand_id:str backfill_id:str "
    "data_interval_start:time data_interval_end:time status:str created_at:time finished_at:time last_updated_at:time "
    "records_completed:int bytes_exported:int",
    "system.batch_export_backfills": "id:str team_id:int batch_export_id:str start_at:time end_at:time status:str "
    "created_at:time finished_at:time last_updated_at:time total_records_count:int",
    "system.cohorts": "id:int team_id:int name:str description:str deleted:int filters:json groups:json query:json "
    "created_at:time last_calculation:time version:int count:int is_static:int",
    "system.cohort_calculation_history": "id:str team_id:int cohort_id:int count:int started_at:time finished_at:time "
    "error_code:str",
    "system.feature_flags": "id:int team_id:int key:str name:str filters:json rollout_percentage:int created_at:time "
    "deleted:int",
    "system.source_sync_jobs": "id:str team_id:int pipeline_id:str schema_id:str status:str rows_synced:int "
    "billable:int latest_error:str created_at:time finished_at:time updated_at:time",
    "system.data_modeling_jobs": "id:str team_id:int data_modeling_view_id:str status:str rows_materialized:int "
    "rows_expected:int error:str last_run_at:time created_at:time updated_at:time",
    "system.ingestion_warnings": "team_id:int source:str type:str details:str timestamp:time",
    "query_log": "query_id:str query:str query_start_time:time query_duration_ms:int created_by:int read_rows:int "
    "read_bytes:int result_rows:int result_bytes:int memory_usage:int status:str log_comment:str kind:str "
    "query_type:str is_personal_api_key_request:int type:str is_initial_query:int team_id:int",
    "logs": "uuid:str team_id:int trace_id:str span_id:str body:str attributes:json time_bucket:time timestamp:time "
    "observed_timestamp:time severity_text:str severity_number:int level:str resource_attributes:json "
    "instrumentation_scope:str event_name:str service_name:str",
}


def _columns(name: str) -> list[tuple[str, str]]:
    return [(column, kind) for column, _, kind in (each.partition(":") for each in _COLUMNS[name].split())]


def system_tables() -> dict[str, Table]:
    """Describe the tables to HogQL, by name."""
    return {
        name: Table(
            name,
            {column: Column(_KINDS[kind][0]) for column, kind in _columns(name)},
            # only those of the server's database show whose they are
            frozenset() if name.startswith("system.") else frozenset({"team_id"}),
        )
        for name in _COLUMNS
    }


def create_statement(database: str, name: str) -> str:
    """Write the statement that makes a table in ClickHouse anew.

    :param database: the project's ClickHouse database
    :param name: the table's name in HogQL
    """
    columns = ", ".join(f"`{column}` {_KINDS[kind][1]}" for column, kind in _columns(name))
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
    columns = _columns(name)
    return "\n".join(json.dumps({key: _value(row.get(key), kind) for key, kind in columns}) for row in rows)


def _value(value: object, kind: str) -> object:
    if kind == "json":
        return json.dumps(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return int(value) if isinstance(value, bool) else value
