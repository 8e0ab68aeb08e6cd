"""Who should be in a static cohort, and who is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import cohorts, queries
from airflow_provider_posthog.capture.values import RefusedError, id_text
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogNotFoundError, PostHogSettingsError
from airflow_provider_posthog.results.answer import ask, read

if TYPE_CHECKING:
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard

#: Ids of a statement: PostHog refuses those of 256 KiB, and an id may have 200 characters.
MOST_IDS = 1_000
_MOST_BYTES = 100_000
#: Persons of a query that are told apart here; PostHog cuts answers at 50,000 rows.
_PAGE = 49_000
_RESOLVE = "SELECT distinct_id, toString(person_id) AS person FROM person_distinct_ids WHERE distinct_id IN {ids}"
_MEMBERS = "SELECT DISTINCT toString(person_id) AS person FROM static_cohort_people WHERE cohort_id = {cohort}"


class People:
    """Asks PostHog for persons, however many.

    :param hook: the task's.
    """

    def __init__(self, hook: PostHogHook) -> None:
        self._hook = hook

    def resolve(self, ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Return the person of each distinct id, and the ids that have none.

        :param ids: the distinct ids.
        """
        persons: dict[str, str] = {}
        for some in packs_of(ids):
            persons.update((str(row[0]), str(row[1])) for row in self._ask(_RESOLVE, {"ids": some}))
        return persons, [uuid for uuid in ids if uuid not in persons]

    def of_query(self, query: str, values: Mapping[str, Any]) -> set[str]:
        """Return the persons of a query.

        :param query: HogQL with a column ``person_id``.
        :param values: what its placeholders stand for.
        """
        return self._all_of(f"SELECT DISTINCT toString(person_id) AS person FROM ({query})", values)  # noqa: S608

    def of_cohort(self, number: int) -> set[str]:
        """Return the persons of a cohort.

        :param number: its id.
        """
        return self._all_of(_MEMBERS, {"cohort": number})

    def check_shrink(self, number: int, wanted: set[str], guard: ShrinkGuard) -> None:
        """Refuse to empty a cohort, or nearly: a source that failed upstream looks like an audience that is gone.

        :param number: the cohort's id.
        :param wanted: who should be in it.
        :param guard: how many may go.
        :raises PostHogIncompleteError: if too many would be removed.
        """
        members = self.of_cohort(number)
        # With those who are put in: a later try, which finds some of them in it, has to decide alike.
        if guard.refuses(len(members | wanted), len(wanted)):
            raise PostHogIncompleteError(
                f"Cohort {number}: {len(members - wanted):,} persons would be removed, and {len(wanted):,} would be "
                "in it. Nothing was changed. If the others really have to go, set allow_shrink=True for one run.",
                lasting=True,
            )

    def take_out(self, number: int, persons: set[str], end: float, poll: float) -> set[str]:
        """Take persons out of a cohort; return who is in it once PostHog shows none of them any more.

        :param number: its id.
        :param persons: their UUIDs.
        :param end: until when that is waited for, in seconds since 1970.
        :param poll: seconds between two looks.
        :raises PostHogIncompleteError: if it shows some of them still.
        """
        for person in sorted(persons):
            with suppress(PostHogNotFoundError):  # an earlier try has taken it out
                self._hook.send(cohorts.remove_person(number, person_id=person))
        while (left := (members := self.of_cohort(number)) & persons) and time.time() < end:
            time.sleep(min(poll, max(0.01, end - time.time())))
        if left:
            raise PostHogIncompleteError(
                f"PostHog still shows {len(left):,} persons in cohort {number} that it took out."
            )
        return members

    def _all_of(self, statement: str, values: Mapping[str, Any]) -> set[str]:
        """Return the persons of a statement, however many, in the order of their UUIDs."""
        persons: set[str] = set()
        last = ""
        while True:
            page = f"SELECT person FROM ({statement}) WHERE person > {{last_person}} ORDER BY person LIMIT {_PAGE}"  # noqa: S608
            rows = self._ask(page, {**values, "last_person": last}, limit=_PAGE)
            persons.update(str(row[0]) for row in rows)
            if len(rows) < _PAGE:
                return persons
            last = str(rows[-1][0])

    def _ask(self, sql: str, values: Mapping[str, Any], *, limit: int | None = None) -> list[list[Any]]:
        statement = sql if limit is not None else f"{sql} LIMIT {_PAGE + 1}"
        question = ask(statement, values)
        answer = self._hook.send(queries.start(queries.hogql(question.sql, values), refresh="force_blocking"))
        result = read(answer, question, shows_reason=False)
        rows: list[list[Any]] = result.rows if limit is not None and len(result.rows) == limit else result.whole().rows
        return rows


def packs_of(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield ids in lists that fit into a statement.

    :param ids: the ids.
    """
    some: list[str] = []
    size = 0
    for member in ids:
        length = len(member.encode("utf-8", "replace")) + member.count("'") + member.count("\\") + 4
        if some and (len(some) >= MOST_IDS or size + length > _MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(member)
        size += length
    if some:
        yield some


def ids_of(columns: Sequence[str], rows: Iterable[Sequence[Any]], column: str | None) -> Iterator[str]:
    """Yield the ids of rows; an empty text for a row without one.

    :param columns: the rows' columns.
    :param rows: the rows.
    :param column: the one with the ids; by default ``distinct_id``, else the first.
    :raises PostHogSettingsError: if there is none of that name.
    """
    name = column or ("distinct_id" if "distinct_id" in columns else columns[0] if columns else "")
    if name not in columns:
        raise PostHogSettingsError("column", f"there is no {name!r:.60}.", f"There are: {', '.join(columns)}.")
    index = columns.index(name)
    for row in rows:
        try:
            member = id_text(row[index])
        except RefusedError:
            member = ""
        yield member if member.strip() else ""


@contextmanager
def file_rows(
    path: str, format: str, object_storage_conn_id: str | None
) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
    """Give the columns of a file in any storage, and its rows.

    :param path: the file.
    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :param object_storage_conn_id: Airflow's connection for the storage.
    :raises PostHogSettingsError: if it is not there, or not read.
    """
    from airflow_provider_posthog.capture.rows import check_format, text_rows
    from airflow_provider_posthog.tasks.storage_path import storage_path

    check_format(format)
    place = storage_path("path", path, object_storage_conn_id, example="s3://lake/audience.csv")
    if not place.fs.isfile(place.path):
        raise PostHogSettingsError("path", "is not a file that is there.", "Write one such as s3://lake/audience.csv.")
    with text_rows(place.fs, place.path, format) as rows:
        yield rows
