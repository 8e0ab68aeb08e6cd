"""A group, as the API shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.envelopes import Json


@dataclass
class Group:
    """A group.

    :param index: of its type.
    :param key: its id among those of its type.
    """

    index: int
    key: str
    created_at: datetime
    properties: Json

    def as_json(self) -> Json:
        """Return the object of the API."""
        return {
            "group_type_index": self.index,
            "group_key": self.key,
            "group_properties": self.properties,
            "created_at": iso(self.created_at),
        }
