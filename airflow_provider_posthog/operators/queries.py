"""Queries as tasks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import jobs, queries, states
from airflow_provider_posthog.api.insights import unwrap
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.operators.base import PostHogOperator
from airflow_provider_posthog.operators.identity import Job
from airflow_provider_posthog.operators.job import PostHogJobOperator
from airflow_provider_posthog.operators.output import Output, json_line, unfit_for_xcom

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import ObjectStoragePath

#: PostHog forgets a query 20 minutes after its last news; what waited longer is gone.
TIMEOUT = 21 * 60.0


class PostHogQueryOperator(PostHogJobOperator):
    """Runs a query afresh, never from PostHog's cache, and hands on its rows.

    It runs asynchronously under a name that follows from the task and its try, so that a retry after a crash takes up
    the query that still runs, and a kill cancels it. A failure that PostHog answers with 200, and rows that it cut
    without a word (no LIMIT: 100; more than 50,000), are errors.

    PostHog gives a personal API key's query 10 seconds and runs three of them at once per project. For many rows take
    an export, or load the events.

    :param hogql: the statement, with ``{name}`` for each value; no semicolon at its end. HogQL is not ClickHouse.
    :param query: a query node in place of ``hogql``, such as ``{"kind": "TrendsQuery", ...}``.
    :param values: what the placeholders of ``hogql`` stand for. Times as ISO text with ``Z``, inside ``toDateTime``.
    :param variables: what ``{variables.code_name}`` stands for, as PostHog's ``variables``: by the variable's id, each
        with ``code_name`` and ``value``.
    :param result_path: where the rows go, as an ``ObjectStoragePath`` or text. The suffix says how: ``.parquet`` (needs
        the extra ``warehouse``), ``.csv``, ``.jsonl`` (these two also with ``.gz``) or ``.json`` (the whole answer).
        The file appears only when it is whole.
    :param overwrite: replace a file of that name. Without it, one that holds the same bytes is success, any other an
        error.
    :param max_rows: how many rows may be handed on as an XCom, which is kept in Airflow's database; more need a
        ``result_path``.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param name: what PostHog's query log shows; default: the DAG's and the task's id.
    :param timeout: seconds from the start; default 21 minutes, when PostHog has forgotten it.
    :param kwargs: as :class:`~airflow_provider_posthog.operators.job.PostHogJobOperator`.
    :returns: ``query_id`` (text), ``columns`` (list of ``{"name", "type"}``, with ClickHouse's types), ``row_count``
        (int); ``rows`` (list of lists, times as ISO text, or of another kind of query its ``results``; null with a
        ``result_path``); ``path``, ``bytes`` and ``sha256`` of the file, else null. With
        ``wait_for_completion=False`` only ``query_id``.
    :raises PostHogSettingsError: if an argument is wrong, or there are too many rows for an XCom.
    :raises PostHogIncompleteError: if PostHog cut the rows.
    :raises PostHogJobFailed: if the query failed, with PostHog's reason.
    :raises PostHogJobTimeout: if it did not end in time; it is cancelled then.
    """

    job_kind = jobs.QUERY
    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "hogql",
        "query",
        "values",
        "variables",
        "result_path",
        "object_storage_conn_id",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "hogql": "sql",
        "query": "json",
        "values": "json",
        "variables": "json",
    }

    def __init__(
        self,
        *,
        hogql: str | None = None,
        query: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
        variables: Mapping[str, Mapping[str, Any]] | None = None,
        result_path: str | ObjectStoragePath | None = None,
        overwrite: bool = False,
        max_rows: int = 100,
        object_storage_conn_id: str | None = None,
        name: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.hogql = hogql
        self.query = query
        self.values = values
        self.variables = variables
        self.result_path = result_path
        self.overwrite = overwrite
        self.max_rows = max_rows
        self.object_storage_conn_id = object_storage_conn_id
        self.name = name
        self._marker = self._query_id = ""

    def prepare(self) -> dict[str, Any]:
        """Check the arguments and return the query node."""
        if isinstance(self.max_rows, bool) or not isinstance(self.max_rows, int) or self.max_rows < 0:
            raise PostHogSettingsError("max_rows", "is not a number of rows.", "Write 0 or more.")
        output = self._output()
        if output is not None:
            from airflow_provider_posthog.extract.result_files import format_of, require_format

            output.check("s3://bucket/{{ ds }}.parquet")
            require_format(format_of(str(self.result_path)))
            output.refuse_if_there(self._identity)
        elif self.max_rows == 0:
            raise PostHogSettingsError("result_path", "is not given, and max_rows is 0.", "Write one of the two.")
        return {"query": self._node()}

    def _node(self) -> dict[str, Any]:
        if (self.hogql is None) == (self.query is None):
            raise PostHogSettingsError("hogql", "and query: one of the two is needed.", "Write hogql='SELECT ...'.")
        if self.hogql is None:
            node = unwrap(dict(self.query or {}))
            if node is None:
                raise PostHogSettingsError(
                    "query", "is no query node.", "Write {'kind': 'TrendsQuery', ...}, or hogql=... ."
                )
            if self.values or self.variables:
                raise PostHogSettingsError("values", "and variables go with hogql.", "Put them into the query node.")
            return node
        text = self.hogql.strip()
        if not text or text.endswith(";"):
            problem = "ends with a semicolon, which HogQL does not know." if text else "is empty."
            raise PostHogSettingsError("hogql", problem, "Write 'SELECT ...' without one.")
        node = queries.hogql(text, self.values)
        if self.variables:
            node["variables"] = _variables(self.variables)
        return node

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Start the query under the name that this try has for it."""
        self._marker = marker
        query_id = self._query_id = self._free_name(request)
        # From now on a kill cancels it, also while the answer is under way.
        self._job = Job(query_id, marker, 0.0)
        name = self.name or (f"{self.dag_id}.{self.task_id}" if self.has_dag() else self.task_id)  # type: ignore[no-untyped-call]
        start = queries.start(request["query"], refresh="force_async", client_query_id=query_id, name=name)
        # Sent again after a lost answer, it would calculate the same beside the first.
        answer = self.hook.client.send(replace(start, repeatable=False))
        status = answer.get("query_status")
        if status:
            return str(status.get("id") or query_id), status
        return query_id, {"complete": True, "results": answer}

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
        answer = self._results(job)
        rows, columns = answer.get("results"), _columns(answer)
        self._check_whole(answer)
        result: dict[str, Any] = {
            "query_id": job.id,
            "columns": columns,
            "row_count": len(rows) if isinstance(rows, list) else 0,
            "rows": rows,
            "path": None,
            "bytes": None,
            "sha256": None,
        }
        output = self._output()
        if output is not None:
            return {**result, "rows": None, **self._write(output, answer)}
        problem = unfit_for_xcom(json_line(result, "the query"))
        if result["row_count"] > self.max_rows:
            problem = f"has {result['row_count']:,} rows, more than max_rows={self.max_rows}."
        if problem is not None:
            raise PostHogSettingsError(
                "result_path",
                f"is not given, and the result {problem}",
                "Write one, such as 's3://bucket/{{ ds }}.csv'.",
            )
        return result

    def _results(self, job: Job) -> queries.QueryAnswer:
        status = job.facts if job.facts.get("results") else self.hook.client.send(queries.status(job.id))
        answer = status.get("results")
        if not isinstance(answer, Mapping) or "results" not in answer:
            raise PostHogTransportError("PostHog says that the query is complete, and gives no results")
        failure = states.failure_in(answer)
        if failure is not None:
            raise PostHogJobFailed(f"The query was reported complete, but it failed: {failure}", job_id=job.id)
        if answer.get("is_cached") is True:
            raise PostHogJobFailed("PostHog answered from its cache, although it was told not to.", job_id=job.id)
        return answer  # type: ignore[return-value]

    def _check_whole(self, answer: queries.QueryAnswer) -> None:
        rows = answer.get("results")
        if not isinstance(rows, list):
            return
        asked = None if self.query is None else self._node().get("limit")
        if (answer.get("hasMore") and len(rows) != asked) or len(rows) >= queries.MAX_ROWS:
            raise PostHogIncompleteError(
                f"PostHog cut the answer at {len(rows):,} rows. Write a LIMIT (at most {queries.MAX_ROWS:,}), narrow "
                "the statement, or export it with PostHogCreateExportOperator."
            )

    def _output(self) -> Output | None:
        if self.result_path is None:
            return None
        return Output("result_path", self.result_path, self.overwrite, self.object_storage_conn_id)

    def _write(self, output: Output, answer: queries.QueryAnswer) -> dict[str, Any]:
        from airflow_provider_posthog.extract.insight_tables import table_of
        from airflow_provider_posthog.extract.result_files import compression_of, format_of, write_result

        path = str(self.result_path)
        asked = {**answer, "query": answer.get("query") or self._node()}
        with output.landing(self._identity, compression=compression_of(path)) as landing:
            write_result(landing, answer, lambda: table_of(asked), format_of(path))
            output.commit(landing)
        self.log.info("Wrote %s: %s bytes", output.target, f"{landing.size:,}")
        return {"path": str(output.target), "bytes": landing.size, "sha256": landing.sha256}

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


def _columns(answer: queries.QueryAnswer) -> list[dict[str, str | None]]:
    types = answer.get("types")
    pairs = types if isinstance(types, list) else []
    kinds = {str(pair[0]): str(pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) > 1}
    return [{"name": name, "type": kinds.get(name)} for name in answer.get("columns") or []]


def _variables(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    for name, variable in variables.items():
        if not isinstance(variable, Mapping) or not {"code_name", "value"} <= set(variable):
            raise PostHogSettingsError(
                "variables",
                f"{name!r} does not say code_name and value.",
                "Write {'<variable id>': {'code_name': ..., 'value': ...}}.",
            )
    return {name: {"variableId": name, **variable} for name, variable in variables.items()}
