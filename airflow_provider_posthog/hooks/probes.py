"""Cheap calls that tell what a key may do, for the test of a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_posthog.api import exports, insights, projects, queries
from airflow_provider_posthog.api.call import Call, json_object


def secret_key_probes() -> Iterable[tuple[str, Call[Any]]]:
    """Return the calls that a key without a person may make; it may not ask whose it is, nor for its project."""
    yield "query:read", queries.start(queries.hogql("SELECT 1"))
    yield "endpoint:read", Call("probe", "GET", "endpoints/", json_object, query={"limit": 1})


def probes(project_id: int) -> Iterable[tuple[str, Call[Any]]]:
    """Return a cheap call for each scope that can be probed without changing anything."""

    def get(path: str, scope: str) -> tuple[str, Call[Any]]:
        return scope, Call("probe", "GET", path, json_object, query={"limit": 1}, scopes=(scope,))

    first: tuple[str, Callable[[], Call[Any]]] = ("project:read", lambda: projects.retrieve(project_id))
    yield first[0], first[1]()
    yield "export:read", exports.list(limit=1)
    yield "export:write", Call("probe", "POST", "exports/", json_object, json={}, scopes=("export:write",))
    yield "insight:read", insights.list(basic=True, limit=1)
    yield get("dashboards/", "dashboard:read")
    yield get("persons/", "person:read")
    yield "query:read", queries.start(queries.hogql("SELECT 1"))
