"""Groups, such as the companies that users belong to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.envelopes import Json
from airflow_provider_posthog.emulator.persons import EPOCH

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.state import State

# names by index
TYPES = {0: "company"}


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


class GroupStore:
    """All groups of the project as PostHog's database has them; lists and HogQL read ClickHouse.

    :param state: the server's state.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._groups: dict[tuple[int, str], Group] | None = None
        # what lists find: behind the database by the setting person_lag_seconds
        self._listed: dict[tuple[int, str], Group] = {}

    def _all(self) -> dict[tuple[int, str], Group]:
        if self._groups is None:
            self._groups = {}
            for row in self._state.people.tables.groups():
                created = EPOCH + timedelta(microseconds=int(row["micros"]))
                group = Group(int(row["index"]), row["key"], created, json.loads(row["properties"] or "{}"))
                self._groups[group.index, group.key] = group
            self._listed = dict(self._groups)
        return self._groups

    def find(self, index: int, key: str) -> Group | None:
        """Return a group, or None.

        :param index: of its type.
        :param key: exactly.
        """
        return self._all().get((index, key))

    def listed(self, index: int) -> list[Group]:
        """Return the groups of a type that lists find, newest first.

        :param index: of the type.
        """
        self._all()
        found = [each for each in self._listed.values() if each.index == index]
        return sorted(found, key=lambda each: (each.created_at, each.key), reverse=True)

    def save(self, group: Group) -> None:
        """Keep a new or changed group.

        :param group: as it is now.
        """
        self._all()[group.index, group.key] = group
        shown = Group(group.index, group.key, group.created_at, dict(group.properties))

        def publish() -> None:
            self._listed[group.index, group.key] = shown
            self._state.people.tables.write_group(shown)

        self._state.people.to_clickhouse(publish)
