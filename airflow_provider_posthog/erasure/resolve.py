"""Resolve identifiers to persons, with all their distinct ids and counts of what is to be erased.

An identifier may lead to several persons (an e-mail address), several to one (merged ids), and some to events without
a person (personless ones). Each answer of PostHog is checked before it counts as a match: it ignores a filter that it
does not know, and then lists everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.answers import needed
from airflow_provider_posthog.erasure import counts
from airflow_provider_posthog.erasure.addresses import folded, is_printed_otherwise, spellings
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.identifiers import KINDS, Identifier
from airflow_provider_posthog.erasure.queries import batched, packed
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogNotFoundError

#: The properties that hold an e-mail address.
EMAIL_PROPERTIES = ("email", "$email", "Email")
_OF_IDS = "distinct_id IN {values}"
_OF_ADDRESSES = "lowerUTF8(distinct_id) IN {values} OR distinct_id IN {values}"
_OF_PERSONS = "toString(person_id) IN {values}"
#: How many identifiers are resolved together.
BATCH = 1000
#: How many distinct ids of each person a batch look-up returns.
_SHOWN_IDS = 10


@dataclass
class Resolved:
    """The result of a batch of identifiers.

    :param persons: the persons, each once.
    :param not_found: the identifiers that match no person and to no event.
    """

    persons: list[Person] = field(default_factory=list)
    not_found: list[Identifier] = field(default_factory=list)


@dataclass
class _Hits:
    """Which identifiers lead to which persons."""

    by_uuid: dict[str, list[Identifier]] = field(default_factory=dict)

    def add(self, uuid: str, identifier: Identifier) -> None:
        self.by_uuid.setdefault(uuid.lower(), []).append(identifier)


def resolve(client: ErasureClient, batch: Sequence[Identifier], server: Server, until: datetime) -> Resolved:
    """Find the persons behind identifiers.

    :param client: asks PostHog.
    :param batch: at most :data:`BATCH` identifiers.
    :param server: the server.
    :param until: the moment that tells events dated in the future from others.
    :raises PostHogErasureError: for a person who does not have the identifier that led there.
    """
    hits = _Hits()
    by_id = [identifier for identifier in batch if identifier.kind == "distinct_id"]
    for identifier in batch:
        if identifier.kind == "uuid":
            hits.add(identifier.value, identifier)
    _by_distinct_id(client, by_id, hits, server)
    _by_email(client, [identifier for identifier in batch if identifier.kind == "email"], hits, server)
    by_uuid = profiles(client, [*hits.by_uuid], server)
    ids = _distinct_ids(client, by_uuid, server)
    for uuid, person in by_uuid.items():
        _check(uuid, person, ids[uuid], hits.by_uuid[uuid])
    people = [Person(uuid, tuple(ids[uuid]), others=_others(ids[uuid], hits.by_uuid[uuid])) for uuid in by_uuid]
    hit = {identifier for uuid in by_uuid for identifier in hits.by_uuid[uuid]}
    missed = [identifier for identifier in batch if identifier not in hit]
    # Also search addresses that led to a profile: server-side events may carry the address itself as their id.
    sought = [identifier for identifier in batch if identifier.kind == "email" or identifier not in hit]
    people, lost = _by_events(client, people, sought, server)
    missed = [identifier for identifier in missed if identifier in lost]
    return Resolved(count(client, people, until), missed)


def _spelt(identifier: Identifier) -> set[str]:
    """Return how an identifier may be written as a distinct id of events."""
    return spellings(identifier.value) if identifier.kind == "email" else {identifier.value}


def _others(ids: Sequence[str], identifiers: Sequence[Identifier]) -> int:
    """Count the distinct ids that are erased along with the requested ones; 0 if the whole person was requested."""
    if any(identifier.kind != "distinct_id" for identifier in identifiers):
        return 0
    return len(set(ids) - {identifier.value for identifier in identifiers})


def _by_distinct_id(client: ErasureClient, batch: Sequence[Identifier], hits: _Hits, server: Server) -> None:
    """Look up ids in queries and, if the server can, in the database, which is more accurate."""
    for some in batched(batch, persons.MAX_BATCH):
        values = sorted({identifier.value for identifier in some})
        owners = counts.owners_of(client, values)
        if server.has_batches:
            answer = client.send(persons.batch_by_distinct_ids(values))
            owners.update(_uuids(answer))
        for identifier in some:
            if identifier.value in owners:
                hits.add(owners[identifier.value], identifier)


def _by_email(client: ErasureClient, batch: Sequence[Identifier], hits: _Hits, server: Server) -> None:
    """Look up addresses in any case: they are the same mailbox, and PostHog's own filter would miss some.

    Many projects identify people by their address, so it is searched among the distinct ids too.
    """
    wanted: dict[str, list[Identifier]] = {}
    for identifier in batch:
        wanted.setdefault(folded(identifier.value), []).append(identifier)
    # ClickHouse's lower() leaves all but ASCII alone; where the two ideas of a small letter differ, both are asked for.
    spelt = sorted({text for identifier in batch for text in _spelt(identifier)})
    printed = [f"trim(toString(properties.{name}))" for name in EMAIL_PROPERTIES]
    # HogQL prints a property as it stands in the JSON, with its escapes; this reads it as text, but reads more for it.
    read = [f"trim(JSONExtractString(properties, '{name}'))" for name in EMAIL_PROPERTIES]
    odd = sorted(filter(is_printed_otherwise, spelt))
    for columns, values in ((printed, spelt), (read, odd)):
        where = " OR ".join(f"lowerUTF8({column}) IN {{emails}} OR {column} IN {{emails}}" for column in columns)
        sql = f"SELECT toString(id), {', '.join(columns)} FROM persons WHERE {where}"  # noqa: S608 - no values in it
        for pack in packed(values):
            rows = client.rows(sql, {"emails": pack}, str, *[(str, type(None))] * len(columns))
            for uuid, *addresses in rows:
                for address in {folded(str(address)) for address in addresses if address}:
                    for identifier in wanted.get(address, ()):
                        hits.add(str(uuid), identifier)
    _by_address_as_id(client, spelt, wanted, hits, server)


def _by_address_as_id(
    client: ErasureClient, spelt: Sequence[str], wanted: Mapping[str, Sequence[Identifier]], hits: _Hits, server: Server
) -> None:
    owners: dict[str, str] = {}  # the owner's UUID by distinct id
    sql = "SELECT distinct_id, toString(person_id) FROM person_distinct_ids WHERE lowerUTF8(distinct_id) IN {emails}"
    for pack in packed(spelt):
        rows = client.rows(sql, {"emails": pack}, str, str)
        owners.update((str(name), str(uuid)) for name, uuid in rows)
    for some in batched(spelt if server.has_batches else (), persons.MAX_BATCH):
        answer = client.send(persons.batch_by_distinct_ids(some))
        owners.update(_uuids(answer))
    for name, uuid in owners.items():
        for identifier in wanted.get(folded(name), ()):
            hits.add(uuid, identifier)


def _uuids(answer: persons.Persons) -> dict[str, str]:
    return {name: needed(person, "uuid", str, "a person") for name, person in (answer.get("results") or {}).items()}


def profiles(client: ErasureClient, uuids: Sequence[str], server: Server) -> dict[str, persons.Person]:
    """Return profiles from PostHog's database, which deletions reach first.

    :param client: asks PostHog.
    :param uuids: of the persons.
    :param server: the server; the oldest take one call for each person.
    :returns: the profiles by UUID; deleted persons are missing.
    """
    people: dict[str, persons.Person] = {}
    if server.has_batches:
        for some in batched(uuids, persons.MAX_BATCH):
            answer = client.send(persons.batch_by_uuids(some))
            for uuid, person in (answer.get("results") or {}).items():
                people[str(uuid).lower()] = person
        return people
    for uuid in uuids:
        try:
            people[uuid] = client.send(persons.retrieve(uuid))
        except PostHogNotFoundError:
            continue
    return people


def _check(uuid: str, person: persons.Person, ids: Sequence[str], identifiers: Sequence[Identifier]) -> None:
    """Check that a person has the identifiers that led there."""
    if str(person.get("uuid", "")).lower() != uuid:
        raise _unexpected("PostHog answered with another person")
    held = person.get("properties") or {}
    addresses = {folded(str(held.get(name) or "")) for name in EMAIL_PROPERTIES} | set(map(folded, ids))
    for identifier in identifiers:
        if identifier.kind == "email" and folded(identifier.value) not in addresses:
            raise _unexpected(f"the e-mail address {identifier.place} is not this person's")
        if identifier.kind == "distinct_id" and identifier.value not in ids:
            raise _unexpected(f"the distinct id {identifier.place} is not this person's")


def _unexpected(why: str) -> PostHogErasureError:
    return PostHogErasureError(f"Unexpected match: {why}. Nothing was deleted; look at it, and try again.")


def _distinct_ids(client: ErasureClient, people: Mapping[str, persons.Person], server: Server) -> dict[str, list[str]]:
    """Return all distinct ids of persons that either of the two stores knows."""
    shown = counts.ids_of(client, [*people])
    ids: dict[str, list[str]] = {}
    for uuid, person in people.items():
        held = [str(name) for name in person.get("distinct_ids") or ()]
        held += _beyond(client, uuid, held, server)
        ids[uuid] = sorted({*held, *shown.get(uuid, ())})
    return ids


def _beyond(client: ErasureClient, uuid: str, held: Sequence[str], server: Server) -> list[str]:
    """Return all distinct ids if the batch look-up has cut them: queries may lag behind."""
    if not server.has_batches or len(held) < _SHOWN_IDS:
        return []
    try:
        whole = client.send(persons.retrieve(uuid))
    except PostHogNotFoundError:
        return []
    return [str(name) for name in whole.get("distinct_ids") or ()]


def held_now(client: ErasureClient, uuids: Sequence[str], server: Server) -> dict[str, set[str]]:
    """Return the distinct ids of persons as they are now; of the oldest servers only as queries show them.

    :param client: asks PostHog.
    :param uuids: of the persons.
    :param server: the server.
    :returns: by UUID; persons without a profile are missing.
    """
    if not server.has_batches:
        shown = counts.ids_of(client, uuids)
        return {uuid: set(names) for uuid, names in shown.items()}
    people = profiles(client, uuids, server)
    ids: dict[str, set[str]] = {}
    for uuid, person in people.items():
        held = [str(name) for name in person.get("distinct_ids") or ()]
        ids[uuid] = {*held, *_beyond(client, uuid, held, server)}
    return ids


def moved_ids(
    client: ErasureClient, people: Sequence[Person], held: Mapping[str, set[str]], server: Server
) -> dict[str, str]:
    """Return the distinct ids that belong to another person than when they were looked up, after a split or a merge.

    :param client: asks PostHog.
    :param people: the persons, as they were looked up.
    :param held: their distinct ids now, from :func:`held_now`.
    :param server: the server.
    :returns: the UUID of whom they belong to now, by distinct id; ids that are nobody's are missing.
    """
    uuid_of = {name: person.uuid for person in people for name in person.distinct_ids}
    names = sorted(name for name, uuid in uuid_of.items() if name not in held.get(uuid, ()))
    owners: dict[str, str] = {}
    if names and not server.has_batches:
        owners = counts.owners_of(client, names)
    for batch in batched(names if server.has_batches else (), persons.MAX_BATCH):
        owners.update(_uuids(client.send(persons.batch_by_distinct_ids(batch))))
    return {name: uuid.lower() for name, uuid in owners.items() if uuid.lower() != uuid_of[name]}


def _by_events(
    client: ErasureClient, people: list[Person], sought: list[Identifier], server: Server
) -> tuple[list[Person], list[Identifier]]:
    """Find events beyond those of the profiles: personless ones, and those whose profile is gone or hidden.

    A person recreated after a deletion is hidden from lists and queries, but PostHog's database has the profile.

    :returns: the persons, and the identifiers of which there is no event.
    """
    if not sought:
        return people, sought
    known = {person.uuid: person for person in people}
    owned = {name for person in people for name in person.distinct_ids}
    by_kind = {kind: [identifier for identifier in sought if identifier.kind == kind] for kind in KINDS}
    values: dict[str, list[str]] = {
        _OF_IDS: [identifier.value for identifier in by_kind["distinct_id"]],
        _OF_ADDRESSES: [text for address in by_kind["email"] for text in sorted(_spelt(address))],
        _OF_PERSONS: [identifier.value for identifier in by_kind["uuid"]],
    }
    wanted = {folded(address.value) for address in by_kind["email"]}
    carried: dict[str, set[str]] = {}  # the distinct ids of events, by the UUID that the events carry
    for where, some in values.items():
        for pack in packed(some):
            for uuid, name in counts.carriers(client, where, pack, server.now):
                # Events of a profile that is known are counted with it, whatever UUID they carry.
                if name not in owned and (where != _OF_ADDRESSES or folded(name) in wanted):
                    carried.setdefault(uuid, set()).add(name)
    hidden = profiles(client, [uuid for uuid in carried if uuid not in known], server)
    held = _distinct_ids(client, hidden, server)
    for uuid, ids in carried.items():
        person = known.get(uuid) or Person(uuid, profile=uuid in hidden)
        ids.update(held.get(uuid, ()))
        known[uuid] = replace(person, distinct_ids=tuple(sorted({*person.distinct_ids, *ids})))
    seen = {name for ids in carried.values() for name in ids} | owned
    there = {"uuid": carried.keys(), "distinct_id": seen, "email": {folded(name) for name in seen}}
    return [*known.values()], [identifier for identifier in sought if _key_of(identifier) not in there[identifier.kind]]


def _key_of(identifier: Identifier) -> str:
    """Return how an identifier is compared: addresses in any case."""
    return folded(identifier.value) if identifier.kind == "email" else identifier.value


def count(client: ErasureClient, people: Sequence[Person], until: datetime) -> list[Person]:
    """Return persons with their counts.

    :param client: asks PostHog.
    :param people: the persons.
    :param until: the moment that tells events dated in the future from others.
    """
    if not people:
        return []
    events: Mapping[str, Any] = counts.events(client, people, until)
    recordings = counts.recordings(client, people)
    counted = []
    for person in people:
        current = events.get(person.uuid, counts.NONE)
        counted.append(
            replace(
                person,
                events=current.all,
                oldest_event=current.oldest.isoformat() if current.oldest else None,
                newest_event=current.newest.isoformat() if current.newest else None,
                future_events=current.future,
                recordings=recordings.get(person.uuid, 0),
            )
        )
    return counted
