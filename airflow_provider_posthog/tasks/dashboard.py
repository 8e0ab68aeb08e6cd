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
from airflow_provider_posthog.tasks.arguments import RefreshArguments
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lists import listed, named_by, number_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.refresh import PostHogRefreshOperator
from airflow_provider_posthog.tasks.refresh_results import fitted, oldest
from airflow_provider_posthog.tasks.result_file import Output

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.insights import Insight
    from airflow_provider_posthog.compat import Context, ObjectStoragePath


class DashboardArguments(RefreshArguments, total=False):
    """The arguments of :class:`PostHogDashboardTask`, for an editor and a type checker."""

    dashboard: int | str | Mapping[str, Any]
    require_all: bool
    include: Sequence[int | str] | None
    exclude: Sequence[int | str] | None
    combined_path: str | ObjectStoragePath | None


class PostHogDashboardTask(PostHogRefreshOperator):
    """All insights of a dashboard, calculated afresh: what its operators share."""

    template_fields: Sequence[str] = (
        *PostHogRefreshOperator.template_fields,
        *("dashboard", "include", "exclude", "combined_path"),
    )

    def __init__(
        self,
        *,
        dashboard: int | str | Mapping[str, Any],
        require_all: bool = False,
        include: Sequence[int | str] | None = None,
        exclude: Sequence[int | str] | None = None,
        combined_path: str | ObjectStoragePath | None = None,
        **kwargs: Unpack[RefreshArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.dashboard = dashboard
        self.require_all = require_all
        self.include = include
        self.exclude = exclude
        self.combined_path = combined_path
        self._unmatched: set[str] = set()
        #: The insights that were said not to be in the table.
        self._warned: set[int] = set()

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
        if self.combined_path is not None:
            from airflow_provider_posthog.results.files import format_of, require_format

            self._combined_file().check("s3://bucket/{{ ds }}/dashboard.parquet")
            made = format_of(str(self.combined_path), field="combined_path")
            if made == "json":
                raise PostHogSettingsError("combined_path", "is not a table.", "End it with .csv, .jsonl or .parquet.")
            require_format(made, field="combined_path")

    def _number(self) -> int:
        value = self.dashboard
        return number_of("dashboard", value.get("dashboard_id") if isinstance(value, Mapping) else value)

    def _names(self, field: str) -> frozenset[str] | None:
        """Return the insights that an argument names: by number, short id or name."""
        value = getattr(self, field)
        return None if value is None else frozenset(map(str, listed(field, value, kinds=(int, str))))

    def _wants(self, insight: Mapping[str, Any]) -> bool:
        named = {str(insight[name]) for name in ("id", "short_id", "name", "derived_name") if insight.get(name)}
        include, exclude = self._names("include"), self._names("exclude")
        self._unmatched -= named
        return (include is None or bool(named & include)) and not named & (exclude or frozenset())

    def find(self) -> Steps[tuple[list[Target], dict[str, Any]]]:
        """Find the dashboard's insights."""
        number = self._number()
        answer: Timed[dashboards.Dashboard]
        with named_by("dashboard", number, "dashboard"):
            answer = yield timed(dashboards.retrieve(number))
        targets: dict[int, Target] = {}
        texts, hidden, left_out = 0, 0, 0
        self._unmatched = set((self._names("include") or frozenset()) | (self._names("exclude") or frozenset()))
        # An answer without tiles is none of a dashboard, and no dashboard without insights.
        for tile in needed(answer.value, "tiles", list, f"dashboard {number}"):
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
                    since=answer.at,
                    # A tile's own answer may be of other overrides, and so of another result.
                    before=None if self._has_overrides() else insight.get("last_refresh"),
                    saved=cast("Insight", insight),
                )
        self._check_hidden(hidden, len(targets))
        self._check_named(number)
        facts = {"dashboard_id": number, "name": answer.value.get("name"), "text_tiles": texts, "hidden_tiles": hidden}
        facts |= {"left_out_tiles": left_out} if self.include or self.exclude else {}
        return list(targets.values()), facts

    def _check_named(self, number: int) -> None:
        if self._unmatched:
            names = ", ".join(repr(name[:60]) for name in sorted(self._unmatched)[:5])
            field = "include" if self._unmatched & (self._names("include") or frozenset()) else "exclude"
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
        summary = {
            **facts,
            "refreshed": len(done),
            "last_refresh": oldest(done),
            "url": f"{self.address}/{self.link([], facts)}",
        }
        if self.combined_path is not None:
            summary["combined"] = self._write_combined(Identity.of(context))
        tell_outlets(context, self.outlets, summary)
        self.concludes(
            "Dashboard %s is fresh: %s. %s", facts["dashboard_id"], counted(len(done), "insight"), summary["url"]
        )
        insights, dropped = fitted(done)
        return {**summary, "insights": insights, **({"left_out": dropped} if dropped else {})}

    def _combined_file(self) -> Output:
        return Output("combined_path", self.combined_path or "", self.overwrite, self.object_storage_conn_id)

    def _write_combined(self, identity: Identity) -> dict[str, Any]:
        """Write the numbers of all its insights as one long table."""
        from airflow_provider_posthog.results.files import compression_of, format_of, write_result
        from airflow_provider_posthog.results.insight_long import long_table

        path, output = str(self.combined_path), self._combined_file()
        made, without = long_table(self._fresh)
        with output.atomic_file(identity, compression=compression_of(path)) as atomic:
            write_result(atomic, None, lambda: made, format_of(path, field="combined_path"))
            output.commit(atomic)
        self.warn_of(without)
        return {"path": str(output.target), "rows": len(made.rows), "without": sorted(without)}

    def warn_of(self, without: Mapping[int, str]) -> None:
        """Say which insights are not in the table.

        :param without: why, by the insight's number.
        """
        for number, reason in without.items():
            if number not in self._warned:
                self.log.warning("Insight %s is not in the table: %s", number, reason)
        self._warned |= set(without)

    def link(self, targets: Sequence[Target], facts: Mapping[str, Any]) -> str:
        """Return the dashboard's page."""
        return f"dashboard/{facts['dashboard_id']}"
