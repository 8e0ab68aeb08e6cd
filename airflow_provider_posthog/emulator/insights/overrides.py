"""What dashboards and the ``..._override`` parameters change in the query of an insight."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid
from airflow_provider_posthog.emulator.http.request import Request

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.insights.insights import Insight

NAMES = ("filters_override", "variables_override", "tile_filters_override")
# where a kind of query keeps its dates; others keep them in dateRange
_DATES = {"EventsQuery": ("after", "before")}


@dataclass(frozen=True)
class Asked:
    """What is run for an insight.

    :param node: its query with all that changes it.
    :param extra: what else makes its result another entry of the cache.
    """

    node: Json
    extra: str


def asked(request: Request, insight: Insight, dashboard_id: int | None) -> Asked | None:
    """Return what is run for an insight; None when it has no query.

    :param request: with its overrides.
    :param insight: the insight.
    :param dashboard_id: of the dashboard that shows it: its filters and variables count.
    :raises ApiError: 400 for an override that is not a JSON object.
    """
    overrides = {name: _override(request, name) for name in NAMES}
    node = insight.node()
    if node is None:
        return None
    dashboard = None if dashboard_id is None else request.state.dashboards.find(dashboard_id)
    filters = overrides["filters_override"] or (dashboard.filters if dashboard else {})
    filters = {**filters, **(overrides["tile_filters_override"] or {})}
    variables = {**(dashboard.variables if dashboard else {}), **(overrides["variables_override"] or {})}
    extra = [f"{name}={json.dumps(value, sort_keys=True)}" for name, value in overrides.items() if value]
    if dashboard_id is not None:
        extra.append(f"dashboard={dashboard_id}")
    return Asked(_changed(node, filters, variables), "&".join(extra))


def _override(request: Request, name: str) -> Json | None:
    text = request.query(name)
    if not text:
        return None
    try:
        override = json.loads(text)
    except ValueError:
        override = None
    if not isinstance(override, dict):
        raise invalid(f"Invalid JSON passed in {name} parameter", attr=name)
    return override


def _changed(node: Json, filters: Json, variables: Json) -> Json:
    source = node.get("source")
    if isinstance(source, dict):
        return {**node, "source": _changed(source, filters, variables)}
    made = dict(node)
    _set_dates(made, {name: filters[name] for name in ("date_from", "date_to") if filters.get(name)})
    if filters.get("properties"):
        _set_properties(made, filters["properties"])
    if node.get("kind") == "HogQLQuery" and isinstance(node.get("variables"), dict):
        # only what the query has can be overridden; the rest is dropped silently
        made["variables"] = {name: variables.get(name) or value for name, value in node["variables"].items()}
    return made


def _set_dates(node: Json, dates: Json) -> None:
    if not dates:
        return
    if node.get("kind") in _DATES:
        for name, own in zip(("date_from", "date_to"), _DATES[str(node["kind"])], strict=True):
            if name in dates:
                node[own] = dates[name]
    elif node.get("kind") == "HogQLQuery":
        own_filters = node.get("filters") or {}
        node["filters"] = {**own_filters, "dateRange": {**(own_filters.get("dateRange") or {}), **dates}}
    else:
        node["dateRange"] = {**(node.get("dateRange") or {}), **dates}


def _set_properties(node: Json, properties: object) -> None:
    if node.get("kind") == "HogQLQuery":
        node["filters"] = {**(node.get("filters") or {}), "properties": properties}
    else:
        node["properties"] = properties
