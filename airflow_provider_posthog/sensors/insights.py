"""Waiting for an insight to be fresh, or for its number to meet a condition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import insight_lookup
from airflow_provider_posthog.api.insight_checks import OPERATORS, Calculation
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.sensors.base import PostHogSensor

if TYPE_CHECKING:
    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context

_REFRESHES = ("force_cache", "blocking", "force_blocking")


class PostHogInsightSensor(PostHogSensor):
    """What the sensors of insights share.

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters,
        which has a cache of its own.
    :param kwargs: as :class:`~airflow_provider_posthog.sensors.base.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``.
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "insight", "from_dashboard")

    def __init__(
        self,
        *,
        insight: int | str | Mapping[str, Any],
        from_dashboard: int | str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.insight = insight
        self.from_dashboard = from_dashboard

    def subject(self) -> str:
        """Name the insight."""
        return f"insight {insight_lookup.key_of(self.insight)}"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the insight's address, or that of the project's insights while its short id is not known.

        :param settings: where PostHog is.
        :param facts: what the last look saw.
        """
        known = facts.get("short_id") or (self.insight.get("short_id") if isinstance(self.insight, Mapping) else None)
        list_of_all = f"{settings.base_url}/project/{settings.project_id}/insights"
        return f"{list_of_all}/{known}" if known else list_of_all

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the arguments that say which result to look at.

        :param context: the task's context.
        :raises PostHogSettingsError: if one cannot be used.
        """
        return {
            "insight": insight_lookup.key_of(self.insight),
            "from_dashboard": _dashboard_number(self.from_dashboard),
        }


class PostHogInsightFreshSensor(PostHogInsightSensor):
    """Waits until an insight was calculated after a time. Never causes a calculation.

    A calculation that failed is not fresh, also where PostHog gives it a new ``last_refresh``. Something else has to
    calculate it: ``PostHogRefreshInsightOperator`` in another DAG, PostHog's own schedule, or somebody who looks at it.

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param fresher_than: the time: a ``datetime``, or ISO text (in UTC if it has no offset). By default the end of the
        run's data interval; for runs without one their logical date, else the time at which the run started.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters,
        which has a cache of its own.
    :param kwargs: as :class:`~airflow_provider_posthog.sensors.base.PostHogWaitingSensor`: ``posthog_conn_id``,
        ``project_id``, ``deferrable``, ``failure_grace``, ``max_poll_failures``; and as Airflow's
        ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    :returns: ``id`` (int), ``short_id``, ``name`` and ``last_refresh`` (ISO text) of the insight.
    :raises PostHogJobFailed: if there is no such insight (on this dashboard).
    """

    check: ClassVar[str] = "insight_fresh"
    unmet: ClassVar[str] = "is not fresh"
    template_fields: Sequence[str] = (*PostHogInsightSensor.template_fields, "fresher_than")

    def __init__(self, *, fresher_than: datetime | str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.fresher_than = fresher_than

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the insight and the time.

        :param context: the task's context.
        :raises PostHogSettingsError: if one cannot be used.
        """
        return {**super().check_arguments(context), "fresher_than": self._since(context).isoformat()}

    def _since(self, context: Context) -> datetime:
        if self.fresher_than is None:
            return _run_time(context)
        when = self.fresher_than
        found = _aware(when) if isinstance(when, datetime) else moment(when)
        if found is None:
            raise PostHogSettingsError(
                "fresher_than",
                f"{str(when)[:60]!r} is not a time.",
                "Write a datetime, or ISO text such as '{{ data_interval_end }}' or '2026-01-31T06:00:00Z'.",
            )
        return found


class PostHogInsightThresholdSensor(PostHogInsightSensor):
    """Waits until an insight's newest number meets a condition: a gate for the tasks behind it.

    Of a trend it is the newest *complete* point: the hour, day, week or month that goes on is left out, by PostHog's
    clock and the project's time zone, and so is one that had not ended when PostHog calculated the result. Of a trend
    shown as one total it is that total; of an SQL insight the first cell. No data meets no condition. A text fails
    the task, and so does a calculation that cannot work.

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param operator: ``>``, ``>=``, ``<``, ``<=``, ``==`` or ``!=``.
    :param value: the number to compare with.
    :param series: which series of a trend: its number, from 0, or its name as PostHog shows it. A trend with a
        breakdown needs the name.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters,
        which has a cache of its own.
    :param refresh: ``blocking`` (calculate if PostHog's cache is stale), ``force_blocking`` (at each look), or
        ``force_cache`` (never: only see what others have calculated).
    :param kwargs: as :class:`~airflow_provider_posthog.sensors.base.PostHogWaitingSensor`: ``posthog_conn_id``,
        ``project_id``, ``deferrable``, ``failure_grace``, ``max_poll_failures``; and as Airflow's
        ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    :returns: ``id`` (int), ``short_id``, ``name`` and ``last_refresh`` (ISO text) of the insight; ``value`` (number),
        ``date`` (of the point, as PostHog writes it, in the project's time; else null), ``operator``, ``threshold``.
    :raises PostHogJobFailed: if there is no such insight, series or number, or the calculation cannot work.
    """

    check: ClassVar[str] = "insight_threshold"
    unmet: ClassVar[str] = "does not meet the condition"
    template_fields: Sequence[str] = (
        *PostHogInsightSensor.template_fields,
        "operator",
        "value",
        "series",
        "refresh",
    )

    def __init__(
        self,
        *,
        operator: str,
        value: float | str,
        series: int | str = 0,
        refresh: Calculation = "blocking",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.operator = operator
        self.value = value
        self.series = series
        self.refresh = refresh

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the insight and the condition.

        :param context: the task's context.
        :raises PostHogSettingsError: if one cannot be used.
        """
        if self.operator not in OPERATORS:
            raise PostHogSettingsError(
                "operator", f"{self.operator!r} is none.", f"Write one of {' '.join(OPERATORS)}."
            )
        if self.refresh not in _REFRESHES:  # PostHog would take it for "from the cache"
            raise PostHogSettingsError(
                "refresh", f"{self.refresh!r} does not fit.", f"Write one of {', '.join(_REFRESHES)}."
            )
        if isinstance(self.series, bool) or (isinstance(self.series, int) and self.series < 0) or self.series == "":
            raise PostHogSettingsError("series", f"{self.series!r} is none.", "Write its number, from 0, or its name.")
        return {
            **super().check_arguments(context),
            "operator": self.operator,
            "value": _threshold(self.value),
            "series": self.series,
            "refresh": self.refresh,
        }


def _dashboard_number(value: object) -> int | None:
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise PostHogSettingsError("from_dashboard", f"{text[:60]!r} is not a number.", "Write the dashboard's id.")
    return int(text)


def _threshold(value: object) -> int | float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number: int | float = value if isinstance(value, int) else float(str(value))
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise PostHogSettingsError("value", f"{str(value)[:60]!r} is not a number.", "Write a number.") from None
    return int(number) if number == int(number) else number


def _aware(when: datetime) -> datetime:
    return when.astimezone(timezone.utc) if when.tzinfo else when.replace(tzinfo=timezone.utc)


def _run_time(context: Mapping[str, Any]) -> datetime:
    """Return the end of the run's data interval; else its logical date (Airflow 3 may have neither), else its start."""
    run = context.get("dag_run")
    for when in (context.get("data_interval_end"), context.get("logical_date"), getattr(run, "start_date", None)):
        if isinstance(when, datetime):
            return _aware(when)
    raise PostHogSettingsError("fresher_than", "this run has no time of its own.", "Write fresher_than=... .")
