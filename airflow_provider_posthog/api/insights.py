"""Insights: saved queries (``/api/projects/{id}/insights/``)."""

from __future__ import annotations

from typing import Any, TypedDict

from airflow_provider_posthog.api.call import Answer, Call, json_object, json_page, segment

#: Nodes that only say how a query is shown; the query itself is their ``source``.
_WRAPPERS = frozenset({"InsightVizNode", "DataVisualizationNode", "DataTableNode"})


class Insight(TypedDict, total=False):
    """A saved insight; ``result`` only holds numbers if a refresh was asked for or a cache was warm."""

    id: int
    short_id: str
    name: str | None
    query: dict[str, Any] | None
    filters: dict[str, Any] | None
    result: Any
    last_refresh: str | None
    is_cached: bool
    query_status: dict[str, Any] | None


class InsightPage(TypedDict, total=False):
    """A page of insights."""

    count: int
    next: str | None
    results: list[Insight]


def _insight(answer: Answer) -> Insight:
    return json_object(answer)  # type: ignore[return-value]


def _page(answer: Answer) -> InsightPage:
    return json_page(answer)  # type: ignore[return-value]


def list(
    *, short_id: str | None = None, basic: bool | None = None, limit: int | None = None, offset: int | None = None
) -> Call[InsightPage]:
    """List insights.

    :param short_id: only the one with this short id; the way to find it on servers that retrieve by number only.
    :param basic: leave out results and queries' details.
    :param limit: insights per page.
    :param offset: how many to leave out.
    """
    query = {"short_id": short_id, "basic": basic, "limit": limit, "offset": offset}
    return Call("insights.list", "GET", "insights/", _page, query=query, scopes=("insight:read",))


def retrieve(insight_id: int) -> Call[Insight]:
    """Retrieve an insight as it is saved; never calculates.

    :param insight_id: the insight's numeric id.
    """
    return Call("insights.retrieve", "GET", f"insights/{segment(insight_id)}/", _insight, scopes=("insight:read",))


def unwrap(node: object) -> dict[str, Any] | None:
    """Return the runnable query in a node, without the nodes round it that only say how it is shown.

    :param node: a query node.
    :returns: the runnable node, or ``None`` if there is none in it.
    """
    while isinstance(node, dict) and str(node.get("kind")) in _WRAPPERS:
        node = node.get("source")
    return node if isinstance(node, dict) and isinstance(node.get("kind"), str) and node["kind"] else None


def runnable_query(insight: Insight) -> dict[str, Any] | None:
    """Return the query that an insight runs.

    A CSV export of an insight must carry it as ``source``: PostHog's own look at the insight fails for tables.

    :param insight: the saved insight.
    :returns: a runnable node, or ``None`` for an insight that only has legacy ``filters``.
    """
    return unwrap(insight.get("query"))
