"""Events, persons or any query into files in object storage, every row once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.operators.identity import Identity
from airflow_provider_posthog.operators.outlets import tell_outlets
from airflow_provider_posthog.transfers.interval import folder_of, interval_of
from airflow_provider_posthog.transfers.reading import ReadingOperator, need_arrow

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.extract.copying import Copy
    from airflow_provider_posthog.extract.files import Layout
    from airflow_provider_posthog.extract.manifest import Interval
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.staging import Owner, Staging


class PostHogQueryToObjectStorageOperator(ReadingOperator):
    """Reads an interval's rows by HogQL queries into files, and proves that all of them are there.

    Works with every PostHog, needs the scope ``query:read`` only, and its memory does not grow with the data. PostHog
    counts the rows of each window, and the files of an interval appear together, in place of those that the interval
    had, only when each window had as many (docs: *files.md*). A retry goes on behind the last files that the try
    before has finished.

    :param path: the folder, as an ``ObjectStoragePath`` or text such as ``s3://lake/events/``.
    :param table: ``events``, ``persons``, ``sessions``, ``groups`` or ``cohort_members``.
    :param hogql: a HogQL query in its place, such as ``SELECT * FROM my_warehouse_table``; needs ``key``.
    :param key: with ``hogql``: the column, or HogQL, that tells its rows apart.
    :param time: with ``hogql``: the column of time by which rows belong to the interval; without it all rows are read.
    :param cohort_id: with ``cohort_members``: the cohort's number.
    :param columns: names, or HogQL by name (``{"browser": "properties.$browser"}``); default: those of the table.
    :param event: only events of this name, or these names.
    :param where: a HogQL condition.
    :param values: what the placeholders of ``where`` or ``hogql`` stand for.
    :param by: of events, the time by which they belong to the interval: ``created_at``, when PostHog took them in, so
        that no late event is missed, or ``timestamp``, when they happened. Of persons: ``created_at`` for those that
        were created in the interval; by default all there are.
    :param start: from when, as a time with an offset or ISO text; default: the run's data interval.
    :param end: until when; not in the future.
    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :param compression: Parquet: ``zstd`` (default), ``snappy``, ``lz4``, ``gzip``, ``brotli``; the others: ``gzip``
        (default), ``zstd``; ``none`` for none.
    :param partition_by: ``day`` (``date=2026-11-01/``), ``hour`` (``date=2026-11-01/hour=07/``) or a column.
    :param partition_time: the column that days and hours are taken from, in UTC; default: ``by``.
    :param json_columns: columns of JSON text that JSON lines hold as JSON, not as text.
    :param max_file_bytes: about how large a file may be.
    :param max_file_rows: about how many rows a file may have.
    :param in_flight: how many windows are read side by side; PostHog runs three queries of a project at once.
    :param page_rows: the most rows of a window, up to 49,999; fewer are asked for where rows are long or slow.
    :param settle: how long rows take until queries see them; what is younger is waited for. A timedelta.
    :param look_back: also read again the intervals in the folder that end within this before ``start``, each into
        its own files; for ``by="timestamp"``, whose late events arrive in intervals that were read. A timedelta.
    :param name: what the files' names begin with; default: the table. Tells two tables in one folder apart.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :returns: ``path`` (the folder), ``manifest`` (its path), ``files`` (how many), ``rows``, ``bytes``,
        ``duplicates`` (copies that were dropped), ``interval`` (``start``, ``end``), ``again`` (how many earlier
        intervals were read again).
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogIncompleteError: if it can not be proved that all rows of a window were read.
    """

    template_fields: Sequence[str] = (
        *ReadingOperator.template_fields,
        "path",
        "table",
        "hogql",
        "columns",
        "event",
        "where",
        "values",
        "start",
        "end",
        "name",
        "object_storage_conn_id",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers = {"hogql": "sql", "columns": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        format: Literal["parquet", "jsonl", "csv"] = "parquet",
        compression: str | None = None,
        partition_by: str | None = None,
        partition_time: str | None = None,
        json_columns: Sequence[str] = ("properties",),
        max_file_bytes: int = 128 * 1024 * 1024,
        max_file_rows: int = 1_000_000,
        look_back: timedelta = timedelta(0),
        name: str | None = None,
        object_storage_conn_id: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.start = start
        self.end = end
        self.format = format
        self.compression = compression
        self.partition_by = partition_by
        self.partition_time = partition_time
        self.json_columns = json_columns
        self.max_file_bytes = max_file_bytes
        self.max_file_rows = max_file_rows
        self.look_back = look_back
        self.name = name
        self.object_storage_conn_id = object_storage_conn_id
        self._copy: Copy | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Bring the interval's rows into files.

        :param context: the task's context; may be empty outside the task runner.
        """
        from airflow_provider_posthog.extract.manifest import Interval

        need_arrow(type(self).__name__)
        self._check()
        source = self.source(self.name)
        interval = Interval(self.name or source.name, *interval_of(context, self.start, self.end))
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/sql")
        owner = self._owner(Identity.of(context), interval)
        own = self._staging(interval, owner)
        again = [one for one in self._earlier(source, interval) if one.stem not in own.note.get("again", ())]
        for earlier in again:
            self.log.info("Reading %s again, for what came late (look_back)", earlier.stem)
            self._bring(source, self._staging(earlier, owner))
            own.record(again=[*own.note.get("again", ()), earlier.stem])
        return self._result(context, interval, len(own.note.get("again", ())), self._bring(source, own))

    def on_kill(self) -> None:
        """Stop reading: no more queries are sent."""
        if self._copy is not None:
            self._copy.stop()

    def _bring(self, source: Source, staging: Staging) -> dict[str, Any]:
        from airflow_provider_posthog.extract.copying import Copy, Reading

        settings = self.hook.settings()
        facts = {
            "source": {"kind": "query", "name": source.name, "table": source.table, "time": source.time},
            "project_id": settings.project_id,
            "host": settings.base_url,
        }
        reading = Reading(settings, source, self.in_flight, self.page_rows, self.settle)
        self._copy = Copy(reading, staging, self._layout(source), facts)
        return self._copy.run()

    def _check(self) -> None:
        from airflow_provider_posthog.extract.files import SUFFIXES

        if self.format not in SUFFIXES:
            raise PostHogSettingsError(
                "format", f"{self.format!r} is not known.", f"Write one of {', '.join(SUFFIXES)}."
            )
        known = [name or "none" for name in SUFFIXES[self.format]]
        if self.compression is not None and self.compression not in known:
            raise PostHogSettingsError(
                "compression", f"{self.compression!r} is not for {self.format}.", f"Write one of {', '.join(known)}."
            )
        for field in ("max_file_bytes", "max_file_rows"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise PostHogSettingsError(field, f"{value!r} is no size.", "Write a whole number, 1 or more.")
        if not isinstance(self.look_back, timedelta) or self.look_back < timedelta(0):
            raise PostHogSettingsError(
                "look_back", f"{self.look_back!r} is no length of time.", "Write timedelta(days=2)."
            )

    def _layout(self, source: Source) -> Layout:
        from airflow_provider_posthog.extract.files import SUFFIXES, Layout

        compression = next(iter(SUFFIXES[self.format])) if self.compression is None else self.compression
        return Layout(
            format=self.format,
            compression=None if compression == "none" else compression,
            partition_by=self.partition_by,
            partition_time=self.partition_time or source.time,
            json_columns=tuple(self.json_columns),
            max_bytes=self.max_file_bytes,
            max_rows=self.max_file_rows,
        )

    @property
    def _target(self) -> ObjectStoragePath:
        return folder_of(self.path, self.object_storage_conn_id)

    @property
    def _root(self) -> str:
        return str(self._target.path).rstrip("/")

    def _owner(self, who: Identity, interval: Interval) -> Owner:
        from airflow_provider_posthog.extract.staging import Owner

        asked = (
            "table", "hogql", "key", "time", "cohort_id", "columns", "event", "where", "values", "by", "format",
            "compression", "partition_by", "partition_time", "json_columns",
        )  # fmt: skip
        request = {name: getattr(self, name) for name in asked}
        marker = who.marker({**request, **interval.as_json(), "at": self.hook.settings().project_path()})
        return Owner(f"{who.owner}.{who.clearing}", marker.request, who.since)

    def _staging(self, interval: Interval, owner: Owner) -> Staging:
        from airflow_provider_posthog.extract.staging import Staging

        return Staging.open(self._target.fs, self._root, interval, owner, time.time)

    def _earlier(self, source: Source, interval: Interval) -> list[Interval]:
        """Return the intervals in the folder that are to be read again."""
        from airflow_provider_posthog.extract import manifest as manifests

        if not self.look_back:
            return []
        if source.time is None:
            raise PostHogSettingsError(
                "look_back", f"{source.name} is read as a whole, whatever the interval.", "Leave it out."
            )
        written = manifests.written(self._target.fs, self._root, interval.name)
        return [one for one in written if interval.start - self.look_back < one.end <= interval.start]

    def _result(self, context: Context, interval: Interval, again: int, manifest: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_posthog.extract import manifest as manifests

        folder = str(self._target)
        found = {
            "manifest": f"{folder}/{manifests.FOLDER}/{interval.stem}.json",
            "files": len(manifest["files"]),
            **{name: manifest[name] for name in ("rows", "bytes", "duplicates")},
            "interval": interval.as_json(),
            "again": again,
        }
        tell_outlets(context, self.outlets, found)
        self.log.info("Wrote %s rows in %d files to %s", f"{found['rows']:,}", found["files"], folder)
        return {"path": folder, **found}
