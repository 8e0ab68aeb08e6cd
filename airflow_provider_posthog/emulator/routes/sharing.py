"""``insights/{id}/sharing/`` and ``dashboards/{id}/sharing/``."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.envelopes import forbidden, not_found
from airflow_provider_posthog.emulator.http.fields import flag
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route

READ, WRITE = ("sharing_configuration:read",), ("sharing_configuration:write",)


def _shared(request: Request) -> tuple[str, int]:
    state, wanted = request.state, request.params["id"]
    kind = "insights" if "/insights/" in request.path else "dashboards"
    # a short id will not do here
    numbered = state.insights.find(wanted) if kind == "insights" else state.dashboards.find(wanted)
    if numbered is None or str(numbered.id) != wanted:
        raise not_found()
    return kind, numbered.id


async def retrieve(request: Request) -> Answer:
    """Return whether an object is shared.

    :param request: the object's id in its path.
    """
    kind, number = _shared(request)
    newest = request.state.settings.generation != "A"
    return json_answer(request.state.sharing.get(kind, number).as_json(newest=newest))


async def update(request: Request) -> Answer:
    """Share an object, or share it no more.

    :param request: the object's id in its path, ``enabled`` in its body.
    """
    kind, number = _shared(request)
    dashboard = request.state.dashboards.find(number) if kind == "dashboards" else None
    if dashboard is not None and not dashboard.may_edit(request.caller().user):
        raise forbidden("You don't have edit permissions for this dashboard.")
    newest = request.state.settings.generation != "A"
    sharing = request.state.sharing.get(kind, number)
    body = request.json()
    if "enabled" in body:
        sharing = request.state.sharing.enable(kind, number, flag(body, "enabled", False))
    return json_answer(sharing.as_json(newest=newest))


ROUTES = tuple(
    Route(method, f"/{kind}/{{id}}/sharing/", handler, scopes, throttle)
    for kind, throttle in (("insights", "clickhouse"), ("dashboards", "crud"))
    for method, handler, scopes in (("GET", retrieve, READ), ("PATCH", update, WRITE))
)
