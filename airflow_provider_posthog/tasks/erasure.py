"""What the tasks of an erasure share: the work file in object storage, and arguments that are personal data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.results.retention import look_if_possible
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.certificate import MAX_IDENTIFIERS, open_certificate
from airflow_provider_posthog.tasks.storage_path import is_bucket, storage_path

if TYPE_CHECKING:
    from airflow_provider_posthog.audit.deadline import Deadline
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.erasure.client import ErasureClient
    from airflow_provider_posthog.erasure.generation import Server
    from airflow_provider_posthog.erasure.identifiers import Identifier
    from airflow_provider_posthog.erasure.place import Place
    from airflow_provider_posthog.erasure.progress import Progress
    from airflow_provider_posthog.erasure.search import Search
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.tasks.certificate import Certificate

VerifyBy = Literal["distinct_id", "uuid"]
#: Up to so many persons are named in an XCom; beyond, only the work file names them.
MAX_NAMED = 1000


class PeopleOperator(PostHogOperator):
    """What tasks about persons and groups share: what they ask is shown nowhere, as arguments may be personal data.

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
        :param context: the task's context.
        """
        if value is None or not context:
            return value
        return self.render_template(value, context, self.get_template_env())


class PostHogErasureOperator(PeopleOperator):
    """What the tasks of an erasure share: the work file, and arguments that are personal data.

    :param work_path: the work file, as an ``ObjectStoragePath`` or text such as
        ``s3://private/erasures/{{ run_id }}.jsonl``.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param audit_path: the folder of certificates, in object storage; needs the connection's ``audit_salt``. Tasks hand
        it on, so that it has to be written once.
    :param ticket: what the request is called where it was made, such as ``DSR-42``; no name and no e-mail address.
    :param moved_from: earlier addresses of the same PostHog, such as ``https://posthog.example``, where its address has
        changed since an earlier task: tasks refuse to go on at another PostHog than the one that was asked before.
    :param posthog_conn_id: the connection to PostHog.
    :param project_id: the project's number, in place of the connection's.
    """

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
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.work_path = work_path
        self.moved_from = moved_from
        self.object_storage_conn_id = object_storage_conn_id
        self.audit_path = audit_path
        self.ticket = ticket
        self.retention: dict[str, Any] = {}
        self._certificate: Certificate | None = None
        self._due: dict[str, Any] = {"received_at": None, "due_at": None}

    def certificate(self, context: Context, request_id: str) -> Certificate | None:
        """Return the certificate of a request; ``None`` if none is wanted.

        :param context: the task's context.
        :param request_id: the request.
        """
        self._certificate = open_certificate(
            self.hook, self.audit_path, self.object_storage_conn_id, context, request_id, self.ticket
        )
        return self._certificate

    @property
    def place(self) -> Place:
        """Which PostHog and project this task asks."""
        from airflow_provider_posthog.erasure.place import Place

        return Place.of(self.hook.settings(), self.moved_from)

    def check_place(self, earlier: Mapping[str, Any], field: str) -> None:
        """Refuse to go on with what was done at another PostHog.

        :param earlier: what an earlier task returned, or the header of its work file.
        :param field: the argument that it came in, for the error.
        :raises PostHogSettingsError: if it is another one.
        """
        self.place.check(earlier, field)

    def certified(self) -> dict[str, Any]:
        """Return what the next tasks need for the certificate, and what is to be kept outside of it."""
        path = str(self.audit_path) if self.audit_path else None
        return {"audit_path": path, "ticket": self.ticket, **self._due, "ledger_head": self.ledger_head()}

    def ledger_head(self) -> str | None:
        """Return the ledger's newest entry, by which somebody who cuts the end off is found out; and log it."""
        head = self._certificate.ledger_head if self._certificate else None
        if head:
            self.log.info("The head of the ledger of all erasures is %s", head)
        return head

    def deadline(self, resolved_at: str) -> Deadline:
        """Return until when the request has to be answered.

        :param resolved_at: when the persons were searched for, from which it counts if nobody told more.
        """
        from airflow_provider_posthog.audit.deadline import Deadline, today

        return Deadline.of(None, today(moment(resolved_at)))

    def storage(self, path: str | ObjectStoragePath, field: str = "work_path") -> ObjectStoragePath:
        """Return a path with the file system behind it.

        :param path: the path.
        :param field: the argument that it came in, for errors.
        :raises PostHogSettingsError: if it leads elsewhere.
        """
        return storage_path(
            field, path, self.object_storage_conn_id, example="s3://private/erasures/{{ run_id }}.jsonl"
        )

    def work_target(self) -> ObjectStoragePath:
        """Return the work file's path.

        :raises PostHogSettingsError: if none was given.
        """
        text = str(self.work_path or "").strip()
        if not text or text.endswith("/") or is_bucket(text):
            raise PostHogSettingsError(
                "work_path",
                "names no file.",
                "Write one in object storage that few may read, such as 's3://private/erasures/{{ run_id }}.jsonl': it "
                "keeps the distinct ids, which cannot be asked for once the profiles are gone, until the erasure is "
                "proved. verify_by='uuid' keeps them out of it, and proves less.",
            )
        return self.storage(self.work_path or "")

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
    ) -> Search:
        """Find everybody behind identifiers, into the work file.

        :param identifiers: the identifiers.
        :param asked: stands for what was asked for.
        :param server: the server.
        :param context: the task's context.
        :param max_persons: the most persons there may be.
        :param verify_by: ``distinct_id`` or ``uuid``.
        :param must_find_all: fail if an identifier leads to nobody.
        """
        from airflow_provider_posthog.erasure.search import Limits, new_header, search
        from airflow_provider_posthog.erasure.work_file import WorkFile

        target = self.work_target()
        self._refuse_to_replace(WorkFile(target.fs, target.path))
        header = new_header(server, asked, self.place, verify_by)
        limits = Limits(max_persons, MAX_NAMED, must_find_all)
        certificate = self.certificate(context, header.request_id)
        self._look_at_retention(certificate)
        seen: list[Identifier] = []
        found = search(self.client, _kept(identifiers, seen), target.fs, target.path, header, server, limits)
        deadline = self.deadline(header.resolved_at)
        self._due = {name: deadline.as_facts().get(name) for name in self._due}
        if certificate is not None:
            certificate.requested(WorkFile(target.fs, target.path), seen, found.not_found.identifiers, deadline)
        self._tell(found)
        return found

    def _look_at_retention(self, certificate: Certificate | None) -> None:
        """Note which events PostHog hides from the search."""
        retention = self.client.run(look_if_possible(self.hook.settings().project_id))
        self.retention = retention.as_json()
        if certificate is not None:
            certificate.saw(self.retention)
        if retention.not_looked_at:
            self.log.warning("%s", retention.not_looked_at)

    def progress(self, work: WorkFile) -> Progress:
        """Return how far the deletion of a work file's persons is.

        :param work: the file.
        """
        from airflow_provider_posthog.erasure.progress import Progress

        return Progress(work.fs, f"{work.path}.progress", work.header().request_id)

    def handed_on(self, persons: Mapping[str, Any]) -> WorkFile:
        """Return the work file that a task handed on.

        :param persons: what the task returned.
        :raises PostHogSettingsError: if it names none, or one that is another request's by now.
        """
        self.check_place(persons, "persons")
        work = work_of(persons, self.object_storage_conn_id)
        self.check_place(vars(work.header()), "persons")
        self.take_work_path(persons)
        self.object_storage_conn_id = self.object_storage_conn_id or persons.get("object_storage_conn_id")
        self.audit_path = self.audit_path or persons.get("audit_path")
        self.ticket = self.ticket or persons.get("ticket")
        self._due = {name: persons.get(name) for name in self._due}
        return work

    def take_work_path(self, handed_on: Mapping[str, Any]) -> None:
        """Use the work file that an earlier task has named.

        :param handed_on: what that task returned.
        :raises PostHogSettingsError: if this task was told another one.
        """
        path = handed_on.get("work_path")
        if self.work_path is not None and str(self.work_path) != str(path):
            raise PostHogSettingsError(
                "work_path", "is not the work file of the task before.", "Leave it out: that task names it."
            )
        self.work_path = path

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

    def _tell(self, found: Search) -> None:
        totals = found.totals
        self.log.info(
            "Found %d persons, and %d without a profile: %d events, %d recordings; %d distinct ids, %d of them merged "
            "with those asked for; %d identifiers lead to nobody",
            totals.profiles,
            totals.personless,
            totals.events,
            totals.recordings,
            totals.distinct_ids,
            totals.others,
            found.not_found.as_json()["count"],
        )
        if totals.future_events:
            self.log.warning("%d events are dated in the future: PostHog's deletion leaves them", totals.future_events)
        if totals.personless:
            self.log.warning("%d have events but no profile: PostHog can only delete persons", totals.personless)


def work_of(persons: Mapping[str, Any], conn_id: str | None) -> WorkFile:
    """Return the work file that a task handed on.

    :param persons: what the task returned.
    :param conn_id: Airflow's connection for it; by default the one that the task names.
    :raises PostHogSettingsError: if it names none, or one that is another request's by now.
    """
    from airflow_provider_posthog.erasure.work_file import WorkFile

    path = str(persons.get("work_path") or "")
    if not path.strip() or path.endswith("/"):
        raise PostHogSettingsError(
            "persons", "has no work_path.", "Write what PostHogResolvePersonsOperator returned, or person UUIDs."
        )
    conn_id = conn_id or persons.get("object_storage_conn_id")
    target = storage_path("persons", path, conn_id, example="s3://private/erasures/{{ run_id }}.jsonl")
    work = WorkFile(target.fs, target.path)
    if work.header().request_id != persons.get("request_id"):
        raise PostHogSettingsError(
            "persons", f"{path} was written anew for another request since.", "Write a path for each request."
        )
    return work


def check_verify_by(verify_by: str) -> None:
    """Refuse a word that is not known.

    :param verify_by: the argument.
    :raises PostHogSettingsError: naming it.
    """
    if verify_by not in ("distinct_id", "uuid"):
        raise PostHogSettingsError("verify_by", "is not known.", "Write 'distinct_id' or 'uuid'.")


def _kept(identifiers: Iterator[Identifier], seen: list[Identifier]) -> Iterator[Identifier]:
    """Keep the first identifiers for the certificate, while they go by."""
    for one in identifiers:
        if len(seen) < MAX_IDENTIFIERS:
            seen.append(one)
        yield one
