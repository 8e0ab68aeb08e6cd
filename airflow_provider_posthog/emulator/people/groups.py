"""Groups, such as the companies that users belong to."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.people.group import Group
from airflow_provider_posthog.emulator.people.persons import EPOCH

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.people.persons import People

# names by index
TYPES = {0: "company"}


class GroupStore:
    """All groups of the project as PostHog's database has them; lists and HogQL read ClickHouse.

    :param core: the clock, the settings, the store.
    :param people: who keeps what ClickHouse has of them.
    """

    def __init__(self, core: Core, people: People) -> None:
        self._core = core
        self._people = people
        self._groups: dict[tuple[int, str], Group] | None = None
        # what lists find: behind the database by the setting person_lag_seconds
        self._listed: dict[tuple[int, str], Group] = {}

    def _all(self) -> dict[tuple[int, str], Group]:
        if self._groups is None:
            self._groups = {}
            for row in self._people.tables.groups():
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
        groups = [group for group in self._listed.values() if group.index == index]
        return sorted(groups, key=lambda group: (group.created_at, group.key), reverse=True)

    def save(self, group: Group) -> None:
        """Keep a new or changed group.

        :param group: as it is now.
        """
        self._all()[group.index, group.key] = group
        shown = Group(group.index, group.key, group.created_at, dict(group.properties))

        def publish() -> None:
            self._listed[group.index, group.key] = shown
            self._people.tables.write_group(shown)

        self._people.to_clickhouse(publish)
