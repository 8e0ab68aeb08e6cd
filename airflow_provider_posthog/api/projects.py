"""Projects and the key's owner: what a connection test asks."""

from __future__ import annotations

from typing import Any, TypedDict

from airflow_provider_posthog.api.arguments import Number
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.api.endpoint import endpoint


class Project(TypedDict, total=False):
    """A project; ``timezone`` is an IANA name.

    Since June 2026 it includes the retention of events, which follows from the plan: queries show no events that are
    older than ``event_retention_months`` calendar months where ``events_retention_enforced``
    (:mod:`..results.retention`).
    """

    id: int
    name: str
    timezone: str
    api_token: str
    event_retention_months: Any  # a number or null; the reader checks it
    events_retention_enforced: Any  # true or false, the same


@endpoint("GET", "/api/projects/{project_id}/", scopes=("project:read",))
def retrieve(project_id: Number) -> Call[Project]:
    """Retrieve a project. The path is ``/api/projects/`` whatever the connection's ``path_prefix``.

    :param project_id: the project's number.
    """
    return retrieve.call(json_object, project_id=project_id)


@endpoint("GET", "/api/users/@me/", scopes=("user:read",))
def me() -> Call[dict[str, Any]]:
    """Retrieve the user whose key this is."""
    return me.call(json_object)
