"""Write files atomically: a file appears under its name only when it is whole, in any fsspec file system."""

from __future__ import annotations

import gzip
import hashlib
import logging
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal, Protocol

log = logging.getLogger(__name__)

Compression = Literal["gzip"]

#: From this many bytes a checksum is computed in a thread of its own: it costs more than receiving and writing them.
_BESIDE = 256 * 1024

#: How often to make a folder that other tasks remove at the same time; each race is a matter of microseconds.
TRIES = 20

#: File systems without folders; asking them for one may even create a bucket.
_FLAT = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "wasb", "oss", "memory"})


class FileSystem(Protocol):
    """The part of fsspec's ``AbstractFileSystem`` that is used here."""

    protocol: str | tuple[str, ...]

    def open(self, path: str, mode: str) -> Any:  # noqa: ANN401 - a file object
        """Open a file."""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""

    def size(self, path: str) -> int | None:
        """Return its size in bytes."""

    def isdir(self, path: str) -> bool:
        """Return whether there is such a folder."""

    def isfile(self, path: str) -> bool:
        """Return whether there is such a file, and no folder."""

    def mv(self, path1: str, path2: str) -> None:
        """Move it."""

    def mv_file(self, path1: str, path2: str) -> None:
        """Move it, where a file system has that besides."""

    def cp_file(self, path1: str, path2: str) -> None:
        """Copy it."""

    def rm_file(self, path: str) -> None:
        """Remove it."""

    def makedirs(self, path: str, exist_ok: bool) -> None:
        """Make a folder."""

    def invalidate_cache(self, path: str | None = None) -> None:
        """Drop cached listings."""


class AtomicFile:
    """Writes a file beside its final place and moves it there at the end.

    A crash leaves at the most the part file ``.<name>.<token>.part``, which the same task's next try overwrites.

    :param fs: the file system.
    :param path: the final path, as the file system spells it.
    :param token: distinguishes this task's part file from another's.
    :param compression: ``gzip``, or ``None``.
    :param watch: is shown each chunk before compression.
    :param reset: is called when the file starts again.
    """

    def __init__(
        self,
        fs: FileSystem,
        path: str,
        *,
        token: str,
        compression: Compression | None = None,
        watch: Callable[[bytes], None] | None = None,
        reset: Callable[[], None] | None = None,
    ) -> None:
        self._fs = fs
        self._path = path
        folder, slash, name = path.rpartition("/")
        self._folder = folder
        # File systems take names of 255 bytes; the token alone distinguishes the part files of a folder.
        self.part = f"{folder}{slash}.{_cut(name, 200)}.{token}.part"
        self._flat = is_flat(fs)
        self._compression = compression
        self._watch = watch or (lambda chunk: None)
        self._reset = reset or (lambda: None)
        self._raw: Digest | None = None
        self._file: Any = None
        self.size = 0
        self.sha256 = ""

    def __enter__(self) -> AtomicFile:
        if not self._flat:
            if self._fs.isdir(self._path):  # moving a file there would put it in, under the part file's name
                raise IsADirectoryError(f"{self._path} is a folder: end the path with / to put the file into it")
            if self._folder:
                make_folder(self._fs, self._folder)
        try:
            self._open()
        except BaseException:  # gzip writes its header at once, which a full disk refuses
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the part file, unless it was committed."""
        with suppress(Exception):  # closing a broken upload fails again; what matters is that it is removed
            self._close()
        try:
            if self._fs.exists(self.part):
                self._fs.rm_file(self.part)
        except Exception:  # must not hide why the task fails, nor fail one whose file has landed
            log.warning("%s may be left over", self.part, exc_info=True)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        :param chunk: the bytes, uncompressed.
        """
        self._watch(chunk)
        self._file.write(chunk)

    def restart(self) -> None:
        """Discard all bytes and start again."""
        self._close()
        self._reset()
        self._open()

    def finish(self) -> None:
        """Close the part file and check that all of it is there; :attr:`size` and :attr:`sha256` are known then.

        :raises OSError: if the file system holds another number of bytes than were written.
        """
        self._close()
        self._fs.invalidate_cache(self._folder or None)
        landed = self._fs.size(self.part)
        if landed != self.size:
            raise OSError(f"wrote {self.size:,} bytes to {self.part}, but the file system holds {landed}")

    def commit(self) -> None:
        """Move the finished file to its final name, replacing an existing file."""
        move(self._fs, self.part, self._path)

    def same_as_there(self) -> bool:
        """Return whether the finished file's bytes already stand under the final name."""
        if self._fs.size(self._path) != self.size:
            return False
        digest = hashlib.sha256()
        with self._fs.open(self._path, "rb") as there:
            while chunk := there.read(1024 * 1024):
                digest.update(chunk)
        return digest.hexdigest() == self.sha256

    def _open(self) -> None:
        self._raw = Digest(self._fs.open(self.part, "wb"))
        # Without a name and a time in it, the same content makes the same bytes.
        self._file = gzip.GzipFile("", "wb", 6, self._raw, mtime=0) if self._compression else self._raw

    def _close(self) -> None:
        if self._raw is None:
            return
        raw, self._raw = self._raw, None
        try:
            if self._file is not raw:
                self._file.close()
        finally:  # where the compressed rest does not fit, the file would stay open, and an upload would stay begun
            raw.close()
        self.size, self.sha256 = raw.size, raw.sha256


class Digest:
    """A file that knows what was written to it.

    :param file: the file object that gets the bytes.
    """

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - a file object
        self._file = file
        self._checksum = _Checksum()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The checksum of what was written, in hex."""
        return self._checksum.hexdigest()

    def write(self, chunk: bytes) -> int:
        """Take the next bytes.

        :param chunk: the bytes.
        """
        self._checksum.update(chunk)
        self._file.write(chunk)
        self.size += len(chunk)
        return len(chunk)

    def flush(self) -> None:
        """Do nothing: the file system decides when to send parts."""

    def close(self) -> None:
        """Close the file, which ends an upload."""
        try:
            self._file.close()
        except BaseException:
            # The parts of an unfinished upload stay, invisible and paid for, until it is aborted.
            with suppress(Exception):
                self._file.discard()
            raise
        finally:
            self._checksum.close()


class _Checksum:
    """A SHA-256 that is computed in the background if the bytes come in large blocks.

    One block is waited for before the next one is taken, so that no more than that are held.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None

    def update(self, chunk: bytes) -> None:
        self._settle()
        # Only bytes are immutable; the caller may overwrite the buffer behind a view.
        if len(chunk) < _BESIDE or not isinstance(chunk, bytes):
            self._sha256.update(chunk)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="posthog-sha256")
        self._last = self._thread.submit(self._sha256.update, chunk)

    def hexdigest(self) -> str:
        self._settle()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End the thread; the checksum can still be asked for."""
        if self._thread is not None:
            self._thread.shutdown()

    def _settle(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None


def is_flat(fs: FileSystem) -> bool:
    """Return whether a file system is one without folders, such as S3.

    :param fs: the file system.
    """
    return bool(({fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)) & _FLAT)


def make_folder(fs: FileSystem, path: str) -> None:
    """Make a folder and those around it, while other tasks may remove them because they found them empty.

    :param fs: the file system; one with folders.
    :param path: the folder.
    :raises OSError: if it cannot be made, such as where a file has its name.
    """
    for _ in range(TRIES):
        try:
            return fs.makedirs(path, exist_ok=True)
        except FileNotFoundError:  # one around it was removed
            pass
        except FileExistsError:  # it was there, and was removed before Python had looked what it is; or it is a file
            if fs.isfile(path):
                raise
    fs.makedirs(path, exist_ok=True)


def move(fs: FileSystem, source: str, target: str) -> None:
    """Rename a whole file, replacing an existing one; or a folder, where there is none of that name.

    :param fs: the file system.
    :param source: where it is.
    :param target: where to; its folder exists.
    """
    from fsspec import AbstractFileSystem

    if is_flat(fs):
        # An object is copied whole or not at all; `mv` takes *, ? and [ in a name for patterns, and lists folders.
        fs.cp_file(source, target)
        fs.rm_file(source)
    elif getattr(type(fs), "mv", None) is AbstractFileSystem.mv:
        # It copies and removes: who reads meanwhile finds half a file. fsspec before 2024 has it for local files, too.
        fs.mv_file(source, target)
    else:
        fs.mv(source, target)
    for path in {source.rpartition("/")[0], target.rpartition("/")[0]}:
        fs.invalidate_cache(path or None)


def safe_name(name: object, fallback: str) -> str:
    """Make a file name out of a server's text: one segment, no hidden file, nothing that any file system minds.

    It has 200 bytes at the most, so that ``.gz`` and the part file's marks fit into the usual 255.

    :param name: the text.
    :param fallback: the name, if nothing usable is left.
    """
    last = re.split(r"[/\\]", name)[-1] if isinstance(name, str) else ""
    cleaned = re.sub(r"[^\w.() -]", "_", last).strip(" .")
    stem, dot, suffix = cleaned.rpartition(".")
    size = len((dot + suffix).encode())
    cleaned = (
        _cut(stem, 200 - size).rstrip(" .") + dot + suffix if dot and size <= 80 else _cut(cleaned, 200).rstrip(" .")
    )
    return cleaned if cleaned.strip("_") else fallback


def _cut(text: str, size: int) -> str:
    """Shorten a text to so many bytes of UTF-8, not through a character."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
