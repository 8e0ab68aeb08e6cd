"""Behind capture: events reach ClickHouse, persons and groups change, and rows of the same key become one."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.emulator.capture.rules import moment
from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.people.group import Group
from airflow_provider_posthog.emulator.people.groups import TYPES
from airflow_provider_posthog.emulator.people.people_tables import listed

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.people.groups import GroupStore
    from airflow_provider_posthog.emulator.people.person import Person
    from airflow_provider_posthog.emulator.people.persons import People

MERGING = ("$create_alias", "$merge_dangerously", "$identify")


class Ingestion:
    """Ingestion.

    :param core: the clock, the settings, the store.
    :param people: whose persons change.
    :param groups: whose groups change.
    """

    def __init__(self, core: Core, people: People, groups: GroupStore) -> None:
        self._core = core
        self._people = people
        self._groups = groups
        # of events in ClickHouse: what its table is sorted by
        self._keys: set[int] = set()
        self._repeated: dict[int, dict[str, object]] = {}

    def ingest(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write events to ClickHouse, and change their persons and groups.

        :param events: as they were taken, with ``person_processing`` where that is off.
        """
        owners = self._owners(events)
        rows, again = [], False
        for event in events:
            row = self._row(event, owners)
            key = _key(row)
            if key in self._keys:
                self._repeated[key], again = row, True
            self._keys.add(key)
            rows.append(row)
        self._people.touch()
        self._core.warehouse.insert_events(rows)
        if again:
            self._people.schedule(self._core.settings.merge_seconds, self.merge)

    def merge(self) -> None:
        """Make one row of rows of the same key, as ReplacingMergeTree does: the newest stays."""
        repeated, self._repeated = self._repeated, {}
        for start in range(0, len(rows := [*repeated.values()]), 1000):
            batch = rows[start : start + 1000]
            conditions = listed([_condition_key(row) for row in batch])
            self._core.warehouse.delete_events(
                "concat(toString(uuid), ' ', toString(toDate(timestamp)), ' ', event, ' ', distinct_id) IN "
                + conditions
            )
            self._core.warehouse.insert_events(batch)

    def _owners(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Person]:
        """Find or make the persons of events, and change them in the order of the events."""
        people = self._people
        owners: dict[str, Person] = {}
        made: dict[str, Person] = {}
        changed: dict[str, Person] = {}
        for event in events:
            who, properties = event["distinct_id"], event["properties"]
            if event.get("person_processing") is False or properties.get("$process_person_profile") is False:
                continue
            person = owners.get(who) or people.by_distinct_id(who)
            if person is None:
                person = people.create([who], {}, created_at=moment(event["timestamp"]), is_identified=False)
                made[person.uuid] = person
            owners[who] = person
            if event["event"] in MERGING and self._join(person, properties.get("alias")):
                changed[person.uuid] = person
            if event["event"] == "$groupidentify":
                self._group(properties)
            if _change(
                person, {**properties, **{name: event[name] for name in ("$set", "$set_once") if name in event}}
            ):
                changed[person.uuid] = person
        if made:
            people.publish([*made.values()], new=True)
        if left := [person for uuid, person in changed.items() if uuid not in made]:
            people.publish(left)
        return owners

    def _join(self, person: Person, alias: object) -> bool:
        if not isinstance(alias, str) or not alias or alias in person.distinct_ids:
            return False
        self._people.join(person, alias)
        return True

    def _group(self, properties: Mapping[str, Any]) -> None:
        index = next((number for number, name in TYPES.items() if name == properties.get("$group_type")), None)
        key = properties.get("$group_key")
        if index is None or not isinstance(key, str):
            return
        store = self._groups
        group = store.find(index, key) or Group(index, key, self._core.clock.now(), {})
        group.properties = {**group.properties, **(properties.get("$group_set") or {})}
        store.save(group)

    def _row(self, event: Mapping[str, Any], owners: Mapping[str, Person]) -> dict[str, object]:
        who, properties = event["distinct_id"], dict(event["properties"])
        personless = event.get("person_processing") is False
        owner = None if personless else owners.get(who)
        if personless:
            properties["$process_person_profile"] = False
        for name in ("$set", "$set_once", "$session_id", "$window_id"):
            if name in event:
                properties[name] = event[name]
        at = event["at"]
        return {
            "uuid": str(uuids.UUID(str(event["uuid"]))),
            "event": event["event"],
            "distinct_id": who,
            "person_id": owner.uuid if owner is not None else self._people.uuid_for(who),
            "timestamp": at.isoformat() if isinstance(at, datetime) else at,
            "created_at": iso(self._core.clock.now()),
            "properties": properties,
        }


def _change(person: Person, properties: Mapping[str, Any]) -> bool:
    """Change a person's properties as an event says; return whether it changes any."""
    once, now, gone = (properties.get(name) for name in ("$set_once", "$set", "$unset"))
    if not once and not now and not gone:
        return False
    kept = {name: value for name, value in person.properties.items() if name not in set(gone or ())}
    person.properties = {**(once if isinstance(once, dict) else {}), **kept, **(now if isinstance(now, dict) else {})}
    return True


def _key(row: Mapping[str, object]) -> int:
    return hash((str(row["timestamp"])[:10], row["event"], row["distinct_id"], row["uuid"]))


def _condition_key(row: Mapping[str, object]) -> str:
    return f"{row['uuid']} {str(row['timestamp'])[:10]} {row['event']} {row['distinct_id']}"
