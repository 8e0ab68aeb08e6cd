"""What the tasks share that erase the same persons outside PostHog: whose rows to delete, and which column says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import AirflowSkipException
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.erasure import ErasureArguments, PostHogErasureOperator
from airflow_provider_posthog.tasks.erasure_handover import Handover

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.erasure.work_file import Person, WorkFile

_COLUMNS = ("distinct_id_column", "person_id_column", "email_column")


@dataclass(frozen=True)
class Column:
    """A column that says whose row it is.

    :param name: its name.
    :param any_case: whether capitals are the same, as in UUIDs and addresses.
    :param kind: ``distinct_id``, ``person_id`` or ``email``.
    """

    name: str
    any_case: bool
    kind: str


class EraseElsewhereArguments(ErasureArguments, total=False):
    """The arguments of :class:`EraseElsewhereOperator`, for an editor and a type checker."""

    request: Mapping[str, Any]
    proof: Mapping[str, Any] | None
    distinct_id_column: str | None
    person_id_column: str | None
    email_column: str | None
    identifiers_path: str | ObjectStoragePath | None


class EraseElsewhereOperator(PostHogErasureOperator):
    """Erases the persons of an erasure outside PostHog. Subclasses say where.

    :param request: what ``PostHogDeletePersonsOperator`` returned (``PostHogResolvePersonsOperator``'s will do).
    :param proof: what ``PostHogPersonsErasedSensor`` returned; then only rows of persons who are ``VERIFIED`` are
        deleted, even if the proof is ``PARTIAL``, and both numbers are reported. Without it the rows of everybody in
        the work file are.
    :param distinct_id_column: the column with distinct ids; compared as it is written.
    :param person_id_column: the column with person UUIDs, as text (in any case, with dashes or without) or ``uuid``.
        Rows under the UUID that a person had before a merge are deleted too. For a table of events this column is not
        enough, as an event may carry any UUID.
    :param email_column: a column with e-mail addresses, compared in any case. Needs ``identifiers_path``.
    :param identifiers_path: the file of the request, as ``PostHogResolvePersonsOperator`` takes it, for its addresses;
        the work file has none. Distinct ids that are addresses are also searched.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure.PostHogErasureOperator`.
    """

    template_fields: Sequence[str] = (
        *PostHogErasureOperator.template_fields,
        *("request", "proof", "identifiers_path"),
        *("distinct_id_column", "person_id_column", "email_column"),
    )

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        proof: Mapping[str, Any] | None = None,
        distinct_id_column: str | None = None,
        person_id_column: str | None = None,
        email_column: str | None = None,
        identifiers_path: str | ObjectStoragePath | None = None,
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.proof = proof
        self.distinct_id_column = distinct_id_column
        self.person_id_column = person_id_column
        self.email_column = email_column
        self.identifiers_path = identifiers_path
        self._not_verified: set[int] = set()
        self._others: set[int] = set()
        #: The request, once :meth:`whose` has checked it.
        self.handover = Handover()
        #: How many persons' rows are to go, and how many persons' are not, as they are not ``VERIFIED``.
        self.persons = self.left_out = 0

    @property
    def columns(self) -> list[Column]:
        """The columns that say whose row it is."""
        given = [(getattr(self, field), field) for field in _COLUMNS]
        return [
            Column(name, field != "distinct_id_column", field.removesuffix("_column")) for name, field in given if name
        ]

    def whose(self) -> WorkFile:
        """Check whose rows are to go, before anything is changed.

        :raises PostHogSettingsError: if an argument is wrong, the work file has no distinct ids to look for, or the
            proof is another request's or not the last one.
        """
        if not isinstance(self.request, Mapping):
            raise PostHogSettingsError("request", "is none.", "Write what PostHogDeletePersonsOperator returned.")
        if self.request.get("preview") is True:
            raise AirflowSkipException("It was a preview: nothing is erased.")
        self._check_columns()
        self.handover = self.handover_of(self.request, "request")
        work = self.work_of(self.handover, "request")
        named = work.header().verify_by != "uuid"
        if self.distinct_id_column and not named:
            raise PostHogSettingsError(
                "distinct_id_column",
                "needs distinct ids, and verify_by='uuid' kept them out of the work file.",
                "Resolve the persons with verify_by='distinct_id', or name person_id_column only.",
            )
        if self.proof is not None:
            self._not_verified = self.survivors(work, self.request, self.proof)
        self._count(work)
        if self.email_column and self.left_out:
            raise PostHogSettingsError(
                "email_column",
                f"cannot be used while {self.left_out} persons are not VERIFIED: nobody can say whose an address is.",
                "Erase by distinct_id_column, and by address once everybody is VERIFIED.",
            )
        if self.person_id_column and named:
            self._others = self._somebody_else(work)
        elif self.person_id_column:
            self.log.warning("The work file has no distinct ids: rows under UUIDs from before a merge are not found")
        return work

    def values(self, work: WorkFile, column: Column) -> Iterator[str]:
        """Yield what a column holds in rows that are to go; a value may come twice.

        :param work: the work file.
        :param column: the column.
        """
        from airflow_provider_posthog.erasure.addresses import spellings

        if column.kind == "email":
            yield from (text for address in self._addresses() for text in spellings(address))
        for person in self._erased(work):
            if column.kind == "distinct_id":
                yield from person.distinct_ids
            elif column.kind == "person_id":
                yield person.uuid
                yield from (
                    former_uuid
                    for former_uuid in self._former(person)
                    if uuid.UUID(former_uuid).int not in self._others
                )
            else:
                yield from (text for name in person.distinct_ids if "@" in name for text in spellings(name))

    def spelt(self, work: WorkFile, column: Column) -> Iterator[str]:
        """Yield the same, and how others than PostHog may write it: UUIDs without dashes.

        :param work: the work file.
        :param column: the column.
        """
        for value in self.values(work, column):
            yield value
            if column.kind == "person_id":
                yield value.replace("-", "")

    def describe(self) -> str:
        """Say for how many persons it was done, for a log or a certificate."""
        text = f"of {self.persons:,} {'person' if self.persons == 1 else 'persons'}"
        if not self.left_out:
            return text
        return f"{text} (not of {self.left_out:,} more, who {'is' if self.left_out == 1 else 'are'} not VERIFIED)"

    def _check_columns(self) -> None:
        if not self.columns:
            raise PostHogSettingsError(
                "distinct_id_column",
                "is empty, and so are person_id_column and email_column.",
                "Name the column that says whose row it is.",
            )
        for field in _COLUMNS:
            value = getattr(self, field)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise PostHogSettingsError(field, "is not a column's name.", "Write one, or leave it out.")
        if self.email_column and not self.identifiers_path:
            raise PostHogSettingsError(
                "email_column",
                "needs identifiers_path: the work file keeps no addresses.",
                "Name the request's file, as for PostHogResolvePersonsOperator.",
            )

    def _addresses(self) -> Iterator[str]:
        from airflow_provider_posthog.erasure.identifiers import from_file

        file = self.handover.storage(self.identifiers_path or "", "identifiers_path", self.object_storage_conn_id)
        yield from (identifier.value for identifier in from_file(file.fs, file.path) if identifier.kind == "email")

    def _erased(self, work: WorkFile) -> Iterator[Person]:
        return (person for person in work.persons() if uuid.UUID(person.uuid).int not in self._not_verified)

    def _count(self, work: WorkFile) -> None:
        self.persons = sum(1 for _ in self._erased(work))
        self.left_out = work.totals().persons - self.persons

    def _former(self, person: Person) -> Iterator[str]:
        from airflow_provider_posthog.erasure.former import former_uuids

        project_id = self.hook.settings().project_id
        if project_id is None:
            return
        for name in person.distinct_ids:
            yield from (former_uuid for former_uuid in former_uuids(project_id, name) if former_uuid != person.uuid)

    def _somebody_else(self, work: WorkFile) -> set[int]:
        """Return former UUIDs that are somebody else's now: after a split, the other person keeps the old one."""
        from airflow_provider_posthog.erasure.queries import packed

        persons = set(self._not_verified)
        named = {uuid.UUID(person.uuid).int for person in work.persons()}
        former = (former_uuid for person in self._erased(work) for former_uuid in self._former(person))
        for pack in packed(former_uuid for former_uuid in former if uuid.UUID(former_uuid).int not in named):
            rows = self.client.rows("SELECT toString(id) FROM persons WHERE id IN {uuids}", {"uuids": pack}, str)
            persons.update(uuid.UUID(row[0]).int for row in rows)
        if len(persons) > len(self._not_verified):
            self.log.info(
                "%d UUIDs from before a merge or split belong to others now: their rows stay",
                len(persons) - len(self._not_verified),
            )
        return persons
