"""The checks behind the insight sensors: is the insight fresh, and does its number meet a condition."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timezone
from typing import Any, Literal

from airflow_provider_posthog.api import insight_conditions, insight_lookup, insights, refresh
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.freshness import Earlier, Target
from airflow_provider_posthog.api.insight_conditions import Condition, change
from airflow_provider_posthog.api.insight_series import Series
from airflow_provider_posthog.api.insight_values import Number, Pick, Reading, readings
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.server_time import Timed, moment, timed
from airflow_provider_posthog.api.states import Verdict, failure_in
from airflow_provider_posthog.api.steps import Steps, Stopped
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogValidationError,
    clean,
)
from airflow_provider_posthog.patterns import pattern

Calculation = Literal["force_cache", "blocking", "force_blocking"]
#: Reasons of failures that pass by themselves; other reasons are the query's own, and stay.
_PASSING = pattern(r"capacity|concurren|temporar|try again|too many simultaneous", re.IGNORECASE)
#: Statuses with which PostHog says that the query is too large, however often it is asked.
_TOO_LARGE = (512, 513)


def fresh(*, insight: int | str, fresher_than: str, from_dashboard: int | None = None) -> Steps[Finding]:
    """Check whether an insight was calculated after a given time. Calculates nothing.

    A calculation that failed is not fresh, whatever its ``last_refresh``; another may follow, so it is waited for.

    :param insight: its number or short id.
    :param fresher_than: the time, ISO text with an offset.
    :param from_dashboard: read its result on this dashboard, which has a cache of its own.
    """
    try:
        answer = yield from insight_lookup.ask(
            insight, lambda number: insights.retrieve(number, from_dashboard=from_dashboard)
        )
    except (PostHogSettingsError, PostHogValidationError) as error:
        return Finding(Verdict("failed", str(error)))
    facts = facts_of(answer)
    away = insight_lookup.not_on(answer, from_dashboard)
    if away is not None:
        return Finding(Verdict("failed", away), facts)
    wanted, refreshed = moment(fresher_than), moment(answer.get("last_refresh"))
    if wanted is None:
        raise PostHogSettingsError("fresher_than", f"is {fresher_than!r}, which is not a time.", "Write ISO text.")
    failure = failure_in(answer)
    if failure is not None:
        return Finding(Verdict("pending", f"Its last calculation failed: {failure}"), facts)
    if refreshed is None or answer.get("result") is None:
        return Finding(Verdict("pending", "PostHog has no result of it in its cache."), facts)
    if refreshed <= wanted:
        return Finding(Verdict("pending", f"It was calculated at {refreshed:%Y-%m-%d %H:%M:%S} UTC."), facts)
    return Finding(Verdict("succeeded"), facts)


@dataclass(frozen=True)
class Gate:
    """A condition on an insight's number, and how the number is obtained.

    :param insight: its number or short id.
    :param condition: the condition.
    :param pick: which of its numbers.
    :param dashboard: read its result on this dashboard; ``None`` for the bare insight.
    :param refresh: how it may be calculated.
    :param fresher_than: when it must have been calculated after; ``None`` if any result will do that has no newer
        complete point.
    :param query_id: the name of a calculation, to cancel it by.
    :param earlier: calculations that earlier tries may have left running: each is taken up, or ended before another.
    :param superseded_before: as of :class:`~.freshness.Target`.
    """

    insight: int | str
    condition: Condition
    pick: Pick = field(default_factory=Pick)
    dashboard: int | None = None
    refresh: Calculation = "blocking"
    fresher_than: datetime | None = None
    query_id: str = ""
    earlier: tuple[Earlier, ...] = ()
    superseded_before: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which it may be calculated."""
        return (self.query_id, *(earlier.query_id for earlier in self.earlier))

    @property
    def calculates(self) -> bool:
        """Whether PostHog may calculate it for this."""
        return self.refresh != "force_cache"


def threshold(
    *,
    insight: int | str,
    operator: str = "",
    value: Number = 0,
    condition: str | None = None,
    series: Series = 0,
    from_dashboard: int | None = None,
    refresh: Calculation = "blocking",
    fresher_than: str | None = None,
    pick: Mapping[str, Any] | None = None,
    query_id: str = "",
) -> Steps[Finding]:
    """Check whether an insight's newest value meets a condition (:func:`~.insight_values.readings`).

    With ``blocking`` PostHog may answer from its cache; where a newer hour or day has ended since that was
    calculated, it is calculated again. Each calculation is asked for once, and cancelled if a gateway cuts its request.

    :param insight: its number or short id.
    :param operator: a key of :data:`~.insight_conditions.OPERATORS`, in place of a ``condition``.
    :param value: what to compare with, by the operator.
    :param condition: as :func:`~.insight_conditions.parse` reads it.
    :param series: which series of a trend: its number, from 0, its name, several of these, or ``None`` for all.
    :param from_dashboard: read its result on this dashboard.
    :param refresh: PostHog's ``refresh``.
    :param fresher_than: when it must have been calculated after, ISO text with an offset.
    :param pick: more of :class:`~.insight_series.Pick`.
    :param query_id: the name of a calculation, to cancel it by.
    """
    parsed = insight_conditions.compared(operator, value) if condition is None else insight_conditions.parse(condition)
    since = None if fresher_than is None else moment(fresher_than)
    name = query_id or f"airflow-{uuid.uuid4().hex}"
    gate = Gate(insight, parsed, Pick(series, **(pick or {})), from_dashboard, refresh, since, name)
    judged = yield from _look(gate)
    arguments = {} if condition is not None else {"operator": operator, "threshold": value}
    return replace(judged, facts={**judged.facts, **arguments}) if "value" in judged.facts else judged


def _look(gate: Gate) -> Steps[Finding]:
    try:
        answer = yield from _read(gate, gate.refresh)
        judged = _judge(gate, answer)
        if gate.refresh == "blocking" and isinstance(judged, _Old):
            answer = yield from _read(gate, "force_blocking")
            judged = _judge(replace(gate, refresh="force_blocking"), answer)
        return _finding(gate, answer.value, judged)
    except (PostHogSettingsError, PostHogValidationError) as error:
        # No such insight; or a query that cannot work, to which servers before 2025 answer so.
        return Finding(Verdict("failed", str(error)))
    except PostHogServerError as error:
        if error.status not in _TOO_LARGE:
            raise
        return Finding(Verdict("failed", str(error)))


def decide(gate: Gate, deadline: float, interval: float, max_failures: int) -> Steps[Finding]:
    """Check whether an insight's newest value meets a condition now; calculate it first where needed.

    The calculation is that of a refresh, with its proof: cut by a gateway, it goes on in the background.

    :param gate: the condition.
    :param deadline: when to give up, in seconds since 1970.
    :param interval: the longest wait between two polls, in seconds.
    :param max_failures: how many polls may fail in a row.
    :returns: ``succeeded`` (it is met), ``pending`` (it is not), or ``failed`` (it cannot be known).
    """
    try:
        answer = yield from _read(gate, None)
        judged = _judge(replace(gate, refresh="force_cache"), answer)
        if gate.calculates and _needs_calculation(gate, answer, judged):
            number = insight_lookup.number_of(answer.value)
            before = answer.value.get("last_refresh")
            target = Target(
                number,
                gate.query_id,
                dashboard_id=gate.dashboard,
                since=answer.at,
                before=before,
                earlier=gate.earlier,
                superseded_before=gate.superseded_before,
            )
            outcome = yield from refresh.refresh(target, deadline, interval, max_failures)
            if outcome.insight is None:
                return Finding(
                    Verdict("failed", f"it could not be calculated: {outcome.reason}"), facts_of(answer.value)
                )
            # Proved to be of now: its own time is the one that counts.
            answer = Timed(outcome.insight, moment(outcome.insight.get("last_refresh")))
            judged = _judge(gate, answer)
        return _finding(gate, answer.value, judged)
    except (PostHogSettingsError, PostHogValidationError) as error:
        return Finding(Verdict("failed", str(error)))


def _needs_calculation(gate: Gate, answer: Timed[Insight], judged: _Judgement) -> bool:
    if isinstance(judged, Verdict) and judged.state == "failed" and failure_in(answer.value) is None:
        return False  # a calculation would not change the kind of insight
    if gate.refresh == "force_blocking" or not isinstance(judged, list):
        return True
    ends = moment(answer.value.get("cache_target_age"))  # after this PostHog itself would calculate it again
    return ends is not None and answer.at is not None and ends <= answer.at


def facts_of(insight: Insight) -> dict[str, Any]:
    """Return which insight it is and when it was calculated: ``id``, ``short_id``, ``name``, ``last_refresh``.

    :param insight: PostHog's answer.
    """
    name: object = insight.get("name") or insight.get("derived_name")
    return {
        "id": insight.get("id"),
        "short_id": insight.get("short_id"),
        "name": clean(name) if name else None,
        "last_refresh": insight.get("last_refresh"),
    }


@dataclass(frozen=True)
class _Old:
    """A result that a newer calculation has to replace.

    :param reason: why, as a sentence.
    """

    reason: str


_Judgement = list[Reading] | Verdict | _Old


def _read(gate: Gate, how: Calculation | None) -> Steps[Timed[Insight]]:
    calculates = how in ("blocking", "force_blocking")

    def call(number: int) -> Call[Timed[Insight]]:
        name = gate.query_id if calculates else None
        call_ = insights.retrieve(number, refresh=how, from_dashboard=gate.dashboard, client_query_id=name)
        # Sent again after its answer was lost, it would be calculated a second time beside the first.
        return replace(timed(call_), repeatable=not calculates)

    try:
        read = yield from insight_lookup.ask(gate.insight, call)
    except Stopped:
        raise
    except PostHogError as error:
        if calculates and refresh.is_cut(error):
            yield from refresh.cancel(gate.query_id)  # left running, it would take the next one's slot
        raise
    # A server, or a gateway before it, that sends no time must not make old numbers look new.
    return replace(read, at=read.at or datetime.now(timezone.utc))


def _judge(gate: Gate, answer: Timed[Insight]) -> _Judgement:
    """Return the values in an answer, or why there are none."""
    insight = answer.value
    away = insight_lookup.not_on(insight, gate.dashboard)
    if away is not None:
        return Verdict("failed", away)
    failure = failure_in(insight)
    if failure is not None:
        return _of_failure(insight, failure)
    if insight.get("result") is None:
        return Verdict("pending", "PostHog has no result of it.")
    if gate.refresh == "force_blocking" and insight.get("is_cached") is True:
        return Verdict("pending", "PostHog answered from its cache.")
    refreshed = moment(insight.get("last_refresh"))
    if gate.fresher_than is not None and (refreshed is None or refreshed <= gate.fresher_than):
        when = "at an unknown time" if refreshed is None else f"at {refreshed:%Y-%m-%d %H:%M:%S} UTC"
        return _Old(f"It was calculated {when}, not after {gate.fresher_than:%Y-%m-%d %H:%M:%S} UTC.")
    try:
        made = readings(insight, gate.pick, answer.at)
    except PostHogSettingsError as error:
        # The insight itself is the subject already.
        return Verdict("failed", f"it {error.problem} {error.remedy}" if error.field == "insight" else str(error))
    stale = next((reading for reading in made if reading.stale), None)
    return made if stale is None else _Old(f"It has no value: {stale.reason}.")


def _finding(gate: Gate, insight: Insight, judgement: _Judgement) -> Finding:
    facts = facts_of(insight)
    if isinstance(judgement, Verdict):
        return Finding(judgement, facts)
    condition = gate.condition
    if isinstance(judgement, _Old):
        return Finding(Verdict("pending", judgement.reason), {**facts, "condition": str(condition), "met": None})
    judged = insight_conditions.judge(condition, judgement)
    facts.update(_facts_of_reading(judged.reading), condition=str(condition), met=judged.met)
    if judged.met:
        return Finding(Verdict("succeeded", _sentence(judged.text)), facts)
    return Finding(Verdict("pending", _sentence(judged.text)), facts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _facts_of_reading(reading: Reading) -> dict[str, Any]:
    return {
        "series": reading.series,
        "value": reading.value,
        "date": reading.date,
        "previous": reading.previous,
        "previous_date": reading.previous_date,
        "change": change(reading),
        "change_percent": _finite(change(reading, percent=True)),
    }


def _finite(number: Number | None) -> Number | None:
    """Leave out what JSON cannot hold."""
    return None if number is None or not math.isfinite(number) else round(number, 6)


def _of_failure(insight: Insight, reason: str) -> Verdict:
    status: Any = insight.get("query_status")
    status = status if isinstance(status, Mapping) else {}
    message = status.get("error_message")
    if refresh.NO_ROOM in (status.get("error_code"), message):
        return Verdict("pending", f"PostHog has no capacity to calculate it now ({reason}).")
    # PostHog gives no reason for its own faults.
    final = bool(message or not status) and not _PASSING.search(reason)
    return Verdict("failed", f"it could not be calculated: {reason}", final=final)
