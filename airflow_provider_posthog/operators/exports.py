"""Exports as tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import exports, jobs, states
from airflow_provider_posthog.api.hogql import limits_of, one_statement
from airflow_provider_posthog.api.insights import runnable_query, unwrap
from airflow_provider_posthog.api.queries import hogql, placeholders
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogSettingsError
from airflow_provider_posthog.results.answer import hides_cuts
from airflow_provider_posthog.tasks.identity import Job
from airflow_provider_posthog.tasks.job import PostHogJobOperator
from airflow_provider_posthog.tasks.lists import listed, number_of, values_of
from airflow_provider_posthog.tasks.retention import OnRetention, RetentionMixin

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.tasks.job import JobArguments

TABLES = (exports.CSV, exports.XLSX)
VIDEOS = ("video/mp4", "video/webm", "image/gif")
#: How short an ``export_format`` may be written.
FORMATS = {
    "csv": exports.CSV,
    "xlsx": exports.XLSX,
    "png": exports.PNG,
    "mp4": "video/mp4",
    "webm": "video/webm",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
}
_HOPELESS = {
    "application/pdf": "PostHog accepts it and never makes the file.",
    "application/json": "PostHog accepts it and never makes the file.",
    "application/x-ndjson": "PostHog only makes it of its own data sets.",
}
#: The exports of a key are searched this deep for a marker; more than a day's work of a busy project.
_SEARCH_PAGES = 10


class PostHogCreateExportOperator(RetentionMixin, PostHogJobOperator):
    """Creates an export and waits until its file is there.

    The file is PostHog's: fetch it with ``PostHogExportToObjectStorageOperator`` before ``expires_after`` (six to seven
    days for CSV and XLSX). What can never become a file is refused before anything is sent. PostHog answers 201 even if
    the export will fail, and creates a second export if the POST is repeated. So each export carries an idempotency key
    of its task in ``export_context``, by which a retry finds the export of a lost answer or a killed worker.

    ::

        PostHogCreateExportOperator(
            task_id="export", query="SELECT event, count() FROM events GROUP BY event LIMIT 1000", export_format="csv"
        )

    :param export_format: ``csv``, ``xlsx``, ``png``, or ``mp4``, ``webm`` and ``gif`` of a recording; or PostHog's own
        names of these, such as ``text/csv``.
    :param insight: the id or short id of a saved insight. CSV and XLSX run the insight's own query.
    :param dashboard: the id of a dashboard; PNG only.
    :param query: HogQL text, with ``{name}`` for each value, or a query node such as ``{"kind": "EventsQuery", ...}``;
        CSV and XLSX only. Write a LIMIT (at most 300,000): without one PostHog silently cuts the file at 50,000 rows.
    :param values: what the placeholders of the text stand for. Times as ISO text with ``Z``, inside ``toDateTime``.
    :param columns: the columns of a CSV or XLSX file, in order; without them they follow from the data.
    :param filename: the file's base name; PostHog makes a slug of it.
    :param export_context: more of PostHog's ``export_context``, such as ``session_recording_id``.
    :param on_retention: what to do if PostHog hides events that the table reads, because they are older than the
        project's retention: ``fail``, ``warn`` or ``ignore``. An EventsQuery, and an insight with a start date, can
        fail; the interval that HogQL reads is unknown, so there you only get a warning.
    :param wait_for_completion: wait until the file is there; otherwise return the id at once.
    :param deferrable: wait in the triggerer; default ``[operators] default_deferrable``.
    :param poll_interval: the longest wait between two polls: seconds, or a ``timedelta``; the first polls come sooner.
    :param timeout: seconds, or a ``timedelta``, from the creation; default 40 minutes, 80 for videos, which is more
        than PostHog tries.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: ``id`` (int), ``filename``, ``export_format``, ``created_at`` and ``expires_after`` (ISO text or null),
        ``has_content`` (bool), ``project_id`` (int), ``host``.
    :raises PostHogSettingsError: if the arguments cannot make a file.
    :raises PostHogIncompleteError: if PostHog hides events that are asked for.
    :raises PostHogJobFailed: if PostHog gave up on the export, with its reason where the server gives one.
    :raises PostHogJobTimeout: if it did not end in time; servers before 2025 never report a failure, so there a failed
        export ends like this.
    """

    job_kind = jobs.EXPORT
    template_fields: Sequence[str] = (
        *PostHogJobOperator.template_fields,
        "export_format",
        "insight",
        "dashboard",
        "query",
        "values",
        "columns",
        "filename",
        "export_context",
        "on_retention",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers = {"query": "sql", "values": "json", "export_context": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(
        self,
        *,
        export_format: str = exports.CSV,
        insight: int | str | None = None,
        dashboard: int | str | None = None,
        query: str | dict[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
        columns: list[str] | None = None,
        filename: str | None = None,
        export_context: dict[str, Any] | None = None,
        on_retention: OnRetention = "fail",
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.export_format = export_format
        self.insight = insight
        self.dashboard = dashboard
        self.query = query
        self.values = values
        self.columns = columns
        self.filename = filename
        self.export_context = export_context
        self.on_retention = on_retention
        self._short_id: str | None = None

    def prepare(self) -> dict[str, Any]:
        """Check the arguments and return the body of the POST, without the marker."""
        context = self._context()
        self._check_format(context)
        values_of(self.values, is_text=isinstance(self.query, str))
        body: dict[str, Any] = {"export_format": self._format}
        if self.dashboard is not None:
            body["dashboard"] = number_of("dashboard", self.dashboard)
        if self.query is not None:
            context["source"] = self._source(self.query)
        elif (unwrap(context.get("source")) or {}).get("kind") == "HogQLQuery":
            context["source"] = self._source(context["source"])
        if self.insight is not None:
            self._add_insight(body, context)
        body["export_context"] = context
        source = context.get("source")
        guard = self.retention_guard
        if self._format in TABLES and isinstance(source, Mapping):
            guard.check_node(unwrap(source) or source)
        return body

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Create the export."""
        context = {**request["export_context"], exports.MARKER_KEY: marker}
        export = self.hook.client.send(exports.create(**{**request, "export_context": context}))
        return str(exports.id_of(export.get("id"), self.hook.settings())), export

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, states.Verdict]]:
        """Yield the key's own exports of this format that carry a marker, newest first."""
        offset = 0
        for _ in range(_SEARCH_PAGES):
            page = self._page(request["export_format"], offset)
            page_rows = page.get("results", [])
            for export in page_rows:
                context: object = export.get("export_context")  # of somebody's export it may be anything
                marker = context.get(exports.MARKER_KEY) if isinstance(context, Mapping) else None
                if marker:
                    job = Job(str(export.get("id")), str(marker), exports.created_at(export), export)
                    yield job, states.of_export(export)
            offset += len(page_rows)
            if not page_rows or not page.get("next"):
                return

    def _page(self, export_format: str, offset: int) -> exports.ExportPage:
        try:
            return self.hook.client.send(exports.list(export_format=export_format, offset=offset))
        except PostHogAPIError as error:
            if error.status not in (404, 405):
                raise
            # Servers of 2022 list no exports: a lost answer stays lost there, and a retry starts anew.
            self.log.warning("This PostHog cannot list exports, so none of an earlier try can be found: %s", error)
            return {"results": []}

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Return the export's summary."""
        export: Any = job.facts
        if not export or (self.wait_for_completion and not export.get("has_content")):
            export = self.hook.client.send(exports.retrieve(int(job.id)))
        summary = exports.summary(export, self.hook.settings())
        if self.wait_for_completion:
            expires = f", expires {str(summary['expires_after'])[:10]}" if summary.get("expires_after") else ""
            self.concludes(
                "Export %s is ready: %s%s", job.id, summary.get("filename") or summary["export_format"], expires
            )
        return summary

    def link(self, job: Job) -> str:
        """Return the page of what is exported: the insight, the dashboard, else the list of exports."""
        if self.dashboard is not None:
            return f"dashboard/{self.dashboard}"
        return f"insights/{self._short_id}" if self._short_id else "exports"

    def default_timeout(self) -> float:
        """Return 40 minutes, or 80 for a video: PostHog gives up after 35 and 75."""
        return 80 * 60.0 if self._format in VIDEOS else 40 * 60.0

    @property
    def _format(self) -> str:
        """PostHog's own name of the format."""
        return FORMATS.get(str(self.export_format), str(self.export_format))

    def _context(self) -> dict[str, Any]:
        if not isinstance(self.export_context or {}, Mapping):
            raise PostHogSettingsError("export_context", "is not a dictionary.", "Write {'filename': ...} or the like.")
        context = dict(self.export_context or {})
        if exports.MARKER_KEY in context:
            raise PostHogSettingsError(
                "export_context", f"the key {exports.MARKER_KEY!r} is this provider's own.", "Take another name."
            )
        if "source" in context and self.query is not None:
            raise PostHogSettingsError("query", "export_context already has a 'source'.", "Give one of the two.")
        if self.columns not in (None, []):
            context["columns"] = listed("columns", self.columns)
        if self.filename:
            context["filename"] = self.filename
        return context

    def _check_format(self, context: Mapping[str, Any]) -> None:
        made = self._format
        if made in _HOPELESS:
            raise PostHogSettingsError(
                "export_format", f"{self.export_format!r}: {_HOPELESS[made]}", "Write csv, xlsx or png."
            )
        if made in TABLES:
            self._check_table(context)
        elif made == exports.PNG:
            self._check_picture(context)
        elif made in VIDEOS:
            if not context.get("session_recording_id"):
                raise PostHogSettingsError(
                    "export_context",
                    f"{self.export_format!r} is made of session recordings only.",
                    "Write export_context={'session_recording_id': ...}.",
                )
        else:
            raise PostHogSettingsError(
                "export_format",
                f"PostHog makes no {self.export_format!r}.",
                "Write csv, xlsx or png, or of a recording mp4, webm or gif.",
            )

    def _check_table(self, context: Mapping[str, Any]) -> None:
        if self.dashboard is not None:
            raise PostHogSettingsError(
                "dashboard",
                "PostHog makes no table of a dashboard: the export would never get a file.",
                "Write PostHogRefreshDashboardOperator(path='.../{short_id}.xlsx'), which writes tables with the "
                "dashboard's filters, or export the dashboard as png.",
            )
        given = [self.query is not None or "source" in context, self.insight is not None, "path" in context]
        if sum(given) != 1:
            raise PostHogSettingsError(
                "query",
                "a table needs one thing to export, " + ("but none is given." if not any(given) else "not several."),
                "Write query=... or insight=..., one of the two.",
            )

    def _check_picture(self, context: Mapping[str, Any]) -> None:
        if self.query is not None or self.columns:
            raise PostHogSettingsError(
                "query" if self.query is not None else "columns",
                "a picture is made of an insight or a dashboard, not of a query.",
                "Take export_format='csv', or save the query as an insight.",
            )
        others = {"session_recording_id", "heatmap_url"} & set(context)
        if self.insight is None and self.dashboard is None and not others:
            raise PostHogSettingsError("insight", "is not given.", "Write insight=... or dashboard=... .")

    def _source(self, query: object) -> dict[str, Any]:
        if isinstance(query, str):
            return self._hogql(hogql(query, self.values))
        if isinstance(query, Mapping) and query.get("kind"):
            node = unwrap(query)
            if node is not None:
                return self._hogql(node) if node.get("kind") == "HogQLQuery" else node
        raise PostHogSettingsError(
            "query", "is neither HogQL text nor a query node.", "Write 'SELECT ...' or {'kind': 'EventsQuery', ...}."
        )

    def _hogql(self, node: Mapping[str, Any]) -> dict[str, Any]:
        text = one_statement(node.get("query"), "query")
        limits = limits_of(text, placeholders(node))
        hides_cuts(limits, "query")
        if not all(arm.written for arm in limits.arms):
            what = "One of the SELECTs that the query joins" if limits.is_set else "The query"
            self.log.warning("%s has no LIMIT: PostHog cuts it at 50,000 rows. Write LIMIT 300000", what)
        return {**node, "query": text}

    def _add_insight(self, body: dict[str, Any], context: dict[str, Any]) -> None:
        saved = self.hook.find_insight(self.insight if self.insight is not None else "")
        body["insight"] = saved.get("id")
        self._short_id = saved.get("short_id")
        if self._format not in TABLES:
            return
        source = runnable_query(saved)
        if source is None:
            raise PostHogSettingsError(
                "insight",
                f"{self.insight!r} has no query, only filters of the old kind, of which PostHog makes no table.",
                "Open it in PostHog and save it again, or write query=... .",
            )
        context["source"] = source
