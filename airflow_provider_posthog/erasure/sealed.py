"""Encrypt what a later check of an erasure needs: distinct ids must not stay readable once the erasure is proved.

A line of JSON that names nobody, then lines of Fernet (``cryptography``, which Airflow brings), each with its
number, so that none can be left out, added or put elsewhere. The key comes from the connection's ``audit_secret``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.erasure.queries import batched
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage.atomic_file import AtomicFile

VERSION = 1
END = ".sealed"
_PERSONS = 500


@dataclass(frozen=True)
class Sealed:
    """One erasure, sealed.

    :param fs: the file system.
    :param path: the file.
    :param salt: the connection's ``audit_secret``.
    """

    fs: Any = field(repr=False)
    path: str
    salt: str = field(repr=False)

    def write(self, request: Mapping[str, Any], persons: Iterable[Person], due_at: datetime) -> int:
        """Write the file, replacing that of an earlier try.

        :param request: what the deletion returned, and which PostHog was asked.
        :param persons: everybody.
        :param due_at: when to look again.
        :returns: how many persons.
        """
        fernet = self._fernet()
        head = {"version": VERSION, "request_id": request["request_id"], "due_at": due_at.isoformat()}
        count = number = 0
        with AtomicFile(self.fs, self.path, token="sealed") as atomic:  # noqa: S106 - no password
            atomic.write(json.dumps(head).encode() + b"\n")

            def add(content: Mapping[str, Any]) -> None:
                atomic.write(fernet.encrypt(json.dumps({"n": number, **content}).encode()) + b"\n")

            add({"request": dict(request)})
            for number, batch in enumerate(batched(persons, _PERSONS), 1):  # noqa: B007 - add() reads it
                add({"persons": [asdict(person) for person in batch]})
                count += len(batch)
            number += 1
            add({"end": count})
            atomic.finish()
            atomic.commit()
        return count

    def head(self) -> tuple[str, datetime]:
        """Return the request's id, and when to look again.

        :raises PostHogSettingsError: if it is no such file.
        """
        with self.fs.open(self.path, "rb") as lines:
            try:
                first = json.loads(next(iter(lines), b""))
                due = moment(first["due_at"])
                if first["version"] != VERSION or due is None:
                    raise ValueError("another version")
                return str(first["request_id"]), due
            except (ValueError, KeyError, TypeError):
                raise self._damaged() from None

    def request(self) -> dict[str, Any]:
        """Return what the deletion returned.

        :raises PostHogSettingsError: if the file is damaged, or this is not its salt.
        """
        body: dict[str, Any] = next(self._lines()).get("request") or {}
        if body.get("request_id") != self.head()[0]:
            raise self._damaged()
        return body

    def persons(self) -> Iterator[Person]:
        """Yield the persons.

        :raises PostHogSettingsError: if the file is damaged, or this is not its salt.
        """
        count, end = 0, None
        for content in self._lines():
            for line in content.get("persons", ()):
                count += 1
                yield Person.of(line)
            end = content.get("end")
        if end != count:
            raise self._damaged()

    def remove(self) -> None:
        """Remove it."""
        self.fs.rm_file(self.path)

    def _lines(self) -> Iterator[dict[str, Any]]:
        from cryptography.fernet import InvalidToken

        fernet = self._fernet()
        with self.fs.open(self.path, "rb") as lines:
            next(iter(lines), b"")
            for number, line in enumerate(lines):
                try:
                    content = json.loads(fernet.decrypt(line.strip()))
                except (InvalidToken, ValueError):
                    raise self._damaged() from None
                if content.get("n") != number:
                    raise self._damaged()
                yield content

    def _fernet(self) -> Any:  # noqa: ANN401 - a Fernet
        from cryptography.fernet import Fernet

        key = hmac.new(self.salt.encode(), b"sealed erasure", hashlib.sha256).digest()
        return Fernet(base64.urlsafe_b64encode(key))

    def _damaged(self) -> PostHogSettingsError:
        return PostHogSettingsError(
            "sealed_path",
            f"is {self.path}, which is damaged, or was sealed with another audit_secret.",
            "Give this connection the secret of that time, or remove the file and record that nobody checked again.",
        )
