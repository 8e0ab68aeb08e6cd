"""What the tasks share that end a request: its files are removed, and its certificate says how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import AirflowSkipException, ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.tasks.erasure import ErasureArguments, PostHogErasureOperator
from airflow_provider_posthog.tasks.erasure_handover import Handover
from airflow_provider_posthog.tasks.log_lines import counted, shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.tasks.certificate import Certificate


class ErasureEndArguments(ErasureArguments, total=False):
    """The arguments of :class:`ErasureEndOperator`, for an editor and a type checker."""

    request: Mapping[str, Any]
    also_remove: Sequence[str | ObjectStoragePath]


class ErasureEndOperator(PostHogErasureOperator):
    """What all ends share.

    :param request: what an earlier task of the erasure returned.
    :param also_remove: other files that hold identifiers, removed with the work file.
    """

    template_fields: Sequence[str] = (*PostHogErasureOperator.template_fields, "request", "also_remove")

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        also_remove: Sequence[str | ObjectStoragePath] = (),
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        if kwargs.get("work_path") is not None:
            raise PostHogSettingsError("work_path", "is named by the request.", "Leave it out.")
        super().__init__(**kwargs)
        self.request = request
        self.also_remove = also_remove

    def handover(self) -> Handover:
        """Return the request.

        :raises AirflowSkipException: if there is none.
        """
        if not isinstance(self.request, Mapping):
            raise AirflowSkipException("There is no erasure to end: the task before it returned nothing.")
        return self.handover_of(self.request, "request")

    def refuse_what_has_begun(self, handover: Handover, work: WorkFile) -> None:
        """Keep the file of an erasure that goes on.

        :param handover: the request.
        :param work: its work file.
        :raises PostHogErasureError: if its deletion has begun.
        """
        if work.exists() and self.progress(work).has_begun:
            raise PostHogErasureError(
                f"The deletion of erasure {handover.request_id} has begun: its work file is needed to prove it.",
                job_id=handover.request_id,
            )

    def ended(self, handover: Handover, certificate: Certificate | None, state: str) -> dict[str, Any]:
        """Return how a request has ended.

        :param handover: the request.
        :param certificate: its certificate.
        :param state: how it has ended.
        """
        place = shown(handover.as_json()["audit_path"])
        folder = f"; certificate: {place.rstrip('/')}/{handover.request_id}" if place else ""
        files = counted(1 + len(self.also_remove), "file")
        about = f" ({handover.ticket})" if getattr(handover, "ticket", None) else ""
        words = handover.request_id, about, state.replace("_", " "), files, folder
        self.concludes("Erasure %s%s is closed: %s. Removed %s with identifiers%s", *words)
        return {
            "request_id": handover.request_id,
            "state": state,
            "audit_path": handover.as_json()["audit_path"],
            "ledger_head": self.ledger_head(certificate),
        }

    def remove(self, handover: Handover, work: WorkFile) -> None:
        """Remove the work file, and the others with identifiers.

        :param handover: the request.
        :param work: its work file.
        """
        from airflow_provider_posthog.erasure.progress import Progress

        Progress(work.fs, f"{work.path}.progress", handover.request_id).forget()
        work.remove()
        conn_id = self.object_storage_conn_id
        for path in [handover.storage(address, "also_remove", conn_id) for address in self.also_remove]:
            if path.fs.exists(path.path):
                path.fs.rm_file(path.path)
