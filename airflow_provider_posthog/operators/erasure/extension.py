"""More time for an erasure, with the reason that the law asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.tasks.certificate_notices import MAX_TEXT, checked_text
from airflow_provider_posthog.tasks.erasure import PostHogErasureOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.erasure import ErasureArguments


class PostHogExtendErasureOperator(PostHogErasureOperator):
    """Extends the deadline of an erasure, once: its certificate and the ledger record until when, and why.

    You must inform the person within the first month (GDPR, article 12(3)). This task informs nobody.

    ::

        PostHogExtendErasureOperator(task_id="extend", request=delete.output, reason="many requests of one person")

    :param request: what an earlier task of the erasure returned; or its ``request_id`` and ``audit_path``.
    :param reason: why, such as "PostHog deletes events on weekends, and the last one failed"; no personal data.
    :param until: the new last day; by default as late as the law allows: two further months, or, of a request with a
        number of days, as many days again.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``due_at``, ``ledger_head``.
    :raises PostHogErasureError: if there is no certificate that knows a deadline, or it is closed.
    :raises PostHogSettingsError: if an argument is wrong, or it was extended to another day before.
    """

    template_fields: Sequence[str] = (*PostHogErasureOperator.template_fields, "request", "reason", "until")

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        reason: str,
        until: date | str | None = None,
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.reason = reason
        self.until = until

    def execute(self, context: Context) -> dict[str, Any]:
        """Extend it."""
        from airflow_provider_posthog.audit.deadline import read_day

        reason, until = checked_text("reason", self.reason, MAX_TEXT), read_day("until", self.until)
        if not isinstance(self.request, Mapping) or not self.request.get("request_id"):
            raise PostHogSettingsError("request", "is none.", "Write what a task of the erasure returned.")
        if self.request.get("host"):
            self.check_project(self.request, "request")
        handover = self.own.of(self.request)
        request_id, certificate = handover.request_id, handover.certificate(self.hook, context)
        deadline = certificate.deadline if certificate is not None else None
        if certificate is None or deadline is None or certificate.is_closed:
            raise PostHogErasureError(
                f"Erasure {request_id} has no open certificate with a deadline: there is nothing to extend.",
                job_id=request_id,
            )
        if not deadline.extended or (until is not None and until != deadline.due):  # else an earlier try has done it
            deadline = deadline.extended_to(until)
        certificate.extended(deadline, reason)
        self.log.warning("Erasure %s: %s", request_id, deadline.text())
        self.concludes("Erasure %s is due on %s", request_id, f"{deadline.due:%Y-%m-%d}")
        return {
            "request_id": request_id,
            "due_at": deadline.due.isoformat(),
            "ledger_head": self.ledger_head(certificate),
        }
