"""Put the numbers of many insights into one long table, so that a dashboard is one table in a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_posthog.api.insight_values import kind_of
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.results.insight_tables import Table, table_of

COLUMNS = ("insight_id", "short_id", "insight", "series", "breakdown", "date", "value")
_TYPES = {"insight_id": "Int64", "value": "Nullable(Float64)"}
#: Kinds whose tables are series of numbers; rows of SQL have columns of their own.
_KINDS = frozenset({"TrendsQuery", "LifecycleQuery", "StickinessQuery", "FunnelsQuery", "RetentionQuery"})
#: In which column of a kind's table its number is; the first that is there.
_VALUES = ("value", "count", "conversion_rate")


def long_table(insights: Iterable[Mapping[str, Any]]) -> tuple[Table, dict[int, str]]:
    """Make one table of the results of insights.

    ============ =====================================================================================================
    column
    ============ =====================================================================================================
    insight_id   the insight's number
    short_id     its short id
    insight      its name
    series       the series of a trend (with ``- current`` or ``- previous``, and the status of a lifecycle); the step
                 of a funnel; the period of a retention; the number of intervals of a stickiness
    breakdown    the values of a breakdown, joined by `` :: ``; null without one
    date         of the point, or of a retention's cohort, in the project's time; null of totals and funnels
    value        the number: a count, a total, or percent of a funnel in time
    ============ =====================================================================================================

    :param insights: PostHog's answers, with their results.
    :returns: the table; and by the insight's number why it is not in it.
    """
    rows: list[tuple[Any, ...]] = []
    without: dict[int, str] = {}
    for insight in insights:
        number = int(insight["id"])
        kind = kind_of(insight)  # type: ignore[arg-type]
        if kind not in _KINDS:
            without[number] = f"a {kind} is not a series of numbers"
            continue
        try:
            made = table_of(insight)
        except PostHogError as error:
            without[number] = str(error)
            continue
        name = insight.get("name") or insight.get("derived_name")
        head = (number, insight.get("short_id"), name)
        rows += [(*head, *_cells(dict(zip(made.columns, row, strict=True)))) for row in made.rows]
    types = [[column, _TYPES.get(column, "Nullable(String)")] for column in COLUMNS]
    return Table(COLUMNS, rows, types), without


def _cells(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return series, breakdown, date and value of a row of an insight's own table."""
    parts = [value for name, value in row.items() if name == "breakdown" or name.startswith("breakdown_")]
    shown = [value for value in parts if value is not None]
    value = next(row[name] for name in _VALUES if name in row)
    value = float(value) if value is not None else None
    return _series(row), " :: ".join(map(str, shown)) if shown else None, row.get("date", row.get("cohort")), value


def _series(row: Mapping[str, Any]) -> str | None:
    if "period" in row:
        return str(row.get("period_label") or f"Period {row['period']}")
    if "bin_seconds" in row:
        return f"{row['bin_seconds']} seconds"
    named = row.get("series", row.get("name"))
    more = [row[name] for name in ("status", "compare") if row.get(name)]
    more += [f"{row['interval']} intervals"] if "interval" in row else []
    words = [str(word) for word in (named, *more) if word is not None]
    return " - ".join(words) or None
