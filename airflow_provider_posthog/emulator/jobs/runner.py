"""Runs query nodes (HogQLQuery, EventsQuery, insights' queries and what wraps them) on the warehouse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from airflow_provider_posthog.emulator.hogql.node import run_hogql_query
from airflow_provider_posthog.emulator.http.envelopes import Json, invalid, parse_error
from airflow_provider_posthog.emulator.insights.events_query import run_events_query
from airflow_provider_posthog.emulator.insights.funnels import funnel_rows, run_funnels_query
from airflow_provider_posthog.emulator.insights.retention import retention_rows, run_retention_query
from airflow_provider_posthog.emulator.insights.trends import run_trends_query, trends_rows
from airflow_provider_posthog.emulator.jobs.csv_writer import Row, Table
from airflow_provider_posthog.emulator.jobs.work import Work

WRAPPERS = ("InsightVizNode", "DataVisualizationNode", "DataTableNode")
# the kinds that PostHog's schema has; the emulator does not run all of them
KINDS = (
    "HogQLQuery",
    "EventsQuery",
    "TrendsQuery",
    "EventsNode",
    "ActionsNode",
    "PersonsNode",
    "DataWarehouseNode",
    "ActorsQuery",
    "InsightActorsQuery",
    "SessionsTimelineQuery",
    "HogQuery",
    "HogQLMetadata",
    "HogQLAutocomplete",
    "WebOverviewQuery",
    "WebStatsTableQuery",
    "ErrorTrackingQuery",
    "SavedInsightNode",
    "FunnelsQuery",
    "RetentionQuery",
    "PathsQuery",
    "StickinessQuery",
    "LifecycleQuery",
    "DatabaseSchemaQuery",
    *WRAPPERS,
)
MODIFIERS: Json = {
    "bounceRatePageViewMode": "count_pageviews",
    "dataWarehouseEventsModifiers": None,
    "debug": None,
    "inCohortVia": "subquery",
    "materializationMode": "legacy_null_as_null",
    "optimizeJoinedFilters": False,
    "personsArgMaxVersion": "auto",
    "personsJoinMode": None,
    "personsOnEventsMode": "person_id_override_properties_joined",
    "propertyGroupsMode": None,
    "s3TableUseInvalidColumns": None,
    "sessionTableVersion": "auto",
    "useMaterializedViews": True,
}


def unwrap(query: object) -> Json:
    """Return the node that can be run, out of the nodes that only say how to show it.

    :param query: from a request or a saved insight.
    :raises ApiError: 400 as PostHog's schema gives it, when it is not a query.
    """
    if not isinstance(query, dict):
        raise parse_error(f"1 validation error for QueryRequest\nquery\n  Field required [type=missing, {query!r}]")
    kind = query.get("kind")
    if kind not in KINDS:
        names = ", ".join(f"'{name}'" for name in KINDS)
        raise parse_error(
            "1 validation error for QueryRequest\nquery\n"
            f"  Input tag {kind!r} found using 'kind' does not match any of the expected tags: {names} "
            f"[type=union_tag_invalid, input_value={query!r}, input_type=dict]"
        )
    return unwrap(query.get("source")) if kind in WRAPPERS else query


def run(work: Work) -> Json:
    """Run a query and return the body of the answer, without the fields about the cache.

    It blocks; call it in a thread.

    :param work: what to run.
    :raises HogQLError: when HogQL refuses it or ClickHouse fails.
    :raises ApiError: 400 for a kind of query that the emulator does not run.
    """
    kind = str(work.node.get("kind"))
    runners: dict[str, Callable[[Work], Json]] = {
        "HogQLQuery": run_hogql_query,
        "EventsQuery": run_events_query,
        "TrendsQuery": run_trends_query,
        "FunnelsQuery": run_funnels_query,
        "RetentionQuery": run_retention_query,
    }
    if kind not in runners:
        raise invalid(f"The emulator does not run {kind}. It runs {', '.join(runners)}.")
    body: Json = {"error": None, "modifiers": MODIFIERS, "timings": [], "query_status": None}
    return {**body, **runners[kind](work)}


def to_table(body: Json, cap: int) -> Table:
    """Make the rows of an export out of the body of an answer.

    :param body: what :func:`run` has returned, or a list of another endpoint.
    :param cap: the most rows; further ones are dropped silently, as PostHog does.
    """
    results = body.get("results")
    if not isinstance(results, list):
        results = body.get("result")
    if not isinstance(results, list) or not results:
        return Table()
    made = next((rows for rows in (funnel_rows(results), retention_rows(results)) if rows is not None), None)
    if made is not None:
        return Table(made[:cap])
    if isinstance(results[0], list):
        return Table(_named_rows(body, results[:cap]))
    if isinstance(results[0], dict) and "data" in results[0] and "label" in results[0]:
        return Table(trends_rows(results)[:cap])
    return Table([result if isinstance(result, dict) else {"value": result} for result in results[:cap]])


def _named_rows(body: Json, rows: list[list[object]]) -> list[Row]:
    columns = body.get("columns") or [f"column_{index}" for index in range(len(rows[0]))]
    types = body.get("types") or []
    dated = [
        index < len(types) and isinstance(types[index], list) and "DateTime" in str(types[index][1])
        for index in range(len(columns))
    ]
    if not any(dated):
        return [dict(zip(columns, row, strict=False)) for row in rows]
    return [
        {name: spell(value) if is_date else value for name, value, is_date in zip(columns, row, dated, strict=False)}
        for row in rows
    ]


def spell(value: object) -> object:
    """Write times as exports do: ``2026-11-21 13:09:33.339419+00:00``, which is Python's ``str`` of a datetime.

    :param value: a value of a DateTime column, or a list or object with such values.
    """
    if isinstance(value, list):
        return [spell(item) for item in value]
    if isinstance(value, dict):
        return {key: spell(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return str(datetime.fromisoformat(value.replace("Z", "+00:00")))
    except ValueError:
        return value
