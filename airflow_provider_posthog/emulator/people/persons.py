"""Persons as PostHog's database has them, and how changes of it reach ClickHouse."""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import uuid as uuids
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.people.people_tables import PeopleTables
from airflow_provider_posthog.emulator.people.person import Person

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

# PostHog's own: the uuid of a person follows from the project and the distinct id that made it
NAMESPACE = uuids.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(order=True)
class _Task:
    due: float
    number: int
    work: Callable[[], None] = field(compare=False)


class People:
    """All persons of the project.

    PostHog keeps them twice: retrieving and looking up reads its database, lists and HogQL read ClickHouse. The first
    is here, the second in :class:`PeopleTables`; the setting ``person_lag_seconds`` lets it fall behind.

    :param core: the clock, the settings, the store.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.tables = PeopleTables(core.warehouse)
        self.lock = threading.RLock()
        self.touched = False
        self._persons: dict[str, Person] | None = None
        self._owners: dict[str, str] = {}
        self._numbers: dict[int, str] = {}
        # of deleted persons: whoever comes back under a distinct id gets the uuid again
        self._graves: dict[str, str] = {}
        self._dead: list[str] = []
        self._tombstones: set[str] = set()
        self._tasks: list[_Task] = []
        self._order = itertools.count()
        # the number of the next person
        self.numbered = 1

    # -- time ----------------------------------------------------------------------------------------------------

    def schedule(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something later, or at once.

        :param seconds: of the emulator's clock; 0 for at once.
        :param work: what to do.
        """
        if seconds <= 0:
            work()
            return
        heapq.heappush(self._tasks, _Task(self._core.clock.timestamp() + seconds, next(self._order), work))

    def is_due(self) -> bool:
        """Return whether there is something whose time has come."""
        return bool(self._tasks) and self._tasks[0].due <= self._core.clock.timestamp()

    def tick(self) -> None:
        """Do everything whose time has come."""
        with self.lock:
            while self.is_due():
                heapq.heappop(self._tasks).work()

    def to_clickhouse(self, work: Callable[[], None]) -> None:
        """Change ClickHouse as late as the setting says.

        :param work: the change.
        """
        self.touch()
        self.schedule(self._core.settings.person_lag_seconds, work)

    def touch(self) -> None:
        """Mark ClickHouse's tables as changed since the start."""
        self.touched = True

    def restore(self) -> None:
        """Bring ClickHouse's tables back to how they were at the start, or would be if that were now."""
        with self.lock:
            self._tasks.clear()
            self._core.warehouse.own.clear()
            if self._core.warehouse.renew():
                return
            self._core.warehouse.restore_events()
            if self.touched:
                self.tables.restore()

    # -- reading -------------------------------------------------------------------------------------------------

    def _all(self) -> dict[str, Person]:
        if self._persons is None:
            self._persons = {}
            for row in self.tables.persons():
                created = EPOCH + timedelta(milliseconds=int(row["millis"]))
                properties = json.loads(row["properties"] or "{}")
                self._keep(row["uuid"], created, properties, list(row["distinct_ids"]), bool(row["is_identified"]))
        return self._persons

    def _keep(
        self, uuid: str, created_at: datetime, properties: Json, distinct_ids: list[str], is_identified: bool
    ) -> Person:
        number, self.numbered = self.numbered, self.numbered + 1
        person = Person(number, uuid, created_at, properties, distinct_ids, is_identified)
        self._all()[uuid] = person
        self._numbers[number] = uuid
        self._owners.update(dict.fromkeys(distinct_ids, uuid))
        return person

    def get(self, uuid: str) -> Person | None:
        """Return a person, or None.

        :param uuid: of the person.
        """
        return self._all().get(uuid)

    def by_number(self, number: int) -> Person | None:
        """Return a person, or None.

        :param number: its number in PostHog's database.
        """
        persons = self._all()
        return persons.get(self._numbers.get(number, ""))

    def by_distinct_id(self, distinct_id: str) -> Person | None:
        """Return the person that has a distinct id, or None.

        :param distinct_id: exactly.
        """
        persons = self._all()
        return persons.get(self._owners.get(distinct_id, ""))

    # -- changing ------------------------------------------------------------------------------------------------

    def uuid_for(self, distinct_id: str) -> str:
        """Return the uuid that a person made by a distinct id has, today and again after its deletion.

        :param distinct_id: exactly.
        """
        name = f"{self._core.project.id}:{distinct_id}"
        return self._graves.get(distinct_id) or str(uuids.uuid5(NAMESPACE, name))

    def create(
        self,
        distinct_ids: list[str],
        properties: Json,
        *,
        uuid: str | None = None,
        created_at: datetime | None = None,
        is_identified: bool = True,
    ) -> Person:
        """Make a person in PostHog's database; :meth:`publish` shows it to ClickHouse.

        :param distinct_ids: none of which anybody has.
        :param properties: of the person.
        :param uuid: None for the one that follows from the first distinct id.
        :param created_at: None for now.
        :param is_identified: whether it has been identified.
        """
        self._all()
        uuid = uuid or self.uuid_for(distinct_ids[0])
        person = self._keep(uuid, created_at or self._core.clock.now(), properties, distinct_ids, is_identified)
        person.hidden = uuid in self._tombstones
        return person

    def publish(self, persons: Sequence[Person], *, new: bool = False) -> None:
        """Let ClickHouse know of new and changed persons.

        :param persons: as they are now.
        :param new: whether it knows none of them yet.
        """
        shown = [person for person in persons if not person.hidden]
        if shown:
            self.to_clickhouse(lambda: self.tables.write_persons(shown, new=new))

    def update(self, person: Person, changes: Json, removed: Iterable[str] = ()) -> None:
        """Change the properties of a person.

        :param person: whose.
        :param changes: new values by name.
        :param removed: names of properties that go away.
        """
        kept = {name: value for name, value in person.properties.items() if name not in set(removed)}
        person.properties = {**kept, **changes}
        self.publish([person])

    def split(self, person: Person, kept: list[str]) -> None:
        """Give the other distinct ids of a person a new person each, without properties.

        :param person: whose.
        :param kept: the distinct ids that stay.
        """
        moved = [distinct_id for distinct_id in person.distinct_ids if distinct_id not in kept]
        person.distinct_ids = kept
        made = [self.create([distinct_id], {}, is_identified=False) for distinct_id in moved]
        self.publish([person, *made])

    def join(self, person: Person, distinct_id: str) -> None:
        """Give a person one more distinct id; who had it becomes one with it.

        :param person: who gets it.
        :param distinct_id: the distinct id.
        """
        other = self.by_distinct_id(distinct_id)
        names = other.distinct_ids if other is not None else [distinct_id]
        if other is not None:
            self._all().pop(other.uuid, None)
            self._numbers.pop(other.id, None)
            person.properties = {**other.properties, **person.properties}
            gone = [other.uuid]
            self.to_clickhouse(lambda: self.tables.remove_persons(gone))
        person.distinct_ids = [*person.distinct_ids, *names]
        self._owners.update(dict.fromkeys(names, person.uuid))

    def remove(self, person: Person) -> None:
        """Delete a person from PostHog's database; :meth:`bury` deletes it in ClickHouse.

        :param person: who is deleted.
        """
        self._all().pop(person.uuid, None)
        self._numbers.pop(person.id, None)
        for name in person.distinct_ids:
            self._owners.pop(name, None)
            self._graves[name] = person.uuid
        self._dead.append(person.uuid)

    def bury(self) -> None:
        """Let ClickHouse know of those who were removed; its tombstones hide later persons of the same uuid."""
        dead, self._dead = self._dead, []
        self._tombstones.update(dead)
        if dead:
            self.to_clickhouse(lambda: self.tables.remove_persons(dead))

    def reveal(self, distinct_id: str) -> None:
        """Make a person that came back after its deletion visible to ClickHouse; do nothing for others.

        :param distinct_id: of the person.
        """
        person = self.by_distinct_id(distinct_id)
        if person is not None and person.hidden:
            person.hidden = False
            self._tombstones.discard(person.uuid)
            self.publish([person], new=True)
