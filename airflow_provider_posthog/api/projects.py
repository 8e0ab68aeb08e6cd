"""Projects and the key's owner: what a connection test asks."""

from __future__ import annotations

from typing import Any, TypedDict

from airflow_provider_posthog.api.call import Answer, Call, json_object, segment


class Project(TypedDict, total=False):
    """A project; ``timezone`` is an IANA name."""

    id: int
    name: str
    timezone: str


def _project(answer: Answer) -> Project:
    return json_object(answer)  # type: ignore[return-value]


def retrieve(project_id: int) -> Call[Project]:
    """Retrieve a project. The path is ``/api/projects/`` whatever the connection's ``path_prefix``.

    :param project_id: the project's number.
    """
    return Call("projects.retrieve", "GET", f"/api/projects/{segment(project_id)}/", _project, scopes=("project:read",))


def me() -> Call[dict[str, Any]]:
    """Retrieve the user whose key this is."""
    return Call("projects.me", "GET", "/api/users/@me/", json_object, scopes=("user:read",))
