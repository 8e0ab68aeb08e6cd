"""Insights as tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import insight_lookup
from airflow_provider_posthog.api.freshness import Target
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.server_time import Timed, moment, timed
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.outlets import tell_outlets
from airflow_provider_posthog.operators.refresh import PostHogRefreshOperator

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context


class PostHogRefreshInsightOperator(PostHogRefreshOperator):
    """Calculates an insight afresh, or several, and succeeds only if the numbers are proved to be new.

    A plain request for an insight never calculates, and PostHog answers 200 to a calculation that failed. This task is
    green only if PostHog reports no error, the result is there, was not taken from a cache, and was calculated after
    the task asked for it, by PostHog's own clock. A retry takes up a calculation that still runs; a kill cancels it.

    :param insight: the insight's id or short id, a list of them, or what another refresh returned. With ``.expand``
        each gets a task of its own.
    :param from_dashboard: with this dashboard's filters: a result of its own, which a refresh of the bare insight
        leaves as it is.
    :param kwargs: as :class:`~airflow_provider_posthog.operators.refresh.PostHogRefreshOperator`: ``deferrable``,
        ``result_path``, ``in_flight``, ``timeout``, ``variables_override``, ``filters_override``, ...
    :returns: per insight ``id`` (int), ``short_id``, ``name``, ``dashboard_id`` (int or null), ``last_refresh`` (ISO
        text), ``rows`` (int: entries of the result; of a trend its series), ``seconds`` (float), ``url`` and ``path``
        (text, or null). A list for a list, else one of them.
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
        **kwargs: Any,  # noqa: ANN401
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
        keys = [insight_lookup.key_of(insight) for insight in wanted]
        if not keys:
            raise PostHogSettingsError("insight", "is an empty list.", "Write an insight's id or short id.")
        if len(set(keys)) < len(keys):
            raise PostHogSettingsError("insight", "names an insight twice.", "Name each once.")

    def find(self) -> Steps[tuple[list[Target], dict[str, Any]]]:
        """Find the insights."""
        dashboard = None if self.from_dashboard in (None, "") else number_of("from_dashboard", self.from_dashboard)
        targets: dict[int, Target] = {}
        for wanted in self._wanted():
            found = yield from insight_lookup.find(wanted)
            number = insight_lookup.number_of(found)
            target = self.overridden(Target(number, "", title=str(found.get("name") or ""), dashboard_id=dashboard))
            # Read as it will be calculated: the same filters make the same result that is to be replaced.
            seen: Timed[Insight] = yield timed(target.read())
            _check_on_dashboard(seen.value, dashboard)
            targets[number] = replace(target, since=seen.at, before=seen.value.get("last_refresh"))
        return list(targets.values()), {"short_id": found.get("short_id")}

    def conclude(
        self, done: list[dict[str, Any]], facts: Mapping[str, Any], context: Context
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """Hand on what is known of each."""
        tell_outlets(context, self.outlets, {"last_refresh": oldest(done)})
        return done if self.is_list else done[0]

    def link(self, targets: Sequence[Target], facts: Mapping[str, Any]) -> str:
        """Return the insight's page, or that of all insights."""
        return "insights" if self.is_list else f"insights/{facts.get('short_id')}"


def _check_on_dashboard(insight: Insight, dashboard: int | None) -> None:
    """Refuse a dashboard that PostHog would ignore without a word, and calculate the bare insight."""
    shown_on: Any = insight.get("dashboards")
    if dashboard is not None and isinstance(shown_on, list) and dashboard not in shown_on:
        raise PostHogSettingsError(
            "from_dashboard",
            f"dashboard {dashboard} does not show insight {insight.get('id')}, or not to this key.",
            "Write the number of a dashboard that does, or leave it out.",
        )


def oldest(done: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the ``last_refresh`` of the oldest of some results; ``None`` if there are none.

    :param done: what is known of each insight.
    """
    return min((each["last_refresh"] for each in done), key=lambda told: str(moment(told)), default=None)


def number_of(field: str, value: object) -> int:
    """Read the number of a thing on PostHog from a task's argument.

    :param field: the argument.
    :param value: a number, or text of digits.
    :raises PostHogSettingsError: if it is neither.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) < 1:
        raise PostHogSettingsError(field, f"{text[:60]!r} is not a number.", f"Write the {field}'s id.")
    return int(text)
