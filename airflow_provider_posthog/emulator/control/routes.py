"""``/__emulator__/``: the control interface, which PostHog lacks. Tests set switches, order failures and read calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.control.objects import check
from airflow_provider_posthog.emulator.data.warehouse import Warehouse
from airflow_provider_posthog.emulator.http.auth import SECRET_SCOPES
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json
from airflow_provider_posthog.emulator.http.faults import FaultError, read_fault
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Handler, Route
from airflow_provider_posthog.emulator.jobs.exports import Script
from airflow_provider_posthog.emulator.settings import OUTCOMES, SettingError

PREFIX = "/__emulator__"
# another organization's: it exists, but no user of this one may see it
FOREIGN_PROJECT = 2


def _wrong(detail: str) -> ApiError:
    return ApiError(400, {"detail": detail})


def _only(body: Json, *names: str) -> Json:
    for name in body:
        if name not in names:
            raise _wrong(f"There is no {name!r} here. There are: {', '.join(names)}.")
    return body


def _typed(body: Json, name: str, default: object, check: Callable[[object], bool], takes: str) -> object:
    value = body.get(name, default)
    if value is not default and not check(value):
        raise _wrong(f"{name!r} takes {takes}, not {value!r}.")
    return value


def _counted(least: int, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


async def settings(request: Request) -> Answer:
    """Show or change the settings.

    :param request: new values by name in its body.
    """
    try:
        request.state.change_settings(request.json())
    except SettingError as error:
        raise _wrong(str(error)) from None
    return json_answer(request.state.settings.as_json())


async def keys(request: Request) -> Answer:
    """Make a key, and its user if need be.

    :param request: ``scopes``, ``user`` and ``projects`` in its body; ``secret`` for a secret key of the project.
    """
    body = _only(request.json(), "scopes", "user", "projects", "secret")
    texts: Callable[[object], bool] = lambda v: isinstance(v, list) and all(isinstance(text, str) for text in v)  # noqa: E731
    numbers: Callable[[object], bool] = lambda v: isinstance(v, list) and all(map(_whole, v))  # noqa: E731
    _typed(body, "scopes", None, texts, "a list of texts")
    _typed(body, "projects", None, numbers, "a list of numbers")
    user = _typed(body, "user", 1, _whole, "a number, 1 or more")
    projects = body.get("projects")
    if body.get("secret"):
        return _secret_key(request, body.get("scopes", ["query:read"]))
    made = request.state.keyring.create(
        scopes=tuple(body.get("scopes", ["*"])),
        user_id=int(str(user)),
        projects=None if projects is None else tuple(projects),
    )
    return json_answer({"api_key": made.value, "user": made.user.brief()}, 201)


def _secret_key(request: Request, scopes: list[str]) -> Answer:
    if unknown := set(scopes) - SECRET_SCOPES:
        raise _wrong(f"A secret key has no scope {min(unknown)!r}. There are: {', '.join(sorted(SECRET_SCOPES))}.")
    state = request.state
    made = state.keyring.create_secret(scopes=tuple(scopes), project_id=state.project.id)
    return json_answer({"api_key": made.value, "user": None}, 201)


async def projects(request: Request) -> Answer:
    """Make a further project, which lives until the next reset.

    :param request: ``events`` (how many; none by default), ``seed``, ``start`` (``YYYY-MM-DD``), ``days``, ``timezone``
        and ``name`` in its body; ``id`` and ``name`` alone name one that is there.
    """
    body = _only(request.json(), "events", "seed", "start", "days", "timezone", "name", "id")
    name = _typed(body, "name", "", lambda value: isinstance(value, str) and bool(value), "a text")
    if "id" in body:
        return _named(request, body)
    state = request.state.server
    number = max((FOREIGN_PROJECT, *state.others)) + 1
    try:
        start = body.get("start")
        first = None if start is None else datetime.strptime(str(start), "%Y-%m-%d").replace(tzinfo=timezone.utc)
        zone = str(body.get("timezone", "UTC"))
        events, seed, days = (
            int(str(_typed(body, name, default, partial(_counted, least), f"a whole number, {least} or more")))
            for name, default, least in (("events", 0, 0), ("seed", state.seed + number, 0), ("days", 30, 1))
        )
        make = partial(Warehouse, events=events, seed=seed, days=days, start=first, timezone=zone, team=number)
        warehouse = await asyncio.to_thread(make)
    except (ValueError, TypeError) as error:
        raise _wrong(str(error)) from None
    made = state.add_project(warehouse, str(name), {"timezone": zone})
    return json_answer({"id": made.project.id, "api_token": made.project.token, "name": made.project.name}, 201)


def _named(request: Request, body: Json) -> Answer:
    """Name a project until the next reset."""
    project = request.state.project
    if set(body) != {"id", "name"} or body["id"] != project.id:
        raise _wrong(f"Send 'id', which is {project.id} here, and 'name' alone.")
    project.name = str(body["name"])
    return json_answer({"id": project.id, "api_token": project.token, "name": project.name})


async def revoke_key(request: Request) -> Answer:
    """Delete a key, also for the exports that are running with it.

    :param request: ``api_key`` in its body.
    """
    body = _only(request.json(), "api_key")
    if not request.state.keyring.revoke(str(body.get("api_key"))):
        raise ApiError(404, {"detail": "There is no such key."})
    return json_answer({})


async def script_exports(request: Request) -> Answer:
    """Set the outcome of the next exports.

    :param request: ``outcome``, ``count``, ``export_seconds``, ``exception_text`` and ``content`` in its body.
    """
    body = _only(request.json(), "outcome", "count", "export_seconds", "exception_text", "content")
    _typed(body, "outcome", None, lambda value: value in OUTCOMES, f"one of {', '.join(OUTCOMES)}")
    _typed(body, "count", 1, _whole, "a whole number, 1 or more")
    _typed(body, "export_seconds", None, _is_seconds, "a number of seconds")
    for name in ("exception_text", "content"):
        _typed(body, name, None, lambda value: isinstance(value, str), "a text")
    request.state.exports.scripts.append(Script(**body))
    return json_answer(body, 201)


async def faults(request: Request) -> Answer:
    """Show the faults, or add one.

    :param request: a fault in its body.
    """
    if request.method == "POST":
        try:
            request.state.faults.waiting.append(read_fault(request.json()))
        except FaultError as error:
            raise _wrong(str(error)) from None
    status = 201 if request.method == "POST" else 200
    return json_answer({"faults": [fault.as_json() for fault in request.state.faults.waiting]}, status)


async def clear_faults(request: Request) -> Answer:
    """Take all faults away.

    :param request: nothing of it matters.
    """
    request.state.faults.waiting.clear()
    return json_answer({})


async def calls(request: Request) -> Answer:
    """Show the calls that were made.

    :param request: ``path`` in its query shows those whose path contains it, ``method`` those with that method.
    """
    path, method = request.query("path") or "", request.query("method")
    matching = [call for call in request.state.calls.calls if path in call.path and method in (None, call.method)]
    return json_answer({"calls": [call.as_json() for call in matching]})


async def clear_calls(request: Request) -> Answer:
    """Forget the calls.

    :param request: nothing of it matters.
    """
    request.state.calls.calls.clear()
    return json_answer({})


async def stats(request: Request) -> Answer:
    """Count the calls per route, the exports, and the calculations of insights and queries.

    :param request: nothing of it matters.
    """
    exports = request.state.exports.all()
    counted = {
        "created": len(exports),
        "running": sum(not export.ended.is_set() for export in exports),
        "with_content": sum(export.content is not None for export in exports),
        "failed": sum(bool(export.exception) for export in exports),
    }
    calculations = request.state.queries.calculations.as_json()
    return json_answer({**request.state.calls.stats(), "exports": counted, "calculations": calculations})


async def clock(request: Request) -> Answer:
    """Show the clock, or move it forward.

    :param request: ``advance`` in seconds in its body.
    """
    body = _only(request.json(), "advance")
    seconds = _typed(body, "advance", 0, _is_seconds, "a number of seconds, 0 or more")
    request.state.clock.advance(float(str(seconds)))
    return json_answer({"now": iso(request.state.clock.now())})


async def query_budget(request: Request) -> Answer:
    """Show how many bytes the project's queries may still read, or set it.

    :param request: ``remaining`` in its body; below zero for what a query took too much.
    """
    body = _only(request.json(), "remaining")
    takes: Callable[[object], bool] = lambda value: isinstance(value, int) and not isinstance(value, bool)  # noqa: E731
    remaining = _typed(body, "remaining", None, takes, "a whole number of bytes")
    bucket = request.state.queries.bucket
    if isinstance(remaining, int):
        bucket.fill(remaining)
    return json_answer({"remaining": int(bucket.level())})


async def events(request: Request) -> Answer:
    """Add events, with nothing derived from them: what is sent is what HogQL finds.

    :param request: ``events`` in its body, each with ``uuid``, ``event``, ``distinct_id``, ``person_id``,
        ``timestamp``, ``created_at`` and ``properties``.
    """
    body = _only(request.json(), "events")
    wanted = body.get("events")
    needed = {"uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties"}
    if not isinstance(wanted, list) or not all(isinstance(item, dict) and set(item) == needed for item in wanted):
        raise _wrong(f"'events' takes a list of objects with exactly {', '.join(sorted(needed))}.")
    check("events", wanted, needed)
    try:
        request.state.warehouse.insert_events(wanted)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _wrong(str(error)) from None
    return json_answer({"inserted": len(wanted)}, 201)


async def count(request: Request) -> Answer:
    """Count the events of a window, not through HogQL: the truth that loads are checked against.

    :param request: ``start``, ``end`` (ISO, the end excluded) and ``column`` (``timestamp`` or ``created_at``).
    """
    column = request.query("column") or "timestamp"
    if column not in ("timestamp", "created_at"):
        raise _wrong(f"'column' takes timestamp or created_at, not {column!r}.")
    window = [_moment(request, name) for name in ("start", "end")]
    return json_answer({"count": request.state.warehouse.count_events(window[0], window[1], column)})


def _moment(request: Request, name: str) -> datetime:
    text = request.query(name) or ""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise _wrong(f"{name!r} takes an ISO time, not {text!r}.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


async def reset(request: Request) -> Answer:
    """Go back to the start: settings, faults, calls, exports, insights, queries, keys, clock, persons and events.

    :param request: nothing of it matters.
    """
    state = request.state.server
    await asyncio.to_thread(state.people.restore)
    state.reset()
    if state.after_reset is not None:
        await state.after_reset()
    return json_answer({})


def _route(method: str, path: str, handler: Handler) -> Route:
    return Route(method, PREFIX + path, handler, throttle=None, public=True)


ROUTES = (
    _route("GET", "/settings", settings),
    _route("POST", "/settings", settings),
    _route("POST", "/keys", keys),
    _route("DELETE", "/keys", revoke_key),
    _route("POST", "/projects", projects),
    _route("POST", "/exports", script_exports),
    _route("GET", "/faults", faults),
    _route("POST", "/faults", faults),
    _route("DELETE", "/faults", clear_faults),
    _route("GET", "/calls", calls),
    _route("DELETE", "/calls", clear_calls),
    _route("GET", "/stats", stats),
    _route("GET", "/clock", clock),
    _route("POST", "/clock", clock),
    _route("GET", "/query_budget", query_budget),
    _route("POST", "/query_budget", query_budget),
    _route("POST", "/events", events),
    _route("GET", "/events/count", count),
    _route("POST", "/reset", reset),
)
