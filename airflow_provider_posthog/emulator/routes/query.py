"""``/query/``: HogQL and other queries, at once or in the background."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.node import check_shape
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, parse_error
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Handler, Route
from airflow_provider_posthog.emulator.jobs.queries import Status, as_api_error
from airflow_provider_posthog.emulator.jobs.runner import unwrap

READ = ("query:read",)
MODES = (
    "blocking",
    "async",
    "force_blocking",
    "force_async",
    "force_cache",
    "lazy_async",
    "async_except_on_cache_miss",
)


Made = tuple[Answer, int]


def _metered(answer: Callable[[Request], Awaitable[Made]]) -> Handler:
    """Make a handler whose answers, including refusals, report what is left of the project's bytes."""

    async def handle(request: Request) -> Answer:
        queries = request.state.queries
        try:
            made, bytes_read = await answer(request)
        except ApiError as error:
            raise ApiError(error.status, error.body, {**queries.budget_headers(), **error.headers}) from None
        return replace(made, headers={**queries.budget_headers(bytes_read), **made.headers})

    return handle


async def create(request: Request) -> Made:
    """Run a query (``POST query/``), and report what ClickHouse read for it.

    :param request: ``query``, ``refresh`` and ``client_query_id`` in its body.
    """
    body = request.json()
    query, mode = body.get("query"), _mode(body)
    if not isinstance(query, dict):
        raise parse_error(
            f"1 validation error for QueryRequest\nquery\n  Field required [type=missing, input={body!r}]"
        )
    queries = request.state.queries
    check_shape(unwrap(query))
    key = queries.key(query)
    known = None if mode.startswith("force_") else queries.fresh(key)
    if known is not None:
        return json_answer(queries.body(known, key, is_cached=True)), 0
    queries.check_budget()  # the cache answers all the same
    if "async" in mode and not (mode == "async_except_on_cache_miss" and queries.cached(key) is None):
        return _enqueue(request, query, key, mode, body.get("client_query_id")), 0
    try:
        client_id = body.get("client_query_id")
        made = await queries.compute(
            query, key, personal=True, limited=True, client_id=client_id if isinstance(client_id, str) else None
        )
    except HogQLError as error:
        raise as_api_error(error) from None
    return json_answer(queries.body(made, key, is_cached=False)), made.bytes_read


def _mode(body: Json) -> str:
    mode = body.get("refresh")
    if body.get("async") is True:
        return "async"
    if isinstance(mode, bool):
        return "force_blocking" if mode else "blocking"
    if mode is None:
        return "blocking"
    if mode not in MODES:
        names = ", ".join(f"'{name}'" for name in MODES)
        raise parse_error(f"1 validation error for QueryRequest\nrefresh\n  Input should be {names} [type=enum]")
    # on this endpoint force_cache computes what is missing or stale, whatever the documentation says
    return "blocking" if mode == "force_cache" else str(mode)


def _enqueue(request: Request, query: Json, key: str, mode: str, client_id: object) -> Answer:
    status_id = client_id if isinstance(client_id, str) and client_id else uuid.uuid4().hex
    queries = request.state.queries
    status = queries.enqueue(query, key, status_id=status_id, force=mode == "force_async", personal=True)
    return _status_answer(request, status, 200 if status.complete else 202)


def _status_answer(request: Request, status: Status, code: int) -> Answer:
    return json_answer({"query_status": status.as_json(request.state.project.id)}, code)


async def retrieve(request: Request) -> Made:
    """Return the status of a query (``GET query/{id}/``): 202, 200, 400, 500 or 404; and what ClickHouse read for it.

    :param request: ``id`` in its path, ``show_progress`` in its query.
    """
    status_id = request.params["id"]
    status = request.state.queries.status(status_id)
    if status is None:
        raise request.state.queries.not_found(status_id)
    code = 200 if status.complete else 202
    if status.error:
        code = 400 if status.error_message else 500
    written = status.as_json(request.state.project.id)
    for name in ("start_time", "pickup_time", "end_time", "expiration_time"):
        moment = getattr(status, name)
        # a status that went through the queue has lost its microseconds
        written[name] = moment and iso(moment)[:-4] + "Z"
    if (request.query("show_progress") or "").lower() == "true" and not status.complete:
        elapsed = (request.state.clock.now() - status.start_time).total_seconds()
        counters = dict.fromkeys(("bytes_read", "rows_read", "estimated_rows_total", "active_cpu_time"), 0)
        written["query_progress"] = {**counters, "time_elapsed": elapsed}
    return json_answer({"query_status": written}, code), status.bytes_read


async def destroy(request: Request) -> Answer:
    """Cancel a query (``DELETE query/{id}/``): always 200.

    :param request: ``id`` in its path, ``dequeue_only`` in its query.
    """
    dequeue_only = (request.query("dequeue_only") or "").lower() == "true"
    message = await request.state.queries.cancel(request.params["id"], dequeue_only=dequeue_only)
    return json_answer({"message": message})


async def check_auth(request: Request) -> Answer:
    """Answer ``POST query/check_auth_for_async/``, a cheap test of a key.

    :param request: nothing of it matters.
    """
    return json_answer({"user": "ok"})


ROUTES = (
    Route("POST", "/query/check_auth_for_async/", check_auth, READ, "query"),
    Route("POST", "/query/", _metered(create), READ, "query"),
    Route("GET", "/query/{id}/", _metered(retrieve), READ, "query"),
    Route("DELETE", "/query/{id}/", destroy, READ, "query"),
    Route("POST", "/query/{kind}/", _metered(create), READ, "query"),
)
