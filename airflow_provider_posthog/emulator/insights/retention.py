"""RetentionQuery nodes: of those who came in one period, how many came back in each of the next ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.hogql.translate import MAX_ROWS
from airflow_provider_posthog.emulator.http.envelopes import Json, invalid
from airflow_provider_posthog.emulator.insights.dates import buckets, later, parse_date
from airflow_provider_posthog.emulator.insights.funnels import all_rows
from airflow_provider_posthog.emulator.insights.trends import BUCKET, Range
from airflow_provider_posthog.emulator.jobs.csv_writer import Row

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.jobs.work import Work

PERIODS = 7
FIRST_TIME, RECURRING = "retention_first_time", "retention_recurring"
# what changes the numbers and is refused
_OPTIONS = (
    "aggregationProperty",
    "cumulative",
    "minimumOccurrences",
    "retentionCustomBrackets",
)
_REFUSED = ("properties", "filterTestAccounts", "samplingFactor", "aggregation_group_type_index", "breakdownFilter")


@dataclass(frozen=True)
class _Retention:
    """A retention that can be computed.

    :param start: the event that brings somebody into a cohort; None for any.
    :param back: the event that counts as coming back; None for any.
    :param cohorts: the beginnings of their periods.
    :param periods: in how many periods from there on people are looked for.
    """

    start: str | None
    back: str | None
    span: Range
    cohorts: list[datetime]
    periods: int
    first_time: bool


def run_retention_query(work: Work) -> Json:
    """Run a RetentionQuery: by hour, day, week or month, recurring or for the first time.

    :param work: what to run.
    :raises HogQLError: when HogQL refuses it.
    :raises ApiError: 400 for what the emulator does not compute.
    """
    wanted = _read(work)
    rows, hogql = _people(work, wanted)
    unit = wanted.span.interval
    days = [wanted.span.day(moment) for moment in (*wanted.cohorts, *_ahead(wanted))]
    index = {day: number for number, day in enumerate(days)}
    counts: dict[tuple[int, int], int] = {}
    for starts, returns in rows:
        came_back = {index[day] for day in returns if day in index}
        for cohort in (index[day] for day in starts if day in index and index[day] < len(wanted.cohorts)):
            for period in range(wanted.periods):
                if period == 0 or cohort + period in came_back:
                    counts[cohort, period] = counts.get((cohort, period), 0) + 1
    results = [
        {
            "values": [
                {"count": counts.get((cohort, period), 0), "label": f"{unit.title()} {period}"}
                for period in range(wanted.periods)
            ],
            "label": f"{unit.title()} {cohort}",
            "date": moment.isoformat().replace("+00:00", "Z"),
            "breakdown_value": None,
        }
        for cohort, moment in enumerate(wanted.cohorts)
    ]
    return {"results": results, "hogql": hogql, "hasMore": False, "timezone": str(wanted.span.zone), "columns": None}


def _ahead(wanted: _Retention) -> list[datetime]:
    last = wanted.cohorts[-1]
    return [later(last, number, wanted.span.interval[0]) for number in range(1, wanted.periods)]


def _read(work: Work) -> _Retention:
    node, options = work.node, work.node.get("retentionFilter") or {}
    for name in (*_REFUSED, *_OPTIONS):
        value = node.get(name) if name in _REFUSED else options.get(name)
        if value and (not isinstance(value, dict) or any(value.values())):
            raise invalid(f"The emulator does not compute {name} of a RetentionQuery.")
    kind = options.get("retentionType") or RECURRING
    window = options.get("timeWindowMode") or "strict_calendar_dates"
    interval, periods = str(options.get("period") or "Day").lower(), options.get("totalIntervals") or PERIODS
    for name, value, known in (
        ("retentionType", kind, (RECURRING, FIRST_TIME)),
        ("timeWindowMode", window, ("strict_calendar_dates",)),
        ("period", interval, tuple(BUCKET)),
    ):
        if value not in known:
            raise invalid(f"The emulator does not compute the {name} {value!r} of a RetentionQuery.")
    if isinstance(periods, bool) or not isinstance(periods, int) or not 0 < periods <= 100:
        raise invalid("totalIntervals: Input should be a valid integer from 1 to 100")
    span = _span(work, interval, periods)
    start, back = (_event(options.get(name)) for name in ("targetEntity", "returningEntity"))
    return _Retention(start, back, span, span.starts(), periods, kind == FIRST_TIME)


def _event(entity: object) -> str | None:
    if entity is None:
        return "$pageview"
    if not isinstance(entity, dict) or entity.get("type", "events") != "events" or entity.get("properties"):
        raise invalid("The emulator computes the retention of events without properties only.")
    event_id = entity.get("id")
    return None if event_id is None else str(event_id)


def _span(work: Work, interval: str, periods: int) -> Range:
    wanted, zone = work.node.get("dateRange") or {}, ZoneInfo(work.warehouse.timezone)
    try:
        end = parse_date(str(wanted.get("date_to") or "dEnd"), work.now, zone).astimezone(zone)
        if wanted.get("date_to") and end.time() == datetime.min.time():
            end += timedelta(days=1, microseconds=-1)
        if wanted.get("date_from"):
            start = parse_date(str(wanted["date_from"]), work.now, zone).astimezone(zone)
        else:
            start = later(end if interval != "hour" else work.now.astimezone(zone), 1 - periods, interval[0])
    except ValueError as error:
        raise invalid(f"dateRange: {error}") from None
    if interval == "hour" and not wanted.get("date_to"):
        end = work.now.astimezone(zone)
    return Range(buckets(start, start, interval)[0], end, interval, zone)


def _people(work: Work, wanted: _Retention) -> tuple[list[tuple[list[str], list[str]]], str]:
    """Return the periods in which each person did the one and the other, as texts."""
    values: dict[str, object] = {"from": wanted.cohorts[0].isoformat()}
    values["to"] = later([*wanted.cohorts, *_ahead(wanted)][-1], 1, wanted.span.interval[0]).isoformat()
    conditions = []
    for name, event in (("start", wanted.start), ("back", wanted.back)):
        conditions.append("1 = 1" if event is None else f"event = {{{name}}}")
        if event is not None:
            values[name] = event
    bucket = f"toString({BUCKET[wanted.span.interval]})"
    # whoever came before the first cohort is no newcomer
    since = "" if wanted.first_time else " AND timestamp >= toDateTime({from})"
    sql = (
        f"SELECT person_id, groupUniqArrayIf({bucket}, {conditions[0]}) AS starts, "  # noqa: S608 - HogQL
        f"groupUniqArrayIf({bucket}, {conditions[1]}) AS returns FROM events "
        f"WHERE timestamp < toDateTime({{to}}){since} AND ({conditions[0]} OR {conditions[1]}) "
        f"GROUP BY person_id LIMIT {MAX_ROWS}"
    )
    if wanted.first_time:
        del values["from"]
    result = work.hogql(sql, values)
    people = []
    for _, starts, returns in all_rows(result.rows):
        first, second = ([str(day) for day in cell] if isinstance(cell, list) else [] for cell in (starts, returns))
        people.append((sorted(first)[:1] if wanted.first_time else first, second))
    return people, result.hogql


def retention_rows(results: list[object]) -> list[Row] | None:
    """Return the rows of a retention's export; None when it is none.

    :param results: of a query.
    """
    rows: list[Row] = []
    for item in results:
        if not isinstance(item, dict) or "values" not in item or "date" not in item:
            return None
        date = datetime.fromisoformat(item["date"].replace("Z", "+00:00"))
        row: Row = {"cohort": str(date), "cohort size": item["values"][0]["count"]}
        row.update({value["label"]: value["count"] for value in item["values"]})
        rows.append(row)
    return rows
