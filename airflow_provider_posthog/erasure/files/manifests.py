"""The manifests of a folder whose files are rewritten: read and update their entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote

from airflow_provider_posthog.erasure.files.file import UnreadableError
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.manifest import NULL_PARTITION, Interval


class FolderManifests:
    """The files in all manifests of a folder, by path; call :meth:`read` first.

    :param fs: the file system.
    :param root: the folder.
    :param name: only the files of this table; all without one.
    """

    def __init__(self, fs: Any, root: str, name: str | None) -> None:  # noqa: ANN401
        self._fs = fs
        self._root = root
        self._name = name
        self._listed: dict[str, tuple[Interval, int | None, Mapping[str, str | None]]] = {}

    def read(self) -> None:
        """Read all manifests again."""
        self._listed = {}
        folder = f"{self._root}/{manifests.FOLDER}"
        self._fs.invalidate_cache()
        for path in self._fs.find(folder, maxdepth=1) if self._fs.isdir(folder) else []:
            name = path.rpartition("/")[2]
            interval = Interval.of_stem(name.removesuffix(".json")) if name.endswith(".json") else None
            if interval is None:
                continue
            manifest = manifests.read(self._fs, self._root, interval) or {}
            if manifest.get("table"):
                raise PostHogSettingsError(
                    "path",
                    f"has the rows of {interval.stem} in a {manifest['table'].get('format')} table.",
                    "Delete them there, by the engine that reads it, and expire its older versions.",
                )
            for file in manifest.get("files", ()):
                self._listed[file["path"]] = interval, file["rows"], file.get("partition") or {}

    def is_ours(self, path: str) -> bool:
        """Return whether a file belongs to the chosen table.

        :param path: the file, relative to the folder.
        """
        if self._name is None:
            return True
        if path in self._listed:
            return self._listed[path][0].name == self._name
        return path.rpartition("/")[2].lstrip(".").startswith(f"{self._name}_")

    def rows(self, path: str) -> int | None:
        """Return how many rows a file has, if known.

        :param path: the file, relative to the folder.
        """
        return self._listed[path][1] if path in self._listed else None

    def partition(self, path: str, columns: Collection[str]) -> Mapping[str, str | None]:
        """Return the columns in a file's path, with their values.

        :param path: the file, relative to the folder.
        :param columns: those that matter.
        :raises UnreadableError: if the path has a part of a value only, and no manifest has all of it.
        """
        if path in self._listed:
            return self._listed[path][2]
        values: dict[str, str | None] = {}
        for part in path.split("/")[:-1]:
            column, equals, value = part.partition("=")
            column = unquote(column)
            if equals and "~" in value and column in columns:
                raise UnreadableError("is in a folder whose name was cut, and no manifest has all of it")
            if equals:
                values[column] = None if value == NULL_PARTITION else unquote(value)
        return values

    def update(self, path: str, entry: Mapping[str, Any], part: str) -> None:
        """Update a file's entry in its manifest.

        :param path: the file, relative to the folder.
        :param entry: its ``rows``, ``bytes`` and ``sha256``; ``whole``, if it is removed.
        :param part: where the manifest is written before it is moved to its place.
        """
        if path not in self._listed:
            return
        interval = self._listed[path][0]
        there = manifests.read(self._fs, self._root, interval)
        if there is None:
            return
        now = {name: entry[name] for name in ("rows", "bytes", "sha256") if name in entry}
        files = [
            {**file, **now} if file["path"] == path else file
            for file in there["files"]
            if file["path"] != path or not entry["whole"]
        ]
        counts = [file["rows"] for file in files]
        after = {
            **there,
            "rows": None if None in counts else sum(counts),
            "bytes": sum(file["bytes"] for file in files),
            "files": files,
        }
        manifests.write(self._fs, self._root, interval, after, part=part)
