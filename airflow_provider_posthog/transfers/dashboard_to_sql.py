"""The numbers of a dashboard into a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage.shrink_guard import MAX_SHRINK, ShrinkGuard
from airflow_provider_posthog.tasks.dashboard import PostHogDashboardTask
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.load.target import Loaded, Target
    from airflow_provider_posthog.tasks.dashboard import DashboardArguments


class PostHogDashboardToSqlOperator(PostHogDashboardTask):
    """Calculates all insights of a dashboard afresh, proves each, and puts their numbers into one long table.

    The columns are ``insight_id``, ``short_id``, ``insight`` (its name), ``series``, ``breakdown``, ``date`` (text, as
    PostHog shows it) and ``value``. The rows of these insights are replaced in one transaction; those of other insights
    stay, so that several dashboards may share a table. If any insight is not proved to be fresh, nothing changes.

    Needs the extra ``warehouse``.

    ::

        PostHogDashboardToSqlOperator(task_id="numbers", dashboard=7, sql_conn_id="warehouse", table="numbers")

    :param dashboard: the dashboard's id, or what another refresh returned.
    :param sql_conn_id: Airflow's connection for the database, as of ``PostHogToSqlOperator``.
    :param table: the table; it is created if it does not exist.
    :param max_shrink: the largest share of the rows that may be gone, from 0 to 1; for 1,000 rows and more.
    :param allow_shrink: replace whatever there is.
    :param kwargs: as :class:`~airflow_provider_posthog.operators.dashboards.PostHogRefreshDashboardOperator`.
    :returns: as that, and ``loaded``: ``table``, ``rows``, ``deleted`` (int) and ``without`` (the ids of insights that
        are not in it, as they are no series of numbers).
    :raises PostHogSettingsError: if an argument is wrong, or the table does not fit.
    :raises PostHogIncompleteError: if far fewer rows would replace the existing ones.
    :raises PostHogLoadError: if the database refuses something.
    :raises PostHogJobFailed: if an insight is not proved to be fresh: which, and why.
    """

    template_fields: Sequence[str] = (
        *PostHogDashboardTask.template_fields,
        *("sql_conn_id", "table", "max_shrink", "allow_shrink"),
    )

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        max_shrink: float | str = MAX_SHRINK,
        allow_shrink: bool | str = False,
        **kwargs: Unpack[DashboardArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.max_shrink = max_shrink
        self.allow_shrink = allow_shrink

    def check(self) -> None:
        """Refuse what cannot end well, before anything is sent."""
        from airflow_provider_posthog.hooks.databases import SqlDatabase

        super().check()
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            remedy = "Install airflow-provider-posthog[warehouse]."
            raise PostHogSettingsError("table", "needs pyarrow, which is not installed.", remedy) from None
        self._target([0])
        SqlDatabase(self.sql_conn_id)

    def _target(self, insights: Sequence[int]) -> Target:
        from airflow_provider_posthog.load.target import Target

        if not str(self.table).strip():
            raise PostHogSettingsError("table", "is empty.", "Write the table's name, such as 'analytics.numbers'.")
        guard = ShrinkGuard.of(self.max_shrink, self.allow_shrink)
        return Target(self.table, "replace", only={"insight_id": tuple(insights)}, guard=guard)

    def conclude(self, done: list[dict[str, Any]], facts: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Load the numbers, and return what is known of the dashboard."""
        from airflow_provider_posthog.results.insight_long import long_table

        made, without = long_table(self._fresh)
        self.warn_of(without)
        loaded = self._load(made, [insight["id"] for insight in done if insight["id"] not in without])
        summary = super().conclude(done, facts, context)
        counts = {"table": self.table, "rows": loaded.rows, "deleted": loaded.deleted, "without": sorted(without)}
        tell_outlets(context, self.outlets, {"loaded": counts})
        return {**summary, "loaded": counts}

    def _load(self, made: Any, insights: Sequence[int]) -> Loaded:  # noqa: ANN401 - a Table
        import pyarrow as pa

        from airflow_provider_posthog.hooks.databases import SqlDatabase
        from airflow_provider_posthog.load.target import Loaded
        from airflow_provider_posthog.results import arrow_types

        if not insights:
            return Loaded(0, 0, 0)
        schema = arrow_types.schema_of(made.columns, made.types)
        rows = pa.Table.from_batches([arrow_types.batch_of(made.rows, schema)], schema)
        with SqlDatabase(self.sql_conn_id).loader(self._target(insights)) as loader:
            loader.open(schema)
            loader.write(rows)
            loaded = loader.commit()
        words = counted(loaded.rows, "row"), counted(len(insights), "insight"), self.table, self.sql_conn_id
        self.concludes("Put %s of %s into %s (%s)", *words)
        return loaded
