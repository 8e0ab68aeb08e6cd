"""A file that is being written into the staging of an interval."""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_posthog.storage.atomic_file import Digest, FileSystem


class StagedFile:
    """A file that is being written; a sink for downloads, and a file object for writers of Parquet.

    :param fs: the file system.
    :param path: where it is written.
    """

    def __init__(self, fs: FileSystem, path: str) -> None:
        self._fs = fs
        self.path = path
        self._open()

    def _open(self) -> None:
        self._digest = Digest(self._fs.open(self.path, "wb"))
        self.closed = False

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._digest.size

    @property
    def sha256(self) -> str:
        """The checksum of what was written, in hex."""
        return self._digest.sha256

    def write(self, chunk: bytes) -> int:
        """Take the next bytes.

        :param chunk: the bytes.
        """
        return self._digest.write(chunk)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._digest.size

    def flush(self) -> None:
        """Leave flushing to the file system, which sends parts of a size it likes."""

    def restart(self) -> None:
        """Forget all bytes and start again."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the file, which ends an upload."""
        if not self.closed:
            self.closed = True
            self._digest.close()

    def give_up(self) -> None:
        """Close the file and remove it; what is in the way of that must not hide why."""
        with suppress(Exception):
            self.close()
        with suppress(Exception):
            self._fs.rm_file(self.path)

    def finish(self) -> None:
        """Close the file and check that all of it is there.

        :raises OSError: if the file system holds another number of bytes than were written.
        """
        self.close()
        self._fs.invalidate_cache(self.path.rpartition("/")[0])
        landed = self._fs.size(self.path)
        if landed != self.size:
            raise OSError(f"wrote {self.size:,} bytes to {self.path}, but the file system holds {landed}")
