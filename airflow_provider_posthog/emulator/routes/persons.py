"""``/persons/``: list, look up and change persons. Deleting is in ``routes.person_deletion``."""

from __future__ import annotations

import asyncio
import functools
import re
import uuid as uuids
from collections.abc import Callable

from airflow_provider_posthog.emulator.http.activity_page import activity_page
from airflow_provider_posthog.emulator.http.envelopes import (
    ApiError,
    Json,
    envelope,
    invalid,
    not_for_keys,
    not_found,
    server_error,
)
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Handler, Route, closed
from airflow_provider_posthog.emulator.jobs.csv_writer import Table, flatten, write_csv
from airflow_provider_posthog.emulator.people.ingestion import CaptureRefused, capture
from airflow_provider_posthog.emulator.people.person import Person
from airflow_provider_posthog.emulator.people.person_filters import person_condition, property_text

READ, WRITE = ("person:read",), ("person:write",)
DEFAULT_LIMIT = 100
# HogQL's own limit of rows: more are cut off, and then there is no next page either
MOST_ROWS = 50_000
CSV_ROWS = 10_000
BATCH = 200
BATCH_IDS = 10
NO_ID = (
    "The ID provided does not look like a personID. If you are using a distinctId, please use "
    "/persons?distinct_id={} instead."
)
NO_CREATE = (
    "Creating persons via this API is not allowed. Please create persons by sending an $identify event. See "
    "https://posthog.com/docs/product-analytics/identify for details."
)


def threaded(work: Callable[[Request], Answer]) -> Handler:
    """Return the handler of work that reads and writes persons: one at a time, and not in the server's own thread.

    :param work: makes the answer.
    """

    def locked(request: Request) -> Answer:
        with request.state.people.lock:
            return work(request)

    @functools.wraps(work)
    async def handler(request: Request) -> Answer:
        return await asyncio.to_thread(locked, request)

    return handler


def person_of(request: Request) -> Person:
    """Return the person that the path names by number or uuid.

    :param request: ``id`` in its path.
    :raises ApiError: 400 for something else, such as a distinct id; 404 for a person that is not there.
    """
    person_id, people = request.params["id"], request.state.people
    if person_id.isdigit():
        person = people.by_number(int(person_id))
    else:
        try:
            person = people.get(str(uuids.UUID(person_id)))
        except ValueError:
            raise invalid(NO_ID.format(person_id)) from None
    if person is None:
        raise not_found()
    return person


def swapped(name: str) -> ApiError:
    """Return the 400 in which PostHog puts the sentence into ``code`` and the code into ``detail``.

    :param name: of the field that is missing.
    """
    return ApiError(400, envelope("validation_error", "This field is required.", "required", name))


# -- lists -------------------------------------------------------------------------------------------------------


def _number(request: Request, name: str, default: int) -> int:
    sent = request.query(name)
    try:
        number = int(sent or default)
    except ValueError:
        number = -1
    if number < 0:
        # PostHog does not check it, and fails in the query
        raise server_error()
    return number or default


def _link(request: Request, offset: int) -> str:
    """Write the address of another page as PostHog does: an offset of 0 is left as it was."""
    address = request.site + request.path
    query = "&".join(part for part in request.query_string.split("&") if not part.startswith("personal_api_key="))
    if offset and re.search(r"(^|&)offset=\d+", query):
        query = re.sub(r"(^|&)offset=\d+", rf"\g<1>offset={offset}", query)
    elif offset:
        query = f"{query}&offset={offset}" if query else f"offset={offset}"
    return f"{address}?{query}" if query else address


def list_(request: Request) -> Answer:
    """List persons, newest first (``GET persons/``).

    The page is found in ClickHouse and read from PostHog's database: a person that is gone there makes the page
    shorter, and ``next`` does not care.

    :param request: ``limit``, ``offset``, filters (see :func:`person_condition`), ``include_total`` and ``format`` in
        its query.
    """
    state = request.state
    if request.query("format") == "csv" or request.path.rstrip("/").endswith(".csv"):
        return _csv(request)
    limit, offset = _number(request, "limit", DEFAULT_LIMIT), _number(request, "offset", 0)
    limit = min(limit, state.settings.max_page or limit)
    condition = person_condition(request)
    uuids = state.people.tables.find(condition, min(limit, MOST_ROWS), offset)
    persons = [person for uuid in uuids if (person := state.people.get(uuid)) is not None]
    body: Json = {
        "results": [person.as_row(state.settings.generation) for person in persons],
        "next": _link(request, offset + limit) if len(uuids) >= limit else None,
        "previous": _link(request, offset - limit) if offset - limit >= 0 else None,
    }
    if request.query("include_total") is not None:
        body["count"] = state.people.tables.count(condition)
    return json_answer(body)


def csv_answer(rows: list[Json]) -> Answer:
    """Answer a list as CSV: the columns in alphabetical order, objects and lists spread over columns.

    :param rows: as in JSON.
    """
    flat = [dict(flatten(row)) for row in rows]
    columns = sorted({name for row in flat for name in row})
    table = Table([{name: row.get(name) for name in columns} for row in flat])
    return Answer(200, write_csv(table, columns) if flat else b"", "text/csv; charset=utf-8")


def _csv(request: Request) -> Answer:
    state = request.state
    people = state.people.tables.find(person_condition(request), CSV_ROWS, 0)
    persons = [person for uuid in people if (person := state.people.get(uuid)) is not None]
    rows = [person.as_row(state.settings.generation) for person in persons]
    return csv_answer(
        [{**row, "created_at": str(person.created_at)} for row, person in zip(rows, persons, strict=True)]
    )


def values(request: Request) -> Answer:
    """Return the most frequent values of a property (``GET persons/values/``).

    :param request: ``key`` and ``value`` (a part of the values) in its query.
    """
    key, part = request.query("key"), request.query("value")
    if not key:
        raise invalid("You must provide a key")
    condition = person_condition(request)
    rows = request.state.people.tables.warehouse.execute(
        f"SELECT {property_text(key)} AS name, count() AS count FROM {{db}}.persons WHERE {condition} AND name != ''"  # noqa: S608
        " GROUP BY name ORDER BY count DESC, name DESC"
    )
    items = [{"name": row["name"], "count": int(row["count"])} for row in rows]
    items = [item for item in items if not part or part.lower() in str(item["name"]).lower()][:20]
    if request.state.settings.generation == "A":
        return json_answer(items)
    return json_answer({"results": items, "refreshing": False})


# -- one person, or some -----------------------------------------------------------------------------------------


def retrieve(request: Request) -> Answer:
    """Return a person (``GET persons/{id}/``).

    :param request: ``id`` in its path.
    """
    return json_answer(person_of(request).as_object(request.state.settings.generation))


def _batch(request: Request, name: str) -> list[str]:
    names = request.json().get(name)
    # more than 200 are cut off silently, and what is not a list finds nobody
    return [str(name) for name in names[:BATCH]] if isinstance(names, list) else []


def _answer_of(request: Request, by_name: dict[str, Person | None]) -> Answer:
    generation = request.state.settings.generation
    return json_answer(
        {
            "results": {
                name: person.as_object(generation, BATCH_IDS) for name, person in by_name.items() if person is not None
            }
        }
    )


def batch_by_distinct_ids(request: Request) -> Answer:
    """Look up persons (``POST persons/batch_by_distinct_ids/``).

    :param request: ``distinct_ids`` in its body.
    """
    people = request.state.people
    return _answer_of(request, {name: people.by_distinct_id(name) for name in _batch(request, "distinct_ids")})


def batch_by_uuids(request: Request) -> Answer:
    """Look up persons (``POST persons/batch_by_uuids/``).

    :param request: ``uuids`` in its body.
    :raises ApiError: 400 when one is not a uuid.
    """
    names = _batch(request, "uuids")
    try:
        by_uuid = {name: request.state.people.get(str(uuids.UUID(name))) for name in names}
    except ValueError:
        raise invalid("One or more UUIDs are invalid.") from None
    return _answer_of(request, by_uuid)


def _changed(request: Request, person: Person, field: str | None) -> None:
    change = {"type": "Person", "action": "changed", "field": field, "before": None, "after": None}
    # the entry of a deleted property has a name, the one of a changed property has none
    activity, name = ("delete_property", person.uuid) if field is None else ("updated", None)
    request.state.activity.add("Person", person.id, activity, request.caller().user, name=name, changes=[change])


def _set(request: Request, person: Person, properties: Json) -> Answer:
    # PostHog answers the same when the event could not be captured
    capture(request.state, [{"event": "$set", "distinct_id": person.distinct_ids[0], "$set": properties}], quiet=True)
    _changed(request, person, "properties")
    return Answer(202)


def update(request: Request) -> Answer:
    """Merge properties into a person's (``PATCH persons/{id}/``): 202, whatever becomes of it.

    :param request: ``properties`` in its body.
    """
    person, body = person_of(request), request.json()
    if not isinstance(body.get("properties"), dict):
        raise swapped("properties")
    return _set(request, person, body["properties"])


def update_property(request: Request) -> Answer:
    """Set one property (``POST persons/{id}/update_property/``): 202, whatever becomes of it.

    :param request: ``key`` and ``value`` in its body; the oldest servers take no null.
    """
    body = request.json()
    for name in ("value", "key"):
        if name not in body or (body[name] is None and (name == "key" or request.state.settings.generation == "A")):
            raise swapped(name)
    return _set(request, person_of(request), {str(body["key"]): body["value"]})


def delete_property(request: Request) -> Answer:
    """Remove one property (``POST persons/{id}/delete_property/``): 201, even when nothing came of it.

    :param request: ``$unset`` in its body, the name of one property.
    :raises ApiError: 500 for an unknown person and for a body without it; 502 when capturing refuses.
    """
    try:
        person = person_of(request)
    except ApiError as error:
        raise server_error() if error.status == 404 else error from None
    name = request.json().get("$unset")
    if name is None or not person.distinct_ids:
        raise server_error()
    event = {"event": "$delete_person_property", "distinct_id": person.distinct_ids[0], "$unset": [str(name)]}
    try:
        capture(request.state, [event])
    except CaptureRefused:
        raise ApiError(502, {"success": False, "detail": "Unable to delete property"}) from None
    _changed(request, person, None)
    return json_answer({"success": True}, 201)


def split(request: Request) -> Answer:
    """Give distinct ids of a person new persons (``POST persons/{id}/split/``).

    :param request: ``main_distinct_id``, which stays alone, or ``distinct_ids_to_split`` in its body.
    """
    person, body = person_of(request), request.json()
    main, moved = body.get("main_distinct_id"), body.get("distinct_ids_to_split")
    if request.state.settings.generation != "A" and (main is None) == (moved is None):
        raise invalid("Provide either main_distinct_id or distinct_ids_to_split.")
    wanted = [main] if main is not None else moved
    if wanted is not None and (not isinstance(wanted, list) or not wanted or set(wanted) - set(person.distinct_ids)):
        raise invalid("The person does not have these distinct ids.")
    kept = [main or person.distinct_ids[0]]
    if moved is not None and main is None:
        kept = [name for name in person.distinct_ids if name not in moved]
    request.state.people.split(person, kept)
    request.state.activity.add("Person", person.id, "split_person", request.caller().user, name=person.uuid, changes=[])
    return json_answer({"success": True}, 201)


def reset_person_distinct_id(request: Request) -> Answer:
    """Show ClickHouse a person that came back after its deletion (``POST persons/reset_person_distinct_id/``).

    :param request: ``distinct_id`` in its body; one that needs nothing is answered the same.
    """
    distinct_id = request.json().get("distinct_id")
    if not isinstance(distinct_id, str) or not distinct_id:
        raise invalid("distinct_id is required")
    request.state.people.reveal(distinct_id)
    return Answer(202)


# -- the rest ----------------------------------------------------------------------------------------------------


def activity(request: Request) -> Answer:
    """Return who changed persons (``GET persons/activity/`` and ``GET persons/{id}/activity/``).

    :param request: ``limit`` and ``page`` in its query.
    :raises ApiError: 404 for a person that is gone: only the log of all persons tells of its deletion.
    """
    return activity_page(request, "Person", str(person_of(request).id) if "id" in request.params else None)


def properties_timeline(request: Request) -> Answer:
    """Return how properties changed (``GET persons/{id}/properties_timeline/``).

    PostHog declares no scope for it, so personal keys are refused: see the setting ``withdrawn``.

    :param request: ``id`` in its path.
    """
    if request.state.settings.withdrawn == "refuse":
        raise not_for_keys()
    person = person_of(request)
    point = {"timestamp": person.created_at.isoformat(), "properties": person.properties, "relevant_event_count": 0}
    now = request.state.clock.now().isoformat()
    return json_answer(
        {
            "points": [point],
            "crystallized_properties": person.properties,
            "effective_date_from": point["timestamp"],
            "effective_date_to": now,
        }
    )


async def create(request: Request) -> Answer:
    """Refuse to create a person (``POST persons/``).

    :param request: nothing of it matters.
    """
    raise ApiError(405, envelope("invalid_request", "method_not_allowed", NO_CREATE))


def _row(
    method: str, path: str, work: Callable[[Request], Answer], scopes: tuple[str, ...], since: str = "ABC"
) -> Route:
    return Route(method, f"/persons{path}", threaded(work), scopes, "persons", generations=since)


LOG = ("activity_log:read",)
ROUTES = (
    *(_row("GET", path, list_, READ) for path in ("/", ".csv")),
    *(Route("POST", f"/persons{path}", create, WRITE, "persons") for path in ("/", ".csv")),
    _row("GET", "/activity/", activity, LOG),
    _row("GET", "/values/", values, READ),
    _row("POST", "/batch_by_distinct_ids/", batch_by_distinct_ids, READ, "BC"),
    _row("POST", "/batch_by_uuids/", batch_by_uuids, READ, "BC"),
    _row("POST", "/reset_person_distinct_id/", reset_person_distinct_id, WRITE, "BC"),
    *(closed("GET", f"/persons/{name}/", "ABC") for name in ("funnel", "trends", "lifecycle", "stickiness")),
    _row("GET", "/{id}/", retrieve, READ),
    *(_row(method, "/{id}/", update, WRITE) for method in ("PUT", "PATCH")),
    _row("GET", "/{id}/activity/", activity, LOG),
    _row("POST", "/{id}/update_property/", update_property, WRITE),
    _row("POST", "/{id}/delete_property/", delete_property, WRITE),
    _row("POST", "/{id}/split/", split, WRITE),
    _row("GET", "/{id}/properties_timeline/", properties_timeline, READ),
)
