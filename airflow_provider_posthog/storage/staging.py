"""The unfinished files of an interval, kept beside the finished ones until all of them are there.

A killed worker loses at the most what was written since :meth:`Staging.record`: the next try of the task takes up what
is recorded. :meth:`Staging.publish` gives the files their names, switches the interval's manifest to them, and removes
the files that it listed before; it may be killed at any point and called again.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import RLock
from typing import Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.atomic_file import TRIES, AtomicFile, FileSystem, is_flat, make_folder, move
from airflow_provider_posthog.storage.beside import Beside
from airflow_provider_posthog.storage.manifest import DataFile, Interval, partition_path
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from airflow_provider_posthog.storage.staged_file import StagedFile

log = logging.getLogger(__name__)

#: Where unfinished files are; hidden from everything that reads tables.
FOLDER = ".posthog"
_VERSION = 1
_STATE = frozenset({"owner", "request", "began", "writer", "generation", "next", "files", "note"})
#: Seconds by which the storage's and Airflow's clocks may differ.
_CLOCKS_DIFFER = 60.0


@dataclass(frozen=True)
class Owner:
    """Who writes: only the tries of one task, for one request, take up each other's files.

    :param task: stands for dag, run, task, map index and clearing.
    :param request: stands for what was asked for.
    :param since: when the run began, in seconds since 1970; a run that was made again begins anew.
    """

    task: str
    request: str
    since: float = 0.0


class Staging:
    """The unfinished files of one interval; made by :meth:`open`.

    :param fs: the file system.
    :param root: the folder of the files.
    :param interval: the interval.
    :param state: what was recorded.
    """

    def __init__(self, fs: Any, root: str, interval: Interval, state: dict[str, Any]) -> None:  # noqa: ANN401 - a file system
        self._fs = fs
        self._root = root
        self.interval = interval
        self._state = state
        self._lock = RLock()

    @classmethod
    def open(cls, fs: Any, root: str, interval: Interval, owner: Owner, now: Callable[[], float]) -> Staging:  # noqa: ANN401
        """Take up what an earlier try of the same task has recorded, or begin anew.

        What another task (or another request) has left unfinished for this interval is removed.

        :param fs: the file system.
        :param root: the folder of the files, without a slash at its end.
        :param interval: the interval.
        :param owner: who writes.
        :param now: the clock, in seconds since 1970.
        """
        folder = _folder(root, interval)
        if not is_flat(fs):
            make_folder(fs, folder)
        progress = _read(fs, f"{folder}/progress.json")
        fresh = {
            "version": _VERSION,
            "owner": owner.task,
            "request": owner.request,
            "began": now(),
            "writer": "",
            "generation": uuid.uuid4().hex[:8],
            "next": 0,
            "files": [],
            "note": {},
        }
        own = progress is not None and (progress["owner"], progress["request"]) == (owner.task, owner.request)
        if progress is not None and own and progress["began"] >= owner.since - _CLOCKS_DIFFER:
            staging = cls(fs, root, interval, progress)
            if progress["files"]:
                log.info("Files of %s kept from an earlier try: %d", interval.stem, len(progress["files"]))
        else:
            if progress is not None:
                cls(fs, root, interval, progress).discard()
            staging = cls(fs, root, interval, fresh)
        staging._take_over()
        return staging

    @property
    def note(self) -> Mapping[str, Any]:
        """What was recorded beside the files."""
        note: Mapping[str, Any] = self._state["note"]
        return note

    @property
    def files(self) -> Sequence[Mapping[str, Any]]:
        """The recorded files: ``path``, ``staged``, ``rows``, ``bytes``, ``sha256``, ``partition``, ``tag``."""
        files: Sequence[Mapping[str, Any]] = self._state["files"]
        return files

    @property
    def publishing(self) -> bool:
        """Whether an earlier try has begun to publish: there is nothing left to write."""
        return "manifest" in self._state

    def place(self, name: str) -> tuple[Any, str]:
        """Return the file system, and where a file of this name is.

        :param name: relative to the folder of the files.
        """
        return self._fs, f"{self._root}/{name}"

    def new_file(self) -> StagedFile:
        """Open a file; it counts only once it was recorded. May be called by several threads."""
        with self._lock:
            number = self._state["next"]
            self._state["next"] = number + 1
        # A try that Airflow has given up may still be writing: its files must not be ours.
        path = f"{_folder(self._root, self.interval)}/{number:05}.{self._state['writer']}.part"
        return StagedFile(self._fs, path)

    def describe(
        self,
        file: StagedFile,
        suffix: str,
        *,
        rows: int | None,
        partition: Mapping[str, str | None] | None = None,
        tag: str = "",
    ) -> dict[str, Any]:
        """Return what is recorded of a finished file.

        :param file: the file.
        :param suffix: what its name ends in, such as ``.parquet``.
        :param rows: how many rows are in it.
        :param partition: the values of the columns that its path tells.
        :param tag: tells what it holds, for :meth:`drop`.
        """
        number = file.path.rpartition("/")[2].partition(".")[0]
        name = f"{self.interval.stem}_{self._state['generation']}_{number}{suffix}"
        path = partition_path(partition or {}, self._root) + name
        described = DataFile(path, file.size, file.sha256, rows, partition or {})
        return {**described.as_json(), "staged": file.path.rpartition("/")[2], "tag": tag}

    def record(self, files: Sequence[Mapping[str, Any]] = (), **note: Any) -> None:  # noqa: ANN401 - JSON
        """Keep files, and what else the next try has to know. May be called by several threads.

        :param files: from :meth:`describe`.
        :param note: JSON by name; ``None`` forgets it.
        :raises PostHogError: if another run has taken over the interval.
        """
        with self._lock:
            before = self._state
            merged = {**before["note"], **note}
            known = {name: value for name, value in merged.items() if value is not None}
            self._state = {**before, "files": [*before["files"], *files], "note": known}
            try:
                self._save()
            except Exception:
                self._state = before
                self._remove_unrecorded(files)
                raise

    def _remove_unrecorded(self, files: Sequence[Mapping[str, Any]]) -> None:
        """Remove files that could not be recorded: nobody would know of them. What hinders that must not hide why."""
        with suppress(Exception):
            there = _read(self._fs, f"{_folder(self._root, self.interval)}/progress.json")
            recorded = {file["staged"] for file in there["files"]} if there else set()  # the storage may have lied
            for file in files:
                if file["staged"] not in recorded:
                    self._fs.rm_file(self._staged(file))

    def drop(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Forget recorded files that are not wanted any more.

        :param unwanted: tells which.
        """
        with self._lock:
            dropped = [file for file in self.files if unwanted(file)]
            self._state["files"] = [file for file in self.files if not unwanted(file)]
            if dropped:
                self._save()
        for file in dropped:
            self._remove(self._staged(file))

    def publish(
        self,
        facts: Mapping[str, Any],
        guard: ShrinkGuard | None = None,
        *,
        rows_before: int | None = None,
        beside: Beside | None = None,
    ) -> dict[str, Any]:
        """Give the recorded files their names, in place of those that the interval had.

        New files first, then the manifest, then the old files go. Where the guard refuses, the old ones stay, and
        everything that is unfinished goes: the next try is to read anew.

        :param facts: what else the manifest says, as JSON.
        :param guard: compares the rows with those that the interval had, where both were counted.
        :param rows_before: what to compare them with where the interval had no files yet: a snapshot's, with those of
            the snapshot before it.
        :param beside: what else is done before the manifest is written.
        :returns: the manifest.
        :raises PostHogIncompleteError: if a recorded file is gone, or too few rows would take the place of others.
        :raises PostHogError: if another run has taken over the interval.
        """
        if not self.publishing:
            before = manifests.read(self._fs, self._root, self.interval) or {"files": [], "rows": rows_before}
            after = self._manifest(facts)
            if guard is not None:  # rows that were set aside are not missing in PostHog
                aside = after.get("rejected")
                self._check(guard, before.get("rows"), after["rows"] + aside if aside else after["rows"])
            self._state["old"] = [file["path"] for file in before["files"]]
            self._state["manifest"] = after
            self._save()
        manifest: dict[str, Any] = self._state["manifest"]
        self._fs.invalidate_cache()  # what was listed before
        manifest = {**manifest, **self._put(beside or Beside())}
        part = f"{_folder(self._root, self.interval)}/manifest.{self._state['writer']}.part"
        manifests.write(self._fs, self._root, self.interval, manifest, part=part)
        self._clean_up()
        return manifest

    def _put(self, beside: Beside) -> dict[str, Any]:
        """Give the files their names, or bring their rows into a table; return what the manifest says of that."""
        beside.write()
        if beside.commit is not None:
            mark = f"{self.interval.stem} {self._state['generation']}"
            return {"files": [], "table": dict(beside.commit([self._staged(file) for file in self.files], mark))}
        for file in self.files:
            self._settle(file)
        return {}

    def give_up(self) -> None:
        """Remove everything that is unfinished, unless another run has taken over the interval.

        :raises PostHogError: if one has: then nothing of it is ours any more.
        """
        self._save()
        self.discard()

    def discard(self) -> None:
        """Remove everything that is unfinished, and what a killed :meth:`publish` has left."""
        current = manifests.read(self._fs, self._root, self.interval)
        wanted = {file["path"] for file in current["files"]} if current else set()
        for file in self.files:
            if file["path"] not in wanted:
                self._remove(f"{self._root}/{file['path']}")
        self._clean_up()

    def _check(self, guard: ShrinkGuard, before: object, after: object) -> None:
        if not isinstance(before, int) or not isinstance(after, int):  # of files that nobody could count
            return
        try:
            guard.check(f"{self._root}: {self.interval}", before, after)
        except PostHogIncompleteError:
            self.give_up()
            raise

    def _manifest(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        files = [{name: value for name, value in file.items() if name not in ("staged", "tag")} for file in self.files]
        counts = [file["rows"] for file in files]
        return {
            "version": manifests.VERSION,
            "name": self.interval.name,
            "interval": self.interval.as_json(),
            "rows": None if None in counts else sum(counts),
            **facts,
            "bytes": sum(file["bytes"] for file in files),
            "generation": self._state["generation"],
            "files": files,
        }

    def _settle(self, file: Mapping[str, Any]) -> None:
        source, target = self._staged(file), f"{self._root}/{file['path']}"
        if self._fs.exists(source):
            self._move(source, target)
        elif not self._fs.exists(target) or self._fs.size(target) != file["bytes"]:
            raise PostHogIncompleteError(
                f"{file['path']} ({file['bytes']:,} bytes) was written by an earlier try and is gone. Clear the task, "
                "so that it begins anew."
            )

    def _move(self, source: str, target: str) -> None:
        for last in (*[False] * TRIES, True):
            if not is_flat(self._fs):
                make_folder(self._fs, target.rpartition("/")[0])
            try:
                return move(self._fs, source, target)
            except FileNotFoundError:  # a task of another interval has just found the folder empty, and removed it
                if last or not self._fs.exists(source):
                    raise

    def _clean_up(self) -> None:
        """Remove the interval's old files and all that is staged, what tells of them last."""
        current = manifests.read(self._fs, self._root, self.interval)
        wanted = {file["path"] for file in current["files"]} if current else set()
        for path in set(self._state.get("old", ())) - wanted:
            self._remove(f"{self._root}/{path}")
        folder = _folder(self._root, self.interval)
        self._fs.invalidate_cache(folder)
        with suppress(FileNotFoundError):
            for path in self._fs.ls(folder, detail=False):
                if not path.endswith("/progress.json"):
                    self._remove(path)
        self._remove(f"{folder}/progress.json")

    def _take_over(self) -> None:
        self._state["writer"] = uuid.uuid4().hex[:8]
        self._write()

    def _save(self) -> None:
        there = _read(self._fs, f"{_folder(self._root, self.interval)}/progress.json")
        if there is None or there["writer"] != self._state["writer"]:
            raise PostHogError(
                f"Another run writes {self.interval.stem} too, and has taken over. Let one task at a time write an "
                "interval into a folder."
            )
        self._write()

    def _write(self) -> None:
        path = f"{_folder(self._root, self.interval)}/progress.json"
        with AtomicFile(self._fs, path, token=self._state["writer"]) as atomic:
            atomic.write(json.dumps(self._state).encode())
            atomic.finish()
            atomic.commit()

    def _staged(self, file: Mapping[str, Any]) -> str:
        return f"{_folder(self._root, self.interval)}/{file['staged']}"

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(path)
        self._remove_folder(path.rpartition("/")[0])

    def _remove_folder(self, path: str) -> None:
        """Remove a folder that became empty, and those around it, but never the one that the user named."""
        with suppress(OSError):  # it has other files
            # The folder of everything that is unfinished stays: tasks of other intervals may be about to use it.
            while not is_flat(self._fs) and len(path) > len(self._root) and not path.endswith(f"/{FOLDER}"):
                self._fs.rmdir(path)
                path = path.rpartition("/")[0]


def _folder(root: str, interval: Interval) -> str:
    return f"{root}/{FOLDER}/{interval.stem}"


def _read(fs: FileSystem, path: str) -> dict[str, Any] | None:
    """Read what was recorded; ``None`` if there is nothing, or nothing of ours.

    :raises PostHogError: if another version of the provider has recorded it: it may have moved files already, which
        only that version can finish or take away.
    """
    fs.invalidate_cache(path.rpartition("/")[0])
    try:
        with fs.open(path, "rb") as file:
            content: dict[str, Any] = json.loads(file.read())
        missing = _STATE - set(content)
        version = content["version"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        version, missing = _VERSION, _STATE
    if version != _VERSION:
        raise PostHogError(
            f"{path} was written by another version of the provider, in the middle of its work. Run that version once "
            "more, or remove this file's folder."
        )
    if missing:
        log.warning("%s cannot be read, so that nothing of an earlier try is taken up", path)
        return None
    return content
