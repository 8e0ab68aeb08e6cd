"""The folder of a person's data: written under a hidden name, and published under its own when it is complete.

It has JSON lines, a page to read, and ``manifest.json`` with the rows, size and checksum of each file. On a local disk
nobody but the worker's user may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.atomic_file import is_flat, make_folder, move
from airflow_provider_posthog.storage.staging import FOLDER as UNFINISHED

MANIFEST = "manifest.json"
PAGE = "index.html"
EVENTS = "events"
VERSION = 1
_STATE = ".state.json"
_LOCAL = ("file", "local")


def unfinished_in(fs: Any, folder: str) -> list[str]:  # noqa: ANN401
    """Return the hidden folders that tries have begun in a folder and not published; none if there is no such folder.

    :param fs: the file system.
    :param folder: the folder, as the file system spells it.
    """
    fs.invalidate_cache()
    try:
        paths = sorted(str(path).rstrip("/") for path in fs.ls(folder, detail=False))
    except FileNotFoundError:
        return []
    hidden = [path for path in paths if re.fullmatch(r"\..+\.part", path.rpartition("/")[2], re.DOTALL)]
    return [path for path in hidden if any(fs.exists(f"{path}/{name}") for name in (_STATE, MANIFEST))]


class AccessFolder:
    """One request's folder.

    :param fs: the file system.
    :param path: the folder, as the file system spells it, without a slash at its end.
    """

    def __init__(self, fs: Any, path: str) -> None:  # noqa: ANN401
        self._fs = fs
        self.path = path
        around, slash, name = path.rpartition("/")
        self.work = f"{around}{slash}.{name[:200]}.part"

    def published(self) -> dict[str, Any] | None:
        """Return the manifest of a folder that is whole; ``None`` if there is none.

        :raises PostHogSettingsError: if something else is there.
        """
        self._fs.invalidate_cache()
        if self._fs.exists(f"{self.path}/{MANIFEST}") and not self._fs.exists(f"{self.work}/{MANIFEST}"):
            return self._read(f"{self.path}/{MANIFEST}")
        is_taken = self._fs.exists(self.path) and (self._fs.isfile(self.path) or bool(self._fs.find(self.path)))
        if is_taken and not self._fs.exists(f"{self.work}/{MANIFEST}"):
            raise PostHogSettingsError(
                "path", "names a place where something else is.", "Write one for each request, with {{ run_id }} in it."
            )
        return None

    def begin(self, request: str, fresh: Mapping[str, Any]) -> dict[str, Any]:
        """Resume what an earlier try has written for the same request, or start again.

        :param request: identifies the request.
        :param fresh: the state to store, if it starts again.
        :returns: the stored state.
        """
        state = self._read(f"{self.work}/{_STATE}") if self._fs.exists(f"{self.work}/{_STATE}") else None
        if state is not None and state.get("request") == request:
            return state
        self.discard()
        if not is_flat(self._fs):
            make_folder(self._fs, self.work)
        self._only_for_us(self.work, 0o700)
        begun = {"request": request, **fresh}
        self._write(f"{self.work}/{_STATE}", json.dumps(begun).encode())
        return begun

    def discard(self) -> None:
        """Remove what was written under the hidden name."""
        self._fs.invalidate_cache()
        if self._fs.exists(self.work):
            self._fs.rm(self.work, recursive=True)

    @property
    def is_whole(self) -> bool:
        """Whether an earlier try has written all of it, so that only publishing is left."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self.work}/{MANIFEST}"))

    def lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write JSON lines; return how many.

        :param name: the file's name, without its end.
        :param rows: what is in it.
        """
        count = 0
        with self._fs.open(f"{self.work}/{name}.jsonl", "wb") as file:
            for row in rows:
                count += 1
                file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        return count

    def page(self, parts: Iterable[str]) -> None:
        """Write the page.

        :param parts: its HTML.
        """
        with self._fs.open(f"{self.work}/{PAGE}", "wb") as file:
            for part in parts:
                file.write(part.encode("utf-8", "replace"))

    def read(self, name: str) -> Iterator[Any]:
        """Yield what is in a file of JSON lines.

        :param name: its name in the folder.
        """
        with self._fs.open(f"{self.work}/{name}", "rb") as lines:
            for line in lines:
                yield json.loads(line)

    def event_files(self) -> list[str]:
        """Return the names of the files of events, in the order of their names."""
        root = f"{self.work}/{EVENTS}"
        self._fs.invalidate_cache()
        paths = self._fs.find(root) if self._fs.exists(root) else []
        return [path[len(self.work) + 1 :] for path in sorted(paths) if self._is_data(path)]

    def finish(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest, which completes the folder except for its name.

        :param facts: what it says besides the files.
        """
        self._fs.invalidate_cache()
        names = sorted(path[len(self.work) + 1 :] for path in self._fs.find(self.work) if self._is_data(path))
        manifest = {"version": VERSION, **facts, "files": [self._described(name) for name in names]}
        self._write(f"{self.work}/{MANIFEST}", json.dumps(manifest, indent=1).encode())
        return manifest

    def publish(self) -> dict[str, Any]:
        """Give the folder its name; may be killed at any point and called again.

        :returns: the manifest.
        """
        manifest = self._read(f"{self.work}/{MANIFEST}")
        for name in (f"{EVENTS}/{manifests.FOLDER}", f"{EVENTS}/{UNFINISHED}", _STATE):
            if self._fs.exists(f"{self.work}/{name}"):
                self._fs.rm(f"{self.work}/{name}", recursive=True)
        if is_flat(self._fs):  # no folders to move: readers wait for the manifest, which comes last
            for name in [*(file["path"] for file in manifest["files"]), MANIFEST]:
                self._fs.cp_file(f"{self.work}/{name}", f"{self.path}/{name}")
            self.discard()
        else:
            self._close_to_others()
            with suppress(OSError):  # an empty folder
                self._fs.rmdir(self.path)
            move(self._fs, self.work, self.path)
        return manifest

    def _is_data(self, path: str) -> bool:
        parts = path[len(self.work) + 1 :].split("/")
        return not any(part.startswith(".") or part == manifests.FOLDER for part in parts) and parts[-1] != MANIFEST

    def _described(self, name: str) -> dict[str, Any]:
        digest, size, rows = hashlib.sha256(), 0, 0
        with self._fs.open(f"{self.work}/{name}", "rb") as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
                size += len(chunk)
                rows += chunk.count(b"\n")
        counted = rows if name.endswith(".jsonl") else None
        return {"path": name, "rows": counted, "bytes": size, "sha256": digest.hexdigest()}

    def _close_to_others(self) -> None:
        for folder, _, names in self._fs.walk(self.work):
            self._only_for_us(folder, 0o700)
            for name in names:
                self._only_for_us(f"{folder}/{name}", 0o600)

    def _only_for_us(self, path: str, mode: int) -> None:
        kinds = [self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol
        if any(kind in _LOCAL for kind in kinds):
            os.chmod(path, mode)

    def _read(self, path: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._fs.cat_file(path))
        return content

    def _write(self, path: str, content: bytes) -> None:
        part = f"{path}.new"
        self._fs.pipe_file(part if not is_flat(self._fs) else path, content)
        if not is_flat(self._fs):
            move(self._fs, part, path)
