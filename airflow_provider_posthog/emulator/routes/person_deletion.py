"""``/persons/``: deleting one or many, and the state of the deletion of their events."""

from __future__ import annotations

import dataclasses
import uuid as uuids
from collections.abc import Callable

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, invalid, server_error
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.people.person import Person
from airflow_provider_posthog.emulator.people.person_deletion import DeletionFailed
from airflow_provider_posthog.emulator.routes.persons import READ, WRITE, person_of, threaded

MOST_IDS = {"A": 100, "B": 1000, "C": 1000}
NEITHER = "You need to specify either distinct_ids or ids"
STATES = ("pending", "completed", "all")


@dataclasses.dataclass(frozen=True)
class _DeletionOptions:
    """What a deletion is asked to take along."""

    events: bool
    recordings: bool
    keep: bool


def _options(request: Request, has: Callable[[str], bool]) -> _DeletionOptions:
    # the oldest servers know nothing of the last two, and delete the person that they were asked to keep
    newer = request.state.settings.generation != "A"
    return _DeletionOptions(has("delete_events"), newer and has("delete_recordings"), newer and has("keep_person"))


def _take_along(request: Request, persons: list[Person], options: _DeletionOptions) -> None:
    if options.events:
        request.state.deletions.request_events(persons)
    if options.recordings:
        request.state.deletions.delete_recordings(persons)


def delete(request: Request) -> Answer:
    """Delete a person (``DELETE persons/{id}/``): 202 with an empty body.

    :param request: ``id`` in its path; ``delete_events``, ``delete_recordings`` and ``keep_person`` in its query, which
        count as said whatever their value is, ``false`` too.
    :raises ApiError: when the person cannot be deleted: 500, or 503 on today's servers; those in between say nothing.
    """
    state, user = request.state, request.caller().user
    person, options = person_of(request), _options(request, lambda name: request.query(name) is not None)
    _take_along(request, [person], options)
    if options.keep:
        return Answer(202)
    if state.deletions.queued:
        state.deletions.enqueue([person], user)
        return Answer(202)
    try:
        state.deletions.delete(person, user)
        state.people.bury()
    except DeletionFailed as failed:
        if state.settings.generation == "A":
            raise server_error() from None
        if state.settings.generation == "C":
            detail = f"Deleting the person failed at step {failed.step}. Please try again."
            raise ApiError(503, envelope("server_error", "person_deletion_failed", detail)) from None
    return Answer(202)


def _asked_for(request: Request, body: Json) -> list[Person]:
    """Return the persons of a bulk deletion, each once; ids that nobody has are left out silently."""
    generation, people = request.state.settings.generation, request.state.people
    distinct_ids, ids = body.get("distinct_ids"), body.get("ids")
    if distinct_ids and ids and generation != "A":
        raise invalid("You can only pass either distinct_ids or ids, not both")
    most, name = MOST_IDS[generation], "distinct_ids" if distinct_ids else "ids"
    names = distinct_ids or ids
    if not names:
        raise invalid(NEITHER)
    if len(names) > most:
        raise invalid(f"You can only pass {most} {name} in one call")
    people_ = (
        map(people.by_distinct_id, map(str, names)) if distinct_ids else (_by_uuid(request, uuid) for uuid in names)
    )
    return list({person.uuid: person for person in people_ if person is not None}.values())


def _by_uuid(request: Request, name: object) -> Person | None:
    try:
        return request.state.people.get(str(uuids.UUID(str(name))))
    except ValueError:
        if request.state.settings.generation == "C":
            return None
        # older servers hand it to the database as it is
        raise server_error() from None


def bulk_delete(request: Request) -> Answer:
    """Delete many persons (``POST persons/bulk_delete/``): 202, or a failure with the same summary.

    :param request: ``ids`` (uuids) or ``distinct_ids``, and flags, in its body; the text ``"false"`` is true.
    """
    state, body = request.state, request.json()
    persons, options = _asked_for(request, body), _options(request, lambda name: bool(body.get(name)))
    doomed = [] if options.keep else persons
    queued = state.deletions.queued
    if queued:
        state.deletions.enqueue(doomed, request.caller().user)
    errors = [] if queued else _delete_each(request, doomed)
    _take_along(request, persons, options)
    if state.settings.generation == "A":
        return Answer(202)
    summary: Json = {
        "persons_found": len(persons),
        "persons_deleted": 0 if queued else len(doomed) - len(errors),
        **({"persons_queued_for_deletion": len(doomed) if queued else 0} if state.settings.generation == "C" else {}),
        "events_queued_for_deletion": options.events and bool(persons),
        "recordings_queued_for_deletion": options.recordings and bool(persons),
        "deletion_errors": errors,
    }
    # the newest servers call it a failure when nobody of those who were found could be deleted
    failed = state.settings.generation == "C" and bool(doomed) and len(errors) == len(doomed)
    return json_answer(summary, state.settings.bulk_failure_status if failed else 202)


def _delete_each(request: Request, persons: list[Person]) -> list[Json]:
    generation, errors = request.state.settings.generation, []
    for person in persons:
        try:
            request.state.deletions.delete(person, request.caller().user, numbered=generation != "A")
        except DeletionFailed as failed:
            if generation == "A":
                request.state.people.bury()
                raise server_error() from None
            step = {"step": failed.step} if generation == "C" else {}
            errors.append({"person_uuid": person.uuid, **step})
    request.state.people.bury()
    return errors


def deletion_status(request: Request) -> Answer:
    """List the requested deletions of events (``GET persons/deletion_status/``), newest first.

    A person that is not in it has never been asked for; one that is completed need not be without events.

    :param request: ``person_uuid``, ``status``, ``limit`` and ``offset`` in its query.
    """
    status, person = request.query("status") or "all", request.query("person_uuid")
    if status not in STATES:
        raise invalid(f'"{status}" is not a valid choice.', "invalid_choice", "status")
    if person:
        try:
            person = str(uuids.UUID(person))
        except ValueError:
            raise invalid("Must be a valid UUID.", attr="person_uuid") from None
    rows = sorted(request.state.deletions.requests.values(), key=lambda deletion: deletion.created_at, reverse=True)
    shown = [deletion.as_json() for deletion in rows if not person or deletion.person_uuid == person]
    return page(request, [row for row in shown if status in ("all", row["status"])], lambda row: row)


def delete_events(request: Request) -> Answer:
    """Ask for the deletion of a person's events (``POST persons/{id}/delete_events/``, deprecated).

    :param request: ``id`` in its path.
    """
    _take_along(request, [person_of(request)], _DeletionOptions(events=True, recordings=False, keep=True))
    return Answer(202)


def delete_recordings(request: Request) -> Answer:
    """Delete a person's recordings (``POST persons/{id}/delete_recordings/``, deprecated).

    :param request: ``id`` in its path.
    """
    _take_along(request, [person_of(request)], _DeletionOptions(events=False, recordings=True, keep=True))
    return Answer(202)


ROUTES = (
    Route("POST", "/persons/bulk_delete/", threaded(bulk_delete), WRITE, "deletion"),
    Route("GET", "/persons/deletion_status/", threaded(deletion_status), READ, "persons", generations="BC"),
    Route("DELETE", "/persons/{id}/", threaded(delete), WRITE, "deletion"),
    Route("POST", "/persons/{id}/delete_events/", threaded(delete_events), WRITE, "deletion", generations="BC"),
    Route("POST", "/persons/{id}/delete_recordings/", threaded(delete_recordings), WRITE, "deletion", generations="BC"),
)
