"""Keeping erased persons out of later loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.tasks.erasure_elsewhere import Column, EraseElsewhereOperator
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.audit.suppression import Kind
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.tasks.erasure_elsewhere import EraseElsewhereArguments


class PostHogSuppressPersonsOperator(EraseElsewhereOperator):
    """Adds the persons of an erasure, as HMACs, to a list that extractions and loads consult.

    A running app, a backfill or a backup can bring a person back into PostHog. Transfers with the same
    ``suppress_path`` drop such rows, count them or fail. The list has HMACs of distinct ids and UUIDs with the
    connection's ``audit_secret``: without the salt, nobody can be identified from it. It is still pseudonymous data.

    Runs before the work file is removed. A retry writes the same.

    ::

        PostHogSuppressPersonsOperator(
            task_id="suppress", request=delete.output, proof=erased.output, suppress_path="s3://private/erased/"
        )

    :param suppress_path: the folder of the list, in object storage.
    :param object_storage_conn_id: Airflow's connection for ``suppress_path``; that of the work file comes with
        ``request``.
    :param request: what ``PostHogDeletePersonsOperator`` returned.
    :param proof: what ``PostHogPersonsErasedSensor`` returned; then everybody who is ``VERIFIED`` is added.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``suppress_path``, ``persons`` and ``left_out`` (who are not ``VERIFIED``), ``entries``.
    :raises PostHogSettingsError: if an argument is wrong, the connection has no ``audit_secret``, or the proof is of
        another request or not the last one.
    """

    conn_is_for_path: ClassVar[bool] = True
    template_fields: Sequence[str] = (*EraseElsewhereOperator.template_fields, "suppress_path")

    def __init__(
        self,
        *,
        suppress_path: str | ObjectStoragePath,
        **kwargs: Unpack[EraseElsewhereArguments],
    ) -> None:
        kwargs.setdefault("person_id_column", "person_id")
        super().__init__(**kwargs)
        self.suppress_path = suppress_path

    def execute(self, context: Context) -> dict[str, Any]:
        """Write them."""
        from airflow_provider_posthog.audit.suppression import SuppressionList

        conn_id = self.object_storage_conn_id
        path = storage_path("suppress_path", self.suppress_path, conn_id, example="s3://private/erased/", folder=True)
        listed = SuppressionList(path.fs, path.path, Pseudonyms(self.hook.audit_secret()))
        work = self.whose()
        request_id = self.handover.request_id
        certificate = self.handover.certificate(self.hook, context)
        entries = listed.add(request_id, self._identifiers(work))
        text = f"wrote {entries:,} entries {self.describe()} on the list of those who must not come again"
        if certificate is not None:
            certificate.noted(getattr(context.get("ti"), "task_id", "suppress"), text)
        self.concludes("W%s: %s", text[1:], self.suppress_path)
        return {
            "request_id": request_id,
            "suppress_path": str(self.suppress_path),
            "persons": self.persons,
            "left_out": self.left_out,
            "entries": entries,
        }

    def _identifiers(self, work: WorkFile) -> Iterator[tuple[Kind, str]]:
        kinds: tuple[tuple[Kind, Column], ...] = (
            ("distinct_id", Column("distinct_id", False, "distinct_id")),
            ("uuid", Column("person_id", True, "person_id")),
        )
        for kind, column in kinds:
            for value in self.values(work, column):
                yield kind, value
