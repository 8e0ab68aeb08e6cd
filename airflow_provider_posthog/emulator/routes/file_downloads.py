"""``/file_download_batch_exports/``: files on demand."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, invalid, not_found
from airflow_provider_posthog.emulator.http.fields import mapping, number
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.jobs.file_downloads import (
    COMPRESSIONS,
    LIVE,
    MODELS,
    FileDownload,
    FileDownloadRequest,
)

READ, WRITE = ("batch_export:read",), ("batch_export:write",)
LONGEST = timedelta(weeks=1)
DEFAULT_SIZE = 1024
TYPES = {"Parquet": "application/vnd.apache.parquet", "JSONLines": "application/x-ndjson"}


def _moment(body: Json, name: str) -> datetime:
    wanted = body.get(name)
    if wanted is None:
        raise invalid("This field is required.", "required", name)
    try:
        moment = datetime.fromisoformat(str(wanted).replace("Z", "+00:00"))
    except ValueError:
        raise invalid("Datetime has wrong format. Use ISO 8601.", attr=name) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _interval(request: Request, body: Json) -> tuple[datetime, datetime]:
    start, end = _moment(body, "data_interval_start"), _moment(body, "data_interval_end")
    if start > end:
        raise invalid("'data_interval_start' must not be after 'data_interval_end'", attr="data_interval_start")
    if end > request.state.clock.now():
        raise invalid("'data_interval_end' is in the future", attr="data_interval_end")
    if end - start > LONGEST:
        raise invalid("The interval must not be longer than one week", attr="data_interval_end")
    return start.astimezone(timezone.utc), end.astimezone(timezone.utc)


def _names(body: Json, name: str) -> tuple[str, ...]:
    wanted = body.get(name) or []
    if not isinstance(wanted, list):
        detail = f'Expected a list of items but got type "{type(wanted).__name__}".'
        raise invalid(detail, "not_a_list", name)
    return tuple(str(name) for name in wanted)


def _read(request: Request) -> FileDownloadRequest:
    body = request.json()
    model = body.get("model", "events")
    if model not in MODELS:
        raise invalid(f'"{model}" is not a valid choice.', "invalid_choice", "model")
    file = mapping(body, "file")
    file_format, compression = file.get("format", "Parquet"), file.get("compression")
    if file_format not in COMPRESSIONS:
        raise invalid(f'"{file_format}" is not a valid choice.', "invalid_choice", "file__format")
    if compression not in COMPRESSIONS[file_format]:
        raise invalid(f"{file_format} files can not be compressed with {compression}.", attr="file__compression")
    start, end = _interval(request, body)
    size = number(file, "max_size_mb", DEFAULT_SIZE) or 0
    include, exclude = _names(body, "include"), _names(body, "exclude")
    return FileDownloadRequest(model, start, end, file_format, compression, max(size, 0), include, exclude)


async def create(request: Request) -> Answer:
    """Ask for files (``POST file_download_batch_exports/``): 202 with an id.

    :param request: ``model``, ``file`` (``format``, ``compression``, ``max_size_mb``), ``data_interval_start``,
        ``data_interval_end``, ``include`` and ``exclude`` in its body.
    """
    wanted, service = _read(request), request.state.file_downloads
    if service.running() >= request.state.settings.max_file_downloads:
        detail = "Too many file downloads are running for this project. Wait until one of them has ended."
        # the server does not know when: no Retry-After
        raise ApiError(429, envelope("server_error", "too_many_concurrent_file_downloads", detail))
    return json_answer({"id": service.create(wanted).id}, 202)


async def list_(request: Request) -> Answer:
    """List the file downloads, newest first (``GET file_download_batch_exports/``).

    :param request: ``limit`` and ``offset`` in its query.
    """
    service = request.state.file_downloads
    return page(request, service.all(), lambda download: {"id": download.id, "status": service.status(download)})


def _download_of(request: Request) -> FileDownload:
    download = request.state.file_downloads.find(request.params["id"])
    if download is None:
        raise not_found()
    return download


async def retrieve(request: Request) -> Answer:
    """Return the status and the files of a file download (``GET file_download_batch_exports/{id}/``).

    :param request: ``id`` in its path.
    """
    return json_answer(request.state.file_downloads.as_json(_download_of(request)))


async def download(request: Request) -> Answer:
    """Return the signed address of a file (``GET file_download_batch_exports/{id}/download/{file}/``): 302.

    :param request: ``id`` in its path, and ``file``: its id, its number from 0 on, or nothing for the first one.
    """
    job, state = _download_of(request), request.state
    status = state.file_downloads.status(job)
    if status != "Completed":
        raise invalid(f"This file download is {'still in progress' if status in LIVE else status}.")
    if state.file_downloads.expired(job):
        raise invalid("This file download has expired.")
    wanted = request.params.get("file", "0")
    for place, (name, content) in enumerate(job.files):
        if wanted in (name, str(place)):
            file = f"{job.wanted.model}-{place}{job.wanted.suffix()}"
            path = f"/storage/file-downloads/{job.id}/{name}/{file}"
            disposition = f'attachment; filename="{file}"'
            link = state.storage.sign(path, content, TYPES[job.wanted.format], disposition)
            return Answer(302, headers={"Location": link})
    raise not_found()


async def cancel(request: Request) -> Answer:
    """Cancel a file download (``POST file_download_batch_exports/{id}/cancel/``); one that has ended stays as it is.

    :param request: ``id`` in its path.
    """
    job, service = _download_of(request), request.state.file_downloads
    service.cancel(job)
    return json_answer({"status": service.status(job)})


_ALL = "/file_download_batch_exports"
# newer than the PostHog of the recordings
ROUTES = tuple(
    Route(method, _ALL + path, handler, scopes, generations="BC")
    for method, path, handler, scopes in (
        ("GET", "/", list_, READ),
        ("POST", "/", create, WRITE),
        ("GET", "/{id}/", retrieve, READ),
        ("GET", "/{id}/download/", download, READ),
        ("GET", "/{id}/download/{file}/", download, READ),
        ("POST", "/{id}/cancel/", cancel, WRITE),
    )
)
