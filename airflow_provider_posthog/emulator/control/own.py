"""``/__emulator__/``: what PostHog fills or keeps besides events and persons, for tests."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_posthog.emulator.control.objects import check, is_uuid
from airflow_provider_posthog.emulator.data.own import OwnError, refuse_unknown
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.schema import tables as known_tables
from airflow_provider_posthog.emulator.hogql.system import system_tables
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.people.people_tables import OTHERS
from airflow_provider_posthog.emulator.routes.persons import threaded

PREFIX = "/__emulator__"
_WAYS = ("persons", "distinct_ids", "query")


def _wrong(detail: str) -> ApiError:
    return ApiError(400, {"detail": detail})


def _body(request: Request, needed: dict[str, type], perhaps: dict[str, type]) -> Json:
    body = request.json()
    for name in needed:
        if name not in body:
            raise _wrong(f"{name!r} is missing.")
    for name, value in body.items():
        kind = {**needed, **perhaps}.get(name)
        if kind is None:
            raise _wrong(f"There is no {name!r} here. There are: {', '.join([*needed, *perhaps])}.")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _wrong(f"{name!r} takes a {_SAID[kind]}, not {value!r}.")
    return body


_SAID = {str: "text", int: "number", bool: "true or false", list: "list", dict: "mapping"}


def _objects(body: Json, name: str) -> list[dict[str, object]]:
    items = body.get(name, [])
    if not all(isinstance(item, dict) for item in items):
        raise _wrong(f"{name!r} takes a list of objects.")
    return list(items)


def rows(request: Request) -> Answer:
    """Add rows of a table that PostHog fills by itself.

    :param request: ``table`` and ``rows`` in its body, the rows with that table's columns.
    """
    body = _body(request, {"table": str, "rows": list}, {})
    table, rows_, state = body["table"], _objects(body, "rows"), request.state
    try:
        if table in OTHERS:
            refuse_unknown(table, known_tables(newer=True)[table].star(), rows_)
            state.people.touch()
            state.people.tables.add_rows(table, rows_)
        elif table in system_tables():
            state.warehouse.own.add_rows(table, rows_)
        else:
            raise OwnError(f"Send 'table', one of {', '.join((*OTHERS, *sorted(system_tables())))}.")
    except (OwnError, RuntimeError) as error:
        raise _wrong(str(error)[:500]) from None
    return json_answer({"inserted": len(rows_)}, 201)


def cohorts(request: Request) -> Answer:
    """Make a cohort, or calculate it again: its members are found now, and stay.

    :param request: ``name``, and one of ``persons`` (uuids), ``distinct_ids`` and ``query`` (HogQL, whose first column
        has uuids) in its body; perhaps ``is_static`` and ``id``.
    """
    perhaps = {"id": int, "is_static": bool, "persons": list, "distinct_ids": list, "query": str}
    body = _body(request, {"name": str}, perhaps)
    ways = [name for name in _WAYS if name in body]
    if len(ways) > 1:
        raise _wrong(f"Send one of {', '.join(_WAYS)}, not {len(ways)}.")
    members, all_, is_static = _members(request, body), request.state.cohorts, body.get("is_static", False)
    number = body.get("id")
    cohort = all_.get(number) if number is not None else None
    if cohort is None:
        cohort = all_.create(body["name"], is_static=is_static, number=number)
    cohort.name, cohort.is_static = body["name"], is_static
    all_.add(cohort, members)
    all_.calculated(cohort, is_recorded=True)
    return json_answer({"id": cohort.id, "count": cohort.count}, 201)


def _members(request: Request, body: Json) -> list[str]:
    people = request.state.people
    if "query" in body:
        try:
            result = request.state.warehouse.query(body["query"], limit_context="export", personal_api_key=False)
        except HogQLError as error:
            raise _wrong(f"'query': {error.detail}") from None
        if strange := [row[0] for row in result.rows if not is_uuid(row[0])]:
            raise _wrong(f"'query' has to give uuids of persons in its first column, not {strange[0]!r}.")
        return [str(row[0]) for row in result.rows]
    members = []
    for name in body.get("distinct_ids", []):
        person = people.by_distinct_id(str(name))
        if person is None:
            raise _wrong(f"Nobody has the distinct id {name!r}.")
        members.append(person.uuid)
    for uuid in body.get("persons", []):
        if not is_uuid(uuid) or people.get(str(uuid)) is None:
            raise _wrong(f"There is no person {uuid!r}.")
        members.append(str(uuid))
    return members


def actions(request: Request) -> Answer:
    """Make an action.

    :param request: ``name`` and ``steps`` in its body, each with some of ``event``, ``url``, ``url_matching`` and
        ``properties``.
    """
    body = _body(request, {"name": str, "steps": list}, {})
    steps = _objects(body, "steps")
    check("steps", steps)
    return _made(lambda: {"id": request.state.warehouse.own.add_action(body["name"], steps).id})


def tables(request: Request) -> Answer:
    """Make a table of PostHog's warehouse.

    :param request: ``name`` and ``columns`` (ClickHouse's types by name) in its body, and perhaps ``rows``.
    """
    body = _body(request, {"name": str, "columns": dict}, {"rows": list})
    tables_ = _objects(body, "rows")

    def make() -> Json:
        request.state.warehouse.own.add_table(body["name"], body["columns"], tables_)
        return {"inserted": len(tables_)}

    return _made(make)


def views(request: Request) -> Answer:
    """Make a view.

    :param request: ``name`` and ``query`` (HogQL) in its body.
    """
    body = _body(request, {"name": str, "query": str}, {})

    def make() -> Json:
        request.state.warehouse.own.add_view(body["name"], body["query"])
        return {}

    return _made(make)


def _made(make: Callable[[], Json]) -> Answer:
    try:
        return json_answer(make(), 201)
    except OwnError as error:
        raise _wrong(str(error)) from None


def _route(path: str, work: Callable[[Request], Answer]) -> Route:
    return Route("POST", PREFIX + path, threaded(work), throttle=None, public=True)


ROUTES = (
    _route("/rows", rows),
    _route("/cohorts", cohorts),
    _route("/actions", actions),
    _route("/tables", tables),
    _route("/views", views),
)
