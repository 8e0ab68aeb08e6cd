"""The records of an erasure of files for its next try: counts and checksums, and no personal data."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_posthog.exceptions import PostHogIncompleteError
from airflow_provider_posthog.storage.atomic_file import AtomicFile, is_flat, make_folder
from airflow_provider_posthog.storage.staging import FOLDER

#: Seconds after which the list of files that were read is saved.
_CHECKPOINT = 30.0
_BEGIN = "erasure-"
_DIGEST = 32
_PART = "journal"
_FINISHED = "finished"


class Journal:
    """The folder of one erasure in a folder of files: an object for each file that is about to be replaced.

    :param fs: the file system.
    :param root: the folder of the files.
    :param request_id: of the erasure.
    :param name: of the files that are erased from; all without one.
    :param asked: identifies whose rows to remove: files that were read for others are read again.
    """

    def __init__(self, fs: Any, root: str, request_id: str, name: str | None, asked: str) -> None:  # noqa: ANN401
        self._fs = fs
        self._around = f"{root}/{FOLDER}"
        self._name = name or ""
        self._asked = asked
        self.token = f"{_BEGIN}{request_id[:16]}{f'.{name}' if name else ''}"
        self.folder = f"{self._around}/{self.token}"
        #: The files that were read and left unchanged, by digest: version and rows.
        self.seen: dict[str, list[Any]] = {}
        self._saved = time.monotonic()

    def begin(self) -> None:
        """Resume an earlier try's records, and refuse if another erasure replaces the same files.

        :raises PostHogIncompleteError: if one does.
        """
        if self._read(_FINISHED) is not None:
            self.finish()
        before = self._read("seen") or {}
        self.seen = before["files"] if before.get("asked") == self._asked else {}
        self.save()
        others = sorted({path[len(self._around) + 1 :].partition("/")[0] for path in self._list(self._around, None)})
        for other in others:
            if other.startswith(_BEGIN) and other != self.token and self._meets(other):
                if not self.entries():
                    self.finish()
                raise PostHogIncompleteError(
                    f"Another erasure is rewriting these files, or was given up: {FOLDER}/{other}. Let the task retry "
                    "when it is done; if it was given up, remove that folder."
                )

    def saw(self, path: str, version: str, rows: int) -> None:
        """Record that a file has no rows to remove.

        :param path: the file.
        :param version: identifies this version of the file.
        :param rows: how many rows it has.
        """
        self.seen[digest_of(path)] = [version, rows]
        if time.monotonic() - self._saved > _CHECKPOINT:
            self.save()

    def save(self) -> None:
        """Save the list of files that were read."""
        self._write("seen", {"asked": self._asked, "files": self.seen})
        self._saved = time.monotonic()

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return the files that were replaced, or are about to be, by digest."""
        names = (path.rpartition("/")[2].removesuffix(".json") for path in self._list(self.folder))
        by_name = {name: self._read(name) for name in names if len(name) == _DIGEST}
        return {name: entry for name, entry in by_name.items() if entry is not None}

    def note(self, path: str, entry: Mapping[str, Any]) -> None:
        """Record the replacement of a file before it happens.

        :param path: the file.
        :param entry: its counts and checksum.
        """
        self._write(digest_of(path), entry)

    def forget(self, path: str) -> None:
        """Remove the record of a file.

        :param path: the file.
        """
        self._fs.rm_file(f"{self.folder}/{digest_of(path)}.json")

    def finish(self) -> None:
        """Remove all records; a try after a kill in the middle of that starts again, and does not add up a part."""
        self._write(_FINISHED, {})
        last = f"{self.folder}/{_FINISHED}.json"
        for path in [*(path for path in self._list(self.folder) if path != last), last]:
            with suppress(FileNotFoundError):
                self._fs.rm_file(path)
        if not is_flat(self._fs):
            with suppress(OSError):
                self._fs.rmdir(self.folder)

    def _meets(self, other: str) -> bool:
        name = other.removeprefix(_BEGIN).partition(".")[2]
        return not name or not self._name or name == self._name

    def _list(self, folder: str, depth: int | None = 1) -> list[str]:
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return sorted(self._fs.find(folder, maxdepth=depth))
        return []

    def _read(self, name: str) -> dict[str, Any] | None:
        path = f"{self.folder}/{name}.json"
        if not self._fs.exists(path):
            return None
        with self._fs.open(path, "rb") as file:
            content: dict[str, Any] = json.loads(file.read())
        return content

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        if not is_flat(self._fs):
            make_folder(self._fs, self.folder)
        with AtomicFile(self._fs, f"{self.folder}/{name}.json", token=_PART) as atomic:
            atomic.write(json.dumps(value).encode())
            atomic.finish()
            atomic.commit()


def digest_of(path: str) -> str:
    """Return a digest of a path, which may hold personal data.

    :param path: the path.
    """
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
