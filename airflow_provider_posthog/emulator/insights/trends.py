"""TrendsQuery nodes: counts per hour, day, week or month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid
from airflow_provider_posthog.emulator.insights.dates import buckets, parse_date
from airflow_provider_posthog.emulator.insights.trend_formulas import apply, read_formulas
from airflow_provider_posthog.emulator.jobs.csv_writer import Row

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.jobs.work import Work

_MATH = {"total": "count()", "dau": "count(DISTINCT person_id)"}
_PROPERTY_MATH = ("sum", "avg", "min", "max")
BUCKET = {
    "hour": "toStartOfHour(timestamp)",
    "day": "toDate(timestamp)",
    "week": "toStartOfWeek(timestamp)",
    "month": "toStartOfMonth(timestamp)",
}
_LABEL = {"hour": "%d-%b-%Y %H:%M", "day": "%d-%b-%Y", "week": "%d-%b-%Y", "month": "%b-%Y"}
_TOTALS = ("BoldNumber", "ActionsPie", "ActionsBarValue", "ActionsTable", "WorldMap")
NO_VALUE = "$$_posthog_breakdown_null_$$"
OTHERS = "$$_posthog_breakdown_other_$$"
#: How PostHog shows them.
SHOWN = {NO_VALUE: "None (i.e. no value)", OTHERS: "Other (i.e. all remaining values)"}
BREAKDOWNS = 25
# displays whose numbers are others, or elsewhere in the answer
_NOT_DRAWN = ("BoxPlot", "CalendarHeatmap", "ActionsLineGraphCumulative")


@dataclass(frozen=True)
class Range:
    """The time that a trend is about."""

    start: datetime
    end: datetime
    interval: str
    zone: ZoneInfo

    def starts(self) -> list[datetime]:
        """Return the beginning of each interval."""
        return buckets(self.start, self.end, self.interval)

    def before(self) -> Range:
        """Return the range of the same length before this one."""
        length = self.end - self.start + timedelta(microseconds=1)
        days = round(length / timedelta(days=1))
        if days and self.interval != "hour":
            start = self.start - timedelta(days=days)  # by the zone's calendar
            return Range(start, self.start - timedelta(microseconds=1), self.interval, self.zone)
        return Range(self.start - length, self.start - timedelta(microseconds=1), self.interval, self.zone)

    def label(self, moment: datetime) -> str:
        """Return the heading of an interval, such as ``1-Apr-2022``.

        :param moment: its beginning.
        """
        return moment.strftime(_LABEL[self.interval]).lstrip("0")

    def day(self, moment: datetime) -> str:
        """Return the machine's name of an interval.

        :param moment: its beginning.
        """
        return moment.strftime("%Y-%m-%d %H:%M:%S" if self.interval == "hour" else "%Y-%m-%d")


def run_trends_query(work: Work) -> Json:
    """Run a TrendsQuery: series of events with the usual maths, formulas, the period before, and one breakdown.

    :param work: what to run.
    :raises HogQLError: when HogQL refuses it.
    :raises ApiError: 400 for what the emulator does not compute.
    """
    node = work.node
    options = node.get("trendsFilter") or {}
    for field in ("compare", "formula", "properties", "filterTestAccounts", "samplingFactor"):
        wanted = node.get(field)
        if wanted and (not isinstance(wanted, dict) or wanted.get("compare") or wanted.get("values")):
            raise invalid(f"The emulator does not compute {field} of a TrendsQuery.")
    if options.get("display") in _NOT_DRAWN or (options.get("smoothingIntervals") or 1) != 1:
        raise invalid("The emulator does not compute this display, or smoothing, of a TrendsQuery.")
    span = read_range(work)
    spans = [(span, "current"), (span.before(), "previous")] if _compares(node) else [(span, None)]
    results: list[Json] = []
    hogql, more = "", False
    formulas = read_formulas(options)
    for period, label in spans:
        groups: list[list[Json]] = []
        for order, series in enumerate(node.get("series") or []):
            made, hogql, cut = _series(work, period, order, series)
            more = more or cut
            groups.append([{**item, "compare": True, "compare_label": label} for item in made] if label else made)
        results += apply(formulas, groups) if formulas else [item for items in groups for item in items]
    return {"results": results, "hogql": hogql, "hasMore": more, "timezone": str(span.zone), "columns": None}


def _compares(node: Json) -> bool:
    wanted = node.get("compareFilter") or {}
    if wanted.get("compare") and wanted.get("compare_to"):
        raise invalid("The emulator compares with the period before, and with no other.")
    return bool(wanted.get("compare"))


def read_range(work: Work) -> Range:
    """Return the time that a query is about.

    :param work: its ``dateRange`` and ``interval``; the last seven days by default.
    :raises ApiError: 400 for what is not a date, or another interval.
    """
    wanted = work.node.get("dateRange") or {}
    zone = ZoneInfo(work.warehouse.timezone)
    interval = work.node.get("interval") or "day"
    if interval not in BUCKET:
        raise invalid(f"The emulator does not compute the interval {interval!r} of a {work.node.get('kind')}.")
    try:
        start = parse_date(str(wanted.get("date_from") or "-7d"), work.now, zone).astimezone(zone)
        end = parse_date(str(wanted.get("date_to") or "dEnd"), work.now, zone).astimezone(zone)
    except ValueError as error:
        raise invalid(f"dateRange: {error}") from None
    if wanted.get("date_to") and end.time() == datetime.min.time():
        end += timedelta(days=1, microseconds=-1)
    return Range(start, end, interval, zone)


def _math(series: Json) -> str:
    math = series.get("math") or "total"
    if math in _PROPERTY_MATH:
        name = str(series.get("math_property") or "")
        if not name or "`" in name:
            raise invalid(f"math {math!r} needs a math_property.")
        return f"{math}(toFloat(properties.`{name}`))"
    if math not in _MATH:
        raise invalid(f"The emulator does not compute the math {math!r} of a TrendsQuery.")
    return _MATH[math]


def _breakdown(node: Json) -> tuple[str, int]:
    """Return the event property that a trend is broken down by, or "", and how many of its values are shown."""
    wanted = node.get("breakdownFilter") or {}
    several = wanted.get("breakdowns") or []
    breakdown = (
        several[0] if len(several) == 1 else {"property": wanted.get("breakdown"), "type": wanted.get("breakdown_type")}
    )
    name = breakdown.get("property") or ""
    if len(several) > 1 or not isinstance(name, str) or breakdown.get("type", "event") not in (None, "event"):
        raise invalid("The emulator computes one breakdown, by an event property.")
    if "`" in name:
        raise invalid("A breakdown cannot have a backtick in its name.")
    if wanted.get("breakdown_hide_other_aggregation"):
        raise invalid("The emulator does not compute breakdown_hide_other_aggregation of a TrendsQuery.")
    return name, int(wanted.get("breakdown_limit") or BREAKDOWNS)


def _limited(parts: dict[object, dict[str, object]], limit: int, math: str) -> tuple[dict[object, Any], bool]:
    """Keep the largest values of a breakdown, and put the others together."""
    if len(parts) <= limit:
        return parts, False
    if math not in ("total", "sum"):
        raise invalid(f"The emulator computes the {math!r} of at most {limit} values of a breakdown.")

    def size(part: object) -> float:
        return sum(float(str(number or 0)) for number in parts[part].values())

    ranked = sorted(parts, key=lambda part: (-size(part), str(part)))
    kept: dict[object, Any] = {part: parts[part] for part in ranked[:limit]}
    others: dict[str, float] = {}
    for part in ranked[limit:]:
        for bucket, number in parts[part].items():
            others[bucket] = others.get(bucket, 0) + float(str(number or 0))
    kept[OTHERS] = {bucket: int(number) if number.is_integer() else number for bucket, number in others.items()}
    return kept, True


def _series(work: Work, span: Range, order: int, series: object) -> tuple[list[Json], str, bool]:
    if not isinstance(series, dict) or series.get("kind") != "EventsNode":
        raise invalid("The emulator computes trends of EventsNode series only.")
    if series.get("properties"):
        raise invalid("The emulator does not compute properties of a series of a TrendsQuery.")
    breakdown, limit = _breakdown(work.node)
    split = f"properties.`{breakdown}`" if breakdown else "''"
    values: dict[str, object] = {"from": span.start.isoformat(), "to": span.end.isoformat()}
    event = series.get("event")
    if event:
        values["event"] = event
    display = (work.node.get("trendsFilter") or {}).get("display") or "ActionsLineGraph"
    bucket = "''" if display in _TOTALS else BUCKET[span.interval]
    sql = (
        f"SELECT {split} AS part, {bucket} AS bucket, {_math(series)} AS number FROM events "  # noqa: S608 - HogQL
        f"WHERE timestamp >= toDateTime({{from}}) AND timestamp <= toDateTime({{to}})"
        f"{' AND event = {event}' if event else ''} GROUP BY part, bucket ORDER BY part, bucket LIMIT 50000"
    )
    result = work.hogql(sql, values)
    parts: dict[object, dict[str, object]] = {} if breakdown else {"": {}}
    for part, moment, number in result.rows:
        parts.setdefault(NO_VALUE if part is None else part, {})[_bucket_key(moment, span)] = number
    parts, more = _limited(parts, limit, series.get("math") or "total") if breakdown else (parts, False)
    made = [_item(span, order, series, display, breakdown, part, counts) for part, counts in parts.items()]
    return made, result.hogql, more


def _bucket_key(moment: object, span: Range) -> str:
    if span.interval == "hour" and moment:
        # PostHog answers DateTime columns in UTC without saying so
        start = datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
        start = start if start.tzinfo else start.replace(tzinfo=timezone.utc)
        return span.day(start.astimezone(span.zone))
    return str(moment)[:10]


def _item(
    span: Range, order: int, series: Json, display: str, breakdown: str, part: object, counts: dict[str, object]
) -> Json:
    name = series.get("event") or "All events"
    starts = span.starts()
    item: Json = {
        "action": {
            "id": series.get("event"),
            "type": "events",
            "order": order,
            "name": name,
            "custom_name": series.get("custom_name"),
            "math": series.get("math"),
            "math_property": series.get("math_property"),
            "math_hogql": None,
            "math_group_type_index": None,
            "properties": {},
            "days": [start.isoformat().replace("+00:00", "Z") for start in starts],
        },
        "label": str(series.get("custom_name") or name),
        "filter": _filter(span, display),
    }
    if breakdown:
        item["filter"]["breakdown"] = breakdown
        item["breakdown_value"] = part
        item["label"] = SHOWN.get(str(part), str(part))
    if display in _TOTALS:
        total = counts.get("", 0)
        return {**item, "count": 0, "data": [], "days": [], "labels": [], "aggregated_value": total}
    data = [counts.get(span.day(start), 0) or 0 for start in starts]
    days = [span.day(start) for start in starts]
    count = float(sum(value for value in data if isinstance(value, (int, float))))
    return {**item, "count": count, "data": data, "days": days, "labels": [span.label(start) for start in starts]}


def _filter(span: Range, display: str) -> Json:
    return {
        "aggregationAxisFormat": "numeric",
        "breakdown_type": "event",
        "date_from": span.start.astimezone(timezone.utc).isoformat().replace("+00:00", "Z"),
        "date_to": span.end.astimezone(timezone.utc).isoformat().replace("+00:00", "Z"),
        "display": display,
        "entity_type": "events",
        "filter_test_accounts": False,
        "insight": "TRENDS",
        "interval": span.interval,
        "properties": [],
        "showLegend": False,
        "showPercentStackView": False,
        "showValuesOnSeries": False,
        "smoothingIntervals": 1,
    }


def trends_rows(results: list[Json]) -> list[Row]:
    """Return the rows of a trend's export: the series' name, then one column for each interval.

    :param results: of a TrendsQuery.
    """
    rows: list[Row] = []
    for index, item in enumerate(results):
        compared = f" - {item['compare_label']}" if item.get("compare_label") else ""
        row: Row = {"series": f"{item.get('label') or f'Series #{index + 1}'}{compared}"}
        custom = (item.get("action") or {}).get("custom_name")
        if custom:
            row["custom name"] = custom
        if "breakdown_value" in item:
            row[item["filter"]["breakdown"]] = item["label"]
        if "aggregated_value" in item:
            row["Total Sum"] = item["aggregated_value"]
        else:
            row.update(zip(item["labels"], item["data"], strict=True))
        rows.append(row)
    return rows
