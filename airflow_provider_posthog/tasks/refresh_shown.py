"""The proof that an export shows the numbers of a refresh, or newer ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api import dashboards, exports, insights
from airflow_provider_posthog.api.freshness import CLOCKS_APART
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import failure_in
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError

_REMEDY = "Write the output of the task that refreshed what is exported."


@dataclass(frozen=True)
class Refreshed:
    """What a refresh returned, against which an export is held.

    PostHog calculates what it makes a picture of once more, in the background, and reports no failure of that: so the
    export has to be younger than the refresh, and afterwards every number has to be as new as the refresh's, and all of
    them or none calculated again.

    :param dashboard: the dashboard's number; ``None`` for a bare insight.
    :param whole: whether all of the dashboard was refreshed, and not one insight of it.
    :param times: when each insight was calculated, by its number.
    """

    dashboard: int | None
    whole: bool
    times: Mapping[int, datetime]

    @classmethod
    def parse(cls, output: object) -> Refreshed:
        """Read what a refresh returned.

        :param output: of an insight, or of a dashboard.
        :raises PostHogSettingsError: if it is none of these.
        """
        if not isinstance(output, Mapping):
            raise PostHogSettingsError("refreshed", "is not what a refresh of one thing returned.", _REMEDY)
        whole = isinstance(output.get("insights"), list)
        items = output["insights"] if whole else [output]
        times: dict[int, datetime] = {}
        for item in items:
            number, at = (item.get("id"), moment(item.get("last_refresh"))) if isinstance(item, Mapping) else (0, None)
            if not isinstance(number, int) or at is None:
                raise PostHogSettingsError("refreshed", "has an insight without its id or last_refresh.", _REMEDY)
            times[number] = at
        dashboard = output.get("dashboard_id")
        if not times or (dashboard is not None and not isinstance(dashboard, int)):
            raise PostHogSettingsError("refreshed", "names no insight that was refreshed.", _REMEDY)
        return cls(dashboard, whole, times)

    def check(self, export: exports.Export) -> None:
        """Refuse an export that cannot show these numbers, before it is fetched.

        :param export: the export.
        :raises PostHogSettingsError: if it is of something else.
        :raises PostHogIncompleteError: if it was created before the refresh.
        """
        of_export = (export.get("dashboard"), export.get("insight"))
        insight = None if self.whole else next(iter(self.times))
        if export.get("export_format") != exports.PNG:
            if self.dashboard is not None:
                remedy = "Let the refresh write the table: PostHogRefreshInsightOperator(from_dashboard=..., path=...)."
                raise PostHogSettingsError(
                    "refreshed", "is of a dashboard, whose filters PostHog does not apply to tables.", remedy
                )
            of_export = (self.dashboard, of_export[1])
        if of_export != (self.dashboard, insight):
            text = f"is of {_name(self.dashboard, insight)}, and the export of {_name(*of_export)}."
            raise PostHogSettingsError("refreshed", text, _REMEDY)
        created, newest = moment(export.get("created_at")), max(self.times.values())
        if created is None or created < newest - CLOCKS_APART:
            when = "at a time that PostHog does not tell" if created is None else f"at {created:%F %T} UTC"
            raise PostHogIncompleteError(
                f"The export was created {when}, and the refresh ended at {newest:%F %T} UTC: it may show older "
                "numbers. Let the refresh be upstream of the task that creates it, and clear that task."
            )

    def look(self, export: exports.Export) -> Steps[dict[str, Any]]:
        """Read what PostHog has now of each insight; for pictures.

        :param export: the export, which has its file.
        :returns: ``last_refresh`` (ISO text: of the oldest number that the picture may show), and ``recalculated``
            (int: how many insights PostHog has calculated once more for it).
        :raises PostHogIncompleteError: if one is older than the refresh, failed, or cannot be seen.
        """
        created = moment(export.get("created_at"))
        answers = yield from self._read()
        times: dict[int, datetime] = {}
        again = 0
        for number, refreshed in self.times.items():
            answer = answers.get(number, {})
            at, failure = moment(answer.get("last_refresh")), failure_in(answer)
            if failure is not None or at is None or at < refreshed:
                what = failure or ("PostHog shows no result" if at is None else f"its numbers are from {at:%F %T} UTC")
                raise PostHogIncompleteError(f"The picture is not proved to show insight {number}: {what}.")
            again += created is not None and at >= created - CLOCKS_APART and at > refreshed
            times[number] = at
        if 0 < again < len(times):
            raise PostHogIncompleteError(
                f"PostHog has calculated {again} of {len(times)} insights once more for the picture. The others are "
                "not proved to be in it: an error may stand in their place. Clear the task that creates the export."
            )
        return {"last_refresh": min(times.values()).isoformat(), "recalculated": again}

    def _read(self) -> Steps[dict[int, Mapping[str, Any]]]:
        if not self.whole:
            number = next(iter(self.times))
            insight: insights.Insight = yield insights.retrieve(number, from_dashboard=self.dashboard)
            return {number: insight}
        board: dashboards.Dashboard = yield dashboards.retrieve(self.dashboard or 0)
        answers: dict[int, Mapping[str, Any]] = {}
        for tile in board.get("tiles") or ():
            shown = tile.get("insight")
            if isinstance(shown, Mapping) and isinstance(shown.get("id"), int) and not tile.get("error"):
                answers[shown["id"]] = shown
        return answers


def _name(dashboard: object, insight: object) -> str:
    parts = [f"insight {insight}"] if insight is not None else []
    parts += [f"dashboard {dashboard}"] if dashboard is not None else []
    return " on ".join(parts) or "something else"
