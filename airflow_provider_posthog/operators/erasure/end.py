"""The tasks round an erasure: the gate before it, and the end, which closes the certificate and tidies up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.audit.claims import left_on_purpose
from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.exceptions import PostHogErasureError
from airflow_provider_posthog.tasks.erasure_end import ErasureEndOperator
from airflow_provider_posthog.tasks.guidance import GuidedTask

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import TaskArguments
    from airflow_provider_posthog.tasks.erasure_end import ErasureEndArguments


class PostHogErasureGateOperator(GuidedTask, BaseOperator):
    """Lets an erasure continue only if the run says that it is approved.

    For versions of Airflow without an operator that asks a person.

    .. code-block:: python

        PostHogErasureGateOperator(task_id="approve", persons=resolve.output, param="approved")

    :param persons: what ``PostHogResolvePersonsOperator`` returned.
    :param param: the run's parameter (``params``) that has to be true.
    :param left: what the erasure will leave on purpose, as
        :func:`~airflow_provider_posthog.audit.claims.left_on_purpose` says it.
    :returns: ``param``, and ``responded_by_user``: ``{"id": ...}`` of who started the run, or null where Airflow does
        not tell (before 3.1, and for scheduled runs).
    :raises PostHogErasureError: if it is not approved, with the numbers of what would be deleted.
    """

    template_fields: Sequence[str] = ("persons",)
    ui_color = "#f9e8d2"

    def __init__(
        self,
        *,
        persons: Mapping[str, Any],
        param: str = "approved",
        left: Sequence[str] = (),
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.persons = persons
        self.param = param
        self.left = left

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at the parameter."""
        for left in self.left:
            self.log.warning("Left on purpose: %s", left)
        if (context.get("params") or {}).get(self.param) is True:
            self.concludes("Approved by the run's parameter %r", self.param)
            user = getattr(context.get("dag_run"), "triggering_user_name", None)
            return {"param": self.param, "responded_by_user": {"id": user} if user else None}
        resolved = self.persons if isinstance(self.persons, Mapping) else {}
        raise PostHogErasureError(
            f"Not approved: the run's parameter {self.param!r} is not true. Nothing was deleted. It is about "
            f"{resolved.get('persons')} persons with {resolved.get('events')} events and "
            f"{resolved.get('recordings')} recordings. "
            f"{''.join(f'Left on purpose: {item}. ' for item in self.left)}"
            f'To erase them, trigger the DAG with {{"{self.param}": true}}.',
            job_id=resolved.get("request_id"),
        )


class PostHogFinishErasureOperator(ErasureEndOperator):
    """Ends an erasure that is proved: closes the certificate, and removes the files that hold personal data.

    For erasures that continue after ``PostHogPersonsErasedSensor``, which then has to keep both (``keep_work_file=True,
    close_certificate=False``). After a preview it closes the certificate as such.

    .. code-block:: python

        PostHogFinishErasureOperator(task_id="finish", request=delete.output, proof=erased.output)

    :param request: what ``PostHogDeletePersonsOperator`` returned.
    :param proof: what ``PostHogPersonsErasedSensor`` returned.
    :param also_remove: other files that hold identifiers.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``state`` (``VERIFIED`` or ``DRY_RUN``), ``states``, ``audit_path``, and
        ``left_on_purpose``, what the request did not ask to erase (texts).
    :raises PostHogErasureError: if it is not proved; nothing is closed or removed then.
    """

    template_fields: Sequence[str] = (*ErasureEndOperator.template_fields, "proof")

    def __init__(
        self,
        *,
        proof: Mapping[str, Any] | None,
        **kwargs: Unpack[ErasureEndArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.proof = proof

    def execute(self, context: Context) -> dict[str, Any]:
        """End it."""
        handover = self.handover()
        work = handover.work("request", may_be_gone=True)
        certificate = handover.certificate(self.hook, context)
        states, at = self._proved(handover.request_id)
        left = left_on_purpose(self.request)
        for item in left:
            self.log.warning("Left on purpose: %s", item)
        if certificate is not None:
            certificate.close("VERIFIED" if states else "DRY_RUN", states, at)
        self.remove(handover, work)
        done = self.ended(handover, certificate, "VERIFIED" if states else "DRY_RUN")
        return {**done, "states": states, "left_on_purpose": left}

    def _proved(self, request_id: str) -> tuple[dict[str, int], str | None]:
        """Return the states, and when they were seen; no states after a preview."""
        if self.request.get("preview") is True:
            return {}, None
        proof = self.proof if isinstance(self.proof, Mapping) else {}
        states = {str(state): n for state, n in (proof.get("states") or {}).items() if n}
        if proof.get("state") == "PARTIAL" and proof.get("request_id") == request_id:
            raise PostHogErasureError(
                f"Erasure {request_id} is proved for {states.pop('VERIFIED', 0)} persons, and not for "
                f"{sum(states.values())} ({', '.join(f'{state} {n}' for state, n in sorted(states.items()))}). The "
                "certificate stays open, and the work file stays.",
                job_id=request_id,
                states={**proof["states"]},
            )
        if proof.get("state") != "VERIFIED" or proof.get("request_id") != request_id:
            raise PostHogErasureError(
                f"Erasure {request_id} is not proved: its sensor was skipped or looked at another request. The "
                "certificate stays open, and the work file stays.",
                job_id=request_id,
            )
        self.check_project(proof, "proof")
        return {str(state): int(n) for state, n in proof["states"].items() if n}, proof.get("checked_at")


class PostHogDiscardErasureOperator(ErasureEndOperator):
    """Ends an erasure that was not approved: closes the certificate as such, and removes the files with personal data.

    .. code-block:: python

        PostHogDiscardErasureOperator(task_id="discard", request=resolve.output, trigger_rule="one_failed")

    :param request: what ``PostHogResolvePersonsOperator`` returned.
    :param also_remove: other files that hold identifiers.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``state`` (``NOT_VERIFIED``), ``audit_path``.
    :raises PostHogErasureError: if its deletion has begun: then only a proof can end it.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """End it."""
        handover = self.handover()
        work = handover.work("request", may_be_gone=True)
        self.refuse_what_has_begun(handover, work)
        certificate = handover.certificate(self.hook, context)
        if certificate is not None:
            certificate.close("NOT_VERIFIED", {}, None, "not approved: nothing was deleted")
        self.remove(handover, work)
        return self.ended(handover, certificate, "NOT_VERIFIED")
