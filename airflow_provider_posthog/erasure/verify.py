"""A look at all persons of a request: what of them can still be read, in every place where PostHog keeps it.

``deletion_status`` is looked up to tell waiting from a failure; that it says ``completed`` proves nothing, as PostHog
has set it without counting. What proves is that nothing is left to be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.erasure import counts
from airflow_provider_posthog.erasure.asking import batched
from airflow_provider_posthog.erasure.delete import deletions
from airflow_provider_posthog.erasure.generation import Server, detect
from airflow_provider_posthog.erasure.judge import PENDING, Judgement, Request, Seen, State, judge
from airflow_provider_posthog.erasure.resolve import profiles
from airflow_provider_posthog.erasure.work_file import Person

#: How many persons are looked at together.
BATCH = 1000
#: How many persons of one look have their queued deletion looked up, one by one.
MAX_STATUSES = 100
#: How many persons are named of each state.
_MAX_NAMED = 20


@dataclass
class Report:
    """What a look found, added up.

    :param states: how many persons are in each state.
    :param examples: some of those who are not verified.
    :param places: which of the persons these are, from 1, by UUID.
    :param totals: sums of what can be read.
    :param now: the server's time.
    :param looked_up: how many queued deletions were looked up.
    :param unnamed: how many persons have no distinct ids here, so that nobody can look for their recordings.
    """

    states: Counter[State] = field(default_factory=Counter)
    examples: dict[State, list[Judgement]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    now: datetime | None = None
    looked_up: int = 0
    unnamed: int = 0

    def add(self, one: Judgement) -> None:
        """Take a person in.

        :param one: the person's judgement.
        """
        self.states[one.state] += 1
        self.looked_up += one.facts.get("deletion_status") is not None
        self.totals.update({name: value for name, value in one.facts.items() if type(value) is int})
        named = self.examples.setdefault(one.state, [])
        if one.state != "VERIFIED" and len(named) < _MAX_NAMED:
            named.append(one)
            self.places[one.uuid] = sum(self.states.values())

    @property
    def is_verified(self) -> bool:
        """Whether nothing is left of anybody; of nobody it is not."""
        return self.states["VERIFIED"] == sum(self.states.values()) > 0

    @property
    def failures(self) -> dict[State, int]:
        """How many persons are in states that PostHog does not leave by itself."""
        return {state: n for state, n in self.states.items() if state != "VERIFIED" and state not in PENDING and n}

    def text(self) -> str:
        """Return it in a few sentences; persons by their places, as whoever knows a distinct id can tell its UUID."""
        parts = [", ".join(f"{state} {n}" for state, n in sorted(self.states.items()))]
        for state, named in sorted(self.examples.items(), key=lambda each: each[0] in PENDING):
            parts += [f"{state} (person {self.places[one.uuid]}): {one.reason}." for one in named[:5]]
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
    people: Iterable[Person], request: Request, *, each: Callable[[Judgement], None] | None = None
) -> Steps[Report]:
    """Look at all persons of a request, once.

    :param people: the persons; a batch of them is in memory at a time.
    :param request: what was asked for.
    :param each: is told of each person; the report keeps some of them only.
    """
    server = yield from detect()
    report = Report(now=server.now)
    for batch in batched(people, BATCH):
        left = MAX_STATUSES - report.looked_up
        for one in (yield from look(batch, request, server, left)):
            report.add(one)
            if each is not None:
                each(one)
        report.unnamed += sum(not person.distinct_ids for person in batch)
    return report


def look(batch: Sequence[Person], request: Request, server: Server, most: int = MAX_STATUSES) -> Steps[list[Judgement]]:
    """Look at some persons.

    :param batch: the persons.
    :param request: what was asked for.
    :param server: the server.
    :param most: how many queued deletions may be looked up.
    """
    uuids = [person.uuid for person in batch]
    events = yield from counts.events(batch, request.accepted_at)
    recordings = yield from counts.recordings(batch)
    listed = yield from counts.listed(uuids)
    found = yield from _profiles(batch, server, listed, {*events} if request.wish.events else set())
    rows: Mapping[str, Any] = {}
    asked: set[str] = set()
    if server.has_batches:
        asked = {*[uuid for uuid in uuids if uuid in events or not request.proven][: max(0, most)]}
        rows = yield from deletions(sorted(asked))
    return [
        judge(
            person,
            Seen(
                server.now,
                found.get(person.uuid),
                person.uuid in listed,
                events.get(person.uuid, counts.NONE),
                recordings.get(person.uuid, 0),
                rows.get(person.uuid),
                person.uuid in asked,
            ),
            request,
        )
        for person in batch
    ]


def _profiles(
    batch: Sequence[Person], server: Server, listed: set[str], busy: set[str]
) -> Steps[dict[str, persons.Person]]:
    """Return the profiles that PostHog's database has of persons, by UUID and by every distinct id."""
    if not server.has_batches:
        # One call for each person: nobody needs it whose events or profile can be read anyway.
        quiet = [person.uuid for person in batch if person.uuid not in listed and person.uuid not in busy]
        found = yield from profiles(quiet, server)
        owners = yield from counts.owners_of(sorted({name for person in batch for name in person.distinct_ids}))
        shown = yield from counts.listed(sorted({*owners.values()}))
        return {**_by_owner(batch, {name: {"uuid": uuid} for name, uuid in owners.items() if uuid in shown}), **found}
    found = yield from profiles([person.uuid for person in batch], server)
    names = [name for person in batch for name in person.distinct_ids]
    by_name: dict[str, persons.Person] = {}
    for some in batched(names, persons.MAX_BATCH):
        answer = yield persons.batch_by_distinct_ids(some)
        by_name.update(answer.get("results") or {})
    return {**_by_owner(batch, by_name), **found}


def _by_owner(batch: Sequence[Person], by_name: Mapping[str, persons.Person]) -> dict[str, persons.Person]:
    return {person.uuid: by_name[name] for person in batch for name in person.distinct_ids if name in by_name}
