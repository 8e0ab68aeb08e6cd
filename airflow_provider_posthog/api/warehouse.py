"""PostHog's warehouse: sources and their schemas, views, and tables in your own bucket.

Neither a reload nor a run returns the id of what it started: read the server's time first, and wait for the first job
that was created after it (:mod:`~airflow_provider_posthog.api.watched`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api.answers import nothing, object_or_empty, rows
from airflow_provider_posthog.api.arguments import Limit, Offset, Text, Time, Uuid, time_text
from airflow_provider_posthog.api.call import Call, json_holding, json_item, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint

_READ_SOURCE, _WRITE_SOURCE = ("external_data_source:read",), ("external_data_source:write",)
_READ_VIEW, _WRITE_VIEW = ("warehouse_view:read",), ("warehouse_view:write",)
_READ_TABLE, _WRITE_TABLE = ("warehouse_table:read",), ("warehouse_table:write",)


class Source(TypedDict, total=False):
    """A source of the warehouse; ``schemas`` are its tables."""

    id: str
    source_type: str
    status: str
    prefix: str | None
    schemas: Sequence[Mapping[str, Any]]


class SourcePage(TypedDict, total=False):
    """A page of sources."""

    count: int
    next: str | None
    results: Sequence[Source]


class Schema(TypedDict, total=False):
    """A table of a source."""

    id: str
    name: str
    should_sync: bool
    status: str | None
    last_synced_at: str | None
    latest_error: str | None


class SyncJob(TypedDict, total=False):
    """A sync of one schema."""

    id: str
    status: str
    schema: Mapping[str, Any]
    rows_synced: int | None
    latest_error: str | None
    created_at: str
    finished_at: str | None


class View(TypedDict, total=False):
    """A view, that is a saved query of the warehouse."""

    id: str
    name: str
    is_materialized: bool
    status: str | None
    last_run_at: str | None
    latest_error: str | None


class ViewPage(TypedDict, total=False):
    """A page of views."""

    count: int
    next: str | None
    results: Sequence[View]


class ViewRuns(TypedDict, total=False):
    """The five newest runs of a view, each with ``status`` and ``timestamp``."""

    run_history: Sequence[Mapping[str, Any]]


class Table(TypedDict, total=False):
    """A table of the warehouse."""

    id: str
    name: str
    format: str
    url_pattern: str
    columns: Any


class TablePage(TypedDict, total=False):
    """A page of tables."""

    count: int
    next: str | None
    results: Sequence[Table]


@endpoint("GET", "external_data_sources/", scopes=_READ_SOURCE, paging="offset")
def sources(*, limit: Limit = 100, offset: Offset = 0) -> Call[SourcePage]:
    """List the sources, each with its schemas.

    :param limit: sources per page.
    :param offset: how many to leave out.
    """
    return sources.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("GET", "external_data_sources/{id}/", scopes=_READ_SOURCE)
def source(source_id: Uuid) -> Call[Source]:
    """Retrieve a source, with its schemas.

    :param source_id: its UUID.
    """
    return source.call(json_item, id=source_id)


@endpoint("POST", "external_data_sources/{id}/reload/", scopes=_WRITE_SOURCE, repeatable=False)
def reload_source(source_id: Uuid) -> Call[None]:
    """Sync all schemas of a source that are switched on.

    :param source_id: its UUID.
    """
    return reload_source.call(nothing, id=source_id)


@endpoint("GET", "external_data_sources/{id}/jobs/", scopes=_READ_SOURCE)
def source_jobs(source_id: Uuid, *, after: Time | None = None, before: Time | None = None) -> Call[list[SyncJob]]:
    """List the syncs of a source, newest first, 50 at most.

    :param source_id: its UUID.
    :param after: only those that were created after this time.
    :param before: only those that were created before it.
    """
    query = {"after": time_text(after), "before": time_text(before)}
    return source_jobs.call(rows, query=query, id=source_id)


@endpoint("GET", "external_data_schemas/{id}/", scopes=_READ_SOURCE)
def schema(schema_id: Uuid) -> Call[Schema]:
    """Retrieve a schema.

    :param schema_id: its UUID.
    """
    return schema.call(json_object, id=schema_id)


@endpoint("POST", "external_data_schemas/{id}/reload/", scopes=_WRITE_SOURCE, repeatable=False)
def reload_schema(schema_id: Uuid) -> Call[None]:
    """Sync a schema: only what is new, if it is incremental.

    :param schema_id: its UUID.
    """
    return reload_schema.call(nothing, id=schema_id)


@endpoint("POST", "external_data_schemas/{id}/resync/", scopes=_WRITE_SOURCE, repeatable=False)
def resync_schema(schema_id: Uuid) -> Call[None]:
    """Drop what a schema has loaded, and load all of it again; a running sync is cancelled. Rows are billed again.

    :param schema_id: its UUID.
    """
    return resync_schema.call(nothing, id=schema_id)


@endpoint("POST", "external_data_schemas/{id}/cancel/", scopes=_WRITE_SOURCE, repeatable=True)
def cancel_schema(schema_id: Uuid) -> Call[None]:
    """Cancel the running sync of a schema.

    :param schema_id: its UUID.
    """
    return cancel_schema.call(nothing, id=schema_id)


@endpoint("GET", "warehouse_saved_queries/", scopes=_READ_VIEW, paging="offset")
def views(*, limit: Limit = 100, offset: Offset = 0, search: Text | None = None) -> Call[ViewPage]:
    """List the views.

    :param limit: views per page.
    :param offset: how many to leave out.
    :param search: a part of the name.
    """
    return views.call(json_page, query={"limit": limit, "offset": offset or None, "search": search})


@endpoint("GET", "warehouse_saved_queries/{id}/", scopes=_READ_VIEW)
def view(view_id: Uuid) -> Call[View]:
    """Retrieve a view.

    :param view_id: its UUID.
    """
    return view.call(json_item, id=view_id)


@endpoint("POST", "warehouse_saved_queries/{id}/run/", scopes=_WRITE_VIEW, repeatable=False)
def run_view(view_id: Uuid, *, full_refresh: bool = False) -> Call[Mapping[str, Any]]:
    """Materialize a view now; 400 for one that is not materialized.

    :param view_id: its UUID.
    :param full_refresh: make an incremental one anew.
    """
    return run_view.call(object_or_empty, json={"full_refresh": full_refresh}, id=view_id)


@endpoint("GET", "warehouse_saved_queries/{id}/run_history/", scopes=_READ_VIEW)
def view_runs(view_id: Uuid) -> Call[ViewRuns]:
    """Retrieve the five newest runs of a view; they have no ids.

    :param view_id: its UUID.
    """
    return view_runs.call(json_holding("run_history", list), id=view_id)


@endpoint("POST", "warehouse_saved_queries/{id}/cancel/", scopes=_WRITE_VIEW, repeatable=True)
def cancel_view(view_id: Uuid) -> Call[Mapping[str, Any]]:
    """Cancel the running run of a view; 400 if none runs.

    :param view_id: its UUID.
    """
    return cancel_view.call(object_or_empty, id=view_id)


@endpoint("GET", "warehouse_tables/", scopes=_READ_TABLE, paging="offset")
def tables(*, limit: Limit = 100, offset: Offset = 0, search: Text | None = None) -> Call[TablePage]:
    """List the tables.

    :param limit: tables per page.
    :param offset: how many to leave out.
    :param search: a part of the name.
    """
    return tables.call(json_page, query={"limit": limit, "offset": offset or None, "search": search})


def create_table(*, name: str, format: str, url_pattern: str, credential: Mapping[str, str]) -> Call[Table]:
    """Make a table of the files in your own bucket, which have to exist. They stay there.

    No endpoint of the catalog: the arguments of a generic task are shown in Airflow, and these hold a secret.

    :param name: its name in HogQL.
    :param format: ``Parquet``, ``CSVWithNames``, ``JSONEachRow`` or ``DeltaS3Wrapper``.
    :param url_pattern: the files' address, ``https://...`` with ``*``.
    :param credential: ``access_key`` and ``access_secret`` of a user who may only read them.
    """
    body = {"name": name, "format": format, "url_pattern": url_pattern, "credential": dict(credential)}
    call: Call[Any] = Call(
        "warehouse.create_table",
        "POST",
        "warehouse_tables/",
        json_item,
        json=body,
        repeatable=False,
        scopes=_WRITE_TABLE,
    )
    return call


@endpoint("POST", "warehouse_tables/{id}/refresh_schema/", scopes=_WRITE_TABLE, repeatable=True)
def refresh_table(table_id: Uuid) -> Call[Mapping[str, Any]]:
    """Read the columns of a table again from its files.

    :param table_id: its UUID.
    """
    return refresh_table.call(object_or_empty, id=table_id)
