"""What the tasks that compare an insight's number have in common: the arguments that say which number, and when."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import insight_conditions, insight_lookup, refresh
from airflow_provider_posthog.api.freshness import Earlier
from airflow_provider_posthog.api.insight_checks import Calculation, Gate
from airflow_provider_posthog.api.insight_series import FUNNEL_MEASURES, RETENTION_MEASURES, Pick, Series
from airflow_provider_posthog.api.jobs import CANCEL_SECONDS
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.arguments import PartOfArguments
from airflow_provider_posthog.tasks.identity import Identity

if TYPE_CHECKING:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

#: The arguments that may be templates.
FIELDS = (
    *("condition", "series", "step", "measure", "period", "cohort", "row", "column"),
    *("fresher_than", "refresh"),
)
_REFRESHES = ("force_cache", "blocking", "force_blocking")
_MEASURES = (*FUNNEL_MEASURES, *RETENTION_MEASURES)


class NumberArguments(PartOfArguments, total=False):
    """Which number of an insight, and how new it has to be, for an editor and a type checker."""

    series: Series
    step: int | str | None
    measure: str | None
    period: int | str
    cohort: str | None
    row: int | str
    column: int | str
    fresher_than: datetime | str | None
    refresh: Calculation


class InsightGateArguments(NumberArguments, total=False):
    """The arguments of :class:`InsightGateTask`, for an editor and a type checker."""

    condition: str | None


class InsightGateTask(BaseOperator):
    """Compares a number of an insight with a condition: what the operators and the sensor that do so share.

    :param condition: the condition as text, such as ``> 100``, ``between 5 and 9``, ``any >= 1`` or
        ``change >= -20 %``; docs/insights.md has all of it.
    :param series: which series of a trend or lifecycle: its number, from 0, its name as PostHog shows it, or a list of
        these. A trend with a breakdown needs the name. Default: the first; all of them if the condition says ``any``
        or ``all``.
    :param step: which step of a funnel: its number, from 1, or its name; default the last.
    :param measure: of a funnel ``conversion`` (default: percent of the first step), ``conversion_from_previous``,
        ``count``, ``average_seconds`` or ``median_seconds``; of a retention ``percent`` (default) or ``count``.
    :param period: which column of a retention, from 0.
    :param cohort: which row of a retention, by its date; default the newest whose period is over.
    :param row: which row of an SQL insight, from 0.
    :param column: which column of an SQL insight: its number, from 0, or its name.
    :param fresher_than: a ``datetime``, or ISO text (in UTC if it has no offset): older results do not count. SQL and
        totals do not show their age, and need this if others calculate them.
    :param refresh: ``blocking`` (calculate if the number is old), ``force_blocking`` (calculate at each look), or
        ``force_cache`` (never, such as after a refresh).
    """

    def __init__(
        self,
        *,
        condition: str | None = None,
        series: Series = None,
        step: int | str | None = None,
        measure: str | None = None,
        period: int | str = 1,
        cohort: str | None = None,
        row: int | str = 0,
        column: int | str = 0,
        fresher_than: datetime | str | None = None,
        refresh: Calculation = "blocking",
        **kwargs: Any,  # noqa: ANN401 - of the class beside it
    ) -> None:
        super().__init__(**kwargs)
        self.condition = condition
        self.series = series
        self.step = step
        self.measure = measure
        self.period = period
        self.cohort = cohort
        self.row = row
        self.column = column
        self.fresher_than = fresher_than
        self.refresh = refresh


def arguments(task: InsightGateTask, *, condition: str | None) -> dict[str, Any]:
    """Return a task's arguments as the check ``insight_threshold`` takes them: JSON; those that say nothing left out.

    :param task: the task.
    :param condition: its condition, if it has one as text.
    :raises PostHogSettingsError: if one cannot be used.
    """
    if task.refresh not in _REFRESHES:  # PostHog would take it for "from the cache"
        raise PostHogSettingsError(
            "refresh", f"{task.refresh!r} does not fit.", f"Write one of {', '.join(_REFRESHES)}."
        )
    if task.measure not in (None, "", *_MEASURES):
        raise PostHogSettingsError("measure", f"{task.measure!r} is none.", f"Write one of {', '.join(_MEASURES)}.")
    of_several = condition is not None and insight_conditions.parse(condition).quantifier is not None
    series = _series(task.series, of_several=of_several)
    since = None if task.fresher_than in (None, "") else time_text("fresher_than", task.fresher_than)
    places = {
        "measure": task.measure or None,
        "step": _place("step", task.step, least=1),
        "period": _whole("period", task.period),
        "cohort": _day(task.cohort),
        "row": _whole("row", task.row),
        "column": _place("column", task.column),
    }
    pick = {name: value for name, value in places.items() if value != getattr(Pick, name)}
    more = {"fresher_than": since, "pick": pick}
    return {"series": series, "refresh": task.refresh, **{name: value for name, value in more.items() if value}}


def gate(task: Any, context: Mapping[str, Any]) -> Gate:  # noqa: ANN401 - a task with more arguments than Task
    """Return what a task asks of an insight's number.

    :param task: the task, with its ``insight``, ``from_dashboard`` and ``condition``.
    :raises PostHogSettingsError: if an argument cannot be used.
    """
    condition = insight_conditions.parse(task.condition)
    arguments_ = arguments(task, condition=str(condition))
    insight, dashboard = (
        insight_lookup.key_of(task.insight),
        insight_lookup.dashboard_of(task.insight, task.from_dashboard),
    )
    identity, request = Identity.of(context), _request(insight, dashboard)
    return Gate(
        insight,
        condition,
        Pick(arguments_["series"], **arguments_.get("pick", {})),
        dashboard,
        arguments_["refresh"],
        fresher_than=moment(arguments_.get("fresher_than")),
        query_id=identity.own_name(request),
        # What ended well then was not new enough, or it would have been enough for the look before.
        earlier=tuple(Earlier(name, same_life=False) for name, _ in identity.earlier(request)),
    )


def _series(value: object, *, of_several: bool) -> int | str | list[int | str] | None:
    if value is None:
        return None if of_several else 0
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    wanted: list[Any] = list(value) if isinstance(value, Sequence) and several else [value]
    fits = [isinstance(item, (int, str)) and not isinstance(item, bool) and item != "" for item in wanted]
    if not wanted or not all(fits) or any(isinstance(item, int) and item < 0 for item in wanted):
        raise PostHogSettingsError(
            "series", f"{str(value)[:60]!r} is none.", "Write its number, from 0, its name, or a list of these."
        )
    only: int | str = wanted[0]
    return wanted if several else only


def _whole(field: str, value: object) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise PostHogSettingsError(field, f"{text[:60]!r} is not a place.", "Write its number, from 0.")
    return int(text)


def _place(field: str, value: object, *, least: int = 0) -> int | str | None:
    """Read a place by its number, or by its name; of digits a number."""
    if value is None or value == "":
        return None if field == "step" else 0
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        text = str(value).strip()
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            if isinstance(value, str):
                return value
        elif int(text) >= least:
            return int(text)
    raise PostHogSettingsError(
        field, f"{str(value)[:60]!r} is no {field}.", f"Write its number, from {least}, or its name."
    )


def _day(value: object) -> str | None:
    if value in (None, ""):
        return None
    if moment(str(value)) is None:
        raise PostHogSettingsError("cohort", f"{str(value)[:60]!r} is not a date.", "Write one such as '2026-11-01'.")
    return str(value).strip()[:10]


def time_of(field: str, when: object) -> datetime:
    """Read a time from a task's argument.

    :param field: the argument.
    :param when: a ``datetime``, or ISO text; in UTC if it has no offset.
    :raises PostHogSettingsError: if it is none.
    """
    moment_of = aware(when) if isinstance(when, datetime) else moment(when)
    if moment_of is None:
        raise PostHogSettingsError(
            field,
            f"{str(when)[:60]!r} is not a time.",
            "Write a datetime, or ISO text such as '{{ data_interval_end }}' or '2026-01-31T06:00:00Z'.",
        )
    return moment_of


def time_text(field: str, when: object) -> str:
    """Write a time from a task's argument as ISO text with an offset.

    :param field: the argument.
    :param when: as for :func:`time_of`.
    :raises PostHogSettingsError: if it is none.
    """
    return time_of(field, when).isoformat()


def aware(when: datetime) -> datetime:
    """Return a time in UTC; one without an offset is.

    :param when: the time.
    """
    return when.astimezone(timezone.utc) if when.tzinfo else when.replace(tzinfo=timezone.utc)


def _request(insight: int | str, dashboard: int | None) -> dict[str, Any]:
    """Return what is calculated; not how it is compared, which another try may do otherwise."""
    return {"gate": str(insight), "dashboard": dashboard}


def name_of(context: Mapping[str, Any], insight: int | str, dashboard: int | None) -> str:
    """Return the name under which a sensor has an insight calculated.

    It is the same for all looks of a task instance, in the worker and in the triggerer and in each try: a look that was
    killed is followed by one that can end what it left running.

    :param insight: its number or short id.
    :param dashboard: on which it is looked at.
    """
    return Identity.of(context).name_of(_request(insight, dashboard), 0)


def cancel(hook: PostHogHook, name: str) -> None:
    """End the calculation of a task that is killed; within seconds, with a client of its own.

    :param hook: the task's.
    :param name: the calculation's.
    """
    from airflow_provider_posthog.api.clients import Client

    end = time.time() + CANCEL_SECONDS
    with Client(hook.settings()) as client, client.until(end):
        run(refresh.cancel(name), client)
