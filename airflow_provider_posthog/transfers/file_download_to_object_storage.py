"""PostHog's own files of events, persons or sessions into object storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, cast

from airflow_provider_posthog.api import file_downloads, jobs
from airflow_provider_posthog.api.arguments import given
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.exceptions import (
    PostHogJobError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogValidationError,
)
from airflow_provider_posthog.storage.shrink_guard import MAX_SHRINK, ShrinkGuard
from airflow_provider_posthog.tasks.base import at_once, check_at_once
from airflow_provider_posthog.tasks.file_download import SLOT, FileDownloadJobOperator
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.interval import folder_of, interval_of
from airflow_provider_posthog.tasks.job import PostHogJobOperator
from airflow_provider_posthog.tasks.lineage import Lineage, LineageMixin, Thing, dataset_of_path
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.storage.manifest import Interval
    from airflow_provider_posthog.storage.staging import Staging
    from airflow_provider_posthog.tasks.job import JobArguments

_MODELS = ("events", "persons", "sessions")
#: Seconds before a look whether PostHog has listed more files, where their rows are not all that it wrote.
_LISTING = 5.0


class PostHogFileDownloadOperator(LineageMixin, FileDownloadJobOperator):
    """Has PostHog make files of an interval's events, persons or sessions, and copies them to object storage.

    PostHog takes a week at a time: a longer interval becomes one file download after another, and a retry continues
    with the week (and the file) where the last try stopped. To run weeks in parallel, map the task over them. Each file
    is complete when it is counted, the storage that PostHog redirects to never sees the key, and the interval's files
    in the folder are replaced together (docs: *files.md*).

    Events are those that *arrived* in the interval, so that consecutive intervals miss no late event. A file download
    cannot carry an idempotency key, so its id is kept beside the files: a retry continues with it on every Airflow
    version. Only if the answer to the start was lost, it cannot be recognized again; all it costs are its rows on
    PostHog's bill.

    ::

        PostHogFileDownloadOperator(task_id="files", model="events", path="s3://lake/posthog/events/")

    :param model: ``events``, ``persons`` or ``sessions``.
    :param path: the folder, as an ``ObjectStoragePath`` or text such as ``s3://lake/events/``.
    :param start: from when, as a time with an offset or ISO text; default: the run's data interval.
    :param end: until when; not in the future.
    :param include: only events with these names.
    :param exclude: no events with these names.
    :param file_format: ``Parquet`` or ``JSONLines``.
    :param compression: ``zstd``, ``lz4``, ``snappy``, ``gzip`` or ``brotli``; JSON lines take the last two only.
        ``None`` for PostHog's default.
    :param max_size_mb: size of each file in megabytes; 0 for one file a week, ``None`` for PostHog's default.
    :param name: what the files' names begin with; default: the model. Tells two tables in one folder apart.
    :param max_in_flight: how many files are copied at once; default: the connection's.
    :param max_shrink: the largest share of an interval's rows that may be gone when its files are replaced, from 0 to
        1; for 1,000 rows and more. Rows are never replaced by none.
    :param allow_shrink: replace them in any case, for one run.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param timeout: seconds that each week's file download may take on PostHog, including the wait for a slot; default a
        day.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: ``path`` (the folder), ``manifest`` (its path), ``files`` (a list of ``path``, ``bytes``, ``sha256``,
        ``rows``), ``rows`` (int; null if nobody counted them), ``bytes`` (int), ``interval`` (``start``, ``end``).
        No files and 0 rows if PostHog had no data.
    :raises PostHogSettingsError: if an argument is wrong.
    :raises PostHogJobFailed: if PostHog could not make the files, with its reason, or has no file downloads at all.
    :raises PostHogIncompleteError: if the files have another number of rows than PostHog says, or an interval's rows
        would be replaced by none or by far fewer. What is there stays.
    """

    template_fields: Sequence[str] = (
        *PostHogJobOperator.template_fields,
        "model",
        "path",
        "start",
        "end",
        "include",
        "exclude",
        "file_format",
        "compression",
        "name",
        "max_shrink",
        "allow_shrink",
        "object_storage_conn_id",
    )

    _staging: Staging | None = None
    _whole: Interval | None = None

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        model: Literal["events", "persons", "sessions"] = "events",
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        file_format: Literal["Parquet", "JSONLines"] = "Parquet",
        compression: file_downloads.Compression | None = None,
        max_size_mb: int | None = None,
        name: str | None = None,
        max_in_flight: int | None = None,
        max_shrink: float | str = MAX_SHRINK,
        allow_shrink: bool | str = False,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.model = model
        self.start = start
        self.end = end
        self.include = include
        self.exclude = exclude
        self.file_format = file_format
        self.compression = compression
        self.max_size_mb = max_size_mb
        self.name = name
        self.max_in_flight = max_in_flight
        self.max_shrink = max_shrink
        self.allow_shrink = allow_shrink
        self.object_storage_conn_id = object_storage_conn_id
        if not self.wait_for_completion:
            raise PostHogSettingsError(
                "wait_for_completion", "cannot be False: the files have to be fetched.", "Leave it out."
            )

    # The weeks, one after another.

    def execute(self, context: Context) -> dict[str, Any]:
        """Bring the files, week by week."""
        self._open(context)
        if "waiting" in self.staging.note:  # for a slot, in an earlier try
            self.staging.record(waiting=None)
        return self._go_on(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger fired.

        :param event: the trigger's event.
        """
        self._open(context)
        if isinstance(event, Mapping) and event.get("check") == SLOT:
            self.after_slot(context, event)
            return self._go_on(context)
        job = Job.from_json(self.staging.note.get("job"))
        if job is not None and isinstance(event, Mapping) and event.get("job_id") not in (None, job.id):
            self.log.warning("The trigger tells of another file download than %s; looking for that", job.id)
        elif job is not None:  # else the week is done, or what was kept beside the files is gone: begin again
            self._until_expired(
                context, lambda: super(PostHogFileDownloadOperator, self).execute_complete(context, event)
            )
        return self._go_on(context)

    def _go_on(self, context: Context) -> dict[str, Any]:
        while self._weeks_left():
            self._until_expired(context, lambda: self.run_to_completion(context))
        return self._publish(context)

    def _until_expired(self, context: Context, work: Callable[[], object]) -> None:
        """Do a week's work; let the week begin anew, once in a try, if PostHog has thrown its files away meanwhile."""
        from airflow_provider_posthog.download.file_download import BrokenFileError

        try:
            work()
        except (_ExpiredError, BrokenFileError) as error:
            self._forget(context)  # a retry has other files made
            # Kept beside the files: a task that defers comes back as a new object, and would renew them for ever.
            this_try = self._who.execution if self._who else "1"
            again = isinstance(error, _ExpiredError) and self.staging.note.get("renewed") != this_try
            self.staging.record(job=None, asked=None, renewed=this_try)
            if not again:
                raise
            self.log.warning("%s Asking for them again", error)

    def _open(self, context: Context) -> None:
        """Find out what is asked for, and what earlier tries have done of it."""
        from airflow_provider_posthog.storage.manifest import Interval
        from airflow_provider_posthog.storage.staging import Owner, Staging

        self._check()
        interval = Interval(self.name or self.model, *interval_of(context, self.start, self.end))
        self._whole = interval
        for start, end in self._all_weeks():
            file_downloads.start(**self._body(start, end))  # refuses what PostHog would, before anything is sent
        who = self._who = self._who or Identity.of(context)
        request = who.marker({**self._body(interval.start, interval.end), "at": self.hook.settings().project_path()})
        owner = Owner(f"{who.owner}.{who.clearing}", request.request, who.since)
        self._staging = Staging.open(self._target.fs, self._root, interval, owner, time.time)

    def _check(self) -> None:
        if self.model not in _MODELS:
            raise PostHogSettingsError("model", f"{self.model!r} is not known.", f"Write one of {', '.join(_MODELS)}.")
        check_at_once(self.max_in_flight)
        ShrinkGuard.of(self.max_shrink, self.allow_shrink)

    @property
    def staging(self) -> Staging:
        """The interval's unfinished files, and the id of the file download."""
        assert self._staging is not None  # noqa: S101 - _open() comes first
        return self._staging

    @property
    def _target(self) -> ObjectStoragePath:
        return folder_of(self.path, self.object_storage_conn_id)

    @property
    def _root(self) -> str:
        return str(self._target.path).rstrip("/")

    def _all_weeks(self) -> Iterator[tuple[datetime, datetime]]:
        whole, week = cast("Interval", self._whole), timedelta(seconds=file_downloads.MAX_INTERVAL)
        start = whole.start
        while start < whole.end:
            end = min(start + week, whole.end)
            yield start, end
            start = end

    def _weeks_left(self) -> list[tuple[datetime, datetime]]:
        staging = self.staging
        return [] if staging.publishing else list(self._all_weeks())[staging.note.get("weeks", 0) :]

    def _body(self, start: datetime, end: datetime) -> dict[str, Any]:
        optional = given(
            compression=self.compression, max_size_mb=self.max_size_mb, include=self.include, exclude=self.exclude
        )
        return {
            "model": self.model,
            "data_interval_start": start.isoformat(),
            "data_interval_end": end.isoformat(),
            "file_format": self.file_format,
            **optional,
        }

    # One week's file download.

    def prepare(self) -> dict[str, Any]:
        """Return the body of the POST for the week that is next."""
        start, end = self._weeks_left()[0]
        return self._body(start, end)

    def begin_anew(self) -> None:
        """Forget files of the week that come from another file download."""
        self.staging.drop(lambda file: file["tag"].startswith(f"{self._week_tag()}/"))

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Bring the week's files, and record that the week is done."""
        staging, tag = self.staging, self._week_tag()
        self._job = None  # it has ended: a kill has nothing to cancel any more
        seen: object = None
        while True:
            download = self._completed(job)
            files = list(dict.fromkeys(download.get("files") or ()))
            if files == seen:  # else it had not told of all of them
                break
            self._fetch(job, files, tag)
            there = self._counted(tag)
            if there is not None and there == download.get("records_completed"):
                break
            seen = files
            time.sleep(min(self.poll_interval, _LISTING))
        rows = self._prove(download, tag)
        known = staging.note.get("rows", 0)
        total = "?" if rows is None or known == "?" else known + rows
        staging.record(weeks=staging.note.get("weeks", 0) + 1, rows=total, job=None, asked=None, renewed=None)
        told = counted("?" if rows is None else rows, "row")
        self.log.info("%s: %s, %s", tag, counted(len(files), "file"), told)
        return {}

    def _completed(self, job: Job) -> file_downloads.FileDownload:
        """Retrieve a file download, which has completed: anything else without files would pass for no data."""
        download = self.hook.client.send(file_downloads.retrieve(job.id))
        verdict = jobs.FILE_DOWNLOAD.judge(download)
        if verdict.state != "succeeded":
            kind = PostHogJobFailed if verdict.state == "failed" else PostHogJobError
            raise kind(f"File download {job.id} had completed, but now is {download.get('status')}.", job_id=job.id)
        return download

    def _fetch(self, job: Job, files: Sequence[str], tag: str) -> None:
        """Bring files of a week, and drop those that are not among them."""
        from airflow_provider_posthog.download.http import StoredFileGoneError
        from airflow_provider_posthog.extract.progress import Progress, ProgressLog

        staging = self.staging
        staging.drop(lambda file: file["tag"].startswith(f"{tag}/") and file["tag"].split("/")[1] not in files)
        progress, fetched = ProgressLog(self.log.info, f"{self.model}, {tag}"), 0

        def done(_: Mapping[str, Any]) -> None:
            nonlocal fetched
            fetched += 1
            progress(Progress(sum(file["rows"] or 0 for file in staging.files), fetched, all_windows=len(files)))

        try:
            self._fetcher().fetch(job.id, files, tag, done)
        # PostHog answers 400 for a download that was complete, or redirects to a file that its storage has removed.
        except (PostHogValidationError, StoredFileGoneError) as error:
            raise _ExpiredError(f"The files of file download {job.id} have expired. {error}", job_id=job.id) from error

    def _fetcher(self) -> Any:  # noqa: ANN401 - download.file_download.Fetcher
        from airflow_provider_posthog.download.file_download import Fetcher

        settings = self.hook.settings()
        return Fetcher(
            settings,
            self.staging,
            self._target.fs,
            file_format=self.file_format,
            compression=self.compression,
            at_once=at_once(self.max_in_flight, settings),
        )

    def _counted(self, tag: str) -> int | None:
        """Return how many rows the week's files have; ``None`` if nobody counted them."""
        counts = [file["rows"] for file in self.staging.files if file["tag"].startswith(f"{tag}/")]
        return None if None in counts else sum(counts)

    def _prove(self, download: file_downloads.FileDownload, tag: str) -> int | None:
        """Compare the rows of the files with what PostHog says it wrote."""
        from airflow_provider_posthog.download.file_download import BrokenFileError

        counted, completed = self._counted(tag), download.get("records_completed")
        if counted is not None and isinstance(completed, int) and counted != completed:
            start, end = self._weeks_left()[0]
            raise BrokenFileError(
                f"The files of {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC have {counted:,} rows, but PostHog "
                f"says that it wrote {completed:,}."
            )
        return completed if counted is None else counted

    def _week_tag(self) -> str:
        start, end = self._weeks_left()[0]
        return f"{start:%Y-%m-%dT%H%M%S.%f} to {end:%Y-%m-%dT%H%M%S.%f}".replace(".000000", "")

    # The end.

    def lineage(self, result: Mapping[str, Any]) -> Lineage:
        """Return what was read and written, for OpenLineage.

        :param result: the task's result; empty if it failed.
        """
        return Lineage(
            self.hook.settings(),
            [Thing(self.model)],
            dataset_of_path(self.path, self.object_storage_conn_id),
            rows=result.get("rows"),
            size=result.get("bytes"),
            files=result.get("files"),
        )

    def _publish(self, context: Context) -> dict[str, Any]:
        from airflow_provider_posthog.storage import manifest as manifests

        staging, interval = self.staging, cast("Interval", self._whole)
        rows = staging.note.get("rows", 0)
        rows = None if rows == "?" else rows
        facts = {
            "source": {"kind": "file download", **self._body(interval.start, interval.end)},
            "project_id": self.hook.settings().project_id,
            "host": self.hook.settings().base_url,
            "format": self.file_format,
            "rows": rows,
        }
        manifest = staging.publish(facts, ShrinkGuard.of(self.max_shrink, self.allow_shrink))
        folder = str(self._target)
        path = f"{folder}/{manifests.FOLDER}/{interval.stem}.json"
        files = [
            {"path": f"{folder}/{file['path']}", **{key: file[key] for key in ("bytes", "sha256", "rows")}}
            for file in manifest["files"]
        ]
        counts = {"rows": manifest["rows"], "bytes": manifest["bytes"], "interval": interval.as_json()}
        tell_outlets(context, self.outlets, {**counts, "files": len(files), "manifest": path})
        words = counted(len(files), "file"), counted(manifest["rows"], "row"), folder
        self.concludes("Wrote %s with %s to %s", *words)
        return {"path": folder, "manifest": path, "files": files, **counts}


class _ExpiredError(PostHogJobFailed):
    """PostHog has thrown the files away before they were fetched."""
