"""``/api/projects/{id}/`` and ``/api/users/@me/``."""

from __future__ import annotations

from airflow_provider_posthog.emulator.messages import Answer, Request, json_answer
from airflow_provider_posthog.emulator.routes import Route


async def retrieve(request: Request) -> Answer:
    """Return the project.

    :param request: nothing of it matters.
    """
    return json_answer(request.state.project.as_json(request.state.settings.timezone))


async def me(request: Request) -> Answer:
    """Return the user whose key calls.

    :param request: its key.
    """
    user = request.caller().user
    return json_answer(request.state.project.me(user, request.state.settings.timezone))


PROJECT_ROUTES = (Route("GET", "/", retrieve, ("project:read",)),)
USER_ROUTES = (Route("GET", "/api/users/@me/", me, ("user:read",), None),)
