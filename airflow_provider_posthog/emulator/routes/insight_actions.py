"""What else there is of ``/insights/``: analyze, suggestions, cancel and the legacy trend."""

from __future__ import annotations

from urllib.parse import parse_qsl

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import Json, forbidden, invalid
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route, closed
from airflow_provider_posthog.emulator.insights.legacy import legacy_items, read_filters, to_query
from airflow_provider_posthog.emulator.insights.refresh import insight_key
from airflow_provider_posthog.emulator.jobs.queries import as_api_error
from airflow_provider_posthog.emulator.routes.insights import READ, WRITE, insight_of


def _approved(request: Request) -> None:
    if not request.state.settings.ai_approved:
        raise forbidden("AI data processing must be approved by your organization")


def _cached_rows(request: Request) -> list[object]:
    key = insight_key(request, insight_of(request), None)
    cached = request.state.queries.cached(key) if key else None
    rows = cached.body.get("results") if cached else None
    return rows if isinstance(rows, list) else []


async def analyze(request: Request) -> Answer:
    """Describe an insight's cached result (``GET insights/{id}/analyze/``); nothing is computed for it.

    :param request: the id or short id in its path.
    """
    _approved(request)
    insight, rows = insight_of(request), _cached_rows(request)
    if not rows:
        return json_answer({"result": "No data available to analyze."})
    name = insight.name or insight.derived_name or "This insight"
    return json_answer({"result": f"{name} has {len(rows)} {'row' if len(rows) == 1 else 'rows'}."})


async def suggest(request: Request) -> Answer:
    """Suggest further insights (``GET`` and ``POST insights/{id}/suggestions/``), from the cached result only.

    :param request: the id or short id in its path; a body like that of an insight changes nothing here.
    """
    _approved(request)
    insight, rows = insight_of(request), _cached_rows(request)
    if request.method == "POST":
        request.json()
    if not rows or insight.query is None:
        return json_answer([])
    name = insight.name or insight.derived_name or "this insight"
    suggestion: Json = {"title": f"{name}, week by week", "description": "", "targetQuery": insight.query}
    return json_answer([suggestion])


async def cancel(request: Request) -> Answer:
    """Cancel the query of an insight (``POST insights/cancel/``): 201, whether there was one or not.

    :param request: ``client_query_id`` in its body.
    """
    wanted = request.json().get("client_query_id")
    if not wanted:
        raise invalid("Field is required.", attr="client_query_id")
    await request.state.queries.cancel(str(wanted), dequeue_only=False)
    return json_answer({"status": "success"}, 201)


async def trend(request: Request) -> Answer:
    """Compute a trend as PostHog's first insights did (``GET`` and ``POST insights/trend/``).

    :param request: ``events``, ``date_from``, ``date_to``, ``interval``, ``display``, ``breakdown`` and ``refresh`` in
        its query, or in its body.
    """
    if not request.state.settings.legacy_insights:
        raise forbidden("Legacy insight endpoints are not available for this user.")
    sent: Json = dict(parse_qsl(request.query_string))
    filters = read_filters({**sent, **(request.json() if request.method == "POST" else {})})
    queries, query = request.state.queries, to_query(filters)
    key = queries.key(query, "trend")
    forced = str(filters.get("refresh") or "").lower() in ("true", "1", "force_blocking")
    known = None if forced else queries.fresh(key)
    try:
        made = known or await queries.compute(query, key, personal=False)
    except HogQLError as error:
        raise as_api_error(error) from None
    body: Json = {
        "result": legacy_items(filters, made.body["results"]),
        "timezone": made.body["timezone"],
        "next": None,
        "is_cached": known is not None,
        "last_refresh": iso(made.at),
        "timings": [{"k": ".", "t": 0.0}],
    }
    return json_answer(body)


# PostHog of 2024 has declared no scope for these, which closes them to every key
_OPEN = (
    ("GET", "/insights/{id}/analyze/", analyze, READ),
    ("GET", "/insights/{id}/suggestions/", suggest, READ),
    ("POST", "/insights/{id}/suggestions/", suggest, READ),
    ("POST", "/insights/cancel/", cancel, WRITE),
)
ROUTES = (
    Route("GET", "/insights/trend/", trend, READ, "clickhouse"),
    Route("POST", "/insights/trend/", trend, READ, "clickhouse"),
    *(Route(method, path, handler, scopes, "clickhouse", generations="BC") for method, path, handler, scopes in _OPEN),
    *(closed(method, path) for method, path, _, _ in _OPEN),
)
