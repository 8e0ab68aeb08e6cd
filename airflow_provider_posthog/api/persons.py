"""Persons, and their deletion (``/api/projects/{id}/persons/``).

E-mail addresses and distinct ids go into query strings and bodies only; an id in a path is a UUID or a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from airflow_provider_posthog.api import answers
from airflow_provider_posthog.api.arguments import (
    Limit,
    Object,
    Offset,
    PersonId,
    Properties,
    Text,
    Uuid,
    at_most,
    between,
    json_text,
)
from airflow_provider_posthog.api.call import Answer, Call, json_holding, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.shapes import ActivityPage
from airflow_provider_posthog.exceptions import PostHogSettingsError

#: The most persons of a page: beyond its own cap PostHog cuts a page and says that it was the last one.
MAX_PAGE = 1000
#: The most persons of one ``bulk_delete``; servers before 2025 take 100.
MAX_BULK_DELETE = 1000
#: The most ids of one look-up; PostHog leaves out what is beyond and says nothing.
MAX_BATCH = 200
#: A malformed answer must not make persons look deleted.
_BATCH = json_holding("results", dict)

_READ = ("person:read",)
_WRITE = ("person:write",)


class Person(TypedDict, total=False):
    """A person. ``id`` is the UUID in lists and a number elsewhere: use ``uuid``.

    Lists hold at most 1,000 ``distinct_ids`` of each, the look-ups of many 10.
    """

    id: int | str
    uuid: str
    name: str
    distinct_ids: Sequence[str]
    properties: Mapping[str, Any]
    created_at: str | None
    last_seen_at: str | None
    is_identified: bool


class PersonPage(TypedDict, total=False):
    """A page of persons, newest first; shorter than asked for, even empty, where ``next`` still leads on."""

    next: str | None
    previous: str | None
    results: Sequence[Person]


class Persons(TypedDict, total=False):
    """The persons, by the id that was requested; an id without a person is missing."""

    results: Mapping[str, Person]


class BulkDeletion(TypedDict, total=False):
    """What PostHog says it has accepted; empty on servers before December 2025. It proves no deletion.

    ``events_queued_for_deletion`` is true also when nothing was queued, because it had been before.
    """

    persons_found: int
    persons_deleted: int
    persons_queued_for_deletion: int
    events_queued_for_deletion: bool
    recordings_queued_for_deletion: bool
    deletion_errors: Sequence[Mapping[str, Any]]


class DeletionStatus(TypedDict, total=False):
    """The deletion of one person's events; ``status`` is ``pending`` or ``completed``."""

    person_uuid: str
    created_at: str
    status: str
    delete_verified_at: str | None


class DeletionStatusPage(TypedDict, total=False):
    """A page of deletions, newest first."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[DeletionStatus]


@endpoint("GET", "persons/", scopes=_READ, bucket="analytics", paging="offset")
def list(
    *,
    distinct_id: Text | None = None,
    email: Text | None = None,
    search: Text | None = None,
    properties: Properties | None = None,
    limit: Annotated[int, between(1, MAX_PAGE)] = 100,
    offset: Offset = 0,
) -> Call[PersonPage]:
    """List persons, newest first. Lags behind :func:`retrieve`, and may differ from it after a deletion.

    :param distinct_id: only the person who has exactly this id.
    :param email: only those whose property ``email`` is exactly this; look at each, there may be several.
    :param search: only those with this text in e-mail, name, UUID or distinct id; ``%`` and ``_`` are wildcards.
    :param properties: only those with these properties.
    :param limit: persons per page, at most 1,000.
    :param offset: how many to leave out; who is deleted meanwhile moves the others up.
    """
    query = {
        "distinct_id": distinct_id,
        "email": email,
        "search": search,
        "properties": json_text("properties", properties),
        "limit": limit,
        "offset": offset or None,
    }
    return list.call(json_page, query=query)


@endpoint("GET", "persons/{id}/", scopes=_READ, bucket="analytics")
def retrieve(person_id: PersonId) -> Call[Person]:
    """Retrieve a person with all distinct ids; 404 for one who is not there.

    :param person_id: the UUID, or the number.
    """
    return retrieve.call(json_object, id=person_id)


@endpoint("PATCH", "persons/{id}/", scopes=_WRITE, bucket="analytics")
def update(person_id: PersonId, properties: Object) -> Call[None]:
    """Set properties of a person; others stay. PostHog accepts it also where it then loses it: read back.

    :param person_id: the UUID, or the number.
    :param properties: the properties to set.
    """
    return update.call(answers.nothing, json={"properties": dict(properties)}, id=person_id)


@endpoint("DELETE", "persons/{id}/", scopes=_WRITE, bucket="deletion")
def delete(
    person_id: PersonId, *, delete_events: bool = False, delete_recordings: bool = False, keep_person: bool = False
) -> Call[None]:
    """Request the deletion of a person; :func:`bulk_delete` returns more about its outcome.

    PostHog takes each flag as given whatever its value (``delete_events=false`` deletes the events), so only true ones
    are sent. A second deletion answers 404: after an attempt whose answer was lost, that is no proof of anything.

    :param person_id: the UUID, or the number.
    :param delete_events: delete the events too; takes until one of the next weekends.
    :param delete_recordings: delete the recordings too.
    :param keep_person: keep the profile; servers before December 2025 ignore this and delete it.
    """
    flags = {"delete_events": delete_events, "delete_recordings": delete_recordings, "keep_person": keep_person}
    return delete.call(answers.nothing, query={name: True for name, on in flags.items() if on}, id=person_id)


@endpoint("POST", "persons/bulk_delete/", scopes=_WRITE, bucket="deletion")
def bulk_delete(
    *,
    ids: Annotated[Sequence[Uuid], at_most(MAX_BULK_DELETE)] | None = None,
    distinct_ids: Annotated[Sequence[Text], at_most(MAX_BULK_DELETE)] | None = None,
    delete_events: bool = False,
    delete_recordings: bool = False,
    keep_person: bool = False,
) -> Call[BulkDeletion]:
    """Request the deletion of persons; 202 means accepted, not done. Unknown ids are no error.

    Not repeated when its outcome is unknown: persons who are gone already are ``persons_found: 0`` the second time,
    like mistyped ones, and recordings that PostHog failed to queue after it had deleted the person (500) would look
    queued. Read the persons back instead. With ``keep_person`` a repetition finds the same persons, so it may be.

    :param ids: the persons' UUIDs, at most 1,000 (100 on servers before 2025); not together with ``distinct_ids``, of
        which such servers take one and drop the other.
    :param distinct_ids: any distinct id deletes its whole person; at most 1,000.
    :param delete_events: delete the events before this moment too; takes until one of the next weekends.
    :param delete_recordings: delete the recordings too; servers before December 2025 ignore this.
    :param keep_person: keep the profile; servers before December 2025 ignore this and delete it.
    :returns: the summary; also if PostHog answers 5xx with it because it could delete nobody.
    :raises PostHogSettingsError: if both kinds of ids are given, or none.
    """
    if (ids is None) == (distinct_ids is None):
        raise PostHogSettingsError(
            "ids", "is needed, or distinct_ids in its place, but not both.", "Write one of them."
        )
    body: dict[str, Any] = {"ids": [*ids]} if ids is not None else {"distinct_ids": [*(distinct_ids or ())]}
    flags = {"delete_events": delete_events, "delete_recordings": delete_recordings, "keep_person": keep_person}
    body.update({name: True for name, on in flags.items() if on})
    return bulk_delete.call(answers.object_or_empty, json=body, repeatable=keep_person, reads_error=_is_summary)


def _is_summary(answer: Answer) -> bool:
    """Return whether a 5xx has the summary; the newest servers send it if they could delete nobody they found."""
    summary = answer.json_or_none()
    return isinstance(summary, Mapping) and "persons_found" in summary and bool(summary.get("deletion_errors"))


@endpoint("GET", "persons/{id}/activity/", scopes=("activity_log:read",), bucket="analytics", paging="next")
def activity(person_id: PersonId, *, limit: Limit = 10, page: Limit = 1) -> Call[ActivityPage]:
    """List what was done to a person, newest first; 404 after the person's deletion.

    :param person_id: the UUID, or the number.
    :param limit: entries per page.
    :param page: which page, from 1.
    """
    return activity.call(json_page, query={"limit": limit, "page": page}, id=person_id)


@endpoint("POST", "persons/{id}/delete_property/", scopes=_WRITE, bucket="analytics", repeatable=True)
def delete_property(person_id: PersonId, key: Text) -> Call[dict[str, Any]]:
    """Remove one property of a person; events keep their copies. PostHog answers success also for nothing: read back.

    :param person_id: the UUID, or the number.
    :param key: the property's name.
    """
    return delete_property.call(answers.object_or_empty, json={"$unset": key}, id=person_id)


@endpoint("GET", "persons/{id}/properties_timeline/", scopes=_READ, bucket="analytics")
def properties_timeline(person_id: PersonId) -> Call[dict[str, Any]]:
    """Retrieve how a person's properties changed; many servers refuse it to personal API keys (403).

    :param person_id: the UUID, or the number.
    """
    return properties_timeline.call(json_object, id=person_id)


@endpoint("GET", "persons/deletion_status/", scopes=_READ, bucket="analytics", paging="offset")
def deletion_status(
    *,
    person_uuid: Uuid | None = None,
    status: Literal["pending", "completed", "all"] = "all",
    limit: Limit = 100,
    offset: Offset = 0,
) -> Call[DeletionStatusPage]:
    """List the queued deletions of events, newest first; not those of persons or recordings.

    A person who is not listed was never queued, which is no proof of deletion. Servers before December 2025 answer 400:
    so they can be recognized before anything is deleted.

    :param person_uuid: only this person's.
    :param status: only these.
    :param limit: entries per page.
    :param offset: how many to leave out.
    """
    query = {"person_uuid": person_uuid, "status": status, "limit": limit, "offset": offset or None}
    return deletion_status.call(json_page, query=query)


@endpoint("POST", "persons/batch_by_distinct_ids/", scopes=_READ, bucket="analytics", repeatable=True)
def batch_by_distinct_ids(distinct_ids: Annotated[Sequence[Text], at_most(MAX_BATCH)]) -> Call[Persons]:
    """Look up persons by distinct id, in the store that deletions reach first; servers before December 2025: 403.

    :param distinct_ids: at most 200, as PostHog leaves out the rest.
    """
    return batch_by_distinct_ids.call(_BATCH, json={"distinct_ids": [*distinct_ids]})


@endpoint("POST", "persons/batch_by_uuids/", scopes=_READ, bucket="analytics", repeatable=True)
def batch_by_uuids(uuids: Annotated[Sequence[Uuid], at_most(MAX_BATCH)]) -> Call[Persons]:
    """Look up persons by UUID, in the store that deletions reach first; servers before December 2025: 403.

    :param uuids: at most 200, as PostHog leaves out the rest.
    """
    return batch_by_uuids.call(_BATCH, json={"uuids": [*uuids]})
