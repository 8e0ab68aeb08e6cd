"""``/insights/``: list, create, retrieve and update."""

from __future__ import annotations

import json

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, forbidden, invalid, not_found
from airflow_provider_posthog.emulator.http.fields import NAME_LENGTH, flag, mapping, number, tags, text
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import bounds, page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.insights.activity import changes
from airflow_provider_posthog.emulator.insights.insights import Insight
from airflow_provider_posthog.emulator.insights.refresh import read_mode, serialize
from airflow_provider_posthog.emulator.jobs.runner import WRAPPERS, unwrap

READ, WRITE = ("insight:read",), ("insight:write",)
TRACKED = ("name", "derived_name", "description", "favorited", "saved", "deleted", "tags", "query", "filters", "order")


def wrapped(query: object) -> Json | None:
    """Return a query as insights keep it: inside of the node that says how to show it.

    :param query: as sent.
    :raises ApiError: 400 for what is not a query.
    """
    if query is None:
        return None
    node = unwrap(query)
    if not isinstance(query, dict) or query.get("kind") in WRAPPERS:
        return query if isinstance(query, dict) else None
    wrapper = "DataVisualizationNode" if node["kind"] == "HogQLQuery" else "InsightVizNode"
    return {"kind": wrapper, "source": node}


def _filters(request: Request, body: Json) -> Json:
    filters = mapping(body, "filters")
    if filters and not request.state.settings.legacy_insights:
        raise forbidden("Creating or updating insights with legacy filters is not available for this user.")
    return filters


def _change(request: Request, insight: Insight, body: Json) -> None:
    """Write the fields of a body into an insight, or none of them when one is wrong."""
    lengths = {"name": NAME_LENGTH, "derived_name": NAME_LENGTH, "description": None}
    changes: Json = {name: text(body, name, longest) for name, longest in lengths.items() if name in body}
    changes |= {name: flag(body, name, False) for name in ("favorited", "saved", "deleted") if name in body}
    if "query" in body:
        changes["query"] = wrapped(body["query"])
    if "filters" in body:
        changes["filters"] = _filters(request, body)
    if "tags" in body:
        changes["tags"] = tags(body)
    if "order" in body:
        changes["order"] = number(body, "order")
    targets = _dashboards(request, body) if "dashboards" in body else None
    for name, value in changes.items():
        setattr(insight, name, value)
    if targets is not None:
        _place(request, insight, targets)


def _dashboards(request: Request, body: Json) -> list[int]:
    wanted = body["dashboards"]
    if not isinstance(wanted, list):
        raise invalid(f'Expected a list of items but got type "{type(wanted).__name__}".', "not_a_list", "dashboards")
    for dashboard_id in wanted:
        if request.state.dashboards.find(dashboard_id) is None:
            raise invalid(f'Invalid pk "{dashboard_id}" - object does not exist.', "does_not_exist", "dashboards")
    return [int(dashboard_id) for dashboard_id in wanted]


def _place(request: Request, insight: Insight, targets: list[int]) -> None:
    for tile in insight.tiles:
        if tile.dashboard_id not in targets:
            tile.deleted = True
    for dashboard_id in targets:
        dashboard = request.state.dashboards.find(dashboard_id)
        if dashboard is not None:
            request.state.dashboards.add_tile(dashboard, insight)


async def create(request: Request) -> Answer:
    """Save an insight (``POST insights/``).

    :param request: ``name``, ``derived_name``, ``description``, ``query``, ``filters``, ``order``, ``saved``,
        ``favorited``, ``deleted``, ``dashboards`` and ``tags`` in its body.
    """
    body, user = request.json(), request.caller().user
    draft = Insight(0, "", None, request.state.clock.now(), user, request.state.clock.now())
    _change(request, draft, {name: value for name, value in body.items() if name != "dashboards"})
    targets = _dashboards(request, body) if "dashboards" in body else []
    made = request.state.insights.create(user, draft.query)
    for name in TRACKED:
        setattr(made, name, getattr(draft, name))
    if made.query is None and not made.filters and request.state.settings.generation == "A":
        made.filters = {"insight": "TRENDS"}
    _place(request, made, targets)
    request.state.activity.add("Insight", made.id, "created", user, name=made.name, short_id=made.short_id)
    return json_answer(await serialize(request, made, "force_cache"), 201)


def _numbers(request: Request, name: str) -> list[object]:
    """Return a list that a query parameter holds as JSON text; what is not a list filters nothing."""
    try:
        numbers = json.loads(request.query(name) or "[]")
    except ValueError:
        return []
    return numbers if isinstance(numbers, list) else []


def _fits(request: Request, insight: Insight) -> bool:
    short_id, saved, search = request.query("short_id"), request.query("saved"), request.query("search")
    owners, dashboards, wanted_tags = (_numbers(request, name) for name in ("created_by", "dashboards", "tags"))
    shown_on = {tile.dashboard_id for tile in insight.tiles if not tile.deleted}
    tests = (
        not short_id or insight.short_id == short_id,
        saved != "true" or insight.saved or bool(shown_on),
        not search or search.lower() in f"{insight.name} {insight.description}".lower(),
        request.query("favorited") != "true" or insight.favorited,
        request.query("user") != "true" or insight.created_by.id == request.caller().user.id,
        not owners or insight.created_by.id in owners,
        all(dashboard_id in shown_on for dashboard_id in dashboards),
        not wanted_tags or any(tag in insight.tags for tag in wanted_tags),
    )
    return not insight.deleted and all(tests)


async def list_(request: Request) -> Answer:
    """List the insights (``GET insights/``).

    :param request: ``short_id``, ``saved``, ``search``, ``favorited``, ``user``, ``created_by``, ``dashboards`` and
        ``tags`` (JSON lists), ``basic``, ``refresh``, ``limit``, ``offset`` in its query.
    """
    store = request.state.insights
    insights = [insight for insight in store.all() if _fits(request, insight) and not store.is_hidden(insight)]
    if (request.query("basic") or "").lower() == "true":
        return page(request, insights, lambda insight: insight.basic())
    mode = read_mode(request)
    limit, offset = bounds(request)
    written = {insight.id: await serialize(request, insight, mode) for insight in insights[offset : offset + limit]}
    return page(request, insights, lambda insight: written[insight.id])


def insight_of(request: Request, *, deleted: bool = False) -> Insight:
    """Return the insight of a path.

    :param request: the id or short id in its path.
    :param deleted: find deleted ones, too.
    :raises ApiError: 404, or 403 for one that nobody may look at.
    """
    insight = request.state.insights.find(request.params["id"], deleted=deleted)
    if insight is None:
        raise not_found()
    if request.state.insights.is_hidden(insight):
        raise forbidden("You do not have viewer access to this resource.")
    return insight


async def retrieve(request: Request) -> Answer:
    """Return an insight (``GET insights/{id}/``); its result comes from the cache unless ``refresh`` asks for more.

    :param request: the id or short id in its path; ``refresh``, ``client_query_id``, ``from_dashboard``,
        ``filters_override`` and ``variables_override`` in its query.
    """
    insight = insight_of(request)
    wanted = request.query("from_dashboard") or ""
    # a dashboard without this insight is ignored
    places = (tile.dashboard_id for tile in insight.tiles if not tile.deleted)
    on_dashboard = next((dashboard_id for dashboard_id in places if str(dashboard_id) == wanted), None)
    return json_answer(await serialize(request, insight, read_mode(request), on_dashboard))


async def update(request: Request) -> Answer:
    """Change an insight (``PATCH`` and ``PUT insights/{id}/``); ``deleted: true`` is how one is deleted.

    :param request: the id or short id in its path; what to change in its body.
    """
    body, user = request.json(), request.caller().user
    # only JSON's false restores, not a text that means it
    insight = insight_of(request, deleted=body.get("deleted") is False)
    before = {name: getattr(insight, name) for name in TRACKED}
    _change(request, insight, body)
    insight.last_modified_at = request.state.clock.now()
    made = changes("Insight", before, {name: getattr(insight, name) for name in TRACKED})
    if made:
        request.state.activity.add(
            "Insight", insight.id, "updated", user, name=insight.name, short_id=insight.short_id, changes=made
        )
    return json_answer(await serialize(request, insight, "force_cache"))


async def forbid_destroy(request: Request) -> Answer:
    """Refuse ``DELETE``, as PostHog does: 405 with an empty body.

    :param request: nothing of it matters.
    """
    raise ApiError(405, None)


ROUTES = (
    Route("GET", "/insights/", list_, READ, "clickhouse"),
    Route("POST", "/insights/", create, WRITE, "clickhouse"),
    Route("GET", "/insights/{id}/", retrieve, READ, "clickhouse"),
    Route("PUT", "/insights/{id}/", update, WRITE, "clickhouse"),
    Route("PATCH", "/insights/{id}/", update, WRITE, "clickhouse"),
    Route("DELETE", "/insights/{id}/", forbid_destroy, WRITE, "clickhouse"),
)
