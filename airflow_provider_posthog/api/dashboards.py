"""Dashboards (``/api/projects/{id}/dashboards/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from airflow_provider_posthog.api.answers import nothing
from airflow_provider_posthog.api.arguments import (
    Limit,
    Number,
    Object,
    Offset,
    PositiveInt,
    Text,
    Uuid,
    changes,
    given,
)
from airflow_provider_posthog.api.call import Call, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.queries import Refresh
from airflow_provider_posthog.api.shapes import Sharing

_READ = ("dashboard:read",)
_WRITE = ("dashboard:write",)


class Tile(TypedDict, total=False):
    """A tile; its ``insight`` is null for a text, and may lack its ``result``."""

    id: int
    order: int | None
    insight: Insight | None
    error: Any


class Dashboard(TypedDict, total=False):
    """A dashboard. Lists leave out ``tiles``; a tile's ``insight`` is null for a text, and may lack its ``result``."""

    id: int
    name: str | None
    description: str
    pinned: bool
    deleted: bool
    created_at: str
    tags: Sequence[str]
    restriction_level: int
    tiles: Sequence[Tile]
    filters: Mapping[str, Any]


class DashboardPage(TypedDict, total=False):
    """A page of dashboards, pinned ones first."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Dashboard]


class Results(TypedDict, total=False):
    """The results of a dashboard's insights: per tile ``id``, ``order`` and ``insight`` with its ``result``."""

    results: Sequence[Mapping[str, Any]]


@endpoint("GET", "dashboards/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0) -> Call[DashboardPage]:
    """List dashboards, without their tiles.

    :param limit: dashboards per page.
    :param offset: how many to leave out.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("GET", "dashboards/{id}/", scopes=_READ)
def retrieve(dashboard_id: Number, *, refresh: Refresh | None = None) -> Call[Dashboard]:
    """Retrieve a dashboard with its tiles; 404 for a deleted one.

    :param dashboard_id: the dashboard's number.
    :param refresh: how to calculate every tile, one after the other in this one request; by default none is. Failures
        are in the tiles, the answer is 200.
    """
    return retrieve.call(json_object, query={"refresh": refresh}, id=dashboard_id)


@endpoint("PATCH", "dashboards/{id}/", scopes=_WRITE)
def update(
    dashboard_id: Number,
    *,
    name: Text | None = None,
    description: str | None = None,
    pinned: bool | None = None,
    tags: Sequence[Text] | None = None,
    restriction_level: Literal[21, 37] | None = None,
) -> Call[Dashboard]:
    """Change a dashboard; what is not given stays.

    ``use_template`` and ``use_dashboard`` only mean something where a dashboard is created, so they are not offered.

    :param dashboard_id: the dashboard's number.
    :param name: its name.
    :param description: its description.
    :param pinned: whether it is pinned.
    :param tags: all its tags.
    :param restriction_level: 21, everyone may edit; 37, collaborators only.
    :raises PostHogSettingsError: if nothing is to be changed.
    """
    body = changes(name=name, description=description, pinned=pinned, tags=tags, restriction_level=restriction_level)
    return update.call(json_object, json=body, id=dashboard_id)


@endpoint("PATCH", "dashboards/{id}/", scopes=_WRITE, documented="DELETE")
def soft_delete(dashboard_id: Number, *, delete_insights: bool = False) -> Call[Dashboard]:
    """Delete a dashboard so that :func:`restore` can bring it back; PostHog answers a DELETE with 405.

    :param dashboard_id: the dashboard's number.
    :param delete_insights: delete the insights too that are on no other dashboard.
    """
    body = {"deleted": True} | ({"delete_insights": True} if delete_insights else {})
    return soft_delete.call(json_object, json=body, id=dashboard_id)


@endpoint("PATCH", "dashboards/{id}/", scopes=_WRITE, documented=None)
def restore(dashboard_id: Number) -> Call[Dashboard]:
    """Bring a deleted dashboard back, with its tiles and all their insights.

    :param dashboard_id: the dashboard's number.
    """
    return restore.call(json_object, json={"deleted": False}, id=dashboard_id)


@endpoint("GET", "dashboards/{id}/sharing/", scopes=("sharing_configuration:read",))
def sharing(dashboard_id: Number) -> Call[Sharing]:
    """Retrieve how a dashboard is shared.

    :param dashboard_id: the dashboard's number.
    """
    return sharing.call(json_object, id=dashboard_id)


@endpoint("PATCH", "dashboards/{id}/move_tile/", scopes=_WRITE)
def move_tile(dashboard_id: Number, *, tile_id: PositiveInt, to_dashboard: PositiveInt) -> Call[Dashboard]:
    """Move a tile to another dashboard. A second time it is not there any more (404).

    :param dashboard_id: the dashboard that has the tile.
    :param tile_id: the tile's number, which is not its insight's.
    :param to_dashboard: the number of the dashboard that gets it.
    :returns: the dashboard that had the tile.
    """
    body = {"toDashboard": to_dashboard, "tile": {"id": tile_id}}
    return move_tile.call(json_object, json=body, id=dashboard_id)


@endpoint("POST", "dashboards/create_from_template_json/", scopes=_WRITE)
def create_from_template_json(*, template: Object, creation_context: Text | None = None) -> Call[Dashboard]:
    """Create a dashboard with its insights from a template; PostHog answers 200.

    :param template: ``template_name``, ``dashboard_description``, ``dashboard_filters``, ``tags``, ``tiles`` and
        ``variables``.
    :param creation_context: what it is made for, in PostHog's words.
    """
    body = given(template=dict(template), creation_context=creation_context)
    return create_from_template_json.call(json_object, json=body)


@endpoint("DELETE", "dashboards/{id}/collaborators/{user_uuid}/", scopes=_WRITE)
def remove_collaborator(dashboard_id: Number, user_uuid: Uuid) -> Call[None]:
    """Remove a collaborator from a dashboard.

    :param dashboard_id: the dashboard's number.
    :param user_uuid: the UUID of PostHog's user.
    """
    return remove_collaborator.call(nothing, id=dashboard_id, user_uuid=user_uuid)


@endpoint("GET", "dashboards/{id}/run_insights/", scopes=("query:read", "dashboard:read"), bucket="analytics")
def run_insights(
    dashboard_id: Number, *, refresh: Refresh = "force_blocking", output_format: Literal["json", "optimized"] = "json"
) -> Call[Results]:
    """Run all insights of a dashboard. The answer says neither when they were calculated nor which failed.

    :param dashboard_id: the dashboard's number.
    :param refresh: how to calculate; PostHog's own default may answer from a cache.
    :param output_format: ``json``, or PostHog's default: text for language models.
    """
    query = {"refresh": refresh, "output_format": output_format}
    return run_insights.call(json_object, query=query, id=dashboard_id)
