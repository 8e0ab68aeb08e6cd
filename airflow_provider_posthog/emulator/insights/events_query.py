"""EventsQuery nodes: the table of events of PostHog's web interface, written as HogQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid
from airflow_provider_posthog.emulator.insights.dates import parse_date

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.jobs.work import Work

STAR = ("uuid", "event", "properties", "timestamp", "distinct_id", "elements_chain", "created_at")
PERSON = ("person_id", "distinct_id")
_AGGREGATE = re.compile(r"\b(count|countIf|sum|avg|min|max|any|uniq|median)\s*\(", re.IGNORECASE)
# the exports' worker fetches page after page of 10,000 rows up to its cap; one query is the same to its readers
EXPORT_LIMIT = 300_000


def run_events_query(work: Work) -> Json:
    """Run an EventsQuery.

    It knows ``select``, ``event``, ``where``, ``properties`` (exact event properties), ``after``, ``before``,
    ``orderBy`` and ``limit``.

    :param work: what to run.
    :raises HogQLError: when HogQL refuses it.
    :raises ApiError: 400 for what the emulator does not understand.
    """
    node = work.node
    select = [re.sub(r"\s*--.*$", "", str(expression)) for expression in node.get("select") or ["*"]]
    limit = EXPORT_LIMIT if work.context == "export" else int(node.get("limit") or 100)
    conditions, values = _conditions(work)
    columns = [column for expression in select for column in _expand(expression)]
    grouped = (
        [expression for expression in select if not _AGGREGATE.search(expression)]
        if any(map(_AGGREGATE.search, select))
        else []
    )
    sql = f"SELECT {', '.join(columns)} FROM events WHERE {' AND '.join(conditions)}"  # noqa: S608 - HogQL, by design
    if grouped:
        sql += f" GROUP BY {', '.join(column for expression in grouped for column in _expand(expression))}"
    order = node.get("orderBy") or (["timestamp DESC"] if {"*", "timestamp"} & set(select) else [])
    if order:
        sql += f" ORDER BY {', '.join(map(str, order))}"
    # one more than asked for tells whether there is more
    result = work.hogql(f"{sql} LIMIT {limit if work.context == 'export' else limit + 1}", values)
    return {
        "results": [_assemble(select, row) for row in result.rows[:limit]],
        "columns": [str(expression) for expression in node.get("select") or ["*"]],
        "types": _types(select, result.types),
        "hasMore": len(result.rows) > limit,
        "limit": limit,
        "offset": 0,
        "hogql": result.hogql,
    }


def _expand(expression: str) -> tuple[str, ...]:
    return {"*": STAR, "person": PERSON}.get(expression, (expression,))


def _assemble(select: list[str], row: list[object]) -> list[object]:
    cells = iter(row)
    built: list[object] = []
    for expression in select:
        if expression == "*":
            built.append({name: next(cells) for name in STAR})
        elif expression == "person":
            built.append({"uuid": next(cells), "distinct_id": next(cells)})
        else:
            built.append(next(cells))
    return built


def _types(select: list[str], types: list[tuple[str, str]]) -> list[list[str]]:
    iterator = iter(types)
    written = []
    for expression in select:
        parts = [next(iterator) for _ in _expand(expression)]
        written.append(
            [expression, parts[0][1] if len(parts) == 1 else f"Tuple({', '.join(part[1] for part in parts)})"]
        )
    return written


def _conditions(work: Work) -> tuple[list[str], dict[str, object]]:
    node = work.node
    values: dict[str, object] = {}
    conditions = [f"({condition})" for condition in node.get("where") or []]
    if node.get("event"):
        values["event"] = node["event"]
        conditions.append("event = {event}")
    for index, wanted in enumerate(node.get("properties") or []):
        conditions.append(_property(wanted, f"property_{index}", values))
    zone = ZoneInfo(work.warehouse.timezone)
    for name, sign, default in (("after", ">=", "-24h"), ("before", "<=", None)):
        text = node.get(name) or default
        if text and text != "all":
            try:
                values[name] = parse_date(str(text), work.now, zone).isoformat()
            except ValueError:
                raise invalid(f"{name}: {text!r} is not a date.") from None
            conditions.append(f"timestamp {sign} toDateTime({{{name}}})")
    return conditions or ["1 = 1"], values


def _property(wanted: object, name: str, values: dict[str, object]) -> str:
    if not isinstance(wanted, dict) or wanted.get("operator", "exact") != "exact" or "`" in str(wanted.get("key", "`")):
        raise invalid("The emulator filters events by exact event properties only.")
    value = wanted.get("value")
    values[name] = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return f"properties.`{wanted['key']}` IN {{{name}}}"
