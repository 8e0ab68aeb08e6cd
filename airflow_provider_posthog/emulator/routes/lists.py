"""Lists of things that the emulator has none of, so that a client that looks for them finds an empty first page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.envelopes import Json, not_for_keys
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Handler, Route

_COUNTED: Json = {"count": 0, "next": None, "previous": None, "results": []}
# path, scope, the methods that PostHog has for it (here only GET is answered), and its empty page
_LISTS: tuple[tuple[str, str, str, Json], ...] = (
    ("session_recordings", "session_recording", "GET", {"results": [], "has_next": False, "version": 3}),
    ("hog_functions", "hog_function", "GET, POST", _COUNTED),
    ("subscriptions", "subscription", "GET, POST", _COUNTED),
    ("external_data_sources", "external_data_source", "GET, POST", _COUNTED),
    ("external_data_destinations", "external_data_source", "GET, POST", _COUNTED),
)


def _empty(methods: str, body: Json) -> Handler:
    async def handler(request: Request) -> Answer:
        return json_answer(body, headers={"Allow": f"{methods}, HEAD, OPTIONS"})

    return handler


async def actions(request: Request) -> Answer:
    """List the actions (``GET actions/``): those that tests have made.

    :param request: nothing of it matters.
    """
    project = request.state.project
    shown = [
        {
            "id": action.id,
            "name": action.name,
            "description": "",
            "steps": [{**asdict(step), "properties": _filters(step.properties)} for step in action.steps],
            "created_at": iso(project.created_at),
            "deleted": False,
            "team_id": project.id,
            "tags": [],
        }
        for action in request.state.warehouse.own.actions.values()
    ]
    return json_answer({"results": shown}, headers={"Allow": "GET, POST, HEAD, OPTIONS"})


def _filters(properties: Mapping[str, object]) -> list[Json]:
    return [{"key": name, "value": value, "type": "event", "operator": "exact"} for name, value in properties.items()]


async def organization(request: Request) -> Answer:
    """Return the caller's organization (``GET organizations/@current/``).

    :param request: nothing of it matters.
    """
    body = request.state.project.organization_json(request.state.settings.timezone)
    return json_answer(body, headers={"Allow": "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"})


async def warehouse_status(request: Request) -> Answer:
    """Refuse to tell of the managed warehouse (``GET data_warehouse/warehouse_status/``): its view is internal.

    :param request: nothing of it matters.
    """
    raise not_for_keys()


# what only the newest servers have
_NEW = ("external_data_destinations",)
ROUTES = (
    *(
        Route(
            "GET",
            f"/{path}/",
            _empty(methods, body),
            (f"{scope}:read",),
            generations="C" if path in _NEW else "ABC",
        )
        for path, scope, methods, body in _LISTS
    ),
    Route("GET", "/actions/", actions, ("action:read",)),
    Route("GET", "/data_warehouse/warehouse_status/", warehouse_status),
)
ORGANIZATION_ROUTES = (Route("GET", "/api/organizations/@current/", organization, ("organization:read",)),)
