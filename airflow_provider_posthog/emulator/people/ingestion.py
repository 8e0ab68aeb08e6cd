"""What PostHog does with a captured event: find or make its person, change the person, store the event."""

from __future__ import annotations

import json
import uuid as uuids
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.people.person import Person
    from airflow_provider_posthog.emulator.state import State


# the names of which PostHog's native table of events makes text; it names more that no document lists
COMMON = frozenset({"context", "id", "query", "revenue", "category"})


class CaptureRefused(Exception):
    """The setting ``capture`` is ``refused``."""


def capture(state: State, events: Sequence[Mapping[str, Any]], *, quiet: bool = False) -> list[str]:
    """Take in events, as PostHog's capture endpoint does.

    A distinct id that nobody has makes a person, unless the event is personless; it is as old as the event says that it
    is, not as its arrival. After a deletion, that person has its old uuid again, which ClickHouse holds for deleted.

    :param state: the server's state.
    :param events: each with ``event`` and ``distinct_id``, and perhaps ``uuid``, ``timestamp``, ``created_at``,
        ``elements_chain``, ``properties``, ``$set`` and ``$unset``; an event whose property
        ``$process_person_profile`` is false is personless.
    :param quiet: say nothing when capturing is refused.
    :returns: the uuids of the persons of the events.
    :raises CaptureRefused: when the setting ``capture`` says so.
    """
    if state.settings.capture == "refused" and not quiet:
        raise CaptureRefused
    if state.settings.capture != "stored":
        return []
    rows, owners = [], []
    for event in events:
        properties = dict(event.get("properties") or {})
        owner = _owner(state, str(event["distinct_id"]), properties, _happened(event))
        if owner is not None:
            _change(state, owner, {**(properties.get("$set") or {}), **(event.get("$set") or {})}, event)
        uuid = owner.uuid if owner is not None else state.people.uuid_for(str(event["distinct_id"]))
        owners.append(uuid)
        rows.append(_row(state, event, properties, uuid))
    state.people.touch()
    # they have arrived now, even where queries see them later
    state.people.schedule(state.settings.event_lag_seconds, lambda: state.warehouse.insert_events(rows))
    return owners


def _happened(event: Mapping[str, Any]) -> datetime | None:
    with suppress(ValueError):
        at = datetime.fromisoformat(str(event.get("timestamp")).replace("Z", "+00:00"))
        return at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return None


def _owner(state: State, distinct_id: str, properties: Mapping[str, Any], happened: datetime | None) -> Person | None:
    person = state.people.by_distinct_id(distinct_id)
    if person is not None:
        person.last_seen_at = state.clock.now()
    elif properties.get("$process_person_profile") is not False:
        person = state.people.create([distinct_id], {}, created_at=happened, is_identified=False)
        state.people.publish([person], new=True)
    return person


def _change(state: State, person: Person, changes: dict[str, Any], event: Mapping[str, Any]) -> None:
    removed = list(event.get("$unset") or [])
    if changes or removed:
        state.people.update(person, changes, removed)


def _row(state: State, event: Mapping[str, Any], properties: dict[str, Any], person: str) -> dict[str, object]:
    now = state.clock.now().isoformat()
    for name in ("$set", "$unset"):
        if name in event:
            properties[name] = event[name]
    chain = {"elements_chain": event["elements_chain"]} if "elements_chain" in event else {}
    return {
        **chain,
        "uuid": str(event.get("uuid") or uuids.uuid4()),
        "event": event["event"],
        "distinct_id": str(event["distinct_id"]),
        "person_id": person,
        "timestamp": event.get("timestamp") or now,
        "created_at": event.get("created_at") or now,
        "properties": _as_native(properties) if state.settings.native_json else properties,
    }


def _as_native(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties as servers with native JSON store them: those with common names are text, whatever was sent."""
    return {
        name: value if name not in COMMON or value is None or isinstance(value, str) else json.dumps(value)
        for name, value in properties.items()
    }
