"""Readings of a series: its newest complete point, or its total; and which series is selected."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn

from airflow_provider_posthog.api.insight_ranges import STEPS, Window
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.patterns import pattern

_NUMERIC_TYPE = pattern(r"\b(U?Int\d|Float\d|Decimal)")
Number = int | float
Series = int | str | Sequence[int | str] | None
Measure = Literal["conversion", "conversion_from_previous", "count", "average_seconds", "median_seconds", "percent"]
#: What can be read of a step of a funnel, and of a cell of a retention; the first is the default.
FUNNEL_MEASURES = ("conversion", "conversion_from_previous", "count", "average_seconds", "median_seconds")
RETENTION_MEASURES = ("percent", "count")
#: What PostHog writes for "has no such property" and for "all others", and the words in which it shows them.
BREAKDOWN_WORDS = {
    "$$_posthog_breakdown_null_$$": "None (i.e. no value)",
    "$$_posthog_breakdown_other_$$": "Other (i.e. all remaining values)",
}
_NO_DATES = "Take a trend by hour, day, week, month or quarter, or an SQL insight."
#: The remedy for an insight that has no such number.
KINDS = "Take a trend, a lifecycle, a funnel of steps, a retention or an SQL insight."


@dataclass(frozen=True)
class Reading:
    """A number of an insight, and where it comes from.

    :param value: the number; ``None`` if there is none yet.
    :param date: the point's beginning, in the project's time, as PostHog writes it; ``None`` where it has none.
    :param reason: why there is no number, fit for a log.
    :param stale: whether a newer calculation would have a newer complete point.
    :param series: what PostHog calls the series, step or column; ``None`` where there is only one thing to read.
    :param previous: the number of the point before; ``None`` if there is none.
    :param previous_date: the beginning of that.
    :param period: the number at the same place of the period before, where the insight compares two.
    :param percent: whether the number is a percentage.
    """

    value: Number | None
    date: str | None = None
    reason: str = ""
    stale: bool = False
    series: str | None = None
    previous: Number | None = None
    previous_date: str | None = None
    period: Number | None = None
    percent: bool = False


@dataclass(frozen=True)
class Pick:
    """Which number of an insight to read.

    :param series: of a trend or lifecycle, and of the parts of a breakdown: its number, from 0, its name, several of
        these, or ``None`` for all.
    :param measure: what of a step of a funnel, or of a cell of a retention.
    :param step: which step of a funnel: its number, from 1, or its name; ``None`` for the last.
    :param period: which column of a retention, from 0.
    :param cohort: which row of it, by its date; ``None`` for the newest whose period is over.
    :param row: which row of SQL, from 0.
    :param column: which column of SQL: its number, from 0, or its name.
    """

    series: Series = 0
    measure: Measure | None = None
    step: int | str | None = None
    period: int = 1
    cohort: str | None = None
    row: int = 0
    column: int | str = 0


def number(value: object, kind: str = "") -> Number | None:
    """Read a number; ``None`` for null, and for what is not a finite number.

    :param value: from JSON.
    :param kind: ClickHouse's type of it, if known: decimals and large integers come as text.
    :raises PostHogSettingsError: if it is anything else. The message does not show the value, which may be personal.
    """
    if isinstance(value, str) and _NUMERIC_TYPE.search(kind):
        try:
            value = int(value) if re.fullmatch(r"-?\d+", value) else float(value)
        except ValueError:
            value = None
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    refuse(
        "insight",
        f"has a value that is not a number but {clean(kind) or type(value).__name__}.",
        "Let the query's column be a number, such as count().",
    )


def chosen(result: object, wanted: Series) -> list[Mapping[str, Any]] | Reading:
    """Choose the selected series; those that a comparison adds for the previous period do not count.

    Each is returned with its previous period, if the insight compares, as ``period_before``.

    :param result: the insight's result.
    :param wanted: as :attr:`Pick.series`.
    :raises PostHogSettingsError: if one does not exist, or is ambiguous.
    """
    if not isinstance(result, list) or not all(isinstance(item, dict) for item in result):
        refuse("insight", "is not answered with a list of series.", KINDS)
    current = [item for item in result if item.get("compare_label") != "previous"]
    before = {_identity(item): item for item in result if item.get("compare_label") == "previous"}
    current = [{**item, "period_before": before.get(_identity(item))} for item in current]
    if not current:
        return Reading(None, reason="the trend has no series with data")
    if wanted is None:
        return current
    names = [wanted] if isinstance(wanted, (int, str)) else list(wanted)
    series = [_one(current, name) for name in names]
    missing = next((item for item in series if isinstance(item, Reading)), None)
    return missing or [item for item in series if not isinstance(item, Reading)]


def _identity(item: Mapping[str, Any]) -> str:
    action = item.get("action") or {}
    label = re.sub(r" - (current|previous)$", "", str(item.get("label")))
    return repr((action.get("order"), action.get("id"), item.get("breakdown_value"), item.get("status"), label))


def _one(current: Sequence[Mapping[str, Any]], wanted: int | str) -> Mapping[str, Any] | Reading:
    split = any("breakdown_value" in item for item in current)
    named = [item for item in current if wanted in _names(item)] if isinstance(wanted, str) else []
    if len(named) == 1:
        return named[0]
    if named:
        remedy = "Give the series names of their own in PostHog, or write the series' number."
        refuse("series", f"is {wanted!r}, the name of {len(named)} series.", remedy)
    index = _index(wanted)
    if split:
        if index is None:
            return Reading(None, reason=f"the breakdown has no series {wanted!r} now", series=str(wanted))
        if len(current) > 1:
            remedy = "Write the name of one, as PostHog shows it; their order changes with their size."
            refuse("series", f"is needed by name: the breakdown makes {len(current)} series.", remedy)
    if index is None or not 0 <= index < len(current):
        known = ", ".join(repr(clean(item.get("label"))) for item in current)
        refuse(
            "series",
            f"is {wanted!r}, which the trend does not have.",
            f"Write the number, from 0, or the name of one: {known}.",
        )
    return current[index]


def _names(item: Mapping[str, Any]) -> set[str]:
    action = item.get("action") or {}
    status = item.get("status")  # of a lifecycle
    names = (item.get("label"), action.get("custom_name"), action.get("name"), action.get("id"), status)
    if "breakdown_value" in item:  # each part has the action's name
        value = item["breakdown_value"]
        word = BREAKDOWN_WORDS.get(value) if isinstance(value, str) else None
        names = (item.get("label"), value, word, None, status)
    elif status:
        names = (item.get("label"), None, None, None, status)
    return {name for name in names if isinstance(name, str)}


def name_of(item: Mapping[str, Any]) -> str | None:
    """Return what PostHog shows as the name of a series.

    :param item: an entry of a result.
    """
    shown = item.get("label") if "breakdown_value" in item or item.get("status") else None
    action = item.get("action") or {}
    shown = shown or action.get("custom_name") or item.get("label") or action.get("name")
    return clean(shown) if shown else None


def _index(wanted: int | str) -> int | None:
    if isinstance(wanted, int):
        return wanted
    return int(wanted) if re.fullmatch("[0-9]{1,6}", wanted) else None


def of_series(
    insight: Insight, query: Mapping[str, Any], item: Mapping[str, Any], at: datetime | None, *, named: bool
) -> Reading:
    """Read a series: its total, or its newest complete point.

    :param insight: PostHog's answer.
    :param query: its query, or its older ``filters``.
    :param item: from :func:`chosen`.
    :param at: the server's time when it answered, if known.
    :param named: whether its name is returned.
    :raises PostHogSettingsError: if it has neither.
    """
    series = name_of(item) if named else None
    ran = item.get("filter") or {}
    calculated = calculated_at(insight, at)
    before = item.get("period_before") or {}
    if "aggregated_value" in item and not item.get("data"):
        window = Window.of(insight, query, "day", ran=ran)
        if calculated is not None and at is not None and window.moved(calculated, at):
            return Reading(None, reason=_moved(calculated), stale=True, series=series)
        total = number(item["aggregated_value"])
        return Reading(
            total, reason="the trend has no total", series=series, period=number(before.get("aggregated_value"))
        )
    days, data, interval = item.get("days"), item.get("data"), ran.get("interval") or query.get("interval") or "day"
    if interval not in STEPS or not isinstance(days, list) or not isinstance(data, list) or len(days) != len(data):
        refuse("insight", "has no points in time.", _NO_DATES)
    window = Window.of(insight, query, interval, ran=ran, first=days[-1] if days else None)
    return replace(point(days, data, window, calculated, at, before.get("data")), series=series)


def point(
    days: Sequence[object],
    data: Sequence[object],
    window: Window,
    calculated: datetime | None,
    at: datetime | None,
    before: object = None,
) -> Reading:
    """Read the newest complete point of a series.

    :param days: when each begins, in the project's time.
    :param data: their numbers.
    :param window: their time range.
    :param calculated: when PostHog calculated them.
    :param at: the server's time when it answered, if known.
    :param before: the numbers of the period before, in the same order.
    """
    starts = [local_day(day, window) for day in days]
    if calculated is None:
        return Reading(None, reason="PostHog does not say when it was calculated (last_refresh)")
    if at is not None and window.stale(calculated, at):
        return Reading(None, reason=_ended(window, calculated, at), stale=True)
    last = next((index for index in reversed(range(len(starts))) if window.whole(starts[index], calculated)), None)
    if last is None:
        return Reading(None, reason=f"its first {window.interval} has not ended" if days else "it has no points")
    previous = last - 1 if last and window.whole(starts[last - 1], calculated) else None
    compared = before[last] if isinstance(before, list) and len(before) > last else None
    return Reading(
        number(data[last]),
        str(days[last]),
        reason=f"there is no data for {days[last]}",
        previous=None if previous is None else number(data[previous]),
        previous_date=None if previous is None else str(days[previous]),
        period=number(compared),
    )


def local_day(day: object, window: Window) -> datetime:
    """Read when a point begins, by the project's clock.

    :param day: as PostHog writes it.
    :param window: the range, with its time zone.
    :raises PostHogSettingsError: if it is not a date.
    """
    try:
        start = read_iso(str(day))
    except ValueError:
        refuse("insight", "has points without dates.", _NO_DATES)
    return start if start.tzinfo is None else window.local(start)


def calculated_at(insight: Insight, at: datetime | None) -> datetime | None:
    """Return when a result was calculated, but no time after the answer itself.

    :param insight: PostHog's answer.
    :param at: the server's time when it answered, if known.
    """
    refreshed = moment(insight.get("last_refresh"))
    return refreshed if refreshed is None or at is None else min(refreshed, at + timedelta(seconds=1))


def _ended(window: Window, calculated: datetime, at: datetime) -> str:
    return (
        f"a {window.interval} of it has ended since it was calculated, at {calculated:%Y-%m-%d %H:%M:%S} UTC "
        f"(PostHog answered at {at:%Y-%m-%d %H:%M:%S} UTC)"
    )


def _moved(calculated: datetime) -> str:
    return f"its range has moved on since it was calculated, at {calculated:%Y-%m-%d %H:%M:%S} UTC"


def refuse(field: str, problem: str, remedy: str) -> NoReturn:
    """Raise the error of an argument.

    :param field: the argument.
    :param problem: what is wrong.
    :param remedy: what to write.
    """
    raise PostHogSettingsError(field, problem, remedy)
