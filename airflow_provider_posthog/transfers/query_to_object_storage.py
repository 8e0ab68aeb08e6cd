"""Events, persons or any query into files in object storage, every row once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.storage.shrink_guard import MAX_SHRINK, ShrinkGuard
from airflow_provider_posthog.tasks.base import at_once
from airflow_provider_posthog.tasks.bulk import need_arrow
from airflow_provider_posthog.tasks.file_layout import FilesOperator, check_files, lake_of, layout_of
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.interval import folder_of, has_interval, interval_of, moment_of
from airflow_provider_posthog.tasks.lineage import Lineage, dataset_of_path
from airflow_provider_posthog.tasks.lists import check_choice
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.writer import writer_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.extract.copy_interval import Copy
    from airflow_provider_posthog.extract.interval_counts import Recounter
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.storage.manifest import Interval
    from airflow_provider_posthog.storage.staging import Owner, Staging
    from airflow_provider_posthog.tasks.file_layout import FilesArguments

SchemaPolicy = Literal["evolve", "freeze", "quarantine"]
TableFormat = Literal["delta", "iceberg"]


class PostHogQueryToObjectStorageOperator(FilesOperator):
    """Reads an interval's rows by HogQL queries into files, and proves that all of them are there.

    Works with every PostHog, needs only the scope ``query:read``, and its memory does not grow with the data. PostHog
    counts the rows of each window. Only if each window has as many, the files of an interval appear, together, and
    replace those that the interval had (docs: *files.md*). A retry continues after the last files that the earlier try
    finished.

    :param path: the folder, as an ``ObjectStoragePath`` or text such as ``s3://lake/events/``.
    :param name: what the files' names begin with; default: the source. Tells two tables in one folder apart.
    :param max_shrink: the largest share of an interval's rows that may be gone when its files are replaced, from 0 to
        1; for 1,000 rows and more. Rows are never replaced by none.
    :param allow_shrink: replace them in any case, for one run.
    :param schema_change: what to do if a column has another type than in the folder's other files of this name:
        ``fail``, as they could not be read together, or ``allow``. New columns are fine, and so are missing ones.
    :param schema_policy: by default new columns are added, and another type is an error. ``evolve`` writes numbers in
        the type that the folder's files have, while each fits; ``freeze`` adds no columns; ``quarantine`` keeps rows
        that do not fit aside, in ``_rejected/``, with the reason.
    :param max_rejects: how many rows may be kept aside; up to 10,000.
    :param table_format: write the rows into a table of ``delta``, which is at ``path``, or ``iceberg``, replacing those
        of the interval (or, for a snapshot, of the table), in one commit; then the files are removed. Extras ``delta``,
        ``iceberg``.
    :param table_options: for Delta the ``storage_options`` of ``deltalake``; for Iceberg ``table``
        (``analytics.events``) and ``catalog``, the properties of ``pyiceberg``'s catalog (with its ``name``); by
        default what its settings say.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param kwargs: what is read, which rows of it, and how, as
        :class:`~airflow_provider_posthog.tasks.bulk.ReadingOperator` (``source`` or ``query``, ``key``, ``columns``,
        ``events``, ``exclude_events``, ``cohort_id``, ``where``, ``values``, ``time_column``, ``start``, ``end``,
        ``max_in_flight``, ``page_rows``, ``settle``, ``scan_back``, ``on_retention``). ``key`` is for a query only, and
        may be HogQL over its columns. ``look_back`` reads the intervals in the folder again that end within it before
        ``start``, each into its own files; ``verify_back`` counts them, and reads only those again whose files have
        other rows than PostHog. With ``deferrable`` long waits are left to the triggerer, and reading continues after
        what was already written.
    :returns: ``path`` (the folder), ``manifest`` (its path), ``files`` (how many), ``rows``, ``bytes``,
        ``duplicates`` (copies that were dropped), ``interval`` (``start``, ``end``; equal for a snapshot), ``again``
        (how many earlier intervals were read again), ``verified`` (how many were counted again), ``reloaded`` (how many
        of those were read again), ``left_out`` (rows that ``scan_back`` leaves out of the day that the interval ends;
        null where nobody counted),
        ``suppressed`` (rows of persons who were erased; null without ``suppress_path``), ``table`` (``format``,
        ``table`` and ``version`` of the commit; null without ``table_format``), ``rejected`` (rows kept
        aside).
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogIncompleteError: if it cannot be proved that all rows of a window were read, or an interval's rows
        would be replaced by none or by far fewer. Then the existing files stay. Also if PostHog hides some of the rows.
    """

    template_fields: Sequence[str] = (
        *FilesOperator.template_fields,
        "path",
        "format",
        "compression",
        "partition_by",
        "partition_time",
        "partition_zone",
        "name",
        "max_shrink",
        "allow_shrink",
        "schema_change",
        "object_storage_conn_id",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers: ClassVar[dict[str, str]] = {"query": "sql", "values": "json", "columns": "json"}
    operator_extra_links = (PostHogLink(),)
    lineage_reads_files = True  # the manifest has the columns

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        name: str | None = None,
        max_shrink: float | str = MAX_SHRINK,
        allow_shrink: bool | str = False,
        schema_change: str = "fail",
        schema_policy: SchemaPolicy | None = None,
        max_rejects: int | None = None,
        table_format: TableFormat | None = None,
        table_options: Mapping[str, Any] | None = None,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[FilesArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.name = name
        self.max_shrink = max_shrink
        self.allow_shrink = allow_shrink
        self.schema_change = schema_change
        if schema_policy is not None:
            check_choice("schema_policy", schema_policy, get_args(SchemaPolicy))
        if table_format is not None:
            check_choice("table_format", table_format, get_args(TableFormat))
        self.schema_policy = schema_policy
        self.max_rejects = max_rejects
        self.table_format = table_format
        self.table_options = table_options
        self.object_storage_conn_id = object_storage_conn_id
        self._copy: Copy | None = None
        self._recount: Recounter | None = None

    def transfer(self, context: Context) -> dict[str, Any]:
        """Bring the interval's rows into files."""
        need_arrow(type(self).__name__)
        check_files(self)
        source = self.what(self.name)
        interval, _ = self._interval(context, source), self._target  # a path that leads elsewhere is refused
        source = replace(source, complete_at=interval.end)
        back = self.looks_back(source)
        self._check_retention_of(source, interval, max(back, self.verify_back))
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/sql")
        owner = self._owner(Identity.of(context), interval)
        writer = writer_of(context, interval, owner, self._manifest(interval))
        own = self._staging(interval, owner)
        self._look_back(source, owner, own, back)
        self._verify_back(source, owner, own)
        earlier = {
            "again": len(own.note.get("again", ())),
            "verified": own.note.get("verified", 0),
            "reloaded": len(own.note.get("reloaded", ())),
        }
        manifest = self._bring(source, own, writer, left_out=None)
        result = self._result(context, interval, earlier, manifest)
        shown = counted(result["rows"], "row"), counted(result["files"], "file"), result["path"]
        self.concludes("Wrote %s in %s to %s", *shown)
        return result

    def goes_on(self) -> str:
        """Return what becomes of what was read before a wait; for the log."""
        return "Reading goes on then, behind the last files that are finished"

    def on_kill(self) -> None:
        """Stop reading: no more queries are sent."""
        for job in (self._copy, self._recount):
            if job is not None:
                job.stop()

    def lineage(self, result: Mapping[str, Any]) -> Lineage:
        """Return what was read and written, for OpenLineage.

        :param result: the task's result; empty if it failed.
        """
        from airflow_provider_posthog.storage import manifest as manifests

        source = self.what(self.name)
        stem = str(result.get("manifest", "")).rpartition("/")[2].removesuffix(".json")
        interval = manifests.Interval.of_stem(stem)
        manifest = manifests.read(self._target.fs, self._root, interval) if interval else None
        return Lineage.of_source(
            self.hook.settings(),
            source,
            dataset_of_path(self.path, self.object_storage_conn_id),
            result,
            (manifest or {}).get("schema"),
        )

    def _interval(self, context: Context, source: Source) -> Interval:
        """Return the interval; of what is read as a whole it may be a snapshot, named after the run."""
        from airflow_provider_posthog.extract.windows import checked
        from airflow_provider_posthog.storage.manifest import Interval

        name = self.name or source.name
        if source.time is None and not has_interval(context, self.start, self.end):
            return Interval.snapshot(name, moment_of(context))
        start, end = interval_of(context, self.start, self.end)
        return Interval(name, checked("start", start), checked("end", end))

    def _bring(self, source: Source, staging: Staging, writer: Mapping[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        from airflow_provider_posthog.extract.copy_interval import Copy, Reading
        from airflow_provider_posthog.storage import manifest as manifests
        from airflow_provider_posthog.storage.folder_types import FolderTypes

        settings, interval = self.reading_settings(), staging.interval
        facts: dict[str, Any] = {
            "source": _facts_of(source),
            "project_id": settings.project_id,
            "host": settings.base_url,
            "written_by": dict(writer),
            **more,
        }

        def check_again() -> None:
            self.retention_guard.again()
            if "left_out" in more:
                facts["left_out"] = self.left_out(source, interval.start, interval.end)

        places = at_once(self.max_in_flight, settings)
        reading = Reading(settings, source, places, self.page_rows, self.settle, self.longest_wait)
        types = FolderTypes.of(self._target.fs, self._root, interval, self.schema_change)
        # Whoever reads the newest snapshot would see one of far fewer rows in place of the one before.
        rows = None if source.time else manifests.rows_before(self._target.fs, self._root, interval)
        self._copy = Copy(
            reading,
            staging,
            layout_of(self, source, interval),
            facts,
            before_publishing=check_again,
            guard=ShrinkGuard.of(self.max_shrink, self.allow_shrink),
            types=types,
            rows_before=rows,
            suppressor=self.suppressor(source),
            commit=self._table_of(source, interval),
            schema_policy=self.schema_policy,
            max_rejects=self.max_rejects,
        )
        return self._copy.run()

    def _table_of(self, source: Source, interval: Interval) -> Callable[[Sequence[str], str], Mapping[str, Any]] | None:
        """Return what brings files into the table of Delta or Iceberg, if there is one."""
        if self.table_format is None:
            return None
        target = self._target
        is_local = target.protocol in ("", "file", "local")
        uri = self._root if is_local else f"{target.protocol}://{self._root}"
        lake = lake_of(self, source, interval, uri)
        return lambda paths, mark: lake.commit(target.fs, paths, mark)

    @property
    def _target(self) -> ObjectStoragePath:
        return folder_of(self.path, self.object_storage_conn_id)

    @property
    def _root(self) -> str:
        return str(self._target.path).rstrip("/")

    def _owner(self, who: Identity, interval: Interval) -> Owner:
        from airflow_provider_posthog.storage.staging import Owner

        asked = (
            "source", "query", "key", "cohort_id", "columns", "events", "exclude_events", "where", "values",
            "time_column", "format", "compression", "partition_by", "partition_time", "partition_zone",
            "row_group_rows", "json_columns", "scan_back", "complete_after", "suppress_path", "suppressed",
            "table_format", "schema_policy",
        )  # fmt: skip
        request = {name: getattr(self, name) for name in asked}
        settings = self.hook.settings()
        marker = who.marker({**request, **interval.as_json(), "at": [settings.base_url, settings.project_path()]})
        return Owner(f"{who.owner}.{who.clearing}", marker.request, who.since)

    def _manifest(self, interval: Interval) -> Mapping[str, Any]:
        """Return what stands in the folder of an interval; empty for nothing.

        :raises PostHogSettingsError: if it is of another project.
        """
        from airflow_provider_posthog.storage import manifest as manifests

        there = manifests.read(self._target.fs, self._root, interval) or {}
        project = self.hook.settings().project_id
        if str(there.get("project_id", project)) != str(project):
            raise PostHogSettingsError(
                "path",
                f"it holds {interval.stem} of project {there['project_id']}, not of {project}.",
                "Write another folder, or a name that tells the projects apart.",
            )
        return there

    def _staging(self, interval: Interval, owner: Owner) -> Staging:
        from airflow_provider_posthog.storage.staging import Staging

        return Staging.open(self._target.fs, self._root, interval, owner, time.time)

    def _look_back(self, source: Source, owner: Owner, own: Staging, back: timedelta) -> None:
        """Read intervals in the folder again, for what came late."""
        for interval in self._earlier(own.interval, back):
            if interval.stem not in own.note.get("again", ()):
                self.log.info("Reading %s again, for what came late (look_back)", interval.stem)
                self._manifest(interval)  # refuses another project's
                self._bring(source, self._staging(interval, owner), {})
                own.record(again=[*own.note.get("again", ()), interval.stem])

    def _verify_back(self, source: Source, owner: Owner, own: Staging) -> None:
        """Count intervals in the folder anew, and read those again that have other rows than they were written with."""
        from airflow_provider_posthog.extract.interval_counts import Recounter
        from airflow_provider_posthog.extract.windows import Window

        done = own.note.get("again", ())
        earlier = [interval for interval in self._earlier(own.interval, self.verify_back) if interval.stem not in done]
        with Recounter(self.reading_settings(), source) as self._recount:
            counts = self._recount.count([Window(interval.start, interval.end) for interval in earlier])
        differ = []
        for interval, count in zip(earlier, counts, strict=True):
            before = self._manifest(interval)
            is_ours = (before.get("source") or {}).get("kind") in (None, "query")  # and no file of PostHog's own
            counted = [count.rows, count.keys]
            # What was read again and still differed has all that can be had.
            if not is_ours or before.get("recounted") == counted or count.agrees(int(before.get("rows") or 0), None):
                continue
            shown = interval.stem, f"{count.rows:,}", f"{count.keys:,}", before.get("rows")
            self.log.info("Reading %s again: PostHog counts %s rows (%s keys), its files have %s", *shown)
            after = self._bring(source, self._staging(interval, owner), {}, recounted=counted)
            own.record(reloaded=[*own.note.get("reloaded", ()), interval.stem])
            if not count.agrees(after["rows"], None):
                differ.append(f"{interval.stem} ({count.keys:,} to {count.rows:,} counted, {after['rows']:,} read)")
        if earlier:
            own.record(verified=len(earlier))
        if differ:
            self.log.warning("Read again, and still not what PostHog counts: %s", ", ".join(differ))

    def _earlier(self, interval: Interval, length: timedelta) -> list[Interval]:
        """Return the intervals in the folder that end within a length of time before this one."""
        from airflow_provider_posthog.storage import manifest as manifests

        if not length:
            return []
        return manifests.within(manifests.written(self._target.fs, self._root, interval.name), interval, length)

    def _check_retention_of(self, source: Source, interval: Interval, length: timedelta) -> None:
        first = min([interval.start, *(other.start for other in self._earlier(interval, length))])
        self.check_retention(source, first if source.time else None, interval.end)

    def _result(
        self, context: Context, interval: Interval, earlier: Mapping[str, int], manifest: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_provider_posthog.storage import manifest as manifests

        folder = str(self._target)
        result = {
            "manifest": f"{folder}/{manifests.FOLDER}/{interval.stem}.json",
            "files": len(manifest["files"]),
            **{name: manifest[name] for name in ("rows", "bytes", "duplicates")},
            "interval": interval.as_json(),
            **earlier,
            "left_out": manifest.get("left_out"),
            "table": manifest.get("table"),
            "rejected": manifest.get("rejected", 0),
            "suppressed": manifest.get("suppressed"),
        }
        tell_outlets(context, self.outlets, result)
        return {"path": folder, **result}


def _facts_of(source: Source) -> dict[str, Any]:
    facts = {"kind": "query", "name": source.name, "table": source.table, "time": source.time}
    back = source.scan_back
    return facts if back is None else {**facts, "scan_back": back.total_seconds()}
