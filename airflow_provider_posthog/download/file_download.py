"""Fetch the files of a file download in parallel into a staging folder, and count their rows."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import IO, Any

from airflow_provider_posthog.api import file_downloads
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.steps import Stopped
from airflow_provider_posthog.download.file_kinds import check_content_type
from airflow_provider_posthog.download.http import download
from airflow_provider_posthog.exceptions import PostHogIncompleteError
from airflow_provider_posthog.storage.staged_file import StagedFile
from airflow_provider_posthog.storage.staging import Staging

#: What a login page or an error of a proxy comes as; no file of rows ever does.
_NOT_A_FILE = frozenset({"text/html", "application/json"})
#: How many bytes are unpacked at once: rows that are much alike take a thousandth of their size.
_UNPACKED = 1024 * 1024
_SUFFIXES = {"gzip": ".gz", "brotli": ".br"}


def suffix_of(file_format: str, compression: str | None) -> str:
    """Return the suffix of a file.

    :param file_format: ``Parquet`` or ``JSONLines``.
    :param compression: of the file; Parquet's is inside.
    """
    return ".parquet" if file_format == "Parquet" else f".jsonl{_SUFFIXES.get(compression or '', '')}"


class BrokenFileError(PostHogIncompleteError):
    """A file that PostHog made is not whole: fetching it again cannot help, only making it again."""


class Rows:
    """Counts the lines of JSON lines as they arrive.

    :param gzipped: whether they come compressed.
    :raises BrokenFileError: by :meth:`feed` and :meth:`total`, if the file is not whole.
    """

    def __init__(self, *, gzipped: bool) -> None:
        self._gzipped = gzipped
        self._lines = 0
        self._rest = False
        self._unpacker = self._new_unpacker()

    def _new_unpacker(self) -> Any:  # noqa: ANN401 - zlib's class has no public name
        return zlib.decompressobj(31) if self._gzipped else None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        :param chunk: the bytes, as they are stored.
        """
        if self._unpacker is None:
            return self._count(chunk)
        while chunk:
            if self._unpacker.eof:  # gzip may be written in several members
                self._unpacker = self._new_unpacker()
            try:
                self._count(self._unpacker.decompress(chunk, _UNPACKED))
            except zlib.error as error:
                raise BrokenFileError(f"A file is broken: {error}") from error
            chunk = self._unpacker.unconsumed_tail or self._unpacker.unused_data

    def total(self) -> int:
        """Return how many lines there were; the last one may have no end."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise BrokenFileError("A file is cut: its gzip has no end.")
        return self._lines + self._rest

    def _count(self, text: bytes) -> None:
        if text:
            self._lines += text.count(b"\n")
            self._rest = not text.endswith(b"\n")


class _Sink:
    """A staged file that is counted as it arrives, and that can be stopped."""

    def __init__(self, file: StagedFile, stop: threading.Event, new_rows: Callable[[], Rows] | None) -> None:
        self.file = file
        self._stop = stop
        self._new_rows = new_rows
        self.rows = new_rows() if new_rows else None

    def write(self, chunk: bytes) -> None:
        if self._stop.is_set():
            raise Stopped("stopped")
        self.file.write(chunk)
        if self.rows is not None:
            self.rows.feed(chunk)

    def restart(self) -> None:
        self.file.restart()
        self.rows = self._new_rows() if self._new_rows else None


class Fetcher:
    """Fetches the files of one file download.

    :param settings: how to reach PostHog; each thread gets a client of its own.
    :param staging: where the files go.
    :param fs: its file system, to read the ends of Parquet files.
    :param file_format: ``Parquet`` or ``JSONLines``.
    :param compression: as it was asked for.
    :param at_once: how many files come side by side.
    """

    def __init__(
        self,
        settings: ClientSettings,
        staging: Staging,
        fs: Any,  # noqa: ANN401 - an AbstractFileSystem
        *,
        file_format: str,
        compression: str | None,
        at_once: int,
    ) -> None:
        self._settings = settings
        self._staging = staging
        self._fs = fs
        self._format = file_format
        self._compression = compression
        self._at_once = at_once
        self._stop = threading.Event()

    def fetch(self, job_id: str, files: Sequence[str], tag: str, done: Callable[[Mapping[str, Any]], None]) -> None:
        """Fetch files, and record each in the staging once it is whole. Those that are recorded already are skipped.

        :param job_id: the file download's id.
        :param files: the ids of its files.
        :param tag: stands for the file download; a file's tag is this and its id.
        :param done: is called for each recorded file, in this thread.
        :raises BrokenFileError: if a file is cut or broken.
        :raises PostHogError: if a file cannot be had.
        """
        recorded = {file["tag"] for file in self._staging.files}
        missing = [file for file in files if f"{tag}/{file}" not in recorded]
        threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="posthog-file")
        try:
            downloads = [threads.submit(self._one, job_id, file, f"{tag}/{file}") for file in missing]
            for download in as_completed(downloads):
                done(download.result())
        except BaseException as error:
            self._stop.set()
            # A kill is not an Exception. It does not wait for storage that is silent: threads stop at the next bytes.
            threads.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        threads.shutdown()

    def _one(self, job_id: str, file_id: str, tag: str) -> Mapping[str, Any]:
        if self._stop.is_set():
            raise Stopped("stopped")
        sink = _Sink(self._staging.new_file(), self._stop, self._counter())
        try:
            rows = self._received(job_id, file_id, sink)
            if self._stop.is_set():  # what was killed must record nothing: a retry may be at work
                raise Stopped("stopped")
            described = self._staging.describe(
                sink.file, suffix_of(self._format, self._compression), rows=rows, tag=tag
            )
        except BaseException:
            sink.file.give_up()
            raise
        self._staging.record([described])
        return described

    def _received(self, job_id: str, file_id: str, sink: _Sink) -> int | None:
        """Fetch a file; return how many rows it has, if that can be counted."""
        with Client(self._settings) as client:
            received = download(client, file_downloads.download(job_id, file_id), sink, sleep=self._sleep)
        check_content_type(received.content_type, _NOT_A_FILE, f"a file of file download {job_id}")
        sink.file.finish()
        if self._format == "Parquet":
            return self._parquet_rows(sink.file.path)
        return sink.rows.total() if sink.rows is not None else None

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped("stopped")

    def _counter(self) -> Callable[[], Rows] | None:
        if self._format == "Parquet" or self._compression not in (None, "gzip"):
            return None  # Python reads no brotli by itself
        return lambda: Rows(gzipped=self._compression == "gzip")

    def _parquet_rows(self, path: str) -> int | None:
        """Return the number of rows from the end of a Parquet file, which also proves its format."""
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            return None
        with self._fs.open(path, "rb") as file:
            end = _parquet_end(file)
        try:
            return int(parquet.read_metadata(pa.BufferReader(end)).num_rows)
        except (pa.ArrowException, OSError) as error:  # from memory: the storage has no part in it
            raise BrokenFileError(f"A Parquet file is cut or broken: {error}") from error


def _parquet_end(file: IO[bytes]) -> bytes:
    """Read the footer of a Parquet file, with the eight bytes after it that hold its length."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    mark = file.read(8)
    length = int.from_bytes(mark[:4], "little")
    if len(mark) < 8 or mark[4:] != b"PAR1" or length > size - 12:
        raise BrokenFileError("A Parquet file is cut or broken: it has no footer.")
    file.seek(size - 8 - length)
    return file.read(length + 8)
