"""Every endpoint by its name: what the generic operator and the table in the documentation read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_posthog.api import annotations as posthog_annotations
from airflow_provider_posthog.api import (
    batch_exports,
    cohorts,
    dashboards,
    data_quality,
    elements,
    events,
    experiments,
    exports,
    feature_flags,
    file_downloads,
    groups,
    insights,
    persons,
    projects,
    queries,
    query_endpoints,
    warehouse,
)
from airflow_provider_posthog.api.arguments import nearest
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.endpoint import Endpoint
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean

_MODULES = (
    exports,
    groups,
    insights,
    elements,
    persons,
    dashboards,
    events,
    queries,
    batch_exports,
    file_downloads,
    projects,
    warehouse,
    data_quality,
    query_endpoints,
    cohorts,
    posthog_annotations,
    feature_flags,
    experiments,
)

#: Every endpoint, by its name: ``persons.list``, ``dashboards.move_tile``.
CATALOG: dict[str, Endpoint[..., Any]] = {
    member.name: member
    for module in _MODULES
    for member in vars(module).values()
    if isinstance(member, Endpoint) and member.__module__ == module.__name__
}


def find(name: str) -> Endpoint[..., Any]:
    """Return an endpoint.

    :param name: such as ``dashboards.move_tile``.
    :raises PostHogSettingsError: if there is none; suggests the nearest name.
    """
    endpoint = CATALOG.get(name) if isinstance(name, str) else None
    if endpoint is None:
        word = str(name)
        last = {known.split(".")[1]: known for known in CATALOG}
        near = nearest(word, CATALOG) or (f" Did you mean {last[word]!r}?" if word in last else "")
        raise PostHogSettingsError(
            "call",
            f"is {clean(word)[:60]!r}, which is no endpoint.{near}",
            "Write a name from the table in docs/api.md.",
        )
    return endpoint


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Call[Any]:
    """Make a call from names and values. Nothing is coerced: ``"5"`` is not a number, and ``"false"`` is not false.

    :param name: such as ``dashboards.move_tile``.
    :param arguments: what the endpoint takes, by name.
    :raises PostHogSettingsError: for an unknown name, a missing argument, and a value that does not fit.
    """
    endpoint = find(name)
    values = dict(arguments or {})
    for argument in values:
        if argument not in endpoint.parameters:
            known = ", ".join(endpoint.parameters) or "nothing"
            raise PostHogSettingsError(
                "arguments",
                f"are not those of {name}, which takes no {clean(argument)[:60]!r}."
                f"{nearest(str(argument), endpoint.parameters)}",
                f"It takes {known}.",
            )
    missing = [
        argument
        for argument, parameter in endpoint.parameters.items()
        if parameter.default is parameter.empty and argument not in values
    ]
    if missing:
        raise PostHogSettingsError(
            "arguments", f"lack what {name} needs: {', '.join(missing)}.", "Write a value for each."
        )
    return endpoint(**values)
