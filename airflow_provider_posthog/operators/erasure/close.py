"""Ending an erasure that cannot be proved, by somebody's decision."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogError, PostHogSettingsError
from airflow_provider_posthog.tasks.certificate_notices import MAX_TEXT, checked_text
from airflow_provider_posthog.tasks.erasure_end import ErasureEndOperator
from airflow_provider_posthog.tasks.lengths import seconds_of

if TYPE_CHECKING:
    from datetime import datetime

    from typing_extensions import Unpack

    from airflow_provider_posthog.audit.records import PersonFacts
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.judge import Judgement, Request
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.tasks.certificate import Certificate
    from airflow_provider_posthog.tasks.erasure_end import ErasureEndArguments


@dataclass
class _Look:
    """How the persons were when the erasure was ended."""

    persons: list[PersonFacts] = field(default_factory=list)
    at: datetime | None = None

    def add(self, judgement: Judgement) -> None:
        person: PersonFacts = {"uuid": judgement.uuid, "state": judgement.state, "survivors": judgement.survivors}
        if judgement.reason:
            person["note"] = judgement.reason
        self.persons.append(person)

    def states(self) -> dict[str, int]:
        return dict(Counter(person["state"] for person in self.persons))


class PostHogCloseErasureOperator(ErasureEndOperator):
    """Ends an erasure that cannot be proved: closes the certificate as ``NOT_VERIFIED``, and removes the work file.

    For an erasure with survivors, a swallowed deletion or a timeout, when somebody decides to leave it at that: the
    certificate stays open, and the work file with its identifiers stays, until then. Everybody is checked twice more;
    where PostHog cannot be asked, the last recorded states count. Those who are ``VERIFIED`` can have an extract of the
    certificate (``python -m airflow_provider_posthog.audit extract``).

    :param request: what ``PostHogDeletePersonsOperator`` returned; or its ``request_id``, ``work_path`` and
        ``audit_path``, also from a DAG of its own.
    :param reason: why it cannot be proved, such as "PostHog's support cannot delete events of the future, ticket 7"; no
        personal data, at most 500 characters.
    :param decision: who decided what, such as "The data-protection officer accepts it, 2026-12-01".
    :param poll_interval: how long between two looks, in seconds or as a timedelta: whoever is gone in both is
        ``VERIFIED``.
    :param also_remove: other files that hold identifiers, removed with the work file.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    :returns: ``request_id``, ``state`` (``NOT_VERIFIED``), ``states`` (numbers by state), ``audit_path``.
    :raises PostHogErasureError: if the certificate is closed already as something else.
    :raises PostHogSettingsError: if an argument is wrong; nothing is closed or removed then.
    """

    template_fields: Sequence[str] = (*ErasureEndOperator.template_fields, "reason", "decision")

    def __init__(
        self,
        *,
        reason: str,
        decision: str,
        poll_interval: float | timedelta = 60.0,
        **kwargs: Unpack[ErasureEndArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.poll_interval = poll_interval
        self.reason = reason
        self.decision = decision

    def execute(self, context: Context) -> dict[str, Any]:
        """End it."""
        why = {name: checked_text(name, getattr(self, name), MAX_TEXT) for name in ("reason", "decision")}
        handover = self.handover()
        work = handover.work("request", may_be_gone=True)
        certificate = handover.certificate(self.hook, context)
        closing = certificate.closing if certificate is not None else None
        if certificate is not None and closing is not None:
            states = _closed_before(handover.request_id, closing.facts)
            certificate.leave(closing)
        else:
            look = self._look(work, certificate)
            states = look.states()
            if certificate is not None:
                certificate.ended(states, look.persons, look.at, **why)
        self.remove(handover, work)
        self.log.warning("Erasure %s is ended without proof: %s", handover.request_id, states)
        return {**self.ended(handover, certificate, "NOT_VERIFIED"), "states": states}

    def _look(self, work: WorkFile, certificate: Certificate | None) -> _Look:
        from airflow_provider_posthog.erasure.verify import verify

        if not work.exists():
            return self._recorded(work, certificate)
        looks, interval = [_Look()], seconds_of("poll_interval", self.poll_interval, 0)
        try:
            looks[0].at = verify(self.client, work.persons(), self._asked(work), on_judgement=looks[0].add).now
            if looks[0].states().get("VERIFIED"):  # one look may have met a replica that knows of nobody
                time.sleep(interval)
                looks.append(_Look())
                looks[1].at = verify(self.client, work.persons(), self._asked(work), on_judgement=looks[1].add).now
        except PostHogSettingsError:
            raise
        except PostHogError as error:
            self.log.warning("PostHog cannot be asked (%s): the last states that were told count", type(error).__name__)
            return self._recorded(work, certificate)
        both = zip(looks[0].persons, looks[-1].persons, strict=True)
        return _Look([last if first["state"] == "VERIFIED" else first for first, last in both], looks[-1].at)

    def _recorded(self, work: WorkFile, certificate: Certificate | None) -> _Look:
        """Return the states that were told before; nobody has looked at whoever has none."""
        states = certificate.recorded_states() if certificate is not None else {}

        names = set(states)
        if work.exists():
            names |= {certificate.name_of(person.uuid) if certificate else person.uuid for person in work.persons()}
        return _Look([{"person": name, "state": states.get(name) or "REQUESTED"} for name in sorted(names)])

    def _asked(self, work: WorkFile) -> Request:
        """Return what was asked for, as far as the request says; of one that never got so far, all must be gone."""
        from airflow_provider_posthog.erasure.delete import DeleteOptions
        from airflow_provider_posthog.erasure.judge import Request

        request, header = self.request, work.header()
        options = DeleteOptions(
            request.get("delete_events") is not False,
            request.get("delete_recordings") is not False,
            request.get("keep_person") is True,
        )
        resolved = moment(header.resolved_at)
        asked = moment(request.get("requested_at")) or resolved
        accepted = moment(request.get("accepted_at")) or resolved
        if asked is None or accepted is None:
            raise PostHogSettingsError("request", "has no times.", "Write what PostHogDeletePersonsOperator returned.")
        accepted += timedelta(seconds=1)  # an answer's time is in whole seconds, rounded down
        return Request(options, str(request.get("generation") or header.generation), asked, accepted)


def _closed_before(request_id: str, facts: Mapping[str, Any]) -> dict[str, int]:
    """Go on where an earlier try was killed, which has closed the certificate and not yet removed the files."""
    if "decision" not in facts:
        raise PostHogErasureError(
            f"The certificate of erasure {request_id} is closed already, as {facts.get('outcome')}.",
            job_id=request_id,
        )
    return dict(facts["states"])
