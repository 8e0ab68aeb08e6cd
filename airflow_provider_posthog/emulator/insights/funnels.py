"""FunnelsQuery nodes: how many people take one step after the other within a window, and how long they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.hogql.translate import MAX_ROWS
from airflow_provider_posthog.emulator.http.envelopes import Json, invalid
from airflow_provider_posthog.emulator.insights.trends import Range, read_range
from airflow_provider_posthog.emulator.jobs.csv_writer import Row

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.jobs.work import Work

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
# what changes a funnel's numbers, with the values that the emulator knows; PostHog's others are refused
_KNOWN = {
    "funnelOrderType": ("ordered",),
    "funnelVizType": ("steps",),
    "breakdownAttributionType": ("first_touch",),
    "exclusions": (),
    "funnelAggregateByHogQL": (),
    "funnelFromStep": (),
    "funnelToStep": (),
}
_REFUSED = ("properties", "filterTestAccounts", "samplingFactor", "aggregation_group_type_index", "compareFilter")
BREAKDOWNS = 25
OTHER = "Other"


@dataclass(frozen=True)
class _Funnel:
    """A funnel that can be computed.

    :param steps: the events' names; None for any event.
    :param window: seconds from the first step on in which all others must be taken.
    :param breakdown: an event's property, or "".
    """

    nodes: list[Json]
    steps: list[str | None]
    window: float
    breakdown: str
    span: Range


def run_funnels_query(work: Work) -> Json:
    """Run a FunnelsQuery: ordered steps of events and, if wanted, one breakdown by event property (its first value).

    :param work: what to run.
    :raises HogQLError: when HogQL refuses it.
    :raises ApiError: 400 for what the emulator does not compute.
    """
    funnel = _read(work)
    rows, hogql = _people(work, funnel)
    groups: dict[str, list[list[float]]] = {}
    for moments in rows:
        taken = _taken(funnel, moments)
        if taken:
            groups.setdefault(_first_touch(moments), []).append(taken)
    results: list[Json] | list[list[Json]]
    if funnel.breakdown:
        named = _most_first(groups, len(funnel.steps))
        results = [[{**step, **_broken_down(name)} for step in _steps(funnel, people)] for name, people in named]
    else:
        results = _steps(funnel, [person for people in groups.values() for person in people])
    return {"results": results, "hogql": hogql, "hasMore": False, "timezone": str(funnel.span.zone), "columns": None}


def _read(work: Work) -> _Funnel:
    node, options = work.node, work.node.get("funnelsFilter") or {}
    for name in _REFUSED:
        option = node.get(name)
        if option and (not isinstance(option, dict) or option.get("compare") or option.get("values")):
            raise invalid(f"The emulator does not compute {name} of a FunnelsQuery.")
    for name, known in _KNOWN.items():
        if options.get(name) not in (None, [], *known):
            raise invalid(f"The emulator does not compute {name} {options[name]!r} of a FunnelsQuery.")
    series = node.get("series") or []
    if len(series) < 2:
        raise invalid("Funnels require at least two steps.", "funnels_require_at_least_two_steps")
    for step in series:
        if not isinstance(step, dict) or step.get("kind") != "EventsNode" or step.get("properties") or step.get("math"):
            raise invalid("The emulator computes funnels of EventsNode series without properties and maths only.")
    unit = options.get("funnelWindowIntervalUnit") or "day"
    if unit not in _UNITS:
        raise invalid(f"The emulator does not compute a funnel's window in the unit {unit!r}.")
    window = float(options.get("funnelWindowInterval") or 14) * _UNITS[unit]
    steps = [step.get("event") for step in series]
    return _Funnel(series, steps, window, read_breakdown(node), read_range(work))


def read_breakdown(node: Json) -> str:
    """Return the event property that a query is broken down by, or "".

    :param node: the query.
    :raises ApiError: 400 for other breakdowns.
    """
    breakdown = node.get("breakdownFilter") or {}
    breakdowns: list[object] = []
    for part in breakdown.get("breakdowns") or []:
        breakdowns.append(part.get("property") if part.get("type", "event") == "event" else None)
    if not breakdowns and breakdown.get("breakdown"):
        prop = breakdown["breakdown"] if breakdown.get("breakdown_type", "event") in (None, "event") else None
        breakdowns = list(prop) if isinstance(prop, list) else [prop]
    if not breakdowns:
        return ""
    if len(breakdowns) > 1 or not isinstance(breakdowns[0], str) or "`" in breakdowns[0]:
        raise invalid("The emulator computes one breakdown, by an event property.")
    return breakdowns[0]


def all_rows(rows: list[list[object]]) -> list[list[object]]:
    """Return rows of a query whose answer would be wrong if some were missing.

    :param rows: of a query with PostHog's largest LIMIT.
    :raises ApiError: 400 when there may be more.
    """
    if len(rows) >= MAX_ROWS:
        raise invalid(f"The emulator computes this for fewer than {MAX_ROWS:,} people.")
    return rows


def _people(work: Work, funnel: _Funnel) -> tuple[list[list[tuple[float, str, str]]], str]:
    """Return the moments of each person in order of time: seconds, event, value of the breakdown."""
    values: dict[str, object] = {"from": funnel.span.start.isoformat(), "to": funnel.span.end.isoformat()}
    known = ""
    if None not in funnel.steps:
        values["events"] = sorted({str(step) for step in funnel.steps})
        known = " AND event IN {events}"
    split = f"ifNull(properties.`{funnel.breakdown}`, '')" if funnel.breakdown else "''"
    sql = (
        f"SELECT person_id, groupArray(tuple(toUnixTimestamp64Milli(timestamp), event, {split})) AS moments "  # noqa: S608
        f"FROM events WHERE timestamp >= toDateTime({{from}}) AND timestamp <= toDateTime({{to}}){known} "
        f"GROUP BY person_id LIMIT {MAX_ROWS}"
    )
    result = work.hogql(sql, values)
    people = []
    for _, moments in all_rows(result.rows):
        rows: Iterable[Sequence[object]] = moments if isinstance(moments, list) else []
        people.append(sorted((int(str(at)) / 1000, str(event), str(part)) for at, event, part in rows))
    return people, result.hogql


def _taken(funnel: _Funnel, moments: list[tuple[float, str, str]]) -> list[float]:
    """Return when a person took each step, as far as they came."""
    entered: list[list[float]] = [[] for _ in funnel.steps]
    for at, event, _ in moments:
        # from the last step on: no event is two steps at once
        for step in reversed(range(len(funnel.steps))):
            if funnel.steps[step] not in (None, event):
                continue
            before = entered[step - 1] if step else []
            if step == 0:
                entered[0] = [at]
            elif before and at - before[0] <= funnel.window and entered[step][:1] != before[:1]:
                entered[step] = [*before, at]
        if entered[-1]:
            break
    return next((taken for taken in reversed(entered) if taken), [])


def _first_touch(moments: list[tuple[float, str, str]]) -> str:
    return next((part for _, _, part in moments if part), "")


def _most_first(groups: dict[str, list[list[float]]], steps: int) -> list[tuple[str, list[list[float]]]]:
    """Return the groups with those first in which most people came to the end; all but 25 of them are one."""

    def converted(group: tuple[str, list[list[float]]]) -> tuple[int, int, str]:
        name, people = group
        return -sum(len(taken) == steps for taken in people), -len(people), name

    ordered = sorted(groups.items(), key=converted)
    rest = [taken for _, people in ordered[BREAKDOWNS:] for taken in people]
    return [*ordered[:BREAKDOWNS], *([(OTHER, rest)] if rest else [])]


def _steps(funnel: _Funnel, people: list[list[float]]) -> list[Json]:
    steps: list[Json] = []
    for order, node in enumerate(funnel.nodes):
        arrived = [taken for taken in people if len(taken) > order]
        times = [taken[order] - taken[order - 1] for taken in arrived] if order else []
        step: Json = {
            "action_id": node.get("event"),
            "name": node.get("event"),
            "custom_name": node.get("custom_name"),
            "order": order,
            "people": [],
            "count": len(arrived),
            "type": "events",
            "average_conversion_time": fmean(times) if times else None,
            "median_conversion_time": median(times) if times else None,
        }
        steps.append(step)
    return steps


def _broken_down(name: str) -> Json:
    return {"breakdown": [name], "breakdown_value": [name]}


def funnel_rows(results: list[object]) -> list[Row] | None:
    """Return the rows of a funnel's export; None when it is none.

    :param results: of a query.
    """
    groups = results if isinstance(results[0], list) else [results]
    rows: list[Row] = []
    for step in (step for group in groups if isinstance(group, list) for step in group):
        if not isinstance(step, dict) or "action_id" not in step:
            return None
        row: Row = {
            "name": step["custom_name"] or step["action_id"],
            "breakdown_value": "::".join(step.get("breakdown_value", [])),
            "action_id": step["action_id"],
            "count": step["count"],
            "median_conversion_time (seconds)": step["median_conversion_time"],
            "average_conversion_time (seconds)": step["average_conversion_time"],
        }
        rows.append(row)
    return rows
