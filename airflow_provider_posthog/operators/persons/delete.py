"""Erasing persons: find them, and ask for their deletion. ``sensors.persons`` proves that they are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_posthog.audit.claims import left_on_purpose
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.tasks.certificate_facts import places
from airflow_provider_posthog.tasks.erasure import PostHogErasureOperator, VerifyBy
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lists import check_choice, flag_of
from airflow_provider_posthog.tasks.log_lines import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.delete import DeleteOptions
    from airflow_provider_posthog.erasure.generation import Server
    from airflow_provider_posthog.erasure.progress import Done, Progress
    from airflow_provider_posthog.erasure.request import Outcome
    from airflow_provider_posthog.erasure.work_file import Totals, WorkFile
    from airflow_provider_posthog.tasks.certificate import Certificate
    from airflow_provider_posthog.tasks.erasure import ErasureArguments
    from airflow_provider_posthog.tasks.erasure_handover import Handover


class PostHogDeletePersonsOperator(PostHogErasureOperator):
    """Asks PostHog to delete persons, each of them once, whatever happens to the worker meanwhile.

    Events and recordings are asked for first, while the profile is kept, where the server supports it (this is
    detected, not assumed); then the profile. Failed deletions are requested again, and whoever still fails is named.
    PostHog's answer proves nothing: :class:`~airflow_provider_posthog.sensors.persons.PostHogPersonsErasedSensor` does.
    A retry continues where the last try stopped.

    .. code-block:: python

        PostHogDeletePersonsOperator(task_id="delete", persons=resolve.output, approval=approve.output)

    :param persons: what ``PostHogResolvePersonsOperator`` returned; or person UUIDs, which are resolved first.
    :param delete_events: delete the events; PostHog does that at one of the next two weekends.
    :param delete_recordings: delete the session recordings.
    :param keep_person: keep the profile, with its properties. Refused on servers that would delete it.
    :param preview: only say what would be done; may be a template.
    :param max_persons: the most persons there may be; more are an error.
    :param chunk_size: how many persons PostHog is asked to delete at once; older servers take fewer, which is learned.
    :param work_path: the work file; needed for UUIDs, otherwise the resolving task has named it.
    :param verify_by: for UUIDs, as in ``PostHogResolvePersonsOperator``.
    :param approval: what the approving task returned: Airflow's ``ApprovalOperator``, or
        :class:`~airflow_provider_posthog.operators.erasure.PostHogErasureGateOperator`. The certificate then records
        who that was, by Airflow's id of the user.
    :param kwargs: as :class:`PostHogErasureOperator`.
    :returns: ``request_id``, ``host`` and ``project_id`` (of the PostHog that was asked), ``work_path``,
        ``object_storage_conn_id``, ``verify_by``, ``preview``; ``requested_at`` and ``accepted_at`` (the server's
        time); ``generation`` (A, B, C); ``delete_events``, ``delete_recordings``, ``keep_person``; the numbers
        ``persons``, ``accepted``, ``personless``, ``missing`` (gone before), ``swallowed`` (their events were asked for
        before, so PostHog queued nothing), and ``events``, ``future_events``, ``recordings`` before the deletion;
        ``asked_before`` (how many; null if there are too many to look up). No UUID: whoever knows a distinct id can
        calculate it.
    :raises PostHogErasureError: if somebody could not be deleted (state PARTIAL), or nobody is found, or too many.
    :raises PostHogSettingsError: if an argument is wrong, or this server would do something else.
    """

    template_fields: Sequence[str] = (*PostHogErasureOperator.template_fields, "persons", "preview", "approval")

    def __init__(
        self,
        *,
        persons: Mapping[str, Any] | Sequence[str],
        delete_events: bool = True,
        delete_recordings: bool = True,
        keep_person: bool = False,
        preview: bool | str = False,
        max_persons: int = 1000,
        chunk_size: int = 1000,
        verify_by: VerifyBy = "distinct_id",
        approval: Mapping[str, Any] | None = None,
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.persons = persons
        self.delete_events = delete_events
        self.delete_recordings = delete_recordings
        self.keep_person = keep_person
        self.preview = preview
        self.max_persons = max_persons
        self.chunk_size = chunk_size
        check_choice("verify_by", verify_by, get_args(VerifyBy))
        self.verify_by = verify_by
        self.approval = approval

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask for the deletion."""
        from airflow_provider_posthog.erasure.generation import detect

        preview, options = flag_of("preview", self.preview), self._options()
        persons = self.persons
        known = self._known(persons) if isinstance(persons, Mapping) else None
        (known[0] if known else self.own).check_certificate(self.hook, context)
        server = detect(self.client)
        options.check(server, 0)
        handover, work = known or self._search(() if isinstance(persons, Mapping) else persons, server, context)
        certificate = handover.certificate(self.hook, context)
        progress = self.progress(work)
        if not progress.has_begun:
            self._renew(work, server, certificate)
        totals = work.totals()
        self._check_count(totals)
        options.check(server, totals.recordings)
        earlier = self._asked_before(work, progress, server)
        self._announce(certificate, totals, options, work.header().verify_by, preview=preview)
        about = self._about(handover, work, totals, options)
        if preview:
            done = self._previewed(work, totals, server, options, earlier)
            return {**about, **done, "ledger_head": self.ledger_head(certificate)}
        outcome = self._certified(work, progress, options, server, certificate, context)
        return {
            **about,
            "ledger_head": self.ledger_head(certificate),
            "preview": False,
            "generation": outcome.generation or server.generation,
            "requested_at": outcome.requested_at or server.now.isoformat(),
            "accepted_at": outcome.accepted_at or server.now.isoformat(),
            "accepted": outcome.persons - outcome.missing,
            "missing": outcome.missing,
            "swallowed": outcome.swallowed,
            "asked_before": earlier,
        }

    def _announce(
        self, certificate: Certificate | None, totals: Totals, options: DeleteOptions, verify_by: str, *, preview: bool
    ) -> None:
        """Say what will be left on purpose, and tell the certificate what is about to be done."""
        stated = {**self._stated(options), "verify_by": verify_by}
        for left in left_on_purpose(stated):
            self.log.warning("Left on purpose: %s", left)
        if certificate is not None:
            certificate.planned(totals, stated, preview=preview)
            if isinstance(self.approval, Mapping):
                certificate.noted("approved", _approved(self.approval))

    def _options(self) -> DeleteOptions:
        from airflow_provider_posthog.api.persons import MAX_BULK_DELETE
        from airflow_provider_posthog.erasure.delete import DeleteOptions

        if not 1 <= self.chunk_size <= MAX_BULK_DELETE:
            raise PostHogSettingsError("chunk_size", "is not from 1 to 1,000.", "Leave it out, or write such a number.")
        return DeleteOptions(self.delete_events, self.delete_recordings, self.keep_person)

    def _known(self, persons: Mapping[str, Any]) -> tuple[Handover, WorkFile]:
        """Return the request that an earlier task has begun."""
        handover = self.handover_of(persons, "persons")
        return handover, self.work_of(handover, "persons")

    def _search(self, persons: Sequence[str], server: Server, context: Context) -> tuple[Handover, WorkFile]:
        """Write the work file of persons of whom only UUIDs were given."""
        from airflow_provider_posthog.erasure.identifiers import from_arguments
        from airflow_provider_posthog.erasure.work_file import digest_of

        uuids = [*from_arguments(uuids=persons)]
        if not uuids:
            raise PostHogSettingsError("persons", "is empty.", "Write what PostHogResolvePersonsOperator returned.")
        # A later try of this task may go on with the file; another run is another request for the same persons.
        asked = digest_of([Identity.of(context).owner, *sorted({identifier.value for identifier in uuids})])
        work = self.own.file()
        if work.exists() and work.header().asked == asked:
            self.check_project(vars(work.header()), "work_path")
            return replace(self.own, request_id=work.header().request_id), work
        search = self.search(
            iter(uuids),
            asked,
            server,
            context,
            max_persons=self.max_persons,
            verify_by=self.verify_by,
            must_find_all=True,
        )
        return search.handover, search.work

    def _renew(self, work: WorkFile, server: Server, certificate: Certificate | None) -> None:
        """Look again at who it is about: days may have passed since they were resolved and approved."""
        from airflow_provider_posthog.erasure.renew import renew

        after = renew(self.client, work, server)
        if not after.added and not after.gone:
            return
        text = (
            f"since they were resolved, {after.added} distinct ids were added to these persons, and {after.gone} "
            "persons are gone"
        )
        self.log.warning("%s", text)
        if certificate is not None:
            certificate.noted("renewed", text)

    def _check_count(self, totals: Totals) -> None:
        """Make sure that nobody has fallen out of the work file, and that there are not too many."""
        count = self.persons.get("persons") if isinstance(self.persons, Mapping) else None
        if isinstance(count, int) and count != totals.persons:
            raise PostHogSettingsError(
                "persons", f"names {count} persons, and its work file {totals.persons}.", "Resolve again."
            )
        if totals.persons > self.max_persons:
            raise PostHogErasureError(
                f"There are {totals.persons:,} persons, and max_persons is {self.max_persons:,}. Nothing was deleted."
            )

    def _asked_before(self, work: WorkFile, progress: Progress, server: Server) -> int | None:
        """Return for how many events were asked for before this request: PostHog will queue nothing for them."""
        from airflow_provider_posthog.erasure.request import asked_earlier

        if not self.delete_events or progress.has_begun:
            return None
        rows = asked_earlier(self.client, work, server)
        if rows:
            self.log.warning(
                "The deletion of the events of %d persons was asked for before (%s): PostHog queues no second one, and "
                "newer events stay",
                len(rows),
                places(work, rows),
            )
        return None if rows is None else len(rows)

    def _stated(self, options: DeleteOptions) -> dict[str, bool]:
        return {
            "delete_events": options.events,
            "delete_recordings": options.recordings,
            "keep_person": options.keep_person,
        }

    def _about(self, handover: Handover, work: WorkFile, totals: Totals, options: DeleteOptions) -> dict[str, Any]:
        return {
            **handover.as_json(),
            **self.project.as_json(),
            "verify_by": work.header().verify_by,
            **self._stated(options),
            **totals.as_json(),
        }

    def _previewed(
        self, work: WorkFile, totals: Totals, server: Server, options: DeleteOptions, earlier: int | None
    ) -> dict[str, Any]:
        from airflow_provider_posthog.erasure.request import chunks

        in_chunks = sum(1 for _ in chunks(work, self.chunk_size))
        calls = in_chunks * (2 if server.can_keep_persons and not options.keep_person else 1)
        self.concludes(
            "Preview: %d persons would be deleted in %d calls, with %d events and %d recordings; %d have no profile, "
            "and cannot be",
            totals.profiles,
            calls,
            totals.events if options.events else 0,
            totals.recordings if options.recordings else 0,
            totals.personless,
        )
        return {
            "preview": True,
            "generation": server.generation,
            "requested_at": None,
            "accepted_at": None,
            "accepted": 0,
            "missing": 0,
            "swallowed": 0,
            "asked_before": earlier,
            "calls": calls,
        }

    def _certified(
        self,
        work: WorkFile,
        progress: Progress,
        options: DeleteOptions,
        server: Server,
        certificate: Certificate | None,
        context: Context,
    ) -> Outcome:
        """Delete, and tell the certificate how it went."""
        name = f"{getattr(context.get('ti'), 'task_id', 'delete')}-{Identity.of(context).execution}"
        try:
            outcome = self._delete(work, progress, options, server, certificate)
        except Exception as error:
            if certificate is not None:
                certificate.failed(name, error, self.client.calls)
            raise
        if certificate is not None:
            certificate.called(name, self.client.calls)
        return outcome

    def _delete(
        self,
        work: WorkFile,
        progress: Progress,
        options: DeleteOptions,
        server: Server,
        certificate: Certificate | None,
    ) -> Outcome:
        from airflow_provider_posthog.erasure.request import delete_all

        def report(key: str, uuids: list[str], done: Done) -> None:
            if certificate is not None:
                certificate.accepted(key, uuids, done)
            self.log.info(
                "PostHog accepted the deletion of %s (%d refused, %d already gone, %d ignored as asked for before)",
                counted(done.persons, "person"),
                len(done.failed),
                len(done.missing),
                len(done.swallowed),
            )

        outcome = delete_all(self.client, work, progress, options, server, chunk_size=self.chunk_size, report=report)
        if outcome.swallowed:
            self.log.warning(
                "SWALLOWED: PostHog queued no deletion of events for %d persons, since one was asked for before (%s)",
                outcome.swallowed,
                places(work, outcome.swallowed_uuids),
            )
        if outcome.failed:
            failures = sorted(outcome.failures.items())
            named = "; ".join(f"{places(work, [uuid])}: {_explained(why)}" for uuid, why in failures)
            raise PostHogErasureError(
                f"PARTIAL: {outcome.failed} of {outcome.persons} persons could not be deleted. A retry of the task "
                f"asks for them again. {named}",
                job_id=work.header().request_id,
                states={"PARTIAL": outcome.failed, "REQUESTED": outcome.persons - outcome.failed},
            )
        return outcome


def _approved(approval: Mapping[str, Any]) -> str:
    """Tell who has approved, from what Airflow's ``ApprovalOperator`` or our gate returned."""
    user = approval.get("responded_by_user")
    who = f"Airflow's user {user.get('id')}" if isinstance(user, Mapping) and user.get("id") else "nobody"
    if param := approval.get("param"):
        return f"approved by the run's parameter {param!r}; the run was started by {who}"
    if who == "nobody":
        return "approved by no person: its time was over, and approval the answer for that case"
    return f"approved by {who} at {approval.get('responded_at')}"


def _explained(why: str) -> str:
    from airflow_provider_posthog.erasure.delete import ORPHANED

    if why == ORPHANED:
        return (
            "the profile is gone, but the server failed before it queued the deletion of the events, and cannot be "
            "asked again: ask PostHog's support"
        )
    return why
