"""Remove left-over files with identifiers: of tries that were killed, and of runs that were given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Protocol

from airflow_provider_posthog.erasure.access_folder import unfinished_in
from airflow_provider_posthog.erasure.progress import Progress
from airflow_provider_posthog.erasure.work_file import WorkFile, WorkFileSystem, parts_in
from airflow_provider_posthog.exceptions import PostHogSettingsError

#: A part file is written on within minutes; one so old is of a try that was killed.
PART_AGE = timedelta(days=1)


class SweepFileSystem(WorkFileSystem, Protocol):
    """What is used of fsspec's ``AbstractFileSystem`` here."""

    def modified(self, path: str) -> datetime:
        """Return when a file was written."""

    def find(self, path: str) -> Iterable[str]:
        """Return all files below a folder."""

    def rm(self, path: str, recursive: bool) -> None:
        """Remove a folder with all that is in it."""


class Swept:
    """The outcome of a sweep of a folder.

    :ivar counts: ``parts`` and ``work_files`` that were removed, ``kept`` (young), ``needed`` (their deletion has
        begun and is not proved), ``unknown`` (the storage does not tell their age).
    :ivar needed: the paths of those that are needed.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(parts=0, work_files=0, kept=0, needed=0, unknown=0)
        self.needed: list[str] = []


def sweep(fs: SweepFileSystem, folder: str, max_age: timedelta, now: datetime | None = None) -> Swept:
    """Remove work files that are too old, and what killed tries have left of work files and of exports of a person.

    A work file whose deletion has begun and is not proved is needed for the proof: it is named, and stays.

    :param fs: the file system.
    :param folder: the folder, as the file system spells it; not those in it.
    :param max_age: how old a work file may be.
    :param now: the time; by default this machine's.
    """
    swept, now = Swept(), now or datetime.now(timezone.utc)
    for path in parts_in(fs, folder):
        if _is_older(fs, path, min(PART_AGE, max_age), now, swept):
            fs.rm_file(path)
            swept.counts["parts"] += 1
    for path in unfinished_in(fs, folder):
        files = Swept()
        for file in fs.find(path):
            _is_older(fs, file, min(PART_AGE, max_age), now, files)
        if not +files.counts:
            fs.rm(path, recursive=True)
        swept.counts["kept" if files.counts["kept"] else "unknown" if +files.counts else "parts"] += 1
    for path in sorted(str(file) for file in fs.ls(folder, detail=False)):
        if fs.isfile(path) and _is_work_file(fs, path) and _is_older(fs, path, max_age, now, swept):
            _remove(WorkFile(fs, path), swept)
    return swept


def _remove(work: WorkFile, swept: Swept) -> None:
    progress = Progress(work.fs, f"{work.path}.progress", work.header().request_id)
    if progress.has_begun and progress.verified is None:
        swept.counts["needed"] += 1
        swept.needed.append(work.path)
        return
    progress.forget()
    work.remove()
    swept.counts["work_files"] += 1


def _is_work_file(fs: SweepFileSystem, path: str) -> bool:
    """Return whether a file is one of ours: nothing else in the folder is touched."""
    if path.endswith(".part"):
        return False
    try:
        WorkFile(fs, path).header()
    except PostHogSettingsError:
        return False
    return True


def _is_older(fs: SweepFileSystem, path: str, age: timedelta, now: datetime, swept: Swept) -> bool:
    try:
        at = fs.modified(path)
    except (NotImplementedError, FileNotFoundError, KeyError):
        swept.counts["unknown"] += 1
        return False
    is_older = now - (at if at.tzinfo else at.replace(tzinfo=timezone.utc)) >= age
    swept.counts["kept"] += not is_older
    return is_older
