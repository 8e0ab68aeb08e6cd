"""Check again who is to be erased, just before the request: days may have passed since the persons were resolved.

Meanwhile a person may have got another distinct id, whose recordings could not be found afterwards, or may have been
merged into another person, whose deletion was not approved, or split: then one of the distinct ids is a stranger's.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.queries import batched
from airflow_provider_posthog.erasure.resolve import BATCH, count, held_now, moved_ids, profiles
from airflow_provider_posthog.erasure.work_file import Person, WorkFile, WorkFileWriter
from airflow_provider_posthog.exceptions import PostHogErasureError


@dataclass
class Renewed:
    """What has changed.

    :param added: how many distinct ids were added.
    :param gone: how many profiles are gone, whose distinct ids belong to no person.
    :param moved: the persons whose distinct ids belong to another person now.
    """

    added: int = 0
    gone: int = 0
    moved: list[str] = field(default_factory=list)


def renew(client: ErasureClient, work: WorkFile, server: Server) -> Renewed:
    """Update a work file before the deletion is requested.

    :param client: asks PostHog.
    :param work: the file; it is written anew if something has changed.
    :param server: the server.
    :raises PostHogErasureError: if a distinct id belongs by now to a person who is not in the file; or, in a file
        without distinct ids, if somebody is gone, as nobody can tell whether that was a deletion.
    """
    known = {uuids.UUID(person.uuid).int for person in work.persons()}
    renewed = Renewed()
    header = work.header()
    with WorkFileWriter(work.fs, work.path, header) as file:
        changed = False
        for batch in batched(work.persons(), BATCH):
            new = _renewed(client, batch, server, renewed, known, by_id=header.verify_by == "distinct_id")
            changed = changed or new != batch
            file.add(new)
        if renewed.moved:
            raise PostHogErasureError(
                f"{len(renewed.moved)} persons were merged with others, split or made again since they were resolved. "
                "Nothing was deleted: resolve again, and approve that.",
                job_id=header.request_id,
            )
        if changed:
            file.commit()
    return renewed


def _renewed(
    client: ErasureClient, batch: Sequence[Person], server: Server, renewed: Renewed, known: set[int], *, by_id: bool
) -> list[Person]:
    held = held_now(client, [person.uuid for person in batch if person.profile], server)
    missing = [person for person in batch if person.profile and person.uuid not in held]
    if missing and not server.has_batches:  # queries may lag behind
        people = profiles(client, [person.uuid for person in missing], server)
        held.update({uuid: {str(name) for name in person.get("distinct_ids") or ()} for uuid, person in people.items()})
    known_people = [person for person in batch if person.profile]
    owners = moved_ids(client, known_people, held, server) if by_id else {}
    for person in known_people:
        theirs = {owners[name] for name in person.distinct_ids if name in owners}
        is_missing = person.uuid not in held
        if (is_missing and not by_id) or any(uuids.UUID(owner).int not in known for owner in theirs):
            renewed.moved.append(person.uuid)
        elif is_missing:
            renewed.gone += 1
    return _with_new_ids(client, batch, held, renewed, server) if by_id else [*batch]


def _with_new_ids(
    client: ErasureClient, batch: Sequence[Person], held: dict[str, set[str]], summary: Renewed, server: Server
) -> list[Person]:
    renewed, stale = [], []
    for person in batch:
        new = held.get(person.uuid, set()) - {*person.distinct_ids}
        summary.added += len(new)
        renewed.append(replace(person, distinct_ids=tuple(sorted({*person.distinct_ids, *new}))) if new else person)
        if new or not server.can_keep_persons:  # the oldest servers leave recordings, also those that came since
            stale.append(renewed[-1])
    counted = {person.uuid: person for person in count(client, stale, server.now)}
    return [counted.get(person.uuid, person) for person in renewed]
