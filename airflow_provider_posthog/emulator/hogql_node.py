"""HogQLQuery nodes: HogQL with the variables and the filters that insights and dashboards put into it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.dates import parse_date
from airflow_provider_posthog.emulator.envelopes import Json, invalid, parse_error
from airflow_provider_posthog.emulator.hogql_errors import HogQLError

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.runner import Work

_VARIABLE = re.compile(r"\{\s*variables\.(\w+)\s*\}")
_FILTERS = re.compile(r"\{\s*filters\s*\}")


def run_hogql_query(work: Work) -> Json:
    """Run a HogQLQuery.

    :param work: what to run: ``query``, ``values``, ``variables`` and, of ``filters``, the ``dateRange``.
    :raises HogQLError: when HogQL refuses it, or a variable is missing.
    :raises ApiError: 400 for what the emulator does not fill in.
    """
    text = work.node.get("query")
    if not isinstance(text, str):
        raise parse_error("1 validation error for QueryRequest\nquery.HogQLQuery.query\n  Field required")
    sent = work.node.get("values")
    values: dict[str, object] = {**(sent if isinstance(sent, dict) else {}), **_variables(work.node, text)}
    condition, dates = _filters(work)
    if condition and _FILTERS.search(text):
        text, values = _FILTERS.sub(f"({condition})", text), {**values, **dates}
    result = work.hogql(text, values or None)
    return {
        "results": result.rows,
        "columns": result.columns,
        "types": [list(each) for each in result.types],
        "hasMore": result.has_more,
        "limit": result.limit,
        "offset": result.offset,
        "hogql": result.hogql,
        "clickhouse": result.clickhouse,
        "timezone": result.timezone,
        "explain": None,
        "metadata": None,
        "query": None,
    }


def _variables(node: Json, text: str) -> dict[str, object]:
    """Return the values of ``{variables.name}`` by that name."""
    wish = node.get("variables") or {}
    if not isinstance(wish, dict) or not all(isinstance(each, dict) for each in wish.values()):
        raise invalid("variables: Input should be a valid dictionary of variables", attr="variables")
    found = {str(each.get("code_name")): None if each.get("isNull") else each.get("value") for each in wish.values()}
    for name in _VARIABLE.findall(text):
        if name not in found:
            raise HogQLError(f"Variable {name} is missing from query")
    return {f"variables.{name}": value for name, value in found.items()}


def _filters(work: Work) -> tuple[str, dict[str, object]]:
    """Return the condition that ``{filters}`` stands for, with its values; an empty one where there are no filters."""
    wish = work.node.get("filters") or {}
    unknown = (
        [name for name, value in wish.items() if value and name != "dateRange"] if isinstance(wish, dict) else [""]
    )
    if unknown:
        raise invalid("The emulator fills only the dateRange of filters into a HogQLQuery.")
    span, zone = wish.get("dateRange") or {}, ZoneInfo(work.warehouse.timezone)
    conditions: list[str] = []
    values: dict[str, object] = {}
    for name, sign in (("date_from", ">="), ("date_to", "<")):
        if not span.get(name) or span[name] == "all":
            continue
        try:
            values[f"filters_{name}"] = parse_date(str(span[name]), work.now, zone).isoformat()
        except ValueError:
            raise invalid(f"filters: {span[name]!r} is not a date.") from None
        conditions.append(f"timestamp {sign} toDateTime({{filters_{name}}})")
    return " AND ".join(conditions), values
