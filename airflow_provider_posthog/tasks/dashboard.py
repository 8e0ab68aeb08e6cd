"""The insights of a dashboard, calculated afresh as the dashboard shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_posthog.api import dashboards
from airflow_provider_posthog.api.answers import needed
from airflow_provider_posthog.api.freshness import Target
from airflow_provider_posthog.api.server_time import Timed, timed
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lists import listed, number_of
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.refresh import PostHogRefreshOperator
from airflow_provider_posthog.tasks.refresh_results import fitted, oldest
from airflow_provider_posthog.tasks.result_file import Output

if TYPE_CHECKING:
    from airflow_provider_posthog.api.insights import Insight
    from airflow_provider_posthog.compat import Context, ObjectStoragePath


class PostHogDashboardTask(PostHogRefreshOperator):
    """All insights of a dashboard, calculated afresh: what its operators share."""

    template_fields: Sequence[str] = (
        *PostHogRefreshOperator.template_fields,
        *("dashboard", "include", "exclude", "table_path"),
    )

    def __init__(
        self,
        *,
        dashboard: int | str | Mapping[str, Any],
        require_all: bool = False,
        include: Sequence[int | str] | None = None,
        exclude: Sequence[int | str] | None = None,
        table_path: str | ObjectStoragePath | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.dashboard = dashboard
        self.require_all = require_all
        self.include = include
        self.exclude = exclude
        self.table_path = table_path
        self._unseen: set[str] = set()

    @property
    def falls_back(self) -> bool:
        """A result without a table becomes JSON, and a tile that fails does not lose the files of the others."""
        return True

    @property
    def is_list(self) -> bool:
        """Several insights: a file for each."""
        return True

    def check(self) -> None:
        """Refuse what cannot end well, before anything is sent."""
        super().check()
        self._number()
        for field in ("include", "exclude"):
            self._names(field)
        if self.table_path is not None:
            from airflow_provider_posthog.results.files import format_of, require_format

            self._table_file().check("s3://bucket/{{ ds }}/dashboard.parquet")
            made = format_of(str(self.table_path), field="table_path")
            if made == "json":
                raise PostHogSettingsError("table_path", "is no table.", "End it with .csv, .jsonl or .parquet.")
            require_format(made, field="table_path")

    def _number(self) -> int:
        given = self.dashboard
        return number_of("dashboard", given.get("dashboard_id") if isinstance(given, Mapping) else given)

    def _names(self, field: str) -> frozenset[str] | None:
        """Return the insights that an argument names: by number, short id or name."""
        given = getattr(self, field)
        return None if given is None else frozenset(map(str, listed(field, given, kinds=(int, str))))

    def _wants(self, insight: Mapping[str, Any]) -> bool:
        named = {str(insight[name]) for name in ("id", "short_id", "name", "derived_name") if insight.get(name)}
        include, exclude = self._names("include"), self._names("exclude")
        self._unseen -= named
        return (include is None or bool(named & include)) and not named & (exclude or frozenset())

    def find(self) -> Steps[tuple[list[Target], dict[str, Any]]]:
        """Find the dashboard's insights."""
        number = self._number()
        seen: Timed[dashboards.Dashboard] = yield timed(dashboards.retrieve(number))
        targets: dict[int, Target] = {}
        texts, hidden, left_out = 0, 0, 0
        self._unseen = set((self._names("include") or frozenset()) | (self._names("exclude") or frozenset()))
        # An answer without tiles is none of a dashboard, and no dashboard without insights.
        for tile in needed(seen.value, "tiles", list, f"dashboard {number}"):
            insight = tile.get("insight")
            if not isinstance(insight, Mapping):
                if tile.get("error"):
                    raise PostHogJobFailed(f"PostHog cannot show tile {tile.get('id')} of dashboard {number}")
                texts += 1
            elif not self._wants(insight):
                left_out += 1
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
                    saved=cast("Insight", insight),
                )
        self._check_hidden(hidden, len(targets))
        self._check_named(number)
        facts = {"dashboard_id": number, "name": seen.value.get("name"), "text_tiles": texts, "hidden_tiles": hidden}
        facts |= {"left_out_tiles": left_out} if self.include or self.exclude else {}
        return list(targets.values()), facts

    def _check_named(self, number: int) -> None:
        if self._unseen:
            names = ", ".join(repr(name[:60]) for name in sorted(self._unseen)[:5])
            field = "include" if self._unseen & (self._names("include") or frozenset()) else "exclude"
            raise PostHogSettingsError(
                field, f"dashboard {number} has no insight {names}.", "Write ids, short ids or names of its insights."
            )

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
        if self.table_path is not None:
            told["table"] = self._write_table(Identity.of(context))
        tell_outlets(context, self.outlets, told)
        self.log.info("Dashboard %s is fresh: %s insights", facts["dashboard_id"], len(done))
        kept, dropped = fitted(done)
        return {**told, "insights": kept, **({"left_out": dropped} if dropped else {})}

    def _table_file(self) -> Output:
        return Output("table_path", self.table_path or "", self.overwrite, self.object_storage_conn_id)

    def _write_table(self, identity: Identity) -> dict[str, Any]:
        """Write the numbers of all its insights as one long table."""
        from airflow_provider_posthog.results.files import compression_of, format_of, write_result
        from airflow_provider_posthog.results.insight_long import long_table

        path, output = str(self.table_path), self._table_file()
        made, without = long_table(self._fresh)
        with output.landing(identity, compression=compression_of(path)) as landing:
            write_result(landing, None, lambda: made, format_of(path, field="table_path"))
            output.commit(landing)
        self.warn_of(without)
        return {"path": str(output.target), "rows": len(made.rows), "without": sorted(without)}

    def warn_of(self, without: Mapping[int, str]) -> None:
        """Say which insights are not in the table.

        :param without: why, by the insight's number.
        """
        for number, reason in without.items():
            self.log.warning("Insight %s is not in the table: %s", number, reason)

    def link(self, targets: Sequence[Target], facts: Mapping[str, Any]) -> str:
        """Return the dashboard's page."""
        return f"dashboard/{facts['dashboard_id']}"
