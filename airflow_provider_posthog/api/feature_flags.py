"""Feature flags (``/api/projects/{id}/feature_flags/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api.arguments import Limit, Number, Object, Offset
from airflow_provider_posthog.api.call import Call, json_item, json_page
from airflow_provider_posthog.api.endpoint import endpoint

_READ = ("feature_flag:read",)
_WRITE = ("feature_flag:write",)


class FeatureFlag(TypedDict, total=False):
    """A feature flag; ``filters["groups"]`` are its conditions, each with a ``rollout_percentage``."""

    id: int
    key: str
    name: str
    active: bool
    deleted: bool
    filters: Mapping[str, Any]
    version: int | None


class FeatureFlagPage(TypedDict, total=False):
    """A page of feature flags."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[FeatureFlag]


@endpoint("GET", "feature_flags/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0) -> Call[FeatureFlagPage]:
    """List feature flags.

    :param limit: flags per page.
    :param offset: how many to leave out.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("GET", "feature_flags/{id}/", scopes=_READ)
def retrieve(flag_id: Number) -> Call[FeatureFlag]:
    """Retrieve a feature flag.

    :param flag_id: its number.
    """
    return retrieve.call(json_item, id=flag_id)


@endpoint("PATCH", "feature_flags/{id}/", scopes=_WRITE)
def update(
    flag_id: Number, *, filters: Object | None = None, active: bool | None = None, seen: Object | None = None
) -> Call[FeatureFlag]:
    """Change a feature flag.

    :param flag_id: its number.
    :param filters: its conditions, all of them.
    :param active: whether it is on.
    :param seen: the flag as it was read: PostHog answers 409 if somebody else has changed the same of it since.
    """
    body: dict[str, Any] = {}
    if filters is not None:
        body["filters"] = dict(filters)
    if active is not None:
        body["active"] = active
    if seen is not None and isinstance(seen.get("version"), int):
        body |= {"version": seen["version"], "original_flag": {name: seen[name] for name in body if name in seen}}
    return update.call(json_item, json=body, id=flag_id)
