"""Cohorts: filled by a query or a file, in a job of their own, which silently leaves people out."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.hogql import catalog
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.hogql.system import Rows
    from airflow_provider_posthog.emulator.people.persons import People

MOST_ROWS = 1_000_000
_COLUMNS = ("person_id", "actor_id", "id", "distinct_id")


@dataclass(kw_only=True)
class Cohort(catalog.Cohort):
    """A cohort.

    :param filters: of a dynamic one.
    :param count: how many members it had when it was last calculated; None before.
    :param version: how often it was calculated.
    """

    created_at: datetime
    query: Json | None = None
    filters: Json | None = None
    count: int | None = None
    version: int = 0
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
            "count": self.count,
            "created_at": iso(self.created_at),
        }


class Cohorts:
    """All cohorts of the project. The store has them, and their members, so that queries find both.

    :param core: the clock, the settings, the store.
    :param people: who may be in them.
    """

    def __init__(self, core: Core, people: People) -> None:
        self._core = core
        self._people = people

    def _all(self) -> dict[int, Cohort]:
        # a server has none of the plain kind
        return cast("dict[int, Cohort]", self._core.warehouse.own.cohorts)

    def create(self, name: str, *, is_static: bool, filters: Json | None = None, number: int | None = None) -> Cohort:
        """Make a cohort without persons.

        :param name: its name.
        :param is_static: whether it is filled by hand.
        :param filters: of a dynamic one.
        :param number: its id; None for the next one.
        """
        cohort_number = max(self._all(), default=0) + 1 if number is None else number
        made = Cohort(cohort_number, name, is_static, created_at=self._core.clock.now(), filters=filters)
        self._core.warehouse.own.add_cohort(made, [])
        return made

    def get(self, number: int) -> Cohort | None:
        """Return a cohort, or None.

        :param number: its id.
        """
        return self._all().get(number)

    def listed(self) -> list[Cohort]:
        """Return those that were not deleted, newest first."""
        return [cohort for cohort in reversed([*self._all().values()]) if not cohort.deleted]

    def rows(self) -> Rows:
        """Return the rows of ``system.cohorts``, with the deleted ones."""
        unseen = {"groups": [], "team_id": self._core.project.id}
        return [{**cohort.as_json(), **unseen, "version": cohort.version} for cohort in self._all().values()]

    def members(self, cohort: Cohort) -> list[str]:
        """Return the uuids of those who are in a cohort.

        :param cohort: the cohort.
        """
        return self._core.warehouse.own.members(cohort)

    def fill(self, cohort: Cohort, query: Json) -> None:
        """Add the persons of a query to a cohort, after the seconds of the setting.

        :param cohort: the cohort.
        :param query: a HogQL query.
        """
        cohort.query = query
        self._later(cohort, lambda: self._of_query(query))

    def calculate(self, cohort: Cohort) -> None:
        """Calculate a dynamic cohort, after the seconds of the setting; it has no members here.

        :param cohort: the cohort.
        """
        self._later(cohort, lambda: [], is_recorded=True)

    def add(self, cohort: Cohort, people: Iterable[str]) -> None:
        """Add persons to a cohort, at once.

        :param cohort: the cohort.
        :param people: their uuids.
        """
        known = set(self.members(cohort))
        self._people.touch()
        self._core.warehouse.own.add_cohort(cohort, [uuid for uuid in dict.fromkeys(people) if uuid not in known])

    def remove(self, cohort: Cohort, person: str) -> None:
        """Take a person out of a cohort, at once.

        :param cohort: the cohort.
        :param person: its uuid.
        """
        self._people.touch()
        self._core.warehouse.own.remove_member(cohort, person)

    def calculated(self, cohort: Cohort, *, is_recorded: bool) -> None:
        """Mark a cohort as calculated now.

        :param cohort: the cohort.
        :param is_recorded: whether ``system.cohort_calculation_history`` has it; it has nothing of filling a static
            one by a query or a file.
        """
        now = self._core.clock.now()
        cohort.count = len(self.members(cohort))
        cohort.last_calculation, cohort.version, cohort.errors_calculating = now, cohort.version + 1, 0
        if is_recorded:
            row = {"id": str(uuids.uuid4()), "cohort_id": cohort.id, "count": cohort.count}
            table = "system.cohort_calculation_history"
            self._core.warehouse.own.add_rows(table, [{**row, "started_at": now, "finished_at": now}])

    def _later(self, cohort: Cohort, find: Callable[[], list[str]], *, is_recorded: bool = False) -> None:
        cohort.is_calculating = True

        def work() -> None:
            cohort.is_calculating = False
            try:
                people = find()
            except HogQLError:
                cohort.errors_calculating += 1
                return
            lost = self._core.settings.cohort_lost
            self.add(cohort, people[: len(people) - lost] if lost else people)
            self.calculated(cohort, is_recorded=is_recorded)

        self._people.schedule(self._core.settings.cohort_seconds, work)

    def _of_query(self, query: Json) -> list[str]:
        limited = f"SELECT * FROM ({query.get('query')}) LIMIT {MOST_ROWS}"  # noqa: S608 - the query
        answer = self._core.warehouse.query(limited, query.get("values") or {}, limit_context="export")
        name = next((column for column in _COLUMNS if column in answer.columns), None)
        if name is None:
            raise HogQLError("Could not find a person_id, actor_id, id, or distinct_id column in the query")
        values = [str(row[answer.columns.index(name)]) for row in answer.rows]
        return self._of_names(values) if name == "distinct_id" else values

    def _of_names(self, names: Sequence[str]) -> list[str]:
        persons = [self._people.by_distinct_id(distinct_id) for distinct_id in names]
        return [person.uuid for person in persons if person is not None]
