"""``/elements/``: the table that is empty by nature, and counts of what was clicked."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.http.envelopes import Json, invalid, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route, closed
from airflow_provider_posthog.emulator.insights.dates import parse_date
from airflow_provider_posthog.emulator.people.elements import FIELDS, parse_chain
from airflow_provider_posthog.emulator.people.people_tables import listed, moment
from airflow_provider_posthog.emulator.people.person_filters import property_conditions
from airflow_provider_posthog.emulator.routes.persons import threaded

READ, WRITE = ("element:read",), ("element:write",)
KINDS = ("$autocapture", "$rageclick", "$dead_click")
VALUES = ("attr_id", "href", "tag_name", "text")
STATS_LIMIT = 100
MOST_STATS = 10_000
MOST_VALUES = 100
INTEGERS = ("nth_child", "nth_of_type", "order")


def _number(request: Request) -> int:
    wanted = request.params["id"]
    if not wanted.isdigit() or int(wanted) not in request.state.elements.elements:
        raise not_found()
    return int(wanted)


def _checked(body: Json) -> Json:
    for name in INTEGERS:
        if body.get(name) is not None and (not isinstance(body[name], int) or isinstance(body[name], bool)):
            raise invalid("A valid integer is required.", attr=name)
    if body.get("attr_class") is not None and not isinstance(body["attr_class"], list):
        kind = type(body["attr_class"]).__name__
        raise invalid(f'Expected a list of items but got type "{kind}".', "not_a_list", "attr_class")
    return {name: body[name] for name in FIELDS if name in body}


def list_(request: Request) -> Answer:
    """List elements (``GET elements/``); their rows have no id.

    :param request: ``limit`` and ``offset`` in its query.
    """
    return page(request, list(request.state.elements.elements.values()), lambda element: element)


def create(request: Request) -> Answer:
    """Make an element (``POST elements/``).

    :param request: its fields in its body.
    """
    return json_answer(request.state.elements.add(_checked(request.json())), 201)


def retrieve(request: Request) -> Answer:
    """Return an element (``GET elements/{id}/``).

    :param request: ``id`` in its path.
    """
    return json_answer(request.state.elements.elements[_number(request)])


def update(request: Request) -> Answer:
    """Change an element (``PATCH elements/{id}/``).

    :param request: ``id`` in its path, fields in its body.
    """
    element = request.state.elements.elements[_number(request)]
    element.update(_checked(request.json()))
    return json_answer(element)


def delete(request: Request) -> Answer:
    """Delete an element (``DELETE elements/{id}/``).

    :param request: ``id`` in its path.
    """
    del request.state.elements.elements[_number(request)]
    return Answer(204)


def _kinds(request: Request) -> list[str]:
    sent = request.queries("include")
    kinds: list[str] = []
    for text in sent:
        try:
            read = json.loads(text)
        except ValueError:
            read = None
        kinds += map(str, read) if isinstance(read, list) else text.split(",")
    if not set(kinds) <= set(KINDS):
        raise invalid("Only $autocapture, $rageclick, and $dead_click are supported.")
    return kinds or list(KINDS)


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    sent = request.query(name)
    if sent is None:
        return default
    if not sent.isdigit() or not least <= int(sent) <= most:
        raise invalid(f"{name} must be a whole number from {least} to {most}.")
    return int(sent)


def stats(request: Request) -> Answer:
    """Count the events per clicked element (``GET elements/stats/``), the most frequent first.

    :param request: ``include``, ``date_from`` (7 days ago by default), ``date_to``, ``properties``, ``limit`` and
        ``offset`` in its query.
    """
    state = request.state
    limit, offset = _whole(request, "limit", STATS_LIMIT, 1, MOST_STATS), _whole(request, "offset", 0, 0, 10**9)
    conditions = [f"event IN {listed(_kinds(request))}", "elements_chain != ''", *property_conditions(request)]
    zone = ZoneInfo(state.settings.timezone)
    for name, sign, default in (("date_from", ">=", "-7d"), ("date_to", "<=", None)):
        if wanted := request.query(name) or default:
            try:
                at = parse_date(wanted, state.clock.now(), zone)
            except ValueError:
                raise invalid(f"{name}: {wanted!r} is not a date.") from None
            conditions.append(f"timestamp {sign} {moment(at.astimezone(ZoneInfo('UTC')))}")
    rows = state.warehouse.execute(
        "SELECT elements_chain AS chain, event, count() AS n FROM {db}.events"  # noqa: S608 - of our own making
        f" WHERE {' AND '.join(conditions)} GROUP BY chain, event ORDER BY n DESC, chain, event"
        f" LIMIT {limit + 1} OFFSET {offset}"
    )
    results = [
        {
            "count": int(row["n"]),
            "hash": sha256(row["chain"].encode()).hexdigest()[:32],
            "type": row["event"],
            "elements": parse_chain(row["chain"]),
        }
        for row in rows[:limit]
    ]
    following = request.link(limit=limit, offset=offset + limit) if len(rows) > limit else None
    previous = request.link(limit=limit, offset=max(offset - limit, 0)) if offset else None
    headers = {"Cache-Control": "public, max-age=30"}
    return json_answer({"results": results, "next": following, "previous": previous}, 200, headers)


def values(request: Request) -> Answer:
    """Return the values of one field of clicked elements (``GET elements/values/``).

    :param request: ``key`` and ``value`` (a part of the values) in its query.
    """
    key, part = request.query("key"), (request.query("value") or "").lower()
    if key == "selector":
        return json_answer([])
    if key not in VALUES:
        raise invalid(f"key must be one of {', '.join(VALUES)}")
    since = moment(request.state.clock.now() - timedelta(days=7))
    rows = request.state.warehouse.execute(
        "SELECT elements_chain AS chain, count() AS n FROM {db}.events"  # noqa: S608 - of our own making
        f" WHERE elements_chain != '' AND timestamp >= {since} GROUP BY chain ORDER BY n DESC, chain"
    )
    values_ = dict.fromkeys(
        str(element[key]) for row in rows for element in parse_chain(row["chain"]) if element[key] is not None
    )
    return json_answer([{"name": value} for value in values_ if part in value.lower()][:MOST_VALUES])


# (method, path, work, scopes) of what the oldest servers close to keys altogether
_ROWS: tuple[tuple[str, str, Callable[[Request], Answer], tuple[str, ...]], ...] = (
    ("GET", "", list_, READ),
    ("POST", "", create, WRITE),
    ("GET", "stats/", stats, READ),
    ("GET", "values/", values, READ),
    ("GET", "{id}/", retrieve, READ),
    ("PUT", "{id}/", update, WRITE),
    ("PATCH", "{id}/", update, WRITE),
    ("DELETE", "{id}/", delete, WRITE),
)
ROUTES = (
    *(Route(row[0], f"/elements/{row[1]}", threaded(row[2]), row[3], generations="BC") for row in _ROWS),
    *(closed(method, f"/elements/{path}") for method, path, _, _ in _ROWS),
)
