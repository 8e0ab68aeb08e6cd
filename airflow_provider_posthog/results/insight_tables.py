"""The result of an insight as one flat table, long rather than wide, so that its columns do not change with its dates.

PostHog's own CSV of a trend has a column for each day; a table that gets a new column every night cannot be loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api.insight_ranges import zone_of
from airflow_provider_posthog.api.insight_series import BREAKDOWN_WORDS
from airflow_provider_posthog.api.insights import unwrap
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError, clean
from airflow_provider_posthog.results.insight_rows import as_selected

_TEXT, _WHOLE, _NUMBER = "Nullable(String)", "Nullable(Int64)", "Nullable(Float64)"
#: Displays of a trend that have one number in place of one for each interval.
_TOTALS = frozenset({"BoldNumber", "Metric", "ActionsPie", "ActionsBarValue", "ActionsTable", "WorldMap"})
#: Displays of a trend that PostHog answers in other fields than points.
_POINTLESS = frozenset({"BoxPlot", "CalendarHeatmap"})
#: How the names of kinds begin whose results are neither series nor rows.
_SHAPELESS = ("Paths", "WebOverview", "Experiment", "CalendarHeatmap")
_LEGACY = {
    "TRENDS": "TrendsQuery",
    "FUNNELS": "FunnelsQuery",
    "RETENTION": "RetentionQuery",
    "LIFECYCLE": "LifecycleQuery",
    "STICKINESS": "StickinessQuery",
    "PATHS": "PathsQuery",
}
#: What to write for a result that has no table.
TABLELESS = (
    "Write the result as JSON: end the path with .json or .json.gz. Trends, stickiness, lifecycles, funnels, "
    "retention and SQL insights have tables."
)


@dataclass(frozen=True)
class Table:
    """Rows of JSON scalars: text, numbers, booleans and None; times are ISO text.

    :param columns: their names, each once.
    :param rows: one cell for each column.
    :param types: ``[name, ClickHouse type]`` for each column, as PostHog's ``types``; ``None`` if they are not known.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    types: Sequence[Sequence[str]] | None = None


def table_of(insight: Mapping[str, Any], *, field: str = "path") -> Table:
    """Make a table of an insight's result.

    ======================= ============================================================================================
    insight                 columns
    ======================= ============================================================================================
    trend                   series_order, series, [breakdown], [compare], date, value
    trend, totals           series_order, series, [breakdown], [compare], value
    lifecycle               as a trend, with status before the date
    stickiness              as a trend, with interval (1, 2, ...) in place of the date
    funnel, steps           [breakdown], [compare], step, name, count, average_conversion_seconds and
                            median_conversion_seconds (from the step before), conversion_rate and
                            conversion_rate_from_previous (percent of the first step, and of the one before)
    funnel, trends          [breakdown], [compare], date, conversion_rate (percent)
    funnel, time to convert [compare], bin_seconds, count
    retention               [breakdown], cohort, cohort_size, period, period_label, count, [aggregation_value]
    SQL, tables of events   those of the answer; arrays, maps and tuples become JSON text
    ======================= ============================================================================================

    Several breakdowns are ``breakdown_1``, ``breakdown_2``...; values are in PostHog's words (:data:`BREAKDOWN_WORDS`).
    Dates are the project's local ones, as PostHog shows them: ``2026-11-01``, or ``2026-11-01T05:00:00`` for hours.

    :param insight: as ``GET insights/{id}/`` answers; for an answer of ``POST query/``, ``{**answer, "query": node}``.
    :param field: what an error calls the argument that asked for a table.
    :raises PostHogIncompleteError: if it has no result.
    :raises PostHogSettingsError: if there is no table for its kind or shape; it says to write JSON.
    """
    result = insight.get("result", insight.get("results"))
    if result is None:
        raise PostHogIncompleteError("the insight has no result: it was not calculated, or its calculation failed")
    kind = clean(_Asked.of(insight).kind)[:60]
    try:
        made = _table(_Asked.of(insight), insight, result)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        problem = f"is for a table, but PostHog's answer does not have the known shape of a {kind}."
        raise PostHogSettingsError(field, problem, TABLELESS) from None
    if made is None:
        raise PostHogSettingsError(field, f"is for a table, and the result of a {kind} has none.", TABLELESS)
    return made


def no_table(insight: Mapping[str, Any]) -> str | None:
    """Return why an insight's query has no table, as far as that is known beforehand; ``None`` otherwise.

    :param insight: as ``GET insights/{id}/`` answers, calculated or not.
    """
    asked = _Asked.of(insight)
    kind = clean(asked.kind)[:60]
    if asked.kind.startswith(_SHAPELESS):
        return f"it is a {kind}."
    if asked.display in _POINTLESS:
        return f"it is a {kind} shown as {asked.display}, which has no points."
    return None


def _table(asked: _Asked, insight: Mapping[str, Any], result: Any) -> Table | None:  # noqa: ANN401 - JSON
    if no_table(insight) is not None:
        return None
    if asked.kind in ("TrendsQuery", "LifecycleQuery", "StickinessQuery"):
        return _trends(asked, _with_points(insight, _objects(result)))
    if asked.kind == "FunnelsQuery":
        return _funnels(asked, result)
    if asked.kind == "RetentionQuery":
        return _retention(asked, _objects(result), insight.get("timezone"))
    if isinstance(result, list) and all(isinstance(row, (list, tuple)) for row in result):
        return Table(*as_selected(insight, result))
    return None


@dataclass(frozen=True)
class _Asked:
    """What the insight's query or its older ``filters`` say of the result's shape."""

    kind: str
    breakdowns: int
    compare: bool
    display: str
    by_cohort: bool = False
    formulas: tuple[str, ...] = ()

    @classmethod
    def of(cls, insight: Mapping[str, Any]) -> _Asked:
        node = unwrap(insight.get("query"))
        filters = _mapping(insight.get("filters"))
        if node is None:
            legacy = str(filters.get("insight") or "TRENDS").upper() if filters else ""
            kind = _LEGACY.get(legacy, "query of an unknown kind")
            display = filters.get("funnel_viz_type") if kind == "FunnelsQuery" else filters.get("display")
            return cls(kind, _number_of(filters), bool(filters.get("compare")), str(display or ""))
        own = "funnelVizType" if node["kind"] == "FunnelsQuery" else "display"
        options = _mapping(node.get("funnelsFilter" if own == "funnelVizType" else "trendsFilter"))
        compare = _mapping(node.get("compareFilter")).get("compare") or options.get("compare")
        parts = _mapping(node.get("breakdownFilter"))
        by_cohort = parts.get("breakdown_type") == "cohort"
        made = (node["kind"], _number_of(parts), bool(compare), str(options.get(own) or ""))
        return cls(*made, by_cohort, _formulas(options))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _formulas(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a trend's formulas."""
    nodes = options.get("formulaNodes") or options.get("formulas") or [options.get("formula")]
    named = [(node.get("custom_name") or node.get("formula")) if isinstance(node, Mapping) else node for node in nodes]
    return tuple(str(name) for name in named if name)


def _number_of(breakdown: Mapping[str, Any]) -> int:
    several, single = breakdown.get("breakdowns"), breakdown.get("breakdown")
    if several:
        return len(several)
    if isinstance(single, list) and breakdown.get("breakdown_type") != "cohort":
        return len(single)
    return 1 if single else 0


def _objects(result: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - JSON
    if not isinstance(result, list) or not all(isinstance(item, Mapping) for item in result):
        raise TypeError("not a list of objects")
    return result


class _Leading:
    """The columns that tell series apart: breakdown values, and which of two periods that are compared."""

    def __init__(self, asked: _Asked, items: Sequence[Mapping[str, Any]]) -> None:
        self._by_name = asked.by_cohort
        self._parts = max([asked.breakdowns, *(self._levels(item) for item in items)])
        self._compare = asked.compare or any(item.get("compare_label") for item in items)
        names = [f"breakdown_{number + 1}" for number in range(self._parts)] if self._parts > 1 else ["breakdown"]
        self.columns = [*names[: self._parts], *(["compare"] if self._compare else [])]

    @staticmethod
    def _levels(item: Mapping[str, Any]) -> int:
        value = item.get("breakdown_value")
        if isinstance(value, list):
            return len(value)
        return 0 if value is None else 1

    def cells(self, item: Mapping[str, Any]) -> list[Any]:
        value = item.get("breakdown_value")
        if self._by_name and not isinstance(value, list) and value != "all" and item.get("label"):
            value = _cohort_name(item)
        if not isinstance(value, list):
            # PostHog joins the values of several breakdowns of a retention
            joined = value.split("::") if isinstance(value, str) and self._parts > 1 else []
            value = joined if len(joined) == self._parts else [value]
        parts = [_shown(part) for part in value[: self._parts]]
        padding = [None] * (self._parts - len(parts))
        return [*parts, *padding, *([item.get("compare_label") or None] if self._compare else [])]


def _cohort_name(item: Mapping[str, Any]) -> str:
    """Return the name of a cohort, whose value is its number; its label may have series and period around it."""
    label = re.sub(r" - (current|previous)$", "", str(item["label"]))
    return label.removeprefix(f"{_series(item, ())[1]} - ")


def _shown(value: object) -> str | None:
    """Write a breakdown's value as text always: a column must not be of numbers one night and of text the next."""
    if value is None:
        return None
    return BREAKDOWN_WORDS.get(value, value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _typed(columns: Sequence[str], rows: list[tuple[Any, ...]], types: Mapping[str, str]) -> Table:
    """Make a table; numbers that are whole by rule become so (servers count in floats), unless one has a fraction."""
    kinds = [types.get(name, _TEXT) for name in columns]
    whole = [index for index, kind in enumerate(kinds) if kind == _WHOLE]
    for index in whole:
        if any(isinstance(row[index], float) and not row[index].is_integer() for row in rows):
            kinds[index] = _NUMBER
    whole = [index for index in whole if kinds[index] == _WHOLE]
    made = [tuple(_whole(cell) if at in whole else cell for at, cell in enumerate(row)) for row in rows]
    return Table(tuple(columns), made, [list(pair) for pair in zip(columns, kinds, strict=True)])


def _moment(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str):
        raise TypeError("not a date")
    return value.replace(" ", "T", 1)


def _pairs(item: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the days and numbers of a series."""
    return zip(item["days"], item["data"], strict=True)


def _trends(asked: _Asked, items: Sequence[Mapping[str, Any]]) -> Table:
    leading = _Leading(asked, items)
    status = ["status"] if asked.kind == "LifecycleQuery" else []
    total = asked.display in _TOTALS or (bool(items) and all(_is_total(item) for item in items))
    on = "interval" if asked.kind == "StickinessQuery" else "date"
    rows: list[tuple[Any, ...]] = []
    for item in items:
        head = [*_series(item, asked.formulas), *leading.cells(item), *(item["status"] for _ in status)]
        if total:
            rows.append((*head, item["aggregated_value"]))
        else:
            rows += [(*head, int(day) if on == "interval" else _moment(day), value) for day, value in _pairs(item)]
    columns = ["series_order", "series", *leading.columns, *status, *([] if total else [on]), "value"]
    return _typed(columns, rows, {"series_order": _WHOLE, "interval": _WHOLE, "value": _NUMBER})


def _with_points(insight: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Refuse an answer that has its numbers in other fields: the table would be empty, and look whole.

    :raises ValueError: if it does.
    """
    if insight.get("boxplot_data") is not None or any("calendar_heatmap_data" in item for item in items):
        raise ValueError("other fields")
    return items


def _is_total(item: Mapping[str, Any]) -> bool:
    return not item.get("data") and item.get("aggregated_value") is not None


def _series(item: Mapping[str, Any], formulas: Sequence[str]) -> tuple[Any, Any]:
    action = _mapping(item.get("action"))
    order = action.get("order", item.get("order"))
    # with a breakdown, the label is the breakdown's value
    if formulas and "breakdown_value" in item:
        return order, formulas[order] if isinstance(order, int) and order < len(formulas) else formulas[0]
    return order, action.get("custom_name") or action.get("name") or item.get("label")


def _funnels(asked: _Asked, result: Any) -> Table:  # noqa: ANN401 - JSON
    first = result[0] if isinstance(result, list) and result else result
    if (isinstance(first, Mapping) and "bins" in first) or asked.display == "time_to_convert":
        return _bins(asked, _objects([result] if isinstance(result, Mapping) else result))
    if (isinstance(first, Mapping) and "days" in first) or asked.display == "trends":
        return _conversions(asked, _objects(result))
    groups = result if isinstance(first, list) else [result]
    steps = [step for group in groups for step in _objects(group)]
    leading = _Leading(asked, steps)
    rows: list[tuple[Any, ...]] = []
    for group in groups:
        counts = {step["order"]: step["count"] for step in group}
        rows += [
            (
                *leading.cells(step),
                step["order"] + 1,
                step.get("custom_name") or step.get("name") or step.get("action_id"),
                step["count"],
                step.get("average_conversion_time"),
                step.get("median_conversion_time"),
                _rate(step["count"], counts.get(0)),
                _rate(step["count"], counts.get(max(0, step["order"] - 1))),
            )
            for step in group
        ]
    numbers = ["average_conversion_seconds", "median_conversion_seconds"]
    numbers += ["conversion_rate", "conversion_rate_from_previous"]
    columns = [*leading.columns, "step", "name", "count", *numbers]
    return _typed(columns, rows, {"step": _WHOLE, "count": _WHOLE, **dict.fromkeys(numbers, _NUMBER)})


def _rate(part: float, whole: float | None) -> float | None:
    """Return percent; ``None`` of nothing."""
    return part * 100 / whole if whole else None


def _bins(asked: _Asked, items: Sequence[Mapping[str, Any]]) -> Table:
    compare = asked.compare or any(item.get("compare_label") for item in items)
    rows: list[tuple[Any, ...]] = [
        (*([item.get("compare_label")] if compare else []), seconds, count)
        for item in items
        for seconds, count in item["bins"]
    ]
    columns = [*(["compare"] if compare else []), "bin_seconds", "count"]
    return _typed(columns, rows, {"bin_seconds": _NUMBER, "count": _WHOLE})


def _conversions(asked: _Asked, items: Sequence[Mapping[str, Any]]) -> Table:
    leading = _Leading(asked, items)
    rows = [(*leading.cells(item), _moment(day), value) for item in items for day, value in _pairs(item)]
    return _typed([*leading.columns, "date", "conversion_rate"], rows, {"conversion_rate": _NUMBER})


def _cohort(item: Mapping[str, Any], zone: object) -> str:
    """Write a cohort's date as a trend writes that of its points: the project's local one."""
    day = item.get("date") or item["label"]
    try:
        start = datetime.fromisoformat(str(day).replace("Z", "+00:00"))
    except ValueError:
        return str(day)
    if start.tzinfo is not None and isinstance(zone, str) and zone:
        start = start.astimezone(zone_of(zone))
    return start.strftime("%Y-%m-%d" if start.hour == start.minute == 0 else "%Y-%m-%dT%H:%M:%S")


def _retention(asked: _Asked, items: Sequence[Mapping[str, Any]], zone: object) -> Table:
    leading = _Leading(asked, items)
    valued = any("aggregation_value" in value for item in items for value in item["values"])
    rows: list[tuple[Any, ...]] = []
    for item in items:
        values = item["values"]
        head = (*leading.cells(item), _cohort(item, zone), values[0]["count"] if values else None)
        for period, value in enumerate(values):
            more = [value.get("aggregation_value")] if valued else []
            rows.append((*head, period, value.get("label"), value["count"], *more))
    known = ["cohort", "cohort_size", "period", "period_label", "count"]
    columns = [*leading.columns, *known, *(["aggregation_value"] if valued else [])]
    types = {**dict.fromkeys(("cohort_size", "period", "count"), _WHOLE), "aggregation_value": _NUMBER}
    return _typed(columns, rows, types)


def _whole(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Write ``3.0`` as ``3``: newer servers count in floats where nobody came back."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
