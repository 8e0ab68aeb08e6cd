"""Resolve many identifiers into a work file, a batch at a time."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.identifiers import Identifier
from airflow_provider_posthog.erasure.project import Project
from airflow_provider_posthog.erasure.queries import batched
from airflow_provider_posthog.erasure.resolve import BATCH, resolve
from airflow_provider_posthog.erasure.work_file import Header, Totals, WorkFileSystem, WorkFileWriter
from airflow_provider_posthog.exceptions import PostHogErasureError

#: Up to this many identifiers that match no person are reported by their place.
_MAX_PLACES = 100
_MAX_KEPT = 10_000


@dataclass
class NotFound:
    """The identifiers that match no person: how many of each kind, and where they were given.

    :param identifiers: some of them; for the certificate only, which holds HMACs of them.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    identifiers: list[Identifier] = field(default_factory=list, repr=False)

    def add(self, identifiers: Iterable[Identifier]) -> None:
        """Add identifiers.

        :param identifiers: the identifiers.
        """
        for identifier in identifiers:
            self.kinds[identifier.kind] += 1
            if len(self.identifiers) < _MAX_KEPT:
                self.identifiers.append(identifier)
            if len(self.places) < _MAX_PLACES:
                self.places.append(f"{identifier.kind} {identifier.place}")

    def as_json(self) -> dict[str, Any]:
        """Return counts and places."""
        return {"count": sum(self.kinds.values()), "kinds": dict(self.kinds), "places": self.places}


@dataclass
class Search:
    """The result of a search.

    :param header: of the work file.
    :param totals: sums over the persons.
    :param uuids: of the persons; none if there are more than may be named.
    :param not_found: the identifiers that match no person.
    """

    header: Header
    totals: Totals
    uuids: list[str]
    not_found: NotFound


@dataclass(frozen=True)
class Limits:
    """What a search may find.

    :param max_persons: the most persons there may be.
    :param max_named: up to so many are named in the result.
    :param must_find_all: whether each identifier has to lead to somebody.
    """

    max_persons: int
    max_named: int
    must_find_all: bool = False


def new_header(server: Server, asked: str, project: Project, verify_by: str) -> Header:
    """Make the header of a new request's work file.

    :param server: the server.
    :param asked: identifies what was requested.
    :param project: which PostHog and project it is.
    :param verify_by: ``distinct_id`` or ``uuid``.
    """
    where = {"host": project.host, "project_id": str(project.project_id)}
    return Header(uuid.uuid4().hex, server.now.isoformat(), server.generation, asked, **where, verify_by=verify_by)


def search(
    client: ErasureClient,
    identifiers: Iterable[Identifier],
    fs: WorkFileSystem,
    path: str,
    header: Header,
    server: Server,
    limits: Limits,
) -> Search:
    """Resolve identifiers to persons and write them to a work file.

    :param client: asks PostHog.
    :param identifiers: the identifiers; a batch of them is in memory at a time.
    :param fs: the file system of the work file.
    :param path: the work file, as the file system spells it.
    :param header: from :func:`new_header`.
    :param server: the server.
    :param limits: what may be found.
    :raises PostHogErasureError: if nobody is found, or too many, or somebody who does not fit.
    """
    seen: set[int] = set()  # as numbers: they need a fifth of the memory
    named: list[str] = []
    missing = NotFound()
    with WorkFileWriter(fs, path, header) as file:
        for batch in batched(identifiers, BATCH):
            resolved = resolve(client, batch, server, server.now)
            missing.add(resolved.not_found)
            new = [person for person in resolved.persons if uuid.UUID(person.uuid).int not in seen]
            seen.update(uuid.UUID(person.uuid).int for person in new)
            if len(seen) > limits.max_persons:
                raise PostHogErasureError(
                    f"There are more than {limits.max_persons:,} persons (max_persons). Nothing was deleted: check "
                    "what was asked for, or raise the limit."
                )
            named = [*named, *(person.uuid for person in new)] if len(seen) <= limits.max_named else []
            file.add(new)
        _check(file.totals, missing, limits.must_find_all)
        file.commit()
    return Search(header, file.totals, named, missing)


def _check(totals: Totals, missing: NotFound, must_find_all: bool) -> None:
    remedy = missing.as_json()
    if not totals.persons:
        raise PostHogErasureError(
            f"NOT_FOUND: none of {remedy['count']} identifiers leads to a person or an event. That is no proof of an "
            "erasure: a mistyped identifier looks the same.",
            states={"NOT_FOUND": remedy["count"]},
        )
    if must_find_all and remedy["count"]:
        raise PostHogErasureError(
            f"NOT_FOUND: {remedy['count']} identifiers match no person ({', '.join(remedy['places'][:10])}).",
            states={"NOT_FOUND": remedy["count"]},
        )
