"""Erasing the rows of the same persons from a table that was loaded from PostHog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.tasks.erasure_elsewhere import EraseElsewhereOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.hooks.databases import SqlDatabase
    from airflow_provider_posthog.load.removal import Criterion
    from airflow_provider_posthog.tasks.certificate import Certificate
    from airflow_provider_posthog.tasks.erasure_elsewhere import EraseElsewhereArguments

#: How many rows went, by column; how many of the quarantine; and what the database keeps of them.
_Erased = tuple["dict[str, int]", "int | None", "str | None"]


class PostHogEraseFromSqlOperator(EraseElsewhereOperator):
    """Deletes the rows of the persons of an erasure from a table, in one transaction, and proves that none is left.

    The work file says whose rows they are, so run this task before it is removed, and after PostHog is proved to have
    nothing left that a load could bring back. A retry is harmless. The certificate records how many rows were deleted.
    Works with PostgreSQL, DuckDB, SQLite, MySQL and MariaDB; and with Snowflake and BigQuery through Airflow's hooks,
    one statement at a time: as these keep a history of statements, they only ever see hashes, with a new salt each
    time. So do MySQL and MariaDB.

    Databases keep erased rows in their files for a while. A DuckDB file is rewritten: a copy replaces it, so it must be
    on this worker, with room for a second one. SQLite overwrites such rows. For PostgreSQL, MySQL and MariaDB, and
    wherever that was not possible, ``old_pages``, the log and the certificate say so.

    A database may write statements into a log of its own, with the values in them: PostgreSQL does, if
    ``log_statement`` or ``log_min_duration_statement`` says so.

    .. code-block:: python

        PostHogEraseFromSqlOperator(
            task_id="erase_events",
            request=delete.output,
            proof=erased.output,
            sql_conn_id="warehouse",
            table="analytics.events",
            distinct_id_column="distinct_id",
        )

    :param sql_conn_id: Airflow's connection to the database.
    :param table: the table, such as ``analytics.events``.
    :param rewrite_file: rewrite a DuckDB's file after the rows are gone. Of several tables in one file, the last task
        is enough.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure_elsewhere.EraseElsewhereOperator`: ``request``,
        ``proof``, ``distinct_id_column``, ``person_id_column``, ``email_column``, ``identifiers_path``.
    :returns: ``sql_conn_id``, ``table``; ``persons``, whose rows went, and ``left_out``, how many are not ``VERIFIED``;
        ``deleted``, how many rows went; ``deleted_by``, the same by column; ``rejected``, how many rows went that loads
        had put into the table's quarantine (``<table>__rejected``), null without one; ``left`` (0); ``old_pages``, what
        the database keeps of them, and how to get rid of it, or null.
    :raises PostHogLoadError: if the database refuses, rows are left, or a load into the table has not ended; then
        nothing was deleted. Holds no value.
    :raises PostHogSettingsError: if an argument is wrong, the table's engine (of MySQL or MariaDB) has no transactions,
        the work file has no distinct ids to look for, or the proof is another request's or not the last one.
    """

    template_fields: Sequence[str] = (*EraseElsewhereOperator.template_fields, "sql_conn_id", "table")

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        rewrite_file: bool = True,
        **kwargs: Unpack[EraseElsewhereArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.rewrite_file = rewrite_file

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the rows."""
        from airflow_provider_posthog.hooks.databases import SqlDatabase

        work = self.whose()
        certificate = self.handover.certificate(self.hook, context)
        name = getattr(context.get("ti"), "task_id", "warehouse")
        removed, rejected, pages = self._erase(SqlDatabase(self.sql_conn_id, for_rows=False), work, certificate, name)
        return {
            "sql_conn_id": self.sql_conn_id,
            "table": self.table,
            "persons": self.persons,
            "left_out": self.left_out,
            "deleted": sum(removed.values()),
            "deleted_by": removed,
            "rejected": rejected,
            "left": 0,
            "old_pages": pages,
        }

    def _erase(self, database: SqlDatabase, work: WorkFile, certificate: Certificate | None, name: str) -> _Erased:
        from airflow_provider_posthog.load.hashed_removal import FLAVOURS
        from airflow_provider_posthog.load.removal import as_text

        where = f"the table {self.table} ({self.sql_conn_id})"

        def begin(removed: Mapping[str, int] | None, rejected: int | None = None) -> None:
            if certificate is not None:  # before it is done, so that no kill leaves it untold
                rows = as_text(removed, rejected) if removed is not None else "the rows"
                certificate.noted(f"{name}-begun", f"about to erase {rows} {self.describe()} from {where}")

        by_hash = database.kind in FLAVOURS
        erased = (self._by_hash if by_hash else self._at_once)(database, self._criteria(work), begin)
        removed, rejected, pages = erased
        text = f"erased {as_text(removed, rejected)} {self.describe()} from {where}; 0 are left"
        if certificate is not None:
            certificate.noted(f"{name}-done", text, *([pages] if pages else []))
        self.concludes("E%s%s", text[1:], f". {pages}" if pages else "")
        return erased

    def _at_once(self, database: SqlDatabase, criteria: list[Criterion], begin: Callable[..., None]) -> _Erased:
        from airflow_provider_posthog.load import old_pages
        from airflow_provider_posthog.load.errors import translate_errors
        from airflow_provider_posthog.load.mysql_removal import MySQLRemoval
        from airflow_provider_posthog.load.removal import Removal

        connection, placeholder = database.connect()
        with closing(connection):
            old_pages.prepare(connection, database.kind)
            kind = MySQLRemoval if database.kind == "mysql" else Removal
            removal = kind(connection, self.table, placeholder)
            removed = removal.run(criteria)
            begin(removed, removal.rejected)
            with translate_errors(connection, "the commit", "Whether the rows are gone is not known; a retry looks."):
                connection.commit()
            pages = old_pages.clear(connection, database.kind, self.table, rewrite=self.rewrite_file)
            return removed, removal.rejected, pages

    def _by_hash(self, database: SqlDatabase, criteria: list[Criterion], begin: Callable[..., None]) -> _Erased:
        from airflow_provider_posthog.load.hashed_removal import FLAVOURS, HashedRemoval

        flavour = FLAVOURS[database.kind]
        with closing(database.connect_by_hook()) as connection:
            removal = HashedRemoval(connection, self.table, flavour)
            begin(None)
            return removal.run(criteria), None, flavour.keeps

    def _criteria(self, work: WorkFile) -> list[Criterion]:
        from airflow_provider_posthog.load.removal import Criterion

        return [Criterion(column.name, self.spelt(work, column), column.any_case) for column in self.columns]
