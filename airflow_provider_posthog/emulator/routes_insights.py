"""``/insights/`` and ``/dashboards/``."""

from __future__ import annotations

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.envelopes import ApiError, Json, invalid, not_found
from airflow_provider_posthog.emulator.insights import Dashboard, Insight
from airflow_provider_posthog.emulator.messages import Answer, Request, json_answer
from airflow_provider_posthog.emulator.paging import bounds, page
from airflow_provider_posthog.emulator.refresh import insight_key, read_mode, serialize
from airflow_provider_posthog.emulator.routes import Route
from airflow_provider_posthog.emulator.runner import WRAPPERS, unwrap

READ, WRITE = ("insight:read",), ("insight:write",)
DASHBOARD_READ = ("dashboard:read",)


def _wrapped(query: object) -> Json | None:
    if query is None:
        return None
    node = unwrap(query)
    if not isinstance(query, dict) or query.get("kind") in WRAPPERS:
        return query if isinstance(query, dict) else None
    wrapper = "DataVisualizationNode" if node["kind"] == "HogQLQuery" else "InsightVizNode"
    return {"kind": wrapper, "source": node}


def _text(body: Json, name: str) -> str | None:
    value = body.get(name)
    if isinstance(value, (dict, list, bool)):
        raise invalid("Not a valid string.", attr=name)
    return None if value is None else str(value)


def _flag(body: Json, name: str, default: bool) -> bool:
    value = body.get(name, default)
    if value in (True, "true", "True", 1):
        return True
    if value in (False, "false", "False", 0):
        return False
    raise invalid("Must be a valid boolean.", attr=name)


def _tags(body: Json) -> list[str]:
    tags = body.get("tags", [])
    if not isinstance(tags, list):
        detail = f'Expected a list of items but got type "{type(tags).__name__}".'
        raise invalid(detail, "not_a_list", "tags")
    return [str(each) for each in tags]


async def create(request: Request) -> Answer:
    """Save an insight (``POST insights/``).

    :param request: ``name``, ``description``, ``query``, ``saved`` and ``tags`` in its body.
    """
    body, user = request.json(), request.caller().user
    name, description = _text(body, "name"), _text(body, "description")
    query, saved, tags = _wrapped(body.get("query")), _flag(body, "saved", False), _tags(body)
    made = request.state.insights.create(user, query, name=name, description=description, saved=saved)
    made.tags = tags
    return json_answer(await serialize(request, made, "force_cache"), 201)


async def list_(request: Request) -> Answer:
    """List the insights (``GET insights/``).

    :param request: ``short_id``, ``saved``, ``search``, ``basic``, ``refresh``, ``limit``, ``offset`` in its query.
    """
    found = [each for each in request.state.insights.all() if not each.deleted]
    short_id, saved, search = request.query("short_id"), request.query("saved"), request.query("search")
    if short_id:
        found = [each for each in found if each.short_id == short_id]
    if saved == "true":
        found = [each for each in found if each.saved or each.tiles]
    if search:
        found = [each for each in found if search.lower() in f"{each.name} {each.description}".lower()]
    if (request.query("basic") or "").lower() == "true":
        return page(request, found, lambda each: each.basic(_last_refresh(request, each)))
    mode = read_mode(request)
    limit, offset = bounds(request)
    written = {each.id: await serialize(request, each, mode) for each in found[offset : offset + limit]}
    return page(request, found, lambda each: written[each.id])


def _last_refresh(request: Request, insight: Insight) -> str | None:
    key = insight_key(request, insight, None)
    cached = request.state.queries.cached(key) if key else None
    return iso(cached.at) if cached else None


def _found(request: Request, *, deleted: bool = False) -> Insight:
    insight = request.state.insights.find(request.params["id"], deleted=deleted)
    if insight is None:
        raise not_found()
    return insight


async def retrieve(request: Request) -> Answer:
    """Return an insight (``GET insights/{id}/``); its result comes from the cache unless ``refresh`` asks for more.

    :param request: the id or short id in its path; ``refresh`` and ``from_dashboard`` in its query.
    """
    insight = _found(request)
    dashboard = request.query("from_dashboard") or ""
    # a dashboard without this insight is ignored
    on_dashboard = next((each for each, _ in insight.tiles if str(each) == dashboard), None)
    return json_answer(await serialize(request, insight, read_mode(request), on_dashboard))


async def update(request: Request) -> Answer:
    """Change an insight (``PATCH insights/{id}/``); ``deleted: true`` is how one is deleted.

    :param request: the id or short id in its path; what to change in its body.
    """
    body = request.json()
    insight = _found(request, deleted=body.get("deleted") is False)
    for name in ("name", "description"):
        if name in body:
            setattr(insight, name, _text(body, name))
    for name in ("favorited", "saved", "deleted"):
        setattr(insight, name, _flag(body, name, getattr(insight, name)))
    if "query" in body:
        insight.query = _wrapped(body["query"])
    if "tags" in body:
        insight.tags = _tags(body)
    insight.last_modified_at = request.state.clock.now()
    return json_answer(await serialize(request, insight, "force_cache"))


async def forbid_destroy(request: Request) -> Answer:
    """Refuse ``DELETE``, as PostHog does: 405 with an empty body.

    :param request: nothing of it matters.
    """
    raise ApiError(405, None)


async def list_dashboards(request: Request) -> Answer:
    """List the dashboards (``GET dashboards/``).

    :param request: ``limit`` and ``offset`` in its query.
    """
    found = [each for each in request.state.insights.dashboards() if not each.deleted]
    return page(request, found, Dashboard.as_json)


async def retrieve_dashboard(request: Request) -> Answer:
    """Return a dashboard with its tiles (``GET dashboards/{id}/``), refreshed one after the other.

    :param request: ``id`` in its path, ``refresh`` in its query.
    """
    known = {str(each.id): each for each in request.state.insights.dashboards() if not each.deleted}
    dashboard = known.get(request.params["id"])
    if dashboard is None:
        raise not_found()
    mode = read_mode(request)
    tiles = []
    for insight in request.state.insights.all():
        for on_dashboard, tile in insight.tiles:
            if on_dashboard == dashboard.id and not insight.deleted:
                written = await serialize(request, insight, mode, dashboard.id)
                tiles.append(_tile(tile, written))
    return json_answer({**dashboard.as_json(), "filters": {}, "tiles": tiles})


def _tile(tile: int, insight: Json) -> Json:
    return {
        "id": tile,
        "layouts": {},
        "color": None,
        "insight": insight,
        "text": None,
        "last_refresh": insight["last_refresh"],
        "is_cached": insight["is_cached"],
    }


ROUTES = (
    Route("GET", "/insights/", list_, READ, "clickhouse"),
    Route("POST", "/insights/", create, WRITE, "clickhouse"),
    Route("GET", "/insights/{id}/", retrieve, READ, "clickhouse"),
    Route("PATCH", "/insights/{id}/", update, WRITE, "clickhouse"),
    Route("DELETE", "/insights/{id}/", forbid_destroy, WRITE, "clickhouse"),
    Route("GET", "/dashboards/", list_dashboards, DASHBOARD_READ),
    Route("GET", "/dashboards/{id}/", retrieve_dashboard, DASHBOARD_READ),
    Route("DELETE", "/dashboards/{id}/", forbid_destroy, ("dashboard:write",)),
)
