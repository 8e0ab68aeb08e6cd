"""File downloads: events, persons or sessions as files (``/api/projects/{id}/file_download_batch_exports/``)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypedDict

from airflow_provider_posthog.api.answers import object_or_empty, page
from airflow_provider_posthog.api.arguments import Offset, Texts, Time, Uuid, given, span, time_text
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.exceptions import PostHogSettingsError

_READ = ("batch_export:read",)
_WRITE = ("batch_export:write",)

#: The ``code`` of a 429 while the project has as many file downloads as it may.
NO_SLOT = "too_many_concurrent_file_downloads"
#: The longest interval of one file download, in seconds.
MAX_INTERVAL = 7 * 86_400

Compression = Literal["zstd", "lz4", "snappy", "gzip", "brotli"]


class FileDownload(TypedDict, total=False):
    """A file download; ``Completed`` without ``files`` means that there was no data."""

    id: str
    status: str
    files: Sequence[str]
    error: str | None
    records_completed: int | None


class FileDownloadPage(TypedDict, total=False):
    """A page of file downloads, newest first: ``id`` and ``status`` of each."""

    count: int
    next: str | None
    results: Sequence[FileDownload]


@endpoint("POST", "file_download_batch_exports/", scopes=_WRITE)
def start(
    *,
    model: Literal["events", "persons", "sessions"],
    data_interval_start: Time,
    data_interval_end: Time,
    file_format: Literal["Parquet", "JSONLines"] = "Parquet",
    compression: Compression | None = None,
    max_size_mb: Offset | None = None,
    include: Texts | None = None,
    exclude: Texts | None = None,
) -> Call[FileDownload]:
    """Start a file download. Events are those that arrived in the interval, so that late ones are in a later one.

    :param model: what to export.
    :param data_interval_start: from when.
    :param data_interval_end: until when; at most a week later, and not in the future.
    :param file_format: the files' format.
    :param compression: of the files; JSON lines take ``gzip`` and ``brotli`` only.
    :param max_size_mb: the size of each file in megabytes; 0 for a single file, by default PostHog's own.
    :param include: only events with these names.
    :param exclude: no events with these names.
    :returns: only ``id``.
    :raises PostHogSettingsError: for what PostHog would refuse or ignore.
    """
    _check_interval(data_interval_start, data_interval_end)
    if file_format == "JSONLines" and compression not in (None, "gzip", "brotli"):
        raise PostHogSettingsError(
            "compression", f"is {compression!r}, which JSON lines do not take.", "Write gzip or brotli."
        )
    chosen = given(include=include, exclude=exclude)
    if chosen and model != "events":
        raise PostHogSettingsError("include", f"is given for {model}, which have no event names.", "Leave it out.")
    file = given(format=file_format, compression=compression, max_size_mb=max_size_mb)
    interval = {
        "data_interval_start": time_text(data_interval_start),
        "data_interval_end": time_text(data_interval_end),
    }
    body = {"model": model, "file": file, **interval, **chosen}
    return start.call(json_object, json=body, no_slot=NO_SLOT)


@endpoint("GET", "file_download_batch_exports/", scopes=_READ, paging="offset")
def list() -> Call[FileDownloadPage]:
    """List file downloads, newest first."""
    return list.call(page)


@endpoint("GET", "file_download_batch_exports/{id}/", scopes=_READ)
def retrieve(file_download_id: Uuid) -> Call[FileDownload]:
    """Retrieve a file download's state and its files.

    :param file_download_id: its UUID.
    """
    return retrieve.call(json_object, id=file_download_id)


@endpoint("GET", "file_download_batch_exports/{id}/download/{file}/", scopes=_READ)
def download(file_download_id: Uuid, file: Uuid) -> Call[bytes]:
    """Download one file, by a redirect to a presigned address of the object storage; 400 before it is done.

    Fetch it with :func:`airflow_provider_posthog.download.http.download`, which keeps the key from the storage
    and the file out of memory; a client by itself follows no redirect.

    :param file_download_id: the file download's UUID.
    :param file: the file's UUID, of ``files``.
    """
    return download.call(lambda answer: answer.body, id=file_download_id, file=file)


@endpoint("POST", "file_download_batch_exports/{id}/cancel/", scopes=_WRITE, repeatable=True)
def cancel(file_download_id: Uuid) -> Call[FileDownload]:
    """Cancel a file download.

    :param file_download_id: its UUID.
    :returns: only ``status``.
    """
    return cancel.call(object_or_empty, id=file_download_id)


def _check_interval(start: datetime | str, end: datetime | str) -> None:
    if span(("data_interval_start", "data_interval_end"), start, end) > MAX_INTERVAL:
        raise PostHogSettingsError("data_interval_end", "is over a week after the start.", "Ask for a week at a time.")
