"""Waiting until persons are erased, and proving it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from airflow_provider_posthog.api.arguments import is_uuid
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    is_of_earlier_try,
)
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogError, PostHogSettingsError
from airflow_provider_posthog.operators.certificate_notices import note_timeout, warn_of_deadline
from airflow_provider_posthog.operators.certificates import open_certificate
from airflow_provider_posthog.operators.storage_path import storage_path
from airflow_provider_posthog.results.retention import look_if_possible
from airflow_provider_posthog.sensors.base import PostHogSensor

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.api.steps import Steps
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.judge import Request
    from airflow_provider_posthog.erasure.progress import Progress
    from airflow_provider_posthog.erasure.verify import Report
    from airflow_provider_posthog.erasure.work_file import Person, WorkFile
    from airflow_provider_posthog.operators.certificates import Certificate
    from airflow_provider_posthog.triggers.checks import CheckEvent

T = TypeVar("T")
_LONG_AGO = datetime(1970, 1, 2, tzinfo=timezone.utc)


class PostHogPersonsErasedSensor(PostHogSensor):
    """Waits until nothing of persons can be read any more, in every place where PostHog keeps it.

    Each look reads the profiles from the database and from what lists show, and counts events by HogQL, by UUID and
    by every distinct id, and recordings. PostHog deletes events on one of the next weekends. ``deletion_status`` is
    shown, and tells waiting from a failure; it proves nothing. The states of a person:

    - ``REQUESTED``: the profile can still be read; ``PROFILE_GONE``: recordings can; ``EVENTS_PENDING``: events can;
    - ``VERIFIED``: nothing can;
    - ``SURVIVORS``: events that PostHog's deletion has left, or will; ``SWALLOWED``: PostHog queued no deletion, as
      there had been one for this person; ``RECREATED``: new events or a new profile came; ``PARTIAL``: PostHog has
      given up on the profile or the recordings; ``NOT_FOUND``: no sign that there ever was such a person.

    The last five fail the task at once, as somebody has to do something; clear the task afterwards, and it looks anew.
    A certificate, if the tasks before have begun one, is written on and closed.
    Every look is made in a worker; with ``deferrable`` the triggerer waits in between.

    :param request: what ``PostHogDeletePersonsOperator`` returned; or person UUIDs, of which only what carries the UUID
        can be looked for, and which need a sign that they were deleted.
    :param object_storage_conn_id: Airflow's connection for the work file, if it is another than the request names.
    :param keep_work_file: keep the work file, which holds personal data, when the erasure is proved: a later task needs
        it.
    :param close_certificate: write the closing record of the certificate; without it, a later task does.
    :param quiet_period: seconds after PostHog was asked before which nobody counts as erased: events that were on their
        way then are counted only a while later.
    :param poke_interval: seconds between two looks; ``poll_interval`` is another name for it.
    :param timeout: seconds until it fails. PostHog promises no time; the law allows a month.
    :param kwargs: as :class:`~airflow_provider_posthog.sensors.base.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``; ``mode`` is ``reschedule`` unless said otherwise.
    :returns: ``request_id``, ``state`` (``VERIFIED``), ``states`` (numbers by state), ``checked_at`` (the server's
        time), ``verified_by`` (``distinct_id`` or ``uuid``), and the numbers ``events``, ``future_events``,
        ``later_events``, ``recordings`` that are left; ``recordings`` is null where there were no distinct ids to look
        for them by. ``retention`` (``event_retention_months``, ``events_retention_enforced``, ``floor``): where it is
        enforced, PostHog hides events up to ``floor``, and nobody could look at them.
    :raises PostHogErasureError: with the states, and some persons by their places in the work file.
    """

    check: ClassVar[str] = "persons_erased"
    unmet: ClassVar[str] = "is not proved"
    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "request", "object_storage_conn_id")

    def __init__(
        self,
        *,
        request: Mapping[str, Any] | Sequence[str],
        object_storage_conn_id: str | None = None,
        keep_work_file: bool = False,
        close_certificate: bool = True,
        quiet_period: float | timedelta = 3600.0,
        poke_interval: float | timedelta = 3600.0,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = 30 * 86_400.0,
        mode: str = "reschedule",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        interval = poke_interval if poll_interval is None else poll_interval
        super().__init__(poke_interval=interval, timeout=timeout, mode=mode, **kwargs)
        self.request = request
        self.object_storage_conn_id = object_storage_conn_id
        self.keep_work_file = keep_work_file
        self.close_certificate = close_certificate
        self.quiet_period = quiet_period
        self._text = ""
        self._states: dict[str, int] = {}

    def subject(self) -> str:
        """Name the request."""
        told = self.request.get("request_id") if isinstance(self.request, Mapping) else None
        return f"erasure {told}" if told else "the erasure"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the address of the project's persons.

        :param settings: where PostHog is.
        :param facts: not used.
        """
        return f"{settings.base_url}/project/{settings.project_id}/persons"

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return what the triggerer is told: nothing of the persons.

        :param context: the task's context.
        """
        return {}

    def prepare(self, context: Context) -> None:
        """Check the request, before anything is sent.

        :param context: the task's context.
        :raises AirflowSkipException: after a dry run, of which there is nothing to prove.
        """
        if isinstance(self.request, Mapping):
            if self.request.get("dry_run") is True:
                raise AirflowSkipException("It was a dry run: nothing was deleted, so there is nothing to prove.")
            if not self.request.get("work_path") or not self.request.get("accepted_at"):
                raise PostHogSettingsError(
                    "request", "is none.", "Write what PostHogDeletePersonsOperator returned, or person UUIDs."
                )
        elif isinstance(self.request, str) or not self.request or not all(map(is_uuid, self.request)):
            raise PostHogSettingsError("request", "is no list of UUIDs.", "Write person UUIDs, or the request.")

    # One look.

    def look(self, context: Context) -> Finding:
        """Look at all persons once.

        :param context: the task's context.
        """
        from airflow_provider_posthog.audit.residue import residue
        from airflow_provider_posthog.erasure.verify import verify

        self._retention = self._do(look_if_possible(self.hook.settings().project_id))
        if not isinstance(self.request, Mapping):
            request = self._unproven()
            return self._found(self._do(verify(self._plain(self.request), request)), "uuid")
        work = self._work_file(self.request)
        progress = self._progress(work, str(self.request.get("request_id")))
        # By a try that did not live to say so. While there is a file, it is looked anew: events may have come since.
        if progress.verified is not None and not work.exists():
            return Finding(Verdict("succeeded"), progress.verified)
        self._check_work_file(work)
        certificate = self._certificate(self.request, context)
        report = self._do(verify(work.persons(), self._asked(self.request)))
        self._check_count(report)
        found = self._found(report, work.header().verify_by)
        warn_of_deadline(certificate, self.request, report.now, self.log)
        if certificate is not None and not certificate.is_closed:
            certificate.looked(report)
        if found.verdict.state == "succeeded":
            if certificate is not None:
                certificate.saw(self._retention.as_json())
                cannot_erase = self._do(residue(self.hook.settings()))
                certificate.verified(work, report, cannot_erase, close=self.close_certificate)
                found = Finding(found.verdict, {**found.facts, "ledger_head": certificate.ledger_head})
            progress.verified = found.facts
            if not self.keep_work_file:
                progress.forget()
                work.remove()
        return found

    def _do(self, steps: Steps[T]) -> T:
        from airflow_provider_posthog.erasure.asking import discreet

        with discreet():
            return run(steps, self.hook.client)

    def _check_count(self, report: Report) -> None:
        """Make sure that nobody has fallen out of the work file: who is not in it is not looked for."""
        told = self.request.get("persons") if isinstance(self.request, Mapping) else None
        if isinstance(told, int) and told != sum(report.states.values()):
            raise PostHogSettingsError(
                "request",
                f"is about {told} persons, and its work file names {sum(report.states.values())}.",
                "Find out who has changed the file: without it nobody can prove the erasure.",
            )

    def _found(self, report: Report, verified_by: str) -> Finding:
        self._text = f"{report.text()} {self._retention.not_looked_at}".rstrip()
        facts: dict[str, Any] = {**report.as_json(), "verified_by": verified_by, "retention": self._retention.as_json()}
        if isinstance(self.request, Mapping):
            facts["request_id"] = self.request.get("request_id")
        self.log.info("%s: %s", self.subject(), self._text)
        if report.is_verified:
            return Finding(Verdict("succeeded"), {**facts, "state": "VERIFIED"})
        self._states = {str(state): n for state, n in report.states.items()}
        return Finding(Verdict("failed" if report.failures else "pending", self._text), facts)

    def _plain(self, uuids: Sequence[str]) -> Iterator[Person]:
        from airflow_provider_posthog.erasure.work_file import Person

        return (Person(uuid) for uuid in dict.fromkeys(each.lower() for each in uuids))

    def _unproven(self) -> Request:
        """Return the request of which only UUIDs are known: all there is of them must be gone."""
        from airflow_provider_posthog.erasure.delete import Wish
        from airflow_provider_posthog.erasure.generation import detect
        from airflow_provider_posthog.erasure.judge import Request

        server = self._do(detect())
        return Request(
            Wish(), server.generation, _LONG_AGO, server.now, proven=False, quiet_period=self._quiet_period()
        )

    def _asked(self, request: Mapping[str, Any]) -> Request:
        from airflow_provider_posthog.erasure.delete import Wish
        from airflow_provider_posthog.erasure.judge import Request

        flags = [request.get(name) for name in ("delete_events", "delete_recordings", "keep_person")]
        if not all(isinstance(flag, bool) for flag in flags):  # what nobody asked for would not be looked for
            raise PostHogSettingsError(
                "request", "does not say what was deleted.", "Write what PostHogDeletePersonsOperator returned."
            )
        asked, accepted = moment(request.get("requested_at")), moment(request.get("accepted_at"))
        if asked is None or accepted is None:
            raise PostHogSettingsError("request", "has no times.", "Write what PostHogDeletePersonsOperator returned.")
        # An answer's time is in whole seconds, rounded down.
        accepted += timedelta(seconds=1)
        generation, quiet = str(request.get("generation")), self._quiet_period()
        return Request(Wish(*map(bool, flags)), generation, asked, accepted, quiet_period=quiet)

    def _quiet_period(self) -> timedelta:
        given = self.quiet_period
        return given if isinstance(given, timedelta) else timedelta(seconds=given)

    def _work_file(self, request: Mapping[str, Any]) -> WorkFile:
        from airflow_provider_posthog.erasure.work_file import WorkFile

        conn_id = self.object_storage_conn_id or request.get("object_storage_conn_id")
        example = "s3://private/erasures/{{ run_id }}.jsonl"
        path = storage_path("work_path", str(request["work_path"]), conn_id, example=example)
        return WorkFile(path.fs, path.path)

    def _certificate(self, request: Mapping[str, Any], context: Context) -> Certificate | None:
        conn_id = self.object_storage_conn_id or request.get("object_storage_conn_id")
        path, ticket = request.get("audit_path"), request.get("ticket")
        return open_certificate(self.hook, path, conn_id, context, str(request.get("request_id")), ticket)

    def _progress(self, work: WorkFile, request_id: str) -> Progress:
        from airflow_provider_posthog.erasure.progress import Progress

        return Progress(work.fs, f"{work.path}.progress", request_id)

    def _check_work_file(self, work: WorkFile) -> None:
        assert isinstance(self.request, Mapping)  # noqa: S101 - for the type checker
        if work.header().request_id != self.request.get("request_id"):
            raise PostHogSettingsError(
                "request",
                f"its work file {self.request['work_path']} was written anew for another request.",
                "Write a path for each request, such as one with {{ run_id }} in it.",
            )

    def _failed(self, how: str, reason: str) -> PostHogErasureError:
        text = f"{self.subject()} {how}: {reason}"
        told = self.request.get("request_id") if isinstance(self.request, Mapping) else None
        return PostHogErasureError(text, job_id=told, states=self._states)

    # Waiting between the looks.

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as BaseSensorOperator's
        """Look, and wait for the next look.

        :param context: the task's context.
        """
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            self._note_timeout(context)
            raise AirflowSensorTimeout(f"{error} {self._too_long()}") from error
        except AirflowSkipException:
            self._note_timeout(context)
            raise

    def _note_timeout(self, context: Context) -> None:
        """Tell the certificate that nobody looks any more; a look without a proof was the last one."""
        request = self.request
        if self._text and isinstance(request, Mapping):
            note_timeout(lambda: self._certificate(request, context), self._text, self._states, self.log)

    def _too_long(self) -> str:
        return (
            f"{self.subject()} {self.unmet} in time: {self._text}" if self._text else f"{self.subject()} {self.unmet}"
        )

    def _defer(self, context: Context, *, looked: bool) -> None:
        deadline, limit = self._deadline()
        self._defer_until(context, time.time() + (self.poke_interval if looked else 0.0), deadline, limit)

    def _defer_until(self, context: Context, at: float, deadline: float, limit: str) -> None:
        at = min(at, deadline)
        self.defer(
            trigger=self._wait_trigger(context, at, deadline, limit),
            method_name="execute_complete",
            # Behind the trigger's own end, for a triggerer that is gone.
            timeout=timedelta(seconds=max(0.0, at - time.time()) + 3600.0),
        )

    def _wait_trigger(self, context: Context, at: float, deadline: float, limit: str) -> BaseTrigger:
        from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger

        arguments = {"at": at, "deadline": deadline, "limit": limit, "bad_looks": self._bad_pokes}
        return PostHogCheckTrigger(
            check=self.check,
            arguments=arguments,
            posthog_conn_id=self.posthog_conn_id,
            project_id=self.project_id,
            deadline=at + 600.0,
            poll_interval=60.0,
            try_number=getattr(context.get("ti"), "try_number", None) or 0,
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Look again, now that it is time to.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        try:
            told = cast("CheckEvent", self.read_event(event))
            if is_of_earlier_try(told.try_number, context):
                return self._wait(context)
            if told.ended.outcome != "succeeded":
                return self._conclude(told)
            facts = told.facts
            self._bad_pokes = int(facts["bad_looks"])
            return self._look_again(context, float(facts["deadline"]), str(facts["limit"]))
        except PostHogError as error:
            if self.never_fail:  # as poke mode does for any error
                raise AirflowSkipException(f"Skipping due to never_fail is set to True: {error}") from error
            raise

    def _look_again(self, context: Context, deadline: float, limit: str) -> Any:  # noqa: ANN401 - JSON
        self.prepare(context)
        try:
            seen = self.poke(context)
            if seen.is_done:
                return seen.xcom_value
        except PostHogError:
            if not self.silent_fail:
                raise
            self.log.warning("silent_fail goes on", exc_info=True)
        if time.time() >= deadline:
            text = self._too_long()
            self._note_timeout(context)
            if limit == "execution_timeout":
                raise AirflowTaskTimeout(text)
            raise AirflowSkipException(text) if self.soft_fail else AirflowSensorTimeout(text)
        self._defer_until(context, time.time() + self.poke_interval, deadline, limit)
        return None
