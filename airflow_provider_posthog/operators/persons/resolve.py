"""Finding every person behind identifiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.certificate_notices import warn_of_deadline
from airflow_provider_posthog.tasks.erasure import PostHogErasureOperator, VerifyBy
from airflow_provider_posthog.tasks.lists import check_choice

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.audit.deadline import Deadline
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.identifiers import Identifier
    from airflow_provider_posthog.tasks.erasure import ErasureArguments

_LISTS = ("distinct_ids", "emails", "uuids")


class PostHogResolvePersonsOperator(PostHogErasureOperator):
    """Finds every person behind identifiers, and counts what there is to erase. Changes nothing.

    That includes several persons with one e-mail address, all distinct ids merged into a person, and distinct ids that
    occur only in events; each hit is checked. E-mail addresses match whatever their case, as a property of the profile
    and as a distinct id; one that occurs only in the properties of events, such as a former address, matches no person.
    The distinct ids go into the work file, and nowhere else. The task returns, logs and shows counts only, and no UUIDs
    either, since whoever knows a distinct id can calculate them. Values in the events of other persons are not
    searched, and deleting a person does not reach them.

    ``distinct_ids``, ``emails``, ``properties``, ``query`` and ``values`` may be templates, but are not template
    fields, since Airflow stores and shows those. Put many identifiers into a file: ``identifiers_path``.

    :param distinct_ids: distinct ids.
    :param emails: e-mail addresses.
    :param uuids: person UUIDs.
    :param properties: PostHog's list of ``{"key", "value", "operator"}``; the operator is ``exact``, ``icontains`` or
        ``is_set``.
    :param query: HogQL whose first column is person UUIDs, with a LIMIT above their number: reaching it is an error,
        since whoever is left out would not be erased. Put several SELECTs (UNION and the like) into brackets: ``SELECT
        * FROM (...) LIMIT n``.
    :param values: what the placeholders (``{name}``) of the query stand for.
    :param identifiers_path: a file in object storage: CSV with a header, or JSON lines (``.jsonl``), with
        ``distinct_id``, ``email`` and ``uuid``.
    :param work_path: the work file that is written for the next tasks.
    :param max_persons: the most persons there may be; more are an error.
    :param must_find_all: fail if one of the identifiers matches no person. Without it, ``not_found`` counts them.
    :param verify_by: ``distinct_id``, or ``uuid`` to keep distinct ids out of the work file: then events that carry
        another UUID, and recordings, cannot be checked.
    :param received_at: the day when the request was received (a date or ISO text, such as
        ``{{ params.received_at }}``), from which its deadline counts; by default from now.
    :param due_in: how long there is to answer: ``month``, one by the calendar (GDPR), or a number of days, such as 45
        (CCPA). If it is due within a week, the log, the approval and the certificate say so.
    :param kwargs: as :class:`PostHogErasureOperator`.
    :returns: ``request_id``, ``host`` and ``project_id`` (of the PostHog that was asked), ``work_path``,
        ``object_storage_conn_id``, ``resolved_at``, ``generation``, ``verify_by``;
        the numbers ``persons``, ``profiles``, ``personless``,
        ``distinct_ids``, ``others`` (merged ones that were not asked for), ``events``, ``future_events``,
        ``recordings``; ``newest_event``; ``not_found`` (``count``, ``kinds``, and ``places`` of up to 100);
        ``retention`` (``event_retention_months``, ``events_retention_enforced``, ``floor``): what PostHog hides by now;
        ``received_at``, ``due_at`` (days) and ``ledger_head`` (docs/erasure-audit.md).
    :raises PostHogErasureError: if nobody is found, or too many, or somebody who does not fit.
    :raises PostHogSettingsError: if an argument is wrong.
    """

    template_fields: Sequence[str] = (
        *PostHogErasureOperator.template_fields,
        "uuids",
        "identifiers_path",
        "received_at",
    )

    def __init__(
        self,
        *,
        distinct_ids: Sequence[str] | None = None,
        emails: Sequence[str] | None = None,
        uuids: Sequence[str] | None = None,
        properties: Sequence[Mapping[str, Any]] | None = None,
        query: str | None = None,
        values: Mapping[str, Any] | None = None,
        identifiers_path: str | ObjectStoragePath | None = None,
        max_persons: int = 1000,
        must_find_all: bool = False,
        verify_by: VerifyBy = "distinct_id",
        received_at: date | str | None = None,
        due_in: Literal["month"] | int = "month",
        **kwargs: Unpack[ErasureArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.distinct_ids = distinct_ids
        self.emails = emails
        self.uuids = uuids
        self.properties = properties
        self.query = query
        self.values = values
        self.identifiers_path = identifiers_path
        self.max_persons = max_persons
        self.must_find_all = must_find_all
        check_choice("verify_by", verify_by, get_args(VerifyBy))
        self.verify_by = verify_by
        self.received_at = received_at
        self.due_in = due_in

    def deadline(self, resolved_at: str) -> Deadline:
        """Return until when the request has to be answered.

        :param resolved_at: when the persons were searched for.
        :raises PostHogSettingsError: if an argument is wrong.
        """
        from airflow_provider_posthog.audit.deadline import Deadline, read_day, read_rule, today

        received, resolved = read_day("received_at", self.received_at), today(moment(resolved_at))
        if received is not None and received > resolved + timedelta(days=1):
            raise PostHogSettingsError("received_at", f"is {received}, in the future.", "Write the day of its receipt.")
        return Deadline.of(received, resolved, read_rule("due_in", self.due_in))

    def execute(self, context: Context) -> dict[str, Any]:
        """Find them."""
        from airflow_provider_posthog.erasure.generation import detect
        from airflow_provider_posthog.erasure.work_file import digest_of

        self.own.file()  # refuses a path that leads nowhere
        self.deadline(datetime.now(timezone.utc).isoformat())  # checks the arguments, before anything is sent
        given = self._given(context)
        self.own.check_certificate(self.hook, context)
        server = detect(self.client)
        resolved = self.search(
            self._identifiers(given),
            digest_of(given),
            server,
            context,
            max_persons=self.max_persons,
            verify_by=self.verify_by,
            must_find_all=self.must_find_all,
        )
        search, certificate = resolved.search, resolved.certificate
        warn_of_deadline(certificate, resolved.handover.due, moment(search.header.resolved_at), self.log)
        return {
            **resolved.handover.as_json(),
            **self.project.as_json(),
            "resolved_at": search.header.resolved_at,
            "generation": search.header.generation,
            "verify_by": search.header.verify_by,
            **search.totals.as_json(),
            "not_found": search.not_found.as_json(),
            "retention": resolved.retention,
            "ledger_head": self.ledger_head(certificate),
        }

    def _given(self, context: Context) -> dict[str, Any]:
        """Return what was asked for, checked."""
        from airflow_provider_posthog.erasure import identifiers
        from airflow_provider_posthog.erasure.queries import ask_all

        given = {
            "distinct_ids": self.hidden(self.distinct_ids, context),
            "emails": self.hidden(self.emails, context),
            "uuids": self.uuids,
            "properties": self.hidden(self.properties, context),
            "query": self.hidden(self.query, context),
            "values": self.hidden(self.values, context),
            "identifiers_path": str(self.identifiers_path) if self.identifiers_path else None,
        }
        if not any(value for name, value in given.items() if name != "values"):
            raise PostHogSettingsError(
                "emails", "nobody is asked for.", "Write distinct_ids, emails, uuids, properties, query or a file."
            )
        for _ in identifiers.from_arguments(**{name: given[name] for name in _LISTS}):
            pass  # each is checked, before anything is sent
        for _ in self._filed():
            pass
        if given["properties"]:
            identifiers.check_filter(given["properties"])
        if given["query"]:
            ask_all(given["query"], given["values"])
        return given

    def _identifiers(self, given: Mapping[str, Any]) -> Iterator[Identifier]:
        from airflow_provider_posthog.erasure import identifiers

        yield from identifiers.from_arguments(**{name: given[name] for name in _LISTS})
        yield from self._filed()
        if given["properties"]:
            rows = self._listed(given["properties"])
            yield from identifiers.of_persons(rows, given["properties"])
        if given["query"]:
            yield from identifiers.from_rows(self.client.rows_of(given["query"], given["values"]))

    def _filed(self) -> Iterator[Identifier]:
        """Yield the identifiers of the request's file."""
        from airflow_provider_posthog.erasure.identifiers import from_file

        if self.identifiers_path:
            file = self.own.storage(self.identifiers_path, "identifiers_path")
            yield from from_file(file.fs, file.path)

    def _listed(self, properties: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the persons that fit a filter.

        PostHog cuts a page at its own cap and calls it the last one. So the end is asked for once more, behind
        everybody who was listed, until nobody new comes.
        """
        from airflow_provider_posthog.api import persons
        from airflow_provider_posthog.erasure.redaction import redacted

        seen: set[str] = set()
        more = True
        with redacted():
            while more and len(seen) <= self.max_persons:
                call = persons.list(properties=properties, limit=persons.MAX_PAGE, offset=len(seen))
                more = False
                for row in self.hook.pages(call, self.max_persons + 1):
                    if str(row.get("uuid")) not in seen:
                        seen.add(str(row.get("uuid")))
                        more = True
                        yield row
