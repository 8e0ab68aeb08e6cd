"""Readings of insights that are not time series: a cell of SQL, a step of a funnel, a cell of a retention table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api.insight_ranges import STEPS, Window
from airflow_provider_posthog.api.insight_series import (
    FUNNEL_MEASURES,
    KINDS,
    RETENTION_MEASURES,
    Number,
    Pick,
    Reading,
    local_day,
    number,
    refuse,
)
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.exceptions import clean

_OF_STEP = {"count": "count", "average_seconds": "average_conversion_time", "median_seconds": "median_conversion_time"}


def cell(insight: Insight, pick: Pick) -> Reading:
    """Read a cell of an SQL insight.

    :param insight: PostHog's answer.
    :param pick: its ``row`` and ``column``.
    :raises PostHogSettingsError: if there is no such column, or no number in the cell.
    """
    rows: object = insight.get("result")
    if not isinstance(rows, list):
        refuse("insight", "has no rows in PostHog's answer.", KINDS)
    row = rows[pick.row] if len(rows) > pick.row else None
    if not isinstance(row, list) or not row:
        return Reading(None, reason="the query has no rows" if not rows else f"the query has no row {pick.row}")
    index = _column(pick.column, insight.get("columns"), len(row))
    types: Any = insight.get("types")
    typed = types[index] if isinstance(types, list) and len(types) > index else None
    kind = str(typed[-1]) if isinstance(typed, list) and typed else typed if isinstance(typed, str) else ""
    place = "the first cell" if (pick.row, index) == (0, 0) else f"the cell in row {pick.row}, column {index}"
    return Reading(number(row[index], kind), reason=f"{place} is null")


def _column(wanted: int | str, columns: object, width: int) -> int:
    names = [str(name) for name in columns] if isinstance(columns, list) else []
    if isinstance(wanted, str) and names.count(wanted) == 1:
        return names.index(wanted)
    if isinstance(wanted, int) and 0 <= wanted < width:
        return wanted
    known = ", ".join(repr(clean(name)) for name in names[:20])
    refuse(
        "column",
        f"is {wanted!r}, which is not a column of the query.",
        f"Write its number, from 0, or its name: {known}.",
    )


def is_dated_funnel(query: Mapping[str, Any]) -> bool:
    """Return whether a funnel is shown as conversion rates in time.

    :param query: its query, or its older ``filters``.
    """
    options = query.get("funnelsFilter") or {}
    return (options.get("funnelVizType") or query.get("funnel_viz_type")) == "trends"


def funnel(
    insight: Insight, query: Mapping[str, Any], pick: Pick, calculated: datetime | None, at: datetime | None
) -> list[Reading]:
    """Read a step of a funnel, for each selected part of a breakdown.

    :param insight: PostHog's answer.
    :param query: its query, or its older ``filters``.
    :param pick: its ``step``, ``measure`` and ``series``.
    :param calculated: when PostHog calculated it.
    :param at: the server's time when it answered, if known.
    :raises PostHogSettingsError: if there is no such step, measure or part.
    """
    measure = _measure(pick, FUNNEL_MEASURES, "a funnel")
    groups = _groups(insight.get("result"))
    if not groups:
        return [Reading(None, reason="the funnel has no steps with data")]
    window = Window.of(insight, query, "day")
    if calculated is not None and at is not None and window.moved(calculated, at):
        reason = f"its range has moved on since it was calculated, at {calculated:%Y-%m-%d %H:%M:%S} UTC"
        return [Reading(None, reason=reason, stale=True)]
    split = any("breakdown_value" in steps[0] for steps in groups)
    current = [steps for steps in groups if steps[0].get("compare_label") != "previous"]
    earlier = {_part(steps): steps for steps in groups if steps[0].get("compare_label") == "previous"}
    if split:
        current = _parts(current, pick.series)
        if not current:
            return [Reading(None, reason=f"the breakdown has no series {pick.series!r} now", series=str(pick.series))]
    cells = []
    for steps in current:
        before = earlier.get(_part(steps))
        reading = _step(steps, pick, measure)
        past = None if before is None else _step(before, pick, measure).value
        part = _part(steps) if split else None
        cells.append(replace(reading, period=past, series=part or reading.series))
    return cells


def _measure(pick: Pick, known: Sequence[str], of: str) -> str:
    measure = pick.measure or known[0]
    if measure not in known:
        refuse("measure", f"is {measure!r}, which {of} does not have.", f"Write one of {', '.join(known)}.")
    return measure


def _groups(result: object) -> list[list[Mapping[str, Any]]]:
    groups: list[Any] = result if isinstance(result, list) and result and isinstance(result[0], list) else [result]
    for steps in groups:
        if not isinstance(steps, list) or not all(isinstance(step, dict) and "order" in step for step in steps):
            refuse("insight", "is not answered with a list of a funnel's steps.", KINDS)
    return [sorted(steps, key=lambda step: step["order"]) for steps in groups if steps]


def _part(steps: Sequence[Mapping[str, Any]]) -> str:
    value = steps[0].get("breakdown_value", steps[0].get("breakdown"))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parts(groups: list[list[Mapping[str, Any]]], wanted: object) -> list[list[Mapping[str, Any]]]:
    if wanted is None:
        return groups
    if wanted == 0:
        if len(groups) == 1:
            return groups
        remedy = "Write series=, the name of one as PostHog shows it, or any or all in the condition."
        refuse("series", f"is needed: the breakdown makes {len(groups)} funnels.", remedy)
    names = [str(name) for name in wanted] if isinstance(wanted, (list, tuple)) else [str(wanted)]
    parts = [steps for steps in groups if _part(steps) in names]
    return parts if len(parts) == len(set(names)) else []


def _step(steps: Sequence[Mapping[str, Any]], pick: Pick, measure: str) -> Reading:
    index = _index(steps, pick.step)
    step = steps[index]
    name = clean(step.get("custom_name") or step.get("name") or f"step {index + 1}")
    if measure in _OF_STEP:
        value = number(step.get(_OF_STEP[measure]))
        return Reading(value, reason="PostHog has no such number of the step", series=name)
    base = number(steps[0 if measure == "conversion" or index == 0 else index - 1].get("count"))
    reason = "nobody took the step before" if index else "nobody took the first step"
    return Reading(_percent(number(step.get("count")), base), reason=reason, series=name, percent=True)


def _index(steps: Sequence[Mapping[str, Any]], wanted: int | str | None) -> int:
    if wanted is None:
        return len(steps) - 1
    if isinstance(wanted, int) or wanted.isdecimal():
        if 1 <= int(wanted) <= len(steps):
            return int(wanted) - 1
    else:
        named = [index for index, step in enumerate(steps) if wanted in (step.get("custom_name"), step.get("name"))]
        if len(named) == 1:
            return named[0]
    names = ", ".join(repr(clean(step.get("custom_name") or step.get("name"))) for step in steps)
    refuse(
        "step", f"is {wanted!r}, which is not a step of the funnel.", f"Write its number, from 1, or its name: {names}."
    )


def _percent(part: Number | None, whole: Number | None) -> Number | None:
    return None if part is None or not whole else part * 100 / whole


def retention(
    insight: Insight, query: Mapping[str, Any], pick: Pick, calculated: datetime | None, at: datetime | None
) -> list[Reading]:
    """Read a cell of a retention table, for each selected part of a breakdown.

    :param insight: PostHog's answer.
    :param query: its query, or its older ``filters``.
    :param pick: its ``period``, ``cohort``, ``measure`` and ``series``.
    :param calculated: when PostHog calculated it.
    :param at: the server's time when it answered, if known.
    :raises PostHogSettingsError: if there is no such cell, measure or part.
    """
    measure = _measure(pick, RETENTION_MEASURES, "a retention")
    rows = insight.get("result")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"values", "date"} <= set(row) for row in rows):
        refuse("insight", "is not answered with a list of a retention's cohorts.", KINDS)
    if calculated is None:
        return [Reading(None, reason="PostHog does not say when it was calculated (last_refresh)")]
    interval = str((query.get("retentionFilter") or query).get("period") or "Day").lower()
    if interval not in STEPS:
        refuse("insight", f"has periods of a {clean(interval)}, not of days, weeks or months.", KINDS)
    dates = [row.get("date") for row in rows]
    window = Window.of(insight, query, interval, first=dates[-1] if dates else None)
    if at is not None and window.stale(calculated, at):
        return [Reading(None, reason=f"a {interval} of it has ended since it was calculated", stale=True)]
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault(str(row.get("breakdown_value", "")), []).append(row)
    if pick.series not in (None, 0):
        names = [str(name) for name in (pick.series if isinstance(pick.series, (list, tuple)) else [pick.series])]
        parts = {name: parts.get(name, []) for name in names}
    elif pick.series == 0 and len(parts) > 1:
        refuse("series", f"is needed: the breakdown makes {len(parts)} parts.", "Write series=, the name of one.")
    return [
        replace(_of_cohort(cohorts, pick, measure, window, calculated), series=name or None)
        for name, cohorts in parts.items()
    ] or [Reading(None, reason="the retention has no cohorts")]


def _of_cohort(
    rows: Sequence[Mapping[str, Any]], pick: Pick, measure: str, window: Window, calculated: datetime
) -> Reading:
    cells: list[tuple[str, Number | None]] = []
    for row in rows:
        values, start = row["values"], local_day(row.get("date"), window)
        end = start
        for _ in range(pick.period + 1):
            end = STEPS[window.interval](end)
        if window.at(end) > calculated or len(values) <= pick.period:
            continue
        count, size = number(values[pick.period].get("count")), number(values[0].get("count"))
        cells.append((start.isoformat()[:10], count if measure == "count" else _percent(count, size)))
    where = [index for index, (date, _) in enumerate(cells) if pick.cohort is None or date == pick.cohort[:10]]
    if not where:
        which = "" if pick.cohort is None else f" of {pick.cohort[:10]}"
        return Reading(None, reason=f"no cohort{which} has a period {pick.period} that is over")
    (date, value), last = cells[where[-1]], where[-1]
    before = cells[last - 1] if last else (None, None)
    reason, percent = f"nobody is in the cohort of {date}", measure == "percent"
    return Reading(value, date, reason, previous=before[1], previous_date=before[0], percent=percent)
