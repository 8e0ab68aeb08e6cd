"""Static cohorts from queries, databases and files, with everybody accounted for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import cohorts, queries
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.results.answer import ask, read
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.result_file import Output, json_line
from airflow_provider_posthog.tasks.telling import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

#: Ids of a statement: PostHog refuses those of 256 KiB, and an id may have 200 characters.
MOST_IDS = 1_000
_MOST_TEXT = 100_000
#: Persons of a query that are told apart here; PostHog cuts answers at 50,000 rows.
_PAGE = 49_000
_RESOLVE = "SELECT distinct_id, toString(person_id) AS person FROM person_distinct_ids WHERE distinct_id IN {ids}"
_FILL = "SELECT DISTINCT person_id FROM person_distinct_ids WHERE distinct_id IN {ids}"
_MEMBERS = "SELECT DISTINCT toString(person_id) AS person FROM static_cohort_people WHERE cohort_id = {cohort}"


class PostHogStaticCohortOperator(PostHogOperator):
    """Fills a static cohort, and counts its members afterwards: whoever is missing is named, never dropped silently.

    The members come from one of three: ``query``, HogQL with a column ``person_id``; ``sql``, a statement of a database
    whose first column (or ``distinct_id``) has distinct ids; or ``path``, a file of them. PostHog must know a person
    for a distinct id; ids without one are rejected.

    .. code-block:: python

        PostHogStaticCohortOperator(
            task_id="audience", name="Likely to churn", sql_conn_id="warehouse", sql="SELECT user_id FROM churn_scores"
        )

    :param name: the cohort's name; the cohort is created if none has it. (If several have it, that is an error.)
    :param cohort_id: its number, in place of ``name``.
    :param query: HogQL, with ``{name}`` for each value.
    :param values: the values.
    :param sql_conn_id: the database's connection.
    :param sql: one SELECT.
    :param parameters: its values, as the database's driver takes them.
    :param path: a file in any storage.
    :param format: of the file: ``parquet``, ``jsonl`` or ``csv``.
    :param object_storage_conn_id: Airflow's connection for that storage, and for that of ``rejects_path``.
    :param column: the column with the distinct ids; default: ``distinct_id``, else the first.
    :param replace: remove everybody from the cohort who is not among the members.
    :param rejects_path: a file (JSON lines) that names each id without a person, and each person that is not in it.
    :param max_rejects: how many ids may have no person.
    :param poll_interval: seconds (or a timedelta) between two looks.
    :param timeout: seconds (or a timedelta) that PostHog may take to fill it.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. The key needs ``cohort:write`` and
        ``query:read``.
    :returns: ``cohort_id``, ``created``, ``ids`` (different ones that were given; null with ``query``), ``persons``
        (that should be in it), ``members`` (that are), ``removed``, ``rejected`` (ids without a person),
        ``rejects_path``.
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogIncompleteError: if a person is not in the cohort afterwards, or more ids than ``max_rejects`` have
        none.
    :raises PostHogJobFailed: if PostHog could not calculate it.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "name",
        "cohort_id",
        "query",
        "values",
        "sql_conn_id",
        "sql",
        "parameters",
        "path",
        "rejects_path",
        "max_rejects",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        name: str | None = None,
        cohort_id: int | str | None = None,
        query: str | None = None,
        values: Mapping[str, Any] | None = None,
        sql_conn_id: str | None = None,
        sql: str | None = None,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        path: str | os.PathLike[str] | None = None,
        format: str = "csv",
        object_storage_conn_id: str | None = None,
        column: str | None = None,
        replace: bool = False,
        rejects_path: str | os.PathLike[str] | None = None,
        max_rejects: int = 0,
        poll_interval: float | timedelta = 5.0,
        timeout: float | timedelta = 1800.0,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.cohort_id = cohort_id
        self.query = query
        self.values = values
        self.sql_conn_id = sql_conn_id
        self.sql = sql
        self.parameters = parameters
        self.path = path
        self.format = format
        self.object_storage_conn_id = object_storage_conn_id
        self.column = column
        self.replace = replace
        self.rejects_path = rejects_path
        self.max_rejects = max_rejects
        self.poll_interval = poll_interval
        self.timeout = timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Fill it."""
        output = self._check()
        cohort = self._cohort()
        ids: list[str] | None = None
        unknown: list[str] = []
        if self.query:
            statement = {"kind": "HogQLQuery", "query": self.query, "values": dict(self.values or {})}
            wanted = self._of_query()
            number = self._fill(cohort, [statement], context)
        else:
            ids = list(dict.fromkeys(self._ids()))
            persons, unknown = self._resolve(ids)
            wanted = set(persons.values())
            known = [each for each in ids if each in persons]
            number = self._fill(cohort, [queries.hogql(_FILL, {"ids": some}) for some in _packs(known)], context)
        members = self._members(number)
        removed = self._remove(number, members - wanted) if self.replace else 0
        missing = sorted(wanted - members)
        self._write_rejects(output, context, unknown, missing)
        self._prove(number, missing, unknown)
        told = number, counted(len(wanted), "person"), counted(len(unknown), "id")
        self.concludes("Cohort %d has all of %s; %s belong to nobody", *told)
        return {
            "cohort_id": number,
            "created": cohort is None,
            "ids": None if ids is None else len(ids),
            "persons": len(wanted),
            "members": len(members) - removed,
            "removed": removed,
            "rejected": len(unknown),
            "rejects_path": None if output is None else str(output.target),
        }

    def _check(self) -> Output | None:
        given = [name for name in ("query", "sql", "path") if getattr(self, name)]
        if len(given) != 1:
            raise PostHogSettingsError("query", "is not the one source.", "Write one of query, sql and path.")
        if bool(self.name) == bool(self.cohort_id):
            raise PostHogSettingsError("name", "is not given once.", "Write the cohort's name, or its cohort_id.")
        if self.sql and not self.sql_conn_id:
            raise PostHogSettingsError("sql_conn_id", "is empty.", "Write the database's connection.")
        if isinstance(self.max_rejects, bool) or int(self.max_rejects) < 0:
            raise PostHogSettingsError("max_rejects", "is below 0.", "Write how many ids may have no person.")
        seconds_of("poll_interval", self.poll_interval, 0.01)
        seconds_of("timeout", self.timeout, 0)
        if not self.rejects_path:
            return None
        output = Output("rejects_path", str(self.rejects_path), overwrite=True, conn_id=self.object_storage_conn_id)
        output.check()
        return output

    # Who should be in it.

    def _ids(self) -> Iterator[str]:
        with self._rows() as (columns, rows):
            name = self.column or ("distinct_id" if "distinct_id" in columns else columns[0] if columns else "")
            if name not in columns:
                raise PostHogSettingsError("column", f"there is no {name!r:.60}.", f"There are: {', '.join(columns)}.")
            index = columns.index(name)
            for row in rows:
                if row[index] is not None and str(row[index]).strip():
                    yield str(row[index])

    @contextmanager
    def _rows(self) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
        if self.sql:
            from airflow_provider_posthog.hooks.sql_rows import rows_of

            with rows_of(str(self.sql_conn_id), self.sql, self.parameters) as rows:
                yield rows
            return
        from airflow_provider_posthog.capture.rows import check_format, text_rows
        from airflow_provider_posthog.tasks.storage_path import storage_path

        check_format(self.format)
        place = storage_path("path", str(self.path), self.object_storage_conn_id, example="s3://lake/audience.csv")
        if not place.fs.isfile(place.path):
            raise PostHogSettingsError(
                "path", "is not a file that is there.", "Write one such as s3://lake/audience.csv."
            )
        with text_rows(place.fs, place.path, self.format) as rows:
            yield rows

    def _resolve(self, ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Return the person of each distinct id, and the ids that have none."""
        persons: dict[str, str] = {}
        for some in _packs(ids):
            persons.update((str(row[0]), str(row[1])) for row in self._ask(_RESOLVE, {"ids": some}))
        return persons, [each for each in ids if each not in persons]

    def _of_query(self) -> set[str]:
        return self._all_of(f"SELECT DISTINCT toString(person_id) AS person FROM ({self.query})", self.values or {})  # noqa: S608

    def _members(self, number: int) -> set[str]:
        return self._all_of(_MEMBERS, {"cohort": number})

    def _all_of(self, statement: str, values: Mapping[str, Any]) -> set[str]:
        """Return the persons of a statement, however many, in the order of their UUIDs."""
        uuids: set[str] = set()
        last = ""
        while True:
            page = f"SELECT person FROM ({statement}) WHERE person > {{last_person}} ORDER BY person LIMIT {_PAGE}"  # noqa: S608
            rows = self._ask(page, {**values, "last_person": last}, limit=_PAGE)
            uuids.update(str(row[0]) for row in rows)
            if len(rows) < _PAGE:
                return uuids
            last = str(rows[-1][0])

    def _ask(self, sql: str, values: Mapping[str, Any], *, limit: int | None = None) -> list[list[Any]]:
        statement = sql if limit is not None else f"{sql} LIMIT {_PAGE + 1}"
        question = ask(statement, values)
        answer = self.hook.send(queries.start(queries.hogql(question.sql, values), refresh="force_blocking"))
        proved = read(answer, question, shows_reason=False)
        rows: list[list[Any]] = proved.rows if limit is not None and len(proved.rows) == limit else proved.whole().rows
        return rows

    # The cohort.

    def _cohort(self) -> Mapping[str, Any] | None:
        if self.cohort_id:
            text = str(self.cohort_id).strip()
            if not text.isdecimal():
                raise PostHogSettingsError("cohort_id", "is not a number.", "Write the number in its address.")
            cohort = self._retrieve(int(text))
        else:
            named = [each for each in self.hook.pages(cohorts.list(limit=100)) if each.get("name") == self.name]
            if len(named) > 1:
                raise PostHogSettingsError("name", f"{len(named)} cohorts have it.", "Write the cohort_id of one.")
            if not named:
                return None
            cohort = named[0]
        if not cohort.get("is_static"):
            raise PostHogSettingsError("cohort_id", "is not of a static cohort.", "Name one that is, or a new one.")
        return cohort

    def _retrieve(self, number: int) -> Mapping[str, Any]:
        call: Call[Any] = cohorts.retrieve(number)
        cohort: Mapping[str, Any] = self.hook.send(call)
        return cohort

    def _fill(self, cohort: Mapping[str, Any] | None, statements: Sequence[Mapping[str, Any]], context: Context) -> int:
        number = int(cohort["id"]) if cohort is not None else 0
        for statement in statements or ([] if number else [queries.hogql(f"{_FILL} AND 1 = 2", {"ids": [""]})]):
            made: Mapping[str, Any]
            if number:
                before = self._retrieve(number).get("last_calculation")
                self.hook.send(cohorts.add_by_query(number, query=dict(statement)))
            else:
                made, before = self._create(dict(statement)), None
                number = int(made["id"])
            self._wait(number, before)
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/cohorts/{number}")
        return number

    def _create(self, statement: dict[str, Any]) -> Mapping[str, Any]:
        try:
            call: Call[Any] = cohorts.create_static(name=str(self.name), query=statement)
            made: Mapping[str, Any] = self.hook.send(call)
            return made
        except PostHogTransportError as error:
            cohort = self._cohort() if error.sent else None
            if cohort is None:
                raise
            return cohort

    def _wait(self, number: int, before: object) -> None:
        """Wait until PostHog has filled it: not only begun, and not only what it had calculated before."""
        end = time.time() + seconds_of("timeout", self.timeout, 0)
        while True:
            cohort = self._retrieve(number)
            if not cohort.get("is_calculating"):
                if cohort.get("errors_calculating"):
                    raise PostHogJobFailed(f"PostHog could not calculate cohort {number}.", job_id=str(number))
                if cohort.get("last_calculation") != before:
                    return
            if time.time() >= end:
                raise PostHogJobTimeout(f"PostHog has not filled cohort {number} in time.", job_id=str(number))
            time.sleep(min(seconds_of("poll_interval", self.poll_interval, 0), max(0.01, end - time.time())))

    def _remove(self, number: int, persons: set[str]) -> int:
        for person in sorted(persons):
            self.hook.send(cohorts.remove_person(number, person_id=person))
        return len(persons)

    # The proof.

    def _write_rejects(
        self, output: Output | None, context: Context, unknown: Sequence[str], missing: Sequence[str]
    ) -> None:
        if output is None:
            return
        with output.atomic_file(Identity.of(context)) as atomic:
            for name in unknown:
                atomic.write(json_line({"distinct_id": name, "person_id": None, "reason": "no_person"}, "rejects"))
            for person in missing:
                atomic.write(
                    json_line({"distinct_id": None, "person_id": person, "reason": "not_in_cohort"}, "rejects")
                )
            atomic.finish()
            output.commit(atomic)

    def _prove(self, number: int, missing: Sequence[str], unknown: Sequence[str]) -> None:
        where = f" {self.rejects_path} names them." if self.rejects_path else " Give rejects_path for a file of them."
        if missing:
            named = ", ".join(missing[:5])
            raise PostHogIncompleteError(
                f"PostHog left {len(missing):,} persons out of cohort {number} without a word: {named}.{where}"
            )
        if len(unknown) > int(self.max_rejects):
            raise PostHogIncompleteError(
                f"{len(unknown):,} ids have no person in PostHog, and max_rejects is {int(self.max_rejects):,}. All "
                f"others are in cohort {number}.{where}"
            )


def _packs(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield ids in lists that fit into a statement."""
    some: list[str] = []
    size = 0
    for each in ids:
        if some and (len(some) >= MOST_IDS or size + len(each) > _MOST_TEXT):
            yield some
            some, size = [], 0
        some.append(each)
        size += len(each) + 4
    if some:
        yield some
