"""Check all persons of a request: what can still be read of them, in every place where PostHog stores it.

``deletion_status`` only distinguishes waiting from a failure: ``completed`` proves nothing, as PostHog sets it without
counting. The proof is that nothing can be read any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.erasure import counts
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.delete import deletions
from airflow_provider_posthog.erasure.generation import Server, detect
from airflow_provider_posthog.erasure.judge import PENDING, Judgement, Remains, Request, State, judge
from airflow_provider_posthog.erasure.queries import batched
from airflow_provider_posthog.erasure.resolve import profiles
from airflow_provider_posthog.erasure.work_file import Person

#: How many persons are checked together.
BATCH = 1000
#: For how many persons of one check the queued deletion is looked up, one by one.
MAX_STATUSES = 100
#: Of how many persons a quick check looks at the profile, and of how many at the queued deletion: one call each.
_FEW = 200
_FEWER = 20
#: How many persons are named of each state.
_MAX_NAMED = 20


@dataclass
class Report:
    """The result of a check, added up.

    :param states: how many persons are in each state.
    :param examples: some of those who are not verified.
    :param places: which of the persons these are, from 1, by UUID.
    :param totals: sums of what can be read.
    :param now: the server's time.
    :param looked_up: how many queued deletions were looked up.
    :param unnamed: how many persons have no distinct ids here, so that nobody can look for their recordings.
    :param is_proof: whether it looked at the whole history.
    :param unverified: the states of those who are not verified, by UUID.
    """

    states: Counter[State] = field(default_factory=Counter)
    examples: dict[State, list[Judgement]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    now: datetime | None = None
    looked_up: int = 0
    unnamed: int = 0
    is_proof: bool = True
    unverified: dict[str, str] = field(default_factory=dict)

    def add(self, judgement: Judgement) -> None:
        """Add a person.

        :param judgement: the person's judgement.
        """
        self.states[judgement.state] += 1
        self.looked_up += judgement.facts.get("deletion_status") is not None
        self.totals.update({name: value for name, value in judgement.facts.items() if type(value) is int})
        named = self.examples.setdefault(judgement.state, [])
        if judgement.state != "VERIFIED" and len(named) < _MAX_NAMED:
            named.append(judgement)
            self.places[judgement.uuid] = sum(self.states.values())
        if judgement.state != "VERIFIED" and judgement.state not in PENDING:
            self.unverified[judgement.uuid] = judgement.state

    @property
    def is_verified(self) -> bool:
        """Whether nothing is left of anybody; of nobody it is not."""
        return self.states["VERIFIED"] == sum(self.states.values()) > 0

    @property
    def is_over(self) -> bool:
        """Whether nobody is in a state that PostHog may still leave by itself, and somebody is verified."""
        return self.states["VERIFIED"] > 0 and not any(self.states[state] for state in PENDING)

    @property
    def failures(self) -> dict[State, int]:
        """How many persons are in states that PostHog does not leave by itself."""
        return {state: n for state, n in self.states.items() if state != "VERIFIED" and state not in PENDING and n}

    def text(self) -> str:
        """Return a few sentences; persons by their positions, as a UUID can be derived from a distinct id."""
        parts = [", ".join(f"{state} {n}" for state, n in sorted(self.states.items()))]
        for state, named in sorted(self.examples.items(), key=lambda item: item[0] in PENDING):
            parts += [f"{state} (person {self.places[judgement.uuid]}): {judgement.reason}." for judgement in named[:5]]
            if self.states[state] > 5:
                parts.append(f"(and {self.states[state] - 5} more {state})")
        return "; ".join(parts[:1]) + (". " + " ".join(parts[1:]) if parts[1:] else "")

    def as_json(self) -> dict[str, Any]:
        """Return counts and times."""
        return {
            "states": dict(self.states),
            "checked_at": self.now.isoformat() if self.now else None,
            **{name: self.totals[name] for name in ("events", "future_events", "later_events")},
            "recordings": None if self.unnamed else self.totals["recordings"],
        }


def verify(
    client: ErasureClient,
    people: Iterable[Person],
    request: Request,
    since: datetime | None = None,
    *,
    on_judgement: Callable[[Judgement], None] | None = None,
    only_events: bool = False,
) -> Report:
    """Check all persons of a request, once.

    :param client: asks PostHog.
    :param people: the persons; a batch of them is in memory at a time.
    :param request: what was asked for.
    :param since: a moment before their events were first counted: then they are counted along PostHog's key, which
        reads little and proves nothing; ``None`` for a look at the whole history.
    :param on_judgement: is called for each person; the report keeps only some of them.
    :param only_events: count events, and nothing else: a look just before has shown that nobody has a profile, a place
        in a list, or a recording any more.
    """
    server = detect(client)
    client.unknown_tables.clear()  # the server may have been updated since the last look
    report = Report(now=server.now, is_proof=since is None)
    for batch in batched(people, BATCH):
        left = MAX_STATUSES - report.looked_up
        for judgement in check_persons(client, batch, request, server, left, since, only_events=only_events):
            report.add(judgement)
            if on_judgement is not None:
                on_judgement(judgement)
        report.unnamed += sum(not person.distinct_ids for person in batch)
    return report


def check_persons(
    client: ErasureClient,
    batch: Sequence[Person],
    request: Request,
    server: Server,
    most: int = MAX_STATUSES,
    since: datetime | None = None,
    *,
    only_events: bool = False,
) -> list[Judgement]:
    """Check some persons.

    :param client: asks PostHog.
    :param batch: the persons.
    :param request: what was asked for.
    :param server: the server.
    :param most: how many queued deletions may be looked up.
    :param since: as in :func:`verify`.
    :param only_events: as in :func:`verify`.
    """
    left = _only_events(client, batch, request, since) if only_events else _read(client, batch, request, server, since)
    asked = [person.uuid for person in batch if person.uuid in left.events or not request.proven][: max(0, most)]
    rows: Mapping[str, Any] = deletions(client, sorted(asked)) if server.has_batches else {}
    looked_up = {*asked} if server.has_batches else set()
    return [
        judge(person, _remains(person, left, rows, server, looked_up=person.uuid in looked_up), request)
        for person in batch
    ]


def _remains(person: Person, left: _Left, rows: Mapping[str, Any], server: Server, *, looked_up: bool) -> Remains:
    return Remains(
        server.now,
        left.profiles.get(person.uuid),
        person.uuid in left.listed,
        left.events.get(person.uuid, counts.NONE),
        left.recordings.get(person.uuid, 0),
        rows.get(person.uuid),
        looked_up,
    )


@dataclass(frozen=True)
class _Left:
    """What can still be read of some persons, by UUID."""

    profiles: Mapping[str, persons.Person]
    listed: set[str]
    events: Mapping[str, counts.Events]
    recordings: Mapping[str, int]


def _read(
    client: ErasureClient, batch: Sequence[Person], request: Request, server: Server, since: datetime | None
) -> _Left:
    listed = counts.listed(client, [person.uuid for person in batch])
    people: dict[str, persons.Person] = {}
    if server.has_batches:
        people = _profiles(client, batch, server, listed, set())
    counted = [person for person in batch if since is None or not _is_waiting(person, people, listed, request)]
    events = _events(client, counted, request, since)
    recordings = counts.recordings(client, batch)
    if not server.has_batches:
        people = _profiles(client, batch, server, listed, {*events} if request.options.events else set())
    return _Left(people, listed, events, recordings)


def _only_events(client: ErasureClient, batch: Sequence[Person], request: Request, since: datetime | None) -> _Left:
    return _Left({}, set(), _events(client, batch, request, since), {})


def _is_waiting(person: Person, people: Mapping[str, persons.Person], listed: set[str], request: Request) -> bool:
    """Return whether the profile alone shows that it is too early to count events."""
    return not request.options.keep_person and (person.uuid in people or person.uuid in listed)


def _events(
    client: ErasureClient, people: Sequence[Person], request: Request, since: datetime | None
) -> dict[str, counts.Events]:
    """Count the events of persons; those without distinct ids need the whole history."""
    named = [person for person in people if person.distinct_ids and since is not None]
    others = [person for person in people if not person.distinct_ids or since is None]
    events: dict[str, counts.Events] = {}
    if named and since is not None:
        events |= counts.events_by_key(client, named, request.accepted_at, since)
    if others:
        events |= counts.events(client, others, request.accepted_at)
    return events


def picture(client: ErasureClient, people: Iterable[Person], server: Server) -> tuple[int, ...]:
    """Return how many of a few persons have profiles and completed deletions: a quick check for changes.

    :param client: asks PostHog.
    :param people: the persons.
    :param server: the server.
    """
    sample = [*islice(people, _FEW if server.has_batches else _FEWER)]
    remaining = profiles(client, [person.uuid for person in sample], server)
    completed = 0
    if server.has_batches:
        rows = deletions(client, [person.uuid for person in sample if person.events][:_FEWER])
        completed = sum(row.get("status") == "completed" for row in rows.values())
    return len(remaining), completed


def _profiles(
    client: ErasureClient, batch: Sequence[Person], server: Server, listed: set[str], busy: set[str]
) -> dict[str, persons.Person]:
    """Return the profiles that PostHog's database has of persons, by UUID and by every distinct id."""
    if not server.has_batches:
        # One call for each person: nobody needs it whose events or profile can be read anyway.
        quiet = [person.uuid for person in batch if person.uuid not in listed and person.uuid not in busy]
        people = profiles(client, quiet, server)
        owners = counts.owners_of(client, sorted({name for person in batch for name in person.distinct_ids}))
        shown = counts.listed(client, sorted({*owners.values()}))
        return {**_by_owner(batch, {name: {"uuid": uuid} for name, uuid in owners.items() if uuid in shown}), **people}
    people = profiles(client, [person.uuid for person in batch], server)
    names = [name for person in batch for name in person.distinct_ids]
    by_name: dict[str, persons.Person] = {}
    for some in batched(names, persons.MAX_BATCH):
        answer = client.send(persons.batch_by_distinct_ids(some))
        by_name.update(answer.get("results") or {})
    return {**_by_owner(batch, by_name), **people}


def _by_owner(batch: Sequence[Person], by_name: Mapping[str, persons.Person]) -> dict[str, persons.Person]:
    return {person.uuid: by_name[name] for person in batch for name in person.distinct_ids if name in by_name}
