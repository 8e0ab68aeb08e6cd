"""File downloads: events, persons or sessions of an interval, written to real Parquet or JSON Lines files on demand."""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.hogql.values import literal
from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

LIVE = ("Starting", "Running")
MEGABYTE = 1024 * 1024
# the methods of each format, and what their files end in
COMPRESSIONS: dict[str, dict[str | None, str]] = {
    "Parquet": {name: ".parquet" for name in ("zstd", "lz4", "snappy", "gzip", "brotli", None)},
    "JSONLines": {"gzip": ".jsonl.gz", "brotli": ".jsonl.br", None: ".jsonl"},
}
_ISO = "formatDateTime({column}, '%Y-%m-%dT%H:%i:%S.%f+00:00', 'UTC')"
# name, ClickHouse's expression, and what it is in JSON Lines: a text, a time, JSON as it is, or a number
_EVENTS = (
    ("uuid", "toString(uuid)", "text"),
    ("event", "event", "text"),
    ("properties", "properties", "json"),
    ("distinct_id", "distinct_id", "text"),
    ("person_id", "toString(person_id)", "text"),
    ("person_properties", "person_properties", "json"),
    ("elements_chain", "elements_chain", "text"),
    ("team_id", "team_id", "number"),
    ("timestamp", "timestamp", "time"),
    ("created_at", "created_at", "time"),
)
_PERSONS = (
    ("person_id", "toString(id)", "text"),
    ("distinct_id", "distinct_id", "text"),
    ("properties", "properties", "json"),
    ("is_identified", "is_identified", "number"),
    ("team_id", "team_id", "number"),
    ("created_at", "created_at", "time"),
)
_SESSIONS = (
    ("session_id", "session_id", "text"),
    ("distinct_id", "distinct_id", "text"),
    ("entry_current_url", "`$entry_current_url`", "text"),
    ("exit_current_url", "`$exit_current_url`", "text"),
    ("pageview_count", "`$pageview_count`", "number"),
    ("autocapture_count", "`$autocapture_count`", "number"),
    ("session_duration", "`$session_duration`", "number"),
    ("team_id", "team_id", "number"),
    ("start_timestamp", "`$start_timestamp`", "time"),
    ("end_timestamp", "`$end_timestamp`", "time"),
)
# columns, table, the column by which rows are chosen (when they came, not when they happened), and the order
_MODELS: dict[str, tuple[tuple[tuple[str, str, str], ...], str, str, str]] = {
    "events": (
        _EVENTS,
        "(SELECT e.*, p.properties AS person_properties FROM {db}.events AS e LEFT JOIN "
        "{db}.persons AS p ON p.id = e.person_id)",
        "created_at",
        "created_at, toString(uuid)",
    ),
    "persons": (
        _PERSONS,
        "(SELECT p.*, d.distinct_id AS distinct_id FROM {db}.persons AS p INNER JOIN "
        "{db}.person_distinct_ids AS d ON d.person_id = p.id)",
        "created_at",
        "created_at, distinct_id",
    ),
    "sessions": (_SESSIONS, "{db}.sessions", "`$end_timestamp`", "`$end_timestamp`, session_id"),
}
MODELS = tuple(_MODELS)


@dataclass(frozen=True)
class FileDownloadRequest:
    """A checked request for a file download.

    :param start: the first moment inside.
    :param end: the first moment after it.
    :param compression: one of the format's, or None.
    :param max_size: of a file, in MB before compression; 0 for one file.
    :param include: names of events; all if empty.
    :param exclude: names of events.
    """

    model: str
    start: datetime
    end: datetime
    format: str = "Parquet"
    compression: str | None = None
    max_size: int = 1024
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def suffix(self) -> str:
        """Return what the names of the files end in."""
        return COMPRESSIONS[self.format][self.compression]

    def _where(self) -> str:
        by = _MODELS[self.model][2]
        start, end = (f"toDateTime64('{edge:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')" for edge in (self.start, self.end))
        names = (("IN", self.include), ("NOT IN", self.exclude)) if self.model == "events" else ()
        chosen = "".join(
            f" AND event {word} ({', '.join(literal(name, clickhouse=True) for name in column)})"
            for word, column in names
            if column
        )
        return f"{by} >= {start} AND {by} < {end}{chosen}"

    def count_sql(self) -> str:
        """Return the SQL that counts the rows and the bytes that they have in JSON Lines."""
        table = _MODELS[self.model][1]
        size = "length(properties)" if self.model != "sessions" else "500"
        return f"SELECT count() AS n, sum({size} + 300) AS size FROM {table} WHERE {self._where()}"  # noqa: S608

    def rows_sql(self, first: int, rows: int, path: Path) -> str:
        """Return the SQL that writes a file.

        :param first: number of the first row in it.
        :param rows: how many there are in it.
        :param path: where to.
        """
        columns, table, _, order = _MODELS[self.model]
        rest = f"FROM {table} WHERE {self._where()} ORDER BY {order} LIMIT {rows} OFFSET {first}"
        target = f"INTO OUTFILE {literal(str(path), clickhouse=True)}"
        if self.format == "Parquet":
            shown = ", ".join(f"{expression} AS `{name}`" for name, expression, _ in columns)
            method = self.compression or "none"
            settings = f"SETTINGS output_format_parquet_compression_method = '{method}'"
            return f"SELECT {shown} {rest} {target} FORMAT Parquet {settings}"
        fields = [f"""'"{name}":', {_json(expression, kind)}""" for name, expression, kind in columns]
        listed = ", ',', ".join(fields)
        # TSVRaw writes a text as it is, and a line end after it
        return f"SELECT concat('{{', {listed}, '}}') {rest} {target} FORMAT TSVRaw"


def _json(expression: str, kind: str) -> str:
    if kind == "json":
        # a person may be gone, which leaves an empty text
        return f"if({expression} = '', '{{}}', {expression})"
    if kind == "number":
        return f"toString({expression})"
    return f"toJSONString({_ISO.format(column=expression) if kind == 'time' else expression})"


@dataclass
class FileDownload:
    """One file download.

    :param files: ids and contents, once they are written.
    :param finished_at: when the worker was done, well or not.
    """

    id: str
    wanted: FileDownloadRequest
    created_at: datetime
    outcome: str
    files: list[tuple[str, bytes]] = field(default_factory=list)
    rows: int = 0
    finished_at: datetime | None = None
    cancelled: bool = False


class FileDownloadService:
    """All file downloads of the project.

    :param core: the clock, the settings, the store.
    :param seed: equal seeds make equal ids.
    """

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self._random = random.Random(f"file downloads {seed}")  # noqa: S311 - ids, not secrets
        self._downloads: list[FileDownload] = []

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def create(self, wanted: FileDownloadRequest) -> FileDownload:
        """Set the worker on new files.

        :param wanted: what shall be in them.
        """
        made = FileDownload(self._new_id(), wanted, self._core.clock.now(), self._core.settings.file_download_outcome)
        self._downloads.append(made)
        self._core.background(self._work(made))
        return made

    def all(self) -> list[FileDownload]:
        """Return all file downloads, newest first."""
        return self._downloads[::-1]

    def find(self, wanted: str) -> FileDownload | None:
        """Return a file download, or None.

        :param wanted: its id.
        """
        return next((download for download in self._downloads if download.id == wanted), None)

    def running(self) -> int:
        """Return how many have not ended."""
        return sum(self.status(download) in LIVE for download in self._downloads)

    def status(self, download: FileDownload) -> str:
        """Return the status. The worker's ``Completed`` shows as ``Running`` until the files are listed.

        :param download: the file download.
        """
        now, settings = self._core.clock.now(), self._core.settings
        if download.cancelled:
            return "Cancelled"
        if download.finished_at is None:
            part = timedelta(seconds=settings.file_download_seconds / 4)
            return "Starting" if now < download.created_at + part else "Running"
        listed = now >= download.finished_at + timedelta(seconds=settings.file_listing_seconds)
        return "Running" if download.outcome == "Completed" and not listed else download.outcome

    def as_json(self, download: FileDownload) -> Json:
        """Return the object of the API; no files in a ``Completed`` one say that there was no data.

        :param download: the file download.
        """
        status = self.status(download)
        done = status == "Completed"
        return {
            "id": download.id,
            "status": status,
            "files": [name for name, _ in download.files] if done else [],
            "error": None if done or status in (*LIVE, "Cancelled") else f"The export has ended as {status}.",
            "records_completed": download.rows if done else None,
        }

    def expired(self, download: FileDownload) -> bool:
        """Return whether the files are gone.

        :param download: the file download.
        """
        kept = timedelta(days=self._core.settings.file_download_days)
        return self._core.clock.now() >= download.created_at + kept

    def cancel(self, download: FileDownload) -> None:
        """Stop the worker, unless it is done.

        :param download: the file download.
        """
        if self.status(download) in LIVE:
            download.cancelled = True

    async def _work(self, download: FileDownload) -> None:
        await self._core.clock.sleep(self._core.settings.file_download_seconds)
        if download.cancelled:
            return
        if download.outcome == "Completed":
            download.rows, written = await asyncio.to_thread(self._write, download.wanted)
            download.files = [(self._new_id(), content) for content in written]
        download.finished_at = self._core.clock.now()

    def _write(self, wanted: FileDownloadRequest) -> tuple[int, list[bytes]]:
        row = self._core.warehouse.execute(wanted.count_sql())[0]
        rows = int(row["n"])
        files = math.ceil(int(row["size"]) / (wanted.max_size * MEGABYTE)) if wanted.max_size and rows else 1
        per_file = self._core.settings.rows_per_file or math.ceil(rows / max(files, 1))
        with tempfile.TemporaryDirectory(prefix="posthog_emulator_") as folder:
            return rows, list(self._files(wanted, rows, per_file, Path(folder)))

    def _files(self, wanted: FileDownloadRequest, rows: int, per_file: int, folder: Path) -> Iterator[bytes]:
        for first in range(0, rows, per_file or 1):
            path = folder / f"{first}{wanted.suffix()}"
            self._core.warehouse.execute(wanted.rows_sql(first, min(per_file, rows - first), path))
            yield path.read_bytes()
