"""The list of erased persons, as HMACs: it reveals nobody, and a load can recognize their rows.

A folder with a file for each erasure, written once: a line of JSON, then an HMAC on each line, sorted, so that their
order tells nothing. They are those of the certificates, with the connection's ``audit_secret``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from airflow_provider_posthog.audit.chain import request_folder
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage.atomic_file import AtomicFile

Kind = Literal["distinct_id", "uuid"]
VERSION = 1
_END = ".suppressed"


class SuppressionList:
    """The list in a folder.

    :param fs: the file system.
    :param folder: the folder, as the file system spells it.
    :param pseudonyms: made with the connection's salt.
    """

    def __init__(self, fs: Any, folder: str, pseudonyms: Pseudonyms) -> None:  # noqa: ANN401
        self._fs = fs
        self._folder = folder.rstrip("/")
        self._pseudonyms = pseudonyms
        self._entries: set[bytes] = set()
        #: How many files were read.
        self.files = 0

    def add(self, request_id: str, identifiers: Iterable[tuple[Kind, str]]) -> int:
        """Write the entries of one erasure, replacing those of an earlier try.

        :param request_id: of the erasure.
        :param identifiers: kinds and identifiers.
        :returns: how many entries there are.
        """
        entries = sorted({self._entry(kind, value).hex() for kind, value in identifiers})
        head = {"version": VERSION, "request_id": request_id, "salt_id": self._pseudonyms.salt_id}
        path = f"{self._folder}/{request_folder(request_id)}{_END}"
        with AtomicFile(self._fs, path, token="suppressed") as atomic:  # noqa: S106 - no password
            atomic.write(json.dumps({**head, "entries": len(entries)}).encode() + b"\n")
            for entry in entries:
                atomic.write(entry.encode() + b"\n")
            atomic.finish()
            atomic.commit()
        return len(entries)

    def load(self) -> SuppressionList:
        """Read the whole list.

        :raises PostHogSettingsError: if a file is damaged, or was written with another salt: nobody would be found.
        """
        self._fs.invalidate_cache()
        names = self._fs.find(self._folder, maxdepth=1) if self._fs.exists(self._folder) else []
        for path in sorted(names):
            if path.endswith(_END) and not path.rpartition("/")[2].startswith("."):
                self._read(path)
        return self

    def has(self, kind: Kind, value: str) -> bool:
        """Return whether a person is on the list.

        :param kind: of the identifier.
        :param value: the identifier.
        """
        return self._entry(kind, value) in self._entries

    def __len__(self) -> int:
        """How many entries were read."""
        return len(self._entries)

    def _read(self, path: str) -> None:
        with self._fs.open(path, "rb") as lines:
            try:
                head = json.loads(next(iter(lines), b""))
                known = head["version"] == VERSION and isinstance(head["entries"], int)
                digests = {bytes.fromhex(line.decode().strip()) for line in lines}
            except (ValueError, KeyError, TypeError):
                known = False
        if not known or len(digests) != head["entries"]:
            raise PostHogSettingsError("suppress_path", f"has {path}, which is damaged.", "Take it from a backup.")
        if head.get("salt_id") != self._pseudonyms.salt_id:
            raise PostHogSettingsError(
                "suppress_path",
                f"has {path}, written with another audit_secret: nobody on it would be found.",
                "Give this connection the salt of that time, or a folder of its own.",
            )
        self._entries |= digests
        self.files += 1

    def _entry(self, kind: Kind, value: str) -> bytes:
        text = value.lower() if kind == "uuid" else value
        return bytes.fromhex(self._pseudonyms.of(kind, text)["hmac"])
