"""Dashboards as tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import dashboards
from airflow_provider_posthog.api.answers import needed
from airflow_provider_posthog.api.freshness import Target
from airflow_provider_posthog.api.server_time import Timed, timed
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.operators.insights import number_of, oldest
from airflow_provider_posthog.operators.outlets import tell_outlets
from airflow_provider_posthog.operators.refresh import PostHogRefreshOperator

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context


class PostHogRefreshDashboardOperator(PostHogRefreshOperator):
    """Calculates all insights of a dashboard afresh, as the dashboard shows them, and proves each.

    PostHog keeps a tile's numbers apart from those of the bare insight, and its own refresh of a whole dashboard
    calculates one tile after the other in one request, which gateways cut, and reports failures tile by tile in an
    answer of status 200. Here each insight is asked for by itself, a few at once, and those that failed are named
    together.

    :param dashboard: the dashboard's id, or what another refresh returned.
    :param require_all: fail if the key may not see the insight of a tile. Without it such tiles are counted.
    :param kwargs: as :class:`~airflow_provider_posthog.operators.refresh.PostHogRefreshOperator`: ``deferrable``,
        ``result_path``, ``in_flight``, ``timeout``, ``variables_override``, ``filters_override``, ...
    :returns: ``dashboard_id`` (int), ``name``, ``insights`` (list: per insight what
        :class:`~airflow_provider_posthog.operators.insights.PostHogRefreshInsightOperator` returns),
        ``refreshed``, ``text_tiles`` and ``hidden_tiles`` (int), ``last_refresh`` (ISO text: that of the oldest
        result, null without insights), ``url``. The same numbers, without ``insights``, are the ``extra`` of the events
        of the task's asset outlets.
    :raises PostHogSettingsError: if an argument is wrong, or tiles are hidden and must not be.
    :raises PostHogNotFoundError: if there is no such dashboard, or it was deleted.
    :raises PostHogJobFailed: if an insight is not proved to be fresh: which, and why.
    :raises PostHogJobTimeout: if not all ended in time.
    """

    template_fields: Sequence[str] = (*PostHogRefreshOperator.template_fields, "dashboard")

    def __init__(
        self,
        *,
        dashboard: int | str | Mapping[str, Any],
        require_all: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.dashboard = dashboard
        self.require_all = require_all

    @property
    def is_list(self) -> bool:
        """Several insights: a file for each."""
        return True

    def check(self) -> None:
        """Refuse what cannot end well, before anything is sent."""
        super().check()
        self._number()

    def _number(self) -> int:
        given = self.dashboard
        return number_of("dashboard", given.get("dashboard_id") if isinstance(given, Mapping) else given)

    def find(self) -> Steps[tuple[list[Target], dict[str, Any]]]:
        """Find the dashboard's insights."""
        number = self._number()
        seen: Timed[dashboards.Dashboard] = yield timed(dashboards.retrieve(number))
        targets: dict[int, Target] = {}
        texts, hidden = 0, 0
        # An answer without tiles is none of a dashboard, and no dashboard without insights.
        for tile in needed(seen.value, "tiles", list, f"dashboard {number}"):
            insight = tile.get("insight")
            if not isinstance(insight, Mapping):
                if tile.get("error"):
                    raise PostHogJobFailed(f"PostHog cannot show tile {tile.get('id')} of dashboard {number}")
                texts += 1
            # PostHog shows no more than the ids of what the key may not see.
            elif "result" not in insight and not tile.get("error"):
                hidden += 1
            else:
                insight_id = needed(insight, "id", int, f"a tile of dashboard {number}")
                targets[insight_id] = Target(
                    insight_id,
                    "",
                    title=str(insight.get("name") or insight.get("derived_name") or ""),
                    dashboard_id=number,
                    since=seen.at,
                    # A tile's own answer may be of other overrides, and so of another result.
                    before=None if self._has_overrides() else insight.get("last_refresh"),
                )
        self._check_hidden(hidden, len(targets))
        facts = {"dashboard_id": number, "name": seen.value.get("name"), "text_tiles": texts, "hidden_tiles": hidden}
        return list(targets.values()), facts

    def _has_overrides(self) -> bool:
        return bool(self.filters_override or self.variables_override)

    def _check_hidden(self, hidden: int, shown: int) -> None:
        if hidden and (self.require_all or not shown):
            raise PostHogSettingsError(
                "dashboard",
                f"{hidden} of its {hidden + shown} insights may not be seen with this key.",
                "Take the key of a user who may see them"
                + (", or leave out require_all." if self.require_all and shown else "."),
            )

    def conclude(self, done: list[dict[str, Any]], facts: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Hand on what is known of the dashboard."""
        if not done:
            self.log.warning("Dashboard %s has no insights: nothing was calculated", facts["dashboard_id"])
        told = {
            **facts,
            "refreshed": len(done),
            "last_refresh": oldest(done),
            "url": f"{self.address}/{self.link([], facts)}",
        }
        tell_outlets(context, self.outlets, told)
        self.log.info("Dashboard %s is fresh: %s insights", facts["dashboard_id"], len(done))
        return {**told, "insights": done}

    def link(self, targets: Sequence[Target], facts: Mapping[str, Any]) -> str:
        """Return the dashboard's page."""
        return f"dashboard/{facts['dashboard_id']}"
