"""Insights as tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import insight_lookup
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.freshness import Target
from airflow_provider_posthog.api.insight_checks import decide
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.jobs import MAX_POLL_FAILURES
from airflow_provider_posthog.api.server_time import Timed, timed
from airflow_provider_posthog.api.steps import Steps, run
from airflow_provider_posthog.compat import AirflowSkipException
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogJobTimeout, PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks import insight_gate
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.insight_gate import InsightGateTask, NumberArguments
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.refresh import PostHogRefreshOperator
from airflow_provider_posthog.tasks.refresh_results import fitted, oldest

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import RefreshArguments

#: Twenty minutes: twice what PostHog gives a calculation.
CHECK_TIMEOUT = 1200.0


class PostHogRefreshInsightOperator(PostHogRefreshOperator):
    """Calculates an insight afresh, or several, and succeeds only if the numbers are proved to be new.

    A plain request for an insight never calculates, and PostHog answers 200 even if the calculation failed. This task
    succeeds only if PostHog reports no error, and there is a result that does not come from a cache and was calculated
    after the task asked for it, by PostHog's own clock. A retry takes up a calculation that is still running. What
    earlier tries had calculated within ``timeout`` is proved anew instead of being calculated again. A kill cancels the
    calculation.

    .. code-block:: python

        PostHogRefreshInsightOperator(task_id="refresh", insight="AbCd1234", path="s3://lake/insights/{{ ds }}.csv")

    :param insight: the insight's id or short id, a list of them, or what another refresh returned. With ``.expand``
        each gets a task of its own.
    :param from_dashboard: with this dashboard's filters: a result of its own, which a refresh of the bare insight
        leaves as it is. Default: the dashboard of the refresh whose result is given.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.refresh.PostHogRefreshOperator`: ``deferrable``,
        ``path``, ``max_in_flight``, ``timeout``, ``variables_override``, ``filters_override``, ...
    :returns: per insight ``id`` (int), ``short_id``, ``name``, ``dashboard_id`` (int or null), ``last_refresh`` (ISO
        text), ``rows`` (int: entries of the result; of a trend its series), ``has_more`` (bool: PostHog has more rows
        than it gave, or of a trend more values of the breakdown), ``seconds`` (float), ``url`` and ``path`` (text, or
        null). With ``values`` also ``values``, a list of ``series`` (its name, or null), ``value``, ``date``,
        ``previous``, ``previous_date``, ``change``, ``change_percent`` and ``percent`` (whether the numbers are of
        percent), and ``text``, which says them in words. A list for a list, else one of them; with hundreds of insights
        the least useful fields are left out.
    :raises PostHogSettingsError: if an argument is wrong, or there is no such insight.
    :raises PostHogJobFailed: if an insight is not proved to be fresh: which, and why.
    :raises PostHogJobTimeout: if not all ended in time.
    """

    template_fields: Sequence[str] = (
        *PostHogRefreshOperator.template_fields,
        "insight",
        "from_dashboard",
    )

    def __init__(
        self,
        *,
        insight: int | str | Mapping[str, Any] | Sequence[int | str | Mapping[str, Any]],
        from_dashboard: int | str | None = None,
        **kwargs: Unpack[RefreshArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.insight = insight
        self.from_dashboard = from_dashboard

    @property
    def is_list(self) -> bool:
        """Whether several insights are asked for, and a list is returned."""
        return isinstance(self.insight, Sequence) and not isinstance(self.insight, (str, bytes))

    def _wanted(self) -> list[Any]:
        return list(self.insight) if self.is_list else [self.insight]  # type: ignore[arg-type]

    def check(self) -> None:
        """Refuse what cannot end well, before anything is sent."""
        super().check()
        wanted = self._wanted()
        keys = [
            (insight_lookup.key_of(insight), insight_lookup.dashboard_of(insight, self.from_dashboard))
            for insight in wanted
        ]
        if not keys:
            raise PostHogSettingsError("insight", "is an empty list.", "Write an insight's id or short id.")
        if len(set(keys)) < len(keys):
            raise PostHogSettingsError("insight", "names an insight twice.", "Name each once.")

    def find(self) -> Steps[tuple[list[Target], dict[str, Any]]]:
        """Find the insights."""
        targets: dict[tuple[int, int | None], Target] = {}
        for wanted in self._wanted():
            dashboard = insight_lookup.dashboard_of(wanted, self.from_dashboard)
            saved = yield from insight_lookup.find(wanted)
            number = insight_lookup.number_of(saved)
            target = self.overridden(Target(number, "", title=str(saved.get("name") or ""), dashboard_id=dashboard))
            # Read as it will be calculated: the same filters make the same result that is to be replaced.
            answer: Timed[Insight] = yield timed(target.read())
            if insight_lookup.not_on(answer.value, dashboard) is not None:
                raise PostHogSettingsError(
                    "from_dashboard",
                    f"dashboard {dashboard} does not show insight {number}, or not to this key.",
                    "Write the number of a dashboard that does, or leave it out.",
                )
            targets[number, dashboard] = replace(
                target, since=answer.at, before=answer.value.get("last_refresh"), saved=answer.value
            )
        return list(targets.values()), {"short_id": saved.get("short_id")}

    def conclude(
        self, done: list[dict[str, Any]], facts: Mapping[str, Any], context: Context
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """Hand on what is known of each."""
        tell_outlets(context, self.outlets, {"last_refresh": oldest(done)})
        self.concludes("Refreshed %s%s", counted(len(done), "insight"), "" if self.is_list else f". {done[0]['url']}")
        return fitted(done)[0] if self.is_list else done[0]

    def link(self, targets: Sequence[Target], facts: Mapping[str, Any]) -> str:
        """Return the insight's page, or that of all insights."""
        return "insights" if self.is_list else f"insights/{facts.get('short_id')}"


class _InsightCheckOperatorRest(PostHogArguments, NumberArguments, total=False):
    """What :class:`PostHogInsightCheckOperator` takes beside its own arguments."""


class PostHogInsightCheckOperator(InsightGateTask, PostHogOperator):
    """Compares an insight's newest number with a condition now, and fails if it does not meet it.

    Reads the same number as :class:`~airflow_provider_posthog.sensors.insights.PostHogInsightThresholdSensor`, but does
    not wait, except for a calculation that is needed: where PostHog's cache is empty or stale, a newer hour or day has
    ended since, or the number is older than ``fresher_than``. That is a refresh, with its proof.

    :param insight: the insight's id or short id, or what ``PostHogRefreshInsightOperator`` returned of it.
    :param condition: the condition as text, such as ``> 100``, ``between 5 and 9``, ``any >= 1`` or
        ``change >= -20 %``; docs/insights.md has all of it.
    :param from_dashboard: the id of a dashboard: look at the insight's result there, with the dashboard's filters.
        Default: the dashboard of the refresh whose result is given.
    :param timeout: seconds, or a ``timedelta``, for all of it.
    :param poll_interval: the longest wait between two polls of a calculation, in seconds or as a ``timedelta``.
    :param cancel_on_kill: cancel the calculation when the task is killed.
    :param max_poll_failures: how many polls of a calculation may fail in a row.
    :param kwargs: which number of it, as :class:`~airflow_provider_posthog.tasks.insight_gate.InsightGateTask`:
        ``series``, ``step``, ``measure``, ``period``, ``cohort``, ``row``, ``column``, and how new it has to be:
        ``fresher_than``, ``refresh``; and as Airflow's ``BaseOperator``, with ``posthog_conn_id`` and ``project_id``.
    :returns: ``id`` (int), ``short_id``, ``name`` and ``last_refresh`` (ISO text) of the insight; ``value`` (number),
        ``date`` (of the point, as PostHog writes it, in the project's time; else null), ``series`` (its name, or null),
        ``previous``, ``previous_date``, ``change`` and ``change_percent`` (or null), ``condition`` (text), ``met``.
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogJobFailed: if it does not meet the condition; with insight, date, value and condition. Or if there is
        no such insight, series or number, or it cannot be calculated.
    :raises PostHogJobTimeout: if PostHog did not answer in time.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        *("insight", "from_dashboard"),
        *insight_gate.FIELDS,
    )
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        insight: int | str | Mapping[str, Any],
        condition: str,
        from_dashboard: int | str | None = None,
        timeout: float | timedelta = CHECK_TIMEOUT,
        poll_interval: float | timedelta = 5.0,
        cancel_on_kill: bool = True,
        max_poll_failures: int = MAX_POLL_FAILURES,
        **kwargs: Unpack[_InsightCheckOperatorRest],
    ) -> None:
        super().__init__(condition=condition, **kwargs)
        self.insight = insight
        self.from_dashboard = from_dashboard
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.max_poll_failures = max_poll_failures
        self._names: tuple[str, ...] = ()

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the number, and compare it."""
        gate = insight_gate.gate(self, context)
        seconds = seconds_of("timeout", self.timeout)
        interval = seconds_of("poll_interval", self.poll_interval)
        self._names = gate.names if gate.calculates else ()
        deadline = time.time() + seconds
        gate = replace(gate, superseded_before=time.time() - seconds)
        try:
            with self.in_time(deadline):
                finding = run(decide(gate, deadline, interval, self.max_poll_failures), self.hook.client)
        except PostHogJobTimeout:
            self.on_kill()
            raise
        if finding.verdict.state == "failed":
            self.on_kill()  # what could not be watched to its end may go on
        self._names = ()
        return self._conclude(finding, context)

    def _conclude(self, finding: Finding, context: Context) -> dict[str, Any]:
        facts, reason = dict(finding.facts), finding.verdict.reason
        settings, short_id = self.hook.settings(), facts.get("short_id")
        name = f" {facts['name']!r}" if facts.get("name") else ""
        text = f"insight {facts.get('id') or insight_lookup.key_of(self.insight)}{name}: {reason}"
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/insights/{short_id or ''}")
        if finding.verdict.state == "succeeded":
            self.concludes("%s%s", text[:1].upper(), text[1:])
            return facts
        if finding.verdict.state == "failed" or "value" not in facts:  # it cannot be known
            raise PostHogJobFailed(f"PostHog: {text}")
        raise self.unmet(f"{text[:1].upper()}{text[1:]} The condition is: {facts['condition']}")

    def unmet(self, text: str) -> Exception:
        """Return what ends the task if the condition is not met.

        :param text: insight, date, value and condition.
        """
        return PostHogJobFailed(text)

    def on_kill(self) -> None:
        """Cancel the calculation, when the task is killed."""
        for name in self._names if self.cancel_on_kill else ():
            insight_gate.cancel(self.hook, name)


class PostHogInsightShortCircuitOperator(PostHogInsightCheckOperator):
    """Compares an insight's newest number with a condition now, and skips itself if it does not meet it.

    Downstream tasks are then skipped too, unless their ``trigger_rule`` says otherwise. Takes and returns what
    :class:`PostHogInsightCheckOperator` does. It fails if the number cannot be determined.
    """

    def unmet(self, text: str) -> Exception:
        """Return what skips the task.

        :param text: insight, date, value and condition.
        """
        return AirflowSkipException(text)
