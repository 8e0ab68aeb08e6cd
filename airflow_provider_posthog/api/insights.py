"""Insights: saved queries (``/api/projects/{id}/insights/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypedDict

from airflow_provider_posthog.api import answers
from airflow_provider_posthog.api.arguments import (
    FILLED,
    Limit,
    Number,
    Object,
    Offset,
    PositiveInt,
    Text,
    changes,
    given,
    json_text,
)
from airflow_provider_posthog.api.call import Call, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.queries import Refresh
from airflow_provider_posthog.api.shapes import ActivityPage, Sharing

#: Nodes that only describe how a query is displayed; the query itself is their ``source``.
_WRAPPERS = frozenset({"InsightVizNode", "DataVisualizationNode", "DataTableNode"})
_READ = ("insight:read",)
_WRITE = ("insight:write",)
_LOG = ("activity_log:read",)
#: Seconds for which PostHog may hold a request open while it calculates an insight, with a margin.
CALCULATION_SECONDS = 630.0


class Insight(TypedDict, total=False):
    """A saved insight; ``result`` holds numbers only if a refresh was requested or the cache was warm."""

    id: int
    short_id: str
    name: str | None
    query: dict[str, Any] | None
    filters: dict[str, Any] | None
    result: Any
    columns: Sequence[str] | None
    last_refresh: str | None
    is_cached: bool
    query_status: dict[str, Any] | None


class InsightPage(TypedDict, total=False):
    """A page of insights."""

    count: int
    next: str | None
    results: Sequence[Insight]


class Analysis(TypedDict, total=False):
    """PostHog's description of an insight, as text."""

    result: str


class Trend(TypedDict, total=False):
    """A trend: one entry of ``result`` per series."""

    result: Sequence[Mapping[str, Any]]
    next: str | None
    is_cached: bool
    last_refresh: str | None
    timezone: str


@endpoint("GET", "insights/", scopes=_READ, bucket="analytics", paging="offset")
def list(
    *,
    short_id: Text | None = None,
    basic: bool | None = None,
    created_by: PositiveInt | Annotated[Sequence[PositiveInt], FILLED] | None = None,
    refresh: Refresh | None = None,
    limit: Limit | None = None,
    offset: Offset | None = None,
) -> Call[InsightPage]:
    """List insights.

    :param short_id: only the one with this short id; the way to find it on servers that retrieve by number only.
    :param basic: leave out results and queries' details.
    :param created_by: only those of the user with this number; newer servers take several.
    :param refresh: how to calculate each of them; by default none is.
    :param limit: insights per page.
    :param offset: how many to leave out.
    """
    query = {
        "short_id": short_id,
        "basic": basic or None,
        "created_by": json_text("created_by", created_by) if isinstance(created_by, Sequence) else created_by,
        "refresh": refresh,
        "limit": limit,
        "offset": offset,
    }
    return list.call(json_page, query=query)


@endpoint("GET", "insights/{id}/", scopes=_READ, bucket="analytics")
def retrieve(
    insight_id: Number,
    *,
    refresh: Refresh | None = None,
    from_dashboard: PositiveInt | None = None,
    filters_override: Object | None = None,
    variables_override: Object | None = None,
    client_query_id: Text | None = None,
) -> Call[Insight]:
    """Retrieve an insight as it is saved; nothing is calculated unless ``refresh`` is given.

    With ``refresh``, newer servers answer 200 also for a query that failed, and say so in ``query_status``.

    :param insight_id: the insight's number; find it by its short id with :func:`list`.
    :param refresh: PostHog's ``refresh``; another word than these would silently mean "from the cache".
    :param from_dashboard: with this dashboard's filters, which have a cache of their own.
    :param filters_override: filters in place of its own, as PostHog's ``filters``; with a cache of their own.
    :param variables_override: by the variable's id, each with ``code_name``, ``variableId`` and ``value``; with a cache
        of their own.
    :param client_query_id: a name by which the calculation can be polled and cancelled.
    """
    query = {
        "refresh": refresh,
        "from_dashboard": from_dashboard,
        "filters_override": json_text("filters_override", filters_override) if filters_override else None,
        "variables_override": json_text("variables_override", variables_override) if variables_override else None,
        "client_query_id": client_query_id,
    }
    call = retrieve.call(json_object, query=query, id=insight_id)
    waits = refresh in ("blocking", "force_blocking", "async_except_on_cache_miss")
    return replace(call, read_timeout=CALCULATION_SECONDS) if waits else call


@endpoint("POST", "insights/", scopes=_WRITE, bucket="analytics")
def create(
    *,
    query: Object,
    name: Text | None = None,
    derived_name: Text | None = None,
    description: str | None = None,
    tags: Sequence[Text] | None = None,
    dashboards: Sequence[PositiveInt] | None = None,
    favorited: bool | None = None,
    saved: bool | None = None,
    order: int | None = None,
    create_in_folder: Text | None = None,
) -> Call[Insight]:
    """Create an insight. PostHog may wrap the query in a node that says how it is shown.

    :param query: a query node; ``filters``, its older form, is not offered, as PostHog is closing it.
    :param name: its name.
    :param derived_name: the name that PostHog shows where there is none.
    :param description: its description.
    :param tags: its tags.
    :param dashboards: the numbers of the dashboards to put it on.
    :param favorited: whether it is a favourite.
    :param saved: whether it is shown in the list of insights.
    :param order: its place.
    :param create_in_folder: the folder to put it in.
    """
    body = given(
        query=dict(query),
        name=name,
        derived_name=derived_name,
        description=description,
        tags=tags,
        dashboards=dashboards,
        favorited=favorited,
        saved=saved,
        order=order,
        _create_in_folder=create_in_folder,
    )
    return create.call(json_object, json=body)


@endpoint("PATCH", "insights/{id}/", scopes=_WRITE, bucket="analytics")
def update(
    insight_id: Number,
    *,
    query: Object | None = None,
    name: Text | None = None,
    derived_name: Text | None = None,
    description: str | None = None,
    tags: Sequence[Text] | None = None,
    dashboards: Sequence[PositiveInt] | None = None,
    favorited: bool | None = None,
    saved: bool | None = None,
    order: int | None = None,
) -> Call[Insight]:
    """Change an insight; what is not given stays.

    :param insight_id: the insight's number.
    :param query: its query node.
    :param name: its name.
    :param derived_name: the name that PostHog shows where there is none.
    :param description: its description.
    :param tags: all its tags.
    :param dashboards: the numbers of all the dashboards that it is on.
    :param favorited: whether it is a favourite.
    :param saved: whether it is shown in the list of insights.
    :param order: its place.
    :raises PostHogSettingsError: if nothing is to be changed.
    """
    body = changes(
        query=dict(query) if query is not None else None,
        name=name,
        derived_name=derived_name,
        description=description,
        tags=tags,
        dashboards=dashboards,
        favorited=favorited,
        saved=saved,
        order=order,
    )
    return update.call(json_object, json=body, id=insight_id)


@endpoint("PATCH", "insights/{id}/", scopes=_WRITE, bucket="analytics", documented="DELETE")
def soft_delete(insight_id: Number) -> Call[Insight]:
    """Delete an insight so that :func:`restore` can bring it back, without its alerts; PostHog answers DELETE with 405.

    :param insight_id: the insight's number.
    """
    return soft_delete.call(json_object, json={"deleted": True}, id=insight_id)


@endpoint("PATCH", "insights/{id}/", scopes=_WRITE, bucket="analytics", documented=None)
def restore(insight_id: Number) -> Call[Insight]:
    """Bring a deleted insight back.

    :param insight_id: the insight's number.
    """
    return restore.call(json_object, json={"deleted": False}, id=insight_id)


@endpoint("GET", "insights/{id}/sharing/", scopes=("sharing_configuration:read",))
def sharing(insight_id: Number) -> Call[Sharing]:
    """Retrieve how an insight is shared.

    :param insight_id: the insight's number.
    """
    return sharing.call(json_object, id=insight_id)


@endpoint("GET", "insights/{id}/activity/", scopes=_LOG, bucket="analytics", paging="next")
def activity(insight_id: Number, *, limit: Limit = 10, page: Limit = 1) -> Call[ActivityPage]:
    """List what was done to an insight, newest first.

    :param insight_id: the insight's number.
    :param limit: entries per page.
    :param page: which page, from 1.
    """
    return activity.call(json_page, query={"limit": limit, "page": page}, id=insight_id)


@endpoint("GET", "insights/activity/", scopes=_LOG, bucket="analytics", paging="next")
def activity_of_all(*, limit: Limit = 10, page: Limit = 1) -> Call[ActivityPage]:
    """List what was done to insights, newest first.

    :param limit: entries per page.
    :param page: which page, from 1.
    """
    return activity_of_all.call(json_page, query={"limit": limit, "page": page})


@endpoint("GET", "insights/{id}/analyze/", scopes=_READ, bucket="analytics")
def analyze(insight_id: Number) -> Call[Analysis]:
    """Have PostHog describe an insight's cached result. Many servers refuse it to personal API keys (403).

    :param insight_id: the insight's number.
    """
    return analyze.call(json_object, id=insight_id)


@endpoint("GET", "insights/{id}/suggestions/", scopes=_READ, bucket="analytics")
def suggestions(insight_id: Number) -> Call[Sequence[Mapping[str, Any]]]:
    """List what PostHog suggests to look at next. Many servers refuse it to personal API keys (403).

    :param insight_id: the insight's number.
    """
    return suggestions.call(answers.rows, id=insight_id)


@endpoint("POST", "insights/{id}/suggestions/", scopes=_READ, bucket="analytics", repeatable=True)
def post_suggestions(insight_id: Number, body: Object) -> Call[Sequence[Mapping[str, Any]]]:
    """List what PostHog suggests to look at next, for an insight as it is given; changes nothing.

    :param insight_id: the insight's number.
    :param body: the insight, with the fields of :func:`create`.
    """
    return post_suggestions.call(answers.rows, json=body, id=insight_id)


@endpoint("POST", "insights/cancel/", scopes=_WRITE, bucket="analytics", repeatable=True)
def cancel(client_query_id: Text) -> Call[None]:
    """Cancel the calculation of an insight.

    :param client_query_id: the id under which it was started.
    """
    return cancel.call(answers.nothing, json={"client_query_id": client_query_id})


@endpoint("GET", "insights/trend/", scopes=_READ, bucket="analytics")
def trend(filters: Object) -> Call[Trend]:
    """Calculate a trend by PostHog's older filters; some servers have closed it (403). Use a query.

    :param filters: such as ``{"events": [{"id": "$pageview"}], "date_from": "-3d"}``.
    """
    query = {
        name: value if value is None or isinstance(value, (str, int, float)) else json_text("filters", value)
        for name, value in filters.items()
    }
    return trend.call(json_object, query=query)


@endpoint("POST", "insights/trend/", scopes=_READ, bucket="analytics", repeatable=True)
def post_trend(filters: Object) -> Call[Trend]:
    """Calculate a trend by PostHog's older filters, sent as a body; saves nothing.

    :param filters: as in :func:`trend`.
    """
    return post_trend.call(json_object, json=filters)


def unwrap(node: object) -> dict[str, Any] | None:
    """Return the runnable query in a node, without the nodes around it that only describe how it is displayed.

    :param node: a query node.
    :returns: the runnable node, or ``None`` if there is none in it.
    """
    while isinstance(node, dict) and str(node.get("kind")) in _WRAPPERS:
        node = node.get("source")
    return node if isinstance(node, dict) and isinstance(node.get("kind"), str) and node["kind"] else None


def runnable_query(insight: Insight) -> dict[str, Any] | None:
    """Return the query that an insight runs.

    A CSV export of an insight must carry it as ``source``: PostHog's own export of the insight fails for tables.

    :param insight: the saved insight.
    :returns: a runnable node, or ``None`` for an insight that only has legacy ``filters``.
    """
    return unwrap(insight.get("query"))
