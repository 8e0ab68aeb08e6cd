"""Insights of PostHog's first years: ``filters`` instead of a query, and what ``insights/trend/`` answers."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid

_KINDS = {
    "TRENDS": "TrendsQuery",
    "FUNNELS": "FunnelsQuery",
    "RETENTION": "RetentionQuery",
    "PATHS": "PathsQuery",
    "STICKINESS": "StickinessQuery",
    "LIFECYCLE": "LifecycleQuery",
}
_ENTITY = (
    "name",
    "custom_name",
    "math",
    "math_property",
    "math_hogql",
    "math_group_type_index",
    "id_field",
    "timestamp_field",
    "distinct_id_field",
    "table_name",
)


_FUNNEL = {
    "funnelWindowInterval": "funnel_window_interval",
    "funnelWindowIntervalUnit": "funnel_window_interval_unit",
    "funnelOrderType": "funnel_order_type",
    "funnelVizType": "funnel_viz_type",
    "exclusions": "exclusions",
}
_RETENTION = {
    "period": "period",
    "totalIntervals": "total_intervals",
    "retentionType": "retention_type",
    "targetEntity": "target_entity",
    "returningEntity": "returning_entity",
}


def to_query(filters: Json) -> Json:
    """Return the query that filters stand for.

    :param filters: ``insight``, ``events``, ``date_from``, ``date_to``, ``interval``, ``display``, ``breakdown``.
    """
    kind = _KINDS.get(str(filters.get("insight") or "TRENDS").upper(), "TrendsQuery")
    if kind == "RetentionQuery":
        return {"kind": kind, "dateRange": _dates(filters), "retentionFilter": _retention(filters)}
    if kind not in ("TrendsQuery", "FunnelsQuery"):
        return {"kind": kind}
    events = [event for event in filters.get("events") or [] if isinstance(event, dict)]
    if kind == "FunnelsQuery":
        events.sort(key=lambda event: event.get("order") or 0)
    series = [
        {
            "kind": "EventsNode",
            "event": event.get("id"),
            **{name: event[name] for name in ("math", "math_property", "custom_name") if event.get(name)},
        }
        for event in events
    ]
    query: Json = {"kind": kind, "series": series, "dateRange": _dates(filters)}
    if kind == "TrendsQuery":
        query["trendsFilter"] = {"display": filters.get("display") or "ActionsLineGraph"}
    else:
        query["funnelsFilter"] = {new: filters.get(old) for new, old in _FUNNEL.items()}
    if filters.get("interval"):
        query["interval"] = filters["interval"]
    if filters.get("breakdown"):
        query["breakdownFilter"] = {"breakdown": filters["breakdown"]}
    return query


def _dates(filters: Json) -> Json:
    return {"date_from": filters.get("date_from"), "date_to": filters.get("date_to")}


def _retention(filters: Json) -> Json:
    return {new: filters.get(old) for new, old in _RETENTION.items()}


def read_filters(wanted: Json) -> Json:
    """Return filters as sent in a query string or a body: lists may be JSON text.

    :param wanted: by name.
    :raises ApiError: 400 when ``events`` is not a list.
    """
    filters = dict(wanted)
    events = filters.get("events")
    if isinstance(events, str):
        try:
            events = json.loads(events)
        except ValueError:
            raise invalid("Properties are unparsable!") from None
    if events is not None and not isinstance(events, list):
        raise invalid("Expected a list of events.", attr="events")
    return {**filters, "insight": filters.get("insight") or "TRENDS", "events": events or []}


def legacy_items(filters: Json, results: list[Json]) -> list[Json]:
    """Return a trend's series as ``insights/trend/`` writes them.

    :param filters: from :func:`read_filters`.
    :param results: of the TrendsQuery that they stand for.
    """
    return [_legacy_item(filters, item) for item in results]


def _legacy_item(filters: Json, item: Json) -> Json:
    order = item["action"]["order"]
    sent = filters["events"][order]
    entity: Json = {name: sent.get(name) for name in _ENTITY}
    entity |= {"id": sent.get("id"), "type": "events", "order": sent.get("order"), "properties": {}}
    entity["name"] = sent.get("name") or item["action"]["name"]
    shown: Json = {
        "breakdown_attribution_type": "first_touch",
        "breakdown_normalize_url": False,
        "date_from": filters.get("date_from") or "-7d",
        "display": filters.get("display") or "ActionsLineGraph",
        "events": [entity],
        "insight": "TRENDS",
        "interval": filters.get("interval") or "day",
        "sampling_factor": "",
        "smoothing_intervals": 1,
    }
    rest = {name: value for name, value in item.items() if name not in ("action", "filter", "data")}
    data = [float(value) for value in item["data"]]
    urls = [_persons_url(entity, shown, day) for day in item["days"]]
    return {**rest, "action": entity, "filter": shown, "data": data, "persons_urls": urls}


def _persons_url(entity: Json, shown: Json, day: str) -> Json:
    start = f"{day[:10]}T{day[11:] or '00:00:00'}"
    span = {"date_from": f"{start}Z", "date_to": f"{day[:10]}T23:59:59.999999Z"}
    of_entity = {f"entity_{name}": entity[name] for name in ("id", "math", "order", "type")}
    query = {"date_from": f"{start}+00:00", "display": shown["display"], "entity_id": entity["id"] or ""}
    url = f"api/projects/1/persons/trends/?{urlencode(query)}"
    return {"filter": {**span, **of_entity}, "url": url}
