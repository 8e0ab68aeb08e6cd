"""Waiting until persons are erased, and proving it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_posthog.api.arguments import is_uuid
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.compat import AirflowSkipException
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.results.retention import look_if_possible
from airflow_provider_posthog.tasks.certificate_notices import note_timeout, warn_of_deadline
from airflow_provider_posthog.tasks.erasure_handover import Handover
from airflow_provider_posthog.tasks.lengths import length_of
from airflow_provider_posthog.tasks.lists import check_choice
from airflow_provider_posthog.tasks.poke_sensor import PostHogPokeSensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.audit.records import CannotErase
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.client import ErasureClient
    from airflow_provider_posthog.erasure.judge import Request
    from airflow_provider_posthog.erasure.progress import Progress
    from airflow_provider_posthog.erasure.project import Project
    from airflow_provider_posthog.erasure.schedule import Looks
    from airflow_provider_posthog.erasure.tables import Left
    from airflow_provider_posthog.erasure.verify import Report
    from airflow_provider_posthog.erasure.work_file import Person, WorkFile
    from airflow_provider_posthog.tasks.arguments import OwnPaceSensorArguments
    from airflow_provider_posthog.tasks.certificate import Certificate

#: Events may arrive so late that they are older than the moment when their person was resolved.
_LATE = timedelta(days=1)
#: Up to so many seconds lie between two looks in one poke.
_BETWEEN = 60.0
_LONG_AGO = datetime(1970, 1, 2, tzinfo=timezone.utc)


class PostHogPersonsErasedSensor(PostHogPokeSensor):
    """Waits until nothing about the persons can be read any more, wherever PostHog keeps it.

    Each look reads the profiles, directly and from lists, and counts events (in HogQL, by UUID and by every distinct
    id) and recordings. PostHog deletes events on one of the next weekends. ``deletion_status`` is shown, and tells
    waiting from a failure, but proves nothing. The states of a person:

    - ``REQUESTED``: the profile can still be read; ``PROFILE_GONE``: recordings can; ``EVENTS_PENDING``: events can;
    - ``VERIFIED``: nothing can;
    - ``SURVIVORS``: events that PostHog's deletion has left, or will; ``SWALLOWED``: PostHog queued no deletion, as
      there had been one for this person; ``RECREATED``: new events or a new profile came; ``PARTIAL``: PostHog has
      given up on the profile or the recordings; ``NOT_FOUND``: no sign that there ever was such a person.

    The last five fail the task at once, as somebody has to act; then clear the task, and it looks again. If the earlier
    tasks have begun a certificate, it is continued and closed. Every look runs in a worker; with ``deferrable`` the
    triggerer waits in between.

    .. code-block:: python

        PostHogPersonsErasedSensor(task_id="erased", request=delete.output, deferrable=True)

    :param request: what ``PostHogDeletePersonsOperator`` returned; or person UUIDs: then only what carries the UUID can
        be checked, and there must be a sign that they were deleted. As nothing is kept about these between two pokes,
        one poke makes both looks, up to a minute apart.
    :param object_storage_conn_id: Airflow's connection for the work file, if it is another than the request names.
    :param moved_from: as in ``PostHogResolvePersonsOperator``: earlier addresses of the same PostHog. The request says
        which one was asked; another one is refused before anything is sent.
    :param keep_work_file: keep the work file, which holds personal data, when the erasure is proved: a later task needs
        it.
    :param close_certificate: write the closing record of the certificate; without it, a later task does.
    :param on_survivors: ``fail`` as soon as somebody cannot be erased; or ``go_on``: wait for the others, and return
        ``PARTIAL``, so that later tasks can act for those who are ``VERIFIED``.
    :param quiet_period: how many seconds after the request nobody counts as erased yet: events that were in flight then
        are counted only a while later.
    :param poke_interval: seconds between two looks; ``poll_interval`` is another name for it.
    :param timeout: seconds until it fails. PostHog promises no time; the law allows a month.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``; ``mode`` is ``reschedule`` by default.
    :returns: ``request_id``, ``host`` and ``project_id``, ``state`` (``VERIFIED`` or ``PARTIAL``), ``states`` (numbers
        by state), ``checked_at`` (the server's time), ``verified_by`` (``distinct_id`` or ``uuid``), and the numbers
        ``events``, ``future_events``, ``later_events``, ``recordings`` that are left; ``recordings`` is null where
        there were no distinct ids to look for them by. ``retention`` (``event_retention_months``,
        ``events_retention_enforced``, ``floor``): where it is enforced, PostHog hides events up to ``floor``, and they
        cannot be checked. ``tables``: how many rows of the persons are in tables that PostHog's deletion leaves alone;
        ``tables_not_looked_at``: by table, why it could not be checked. ``ledger_head``: of the list of all erasures,
        where there is a certificate.
    :raises PostHogErasureError: with the states, and some persons by their places in the work file.
    """

    unmet: ClassVar[str] = "is not proved"
    met: ClassVar[str] = "is proved: nothing of these persons can be read any more"
    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "request", "object_storage_conn_id")

    def __init__(
        self,
        *,
        request: Mapping[str, Any] | Sequence[str],
        object_storage_conn_id: str | None = None,
        moved_from: str | Sequence[str] | None = None,
        keep_work_file: bool = False,
        close_certificate: bool = True,
        on_survivors: Literal["fail", "go_on"] = "fail",
        quiet_period: float | timedelta = 3600.0,
        poke_interval: float | timedelta = 3600.0,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = 30 * 86_400.0,
        mode: str = "reschedule",
        **kwargs: Unpack[OwnPaceSensorArguments],
    ) -> None:
        interval = poke_interval if poll_interval is None else poll_interval
        super().__init__(poke_interval=interval, timeout=timeout, mode=mode, **kwargs)
        self.request = request
        self.object_storage_conn_id = object_storage_conn_id
        self.moved_from = moved_from
        self.keep_work_file = keep_work_file
        self.close_certificate = close_certificate
        check_choice("on_survivors", on_survivors, ("fail", "go_on"))
        self.on_survivors = on_survivors
        self.quiet_period = quiet_period
        self._states: dict[str, int] = {}
        self._read = 0

    def subject(self) -> str:
        """Name the request."""
        request_id = self.request.get("request_id") if isinstance(self.request, Mapping) else None
        return f"erasure {request_id}" if request_id else "the erasure"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the address of the project's persons.

        :param settings: where PostHog is.
        :param facts: not used.
        """
        return f"{settings.base_url}/project/{settings.project_id}/persons"

    def prepare(self, context: Context) -> None:
        """Check the request, before anything is sent.

        :raises AirflowSkipException: after a preview, of which there is nothing to prove.
        """
        if isinstance(self.request, Mapping):
            if self.request.get("preview") is True:
                raise AirflowSkipException("It was a preview: nothing was deleted, so there is nothing to prove.")
            if not self.request.get("work_path") or not self.request.get("accepted_at"):
                raise PostHogSettingsError(
                    "request", "is none.", "Write what PostHogDeletePersonsOperator returned, or person UUIDs."
                )
            self._project().check(self.request, "request")
            self._asked(self.request)  # refuses what says not enough
        elif isinstance(self.request, str) or not self.request or not all(map(is_uuid, self.request)):
            raise PostHogSettingsError("request", "is not a list of UUIDs.", "Write person UUIDs, or the request.")

    # One look.

    def look(self, context: Context) -> Finding:
        """Look at all persons once."""
        from airflow_provider_posthog.erasure.generation import detect
        from airflow_provider_posthog.erasure.schedule import Looks
        from airflow_provider_posthog.erasure.verify import picture

        if not isinstance(self.request, Mapping):
            return self._look_at_uuids(self.request)
        handover = self._handover(self.request)
        work = handover.file()
        progress = self._progress(work, str(self.request.get("request_id")))
        # By a try that did not live to say so. While there is a file, it is looked anew: events may have come since.
        if progress.verified is not None and not work.exists():
            return Finding(Verdict("succeeded"), progress.verified)
        self._project().check(vars(handover.work("request").header()), "request")
        handover.check_certificate(self.hook, context)
        looks, server = Looks.of(progress.looks), detect(self.client)
        seen = picture(self.client, work.persons(), server)
        if not looks.is_due(server.now, seen, timedelta(seconds=self.poke_interval)):
            self._text, self._states = looks.text, dict(looks.states)
            return Finding(Verdict("pending", looks.text), {"states": self._states})
        return self._count(work, progress, looks, seen, server.now, context)

    def _count(
        self, work: WorkFile, progress: Progress, looks: Looks, seen: tuple[int, ...], now: datetime, context: Context
    ) -> Finding:
        """Count what there is of the persons; where nothing is left, in the whole history, and once more later."""
        from airflow_provider_posthog.erasure.schedule import may_prove
        from airflow_provider_posthog.erasure.verify import verify

        assert isinstance(self.request, Mapping)  # noqa: S101 - for the type checker
        self._look_at_retention()
        certificate = self._handover(self.request).certificate(self.hook, context)
        first = moment(looks.clean_at)
        is_second = first is not None and may_prove(first, now, timedelta(seconds=self.poke_interval))
        # Before the look, which is dear: if PostHog refuses one of these, nothing but these is asked again.
        beside = self._beside(work, certificate) if is_second else None
        asked, since = self._asked(self.request), moment(work.header().resolved_at)
        # After a look that found nothing, the likely part is not worth a look of its own.
        likely = None if is_second or since is None else since - _LATE
        report = verify(self.client, work.persons(), asked, likely)
        if likely is not None and self._is_done(report):
            # What was just seen to be gone of everybody need not be asked for again before the second look.
            gone = report.is_verified and asked.options.leaves_nothing
            report = verify(self.client, work.persons(), asked, only_events=gone)
        self._check_count(report)
        finding = self._finding(report, work.header().verify_by)
        warn_of_deadline(certificate, self.request, report.now, self.log)
        if certificate is not None and not certificate.is_closed:
            certificate.looked(report)
        if finding.verdict.state == "failed":  # a cleared task looks anew
            progress.looks = {}
            return finding
        if finding.verdict.state == "succeeded" and beside is not None:
            return self._prove(work, progress, report, certificate, finding, beside)
        looked = looks.looked(report.now or _LONG_AGO, seen, clean=self._is_done(report))
        progress.looks = replace(looked, states=finding.facts["states"], text=finding.verdict.reason).as_json()
        if finding.verdict.state == "pending":
            return finding
        self._text = f"{self._text} A second look follows, since a lagging replica may show nothing for a while."
        return Finding(Verdict("pending", self._text), finding.facts)

    def _beside(self, work: WorkFile, certificate: Certificate | None) -> tuple[Left, CannotErase | None]:
        """Return what PostHog's deletion leaves in other tables, and what it does not reach, for the certificate."""
        from airflow_provider_posthog.audit.residue import residue
        from airflow_provider_posthog.erasure.tables import left_in_tables

        left = left_in_tables(self.client, work.persons())
        return left, residue(self.client) if certificate is not None else None

    def _prove(
        self,
        work: WorkFile,
        progress: Progress,
        report: Report,
        certificate: Certificate | None,
        finding: Finding,
        beside: tuple[Left, CannotErase | None],
    ) -> Finding:
        """Tell what two clean looks have proved, and what they did not look at."""
        from airflow_provider_posthog.erasure.tables import NOT_OFFERED

        left, cannot_erase = beside
        for table in () if "other tables" in left.not_looked_at else self.client.unknown_tables:
            left.not_looked_at.setdefault(table, NOT_OFFERED)  # the list has it, and the look did not find it
        if left.text:
            self.log.warning("%s", left.text)
        progress.unverified = report.unverified
        tables = {"tables": left.rows, "tables_not_looked_at": left.not_looked_at}
        finding = Finding(finding.verdict, {**finding.facts, **tables})
        if certificate is not None and cannot_erase is not None:
            certificate.saw(self._retention.as_json())
            cannot_erase["tables"] = left.as_list()
            cannot_erase["not_looked_at"] = {**cannot_erase["not_looked_at"], **left.not_looked_at}
            if self._retention.not_looked_at:
                cannot_erase["not_looked_at"]["events"] = self._retention.not_looked_at
            certificate.verified(work, report, cannot_erase, close=self.close_certificate)
            finding = Finding(finding.verdict, {**finding.facts, "ledger_head": certificate.ledger_head})
        progress.looks = {}  # a task that is cleared later looks twice again
        if report.is_verified:
            progress.verified = finding.facts
            if not self.keep_work_file:
                progress.forget()
                work.remove()
        return finding

    def _look_at_uuids(self, uuids: Sequence[str]) -> Finding:
        """Look at persons of whom only UUIDs are known; as nothing can be remembered, both looks are made now."""
        from airflow_provider_posthog.erasure.verify import verify

        self._look_at_retention()
        finding = self._finding(verify(self.client, self._plain(uuids), self._unproven()), "uuid")
        if finding.verdict.state == "succeeded":
            time.sleep(min(self.poke_interval, _BETWEEN))
            finding = self._finding(verify(self.client, self._plain(uuids), self._unproven()), "uuid")
        return finding

    def _is_done(self, report: Report) -> bool:
        """Whether there is nothing to wait for: of anybody, or of those whom PostHog can still erase."""
        return report.is_verified or (self.on_survivors == "go_on" and report.is_over)

    def _look_at_retention(self) -> None:
        self._retention = self.client.run(look_if_possible(self.hook.settings().project_id))

    def _project(self) -> Project:
        from airflow_provider_posthog.erasure.project import Project

        return Project.of(self.hook.settings(), self.moved_from)

    @cached_property
    def client(self) -> ErasureClient:
        """The client, whose errors name nobody; made when a task runs."""
        from airflow_provider_posthog.erasure.client import ErasureClient

        return ErasureClient(self.hook.client)

    def _check_count(self, report: Report) -> None:
        """Make sure that nobody has fallen out of the work file: who is not in it is not looked for."""
        count = self.request.get("persons") if isinstance(self.request, Mapping) else None
        if isinstance(count, int) and count != sum(report.states.values()):
            raise PostHogSettingsError(
                "request",
                f"is about {count} persons, and its work file names {sum(report.states.values())}.",
                "Find out who has changed the file: without it nobody can prove the erasure.",
            )

    def _finding(self, report: Report, verified_by: str) -> Finding:
        from airflow_provider_posthog.erasure.judge import PENDING

        self._text = f"{report.text()} {self._retention.not_looked_at}".rstrip()
        facts: dict[str, Any] = {
            **self._project().as_json(),
            **report.as_json(),
            "verified_by": verified_by,
            "retention": self._retention.as_json(),
        }
        if isinstance(self.request, Mapping):
            facts["request_id"] = self.request.get("request_id")
        read = self.client.bytes_read - self._read
        self.log.info(  # at most twelve times a month; what was found, is said by whoever waits, if it is news
            "%s of events was looked at; ClickHouse read %s bytes for it",
            "The whole history" if report.is_proof else "The likely part",
            f"{read:,}" if read else "an unknown number of",
        )
        self._read += read
        self._states = {str(state): n for state, n in report.states.items() if n}
        if report.is_verified:
            return Finding(Verdict("succeeded"), {**facts, "state": "VERIFIED"})
        if self._is_done(report):
            return Finding(Verdict("succeeded"), {**facts, "state": "PARTIAL"})
        if report.failures and (self.on_survivors == "fail" or not report.states.keys() & PENDING):
            return Finding(Verdict("failed", self._text), facts)
        return Finding(Verdict("pending", self._text), facts)

    def _plain(self, uuids: Sequence[str]) -> Iterator[Person]:
        from airflow_provider_posthog.erasure.work_file import Person

        return (Person(uuid) for uuid in dict.fromkeys(uuid.lower() for uuid in uuids))

    def _unproven(self) -> Request:
        """Return the request of which only UUIDs are known: all there is of them must be gone."""
        from airflow_provider_posthog.erasure.delete import DeleteOptions
        from airflow_provider_posthog.erasure.generation import detect
        from airflow_provider_posthog.erasure.judge import Request

        server = detect(self.client)
        return Request(
            DeleteOptions(),
            server.generation,
            _LONG_AGO,
            server.now,
            proven=False,
            quiet_period=length_of("quiet_period", self.quiet_period),
        )

    def _asked(self, request: Mapping[str, Any]) -> Request:
        from airflow_provider_posthog.erasure.delete import DeleteOptions
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
        generation, quiet = str(request.get("generation")), length_of("quiet_period", self.quiet_period)
        return Request(DeleteOptions(*map(bool, flags)), generation, asked, accepted, quiet_period=quiet)

    def _handover(self, request: Mapping[str, Any]) -> Handover:
        return Handover(conn_id=self.object_storage_conn_id).of(request)

    def _progress(self, work: WorkFile, request_id: str) -> Progress:
        from airflow_provider_posthog.erasure.progress import Progress

        return Progress(work.fs, f"{work.path}.progress", request_id)

    def _failed(self, how: str, reason: str, *, lasting: bool = False) -> PostHogErasureError:
        del lasting  # a look of another day may see what is not there any more
        text = f"{self.subject()} {how}: {reason}"
        request_id = self.request.get("request_id") if isinstance(self.request, Mapping) else None
        return PostHogErasureError(text, job_id=request_id, states=self._states)

    def note_timeout(self, context: Context) -> None:
        """Tell the certificate that nobody looks any more; a look without a proof was the last one."""
        request = self.request
        if self._text and isinstance(request, Mapping):
            note_timeout(
                lambda: self._handover(request).certificate(self.hook, context), self._text, self._states, self.log
            )
