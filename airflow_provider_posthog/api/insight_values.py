"""The one number that an insight says now: the newest complete point of a trend, or the first cell of SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from airflow_provider_posthog.api.insights import Insight, runnable_query
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean

#: Where it is earliest on earth: if the project's time zone is not known, no point is taken for complete too soon.
_LAST_ZONE = timezone(timedelta(hours=-12))
_STEPS: dict[str, Callable[[datetime], datetime]] = {
    "second": lambda start: start + timedelta(seconds=1),
    "minute": lambda start: start + timedelta(minutes=1),
    "hour": lambda start: start + timedelta(hours=1),
    "day": lambda start: start + timedelta(days=1),
    "week": lambda start: start + timedelta(days=7),
    "month": lambda start: (start.replace(day=1) + timedelta(days=32)).replace(day=1),
}
_NUMERIC_TYPE = re.compile(r"\b(U?Int\d|Float\d|Decimal)")
Number = int | float


@dataclass(frozen=True)
class Reading:
    """What an insight says.

    :param value: the number; ``None`` if there is none yet.
    :param date: the point's beginning, in the project's time, as PostHog writes it; ``None`` where it has none.
    :param reason: why there is no number, fit for a log.
    :param stale: whether a newer calculation would have a newer complete point.
    """

    value: Number | None
    date: str | None = None
    reason: str = ""
    stale: bool = False


def newest(insight: Insight, series: int | str, at: datetime | None) -> Reading:
    """Read an insight's newest value out of its result.

    Of a trend: the newest point whose hour, day, week or month had ended when PostHog calculated it, by PostHog's
    clock and in the project's time zone. Of a trend shown as one total: that total, up to the time it was calculated.
    Of SQL: the first cell.

    :param insight: PostHog's answer, with its result.
    :param series: which series of a trend: its number, from 0, or its name.
    :param at: the server's time when it answered, if known.
    :raises PostHogSettingsError: if there is no such number in an insight of this kind.
    """
    query = runnable_query(insight)
    filters = insight.get("filters") or {}
    kind = query["kind"] if query else f"{str(filters.get('insight', 'TRENDS')).title()}Query"
    if kind == "HogQLQuery":
        return _first_cell(insight)
    if kind != "TrendsQuery":
        _refuse("insight", f"it is a {clean(kind)}.", "Take a trend or an SQL insight.")
    item = _series(insight.get("result"), series)
    if isinstance(item, Reading):
        return item
    if "aggregated_value" in item and not item.get("data"):
        return Reading(number(item["aggregated_value"]), reason="the trend has no total")
    asked = (item.get("filter") or {}).get("interval") or (query or filters).get("interval") or "day"
    return _newest_point(item, str(asked), _zone(insight.get("timezone")), _calculated_at(insight, at), at)


def number(value: object, kind: str = "") -> Number | None:
    """Read a number; ``None`` for null, and for what is no finite number.

    :param value: from JSON.
    :param kind: ClickHouse's type of it, if known: decimals and large integers come as text.
    :raises PostHogSettingsError: if it is anything else. The text does not show the value, which may be personal.
    """
    if isinstance(value, str) and _NUMERIC_TYPE.search(kind):
        try:
            value = int(value) if re.fullmatch(r"-?\d+", value) else float(value)
        except ValueError:
            value = None
    if value is None or isinstance(value, (int, float)):
        return None if value is None or not math.isfinite(value) else int(value) if value is True else value
    _refuse(
        "insight",
        f"its value is no number but {clean(kind) or type(value).__name__}.",
        "Let the query's first column be a number, such as count().",
    )


def _first_cell(insight: Insight) -> Reading:
    rows: object = insight.get("result")
    if not isinstance(rows, list):
        _refuse("insight", "PostHog's answer has no rows.", "Take a trend or an SQL insight.")
    row = rows[0] if rows else None
    if not isinstance(row, list) or not row:
        return Reading(None, reason="the query has no rows")
    types: Any = insight.get("types")
    first = types[0] if isinstance(types, list) and types else None
    kind = str(first[-1]) if isinstance(first, list) and first else ""
    return Reading(number(row[0], kind), reason="the first cell is null")


def _series(result: object, wanted: int | str) -> Mapping[str, Any] | Reading:
    """Choose a series; what a comparison adds for the period before is none."""
    if not isinstance(result, list) or not all(isinstance(item, dict) for item in result):
        _refuse("insight", "PostHog's answer is no list of series.", "Take a trend or an SQL insight.")
    current: list[Mapping[str, Any]] = [item for item in result if item.get("compare_label") != "previous"]
    if not current:
        return Reading(None, reason="the trend has no series with data")
    split = any("breakdown_value" in item for item in current)
    named = [item for item in current if wanted in _names(item)] if isinstance(wanted, str) else []
    if len(named) == 1:
        return named[0]
    if named:
        remedy = "Give the series names of their own in PostHog, or write the series' number."
        _refuse("series", f"{len(named)} series are called {wanted!r}.", remedy)
    index = _index(wanted)
    if split:
        if index is None:
            return Reading(None, reason=f"the breakdown has no series {wanted!r} now")
        if len(current) > 1:
            remedy = "Write the name of one, as PostHog shows it; their order changes with their size."
            _refuse("series", f"a breakdown makes {len(current)} series of it.", remedy)
    if index is None or not 0 <= index < len(current):
        known = ", ".join(repr(clean(item.get("label"))) for item in current)
        _refuse("series", f"{wanted!r} is not in the trend.", f"Write the number, from 0, or the name of one: {known}.")
    return current[index]


def _names(item: Mapping[str, Any]) -> set[str]:
    action = item.get("action") or {}
    names = (item.get("label"), action.get("custom_name"), action.get("name"), action.get("id"))
    if "breakdown_value" in item:  # each part has the action's name
        names = (item.get("label"), item["breakdown_value"], None, None)
    return {name for name in names if isinstance(name, str)}


def _index(wanted: int | str) -> int | None:
    if isinstance(wanted, int):
        return wanted
    return int(wanted) if re.fullmatch("[0-9]{1,6}", wanted) else None


def _newest_point(
    item: Mapping[str, Any], interval: str, zone: tzinfo, calculated: datetime | None, at: datetime | None
) -> Reading:
    days, data = item.get("days"), item.get("data")
    if interval not in _STEPS or not isinstance(days, list) or not isinstance(data, list) or len(days) != len(data):
        _refuse("insight", "it has no points in time.", "Take a trend by hour, day, week or month, or an SQL insight.")
    if calculated is None:
        return Reading(None, reason="PostHog does not say when it was calculated (last_refresh)")
    ends = [_end(day, interval, zone) for day in days]
    complete = [index for index, end in enumerate(ends) if end <= calculated]
    newest = complete[-1] if complete else -1
    if at is not None and newest + 1 < len(ends) and ends[newest + 1] <= at:
        text = f"{days[newest + 1]} has ended since it was calculated, at {calculated:%Y-%m-%d %H:%M:%S} UTC"
        return Reading(None, reason=text, stale=True)
    if newest < 0:
        return Reading(None, reason=f"its first {interval} has not ended")
    return Reading(number(data[newest]), str(days[newest]), reason=f"there is no data for {days[newest]}")


def _end(day: object, interval: str, zone: tzinfo) -> datetime:
    try:
        start = datetime.fromisoformat(str(day).replace("Z", "+00:00"))
    except ValueError:
        _refuse("insight", "its points have no dates.", "Take a trend by hour, day, week or month, or an SQL insight.")
    local = start if start.tzinfo is None else start.astimezone(zone).replace(tzinfo=None)
    return _STEPS[interval](local).replace(tzinfo=zone).astimezone(timezone.utc)


def _calculated_at(insight: Insight, at: datetime | None) -> datetime | None:
    """Return when it was calculated; a time after the answer itself is not believed."""
    refreshed = moment(insight.get("last_refresh"))
    return refreshed if refreshed is None or at is None else min(refreshed, at + timedelta(seconds=1))


def _zone(name: object) -> tzinfo:
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else _LAST_ZONE
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return _LAST_ZONE


def _refuse(field: str, problem: str, remedy: str) -> NoReturn:
    raise PostHogSettingsError(field, problem, remedy)
