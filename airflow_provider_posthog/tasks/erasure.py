"""What the tasks of an erasure share: the work file in object storage, and arguments that are personal data."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.results.retention import Retention, look_if_possible
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.certificate import MAX_IDENTIFIERS
from airflow_provider_posthog.tasks.erasure_handover import Handover
from airflow_provider_posthog.tasks.log_lines import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.audit.deadline import Deadline
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.client import ErasureClient
    from airflow_provider_posthog.erasure.generation import Server
    from airflow_provider_posthog.erasure.identifiers import Identifier
    from airflow_provider_posthog.erasure.progress import Progress
    from airflow_provider_posthog.erasure.project import Project
    from airflow_provider_posthog.erasure.search import Search
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.tasks.certificate import Certificate

VerifyBy = Literal["distinct_id", "uuid"]
#: Up to so many persons are named in an XCom; beyond, only the work file names them.
MAX_NAMED = 1000


@dataclass(frozen=True)
class Resolution:
    """What a search came to.

    :param search: who was found.
    :param work: the work file.
    :param handover: the request.
    :param certificate: its certificate; ``None`` if none is wanted.
    :param retention: for how long PostHog shows events.
    """

    search: Search
    work: WorkFile
    handover: Handover
    certificate: Certificate | None
    retention: Mapping[str, Any]


class PeopleOperator(PostHogOperator):
    """What tasks about persons and groups share: their arguments may be personal data, and are shown nowhere.

    :param posthog_conn_id: the connection to PostHog.
    :param project_id: the project's number, in place of the connection's.
    """

    @cached_property
    def client(self) -> ErasureClient:
        """The client, whose errors name nobody; made when a task runs."""
        from airflow_provider_posthog.erasure.client import ErasureClient

        return ErasureClient(self.hook.client)

    def hidden(self, value: Any, context: Context) -> Any:  # noqa: ANN401 - as given
        """Render a template that Airflow must not: what it renders it stores and shows.

        :param value: the argument.
        """
        if value is None or not context:
            return value
        return self.render_template(value, context, self.get_template_env())


class ErasureArguments(PostHogArguments, total=False):
    """The arguments of :class:`PostHogErasureOperator`, for an editor and a type checker."""

    work_path: str | ObjectStoragePath | None
    object_storage_conn_id: str | None
    audit_path: str | ObjectStoragePath | None
    ticket: str | None
    moved_from: str | Sequence[str] | None


class PostHogErasureOperator(PeopleOperator):
    """What the tasks of an erasure share: the work file, and arguments that are personal data.

    :param work_path: the work file, as an ``ObjectStoragePath`` or text such as
        ``s3://private/erasures/{{ run_id }}.jsonl``.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param audit_path: the folder of certificates, in object storage; needs the connection's ``audit_secret``. Tasks
        pass it on, so you write it once.
    :param ticket: the request's own reference, such as ``DSR-42``; no name and no e-mail address.
    :param moved_from: earlier addresses of the same PostHog, such as ``https://posthog.example``, if its address has
        changed since an earlier task: tasks refuse to continue at another PostHog than before.
    :param posthog_conn_id: the connection to PostHog.
    :param project_id: the project's number, in place of the connection's.
    """

    #: Whether ``object_storage_conn_id`` is for a path of this task; the work file's then comes with the request.
    conn_is_for_path: ClassVar[bool] = False
    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "work_path",
        "object_storage_conn_id",
        "audit_path",
        "ticket",
    )

    def __init__(
        self,
        *,
        work_path: str | ObjectStoragePath | None = None,
        object_storage_conn_id: str | None = None,
        audit_path: str | ObjectStoragePath | None = None,
        ticket: str | None = None,
        moved_from: str | Sequence[str] | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.work_path = work_path
        self.moved_from = moved_from
        self.object_storage_conn_id = object_storage_conn_id
        self.audit_path = audit_path
        self.ticket = ticket

    @property
    def own(self) -> Handover:
        """Where this task's own arguments put the files of a request."""
        return Handover(self.work_path, self.object_storage_conn_id, self.audit_path, self.ticket)

    @property
    def project(self) -> Project:
        """Which PostHog and project this task asks."""
        from airflow_provider_posthog.erasure.project import Project

        return Project.of(self.hook.settings(), self.moved_from)

    def check_project(self, earlier: Mapping[str, Any], field: str) -> None:
        """Refuse to continue what was begun at another PostHog.

        :param earlier: what an earlier task returned, or the header of its work file.
        :param field: the argument that it came in, for the error.
        :raises PostHogSettingsError: if it is another one.
        """
        self.project.check(earlier, field)

    def handover_of(self, earlier: Mapping[str, Any], field: str) -> Handover:
        """Take over a request that an earlier task has begun.

        :param earlier: what that task returned.
        :param field: the argument that it came in, for errors.
        :raises PostHogSettingsError: if it is about another PostHog, or about another work file than this task's.
        """
        self.check_project(earlier, field)
        handover = self.own.of(earlier)
        if self.conn_is_for_path:
            handover = replace(handover, conn_id=earlier.get("object_storage_conn_id") or handover.conn_id)
        return handover

    def work_of(self, handover: Handover, field: str) -> WorkFile:
        """Return the work file of a request.

        :param handover: the request.
        :param field: the argument that it came in, for errors.
        :raises PostHogSettingsError: if it is not there, or is another request's, or another PostHog's.
        """
        work = handover.work(field)
        self.check_project(vars(work.header()), field)
        return work

    def ledger_head(self, certificate: Certificate | None) -> str | None:
        """Return the ledger's newest entry, by which somebody who cuts the end off is found out; and log it.

        :param certificate: what this task has written on.
        """
        head = certificate.ledger_head if certificate else None
        if head:
            self.log.info("The head of the ledger of all erasures is %s", head)
        return head

    def deadline(self, resolved_at: str) -> Deadline:
        """Return until when the request has to be answered.

        :param resolved_at: when the persons were searched for, from which it counts if nobody told more.
        """
        from airflow_provider_posthog.audit.deadline import Deadline, today

        return Deadline.of(None, today(moment(resolved_at)))

    def search(
        self,
        identifiers: Iterator[Identifier],
        asked: str,
        server: Server,
        context: Context,
        *,
        max_persons: int,
        verify_by: VerifyBy,
        must_find_all: bool,
    ) -> Resolution:
        """Find everybody behind identifiers, into the work file.

        :param identifiers: the identifiers.
        :param asked: stands for what was asked for.
        :param server: the server.
        :param max_persons: the most persons there may be.
        :param verify_by: ``distinct_id`` or ``uuid``.
        :param must_find_all: fail if an identifier matches no person.
        """
        from airflow_provider_posthog.erasure.search import Limits, new_header, search

        self._refuse_to_replace(self.own.file())
        work = self.own.file()  # which has not read the header of the one that is replaced
        header = new_header(server, asked, self.project, verify_by)
        limits = Limits(max_persons, MAX_NAMED, must_find_all)
        handover = replace(self.own, request_id=header.request_id)
        certificate = handover.certificate(self.hook, context)
        retention = self._retention(certificate)
        seen: list[Identifier] = []
        searched = search(self.client, _kept(identifiers, seen), work.fs, work.path, header, server, limits)
        deadline = self.deadline(header.resolved_at)
        if certificate is not None:
            certificate.requested(work, seen, searched.not_found.identifiers, deadline)
        self._tell(searched)
        due = {name: deadline.as_facts().get(name) for name in handover.due}
        return Resolution(searched, work, replace(handover, due=due), certificate, retention.as_json())

    def _retention(self, certificate: Certificate | None) -> Retention:
        """Note which events PostHog hides from the search."""
        retention = self.client.run(look_if_possible(self.hook.settings().project_id))
        if certificate is not None:
            certificate.saw(retention.as_json())
        if retention.not_looked_at:
            self.log.warning("%s", retention.not_looked_at)
        return retention

    def survivors(self, work: WorkFile, request: Mapping[str, Any], proof: object) -> set[int]:
        """Return who is not ``VERIFIED``, as numbers: as the proof says, and the folder of the request names.

        :param work: the work file.
        :param request: what an earlier task returned.
        :param proof: what ``PostHogPersonsErasedSensor`` returned.
        :raises PostHogSettingsError: if it proves nobody of this request, or is not the last proof.
        """
        stored = proof if isinstance(proof, Mapping) else {}
        states = stored.get("states") or {}
        if stored.get("request_id") != request.get("request_id") or not states.get("VERIFIED"):
            raise PostHogSettingsError(
                "proof", "proves nobody of this request.", "Write what PostHogPersonsErasedSensor returned."
            )
        self.check_project(stored, "proof")
        if stored.get("state") == "VERIFIED":
            return set()
        unverified = {uuid.UUID(text).int for text in self.progress(work).unverified}
        if not unverified or len(unverified) != sum(int(n) for state, n in states.items() if state != "VERIFIED"):
            raise PostHogSettingsError("proof", "is not the last one.", "Clear the sensor, and what follows it.")
        return unverified

    def progress(self, work: WorkFile) -> Progress:
        """Return how far the deletion of a work file's persons is.

        :param work: the file.
        """
        from airflow_provider_posthog.erasure.progress import Progress

        return Progress(work.fs, f"{work.path}.progress", work.header().request_id)

    def _refuse_to_replace(self, work: WorkFile) -> None:
        """Keep the file of an erasure that goes on: nobody could say any more which distinct ids to look for."""
        if not work.exists():
            return
        progress = self.progress(work)
        if progress.has_begun and progress.verified is None:
            raise PostHogSettingsError(
                "work_path",
                f"{work.path} belongs to an erasure that has begun and is not proved yet.",
                "Write another path for each request, such as one with {{ run_id }} in it.",
            )

    def _tell(self, search: Search) -> None:
        totals = search.totals
        lost = search.not_found.as_json()["count"]
        self.concludes(
            "Found %s%s, with %s, %s and %s%s%s",
            counted(totals.profiles, "person"),
            f", and {totals.personless:,} without a profile" if totals.personless else "",
            counted(totals.distinct_ids, "distinct id"),
            counted(totals.events, "event"),
            counted(totals.recordings, "recording"),
            f". {totals.others:,} of the distinct ids were merged with those asked for" if totals.others else "",
            f". {counted(lost, 'identifier')} {'matches' if lost == 1 else 'match'} no person" if lost else "",
        )
        if totals.future_events:
            self.log.warning("%d events are dated in the future: PostHog's deletion leaves them", totals.future_events)
        if totals.personless:
            self.log.warning("%d have events but no profile: PostHog can only delete persons", totals.personless)


def _kept(identifiers: Iterator[Identifier], seen: list[Identifier]) -> Iterator[Identifier]:
    """Keep the first identifiers for the certificate, while they go by."""
    for identifier in identifiers:
        if len(seen) < MAX_IDENTIFIERS:
            seen.append(identifier)
        yield identifier
