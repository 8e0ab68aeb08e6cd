"""Queries as tasks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import jobs, queries, states
from airflow_provider_posthog.api.hogql import one_statement
from airflow_provider_posthog.api.insights import unwrap
from airflow_provider_posthog.exceptions import (
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.results.answer import Answer, Question, ask, read
from airflow_provider_posthog.results.byte_guard import ByteGuard, tell
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.job import PostHogJobOperator
from airflow_provider_posthog.tasks.lists import values_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.result_file import Output, check_fits_xcom
from airflow_provider_posthog.tasks.retention import OnRetention, RetentionMixin

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.tasks.job import JobArguments

#: PostHog forgets a query 20 minutes after its last news; what waited longer is gone.
TIMEOUT = 21 * 60.0


class PostHogQueryOperator(RetentionMixin, PostHogJobOperator):
    """Runs a query afresh, never from PostHog's cache, and returns its rows.

    It runs asynchronously under a name that follows from the task and its try, so that a retry after a crash takes up
    the query that still runs, and a kill cancels it. A failure that PostHog answers with 200, and rows that it silently
    cut (no LIMIT: 100; more than 50,000), are errors.

    PostHog gives a personal API key's query 10 seconds and runs three of them at once per project. For many rows use an
    export, or load the events.

    :param query: HogQL text, with ``{name}`` for each value, or a query node such as ``{"kind": "TrendsQuery", ...}``.
        HogQL is not ClickHouse. Put several SELECTs (UNION and the like) into brackets, ``SELECT * FROM (...) LIMIT
        n``: without them PostHog cuts each on its own.
    :param values: what the placeholders of the text stand for. Times as ISO text with ``Z``, inside ``toDateTime``.
    :param variables: what ``{variables.code_name}`` in the text stands for, as PostHog's ``variables``: by the
        variable's id, each with ``code_name`` and ``value``.
    :param path: where the rows go, as an ``ObjectStoragePath`` or text. The suffix says how: ``.parquet`` (needs
        the extra ``warehouse``), ``.csv``, ``.jsonl`` (these two also with ``.gz``) or ``.json`` (the whole answer).
        The file appears only when it is whole.
    :param overwrite: replace a file of that name. Without it, one that holds the same bytes is success, any other an
        error.
    :param max_rows: how many rows may be returned as an XCom, which is kept in Airflow's database; more need a
        ``path``.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param name: what PostHog's query log shows; default: the DAG's and the task's id.
    :param on_retention: what to do if PostHog hides events that the query reads, because they are older than the
        project's retention: ``warn`` (default), ``ignore``, or ``fail``, which needs a query node with a start date.
    :param max_bytes_read: how many bytes ClickHouse may read for the query; PostHog meters them (docs/limits.md). A
        query that read more fails, so that a schedule does not use up the project's budget unnoticed; and none starts
        if the budget has less left. Servers that do not report bytes are not guarded.
    :param timeout: seconds, or a ``timedelta``, from the start; default 21 minutes, when PostHog has forgotten it.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: ``query_id`` (text), ``columns`` (list of ``{"name", "type"}``, with ClickHouse's types), ``row_count``
        (int), ``has_more`` (bool: whether a trend's breakdown has more values); ``rows`` (list of lists, times as ISO
        text, or of another kind of query its ``results``; null with a
        ``path``); ``path``, ``bytes`` and ``sha256`` of the file, else null; ``bytes_read``
        (int, null where the server does not say) by ClickHouse. With ``wait_for_completion=False`` only ``query_id``.
    :raises PostHogSettingsError: if an argument is wrong, there are too many rows for an XCom, or the query read more
        bytes than it may.
    :raises PostHogRateLimitError: if fewer bytes are left than the query may read; nothing is sent.
    :raises PostHogIncompleteError: if PostHog cut the rows.
    :raises PostHogJobFailed: if the query failed, with PostHog's reason.
    :raises PostHogJobTimeout: if it did not end in time; it is cancelled then.
    """

    job_kind = jobs.QUERY
    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "query",
        "values",
        "variables",
        "path",
        "on_retention",
        "object_storage_conn_id",
        "name",
        "max_bytes_read",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "query": "sql",
        "values": "json",
        "variables": "json",
    }

    def __init__(
        self,
        *,
        query: str | Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        variables: Mapping[str, Mapping[str, Any]] | None = None,
        path: str | ObjectStoragePath | None = None,
        overwrite: bool = False,
        max_rows: int = 100,
        object_storage_conn_id: str | None = None,
        name: str | None = None,
        on_retention: OnRetention = "warn",
        max_bytes_read: int | None = None,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.query = query
        self.values = values
        self.variables = variables
        self.path = path
        self.overwrite = overwrite
        self.max_rows = max_rows
        self.object_storage_conn_id = object_storage_conn_id
        self.name = name
        self.on_retention = on_retention
        self.max_bytes_read = max_bytes_read
        self._marker = self._query_id = ""

    def prepare(self) -> dict[str, Any]:
        """Check the arguments and return the query node."""
        if isinstance(self.max_rows, bool) or not isinstance(self.max_rows, int) or self.max_rows < 0:
            raise PostHogSettingsError("max_rows", "is not a number of rows.", "Write 0 or more.")
        ByteGuard.of(self.max_bytes_read)
        self._check_waits()
        output = self._output()
        if output is not None:
            from airflow_provider_posthog.results.files import format_of, require_format

            output.check("s3://bucket/{{ ds }}.parquet")
            require_format(format_of(str(self.path), field="path"), field="path")
            output.refuse_if_there(self._identity)
        elif self.max_rows == 0:
            raise PostHogSettingsError("path", "is not given, and max_rows is 0.", "Write one of the two.")
        node = self._node()
        self._question(node)  # what no answer could prove is refused
        self.retention_guard.check_node(node)
        return {"query": node}

    def _check_waits(self) -> None:
        """Refuse what is done with a query's answer where nobody waits for it."""
        for field in () if self.wait_for_completion else ("path", "max_bytes_read"):
            if getattr(self, field) is not None:
                raise PostHogSettingsError(
                    field, "is for a query that is waited for.", "Leave it out, or leave wait_for_completion out."
                )

    def _node(self) -> dict[str, Any]:
        if isinstance(self.query, str):
            node = queries.hogql(one_statement(self.query, "query"), values_of(self.values, is_text=True))
            if self.variables:
                node["variables"] = _variables(self.variables)
            return node
        given = unwrap(dict(self.query)) if isinstance(self.query, Mapping) else None
        if given is None:
            raise PostHogSettingsError(
                "query",
                "is neither HogQL text nor a query node.",
                "Write 'SELECT ...' or {'kind': 'TrendsQuery', ...}.",
            )
        values_of(self.values, is_text=False)
        if self.variables:
            raise PostHogSettingsError("variables", "go with HogQL text only.", "Put them into the query node.")
        if given.get("kind") == "HogQLQuery":
            given["query"] = one_statement(given.get("query"), "query")
        return given

    def _question(self, node: Mapping[str, Any]) -> Question | None:
        """Return what proves an answer whole; ``None`` for another query than HogQL, which has its own pages."""
        if node.get("kind") != "HogQLQuery":
            return None
        return ask(node.get("query"), queries.placeholders(node), field="query")

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Start the query under the name that this try has for it."""
        ByteGuard.of(self.max_bytes_read).before(self.hook.client)
        self._marker = marker
        query_id = self._query_id = self._free_name(request)
        # From now on a kill cancels it, also while the answer is under way.
        self._job = Job(query_id, marker, 0.0)
        name = self.name or (f"{self.dag_id}.{self.task_id}" if self.has_dag() else self.task_id)  # type: ignore[no-untyped-call]
        start = queries.start(request["query"], refresh="force_async", client_query_id=query_id, name=name)
        # Sent again after a lost answer, it would calculate the same beside the first.
        metered = self.hook.client.send(queries.metered(replace(start, repeatable=False)))
        answer = metered.value
        status = answer.get("query_status")
        if isinstance(status, Mapping):
            return str(status.get("id") or query_id), status
        if status is not None:
            raise PostHogTransportError("PostHog's answer to the start of the query has no 'query_status' to be read")
        return query_id, {"complete": True, "results": answer, "bytes_read": metered.bytes_read}

    def _submit(self, identity: Identity, request: Mapping[str, Any]) -> Job:
        try:
            return super()._submit(identity, request)
        except (PostHogTransportError, PostHogServerError) as error:
            if getattr(error, "sent", True):
                self.on_kill()  # it was not found, or could not even be looked for: it may run all the same
            raise

    def _free_name(self, request: Mapping[str, Any]) -> str:
        """Return this try's name for the query; the next one if a query of that name was found, and not taken up."""
        who = self._identity
        names = (who.name_of(request, who.try_number, number) for number in itertools.count(who.reschedules))
        return next(name for name in names if name not in self._known)

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, states.Verdict]]:
        """Yield the queries of this try and of earlier ones that PostHog still knows."""
        names = [(name, str(marker)) for name, marker in self._identity.earlier(request)]
        if self._marker:
            names.insert(0, (self._query_id, self._marker))
        for query_id, marker in names:
            try:
                status = self.hook.client.send(queries.status(query_id))
            except PostHogNotFoundError:
                continue
            yield Job(query_id, marker, queries.started_at(status), status), _verdict(status)

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Return the rows, or write them."""
        if not self.wait_for_completion:
            return {"query_id": job.id}
        node = self._node()
        raw, answer, bytes_read = self._results(job, node)
        rows = answer.whole().rows
        columns = zip(answer.names(), answer.kinds(), strict=True) if answer.columns else ()
        result: dict[str, Any] = {
            "query_id": job.id,
            "columns": [{"name": name, "type": kind} for name, kind in columns],
            "row_count": len(rows) if isinstance(rows, list) else 0,
            "rows": rows,
            "has_more": raw.get("hasMore") is True,
            "path": None,
            "bytes": None,
            "sha256": None,
            "bytes_read": bytes_read,
        }
        output, count = self._output(), counted(result["row_count"], "row")
        if output is not None:
            result |= {"rows": None, **self._write(output, raw, node)}
            self.concludes("The query returned %s: %s, %s bytes", count, output.target, f"{result['bytes']:,}")
            return result
        self.concludes("The query returned %s", count)
        check_fits_xcom(result, "the query", self.max_rows)
        return result

    def _results(self, job: Job, node: Mapping[str, Any]) -> tuple[queries.QueryAnswer, Answer, int | None]:
        """Return PostHog's answer, as it came and as it was read, and what ClickHouse read for it."""
        status = job.facts if job.facts.get("results") else self._ended(job)
        raw: Any = status.get("results")
        bytes_read: int | None = status.get("bytes_read")
        tell(self.hook.client, bytes_read)
        readable = raw
        if isinstance(raw, Mapping) and not queries.more_rows(node.get("kind")):
            readable = {**raw, "hasMore": None}  # of a trend: whether its breakdown has more values than it shows
        try:
            answer = read(readable, self._question(node), asked=node.get("limit"))
        except PostHogJobFailed as error:
            error.job_id = job.id
            raise
        ByteGuard.of(self.max_bytes_read).after(bytes_read)
        return raw, answer, bytes_read

    def _ended(self, job: Job) -> Mapping[str, Any]:
        """Return what PostHog says of a query that has ended.

        It may run again: a start that was given up as lost, and came late, begins a query of the same name anew.
        """
        status = self.hook.client.send(queries.status(job.id))
        if states.of_query(status).state != "pending":
            return status
        self.log.warning("Query %s had ended and runs again: an earlier request for it came late. Waiting", job.id)
        ended = self.poll_until_complete(job, time.time() + self.timeout_seconds())
        if ended.outcome == "timeout":
            raise self._out_of_time(job, "timeout", ended.reason)
        if ended.outcome != "succeeded":
            raise PostHogJobFailed(f"PostHog: query {job.id} {ended.outcome}: {ended.reason}", job_id=job.id)
        if self._last_seen:
            return self._last_seen
        return self.hook.client.send(queries.status(job.id))

    def _output(self) -> Output | None:
        if self.path is None:
            return None
        return Output("path", self.path, self.overwrite, self.object_storage_conn_id)

    def _write(self, output: Output, answer: queries.QueryAnswer, node: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_posthog.results.files import compression_of, format_of, write_result
        from airflow_provider_posthog.results.insight_tables import table_of

        path = str(self.path)
        document = {**answer, "query": answer.get("query") or node}
        with output.atomic_file(self._identity, compression=compression_of(path)) as atomic:
            write_result(atomic, answer, lambda: table_of(document), format_of(path))
            output.commit(atomic)
        return {"path": str(output.target), "bytes": atomic.size, "sha256": atomic.sha256}

    def link(self, job: Job) -> str:
        """Return PostHog's page for SQL."""
        return "sql"

    def default_timeout(self) -> float:
        """Return 21 minutes: PostHog forgets a query after 20."""
        return TIMEOUT


def _verdict(status: queries.QueryStatus) -> states.Verdict:
    """Read a status; one with a failure among its results is not worth taking up."""
    verdict = states.of_query(status)
    failure = states.failure_in(status.get("results")) if verdict.state == "succeeded" else None
    return verdict if failure is None else states.Verdict("failed", failure)


def _variables(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    if not isinstance(variables, Mapping):
        raise PostHogSettingsError(
            "variables", "is not a dictionary.", "Write {'<variable id>': {'code_name': ..., 'value': ...}}."
        )
    for name, variable in variables.items():
        if not isinstance(variable, Mapping) or not {"code_name", "value"} <= set(variable):
            raise PostHogSettingsError(
                "variables",
                f"{name!r} does not say code_name and value.",
                "Write {'<variable id>': {'code_name': ..., 'value': ...}}.",
            )
    return {name: {"variableId": name, **variable} for name, variable in variables.items()}
