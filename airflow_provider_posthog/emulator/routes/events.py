"""``/events/``: the deprecated way to read events, with everything that makes it unfit for that."""

from __future__ import annotations

import json
import uuid as uuids
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, invalid, not_found, server_error
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.insights.dates import parse_date
from airflow_provider_posthog.emulator.people.elements import parse_chain
from airflow_provider_posthog.emulator.people.people_tables import moment, text
from airflow_provider_posthog.emulator.people.person_filters import property_conditions, property_text
from airflow_provider_posthog.emulator.people.persons import EPOCH
from airflow_provider_posthog.emulator.routes.persons import csv_answer, threaded

READ = ("query:read",)
DEFAULT_LIMIT = 100
MOST_EVENTS = 1000
MOST_OFFSET = 50_000
LONGEST = timedelta(days=366)
# how far newest-first lists look back at first, in seconds
WINDOWS = (60, 300, 900, 3600, 21_600, 86_400)
COLUMNS = (
    "toString(uuid) AS id, event, distinct_id, properties, elements_chain, toString(person_id) AS person_id,"
    " toUnixTimestamp64Micro(timestamp) AS micros"
)
NUMBERS = "SETTINGS output_format_json_quote_64bit_integers=0"


# -- rows --------------------------------------------------------------------------------------------------------


def _stamp(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat()


def _person(request: Request, uuid: str, *, listed: bool) -> Json | None:
    # older servers show it in lists without being asked, newer ones where they are asked
    wanted = listed if request.state.settings.generation == "A" else request.query("include_person") == "true"
    person = request.state.people.get(uuid) if wanted else None
    if person is None:
        return None
    shown = {name: person.properties[name] for name in ("email", "name", "username") if name in person.properties}
    return {"is_identified": person.is_identified, "distinct_ids": person.distinct_ids[:1], "properties": shown}


def _unquoted(value: object) -> object:
    return value.strip('"') if isinstance(value, str) else value


def _event(request: Request, row: dict[str, Any], *, listed: bool) -> Json:
    properties = json.loads(row["properties"] or "{}")
    return {
        "id": row["id"],
        "distinct_id": row["distinct_id"],
        "properties": {name: _unquoted(value) for name, value in properties.items()},
        "event": row["event"],
        "timestamp": _stamp(int(row["micros"])),
        "person": _person(request, row["person_id"], listed=listed),
        "elements": parse_chain(row["elements_chain"]),
        "elements_chain": row["elements_chain"],
    }


# -- lists -------------------------------------------------------------------------------------------------------


def _whole(request: Request, name: str, default: int) -> int:
    sent = request.query(name)
    if sent and not sent.isdigit():
        # PostHog does not check it
        raise server_error()
    return int(sent or default)


def _time(request: Request, name: str) -> datetime | None:
    sent = request.query(name)
    if not sent:
        return None
    try:
        return parse_date(sent, request.state.clock.now(), ZoneInfo("UTC")).astimezone(timezone.utc)
    except ValueError:
        raise server_error() from None


def _order(request: Request) -> list[str]:
    sent = request.query("orderBy")
    try:
        order = json.loads(sent) if sent else ["-timestamp"]
    except ValueError:
        order = None
    if not isinstance(order, list) or not all(isinstance(key, str) for key in order):
        raise server_error()
    return order


def _conditions(request: Request) -> list[str]:
    conditions = property_conditions(request)
    for name in ("event", "distinct_id"):
        if value := request.query(name):
            conditions.append(f"{name} = {text(value)}")
    if person := request.query("person_id"):
        person_ = request.state.people.by_number(int(person)) if person.isdigit() else None
        conditions.append(f"toString(person_id) = {text(person_.uuid if person_ else person.lower())}")
    return conditions


def _bounds(request: Request) -> tuple[datetime | None, datetime]:
    """Return the two bounds of the time, neither of which is inside."""
    now = request.state.clock.now()
    after, before = _time(request, "after"), _time(request, "before") or now + timedelta(seconds=5)
    if request.state.settings.events_limited:
        after = after or now - timedelta(hours=24)
        if before - after > LONGEST:
            # an error that nothing in PostHog expects
            raise server_error()
    return after, before


def _read(request: Request, limit: int, offset: int, order: list[str]) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of a page, and whether there are more."""
    after, before = _bounds(request)
    conditions = _conditions(request)
    falling = order == ["-timestamp"]
    if falling and not offset and request.state.settings.events_limited:
        for seconds in WINDOWS:
            start = before - timedelta(seconds=seconds)
            if after is not None and start <= after:
                break
            rows = _select(request, [*conditions, *_between(start, before)], order, limit + 1, 0)
            if len(rows) >= limit / 2:
                # "more" is said of this window only: what is older is not looked for
                return rows[:limit], len(rows) > limit
    rows = _select(request, [*conditions, *_between(after, before)], order, limit + 1, offset)
    return rows[:limit], len(rows) > limit


def _between(after: datetime | None, before: datetime) -> list[str]:
    lower = [] if after is None else [f"timestamp > {moment(after)}"]
    return [*lower, f"timestamp < {moment(before)}"]


def _select(request: Request, conditions: list[str], order: list[str], limit: int, offset: int) -> list[dict[str, Any]]:
    known = {"timestamp", "event", "distinct_id", "uuid"}
    keys = [key for key in order if key.removeprefix("-") in known]
    # with several keys PostHog sorts upwards, whatever their signs say
    sort = [f"{key.removeprefix('-')} {'DESC' if len(order) == 1 and key.startswith('-') else 'ASC'}" for key in keys]
    return request.state.warehouse.execute(
        f"SELECT {COLUMNS} FROM {{db}}.events WHERE {' AND '.join(conditions)}"  # noqa: S608 - of our own making
        f" ORDER BY {', '.join(sort) or 'timestamp DESC'} LIMIT {limit} OFFSET {offset} {NUMBERS}"
    )


def _next(request: Request, last: str, *, rising: bool) -> str:
    """Write the address of the next page: the same with another bound. An offset is carried on, as it is at PostHog."""
    query = {k: v for k, v in parse_qsl(request.query_string, keep_blank_values=True) if k != "personal_api_key"}
    query["after" if rising else "before"] = last
    return f"{request.site}{request.path}?{urlencode(query)}"


def _list(request: Request, offset: int) -> Answer:
    settings = request.state.settings
    limit = _whole(request, "limit", DEFAULT_LIMIT) or DEFAULT_LIMIT
    if settings.generation != "A":
        # cut silently
        limit = min(limit, MOST_EVENTS)
    limit = min(limit, settings.max_page or limit)
    order = _order(request)
    rows, more = _read(request, limit, offset, order)
    events = [_event(request, row, listed=True) for row in rows]
    if request.query("format") == "csv" or request.path.rstrip("/").endswith(".csv"):
        return csv_answer(events)
    following = _next(request, events[-1]["timestamp"], rising=order == ["timestamp"]) if more else None
    return json_answer({"next": following, "results": events})


_threaded = threaded(lambda request: _list(request, _whole(request, "offset", 0)))


async def list_(request: Request) -> Answer:
    """List events (``GET events/``), newest first.

    :param request: ``after`` and ``before`` (neither inside), ``event``, ``distinct_id``, ``person_id``,
        ``properties``, ``orderBy``, ``limit``, ``offset``, ``include_person`` and ``format`` in its query.
    :raises ApiError: 400 for an offset above 50,000; 500 for what PostHog does not check.
    """
    settings, offset = request.state.settings, _whole(request, "offset", 0)
    if offset and settings.events_limited:
        if offset > MOST_OFFSET:
            raise invalid(f"Offset is deprecated. Max supported offset value is {MOST_OFFSET}")
        # to make people leave it
        await request.state.clock.sleep(settings.offset_seconds)
    return await _threaded(request)


# -- one event, and values ---------------------------------------------------------------------------------------


def retrieve(request: Request) -> Answer:
    """Return an event (``GET events/{id}/``).

    :param request: ``id`` in its path.
    :raises ApiError: 400 for what is not a uuid, 404 for an event that is not there.
    """
    event_id = request.params["id"]
    try:
        uuid = uuids.UUID(event_id)
    except ValueError:
        body = {"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}
        raise ApiError(400, body) from None
    rows = request.state.warehouse.execute(
        f"SELECT {COLUMNS} FROM {{db}}.events WHERE uuid = '{uuid}' LIMIT 1 {NUMBERS}"  # noqa: S608 - a uuid
    )
    if not rows:
        raise not_found(f"No events exist for event UUID {event_id}")
    return json_answer(_event(request, rows[0], listed=False))


def values(request: Request) -> Answer:
    """Return values that a property had in the last seven days (``GET events/values/``).

    :param request: ``key``, ``event_name`` (a must on newer servers) and ``value`` (a part of the values) in its query.
    """
    key, state, names = request.query("key"), request.state, request.queries("event_name")
    if not key:
        raise invalid("You must provide a key")
    old = state.settings.generation == "A"
    if not names and not old:
        raise invalid("You must provide an event_name")
    conditions = [f"timestamp >= {moment(state.clock.now() - timedelta(days=7))}", "name != ''"]
    if names:
        conditions.append(f"event IN ({', '.join(map(text, names))})")
    if part := request.query("value"):
        conditions.append(f"name ILIKE {text(f'%{part}%')}")
    rows = state.warehouse.execute(
        f"SELECT {property_text(key)} AS name, count() AS n FROM {{db}}.events WHERE {' AND '.join(conditions)}"  # noqa: S608
        " GROUP BY name ORDER BY n DESC, name LIMIT 50"
    )
    listed = [{"name": row["name"]} for row in rows]
    return json_answer(listed if old else {"results": listed, "refreshing": False})


ROUTES = (
    Route("GET", "/events/", list_, READ, "events"),
    Route("GET", "/events.csv", list_, READ, "events"),
    Route("GET", "/events/values/", threaded(values), READ, "event_values"),
    Route("GET", "/events/{id}/", threaded(retrieve), READ, "events"),
)
