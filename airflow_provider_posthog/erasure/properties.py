"""Change properties of profiles and groups, and read them back, as PostHog accepts changes that it then loses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_posthog.api import groups, persons
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.resolve import profiles
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogValidationError

#: Seconds between two readings; the first comes at once.
_WAITS = (0.5, 1.0, 2.0, 5.0, 10.0)
Wrong = Callable[[Mapping[str, Any]], Sequence[str]]


def remove(
    client: ErasureClient, uuids: Sequence[str], names: Sequence[str], server: Server, timeout: float
) -> dict[str, list[str]]:
    """Remove properties of persons and wait until they are gone.

    :param client: asks PostHog.
    :param uuids: of the persons.
    :param names: of the properties.
    :param server: the server.
    :param timeout: how many seconds to wait.
    :returns: the properties that are still there, by person; missing persons have none.
    """
    held = profiles(client, uuids, server)
    for uuid, person in held.items():
        for name in _left(person, names):
            client.send(persons.delete_property(uuid, name))
    return _read_back(client, [*held], server, timeout, lambda person: _left(person, names))


def _left(person: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    properties = person.get("properties") or {}
    return [name for name in names if name in properties]


def write(
    client: ErasureClient, uuids: Sequence[str], values: Mapping[str, Any], server: Server, timeout: float
) -> dict[str, list[str]]:
    """Set properties of persons and wait until they are there.

    :param client: asks PostHog.
    :param uuids: of the persons.
    :param values: the properties.
    :param server: the server.
    :param timeout: how many seconds to wait.
    :returns: the names of properties that are not set, by person; all of them for a missing person.
    """

    def wrong(person: Mapping[str, Any]) -> list[str]:
        properties = person.get("properties") or {}
        return [name for name, value in values.items() if name not in properties or properties[name] != value]

    held = profiles(client, uuids, server)
    for uuid, person in held.items():
        if wrong(person):
            client.send(persons.update(uuid, values))
    left = _read_back(client, [*held], server, timeout, wrong)
    return {**left, **{uuid: [*values] for uuid in uuids if uuid not in held}}


def _read_back(
    client: ErasureClient, uuids: list[str], server: Server, timeout: float, wrong: Wrong
) -> dict[str, list[str]]:
    """Read persons until nothing is wrong with them; PostHog changes them after its answer."""
    waited, look = 0.0, 0
    while True:
        held = profiles(client, uuids, server)
        left = {uuid: [*wrong_names] for uuid, person in held.items() if (wrong_names := wrong(person))}
        if not left or waited >= timeout:
            return left
        seconds = min(_WAITS[min(look, len(_WAITS) - 1)], timeout - waited)
        time.sleep(seconds)
        waited, look, uuids = waited + seconds, look + 1, [*left]


def clear_group(
    client: ErasureClient, index: int, key: str, names: Sequence[str] | None, timeout: float
) -> tuple[int, list[str]]:
    """Remove properties of a group and wait until neither the database nor queries show them.

    :param client: asks PostHog.
    :param index: of the group's type.
    :param key: of the group.
    :param names: of the properties; ``None`` for all.
    :param timeout: how many seconds to wait.
    :returns: how many were there, and the names of those that are left.
    :raises PostHogNotFoundError: if there is no such group.
    """
    held = client.send(groups.find(group_type_index=index, group_key=key)).get("group_properties") or {}
    listed = _listed(client, index, key)
    wanted = sorted({*held, *listed} if names is None else {*names} & {*held, *listed})
    for name in wanted:
        try:
            client.send(_delete_group_property(index, key, name))
        except PostHogValidationError:
            continue  # it is not there any more: a second time is an error, and so is a property of the queries only
    waited, look = 0.0, 0
    while True:
        try:
            held = client.send(groups.find(group_type_index=index, group_key=key)).get("group_properties") or {}
        except PostHogNotFoundError:
            held = {}
        listed = _listed(client, index, key)
        left = [name for name in wanted if name in held or name in listed]
        if not left or waited >= timeout:
            return len(wanted), left
        seconds = min(_WAITS[min(look, len(_WAITS) - 1)], timeout - waited)
        time.sleep(seconds)
        waited, look = waited + seconds, look + 1


def _listed(client: ErasureClient, index: int, key: str) -> set[str]:
    """Return the names of the properties that queries show of a group."""
    sql = "SELECT arrayJoin(JSONExtractKeys(properties)) FROM groups WHERE index = {index} AND key = {key}"
    rows = client.rows(sql, {"index": index, "key": key}, str)
    return {str(row[0]) for row in rows}


def _delete_group_property(index: int, key: str, name: str) -> Call[dict[str, Any]]:
    return Call(
        "groups.delete_property",
        "POST",
        "groups/delete_property/",
        json_object,
        query={"group_type_index": index, "group_key": key},
        json={"$unset": name},
        repeatable=True,
        scopes=("group:write",),
    )
