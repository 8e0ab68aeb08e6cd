"""The progress of a deletion, so that a killed task continues where it stopped and requests nobody twice.

Object storage cannot append: each chunk has two small objects in the folder ``<work_path>.progress``, one written
before PostHog is asked and one after it has answered. They hold numbers, and UUIDs of those who failed: they go with
the work file. They belong to one request: those of another, with the same path, are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_posthog.erasure.work_file import WorkFileSystem, digest_of
from airflow_provider_posthog.storage.atomic_file import AtomicFile
from airflow_provider_posthog.storage.owners import make_private


@dataclass
class Done:
    """The outcome of a chunk.

    :param asked_at: when it was first asked for, by the server's time: ISO text.
    :param accepted_at: when PostHog had answered all of it, by the server's time: ISO text.
    :param persons: how many persons it has.
    :param failed: the persons who could not be deleted, and why, by UUID.
    :param missing: the persons who were gone before the request.
    :param swallowed: the persons whose events had been requested before, so that PostHog queued nothing now.
    :param generation: of the server, as its answer showed it.
    """

    asked_at: str
    accepted_at: str
    persons: int
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    swallowed: list[str] = field(default_factory=list)
    generation: str = "B"


class Progress:
    """The folder of one request.

    :param fs: the file system.
    :param folder: the folder, as the file system spells it.
    :param request_id: of the request.
    """

    def __init__(self, fs: WorkFileSystem, folder: str, request_id: str) -> None:
        self._fs = fs
        self._folder = f"{folder}/{request_id[:16]}"
        self._names: set[str] | None = None

    def asked(self, key: str) -> str | None:
        """Return when an earlier try requested a chunk; ``None`` if it did not.

        :param key: from :func:`key_of`.
        """
        entry = self._read(f"{key}.asked")
        return None if entry is None else str(entry.get("asked_at", ""))

    def ask(self, key: str, asked_at: str) -> None:
        """Record that a chunk is about to be requested.

        :param key: from :func:`key_of`.
        :param asked_at: the server's time.
        """
        self._write(f"{key}.asked", {"asked_at": asked_at})

    def done(self, key: str) -> Done | None:
        """Return the outcome of a chunk; ``None`` if it is not done.

        :param key: from :func:`key_of`.
        """
        entry = self._read(f"{key}.done")
        return None if entry is None else Done(**entry)

    def finish(self, key: str, done: Done) -> None:
        """Record the outcome of a chunk.

        :param key: from :func:`key_of`.
        :param done: the outcome.
        """
        self._write(f"{key}.done", asdict(done))

    @property
    def size(self) -> int | None:
        """How many persons the server takes at once, if known."""
        entry = self._read("size")
        return None if entry is None else int(entry["size"])

    @size.setter
    def size(self, size: int) -> None:
        self._write("size", {"size": size})

    @property
    def has_begun(self) -> bool:
        """Whether an earlier try has requested anything."""
        return any(name.endswith(".asked.json") for name in self._known())

    @property
    def verified(self) -> dict[str, Any] | None:
        """The report that proved the erasure; ``None`` if it is not proved yet."""
        return self._read("verified")

    @verified.setter
    def verified(self, report: Mapping[str, Any]) -> None:
        self._write("verified", report)

    @property
    def looks(self) -> dict[str, Any] | None:
        """The state between two checks; ``None`` before the first."""
        return self._read("looks")

    @looks.setter
    def looks(self, looks: Mapping[str, Any]) -> None:
        self._write("looks", looks)

    @property
    def unverified(self) -> dict[str, str]:
        """The states of persons whose erasure is not proved, by UUID, as of the last complete check."""
        return dict((self._read("unverified") or {}).get("states") or {})

    @unverified.setter
    def unverified(self, states: Mapping[str, str]) -> None:
        self._write("unverified", {"states": dict(states)})

    def forget(self) -> None:
        """Remove what holds person UUIDs; the counts of the proof stay, for a task that is cleared later."""
        for name in sorted(self._listed() - {"verified.json", "size.json"}):  # also what killed tries have left
            self._fs.rm_file(f"{self._folder}/{name}")
        self._names = None

    def _known(self) -> set[str]:
        if self._names is None:
            self._names = {name for name in self._listed() if name.endswith(".json") and not name.startswith(".")}
        return self._names

    def _listed(self) -> set[str]:
        self._fs.invalidate_cache(self._folder)
        try:
            paths = self._fs.ls(self._folder, detail=False)
        except FileNotFoundError:
            paths = []
        return {str(path).rstrip("/").rpartition("/")[2] for path in paths}

    def _read(self, name: str) -> dict[str, Any] | None:
        if f"{name}.json" not in self._known():
            return None
        with self._fs.open(f"{self._folder}/{name}.json", "rb") as file:
            content: dict[str, Any] = json.loads(file.read())
        return content

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        # Whole or not at all, even if the worker dies in the middle.
        part = "progress"
        atomic = AtomicFile(self._fs, f"{self._folder}/{name}.json", token=part)
        make_private(self._fs, atomic.part)
        with atomic:
            atomic.write(json.dumps(value, separators=(",", ":")).encode())
            atomic.finish()
            atomic.commit()
        self._known().add(f"{name}.json")


def key_of(number: int, uuids: Sequence[str]) -> str:
    """Return the name of a chunk, from its position and its persons.

    :param number: the number of its first person.
    :param uuids: its persons.
    """
    return f"{number:08}-{digest_of(sorted(uuids))[:12]}"
