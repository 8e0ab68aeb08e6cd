"""``/dashboards/``: reading, writing, running, moving tiles, templates and collaborators."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, forbidden, invalid, not_found, server_error
from airflow_provider_posthog.emulator.http.fields import NAME_LENGTH, flag, mapping, tags, text
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route, closed
from airflow_provider_posthog.emulator.insights.dashboards import (
    EVERYONE_MAY_EDIT,
    ONLY_COLLABORATORS_MAY_EDIT,
    Dashboard,
)
from airflow_provider_posthog.emulator.insights.insights import Tile
from airflow_provider_posthog.emulator.insights.refresh import read_mode, serialize
from airflow_provider_posthog.emulator.routes.insights import forbid_destroy, wrapped

READ, WRITE = ("dashboard:read",), ("dashboard:write",)
BROKEN_TEMPLATE = "Invalid template provided: {name}"


def _newest(request: Request) -> bool:
    return request.state.settings.generation != "A"


def _brief(request: Request, dashboard: Dashboard) -> Json:
    shared = request.state.sharing.get("dashboards", dashboard.id).enabled
    return dashboard.as_json(shared=shared, newest=_newest(request))


async def _full(request: Request, dashboard: Dashboard, mode: str = "force_cache") -> Json:
    tiles = [await _tile(request, tile, mode) for tile in dashboard.shown_tiles()]
    more: Json = {"variables": dashboard.variables} if _newest(request) else {}
    return {**_brief(request, dashboard), "filters": dashboard.filters, **more, "tiles": tiles}


async def _tile(request: Request, tile: Tile, mode: str) -> Json:
    insight: Json | None = None
    if tile.insight is not None and request.state.insights.is_hidden(tile.insight):
        # no result, not even null
        insight = {"id": tile.insight.id, "short_id": tile.insight.short_id, "user_access_level": "none"}
    elif tile.insight is not None:
        insight = await serialize(request, tile.insight, mode, tile.dashboard_id)
    return {
        "id": tile.id,
        "layouts": tile.layouts,
        "color": tile.color,
        "insight": insight,
        "text": tile.text,
        "last_refresh": insight and insight.get("last_refresh"),
        "is_cached": bool(insight and insight.get("is_cached")),
    }


def _dashboard_of(request: Request, *, deleted: bool = False, edit: bool = False) -> Dashboard:
    dashboard = request.state.dashboards.find(request.params["id"], deleted=deleted)
    if dashboard is None:
        raise not_found()
    if edit and not dashboard.may_edit(request.caller().user):
        raise forbidden("You don't have edit permissions for this dashboard.")
    return dashboard


async def list_(request: Request) -> Answer:
    """List the dashboards, pinned ones first, then by name (``GET dashboards/``).

    :param request: ``tags``, ``creation_mode``, ``exclude_generated``, ``limit`` and ``offset`` in its query.
    """
    dashboards = [
        dashboard
        for dashboard in request.state.dashboards.all()
        if not dashboard.deleted and dashboard.creation_mode != "unlisted"
    ]
    mode, tag = request.query("creation_mode"), request.query("tags")
    if mode:
        dashboards = [dashboard for dashboard in dashboards if dashboard.creation_mode == mode]
    if tag:
        dashboards = [dashboard for dashboard in dashboards if tag in dashboard.tags]
    dashboards.sort(
        key=lambda dashboard: (not dashboard.pinned, dashboard.name is None, dashboard.name or "", dashboard.id)
    )
    return page(request, dashboards, lambda dashboard: _brief(request, dashboard))


async def retrieve(request: Request) -> Answer:
    """Return a dashboard with its tiles (``GET dashboards/{id}/``), refreshed one after the other.

    :param request: ``id`` in its path; ``refresh``, ``filters_override`` and ``variables_override`` in its query.
    """
    dashboard = _dashboard_of(request)
    dashboard.last_accessed_at = request.state.clock.now()
    return json_answer(await _full(request, dashboard, read_mode(request)))


def _change(request: Request, dashboard: Dashboard, body: Json) -> None:
    """Write the fields of a body into a dashboard, or none of them when one is wrong."""
    changes: Json = {}
    if "name" in body:
        changes["name"] = text(body, "name", NAME_LENGTH)
    if "description" in body:
        changes["description"] = text(body, "description") or ""
    if "pinned" in body:
        changes["pinned"] = flag(body, "pinned", False)
    if "tags" in body:
        changes["tags"] = tags(body)
    # an empty object changes nothing: PostHog looks at its truth
    changes |= {name: mapping(body, name) for name in ("filters", "variables") if body.get(name)}
    level = body.get("restriction_level", dashboard.restriction_level)
    if level not in (EVERYONE_MAY_EDIT, ONLY_COLLABORATORS_MAY_EDIT) or isinstance(level, bool):
        raise invalid(f'"{level}" is not a valid choice.', "invalid_choice", "restriction_level")
    if level != dashboard.restriction_level and request.caller().user.id != dashboard.created_by.id:
        raise forbidden("Only the dashboard owner and project admins have the restriction rights required.")
    changes["restriction_level"] = level
    for name, value in changes.items():
        setattr(dashboard, name, value)


async def create(request: Request) -> Answer:
    """Make a dashboard (``POST dashboards/``).

    :param request: ``name``, ``description``, ``pinned``, ``tags``, ``filters``, ``variables`` and ``use_dashboard``
        (whose tiles the new one shows, too) in its body.
    """
    body, store = request.json(), request.state.dashboards
    if body.get("use_dashboard") and body.get("use_template"):
        raise invalid("`use_dashboard` and `use_template` cannot be used together")
    if body.get("use_template"):
        raise invalid(BROKEN_TEMPLATE.format(name=body["use_template"]), attr="use_template")
    model = store.find(body["use_dashboard"]) if body.get("use_dashboard") else None
    if body.get("use_dashboard") and model is None:
        raise invalid("Invalid value provided", attr="use_dashboard")
    made = store.create(request.caller().user)
    try:
        _change(request, made, body)
    except ApiError:
        store.remove(made)
        raise
    for tile in model.shown_tiles() if model else []:
        copy = store.add_tile(made, tile.insight, tile.text)
        copy.layouts, copy.color = dict(tile.layouts), tile.color
    return json_answer(await _full(request, made), 201)


async def update(request: Request) -> Answer:
    """Change a dashboard (``PATCH`` and ``PUT dashboards/{id}/``); ``deleted: true`` is how one is deleted.

    :param request: ``id`` in its path; what to change, ``deleted`` and ``delete_insights`` in its body.
    """
    body, store = request.json(), request.state.dashboards
    # only JSON's false restores, not a text that means it
    dashboard = _dashboard_of(request, deleted=body.get("deleted") is False, edit=True)
    deleted, insights = flag(body, "deleted", dashboard.deleted), flag(body, "delete_insights", False)
    _change(request, dashboard, body)
    if deleted and not dashboard.deleted:
        store.delete(dashboard, insights=insights)
    elif dashboard.deleted and not deleted:
        store.restore(dashboard)
    return json_answer(await _full(request, dashboard))


async def move_tile(request: Request) -> Answer:
    """Take a tile to another dashboard (``PATCH dashboards/{id}/move_tile/``); answers with the one it has left.

    :param request: ``id`` of the source in its path; ``toDashboard`` and ``tile`` (with its ``id``) in its body.
    """
    body, source = request.json(), _dashboard_of(request, edit=True)
    if "toDashboard" not in body or "tile" not in body:
        # PostHog looks the names up without asking whether they are there; camel case is its own
        raise server_error()
    wanted = body["tile"].get("id") if isinstance(body["tile"], dict) else None
    if isinstance(wanted, bool) or not isinstance(wanted, int) or isinstance(body["toDashboard"], (bool, dict, list)):
        raise invalid("Invalid request data for moving tile.")
    tile = next((tile for tile in source.shown_tiles() if tile.id == wanted), None)
    target = request.state.dashboards.find(body["toDashboard"])
    if tile is None or target is None:
        raise not_found()
    if not target.may_edit(request.caller().user):
        raise forbidden("You don't have edit permissions for the destination dashboard.")
    request.state.dashboards.move_tile(tile, source, target)
    return json_answer(await _full(request, source))


async def create_from_template(request: Request) -> Answer:
    """Make a dashboard of a template (``POST dashboards/create_from_template_json/``): 200, not 201.

    :param request: ``template`` and ``creation_context`` in its body.
    """
    template = request.json().get("template")
    if not isinstance(template, dict) or not isinstance(template.get("tiles", []), list):
        raise invalid(BROKEN_TEMPLATE.format(name="no template"), attr="template")
    store, user = request.state.dashboards, request.caller().user
    made = store.create(user)
    made.creation_mode = "template"
    try:
        made.name = text(template, "template_name")
        made.description = text(template, "dashboard_description") or ""
        made.filters, made.tags = mapping(template, "dashboard_filters"), tags(template)
        for tile in template.get("tiles", []):
            _add_from_template(request, made, tile)
    except ApiError:
        store.remove(made)
        raise
    return json_answer(await _full(request, made))


def _add_from_template(request: Request, dashboard: Dashboard, wanted: object) -> None:
    if not isinstance(wanted, dict):
        raise invalid("Expected a dictionary of a tile.", attr="template")
    store = request.state.dashboards
    if wanted.get("type") == "TEXT":
        tile = store.add_tile(dashboard, text={"body": text(wanted, "body") or ""})
    elif wanted.get("type") == "INSIGHT":
        query, filters = wrapped(wanted.get("query")), mapping(wanted, "filters")
        insight = request.state.insights.create(request.caller().user, query)
        insight.name, insight.description = text(wanted, "name"), text(wanted, "description")
        insight.filters = filters
        tile = store.add_tile(dashboard, insight)
    else:
        raise invalid(f"Unknown type of tile: {wanted.get('type')!r}", attr="template")
    tile.layouts, tile.color = mapping(wanted, "layouts"), text(wanted, "color")


async def run_insights(request: Request) -> Answer:
    """Run all insights of a dashboard (``GET dashboards/{id}/run_insights/``). No word on errors or freshness.

    :param request: ``id`` in its path; ``refresh`` and ``output_format`` (``json``, or the default, a text) in its
        query.
    """
    request.caller().require(READ)
    mode = read_mode(request) if request.query("refresh") is not None else "async_except_on_cache_miss"
    results = []
    for order, tile in enumerate(_dashboard_of(request).shown_tiles()):
        if tile.insight is None or tile.insight.node() is None or request.state.insights.is_hidden(tile.insight):
            continue
        written = await serialize(request, tile.insight, mode, tile.dashboard_id)
        short = {name: written[name] for name in ("id", "short_id", "name", "derived_name", "result")}
        if request.query("output_format") != "json":
            short["result"] = _as_text(written)
        results.append({"id": tile.id, "order": order, "insight": short})
    return json_answer({"results": results})


def _as_text(insight: Json) -> str:
    """Write a result as PostHog does for language models: a table with bars."""
    lines = ["|".join(map(str, insight["columns"]))] if insight["columns"] else []
    lines += ["|".join(map(str, row)) if isinstance(row, list) else str(row) for row in insight["result"] or []]
    return "\n".join(lines)


async def list_collaborators(request: Request) -> Answer:
    """List who may change a dashboard (``GET dashboards/{id}/collaborators/``), all at once.

    :param request: ``id`` in its path.
    """
    dashboard = _dashboard_of(request)
    return json_answer([collaborator.as_json(dashboard.id) for collaborator in dashboard.collaborators])


async def add_collaborator(request: Request) -> Answer:
    """Let a user change a dashboard (``POST dashboards/{id}/collaborators/``).

    :param request: ``id`` in its path; ``user_uuid`` and ``level`` in its body.
    """
    dashboard, wanted = _dashboard_of(request, edit=True), request.json().get("user_uuid")
    if dashboard.restriction_level == EVERYONE_MAY_EDIT:
        raise invalid("Cannot add collaborators to a dashboard on the lowest restriction level.")
    user = request.state.keyring.with_uuid(str(wanted))
    if user is None:
        raise invalid("User does not exist.")
    if any(collaborator.user.id == user.id for collaborator in dashboard.collaborators):
        raise invalid("User already is a collaborator.")
    made = request.state.dashboards.add_collaborator(dashboard, user)
    return json_answer(made.as_json(dashboard.id), 201)


async def remove_collaborator(request: Request) -> Answer:
    """Withdraw a user's right to change a dashboard (``DELETE dashboards/{id}/collaborators/{user_uuid}/``).

    :param request: ``id`` and ``user_uuid`` in its path.
    """
    dashboard = _dashboard_of(request, edit=True)
    kept = [
        collaborator
        for collaborator in dashboard.collaborators
        if collaborator.user.uuid != request.params["user_uuid"]
    ]
    if len(kept) == len(dashboard.collaborators):
        raise not_found()
    dashboard.collaborators = kept
    return Answer(204)


# PostHog of 2024 has declared no scope for these, which closes them to every key
_OPEN = (
    ("PATCH", "/dashboards/{id}/move_tile/", move_tile),
    ("POST", "/dashboards/create_from_template_json/", create_from_template),
)
ROUTES = (
    Route("GET", "/dashboards/", list_, READ),
    Route("POST", "/dashboards/", create, WRITE),
    Route("GET", "/dashboards/{id}/", retrieve, READ),
    Route("PUT", "/dashboards/{id}/", update, WRITE),
    Route("PATCH", "/dashboards/{id}/", update, WRITE),
    Route("DELETE", "/dashboards/{id}/", forbid_destroy, WRITE),
    *(Route(method, path, handler, WRITE, generations="BC") for method, path, handler in _OPEN),
    *(closed(method, path) for method, path, _ in _OPEN),
    Route("GET", "/dashboards/{id}/run_insights/", run_insights, ("query:read",), "query", generations="BC"),
    Route("GET", "/dashboards/{id}/collaborators/", list_collaborators, READ),
    Route("POST", "/dashboards/{id}/collaborators/", add_collaborator, WRITE),
    Route("DELETE", "/dashboards/{id}/collaborators/{user_uuid}/", remove_collaborator, WRITE),
)
