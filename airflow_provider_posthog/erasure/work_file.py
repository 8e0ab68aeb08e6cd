"""The file between the tasks of an erasure: who is to be erased, with all that cannot be looked up afterwards.

Once a profile is gone, its distinct ids cannot be looked up any more. So they are stored before, in object storage and
nowhere else: tasks pass only the path and person UUIDs. The file holds personal data and is removed when the
erasure is proved. It is JSON lines in ASCII: a header, then a line for each person.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage.atomic_file import AtomicFile, FileSystem
from airflow_provider_posthog.storage.owners import make_private

VERSION = 2
_TOKEN = 12
#: Names longer than this are cut in those of part files.
_CUT = 197
_PART = re.compile(rf"\.(.+)\.[0-9a-z]{{1,{_TOKEN}}}\.part", re.DOTALL)


class WorkFileSystem(FileSystem, Protocol):
    """What is used of fsspec's ``AbstractFileSystem`` here."""

    def ls(self, path: str, detail: bool) -> Any:  # noqa: ANN401 - names, as detail is false
        """List a folder."""


@dataclass(frozen=True)
class Person:
    """A person to be erased.

    :param uuid: the person's; for events without a profile the one that they carry.
    :param distinct_ids: all that are known; none, where the file may hold no personal data.
    :param profile: whether there was a profile; without one PostHog cannot be asked to delete anything.
    :param events: how many there were when the file was written.
    :param newest_event: the newest one's time, as ISO text; ``None`` without events.
    :param future_events: how many were dated later than that moment: PostHog's deletion leaves them.
    :param recordings: how many session recordings there were.
    :param others: how many distinct ids belong to the same person without having been asked for.
    :param oldest_event: the oldest one's time, as ISO text; ``None`` without events.
    """

    uuid: str
    distinct_ids: tuple[str, ...] = field(default=(), repr=False)
    profile: bool = True
    events: int = 0
    newest_event: str | None = None
    future_events: int = 0
    recordings: int = 0
    others: int = 0
    oldest_event: str | None = None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Person:
        """Read a line of the file.

        :param line: the line's JSON.
        """
        known = {name: line[name] for name in cls.__dataclass_fields__ if name in line}
        return cls(**{**known, "distinct_ids": tuple(known.get("distinct_ids") or ())})


@dataclass(frozen=True)
class Header:
    """What the file is about.

    :param request_id: tells this erasure from every other.
    :param resolved_at: when it was looked up who it is about, by the server's time: ISO text.
    :param generation: of the server, as far as it was known then.
    :param asked: stands for what was asked for, so that a retry for the same can use the file.
    :param host: the PostHog that was asked: its base URL.
    :param project_id: the number of its project, as text.
    :param verify_by: ``distinct_id``, or ``uuid`` for a file without distinct ids.
    """

    request_id: str
    resolved_at: str
    generation: str
    asked: str
    host: str
    project_id: str
    verify_by: str = "distinct_id"


@dataclass
class Totals:
    """Sums over the persons of a file; numbers only."""

    persons: int = 0
    profiles: int = 0
    personless: int = 0
    distinct_ids: int = 0
    others: int = 0
    events: int = 0
    future_events: int = 0
    recordings: int = 0
    newest_event: str | None = None

    def add(self, person: Person) -> None:
        """Add a person.

        :param person: the person.
        """
        self.persons += 1
        self.profiles += person.profile
        self.personless += not person.profile
        self.distinct_ids += len(person.distinct_ids)
        self.others += person.others
        self.events += person.events
        self.future_events += person.future_events
        self.recordings += person.recordings
        if person.newest_event and (self.newest_event is None or person.newest_event > self.newest_event):
            self.newest_event = person.newest_event

    def as_json(self) -> dict[str, Any]:
        """Return them as JSON."""
        return asdict(self)


@dataclass
class WorkFile:
    """Reads the file.

    :param fs: the file system.
    :param path: the file, as the file system spells it.
    """

    fs: WorkFileSystem
    path: str
    _header: Header | None = field(default=None, repr=False)

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self.fs.exists(self.path)

    def header(self) -> Header:
        """Return what it is about.

        :raises PostHogSettingsError: if it is not there, or no such file.
        """
        if self._header is None:
            try:
                with self.fs.open(self.path, "rb") as lines:
                    self._header = self._read_header(next(iter(lines), b""))
            except FileNotFoundError:
                raise PostHogSettingsError(
                    "work_path",
                    f"is {self.path}, where there is no file.",
                    "It is removed once the erasure is proved; otherwise run PostHogResolvePersonsOperator again.",
                ) from None
        return self._header

    def _read_header(self, line: bytes) -> Header:
        try:
            content = json.loads(line)
            if content["version"] != VERSION:
                raise ValueError("another version")
            return Header(**{name: str(content[name]) for name in Header.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            raise PostHogSettingsError(
                "work_path",
                f"is {self.path}, which was not written by PostHogResolvePersonsOperator.",
                "Write what that task returned, or a path where no file is; resolve again after an update.",
            ) from None

    def persons(self) -> Iterator[Person]:
        """Yield the persons in their order; one is in memory at a time.

        :raises PostHogSettingsError: if it is damaged, or another request's by now: nobody of that may be deleted.
        """
        known = self.header()
        with self.fs.open(self.path, "rb") as lines:
            if self._read_header(next(iter(lines), b"")).request_id != known.request_id:
                raise PostHogSettingsError(
                    "work_path", f"is {self.path}, now written for another request.", "Write a path for each request."
                )
            for line in lines:
                try:
                    person = Person.of(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    raise PostHogSettingsError(
                        "work_path", f"is {self.path}, which is damaged.", "Resolve again."
                    ) from None
                yield person

    def totals(self) -> Totals:
        """Sum up the persons."""
        totals = Totals()
        for person in self.persons():
            totals.add(person)
        return totals

    def remove(self) -> None:
        """Remove it, and what killed tries have left of it; nothing happens if it is gone already."""
        for path in [self.path, *self.parts()]:
            if self.fs.exists(path):
                self.fs.rm_file(path)

    def parts(self) -> list[str]:
        """Return the part files that killed tries have left; they hold identifiers, too."""
        folder, _, name = self.path.rpartition("/")
        return [path for path in parts_in(self.fs, folder) if is_part_of(path, name)]


class WorkFileWriter:
    """Writes the file; it appears only when it is whole.

    :param fs: the file system.
    :param path: the file, as the file system spells it.
    :param header: what it is about.
    """

    def __init__(self, fs: WorkFileSystem, path: str, header: Header) -> None:
        # The same for each try of a task: it overwrites what a killed one has left.
        self._atomic = AtomicFile(fs, path, token=header.asked[:_TOKEN])
        self._fs = fs
        self._path = path
        self._header = header
        self.totals = Totals()

    def __enter__(self) -> WorkFileWriter:
        if not self._fs.isdir(self._path):
            make_private(self._fs, self._atomic.part)
        self._atomic.__enter__()
        self._write({"version": VERSION, **asdict(self._header)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the part file, unless it was committed."""
        self._atomic.__exit__(kind, error, trace)

    def add(self, persons: Iterable[Person]) -> None:
        """Write persons.

        :param persons: the persons.
        """
        for person in persons:
            self.totals.add(person)
            line = asdict(person)
            if self._header.verify_by == "uuid":
                line["distinct_ids"] = []
            self._write(line)

    def commit(self) -> None:
        """Give the file its name."""
        self._atomic.finish()
        self._atomic.commit()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._atomic.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def parts_in(fs: WorkFileSystem, folder: str) -> list[str]:
    """Return the part files of work files in a folder; none if there is no such folder.

    :param fs: the file system.
    :param folder: the folder, as the file system spells it.
    """
    fs.invalidate_cache(folder or None)
    try:
        paths = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    return [str(path) for path in paths if _PART.fullmatch(str(path).rpartition("/")[2])]


def is_part_of(path: str, name: str) -> bool:
    """Return whether a part file is that of a work file.

    :param path: the part file.
    :param name: the work file's name, without its folder.
    """
    match = _PART.fullmatch(path.rpartition("/")[2])
    return match is not None and name.startswith(match[1]) and (match[1] == name or len(match[1].encode()) >= _CUT)


def digest_of(value: object) -> str:
    """Return a digest that identifies a value without revealing it.

    :param value: JSON.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
