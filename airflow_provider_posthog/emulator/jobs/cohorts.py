"""Static cohorts: filled by a query or a file, by a job of their own, which says nothing of whom it leaves out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.people.people_tables import listed

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.people.persons import People

MOST_ROWS = 1_000_000
_COLUMNS = ("person_id", "actor_id", "id", "distinct_id")


@dataclass
class Cohort:
    """A cohort.

    :param id: its number.
    :param people: the uuids of its persons, of a static one.
    """

    id: int
    name: str
    created_at: datetime
    is_static: bool = True
    query: Json | None = None
    filters: Json | None = None
    people: list[str] = field(default_factory=list)
    is_calculating: bool = False
    last_calculation: datetime | None = None
    errors_calculating: int = 0
    deleted: bool = False

    def as_json(self) -> Json:
        """Return the object of the API."""
        return {
            "id": self.id,
            "name": self.name,
            "description": "",
            "deleted": self.deleted,
            "is_static": self.is_static,
            "query": self.query,
            "filters": self.filters or {},
            "is_calculating": self.is_calculating,
            "last_calculation": iso_or_none(self.last_calculation),
            "errors_calculating": self.errors_calculating,
            "count": len(self.people) if self.last_calculation else None,
            "created_at": iso(self.created_at),
        }


class Cohorts:
    """All cohorts of the project.

    :param core: the clock, the settings, the store.
    :param people: who may be in them.
    """

    def __init__(self, core: Core, people: People) -> None:
        self._core = core
        self._people = people
        self._numbers = itertools.count(1_001)
        self._kept: dict[int, Cohort] = {}

    def create(self, name: str, *, is_static: bool, filters: Json | None) -> Cohort:
        """Make a cohort without persons.

        :param name: its name.
        :param is_static: whether it is filled by hand.
        :param filters: of a dynamic one.
        """
        made = Cohort(next(self._numbers), name, self._core.clock.now(), is_static, filters=filters)
        self._kept[made.id] = made
        return made

    def get(self, number: int) -> Cohort | None:
        """Return a cohort, or None.

        :param number: its id.
        """
        return self._kept.get(number)

    def listed(self) -> list[Cohort]:
        """Return those that were not deleted, newest first."""
        return [each for each in reversed([*self._kept.values()]) if not each.deleted]

    def fill(self, cohort: Cohort, query: Json) -> None:
        """Add the persons of a query to a cohort, after the seconds of the setting.

        :param cohort: the cohort.
        :param query: a HogQL query.
        """
        cohort.query = query
        self._later(cohort, lambda: self._of_query(query))

    def remove(self, cohort: Cohort, person: str) -> None:
        """Take a person out of a cohort.

        :param cohort: the cohort.
        :param person: its uuid.
        """
        cohort.people = [each for each in cohort.people if each != person]
        self._publish(cohort)

    def calculate(self, cohort: Cohort) -> None:
        """Calculate a cohort again.

        :param cohort: the cohort.
        """
        self._later(cohort, lambda: [])

    def _later(self, cohort: Cohort, find: object) -> None:
        cohort.is_calculating = True

        def work() -> None:
            cohort.is_calculating = False
            try:
                people = find()  # type: ignore[operator]
            except HogQLError:
                cohort.errors_calculating += 1
                return
            lost = self._core.settings.cohort_lost
            people = people[: len(people) - lost] if lost else people
            cohort.people = [*dict.fromkeys([*cohort.people, *people])]
            cohort.last_calculation = self._core.clock.now()
            cohort.errors_calculating = 0
            self._publish(cohort)

        self._people.schedule(self._core.settings.cohort_seconds, work)

    def _of_query(self, query: Json) -> list[str]:
        limited = f"SELECT * FROM ({query.get('query')}) LIMIT {MOST_ROWS}"  # noqa: S608 - the query
        answer = self._core.warehouse.query(limited, query.get("values") or {}, limit_context="export")
        name = next((each for each in _COLUMNS if each in answer.columns), None)
        if name is None:
            raise HogQLError("Could not find a person_id, actor_id, id, or distinct_id column in the query")
        values = [str(row[answer.columns.index(name)]) for row in answer.rows]
        return self._of_names(values) if name == "distinct_id" else values

    def _of_names(self, names: Sequence[str]) -> list[str]:
        persons = [self._people.by_distinct_id(each) for each in names]
        return [each.uuid for each in persons if each is not None]

    def _publish(self, cohort: Cohort) -> None:
        self._people.touch()
        warehouse = self._core.warehouse
        warehouse.execute(
            f"DELETE FROM {{db}}.cohort_people WHERE cohort_id = {cohort.id} SETTINGS lightweight_deletes_sync=2"  # noqa: S608
        )
        if cohort.people:
            warehouse.execute(
                "INSERT INTO {db}.cohort_people (person_id, cohort_id) SELECT arrayJoin("
                + f"[{listed(cohort.people)[1:-1]}])::UUID, {cohort.id}"
            )
