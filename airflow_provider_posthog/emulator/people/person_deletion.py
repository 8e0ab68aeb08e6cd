"""Deleting persons, and the weekly deletion of their events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.auth import User
from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.people.person import Person

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.insights.activity import ActivityLog
    from airflow_provider_posthog.emulator.people.persons import People

SUNDAY = 6
SWEEP_HOUR = 5
WEEK = timedelta(days=7)


class DeletionFailed(Exception):
    """A person could not be deleted; :attr:`step` says where it stopped."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


@dataclass
class EventDeletion:
    """The request to delete the events of a person: PostHog keeps one per person, for ever.

    :param created_at: events up to this moment are deleted.
    :param verified_at: when the events were gone, or were said to be.
    """

    person_uuid: str
    created_at: datetime
    verified_at: datetime | None = None

    def as_json(self) -> Json:
        """Return the row of ``GET persons/deletion_status/``."""
        return {
            "person_uuid": self.person_uuid,
            "created_at": iso(self.created_at),
            "status": "pending" if self.verified_at is None else "completed",
            "delete_verified_at": iso_or_none(self.verified_at),
        }


def next_sweep(now: datetime) -> datetime:
    """Return the next Sunday, 05:00 UTC.

    :param now: an aware UTC datetime.
    """
    sunday = now + timedelta(days=(SUNDAY - now.weekday()) % 7)
    at = sunday.replace(hour=SWEEP_HOUR, minute=0, second=0, microsecond=0)
    return at if at > now else at + WEEK


class Deletions:
    """What PostHog deletes, when and whether.

    :param core: the clock, the settings, the store.
    :param people: who is deleted.
    :param activity: where that is noted.
    """

    def __init__(self, core: Core, people: People, activity: ActivityLog) -> None:
        self._core = core
        self._people = people
        self._activity = activity
        self.requests: dict[str, EventDeletion] = {}
        self._failing: dict[str, str] = {}
        self._next = next_sweep(core.clock.now())

    # -- persons -------------------------------------------------------------------------------------------------

    def fail(self, uuids: Sequence[str], step: str) -> None:
        """Let the deletion of persons fail from now on.

        :param uuids: of the persons; none for no person any more.
        :param step: where it stops.
        """
        if not uuids:
            self._failing.clear()
        self._failing.update(dict.fromkeys(uuids, step))

    @property
    def queued(self) -> bool:
        """Return whether persons are deleted after the answer: only today's Cloud does that."""
        return self._core.settings.generation == "C" and self._core.settings.persons_queued

    def delete(self, person: Person, user: User, *, numbered: bool = True) -> None:
        """Delete a person from PostHog's database; ``bury`` of the persons then deletes it in ClickHouse.

        :param person: who is deleted.
        :param user: whose key asked for it.
        :param numbered: whether the activity log knows the person's number.
        :raises DeletionFailed: when it was ordered to fail.
        """
        step = self._failing.get(person.uuid)
        if step is not None:
            raise DeletionFailed(step)
        self._people.remove(person)
        number = person.id if numbered else None
        self._activity.add("Person", number, "deleted", user, name=person.uuid)

    def enqueue(self, persons: Sequence[Person], user: User) -> None:
        """Delete persons after a while; what goes wrong shows nowhere.

        :param persons: who is deleted.
        :param user: whose key asked for it.
        """

        def work() -> None:
            for person in persons:
                # deleted twice, or ordered to fail: PostHog gives up after four attempts without reporting it
                if person.uuid not in self._failing and self._people.get(person.uuid) is person:
                    self.delete(person, user)
            self._people.bury()

        self._people.schedule(self._core.settings.person_deletion_seconds, work)

    def delete_recordings(self, persons: Sequence[Person]) -> None:
        """Delete the recordings of persons.

        :param persons: whose.
        """
        names = [name for person in persons for name in person.distinct_ids]
        if names:
            tables = self._people.tables
            self._people.to_clickhouse(lambda: tables.remove_recordings(names))

    # -- events --------------------------------------------------------------------------------------------------

    def request_events(self, persons: Sequence[Person]) -> None:
        """Ask for the deletion of the events of persons.

        PostHog ignores it for a person whose events were asked for before: the setting ``swallow_duplicates``.

        :param persons: whose.
        """
        for person in persons:
            if person.uuid not in self.requests or not self._core.settings.swallow_duplicates:
                self.requests[person.uuid] = EventDeletion(person.uuid, self._core.clock.now())

    def is_due(self) -> bool:
        """Return whether a Sunday has come."""
        return self._core.clock.now() >= self._next

    def tick(self) -> None:
        """Run the sweeps of the Sundays that have come."""
        while self.is_due():
            at, self._next = self._next, self._next + WEEK
            self.sweep(at)

    def sweep(self, at: datetime) -> Json:
        """Delete the requested events, as PostHog does once a week.

        :param at: when it runs; requests younger than the setting ``sweep_age_seconds`` then wait for the next one.
        :returns: how many requests were completed and how many events deleted.
        """
        settings, people = self._core.settings, self._people
        oldest = at - timedelta(seconds=settings.sweep_age_seconds)
        ready = [
            request
            for request in self.requests.values()
            if request.verified_at is None and request.created_at <= oldest
        ]
        events = 0
        if ready and settings.sweep_outcome == "delete":
            people.touch()
            until = {request.person_uuid: request.created_at for request in ready}
            events = people.tables.remove_events(until, arrived=settings.generation == "C")
        for request in ready if settings.sweep_outcome != "skip" else []:
            request.verified_at = at
        return {"completed": sum(request.verified_at == at for request in ready), "events": events}
