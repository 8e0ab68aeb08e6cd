"""A person, as lists and lookups show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import Json

NAMES = ("email", "Email", "name", "Name", "username", "Username", "UserName")
LISTED_IDS = 1000


@dataclass
class Person:
    """A person.

    :param id: the number in PostHog's database.
    :param uuid: the id that everything else uses.
    :param hidden: ClickHouse ignores it, since it has seen a later version of this uuid being deleted.
    """

    id: int
    uuid: str
    created_at: datetime
    properties: Json
    distinct_ids: list[str]
    is_identified: bool = True
    last_seen_at: datetime | None = None
    hidden: bool = False

    @property
    def name(self) -> str:
        """Return what PostHog shows as the person's name."""
        text = next((str(self.properties[name]) for name in NAMES if self.properties.get(name)), None)
        return text or (self.distinct_ids[0] if self.distinct_ids else self.uuid)

    def as_row(self, generation: str) -> Json:
        """Return the row of a list: its ``id`` is the uuid, and distinct ids are cut off after 1000.

        :param generation: of the server; the oldest knows no ``last_seen_at``.
        """
        row = {
            "type": "person",
            "id": self.uuid,
            "uuid": self.uuid,
            "created_at": iso(self.created_at),
            "last_seen_at": iso_or_none(self.last_seen_at),
            "properties": self.properties,
            "is_identified": self.is_identified,
            "name": self.name,
            "distinct_ids": self.distinct_ids[:LISTED_IDS],
            "matched_recordings": [],
            "value_at_data_point": None,
        }
        return {name: value for name, value in row.items() if name != "last_seen_at" or generation != "A"}

    def as_object(self, generation: str, most_ids: int | None = None) -> Json:
        """Return the object of a person: its ``id`` is a number.

        :param generation: of the server; the oldest knows no ``last_seen_at``.
        :param most_ids: how many distinct ids it shows; None for all.
        """
        shown = {
            "id": self.id,
            "name": self.name,
            "distinct_ids": self.distinct_ids[:most_ids],
            "properties": self.properties,
            "created_at": iso(self.created_at),
            "uuid": self.uuid,
        }
        return shown if generation == "A" else {**shown, "last_seen_at": iso_or_none(self.last_seen_at)}
