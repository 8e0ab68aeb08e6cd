"""Remove rows of persons from a folder of files: all files are read first, then those with such rows are replaced.

A file is replaced as a whole, then its manifest. The replacement is recorded before, without personal data, so that a
kill at any point leaves nothing incomplete, and the next try resumes with all counts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_posthog.erasure.files.file import Look, UnreadableError, Wanted, look, rewrite
from airflow_provider_posthog.erasure.files.journal import Journal, digest_of
from airflow_provider_posthog.erasure.files.manifests import FolderManifests
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError, clean
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.atomic_file import is_flat, move
from airflow_provider_posthog.storage.owners import is_link, make_private, own_like
from airflow_provider_posthog.storage.staged_file import StagedFile
from airflow_provider_posthog.storage.staging import FOLDER as UNFINISHED

_MAX_NAMED = 5
#: How often the folder is read again if others write to it.
_ROUNDS = 3


@dataclass
class Erased:
    """How many files and rows were read and removed; numbers only.

    :param files: how many files were read.
    :param rewritten: how many were rewritten.
    :param removed: how many were removed as a whole, as their folder's name identifies the person.
    :param rows: how many rows there were.
    :param by: how many rows were removed, by column.
    """

    files: int = 0
    rewritten: int = 0
    removed: int = 0
    rows: int = 0
    by: Counter[str] = field(default_factory=Counter)

    @property
    def deleted(self) -> int:
        """How many rows were removed."""
        return sum(self.by.values())

    def add(self, rows: int, by: Mapping[str, int] | None = None, *, whole: bool = False) -> None:
        """Add a file.

        :param rows: how many rows it had.
        :param by: how many of them were removed, by column; ``None`` if it was left unchanged.
        :param whole: whether the whole file was removed.
        """
        self.files += 1
        self.rows += rows
        if by is not None:
            self.by.update(by)
            self.removed += whole
            self.rewritten += not whole


class FolderErasure:
    """Erases persons' rows from the files in a folder, and proves by reading them that none is left.

    :param fs: the file system.
    :param root: the folder, without a slash at its end.
    :param wanted: whose rows are to go.
    :param request_id: of the erasure; its tries resume each other's work.
    :param name: only the files of this name, as one table's have; all by default.
    """

    def __init__(self, fs: Any, root: str, wanted: Sequence[Wanted], request_id: str, name: str | None = None) -> None:  # noqa: ANN401
        self._fs = fs
        self._root = root
        self._wanted = list(wanted)
        self._journal = Journal(fs, root, request_id, name, _asked(request_id, self._wanted))
        self._manifests = FolderManifests(fs, root, name)

    def run(self, before: Callable[[Erased], None] = lambda looks: None) -> Erased:
        """Erase.

        :param before: is called with what is about to be removed, before anything is changed.
        :returns: what was removed, in this try and in earlier ones.
        :raises PostHogIncompleteError: if a file cannot be read, has other rows than its manifest says, or others write
            into the folder. Files that were replaced by then stay so.
        """
        self._journal.begin()
        self._take_up()
        for _ in range(_ROUNDS):
            looks = self._look_at_all()
            if not looks:
                return self._sum()
            plan = self._sum()
            for _, seen in looks:
                plan.add(seen.rows, seen.by)
            before(plan)
            for path, seen in looks:
                self._erase(path, seen)
        raise PostHogIncompleteError(
            f"{self._root}: rows of these persons are written again while they are erased. Pause what writes to it."
        )

    def finish(self) -> None:
        """Remove the records for a next try."""
        self._journal.finish()

    # Looking.

    def _look_at_all(self) -> list[tuple[str, Look]]:
        """Read all files that are new or have changed; return those with rows to remove."""
        self._manifests.read()
        looks: list[tuple[str, Look]] = []
        troubles: list[str] = []
        for path in self._files(troubles):
            version = self._version(path)
            if self._journal.seen.get(digest_of(path), [None])[0] == version:
                continue
            try:
                seen = self._look(path)
            except UnreadableError as error:
                troubles.append(f"{_name(path)} {error}")
                continue
            if seen.hits:
                looks.append((path, seen))
            else:
                self._journal.saw(path, version, seen.rows)
        self._journal.save()
        if troubles:
            raise PostHogIncompleteError(self._troubled(troubles))
        return looks

    def _troubled(self, troubles: Sequence[str]) -> str:
        more = f"; and {len(troubles) - _MAX_NAMED} more" if len(troubles) > _MAX_NAMED else ""
        done = len(self._journal.entries())
        if not done:
            self._journal.finish()  # somebody has to act, and may ask for another name then
        return (
            f"{len(troubles)} files cannot be erased from: {'; '.join(troubles[:_MAX_NAMED])}{more}. "
            f"{f'{done} others were rewritten before.' if done else 'No file was changed.'} Repair them, move them "
            "away, or write name=... for one table of several."
        )

    def _look(self, path: str) -> Look:
        """Read a file; a value in its folder's name counts for all of its rows."""
        if is_link(self._fs, path):
            raise UnreadableError("is a link: erase in the folder of the file itself, and leave this one out")
        if not self._fs.size(path):
            return self._compared(path, Look())
        inside, column = self._split(path)
        if column is None and inside:
            return self._compared(path, look(self._fs, path, inside))
        seen = self._compared(path, look(self._fs, path, []))
        if column is not None:
            seen.by[column] = max(seen.rows, 1)  # the path of a file without rows names somebody, too
        return seen

    def _compared(self, path: str, seen: Look) -> Look:
        listed = self._manifests.rows(self._relative(path))
        if listed is not None and listed != seen.rows:
            raise UnreadableError(f"has {seen.rows:,} rows, and its manifest says {listed:,}")
        return seen

    def _split(self, path: str) -> tuple[list[Wanted], str | None]:
        """Return the columns that are in a file, and the one in its path by which the whole file is removed."""
        names = [criterion.column for criterion in self._wanted]
        partition = self._manifests.partition(self._relative(path), names)
        inside = [criterion for criterion in self._wanted if criterion.column not in partition]
        whole = [
            criterion.column
            for criterion in self._wanted
            if criterion.column in partition and criterion.has(partition[criterion.column])
        ]
        return inside, whole[0] if whole else None

    def _files(self, troubles: list[str]) -> Iterator[str]:
        """Yield the folder's data files. Unfinished ones are reported, as they may hold such rows."""
        unfinished = 0
        for path in self._list():
            top, _, rest = self._relative(path).partition("/")
            name = path.rpartition("/")[2]
            if top == UNFINISHED:
                unfinished += not rest.startswith("erasure-") and self._manifests.is_ours(rest.partition("/")[0])
            elif top == manifests.FOLDER or not self._manifests.is_ours(self._relative(path)):
                continue
            elif name.startswith(".") and f".{self._journal.token}.part" in name:
                self._fs.rm_file(path)  # half a file of an earlier try
            elif name.startswith(".") and name.endswith(".part"):
                unfinished += 1
            else:
                yield path
        if unfinished:
            troubles.append(f"{unfinished} unfinished files of other tasks")

    def _list(self) -> list[str]:
        self._fs.invalidate_cache()
        return sorted(path for path in self._fs.find(self._root) if path.startswith(f"{self._root}/"))

    def _relative(self, path: str) -> str:
        return path[len(self._root) + 1 :]

    def _version(self, path: str) -> str:
        return str(self._fs.ukey(path))

    # Erasing.

    def _erase(self, path: str, seen: Look) -> None:
        inside, column = self._split(path)
        if column is not None:
            entry = {"whole": True, "before": seen.rows, "rows": 0, "by": {column: seen.rows}}
            self._journal.note(path, entry)
            return self._remove(path, entry)
        left = seen.rows - seen.hits
        version = self._version(path)
        folder, _, name = path.rpartition("/")
        part = f"{folder}/.{name[:150]}.{self._journal.token}.part"
        make_private(self._fs, part)  # whatever the mode of new files is: it has the rows of others
        target = StagedFile(self._fs, part)
        try:
            rewrite(self._fs, path, inside, target)
            own_like(self._fs, part, path)
            entry = {"whole": False, "before": seen.rows, "rows": left, "by": dict(seen.by)}
            entry |= {"bytes": target.size, "sha256": target.sha256}
            self._journal.note(path, entry)
            if self._version(path) != version:
                raise PostHogIncompleteError(f"{_name(path)} was written by others meanwhile. Let the task retry.")
            move(self._fs, target.path, path)
        except BaseException:
            target.give_up()
            raise
        self._prove(path, inside, left)
        self._settle(path, entry)

    def _settle(self, path: str, entry: Mapping[str, Any]) -> None:
        self._manifests.update(self._relative(path), entry, f"{self._journal.folder}/manifest.part")
        self._journal.seen[digest_of(path)] = [self._version(path), entry["rows"]]

    def _remove(self, path: str, entry: Mapping[str, Any]) -> None:
        """Remove a file in a partition of one of these persons, and the folder, whose name identifies the person."""
        self._manifests.update(self._relative(path), entry, f"{self._journal.folder}/manifest.part")
        self._fs.rm_file(path)
        folder = path.rpartition("/")[0]
        with suppress(OSError):
            while not is_flat(self._fs) and len(folder) > len(self._root):
                self._fs.rmdir(folder)
                folder = folder.rpartition("/")[0]

    def _prove(self, path: str, inside: Sequence[Wanted], left: int) -> None:
        """Prove the new file by reading it in its final place."""
        after = look(self._fs, path, inside)
        if after.hits or after.rows != left:
            raise PostHogIncompleteError(
                f"{_name(path)} has {after.rows:,} rows after it was rewritten, {after.hits:,} of them of these "
                f"persons; expected were {left:,} and none. Let the task retry."
            )

    def _take_up(self) -> None:
        """Finish the file at which an earlier try was killed."""
        entries = self._journal.entries()
        if not entries:
            return
        self._manifests.read()
        for path in self._list():
            entry = entries.get(digest_of(path))
            if entry is None:
                continue
            if entry["whole"]:
                self._remove(path, entry)
            elif self._fs.size(path) == entry["bytes"] and self._sha256(path) == entry["sha256"]:
                self._settle(path, entry)
            else:  # it was not replaced, or somebody has written it since
                self._journal.forget(path)

    def _sum(self) -> Erased:
        done = Erased()
        entries = self._journal.entries()
        for entry in entries.values():
            done.add(entry["before"], entry["by"], whole=entry["whole"])
        for digest, (_, rows) in self._journal.seen.items():
            if digest not in entries:
                done.add(rows)
        return done

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._fs.open(path, "rb") as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
        return digest.hexdigest()


def check_root(fs: Any, root: str) -> None:  # noqa: ANN401
    """Refuse a path that is no folder, or is inside one with manifests, which would become wrong.

    :param fs: the file system.
    :param root: the folder.
    :raises PostHogSettingsError: naming ``path``.
    """
    fs.invalidate_cache()
    if not fs.isdir(root):
        raise PostHogSettingsError("path", "is not a folder.", "Write the folder that the files were written into.")
    around = root.rpartition("/")[0]
    while around.strip("/"):
        if fs.isdir(f"{around}/{manifests.FOLDER}"):
            raise PostHogSettingsError(
                "path", "is inside a folder with manifests.", "Write that folder, the one above _manifests."
            )
        around = around.rpartition("/")[0]


def _asked(request_id: str, wanted: Sequence[Wanted]) -> str:
    """Return a digest of whose rows to remove; the request's id, which no file has in full, keeps it secret."""
    digest = hashlib.sha256(request_id.encode())
    for criterion in wanted:
        for text in (criterion.column, *sorted(criterion.values)):
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


def _name(path: str) -> str:
    return clean(path.rpartition("/")[2])
