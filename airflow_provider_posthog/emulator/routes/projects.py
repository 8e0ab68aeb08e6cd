"""``/api/projects/{id}/`` and ``/api/users/@me/``."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route


async def retrieve(request: Request) -> Answer:
    """Return the project.

    :param request: nothing of it matters.
    """
    # PostHog can also change and delete it, the emulator cannot
    allow = {"Allow": "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"}
    settings = request.state.settings
    project = request.state.project.as_json(settings.timezone, settings.retention_json())
    return json_answer(project, headers=allow)


async def me(request: Request) -> Answer:
    """Return the user whose key calls.

    :param request: its key.
    """
    user = request.caller().user
    allow = {"Allow": "GET, PUT, PATCH, HEAD, OPTIONS"}
    return json_answer(request.state.project.me(user, request.state.settings.timezone), headers=allow)


PROJECT_ROUTES = (Route("GET", "/", retrieve, ("project:read",)),)
USER_ROUTES = (Route("GET", "/api/users/@me/", me, ("user:read",), None),)
