"""``/__emulator__/``: persons, captured events and the deletion of events, for tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from airflow_provider_posthog.emulator.control.objects import check, is_uuid
from airflow_provider_posthog.emulator.data.records import FRESH
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.people.ingestion import CaptureRefused, capture
from airflow_provider_posthog.emulator.people.person import Person
from airflow_provider_posthog.emulator.routes.persons import threaded

PREFIX = "/__emulator__"
PERSON = {"distinct_ids", "properties", "uuid", "created_at", "is_identified"}
EVENT = {"event", "distinct_id", "uuid", "timestamp", "created_at", "elements_chain", "properties", "$set", "$unset"}
RECORDING = {"session_id", "distinct_id", "timestamp"}


def _wrong(detail: str) -> ApiError:
    return ApiError(400, {"detail": detail})


def _objects(body: Json, name: str, known: set[str], needed: set[str]) -> list[dict[str, Any]]:
    wanted = body.get(name)
    fits: Callable[[object], bool] = lambda item: isinstance(item, dict) and needed <= set(item) <= known  # noqa: E731
    if set(body) != {name} or not isinstance(wanted, list) or not all(map(fits, wanted)):
        needs = f", of which {', '.join(sorted(needed))} must be there"
        raise _wrong(f"Send {name!r} alone, a list of objects with {', '.join(sorted(known))}{needs}.")
    check(name, wanted, needed)
    return wanted


def _moment(sent: object) -> datetime | None:
    if sent is None:
        return None
    try:
        at = datetime.fromisoformat(str(sent).replace("Z", "+00:00"))
    except ValueError:
        raise _wrong(f"{sent!r} is not an ISO time.") from None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def _create(request: Request, wanted: dict[str, Any]) -> Person:
    names, people = wanted["distinct_ids"], request.state.people
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _wrong("'distinct_ids' takes a list of texts, at least one.")
    if taken := [name for name in names if people.by_distinct_id(name) is not None]:
        raise _wrong(f"There is a person with the distinct id {taken[0]!r} already.")
    return people.create(
        names,
        dict(wanted.get("properties") or {}),
        uuid=wanted.get("uuid"),
        created_at=_moment(wanted.get("created_at")),
        is_identified=bool(wanted.get("is_identified", True)),
    )


def persons(request: Request) -> Answer:
    """Make persons, or ``count`` of them at once.

    :param request: ``persons`` in its body, each with ``distinct_ids`` and perhaps ``properties``, ``uuid``,
        ``created_at`` and ``is_identified``; or ``count`` alone.
    """
    body = request.json()
    if set(body) == {"count"} and isinstance(body["count"], int) and 0 < body["count"] <= 1_000_000:
        first = request.state.people.numbered
        wanted_all: list[dict[str, Any]] = [
            {"distinct_ids": [f"made-{number}"], "properties": {"email": f"made-{number}@example.invalid"}}
            for number in range(first, first + body["count"])
        ]
    else:
        wanted_all = _objects(body, "persons", PERSON, {"distinct_ids"})
    made = [_create(request, item) for item in wanted_all]
    request.state.people.publish(made, new=True)
    return json_answer({"uuids": [person.uuid for person in made]}, 201)


def captured(request: Request) -> Answer:
    """Capture events as PostHog does: they find or make persons, and ``$set`` changes them.

    :param request: ``events`` in its body, each with ``event`` and ``distinct_id`` and perhaps the rest.
    """
    events = _objects(request.json(), "events", EVENT, {"event", "distinct_id"})
    try:
        return json_answer({"persons": capture(request.state, events)}, 201)
    except CaptureRefused:
        raise _wrong("The setting 'capture' is 'refused'.") from None


def recordings(request: Request) -> Answer:
    """Add session recordings.

    :param request: ``recordings`` in its body, each with ``session_id``, ``distinct_id`` and ``timestamp``.
    """
    wanted = _objects(request.json(), "recordings", RECORDING, RECORDING)
    request.state.people.touch()
    request.state.people.tables.add_recordings(
        [(session["session_id"], session["distinct_id"], session["timestamp"]) for session in wanted]
    )
    return json_answer({"inserted": len(wanted)}, 201)


def records(request: Request) -> Answer:
    """Add records, such as feature flags, as they are.

    :param request: ``kind`` (the path of their list) and ``rows`` in its body.
    """
    body = request.json()
    kind, rows = body.get("kind"), body.get("rows")
    if kind not in FRESH or not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise _wrong(f"Send 'kind', one of {', '.join(FRESH)}, and 'rows', a list of objects.")
    return json_answer({"records": [request.state.records.add(str(kind), row) for row in rows]}, 201)


def failing_deletions(request: Request) -> Answer:
    """Let the deletion of persons fail, or of none any more.

    :param request: ``uuids`` (none: no deletion fails any more) and ``step`` in its body.
    """
    body = request.json()
    uuids, step = body.get("uuids"), body.get("step", "delete_postgres")
    if set(body) - {"uuids", "step"} or not isinstance(uuids, list) or not isinstance(step, str):
        raise _wrong("Send 'uuids', a list of texts, and perhaps 'step', a text.")
    if strange := [uuid for uuid in uuids if not is_uuid(uuid)]:
        raise _wrong(f"'uuids' takes UUIDs of persons, not {strange[0]!r}.")
    request.state.deletions.fail([str(uuid) for uuid in uuids], step)
    return json_answer({})


def sweep(request: Request) -> Answer:
    """Run the weekly deletion of events now.

    :param request: nothing of it matters.
    """
    return json_answer(request.state.deletions.sweep(request.state.clock.now()))


def _route(path: str, work: Callable[[Request], Answer]) -> Route:
    return Route("POST", PREFIX + path, threaded(work), throttle=None, public=True)


ROUTES = (
    _route("/persons", persons),
    _route("/persons/failures", failing_deletions),
    _route("/capture", captured),
    _route("/records", records),
    _route("/recordings", recordings),
    _route("/sweep", sweep),
)
