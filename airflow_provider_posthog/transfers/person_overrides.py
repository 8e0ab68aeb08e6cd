"""Bringing loaded rows up to date after persons were merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.remapping import AT, NEW, OLD, Remapping
from airflow_provider_posthog.load.target import Target
from airflow_provider_posthog.tasks.deferring import DeferringArguments
from airflow_provider_posthog.tasks.suppressing import SuppressingArguments
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.hooks.databases import SqlDatabase
    from airflow_provider_posthog.load.loader import Loader
    from airflow_provider_posthog.load.target import OtherColumns, SchemaPolicy


class _PersonOverridesRest(SuppressingArguments, DeferringArguments, total=False):
    """What :class:`PostHogPersonOverridesOperator` takes beside its own arguments."""

    sql_conn_id: Required[str]
    table: Required[str]
    where: str | None
    values: Mapping[str, Any] | None
    max_in_flight: int | None
    page_rows: int
    column_types: Mapping[str, str] | None
    other_columns: OtherColumns
    load_columns: bool | Sequence[str]
    schema_policy: SchemaPolicy | None
    max_rejects: int | None
    native_types: bool


class PostHogPersonOverridesOperator(PostHogToSqlOperator):
    """Updates loaded rows to the persons that PostHog now has for their distinct ids, in one transaction.

    When two persons become one, PostHog shows all their events under one ``person_id`` from then on. Rows that were
    loaded before keep the old one. This merges all distinct ids with their persons into ``table``, as
    ``PostHogToSqlOperator(source="person_distinct_ids")`` does, and updates those rows of ``remap`` whose person has
    changed; all of it, or nothing (docs: *warehouse.md*). Rows that are already right are not touched, so you can
    repeat it.

    Example::

        PostHogPersonOverridesOperator(
            task_id="persons_of_today", sql_conn_id="warehouse", table="analytics.person_distinct_ids",
            remap=["analytics.events"], overrides_table="analytics.person_overrides",
        )

    :param table: keeps each distinct id with its person; created on first use.
    :param remap: the tables whose rows are updated. PostgreSQL, DuckDB, SQLite, MySQL and MariaDB can do it.
    :param distinct_id_column: their column of the distinct id.
    :param person_id_column: their column of the person.
    :param overrides_table: keeps which person became which, as ``old_person_id``, ``new_person_id`` and
        ``overridden_at``, for each that was found in a row; created on first use. Default: none.
    :param kwargs: as :class:`~airflow_provider_posthog.transfers.posthog_to_sql.PostHogToSqlOperator`, what fits a
        merge of distinct ids: ``sql_conn_id``, ``table``, ``where``, ``deferrable``, ...
    :returns: what that returns, and ``remapped``: how many rows were updated, by table.
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogIncompleteError: if a row still has another person afterwards.
    :raises PostHogLoadError: if the database refuses something.
    """

    template_fields: Sequence[str] = (
        *PostHogToSqlOperator.template_fields,
        "remap",
        "distinct_id_column",
        "person_id_column",
        "overrides_table",
    )

    def __init__(
        self,
        *,
        remap: str | Sequence[str],
        distinct_id_column: str = "distinct_id",
        person_id_column: str = "person_id",
        overrides_table: str | None = None,
        **kwargs: Unpack[_PersonOverridesRest],
    ) -> None:
        super().__init__(source="person_distinct_ids", write_disposition="merge", **kwargs)
        self.remap = remap
        self.distinct_id_column = distinct_id_column
        self.person_id_column = person_id_column
        self.overrides_table = overrides_table
        self._remapping: Remapping | None = None

    def transfer(self, context: Context) -> dict[str, Any]:
        """Load the distinct ids, and update what has another person."""
        tables = [self.remap] if isinstance(self.remap, str) else list(self.remap or ())
        if not tables or not all(isinstance(table, str) and table.strip() for table in tables):
            raise PostHogSettingsError("remap", "names no table.", "Write a list of tables: ['analytics.events'].")
        if self.table in tables or self.overrides_table in (self.table, *tables):
            raise PostHogSettingsError("remap", "names a table that has another part here.", "Name each table once.")
        self._remapping = Remapping(tables, self.distinct_id_column, self.person_id_column, self.overrides_table)
        result = super().transfer(context)
        return {**result, "remapped": self._remapping.rows}

    def prepare(self, database: SqlDatabase) -> None:
        """Look at the tables, and make that of overrides: not all databases can do so in the midst of a transaction.

        :param database: the database.
        :raises PostHogSettingsError: if a table to update lacks a column.
        """
        with database.loader(Target(self.table, "merge", key=("distinct_id",))) as loader:
            if self._remapping is not None:
                self._remapping.check(loader)
        if not self.overrides_table:
            return
        import pyarrow as pa

        schema = pa.schema([(OLD, pa.string()), (NEW, pa.string()), (AT, pa.timestamp("us", "UTC"))])
        with database.loader(Target(self.overrides_table, "append", key=(OLD, NEW))) as loader:
            loader.open(schema)
            loader.commit()

    def complete(self, loader: Loader) -> None:
        """Update the rows that have another person.

        :param loader: holds the distinct ids, and has not committed yet.
        """
        if self._remapping is not None:
            self._remapping(loader)
            for table, rows in self._remapping.rows.items():
                self.log.info("%s rows of %s got the person that their distinct id has now", f"{rows:,}", table)
