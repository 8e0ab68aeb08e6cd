"""HogQLQuery nodes: HogQL with the variables and the filters that insights and dashboards put into it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.hogql.placeholders import Dates
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, invalid, parse_error
from airflow_provider_posthog.emulator.insights.dates import parse_date

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.jobs.work import Work


def check_shape(node: Json) -> None:
    """Refuse a HogQLQuery whose parts are of another kind than PostHog's schema has them, before anything is run.

    :param node: a query of any kind.
    :raises ApiError: 400 that names the part.
    """
    if node.get("kind") != "HogQLQuery":
        return
    if not isinstance(node.get("query"), str):
        raise _shape("query", "Field required" if node.get("query") is None else "Input should be a valid string")
    filters = node.get("filters")
    span = filters.get("dateRange") if isinstance(filters, dict) else None
    for name, value in (("values", node.get("values")), ("filters", filters), ("filters.dateRange", span)):
        if value is not None and not isinstance(value, dict):
            raise _shape(name, "Input should be a valid dictionary")


def _shape(name: str, text: str) -> ApiError:
    return parse_error(f"1 validation error for QueryRequest\nquery.HogQLQuery.{name}\n  {text}")


def run_hogql_query(work: Work) -> Json:
    """Run a HogQLQuery.

    :param work: what to run: ``query``, ``values``, ``variables`` and, of ``filters``, the ``dateRange``.
    :raises HogQLError: when HogQL refuses it, or a variable is missing.
    :raises ApiError: 400 for what the emulator does not fill in.
    """
    check_shape(work.node)
    text = str(work.node["query"])
    sent = work.node.get("values")
    values: dict[str, object] = {**(sent if isinstance(sent, dict) else {}), **_variables(work.node)}
    result = work.hogql(text, {**values, "filters": _filters(work)})
    return {
        "results": result.rows,
        "columns": result.columns,
        "types": [list(pair) for pair in result.types],
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


def _variables(node: Json) -> dict[str, object]:
    """Return the values of ``{variables.name}`` by that name."""
    wanted = node.get("variables") or {}
    if not isinstance(wanted, dict) or not all(isinstance(variable, dict) for variable in wanted.values()):
        raise invalid("variables: Input should be a valid dictionary of variables", attr="variables")
    return {
        f"variables.{variable.get('code_name')}": None if variable.get("isNull") else variable.get("value")
        for variable in wanted.values()
    }


def _filters(work: Work) -> Dates:
    """Return what ``{filters}`` stands for."""
    wanted = work.node.get("filters") or {}
    unknown = (
        [name for name, value in wanted.items() if value and name != "dateRange"] if isinstance(wanted, dict) else [""]
    )
    if unknown:
        raise invalid("The emulator fills only the dateRange of filters into a HogQLQuery.")
    span, zone = wanted.get("dateRange") or {}, ZoneInfo(work.warehouse.timezone)
    filters: dict[str, str | None] = {}
    for name in ("date_from", "date_to"):
        filters[name] = None
        if not span.get(name) or span[name] == "all":
            continue
        try:
            filters[name] = parse_date(str(span[name]), work.now, zone).isoformat()
        except ValueError:
            raise invalid(f"filters: {span[name]!r} is not a date.") from None
    return Dates(filters["date_from"], filters["date_to"])
