"""Static cohorts from queries, databases and files, with everybody accounted for."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import cohorts, jobs, queries
from airflow_provider_posthog.compat import default_deferrable, is_of_earlier_try
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.storage.shrink_guard import MAX_SHRINK, ShrinkGuard
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.cohort_fill import Fill, digest_of, failed, last_calculation, late
from airflow_provider_posthog.tasks.cohort_members import People, file_rows, ids_of, packs_of
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.lists import count_of, named_by, number_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.result_file import Output, json_line

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Unpack

    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

#: Puts persons into a cohort by their distinct ids.
_FILL = "SELECT DISTINCT person_id FROM person_distinct_ids WHERE distinct_id IN {ids}"


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
    :param replace: remove everybody from the cohort who is not among the members; nobody if the task fails.
    :param max_shrink: the largest share of its persons, old and new, that may be removed, from 0 to 1; for 1,000
        persons and more. A cohort is never emptied.
    :param allow_shrink: remove whoever is not among the members, however many.
    :param rejects_path: a file (JSON lines) that names each id without a person, each row without an id, and each
        person that is not in it.
    :param max_rejects: how many ids may have no person, and rows no id.
    :param poll_interval: seconds (or a timedelta) between two polls.
    :param timeout: seconds (or a timedelta) that PostHog may take to fill it, for each 1,000 ids.
    :param deferrable: wait in the triggerer. The ids are read again afterwards; if there are others by then, all of
        them are put in.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. The key needs ``cohort:write`` and
        ``query:read``.
    :returns: ``cohort_id``, ``created``, ``ids`` (different ones that were given; null with ``query``), ``persons``
        (that should be in it), ``members`` (that are), ``removed``, ``rejected`` (ids without a person,
        and rows without an id), ``rejects_path``.
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogIncompleteError: if a person is not in the cohort afterwards, more ids than ``max_rejects`` have
        none, or far fewer persons would take the place of its members.
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
        "format",
        "object_storage_conn_id",
        "column",
        "max_shrink",
        "allow_shrink",
        "rejects_path",
        "max_rejects",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **{"query": "sql", "values": "json", "sql": "sql", "parameters": "json"}
    }
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
        max_shrink: float | str = MAX_SHRINK,
        allow_shrink: bool | str = False,
        rejects_path: str | os.PathLike[str] | None = None,
        max_rejects: int = 0,
        poll_interval: float | timedelta = 5.0,
        timeout: float | timedelta = 1800.0,
        deferrable: bool | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.cohort_id = cohort_id
        self.query, self.values = query, values
        self.sql_conn_id = sql_conn_id
        self.sql, self.parameters = sql, parameters
        self.path, self.format = path, format
        self.object_storage_conn_id = object_storage_conn_id
        self.column = column
        self.replace = replace
        self.max_shrink, self.allow_shrink = max_shrink, allow_shrink
        self.rejects_path, self.max_rejects = rejects_path, max_rejects
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.deferrable = default_deferrable() if deferrable is None else deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Fill it.

        :param context: the task's context; may be empty outside the task runner.
        """
        return self._run(context, None)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after a wait.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        from airflow_provider_posthog.triggers.jobs import JobEvent

        fired = JobEvent.parse(event, jobs.WATCHED.name)
        if is_of_earlier_try(fired.try_number, context):
            return self._run(context, None)
        fill = Fill.parse(fired.job_id)
        if fired.ended.outcome == "timeout":
            raise late(fill.cohort)
        if fired.ended.outcome in ("failed", "gone"):
            raise failed(fill.cohort, fired.ended.reason)
        if fired.ended.outcome != "succeeded":
            reason = f"Lost sight of cohort {fill.cohort} ({fired.ended.outcome}): {fired.ended.reason}"
            raise PostHogJobError(reason, job_id=str(fill.cohort))
        return self._run(context, fill)

    def _run(self, context: Context, filled: Fill | None) -> dict[str, Any]:
        output = self._check()
        cohort = self._cohort() if filled is None else self._retrieve(filled.cohort)
        people = People(self.hook)
        ids: list[str] | None = None
        unknown, blank = list[str](), 0
        if self.query:
            statements = [{"kind": "HogQLQuery", "query": self.query, "values": dict(self.values or {})}]
            wanted = people.of_query(self.query, self.values or {})
        else:
            ids, blank = self._ids()
            persons, unknown = people.resolve(ids)
            wanted = set(persons.values())
            # In an order that stays, whatever the database's: a task that was deferred finds where it was.
            statements = [queries.hogql(_FILL, {"ids": some}) for some in packs_of(sorted(persons))]
        if self.replace and cohort is not None:
            people.check_shrink(int(cohort["id"]), wanted, ShrinkGuard.of(self.max_shrink, self.allow_shrink))
        fill = self._fill(cohort, statements, filled, context)
        number = fill.cohort
        members = people.of_cohort(number)
        missing = sorted(wanted - members)
        self._write_rejects(output, context, [*unknown, *[None] * blank], missing)
        self._prove(number, missing, len(unknown), blank)
        # Only then: a load that fails leaves everybody in it.
        doomed = members - wanted if self.replace else set()
        members = people.take_out(number, doomed, *self._patience()) if doomed else members
        words = number, counted(len(wanted), "person"), counted(len(unknown) + blank, "id")
        self.concludes("Cohort %d has all of %s; %s belong to no person", *words)
        return {
            "cohort_id": number,
            "created": fill.created,
            "ids": None if ids is None else len(ids),
            "persons": len(wanted),
            "members": len(members),
            "removed": len(doomed),
            "rejected": len(unknown) + blank,
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
        count_of("max_rejects", self.max_rejects)
        ShrinkGuard.of(self.max_shrink, self.allow_shrink)
        seconds_of("poll_interval", self.poll_interval, 0.01)
        seconds_of("timeout", self.timeout, 0)
        if not self.rejects_path:
            return None
        output = Output("rejects_path", str(self.rejects_path), overwrite=True, conn_id=self.object_storage_conn_id)
        output.check()
        return output

    def _ids(self) -> tuple[list[str], int]:
        """Return the different ids that were given, and how many rows have none."""
        with self._rows() as (columns, rows):
            counts = Counter(ids_of(columns, rows, self.column))
        blank = counts.pop("", 0)
        return list(counts), blank

    @contextmanager
    def _rows(self) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
        if self.sql:
            from airflow_provider_posthog.hooks.sql_rows import rows_of

            with rows_of(str(self.sql_conn_id), self.sql, self.parameters) as rows:
                yield rows
            return
        with file_rows(str(self.path), self.format, self.object_storage_conn_id) as rows:
            yield rows

    # The cohort.

    def _cohort(self) -> Mapping[str, Any] | None:
        if self.cohort_id:
            number = number_of("cohort_id", self.cohort_id)
            with named_by("cohort_id", number, "cohort"):
                cohort = self._retrieve(number)
        else:
            named = [cohort for cohort in self.hook.pages(cohorts.list(limit=100)) if cohort.get("name") == self.name]
            if len(named) > 1:
                raise PostHogSettingsError("name", f"{len(named)} cohorts have it.", "Write the cohort_id of one.")
            if not named:
                return None
            cohort = named[0]
        if cohort.get("deleted"):
            raise PostHogSettingsError("cohort_id", "is of a cohort that was deleted.", "Name another, or a new one.")
        if not cohort.get("is_static"):
            raise PostHogSettingsError("cohort_id", "is not of a static cohort.", "Name one that is, or a new one.")
        return cohort

    def _retrieve(self, number: int) -> Mapping[str, Any]:
        call: Call[Any] = cohorts.retrieve(number)
        cohort: Mapping[str, Any] = self.hook.send(call)
        return cohort

    def _fill(
        self,
        cohort: Mapping[str, Any] | None,
        statements: list[dict[str, Any]],
        filled: Fill | None,
        context: Context,
    ) -> Fill:
        """Put in the persons of all statements, or of those that are left; return the last that was done."""
        if not statements and cohort is None:
            statements = [queries.hogql(f"{_FILL} AND 1 = 2", {"ids": [""]})]
        digest, number = digest_of(statements), int(cohort["id"]) if cohort is not None else 0
        created = filled.created if filled is not None else cohort is None
        last = Fill(number, "0", 0, created, digest)
        if filled is not None and filled.digest == digest:
            last = filled
        for statement in statements[last.done :]:
            before = "0"
            if number:
                before = last_calculation(self._retrieve(number))
                self.hook.send(cohorts.add_by_query(number, query=statement))
            else:
                number = int(self._create(statement)["id"])
            self._link(number, context)
            last = Fill(number, before, last.done + 1, created, digest)
            self._wait(last, context)
        self._link(number, context)
        return last

    def _link(self, number: int, context: Context) -> None:
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/cohorts/{number}")

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

    def _wait(self, fill: Fill, context: Context) -> None:
        """Wait until PostHog has filled it: not only begun, and not only what it had calculated before."""
        text, (end, poll) = str(fill), self._patience()
        while True:
            verdict = jobs.WATCHED.judge(self.hook.client.send(jobs.WATCHED.poll(text)))
            if verdict.state == "succeeded":
                return
            if verdict.state == "failed":
                raise failed(fill.cohort, verdict.reason)
            if time.time() >= end:
                raise late(fill.cohort)
            if self.deferrable:
                self._defer(text, end, poll, context)
            time.sleep(min(poll, max(0.01, end - time.time())))

    def _patience(self) -> tuple[float, float]:
        """Return until when PostHog is waited for, in seconds since 1970, and the seconds between two polls."""
        timeout, poll = seconds_of("timeout", self.timeout, 0), seconds_of("poll_interval", self.poll_interval, 0)
        return time.time() + timeout, poll

    def _defer(self, text: str, end: float, poll: float, context: Context) -> NoReturn:
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        trigger = PostHogJobTrigger(
            kind=jobs.WATCHED.name,
            job_id=text,
            posthog_conn_id=self.posthog_conn_id,
            project_id=self.project_id,
            deadline=end,
            poll_interval=poll,
            try_number=Identity.of(context).try_number,
            looked=True,
        )
        backstop = timedelta(seconds=max(1.0, end - time.time()) + 2 * poll + 60 + jobs.LONGEST_OVERRUN)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop)

    # The proof.

    def _write_rejects(
        self, output: Output | None, context: Context, unknown: Sequence[str | None], missing: Sequence[str]
    ) -> None:
        if output is None:
            return
        with output.atomic_file(Identity.of(context)) as atomic:
            for name in unknown:
                reason = "missing_distinct_id" if name is None else "no_person"
                atomic.write(json_line({"distinct_id": name, "person_id": None, "reason": reason}, "rejects"))
            for person in missing:
                atomic.write(
                    json_line({"distinct_id": None, "person_id": person, "reason": "not_in_cohort"}, "rejects")
                )
            atomic.finish()
            output.commit(atomic)

    def _prove(self, number: int, missing: Sequence[str], unknown: int, blank: int) -> None:
        where = f". {self.rejects_path} names them." if self.rejects_path else ". Give rejects_path for a file of them."
        if missing:
            raise PostHogIncompleteError(
                f"PostHog silently left {len(missing):,} persons out of cohort {number}{where}"
            )
        most = count_of("max_rejects", self.max_rejects)
        if unknown + blank > most:
            rows = f"{blank:,} rows have no id, and " if blank else ""
            raise PostHogIncompleteError(
                f"{rows}{unknown:,} ids have no person in PostHog, and max_rejects is {most:,}. All "
                f"others are in cohort {number}{where}"
            )
