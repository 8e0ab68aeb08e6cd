"""``/groups/`` and ``/groups_types/``."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable

from airflow_provider_posthog.emulator.http.activity_page import activity_page
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, invalid, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route, closed
from airflow_provider_posthog.emulator.people.group import Group
from airflow_provider_posthog.emulator.people.groups import TYPES
from airflow_provider_posthog.emulator.people.people_tables import text
from airflow_provider_posthog.emulator.routes.persons import threaded

READ, WRITE = ("group:read",), ("group:write",)
PAGE = 100
MOST_VALUES = 20
NO_INDEX = (
    "You must pass ?group_type_index= in this URL. To get a list of valid group types, call "
    "/api/:project_id/groups_types/."
)
NO_PARAMETER = "This query parameter is required."


def _index(request: Request, missing: str = NO_PARAMETER) -> int:
    sent = request.query("group_type_index")
    if not sent:
        raise invalid(missing, attr="group_type_index")
    if not sent.isdigit():
        raise invalid("A valid integer is required.", attr="group_type_index")
    return int(sent)


def _group(request: Request) -> Group:
    index, key = _index(request), request.query("group_key")
    if not key:
        raise invalid(NO_PARAMETER, attr="group_key")
    group = request.state.groups.find(index, key)
    if group is None:
        raise not_found()
    return group


# -- lists -------------------------------------------------------------------------------------------------------


def _after(request: Request, groups: list[Group]) -> list[Group]:
    """Return the groups after the cursor; PostHog starts again at the first page with a cursor that makes no sense."""
    try:
        cursor = json.loads(base64.urlsafe_b64decode(request.query("cursor") or ""))
        place = (int(cursor["c"]), str(cursor["k"]))
    except (ValueError, KeyError, TypeError):
        return groups
    return [group for group in groups if _place(group) < place]


def _place(group: Group) -> tuple[int, str]:
    return round(group.created_at.timestamp() * 1_000_000), group.key


def list_(request: Request) -> Answer:
    """List groups of one type, newest first (``GET groups/``): 100 a page, with a cursor.

    :param request: ``group_type_index``, ``search`` and ``group_key`` (parts of it) and ``cursor`` in its query.
    """
    groups = request.state.groups.listed(_index(request, NO_INDEX))
    search, key = (request.query("search") or "").lower(), (request.query("group_key") or "").lower()
    groups = [group for group in groups if key in group.key.lower()]
    groups = [
        group for group in groups if search in group.key.lower() or search in json.dumps(group.properties).lower()
    ]
    left = _after(request, groups)
    length = min(PAGE, request.state.settings.max_page or PAGE)
    shown, following = left[:length], None
    if len(left) > length:
        created, last = _place(shown[-1])
        cursor = base64.urlsafe_b64encode(json.dumps({"c": created, "k": last}).encode()).decode()
        following = request.link(cursor=cursor)
    return json_answer({"next": following, "previous": None, "results": [group.as_json() for group in shown]})


def types(request: Request) -> Answer:
    """List the types of groups (``GET groups_types/``), not in pages.

    :param request: nothing of it matters.
    """
    newer = {"detail_dashboard": None, "default_columns": None, "created_at": None}
    more = {} if request.state.settings.generation == "A" else newer
    names = {"name_singular": None, "name_plural": None}
    return json_answer(
        [{"group_type": name, "group_type_index": index, **names, **more} for index, name in TYPES.items()]
    )


def property_definitions(request: Request) -> Answer:
    """Count the properties of groups per type (``GET groups/property_definitions/``).

    Today's PostHog has it no more: see the setting ``withdrawn``.

    :param request: nothing of it matters.
    """
    settings = request.state.settings
    if settings.generation == "C" and settings.withdrawn == "refuse":
        raise not_found()
    counted = {
        str(index): Counter(name for group in request.state.groups.listed(index) for name in group.properties)
        for index in TYPES
    }
    return json_answer(
        {index: [{"name": name, "count": n} for name, n in counts.most_common()] for index, counts in counted.items()}
    )


def property_values(request: Request) -> Answer:
    """Return the most frequent values of a property of groups (``GET groups/property_values/``).

    :param request: ``group_type_index``, ``key`` and ``value`` (a part of the values) in its query.
    """
    groups, key = request.state.groups.listed(_index(request)), request.query("key")
    if not key:
        raise invalid(NO_PARAMETER, attr="key")
    part = (request.query("value") or "").lower()
    held = [group.properties[key] for group in groups if group.properties.get(key) is not None]
    names = [value if isinstance(value, str) else json.dumps(value) for value in held]
    counted = Counter(name for name in names if part in name.lower()).most_common(MOST_VALUES)
    return json_answer({"results": [{"name": name, "count": n} for name, n in counted], "refreshing": False})


def related(request: Request) -> Answer:
    """Return the groups of a person, or the persons of a group (``GET groups/related/``).

    :param request: ``id``, and ``group_type_index`` if the id is a group's, in its query.
    """
    wanted, index, state = request.query("id") or "", request.query("group_type_index"), request.state
    if index is not None and index.isdigit():
        condition = f"`$group_{int(index) % 5}` = {text(wanted)}"
        rows = state.warehouse.execute(
            f"SELECT DISTINCT toString(person_id) AS id FROM {{db}}.events WHERE {condition}"  # noqa: S608
        )
        persons = [person for row in rows if (person := state.people.get(row["id"])) is not None]
        return json_answer([person.as_row(state.settings.generation) for person in persons])
    rows = state.warehouse.execute(
        f"SELECT DISTINCT `$group_0` AS key FROM {{db}}.events WHERE toString(person_id) = {text(wanted)} AND key != ''"  # noqa: S608
    )
    groups = [group for row in rows if (group := state.groups.find(0, row["key"])) is not None]
    return json_answer([{"type": "group", "id": group.key, **group.as_json()} for group in groups])


# -- one group ---------------------------------------------------------------------------------------------------


def find(request: Request) -> Answer:
    """Return a group (``GET groups/find/``). PostHog may make a notebook for it unless told not to.

    :param request: ``group_type_index``, ``group_key`` and ``skip_create_notebook`` in its query.
    """
    group = _group(request)
    return json_answer({**group.as_json(), "notebook": None})


def _refused(attr: str) -> ApiError:
    body = envelope("validation_error", "Failed to submit group property deletion event.", "capture_error", attr)
    return ApiError(502, body)


def create(request: Request) -> Answer:
    """Make a group (``POST groups/``).

    :param request: ``group_type_index``, ``group_key`` and ``group_properties`` in its body.
    """
    body, state = request.json(), request.state
    for name in ("group_type_index", "group_key"):
        if body.get(name) is None:
            raise invalid("This field is required.", "required", name)
    index, key = int(body["group_type_index"]), str(body["group_key"])
    if state.groups.find(index, key) is not None:
        raise invalid("A group with this key already exists", attr="detail")
    group = Group(index, key, state.clock.now(), dict(body.get("group_properties") or {}))
    state.groups.save(group)
    _log(request, group, "create_group")
    if state.settings.capture == "refused":
        # the group is there all the same
        raise _refused("detail")
    return json_answer(group.as_json(), 201)


def update_property(request: Request) -> Answer:
    """Set a property of a group (``POST groups/update_property/``).

    :param request: ``group_type_index`` and ``group_key`` in its query, ``key`` and ``value`` in its body.
    """
    group, body = _group(request), request.json()
    for name in ("key", "value"):
        if body.get(name) is None:
            raise invalid("This field is required.", "required", name)
    return _save(request, group, {**group.properties, str(body["key"]): body["value"]}, "key")


def delete_property(request: Request) -> Answer:
    """Remove a property of a group (``POST groups/delete_property/``); a second time is a 400.

    :param request: ``group_type_index`` and ``group_key`` in its query, ``$unset`` in its body.
    """
    group, name = _group(request), request.json().get("$unset")
    if not isinstance(name, str):
        raise invalid("This field is required.", "required", "$unset")
    if name not in group.properties:
        raise invalid(f"Property '{name}' does not exist on this group.", attr="$unset")
    return _save(request, group, {key: value for key, value in group.properties.items() if key != name}, "$unset")


def _save(request: Request, group: Group, properties: Json, attr: str) -> Answer:
    group.properties = properties
    request.state.groups.save(group)
    _log(request, group, "update_property" if attr == "key" else "delete_property")
    if request.state.settings.capture == "refused":
        raise _refused(attr)
    return json_answer(group.as_json())


def _log(request: Request, group: Group, activity: str) -> None:
    item = f"{group.index}:{group.key}"
    request.state.activity.add("Group", item, activity, request.caller().user, name=group.key, changes=[])


def activity(request: Request) -> Answer:
    """Return who changed a group (``GET groups/activity/``).

    :param request: ``group_type_index`` and ``group_key``, ``limit`` and ``page`` in its query.
    """
    group = _group(request)
    return activity_page(request, "Group", f"{group.index}:{group.key}")


# (path, work, method, scopes) of the actions that the oldest servers close to keys
_NEWER: tuple[tuple[str, str, Callable[[Request], Answer], tuple[str, ...]], ...] = (
    ("GET", "find/", find, READ),
    ("GET", "related/", related, READ),
    ("GET", "property_definitions/", property_definitions, READ),
    ("GET", "property_values/", property_values, READ),
    ("GET", "activity/", activity, ("activity_log:read",)),
)
_WRITING: tuple[tuple[str, Callable[[Request], Answer]], ...] = (
    ("", create),
    ("update_property/", update_property),
    ("delete_property/", delete_property),
)
ROUTES = (
    Route("GET", "/groups/", threaded(list_), READ),
    Route("GET", "/groups_types/", threaded(types), READ),
    *(Route(row[0], f"/groups/{row[1]}", threaded(row[2]), row[3], generations="BC") for row in _NEWER),
    *(closed(method, f"/groups/{path}") for method, path, _, _ in _NEWER),
    *(Route("POST", f"/groups/{path}", threaded(work), WRITE, generations="BC") for path, work in _WRITING),
)
