"""The warehouse's sources, schemas, views and linked tables, and endpoints, which are queries under a name."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import ApiError, invalid, not_found
from airflow_provider_posthog.emulator.http.fields import flag, mapping, number, text
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.jobs.queries import as_api_error
from airflow_provider_posthog.emulator.jobs.warehouse_jobs import LinkedTable, Schema, Source, View

READ_SOURCE, WRITE_SOURCE = ("external_data_source:read",), ("external_data_source:write",)
READ_VIEW, WRITE_VIEW = ("warehouse_view:read",), ("warehouse_view:write",)
READ_TABLE, WRITE_TABLE = ("warehouse_table:read",), ("warehouse_table:write",)
FORMATS = ("Parquet", "CSV", "CSVWithNames", "JSON", "JSONEachRow", "Delta", "DeltaS3Wrapper")
# the endpoints that are there from the start, and what they run
ENDPOINTS = {
    "events-by-day": "SELECT toDate(timestamp) AS day, count() AS n FROM events GROUP BY day ORDER BY day LIMIT 1000",
    "days-of-an-event": (
        "SELECT toDate(timestamp) AS day, count() AS n FROM events WHERE event = {variables.event} "
        "GROUP BY day ORDER BY day LIMIT 1000"
    ),
}
MOST_JOBS, MOST_RUNS = 50, 5


def _source(request: Request) -> Source:
    source = next(
        (source for source in request.state.warehouse_jobs.sources if source.id == request.params["id"]), None
    )
    if source is None:
        raise not_found()
    return source


def _schema(request: Request) -> Schema:
    for _, schema in request.state.warehouse_jobs.schemas():
        if schema.id == request.params["id"]:
            return schema
    raise not_found()


def _view(request: Request) -> View:
    view = next((view for view in request.state.warehouse_jobs.views if view.id == request.params["id"]), None)
    if view is None:
        raise not_found()
    return view


async def list_sources(request: Request) -> Answer:
    """List the sources (``GET external_data_sources/``)."""
    service = request.state.warehouse_jobs
    return page(request, service.sources, lambda source: source.as_json(service.now()))


async def retrieve_source(request: Request) -> Answer:
    """Return a source (``GET external_data_sources/{id}/``)."""
    return json_answer(_source(request).as_json(request.state.clock.now()))


async def reload_source(request: Request) -> Answer:
    """Sync all schemas that are switched on (``POST external_data_sources/{id}/reload/``): an empty answer."""
    _refuse_unpaid(request)
    for schema in _source(request).schemas:
        if schema.should_sync:
            request.state.warehouse_jobs.start(schema)
    return Answer(200)


def _refuse_unpaid(request: Request) -> None:
    if request.state.settings.warehouse_unpaid:
        message = "Monthly sync limit reached. Please increase your billing limit to resume syncing."
        raise ApiError(400, {"message": message})


async def source_jobs(request: Request) -> Answer:
    """List the syncs of a source, at most 50 (``GET external_data_sources/{id}/jobs/``): a bare list."""
    after, before = (_moment(request, name) for name in ("after", "before"))
    jobs = request.state.warehouse_jobs.source_jobs(_source(request), after, before)
    return json_answer(jobs[:MOST_JOBS])


def _moment(request: Request, name: str) -> datetime | None:
    wanted = request.query(name)
    try:
        return datetime.fromisoformat(wanted.replace("Z", "+00:00")) if wanted else None
    except ValueError:
        raise invalid(f"{wanted!r} is not a date.", attr=name) from None


async def retrieve_schema(request: Request) -> Answer:
    """Return a schema (``GET external_data_schemas/{id}/``)."""
    return json_answer(_schema(request).as_json(request.state.clock.now()))


async def reload_schema(request: Request) -> Answer:
    """Sync a schema (``POST external_data_schemas/{id}/reload/``): an empty answer, whatever comes of it."""
    _refuse_unpaid(request)
    request.state.warehouse_jobs.start(_schema(request))
    return Answer(200)


async def resync_schema(request: Request) -> Answer:
    """Load a schema again; a running sync is cancelled (``POST external_data_schemas/{id}/resync/``)."""
    _refuse_unpaid(request)
    schema = _schema(request)
    request.state.warehouse_jobs.cancel(schema)
    request.state.warehouse_jobs.start(schema)
    return Answer(200)


async def cancel_schema(request: Request) -> Answer:
    """Cancel a sync (``POST external_data_schemas/{id}/cancel/``)."""
    if not request.state.warehouse_jobs.cancel(_schema(request)):
        raise invalid("No running sync to cancel.")
    return Answer(200)


async def list_views(request: Request) -> Answer:
    """List the views (``GET warehouse_saved_queries/``)."""
    service, wanted = request.state.warehouse_jobs, request.query("search") or ""
    views = [view for view in service.views if wanted.lower() in view.name.lower()]
    return page(request, views, lambda view: view.as_json(service.now()))


async def retrieve_view(request: Request) -> Answer:
    """Return a view (``GET warehouse_saved_queries/{id}/``)."""
    return json_answer(_view(request).as_json(request.state.clock.now()))


async def run_view(request: Request) -> Answer:
    """Materialize a view (``POST warehouse_saved_queries/{id}/run/``): no word of the run."""
    view = _view(request)
    flag(request.json(), "full_refresh", False)
    if not view.is_materialized:
        raise invalid("This view is not materialized. Materialize it first.")
    request.state.warehouse_jobs.start(view)
    return Answer(200)


async def run_history(request: Request) -> Answer:
    """Return the five newest runs (``GET warehouse_saved_queries/{id}/run_history/``): no ids."""
    now = request.state.clock.now()
    jobs = sorted((job for job in _view(request).jobs if job.begins <= now), key=lambda job: job.begins, reverse=True)
    shown = [{"status": job.status(now), "timestamp": iso(job.begins)} for job in jobs[:MOST_RUNS]]
    return json_answer({"run_history": shown})


async def cancel_view(request: Request) -> Answer:
    """Cancel a run (``POST warehouse_saved_queries/{id}/cancel/``)."""
    if not request.state.warehouse_jobs.cancel(_view(request)):
        raise ApiError(400, {"error": "Cannot cancel a query that is not running"})
    return Answer(200)


async def list_tables(request: Request) -> Answer:
    """List the linked tables (``GET warehouse_tables/``)."""
    wanted = request.query("search") or ""
    tables = [table for table in request.state.warehouse_jobs.tables if wanted.lower() in table.name.lower()]
    return page(request, tables, lambda table: table.as_json())


async def create_table(request: Request) -> Answer:
    """Link files as a table (``POST warehouse_tables/``); the files have to be there."""
    body, service = request.json(), request.state.warehouse_jobs
    for name in ("name", "format", "url_pattern", "credential"):
        if not body.get(name):
            raise invalid("This field is required.", "required", name)
    credential = mapping(body, "credential")
    if not credential.get("access_key") or not credential.get("access_secret"):
        raise invalid("This field is required.", "required", "credential")
    if body["format"] not in FORMATS:
        raise invalid(f'"{body["format"]}" is not a valid choice.', "invalid_choice", "format")
    if any(table.name == body["name"] for table in service.tables):
        raise invalid("A table with this name already exists.", attr="name")
    if request.state.settings.warehouse_no_files:
        raise invalid("Could not get columns: no files match the url pattern.", attr="url_pattern")
    table = LinkedTable(service.new_id(), str(text(body, "name")), body["format"], str(text(body, "url_pattern")))
    service.tables.append(table)
    return json_answer(table.as_json(), 201)


async def refresh_table(request: Request) -> Answer:
    """Read the columns again (``POST warehouse_tables/{id}/refresh_schema/``)."""
    table = next((table for table in request.state.warehouse_jobs.tables if table.id == request.params["id"]), None)
    if table is None:
        raise not_found()
    if request.state.settings.warehouse_no_files:
        raise invalid("Could not get columns: no files match the url pattern.", attr="url_pattern")
    table.refreshed += 1
    return json_answer(table.as_json())


async def list_endpoints(request: Request) -> Answer:
    """List the endpoints (``GET endpoints/``)."""
    return page(request, sorted(ENDPOINTS), lambda name: {"name": name, "query": {"kind": "HogQLQuery"}})


async def run_endpoint(request: Request) -> Answer:
    """Run an endpoint (``POST endpoints/{name}/run/``): an answer like a query's."""
    sql = ENDPOINTS.get(request.params["name"])
    if sql is None:
        raise not_found()
    body = request.json()
    modes = ("cache", "force", "direct") if request.state.settings.generation == "C" else ("blocking", "force_blocking")
    mode = body.get("refresh") or modes[0]
    if mode not in modes:
        raise invalid("Only sync modes are supported (refresh param)", attr="refresh")
    variables = {
        name: {"variableId": name, "code_name": name, "value": value}
        for name, value in mapping(body, "variables").items()
    }
    query, queries = {"kind": "HogQLQuery", "query": sql, "variables": variables}, request.state.queries
    limit, offset = number(body, "limit"), number(body, "offset")
    if offset is not None and limit is None:
        raise invalid("offset needs limit.", attr="offset")
    key = queries.key(query)
    known = queries.fresh(key) if mode in ("cache", "blocking") else None
    try:
        made = known or await queries.compute(query, key, personal=True, limited=True)
    except HogQLError as error:
        raise as_api_error(error) from None
    answer = {**queries.body(made, key, is_cached=known is not None), "name": request.params["name"]}
    if limit is not None:
        after = (offset or 0) + limit
        cut = {"results": answer["results"][offset or 0 : after], "limit": limit, "offset": offset or 0}
        answer |= {**cut, "hasMore": len(answer["results"]) > after}
    return json_answer(answer)


_SOURCE, _SCHEMA = "/external_data_sources/{id}", "/external_data_schemas/{id}"
_VIEW = "/warehouse_saved_queries/{id}"
ROUTES = (
    Route("GET", "/external_data_sources/", list_sources, READ_SOURCE),
    Route("GET", f"{_SOURCE}/", retrieve_source, READ_SOURCE),
    Route("POST", f"{_SOURCE}/reload/", reload_source, WRITE_SOURCE),
    Route("GET", f"{_SOURCE}/jobs/", source_jobs, READ_SOURCE),
    Route("GET", f"{_SCHEMA}/", retrieve_schema, READ_SOURCE),
    Route("POST", f"{_SCHEMA}/reload/", reload_schema, WRITE_SOURCE),
    Route("POST", f"{_SCHEMA}/resync/", resync_schema, WRITE_SOURCE),
    Route("POST", f"{_SCHEMA}/cancel/", cancel_schema, WRITE_SOURCE),
    Route("GET", "/warehouse_saved_queries/", list_views, READ_VIEW),
    Route("GET", f"{_VIEW}/", retrieve_view, READ_VIEW),
    Route("POST", f"{_VIEW}/run/", run_view, WRITE_VIEW),
    Route("GET", f"{_VIEW}/run_history/", run_history, READ_VIEW),
    Route("POST", f"{_VIEW}/cancel/", cancel_view, WRITE_VIEW),
    Route("GET", "/warehouse_tables/", list_tables, READ_TABLE),
    Route("POST", "/warehouse_tables/", create_table, WRITE_TABLE),
    Route("POST", "/warehouse_tables/{id}/refresh_schema/", refresh_table, WRITE_TABLE),
    Route("GET", "/endpoints/", list_endpoints, ("endpoint:read",)),
    Route("POST", "/endpoints/{name}/run/", run_endpoint, ("endpoint:read",), "query"),
)
