"""The checks behind the sensors of insights: is it fresh, and does its number meet a condition."""

from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from airflow_provider_posthog.api import insight_lookup, insights
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.insight_values import Number, Reading, newest
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.server_time import Timed, moment, timed
from airflow_provider_posthog.api.states import Verdict, failure_in
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogServerError, PostHogSettingsError, PostHogValidationError, clean

Calculation = Literal["force_cache", "blocking", "force_blocking"]
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
    "==": operators.eq,
    "!=": operators.ne,
}
#: PostHog has no room for another query just now; it says so with 200 and a ``last_refresh`` of now.
_NO_ROOM = "concurrency_limit_exceeded"
#: Failures with a reason that passes by itself; others with a reason are the query's own and stay.
_PASSING = re.compile(r"capacity|concurren|temporar|try again|too many simultaneous", re.IGNORECASE)
#: Statuses with which PostHog says that the query is too large, however often it is asked.
_TOO_LARGE = (512, 513)


def fresh(*, insight: int | str, fresher_than: str, from_dashboard: int | None = None) -> Steps[Finding]:
    """Look whether an insight was calculated after a time. Calculates nothing.

    A calculation that failed is not fresh, whatever its ``last_refresh``; another may follow, so it is waited for.

    :param insight: its number or short id.
    :param fresher_than: the time, ISO text with an offset.
    :param from_dashboard: look at its result on this dashboard, which has a cache of its own.
    """
    try:
        found = yield from insight_lookup.ask(
            insight, lambda number: insights.retrieve(number, from_dashboard=from_dashboard)
        )
    except (PostHogSettingsError, PostHogValidationError) as error:
        return Finding(Verdict("failed", str(error)))
    facts = facts_of(found)
    away = _not_on(found, from_dashboard)
    if away is not None:
        return Finding(Verdict("failed", away), facts)
    wanted, refreshed = moment(fresher_than), moment(found.get("last_refresh"))
    if wanted is None:
        raise PostHogSettingsError("fresher_than", f"{fresher_than!r} is no time.", "Write ISO text.")
    failure = failure_in(found)
    if failure is not None:
        return Finding(Verdict("pending", f"Its last calculation failed: {failure}"), facts)
    if refreshed is None or found.get("result") is None:
        return Finding(Verdict("pending", "PostHog has no result of it in its cache."), facts)
    if refreshed <= wanted:
        return Finding(Verdict("pending", f"It was calculated at {refreshed:%Y-%m-%d %H:%M:%S} UTC."), facts)
    return Finding(Verdict("succeeded"), facts)


def threshold(
    *,
    insight: int | str,
    operator: str,
    value: Number,
    series: int | str = 0,
    from_dashboard: int | None = None,
    refresh: Calculation = "blocking",
) -> Steps[Finding]:
    """Look whether an insight's newest value meets a condition (:func:`~.insight_values.newest`).

    With ``blocking`` PostHog may answer from its cache; where a newer hour or day has ended since that was
    calculated, it is calculated again.

    :param insight: its number or short id.
    :param operator: a key of :data:`OPERATORS`.
    :param value: what to compare with.
    :param series: which series of a trend: its number, from 0, or its name.
    :param from_dashboard: look at its result on this dashboard.
    :param refresh: PostHog's ``refresh``.
    """
    try:
        answer = yield from _read(insight, refresh, from_dashboard)
        found = _judge(answer, series, from_dashboard, refresh)
        if isinstance(found, Reading) and found.stale and refresh == "blocking":
            answer = yield from _read(insight, "force_blocking", from_dashboard)
            found = _judge(answer, series, from_dashboard, "force_blocking")
    except (PostHogSettingsError, PostHogValidationError) as error:
        # No such insight; or a query that cannot work, to which servers before 2025 answer so.
        return Finding(Verdict("failed", str(error)))
    except PostHogServerError as error:
        if error.status not in _TOO_LARGE:
            raise
        return Finding(Verdict("failed", str(error)))
    facts = facts_of(answer.value)
    if isinstance(found, Verdict):
        return Finding(found, facts)
    facts.update(value=found.value, date=found.date, operator=operator, threshold=value)
    return Finding(_compared(found, operator, value), facts)


def facts_of(insight: Insight) -> dict[str, Any]:
    """Say which insight it is and from when: ``id``, ``short_id``, ``name``, ``last_refresh``.

    :param insight: PostHog's answer.
    """
    name: object = insight.get("name") or insight.get("derived_name")
    return {
        "id": insight.get("id"),
        "short_id": insight.get("short_id"),
        "name": clean(name) if name else None,
        "last_refresh": insight.get("last_refresh"),
    }


def _read(insight: int | str, refresh: Calculation, from_dashboard: int | None) -> Steps[Timed[Insight]]:
    return insight_lookup.ask(
        insight, lambda number: timed(insights.retrieve(number, refresh=refresh, from_dashboard=from_dashboard))
    )


def _judge(
    answer: Timed[Insight], series: int | str, from_dashboard: int | None, refresh: Calculation
) -> Reading | Verdict:
    """Read the value out of an answer, or say why there can be none."""
    found = answer.value
    away = _not_on(found, from_dashboard)
    if away is not None:
        return Verdict("failed", away)
    failure = failure_in(found)
    if failure is not None:
        return _of_failure(found, failure)
    if found.get("result") is None:
        return Verdict("pending", "PostHog has no result of it.")
    if refresh == "force_blocking" and found.get("is_cached") is True:
        return Verdict("pending", "PostHog answered from its cache.")
    try:
        return newest(found, series, answer.at)
    except PostHogSettingsError as error:
        return Verdict("failed", str(error))


def _compared(found: Reading, operator: str, value: Number) -> Verdict:
    if found.value is None:
        return Verdict("pending", f"It has no value: {found.reason}.")
    if OPERATORS[operator](found.value, value):
        return Verdict("succeeded")
    when = f" for {found.date}" if found.date else ""
    return Verdict("pending", f"Its value{when} is {found.value}, not {operator} {value}.")


def _of_failure(insight: Insight, reason: str) -> Verdict:
    status: Any = insight.get("query_status")
    status = status if isinstance(status, Mapping) else {}
    message = status.get("error_message")
    if _NO_ROOM in (status.get("error_code"), message):
        return Verdict("pending", f"PostHog has no room to calculate it now ({reason}).")
    # PostHog gives no reason for what is its own fault.
    final = bool(message or not status) and not _PASSING.search(reason)
    return Verdict("failed", f"it could not be calculated: {reason}", final=final)


def _not_on(insight: Insight, dashboard: int | None) -> str | None:
    """Tell that the insight is not on the dashboard: PostHog then ignores the wish, and answers for the bare one."""
    answer: Mapping[str, Any] = insight
    tiles, numbers = answer.get("dashboard_tiles"), answer.get("dashboards")
    if dashboard is None or (not isinstance(tiles, list) and not isinstance(numbers, list)):
        return None
    shown = {tile.get("dashboard_id") for tile in tiles or () if isinstance(tile, Mapping) and not tile.get("deleted")}
    if dashboard in shown or dashboard in (numbers or ()):
        return None
    return f"it is not on dashboard {dashboard}, or the key may not see that"
