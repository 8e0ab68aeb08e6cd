"""Erasing the rows of the same persons from a table that was loaded from PostHog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import AirflowSkipException
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.erasing import PostHogErasureOperator

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.load.removal import Criterion


class PostHogEraseFromSqlOperator(PostHogErasureOperator):
    """Deletes the rows of the persons of an erasure from a table, in one transaction, and proves that none is left.

    Whose rows they are says the work file, so this task runs before the work file is removed, and after PostHog is
    proved to have nothing left that a load could bring back. A retry is harmless. The certificate is told how many rows
    went. PostgreSQL, DuckDB and SQLite.

    A database may write statements into a log of its own, with the values in them: PostgreSQL does, if
    ``log_statement`` or ``log_min_duration_statement`` says so.

    :param request: what ``PostHogDeletePersonsOperator`` returned (``PostHogResolvePersonsOperator``'s will do).
    :param proof: what ``PostHogPersonsErasedSensor`` returned, so that only the rows of those who are ``VERIFIED`` go;
        without it, the rows of all.
    :param sql_conn_id: Airflow's connection to the database.
    :param table: the table, such as ``analytics.events``.
    :param distinct_id_column: the column with distinct ids; compared as it is written.
    :param person_id_column: the column with person UUIDs, as text or ``uuid``. In a table of events it is not enough:
        events of persons that were merged since carry another UUID.
    :param kwargs: as :class:`~airflow_provider_posthog.operators.erasing.PostHogErasureOperator`.
    :returns: ``sql_conn_id``, ``table``, ``persons``; ``deleted``, how many rows went; ``deleted_by``, the same by
        column; ``left`` (0).
    :raises PostHogLoadError: if the database refuses, or rows are left; then nothing was deleted. Holds no value.
    :raises PostHogSettingsError: if an argument is wrong, or the work file has no distinct ids to look for.
    """

    template_fields: Sequence[str] = (
        *PostHogErasureOperator.template_fields,
        "request",
        "proof",
        "sql_conn_id",
        "table",
    )

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        proof: Mapping[str, Any] | None = None,
        sql_conn_id: str,
        table: str,
        distinct_id_column: str | None = None,
        person_id_column: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.proof = proof
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.distinct_id_column = distinct_id_column
        self.person_id_column = person_id_column

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the rows.

        :param context: the task's context; may be empty outside the task runner.
        """
        from airflow_provider_posthog.load.errors import told
        from airflow_provider_posthog.load.removal import Removal, as_text
        from airflow_provider_posthog.transfers.databases import SqlDatabase

        work = self._work()
        certificate = self.certificate(context, work.header().request_id)
        name, where = getattr(context.get("ti"), "task_id", "warehouse"), f"{self.table} ({self.sql_conn_id})"
        connection, placeholder = SqlDatabase(self.sql_conn_id, for_rows=False).connect()
        with closing(connection):
            removed = Removal(connection, self.table, placeholder).run(self._criteria(work))
            if certificate is not None:  # before the commit, so that no kill leaves it untold
                certificate.noted(f"{name}-begun", f"about to erase {as_text(removed)} of the table {where}")
            with told(connection, "the commit", "Whether the rows are gone is not known; a retry looks."):
                connection.commit()
        if certificate is not None:
            certificate.noted(f"{name}-done", f"erased {as_text(removed)} of the table {where}; 0 are left")
        self.log.info("Erased %s of %s; 0 are left", as_text(removed), where)
        return {
            "sql_conn_id": self.sql_conn_id,
            "table": self.table,
            "persons": sum(1 for _ in self.proved_only(work, self.proof)()),
            "deleted": sum(removed.values()),
            "deleted_by": removed,
            "left": 0,
        }

    def _work(self) -> WorkFile:
        if not isinstance(self.request, Mapping):
            raise PostHogSettingsError("request", "is none.", "Write what PostHogDeletePersonsOperator returned.")
        if self.request.get("dry_run") is True:
            raise AirflowSkipException("It was a dry run: nothing is erased.")
        if not self.distinct_id_column and not self.person_id_column:
            raise PostHogSettingsError(
                "distinct_id_column",
                "is empty, and so is person_id_column.",
                "Name the column that says whose row it is.",
            )
        work = self.handed_on(self.request)
        if self.distinct_id_column and work.header().verify_by == "uuid":
            raise PostHogSettingsError(
                "distinct_id_column",
                "needs distinct ids, and verify_by='uuid' kept them out of the work file.",
                "Resolve the persons with verify_by='distinct_id', or name person_id_column only.",
            )
        return work

    def _criteria(self, work: WorkFile) -> list[Criterion]:
        from airflow_provider_posthog.load.removal import Criterion

        persons = self.proved_only(work, self.proof)

        def distinct_ids() -> Iterator[str]:
            return (name for person in persons() for name in person.distinct_ids)

        def uuids() -> Iterator[str]:
            return (person.uuid for person in persons())

        given = [
            (self.distinct_id_column, distinct_ids, False),
            (self.person_id_column, uuids, True),
        ]
        return [Criterion(column, values(), any_case) for column, values, any_case in given if column]
