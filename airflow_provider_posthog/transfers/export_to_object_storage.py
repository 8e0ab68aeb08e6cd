"""An export's file into object storage."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from airflow_provider_posthog.api import exports, jobs
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogSettingsError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.results.answer import WRAPPED
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lineage import Lineage, LineageMixin, dataset_of_path, of_export
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.refresh_shown import Refreshed
from airflow_provider_posthog.tasks.result_file import Output
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.download.csv_rows import CsvRows
    from airflow_provider_posthog.download.http import Received
    from airflow_provider_posthog.storage.atomic_file import AtomicFile
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

OnTruncation = Literal["fail", "warn", "ignore"]
_ON_TRUNCATION = ("fail", "warn", "ignore")
_COMPRESSIONS = (None, "gzip")
#: What a login page or an error of a proxy comes as; no export of ours ever does.
_NOT_A_FILE = frozenset({"text/html", "application/json", "application/xml", "text/xml"})


class PostHogExportToObjectStorageOperator(LineageMixin, PostHogOperator):
    """Streams an export's file to object storage, and proves that it is whole.

    The file is streamed in small chunks, continues where a connection was cut, and appears under its name only once it
    is complete. The storage that PostHog redirects to never sees the key.

    ::

        PostHogExportToObjectStorageOperator(
            task_id="fetch", export_id="{{ ti.xcom_pull('export')['id'] }}", path="s3://lake/exports/{{ ds }}.csv"
        )

    :param export_id: the export's id, or what ``PostHogCreateExportOperator`` or ``PostHogExportSensor`` returned.
    :param path: where to, as an ``ObjectStoragePath`` or text such as ``s3://bucket/events/{{ ds }}.csv``. With ``/``
        at the end (text only: an ``ObjectStoragePath`` drops it) it is a folder, and the file gets PostHog's name for
        it, sanitized.
    :param overwrite: replace a file of that name. Without it, a file that already holds the same bytes is success (a
        retry after a crash), and any other an error.
    :param compression: ``gzip``, or ``None`` for the file as it comes.
    :param on_truncation: what to do with a file that is as long as a limit that cuts silently (PostHog's 300,000 rows,
        the query's own LIMIT, 50,000 for a query without one): ``fail``, ``warn`` or ``ignore``.
    :param refreshed: what ``PostHogRefreshDashboardOperator`` or ``PostHogRefreshInsightOperator`` returned of what is
        exported: the file is proved to show those numbers, or newer ones, before it appears. Create the export after
        the refresh; for a picture every number is checked once more.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param posthog_conn_id: the connection to PostHog.
    :param project_id: the project's number, in place of the connection's.
    :returns: ``path`` (text), ``bytes`` (int, as stored), ``rows`` (int without the header; null for pictures),
        ``sha256`` (hex, of the stored file), ``content_type``, ``export_id`` (int). PostHog's substitute for an empty
        CSV result (header ``error``) becomes a file of 0 bytes with 0 rows. With ``refreshed`` of a picture also
        ``shows``: ``last_refresh`` (ISO text: of the oldest number that it may show) and ``recalculated`` (int).
    :raises PostHogIncompleteError: if rows or bytes are missing, or may be, or it is not proved to show what was
        refreshed. A file of 0 bytes, which no export has, is first requested once more.
    :raises PostHogJobFailed: if the export failed or is gone.
    :raises PostHogSettingsError: if an argument is wrong, the export has no file yet, or another file is in the way.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        *("export_id", "path", "compression", "on_truncation", "refreshed", "object_storage_conn_id"),
    )
    operator_extra_links = (PostHogLink(),)
    _seen: exports.Export | None = None

    def __init__(
        self,
        *,
        export_id: int | str | Mapping[str, Any],
        path: str | ObjectStoragePath,
        overwrite: bool = False,
        compression: Literal["gzip"] | None = None,
        on_truncation: OnTruncation = "fail",
        refreshed: Mapping[str, Any] | None = None,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.export_id = export_id
        self.path = path
        self.overwrite = overwrite
        self.compression = compression
        self.on_truncation = on_truncation
        self.refreshed = refreshed
        self.object_storage_conn_id = object_storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch the file, in a task's ``context``, which may be empty outside the task runner."""
        from airflow_provider_posthog.download.csv_rows import CsvRows
        from airflow_provider_posthog.download.file_kinds import Head, check_kind

        refreshed = self._check_arguments()
        identity, settings = Identity.of(context), self.hook.settings()
        export_id = exports.id_of(self.export_id, settings)
        export = self._export(export_id, refreshed)
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/exports")
        output = self._output(export, export_id)
        output.refuse_if_there(identity)
        counter, head = _Counter(CsvRows) if export.get("export_format") == exports.CSV else None, Head()
        with output.atomic_file(
            identity,
            compression=self.compression,
            watch=_both(head.feed, counter.feed) if counter else head.feed,
            reset=_both(head.reset, counter.reset) if counter else head.reset,
        ) as atomic:
            received = self._download(export_id, atomic)
            check_kind(export.get("export_format"), head.data, f"the content of export {export_id}")
            rows = self._rows(export, counter.rows if counter else None, atomic, output.target.fs)
            self._check_truncation(export, rows)
            shows = self._shown(export, refreshed)
            if not output.commit(atomic):
                self.log.info("%s already holds these bytes", output.target)
        size, lines = f"{atomic.size:,}", "" if rows is None else f", {counted(rows, 'row')}"
        self.concludes("Wrote %s: %s bytes%s", output.target, size, lines)
        result = {
            "path": str(output.target),
            "bytes": atomic.size,
            "rows": rows,
            "sha256": atomic.sha256,
            "content_type": export.get("export_format") or received.content_type,
            "export_id": export_id,
            **shows,
        }
        tell_outlets(context, self.outlets, result)
        return result

    def lineage(self, result: Mapping[str, Any]) -> Lineage | None:
        """Return what was read and written, for OpenLineage.

        :param result: the task's result; empty if it failed.
        """
        settings = self.hook.settings()
        if self._seen is None:  # there is no such export
            return None
        written = dataset_of_path(result.get("path") or self.path, self.object_storage_conn_id)
        return of_export(settings, self._seen, written, result)

    def _check_arguments(self) -> Refreshed | None:
        if self.on_truncation not in _ON_TRUNCATION:
            raise PostHogSettingsError(
                "on_truncation", f"{self.on_truncation!r} is not known.", f"Write one of {', '.join(_ON_TRUNCATION)}."
            )
        if self.compression not in _COMPRESSIONS:
            raise PostHogSettingsError("compression", f"{self.compression!r} is not known.", "Write 'gzip' or None.")
        example = "s3://bucket/{{ ds }}.csv"
        if str(self.path).strip().endswith("/"):  # a folder; a bucket as a whole is one, too
            storage_path("path", self.path, self.object_storage_conn_id, example=example)
        else:
            Output("path", self.path, self.overwrite, self.object_storage_conn_id).check(example)
        return None if self.refreshed is None else Refreshed.parse(self.refreshed)

    def _export(self, export_id: int, refreshed: Refreshed | None) -> exports.Export:
        """Retrieve the export, which must have its file, and be younger than the refresh."""
        try:
            export = self._seen = self.hook.client.send(exports.retrieve(export_id))
        except PostHogNotFoundError as error:
            raise PostHogJobFailed(
                f"PostHog knows no export {export_id}: it never was, has expired, or was made with another user's key.",
                job_id=str(export_id),
            ) from error
        verdict = jobs.EXPORT.judge(export)
        if verdict.state == "failed":
            raise PostHogJobFailed(f"PostHog: export {export_id} failed: {verdict.reason}", job_id=str(export_id))
        if verdict.state == "pending":
            raise PostHogSettingsError(
                "export_id",
                f"export {export_id} has no file yet.",
                "Let PostHogCreateExportOperator wait_for_completion, or put a PostHogExportSensor before this task.",
            )
        if refreshed is not None:
            refreshed.check(export)
        return export

    def _output(self, export: exports.Export, export_id: int) -> Output:
        from airflow_provider_posthog.storage.atomic_file import safe_name

        path = self.path if isinstance(self.path, ObjectStoragePath) else str(self.path).strip()
        if str(path).endswith("/"):
            name = safe_name(export.get("filename"), f"export-{export_id}")
            path = f"{path}{name}{'.gz' if self.compression else ''}"
        return Output("path", path, self.overwrite, self.object_storage_conn_id)

    def _download(self, export_id: int, atomic: AtomicFile) -> Received:
        from airflow_provider_posthog.download.export_file import download_export
        from airflow_provider_posthog.download.file_kinds import check_content_type

        received = download_export(self.hook.client, exports.content(export_id), atomic)
        check_content_type(received.content_type, _NOT_A_FILE, f"the content of export {export_id}")
        atomic.finish()
        return received

    def _rows(self, export: exports.Export, csv: CsvRows | None, atomic: AtomicFile, fs: Any) -> int | None:  # noqa: ANN401
        """Count the rows under the header; an empty result becomes an empty file."""
        if csv is not None:
            try:
                rows = csv.rows
            except ValueError as error:
                raise PostHogIncompleteError(f"The CSV is cut: {error}") from error
            if not csv.header.strip(b"\xef\xbb\xbf\r\t ") and not rows:
                raise PostHogIncompleteError(
                    "The CSV has not even a header, which PostHog writes for an empty result too: the file was lost. "
                    "Make the export again (clear the task that created it)."
                )
            if csv.is_empty_marker:
                atomic.restart()
                atomic.finish()
                return 0
            if _has_columns(export) and csv.is_blank_row:  # PostHog's way of writing no rows
                header = csv.header
                atomic.restart()
                atomic.write(header + b"\r\n")
                atomic.finish()
                return 0
            return rows
        if export.get("export_format") == exports.XLSX:
            return self._rows_of_book(export, atomic, fs)
        return None

    def _rows_of_book(self, export: exports.Export, atomic: AtomicFile, fs: Any) -> int:  # noqa: ANN401
        """Count the rows of a workbook; one without any keeps its header only, and no row of nothing."""
        from airflow_provider_posthog.download.xlsx_rows import count_rows, emptied

        def book() -> IO[bytes]:
            file = fs.open(atomic.part, "rb")
            return cast("IO[bytes]", gzip.open(file)) if self.compression else file

        try:
            with book() as file:
                rows = count_rows(file)
            empty = None
            if rows <= 1:
                with book() as file:
                    empty = emptied(file, has_columns=_has_columns(export))
        except zipfile.BadZipFile as error:
            raise PostHogIncompleteError(f"The workbook is cut or broken: {error}") from error
        if empty is None:
            return rows
        atomic.restart()
        atomic.write(empty)
        atomic.finish()
        return 0

    def _shown(self, export: exports.Export, refreshed: Refreshed | None) -> dict[str, Any]:
        """Prove that a picture shows what was refreshed; a table was calculated behind its creation."""
        if refreshed is None or export.get("export_format") != exports.PNG:
            return {}
        return {"shows": run(refreshed.look(export), self.hook.client)}

    def _check_truncation(self, export: exports.Export, rows: int | None) -> None:
        limit, why = exports.row_limit(export, rows or 0)
        if rows is None or rows < limit or self.on_truncation == "ignore":
            return
        text = (
            f"The export has {rows:,} rows, as many as {why} lets through, so there may be more. "
            "Narrow the query (a shorter interval), raise its LIMIT (at most 300,000), or, if it is all you asked for, "
            "write on_truncation='ignore'."
        )
        if limit == 0:
            text = (
                f"The export has {rows:,} rows, and nothing proves that they are all: {why}. Put the query into "
                f"brackets: {WRAPPED}; PostHog cuts nothing in there. Or write on_truncation='ignore'."
            )
        if self.on_truncation == "fail":
            raise PostHogIncompleteError(text)
        self.log.warning(text)


def _has_columns(export: exports.Export) -> bool:
    context: object = export.get("export_context")
    return bool(context.get("columns")) if isinstance(context, Mapping) else False


def _both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls both with what it is called with."""

    def call(*given: Any) -> None:  # noqa: ANN401
        first(*given)
        second(*given)

    return call


class _Counter:
    """A row counter that can start again."""

    def __init__(self, kind: type[CsvRows]) -> None:
        self._kind = kind
        self.rows = kind()

    def feed(self, chunk: bytes) -> None:
        self.rows.feed(chunk)

    def reset(self) -> None:
        self.rows = self._kind()
