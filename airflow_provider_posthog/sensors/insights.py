"""Waiting for an insight to be fresh, or for its number to meet a condition."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import insight_conditions, insight_lookup
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.insight_conditions import OPERATORS
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
    clean,
)
from airflow_provider_posthog.tasks import insight_gate
from airflow_provider_posthog.tasks.arguments import WaitingSensorArguments
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.insight_gate import InsightGateArguments, InsightGateTask
from airflow_provider_posthog.tasks.sensor import PostHogSensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.triggers.watching import WatchEvent

#: The largest number that everything on the way, JSON and databases among it, can hold.
_LARGEST = 1.7e308


class InsightSensorArguments(WaitingSensorArguments, total=False):
    """The arguments of :class:`PostHogInsightSensor`, for an editor and a type checker."""

    insight: int | str | Mapping[str, Any]
    from_dashboard: int | str | None


class PostHogInsightSensor(PostHogSensor):
    """What the sensors of insights share.

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters,
        which has a cache of its own. Default: the dashboard of the refresh whose result is given.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``.
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "insight", "from_dashboard")

    def __init__(
        self,
        *,
        insight: int | str | Mapping[str, Any],
        from_dashboard: int | str | None = None,
        **kwargs: Unpack[WaitingSensorArguments],
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

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Go on after the trigger fired; an error that ended it is raised as poke mode raises it.

        :param event: the trigger's event.
        """
        try:
            return super().execute_complete(context, event)
        except PostHogJobFailed:
            raise
        except PostHogJobError as lost:  # an event can tell an error's text only: the worker looks for itself
            try:
                finding = self._look(context)
            except PostHogError as error:
                raise error from lost
            if finding.verdict.state != "succeeded":
                raise
            return dict(finding.facts)

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the arguments that say which result to look at.

        :raises PostHogSettingsError: if one cannot be used.
        """
        return {
            "insight": insight_lookup.key_of(self.insight),
            "from_dashboard": insight_lookup.dashboard_of(self.insight, self.from_dashboard),
        }


class PostHogInsightFreshSensor(PostHogInsightSensor):
    """Waits until an insight was calculated after a time. Never causes a calculation.

    A failed calculation is not fresh, even if PostHog gives it a new ``last_refresh``. Something else has to calculate
    the insight: ``PostHogRefreshInsightOperator`` in another DAG, PostHog's own schedule, or somebody who opens it.

    .. code-block:: python

        PostHogInsightFreshSensor(task_id="fresh", insight="AbCd1234", fresher_than="{{ ts }}", deferrable=True)

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param fresher_than: the time: a ``datetime``, or ISO text (in UTC if it has no offset). By default the end of the
        run's data interval; for runs without one their logical date, else the time at which the run started.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters,
        which has a cache of its own. Default: the dashboard of the refresh whose result is given.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor`: ``posthog_conn_id``,
        ``project_id``, ``deferrable``, ``failure_grace``, ``max_poll_failures``; and as Airflow's
        ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    :returns: ``id`` (int), ``short_id``, ``name`` and ``last_refresh`` (ISO text) of the insight.
    :raises PostHogJobFailed: if there is no such insight (on this dashboard).
    """

    check: ClassVar[str] = "insight_fresh"
    unmet: ClassVar[str] = "is not fresh"
    met: ClassVar[str] = "is fresh"
    template_fields: Sequence[str] = (*PostHogInsightSensor.template_fields, "fresher_than")

    def __init__(
        self,
        *,
        fresher_than: datetime | str | None = None,
        **kwargs: Unpack[InsightSensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.fresher_than = fresher_than

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the insight and the time.

        :raises PostHogSettingsError: if one cannot be used.
        """
        return {**super().check_arguments(context), "fresher_than": self._since(context).isoformat()}

    def _since(self, context: Context) -> datetime:
        if self.fresher_than is None:
            return _run_time(context)
        return insight_gate.time_of("fresher_than", self.fresher_than)


class _InsightThresholdSensorRest(InsightGateArguments, InsightSensorArguments, total=False):
    """What :class:`PostHogInsightThresholdSensor` takes beside its own arguments."""


class PostHogInsightThresholdSensor(InsightGateTask, PostHogInsightSensor):
    """Waits until an insight's newest number meets a condition: a gate for the downstream tasks.

    For a trend that is the newest *complete* point: the current hour, day, week or month is left out, by PostHog's
    clock and the project's time zone, and so is a period that had not ended when PostHog calculated the result, or that
    the end of the insight's range cuts. For a trend shown as one total it is that total. Missing data meets no
    condition. A text fails the task, and so does a calculation that cannot succeed. To decide at once instead of
    waiting, use :class:`~airflow_provider_posthog.operators.insights.PostHogInsightCheckOperator`.

    ::

        PostHogInsightThresholdSensor(task_id="enough", insight="AbCd1234", condition="> 100", deferrable=True)

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param condition: the condition as text, such as ``> 100``, ``between 5 and 9``, ``any >= 1`` or
        ``change >= -20 %``; docs/insights.md has all of it.
    :param operator: ``>``, ``>=``, ``<``, ``<=``, ``==`` or ``!=``, with ``value`` in place of a ``condition``.
    :param value: the number to compare with.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters,
        which has a cache of its own. Default: the dashboard of the refresh whose result is given.
    :param kwargs: which number of it, as :class:`~airflow_provider_posthog.tasks.insight_gate.InsightGateTask`:
        ``series``, ``step``, ``measure``, ``period``, ``cohort``, ``row``, ``column``, and how new it has to be:
        ``fresher_than``, ``refresh``; as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor`:
        ``posthog_conn_id``, ``project_id``, ``deferrable``, ``failure_grace``, ``max_poll_failures``; and as Airflow's
        ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    :returns: ``id`` (int), ``short_id``, ``name`` and ``last_refresh`` (ISO text) of the insight; ``value`` (number),
        ``date`` (of the point, as PostHog writes it, in the project's time; else null), ``series`` (its name, or null),
        ``previous``, ``previous_date``, ``change`` and ``change_percent`` (or null), ``condition`` (text), ``met``;
        with ``operator`` also that and ``threshold``.
    :raises PostHogJobFailed: if there is no such insight, series or number, or the calculation cannot succeed.
    """

    check: ClassVar[str] = "insight_threshold"
    unmet: ClassVar[str] = "does not meet the condition"
    met: ClassVar[str] = "meets the condition"
    template_fields: Sequence[str] = (*PostHogInsightSensor.template_fields, *insight_gate.FIELDS, "operator", "value")

    def __init__(
        self,
        *,
        operator: str | None = None,
        value: float | str | None = None,
        **kwargs: Unpack[_InsightThresholdSensorRest],
    ) -> None:
        super().__init__(**kwargs)
        self.operator = operator
        self.value = value
        self._query_id: str | None = None

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the insight and the condition.

        :raises PostHogSettingsError: if one cannot be used.
        """
        looked_at = super().check_arguments(context)
        compared = self._compared()
        more = insight_gate.arguments(self, condition=compared.get("condition"))
        if self.refresh != "force_cache":
            more["query_id"] = insight_gate.name_of(context, looked_at["insight"], looked_at["from_dashboard"])
        return {**looked_at, **compared, **more}

    def _condition(self) -> str:
        return f" {self.condition}" if self.condition is not None else f" {self.operator} {self.value}"

    def _unmet(self) -> str:
        return super()._unmet() + self._condition()

    def _is_met(self, facts: Mapping[str, Any]) -> str:
        date = f" of {facts['date']}" if facts.get("date") else ""
        number = f"{clean(str(facts.get('name') or ''))!r}{date}: {facts.get('value')}"
        return f"{super()._is_met(facts)}{self._condition()} ({number})"

    def _compared(self) -> dict[str, Any]:
        if (self.condition is None) == (self.operator is None):
            raise PostHogSettingsError(
                "condition", "and operator: one of the two is needed.", "Write condition='> 100'."
            )
        if self.condition is not None:
            return {"condition": str(insight_conditions.parse(self.condition))}
        if self.operator not in OPERATORS:
            raise PostHogSettingsError(
                "operator", f"{self.operator!r} is none.", f"Write one of {' '.join(OPERATORS)}."
            )
        return {"operator": self.operator, "value": _threshold(self.value)}

    def _wait(self, context: Context) -> Any:  # noqa: ANN401 - JSON
        name = self.check_arguments(context).get("query_id")
        identity = Identity.of(context)
        if name is not None and identity.try_number > 1 and not identity.reschedules:
            insight_gate.cancel(self.hook, name)  # what a try left that was killed would run beside this one's
        return super()._wait(context)

    def look(self, context: Context) -> Finding:
        """Look once; what is calculated for that has a name, by which a kill can cancel it."""
        arguments = self.check_arguments(context)
        self._query_id = arguments.get("query_id")
        try:
            return self.run_check(arguments)
        except PostHogTransportError:
            if self._ends and time.time() >= self._ends:  # nothing is left of the time in which the look would do so
                self.on_kill()
            raise

    def _conclude(self, event: WatchEvent, context: Context) -> Any:  # noqa: ANN401 - JSON
        if event.ended.outcome != "succeeded":
            self.on_kill()  # what the triggerer could not see to its end may go on
        return super()._conclude(event, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Go on after the trigger fired.

        :param event: the trigger's event.
        """
        self._query_id = self.check_arguments(context).get("query_id")
        return super().execute_complete(context, event)

    def on_kill(self) -> None:
        """Cancel what is calculated for the look that is killed."""
        if self._query_id is not None:
            insight_gate.cancel(self.hook, self._query_id)


def _threshold(value: object) -> int | float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number: int | float = value if isinstance(value, int) else float(str(value))
        if not math.isfinite(number) or abs(number) > _LARGEST:
            raise ValueError
    except (ValueError, OverflowError):  # a whole number may be larger than any float
        raise PostHogSettingsError("value", f"{str(value)[:60]!r} is not a number.", "Write a number.") from None
    return int(number) if number == int(number) else number


def _run_time(context: Mapping[str, Any]) -> datetime:
    """Return the end of the run's data interval; else its logical date (Airflow 3 may have neither), else its start."""
    run = context.get("dag_run")
    for when in (context.get("data_interval_end"), context.get("logical_date"), getattr(run, "start_date", None)):
        if isinstance(when, datetime):
            return insight_gate.aware(when)
    raise PostHogSettingsError("fresher_than", "this run has no time of its own.", "Write fresher_than=... .")
