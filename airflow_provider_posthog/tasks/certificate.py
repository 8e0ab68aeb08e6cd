"""What the tasks of an erasure write into its certificate (``audit_path``)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.tasks.certificate_facts import MAX_IDENTIFIERS as MAX_IDENTIFIERS
from airflow_provider_posthog.tasks.certificate_facts import after, before, pairs, sums
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from datetime import date, datetime

    from airflow_provider_posthog.audit.chain import AuditTrail
    from airflow_provider_posthog.audit.deadline import Deadline
    from airflow_provider_posthog.audit.ledger import Ledger
    from airflow_provider_posthog.audit.records import AuditRecord, Outcome, PersonFacts, Who
    from airflow_provider_posthog.erasure.identifiers import Identifier
    from airflow_provider_posthog.erasure.progress import Done
    from airflow_provider_posthog.erasure.verify import Report
    from airflow_provider_posthog.erasure.work_file import Totals, WorkFile
    from airflow_provider_posthog.hooks.posthog import PostHogHook


class Certificate:
    """The certificate of one request, as one task writes it. A retry that says the same writes nothing twice.

    :param trail: where the records go.
    :param server: which PostHog it is.
    :param hook: what the task asks PostHog with.
    :param ledger: the list of all requests.
    """

    def __init__(self, trail: AuditTrail, server: Mapping[str, Any], hook: PostHogHook, ledger: Ledger) -> None:
        self._trail = trail
        self._ledger = ledger
        #: The hash of the ledger's newest entry that this task knows of; to be kept elsewhere, too.
        self.ledger_head: str | None = None
        self._server: Any = dict(server)
        self._retention: Any = {}
        self._hook = hook
        self._keys_noted = 0

    def _open(self) -> AuditTrail:
        """Return the trail, once it tells whether the key was replaced since; the key itself is never in it."""
        if self._hook.keys_replaced > self._keys_noted and not self._trail.is_closed:
            self._keys_noted = self._hook.keys_replaced
            note = (
                "PostHog refused the connection's key, which was replaced meanwhile: the task went on with the new one"
            )
            self._trail.append("note", key=f"key-replaced-{time.time():.0f}", notes=[note], server=self._server)
        return self._trail

    def saw(self, retention: Mapping[str, Any]) -> None:
        """Tell with what is counted from now on how long PostHog shows events.

        :param retention: see :class:`~airflow_provider_posthog.audit.records.Retention`.
        """
        self._retention = {"retention": dict(retention)}

    def requested(
        self, work: WorkFile, identifiers: Iterable[Identifier], missing: Iterable[Identifier], deadline: Deadline
    ) -> None:
        """Tell who was found, with all identifiers and what there was of them.

        :param work: the work file.
        :param identifiers: what was asked for.
        :param missing: what of it matches no person.
        :param deadline: until when it has to be answered.
        """
        totals = work.totals()
        self._open().append_persons(
            "requested",
            map(before, work.persons()),
            server_at=work.header().resolved_at,
            identifiers=pairs(identifiers),
            not_found=pairs(missing),
            server=self._server,
            before=sums(totals),
            deadline=deadline.as_facts(),
            **self._retention,
        )
        self._enter()

    def planned(self, totals: Totals, options: Mapping[str, Any], *, preview: bool) -> None:
        """Tell what is about to be asked for, or would be.

        :param totals: sums over the persons.
        :param options: of the request.
        :param preview: whether nothing will be done.
        """
        self._enter()  # a task that was killed may not have come so far
        kind: Any = "dry_run" if preview else "note"
        notes = ["preview: nothing is deleted" if preview else "about to ask PostHog for the deletion"]
        self._open().append(kind, key="delete", options=options, before=sums(totals), notes=notes, server=self._server)

    def accepted(self, key: str, uuids: Iterable[str], done: Done) -> None:
        """Tell what became of a chunk.

        :param key: of the chunk.
        :param uuids: its persons.
        :param done: what became of it.
        """
        swallowed, missing = set(done.swallowed), set(done.missing)
        persons: list[PersonFacts] = []
        for uuid in uuids:
            person: PersonFacts = {"uuid": uuid, "state": "PARTIAL" if uuid in done.failed else "REQUESTED"}
            if uuid in swallowed:
                person["note"] = "PostHog queued no deletion of events: one was asked for before"
            elif uuid in missing:
                person["note"] = "the profile was gone before it was asked for"
            persons.append(person)
        server: Any = {**self._server, "generation": done.generation}
        # The rest of the key is a digest of UUIDs, by which a guess could be checked.
        key = f"chunk-{key.partition('-')[0]}"
        self._open().append("accepted", key=key, server_at=done.accepted_at, persons=persons, server=server)

    def called(self, task: str, calls: Mapping[str, int]) -> None:
        """Tell which calls a try of a task made.

        :param task: names the try.
        :param calls: how many, by endpoint.
        """
        if calls:
            self._open().append("note", key=f"calls-{task}", calls=calls, server=self._server)

    def failed(self, task: str, error: BaseException, calls: Mapping[str, int]) -> None:
        """Tell that a task failed.

        :param task: names the try.
        :param error: why.
        :param calls: how many calls it made, by endpoint.
        """
        text = str(error) if isinstance(error, PostHogError) else "no error of this provider's; see the task's log"
        error_text = f"{type(error).__name__}: {text}"
        self._open().append("failed", key=task, error=error_text, calls=calls, server=self._server)

    def looked(self, report: Report, key: str = "") -> None:
        """Tell what a look found, unless the one before found the same.

        :param report: what it found.
        :param key: tells records apart.
        """
        named = [judgement for judgements in report.examples.values() for judgement in judgements]
        persons: list[PersonFacts] = [
            {
                "uuid": judgement.uuid,
                "state": judgement.state,
                "survivors": judgement.survivors,
                "note": judgement.reason,
                "deletion_status": judgement.facts.get("deletion_status"),
            }
            for judgement in named
        ]
        self._open().append(
            "state_changed",
            key=key,
            server_at=report.now,
            states={str(state): n for state, n in report.states.items()},
            after=after(report),
            persons=persons,
            server=self._server,
        )

    def verified(self, work: WorkFile, report: Report, cannot_erase: Any, *, close: bool = True) -> None:  # noqa: ANN401 - CannotErase
        """Tell that everybody is gone, what PostHog cannot erase, and close the certificate.

        :param work: the work file.
        :param report: what the look found.
        :param cannot_erase: what :func:`~airflow_provider_posthog.audit.residue.residue` found.
        :param close: whether nothing is to follow.
        """
        if (closing := self.closing) is not None:
            self.leave(closing)
            return
        self._open().append("residue", cannot_erase=cannot_erase, server=self._server)
        persons: Iterator[PersonFacts] = (
            {"uuid": person.uuid, "state": "VERIFIED", "survivors": 0}
            for person in work.persons()
            if person.uuid not in report.unverified
        )
        facts = {"after": after(report), "server": self._server, **self._retention}
        self._open().append_persons("verified", persons, server_at=report.now, **facts)
        if close and report.is_verified:
            states = {str(state): n for state, n in report.states.items() if n}
            self.leave(self._open().close("VERIFIED", states=states, server_at=report.now, server=self._server))

    def timed_out(self, text: str, states: Mapping[str, int]) -> None:
        """Tell that nobody waits for the proof any more.

        :param text: what the last look found.
        :param states: how many persons were in which state.
        """
        if not self._trail.is_closed:
            error = f"The time is over: {text}"
            self._open().append("failed", key="timeout", error=error, states=states, server=self._server)

    def ended(
        self,
        states: Mapping[str, int],
        persons: Iterable[PersonFacts],
        at: datetime | None,
        **why: str,
    ) -> None:
        """Tell how each person was when somebody ended the erasure without proof, and close the certificate.

        :param states: how many persons were in which state.
        :param persons: the persons.
        :param at: the server's time of the last look; ``None`` if there was none.
        :param why: ``reason`` and ``decision``.
        """
        self._open().append_persons("state_changed", persons, key="end-", server_at=at, server=self._server)
        facts: Any = {**why, "server": self._server}
        self.leave(self._open().close("NOT_VERIFIED", states=states, server_at=at, **facts))

    def recorded_states(self) -> dict[str, str]:
        """Return the last recorded state of each person, by the HMAC of the UUID."""
        from airflow_provider_posthog.audit.verify import Story

        story = Story()
        for record in self._trail.records():
            story.take(record)
        return story.states

    def name_of(self, uuid: str) -> str:
        """Return what stands for a person.

        :param uuid: the person's.
        """
        return self._trail.pseudonyms.of("uuid", uuid)["hmac"]

    @property
    def closing(self) -> AuditRecord | None:
        """The closing record; ``None`` while it goes on."""
        return self._trail.find("closed")

    def noted(self, key: str, *notes: str) -> None:
        """Tell something else.

        :param key: tells notes apart.
        :param notes: what is to be told, without personal data.
        """
        self._open().append("note", key=key, notes=notes, server=self._server)

    def exported(self, key: str, note: str, at: str) -> None:
        """Tell that a person's data was handed out.

        :param key: tells records apart.
        :param note: how much of what, without personal data.
        :param at: the server's time up to which it is.
        """
        self._trail.append("exported", key=key, server_at=at, notes=[note], server=self._server)

    def close(self, outcome: Outcome, states: Mapping[str, int], at: str | None = None, *notes: str) -> None:
        """Write the closing record.

        :param outcome: how it ended.
        :param states: how many persons ended in which state.
        :param at: the server's time of the last look.
        :param notes: what else is to be told.
        """
        more: dict[str, Any] = {"notes": notes} if notes else {}
        self.leave(self._open().close(outcome, states=states, server_at=at, server=self._server, **more))

    @property
    def deadline(self) -> Deadline | None:
        """Until when the request has to be answered; ``None`` if nobody knows."""
        from airflow_provider_posthog.audit.deadline import Deadline

        record = self._trail.find("note", "extension") or self._trail.find("requested", "part-1")
        return Deadline.from_facts(record.facts.get("deadline")) if record else None

    def extended(self, deadline: Deadline, reason: str) -> None:
        """Tell that there is more time.

        :param deadline: the new one.
        :param reason: why.
        """
        facts = deadline.as_facts()
        self._open().append("note", key="extension", deadline=facts, reason=reason, server=self._server)
        self.ledger_head = self._ledger.enter("extended", self._trail.request_id, deadline=facts)

    def warned(self, today: date) -> str | None:
        """Tell, once, that the request is due soon, and once that it is over; return the warning for the log.

        :param today: the day.
        """
        deadline = self.deadline
        warning = deadline.warning(today) if deadline else None
        if warning and deadline and not self.is_closed:
            over = deadline.days_left(today) < 0
            says = "the time is over" if over else "it is due soon"
            notes = [f"{says}: {deadline.text()}"]
            self._open().append("note", key="overdue" if over else "due", notes=notes, server=self._server)
        return warning

    def _enter(self) -> None:
        """Enter the request in the ledger, once."""
        from airflow_provider_posthog.audit.deadline import Deadline

        done, first = self._trail.find("note", "ledger"), next(self._trail.records(), None)
        if done is not None:
            self.ledger_head = done.facts.get("head")
        elif first is not None:
            deadline = Deadline.from_facts(first.facts.get("deadline"))
            more: dict[str, Any] = {"deadline": deadline.as_facts()} if deadline else {}
            self.ledger_head = self._ledger.enter("begun", self._trail.request_id, head=first.hash, **more)
            notes = ["entered in the ledger"]
            self._open().append("note", key="ledger", head=self.ledger_head, notes=notes, server=self._server)

    def leave(self, closing: AuditRecord) -> None:
        """Tell the ledger how the request ended; an earlier try may have been killed before it did.

        :param closing: the closing record.
        """
        outcome = closing.facts["outcome"]
        self.ledger_head = self._ledger.enter("ended", self._trail.request_id, head=closing.hash, outcome=outcome)

    @property
    def is_closed(self) -> bool:
        """Whether nothing may follow."""
        return self._trail.is_closed


def open_certificate(
    hook: PostHogHook,
    path: str | ObjectStoragePath | None,
    conn_id: str | None,
    context: Mapping[str, Any],
    request_id: str,
    ticket: str | None,
) -> Certificate | None:
    """Return the certificate of a request; ``None`` if none is wanted.

    :param hook: whose connection has the salt.
    :param path: the folder of all certificates.
    :param conn_id: Airflow's connection for it.
    :param request_id: the request.
    :param ticket: what the request is called elsewhere.
    :raises PostHogSettingsError: if the connection has no ``audit_secret``, or ``POSTHOG_AUDIT_SIGNING_KEY`` holds no
        key; or if the certificate was begun with others.
    """
    if path is None or not str(path).strip():
        return None
    from airflow_provider_posthog.audit.chain import AuditTrail
    from airflow_provider_posthog.audit.ledger import Ledger
    from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
    from airflow_provider_posthog.audit.signing import signer_of_environment

    path = storage_path("audit_path", path, conn_id, example="s3://private/certificates/")
    pseudonyms = Pseudonyms(hook.audit_secret())
    who = _who(context, ticket)
    settings = hook.settings()
    server = {"host": settings.base_url, "project_id": settings.project_id}
    signer = signer_of_environment()
    trail = AuditTrail(path.path, path.fs, request_id, who, pseudonyms, signer=signer)
    trail.check_origin()
    return Certificate(trail, server, hook, Ledger(path.path, path.fs, who, pseudonyms, signer=signer))


def _who(context: Mapping[str, Any], ticket: str | None) -> Who:
    from airflow_provider_posthog.audit.records import Who

    ti = context.get("ti")
    index = getattr(ti, "map_index", None)
    return Who(
        dag_id=str(getattr(ti, "dag_id", "unknown")),
        run_id=str(getattr(ti, "run_id", "unknown")),
        task_id=str(getattr(ti, "task_id", "unknown")),
        try_number=getattr(ti, "try_number", None) or 1,
        map_index=-1 if index is None else index,
        ticket=ticket,
    )
