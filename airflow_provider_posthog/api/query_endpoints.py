"""Endpoints: queries that PostHog keeps under a name (``/api/projects/{id}/endpoints/``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from airflow_provider_posthog.api.arguments import PositiveInt, Text, given
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.queries import QueryAnswer


@endpoint("POST", "endpoints/{name}/run/", scopes=("endpoint:read",), bucket="query", repeatable=True)
def run(
    name: Text,
    *,
    variables: Mapping[str, Any] | None = None,
    refresh: Literal["cache", "force", "direct", "blocking", "force_blocking"] | None = None,
    limit: PositiveInt | None = None,
) -> Call[QueryAnswer]:
    """Run an endpoint; a project secret key is enough.

    :param name: its name.
    :param variables: values, by the names of its variables.
    :param refresh: ``cache`` (PostHog's default), ``force`` or ``direct``; of older servers ``blocking`` and
        ``force_blocking``.
    :param limit: the most rows to return.
    """
    body = given(variables=dict(variables) if variables else None, refresh=refresh, limit=limit)
    return run.call(json_object, json=body, name=name)
