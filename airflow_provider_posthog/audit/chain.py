"""The trail of one request: records in object storage, each of which names the hash of the one before.

Object storage cannot append, so each record is an object of its own, written whole under a name that holds its hash:
``<audit_path>/<request id>/000003-accepted-0123456789abcdef.json``. Nothing is ever changed or deleted, so the folder
may be write-once. A kill between two records leaves a shorter trail, which the retry continues. Two tasks that write at
the same moment both follow the same record; the next one follows both of them (as in git), so no lock is needed.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_posthog.audit.facts import read_time, tell, utc_text
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import (
    KINDS,
    LEDGER,
    MAX_PERSONS,
    SCHEMA_VERSION,
    AuditError,
    AuditRecord,
    CommonFacts,
    Facts,
    Kind,
    Outcome,
    PersonFacts,
    Who,
    canonical,
    has_seal,
    is_record_name,
    make_record,
    parse_record,
)
from airflow_provider_posthog.audit.signing import KEY_VARIABLE, Signer
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.storage.atomic_file import AtomicFile, FileSystem, is_flat

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AuditFileSystem(FileSystem, Protocol):
    """The part of fsspec's ``AbstractFileSystem`` that is used here."""

    def ls(self, path: str, detail: bool) -> Any:  # noqa: ANN401 - names, as detail is false
        """List a folder."""

    def cat_file(self, path: str) -> bytes:
        """Return a file's bytes."""

    def pipe_file(self, path: str, value: bytes) -> None:
        """Write a file."""


@dataclass(frozen=True)
class _Link:
    """What an append needs of an existing record: not its facts, which may be large."""

    sequence: int
    name: str
    hash: str
    previous: tuple[str, ...]
    kind: str
    key: str
    facts: str

    @classmethod
    def of(cls, record: AuditRecord) -> _Link:
        return cls(
            record.sequence,
            record.name,
            record.hash,
            record.previous,
            record.kind,
            record.key,
            hashlib.sha256(canonical(record.facts)).hexdigest(),
        )


class AuditTrail:
    """Writes the records of one request. The constructor reads and writes nothing.

    Several tasks, and tries of a task, write to one trail; each makes its own ``AuditTrail`` with the same
    ``request_id``. Record what you are about to do before you do it, and what came of it after.

    :param fs_path: the folder of all certificates (the operators' ``audit_path``), as the file system spells it.
    :param fs: the file system: fsspec's, such as ``ObjectStoragePath(...).fs``.
    :param request_id: the request's id, the same in all of its tasks; it may hold no e-mail address and no key.
    :param who: the task that writes.
    :param pseudonyms: made with the connection's salt. It is the same until the request is closed: with another one
        nobody would be found again, and no salt would fit all records.
    :param signer: signs the records, too; the same until the request is closed.
    :param now: the time.
    :raises PostHogSettingsError: if the request's id cannot be used.
    """

    def __init__(
        self,
        fs_path: str,
        fs: AuditFileSystem,
        request_id: str,
        who: Who,
        pseudonyms: Pseudonyms,
        *,
        signer: Signer | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.request_id = request_id
        self.folder = f"{fs_path.rstrip('/')}/{request_folder(request_id)}"
        self.who = who
        self.pseudonyms = pseudonyms
        self.signer = signer
        self._fs = fs
        self._now = now
        self._links: dict[str, _Link] = {}

    def append(
        self,
        kind: Kind,
        *,
        key: str = "",
        server_at: datetime | str | None = None,
        **facts: Unpack[Facts],
    ) -> AuditRecord:
        """Write a record, unless the newest one of this kind and key is equal: so a retry writes nothing twice.

        :param kind: ``requested``, ``dry_run``, ``accepted``, ``state_changed``, ``verified``, ``failed``, ``residue``
            or ``note``.
        :param key: distinguishes records of one kind, such as ``chunk-7``; no personal data.
        :param server_at: the time by PostHog's clock.
        :param facts: the facts; identifiers as pairs of kind and value, of which only HMACs are written.
        :returns: the record, also if it was there before.
        :raises PostHogSettingsError: for facts that cannot stand in a record; nothing is written then.
        :raises AuditError: if the trail is closed, or one of its records is damaged.
        """
        _check_kind(kind)
        return self._append(kind, key, server_at, tell(facts, self.pseudonyms))

    def append_persons(
        self,
        kind: Kind,
        persons: Iterable[PersonFacts],
        *,
        key: str = "",
        server_at: datetime | str | None = None,
        **facts: Unpack[CommonFacts],
    ) -> int:
        """Write the facts of any number of persons, 1000 to a record and in memory.

        The records' keys are ``<key>part-1``, ``<key>part-2`` and so on; each has the other facts as well, the first
        one only has the identifiers.

        :param kind: as in :meth:`append`.
        :param persons: the persons, in the same order in each try.
        :param key: begins the records' keys.
        :param server_at: the time by PostHog's clock.
        :param facts: as in :meth:`append`.
        :returns: how many persons there were.
        :raises PostHogSettingsError: as :meth:`append`.
        :raises AuditError: as :meth:`append`.
        """
        _check_kind(kind)
        rest = iter(persons)
        count = 0
        for number in itertools.count(1):
            batch = list(itertools.islice(rest, MAX_PERSONS))
            if not batch and number > 1:
                break
            payload = tell({**facts, "persons": batch, "part": number}, self.pseudonyms)
            self._append(kind, f"{key}part-{number}", server_at, payload)
            count += len(batch)
            facts.pop("identifiers", None)
            facts.pop("not_found", None)
        return count

    def close(
        self,
        outcome: Outcome,
        *,
        states: Mapping[str, int],
        server_at: datetime | str | None = None,
        **facts: Unpack[CommonFacts],
    ) -> AuditRecord:
        """Write the closing record, which says how it ended and how many records there are. Nothing may follow it.

        :param outcome: ``VERIFIED`` (each person is proved to be gone), ``NOT_VERIFIED``, ``DRY_RUN``, or
            ``EXPORTED`` (a copy of a person's data was made, and nothing was to be erased).
        :param states: how many persons ended in which state.
        :param server_at: the time by PostHog's clock.
        :param facts: as in :meth:`append`.
        :raises PostHogSettingsError: if it says ``VERIFIED`` although the states do not.
        :raises AuditError: if it is closed already, with another outcome or other facts.
        """
        if outcome == "VERIFIED" and (not any(states.values()) or any(states[s] for s in states if s != "VERIFIED")):
            raise PostHogSettingsError(
                "outcome",
                f"is VERIFIED, which does not go with the states {dict(states)}.",
                "Close it as NOT_VERIFIED.",
            )
        payload = tell({**facts, "outcome": outcome, "states": states}, self.pseudonyms)
        return self._append("closed", "", server_at, payload)

    def check_origin(self) -> None:
        """Refuse to continue a trail that was begun with another salt or key, before anything else is done.

        :raises PostHogSettingsError: if it was.
        :raises AuditError: if its first record is damaged or forged.
        """
        for name in record_names(self.folder, self._fs)[:1]:
            self._check_origin(_read(self._fs, self.folder, name))

    def records(self) -> Iterator[AuditRecord]:
        """Yield the existing records, in their order.

        :raises AuditError: if one is damaged.
        """
        return read_trail(self.folder, self._fs)

    def find(self, kind: Kind, key: str = "") -> AuditRecord | None:
        """Return the newest record of a kind and key; ``None`` if there is none.

        :param kind: its kind.
        :param key: its key.
        :raises AuditError: if a record is damaged.
        """
        self._look()
        link = self._newest(kind, key)
        return _read(self._fs, self.folder, link.name) if link else None

    @property
    def is_closed(self) -> bool:
        """Whether the closing record is there."""
        self._look()
        return self._newest("closed", "") is not None

    def _append(self, kind: str, key: str, server_at: datetime | str | None, facts: dict[str, Any]) -> AuditRecord:
        self._look()
        closing = self._newest("closed", "")
        if kind == "closed":
            facts["records"] = 1 + sum(link.kind != "closed" for link in self._links.values())
        same = self._newest(kind, key)
        if same and same.facts == hashlib.sha256(canonical(facts)).hexdigest():
            return _read(self._fs, self.folder, same.name)
        if closing:
            raise AuditError(
                f"The certificate of request {self.request_id} is closed and says something else than this task: "
                f"{kind}. Nothing was written. Start a new request, whose certificate stands beside this one."
            )
        fields = self._fields(kind, key, read_time("server_at", server_at), facts)
        record = make_record(fields, self.pseudonyms, self.signer)
        write_record(self._fs, self.folder, record)
        self._links[record.name] = _Link.of(record)
        return record

    def _fields(self, kind: str, key: str, server_at: str | None, facts: dict[str, Any]) -> dict[str, Any]:
        followed = {digest for link in self._links.values() for digest in link.previous}
        heads = [link for link in self._links.values() if link.hash not in followed]
        return {
            "schema_version": SCHEMA_VERSION,
            "request_id": self.request_id,
            "sequence": 1 + max((link.sequence for link in heads), default=0),
            "kind": kind,
            "key": self._key(key),
            "at": utc_text(self._now()),
            "server_at": server_at,
            "who": self.who.as_json(),
            "salt_id": self.pseudonyms.salt_id,
            "facts": facts,
            "previous": tuple(sorted(link.hash for link in heads)),
        }

    def _newest(self, kind: str, key: str) -> _Link | None:
        links = [link for link in self._links.values() if (link.kind, link.key) == (kind, self._key(key))]
        return max(links, key=lambda link: (link.sequence, link.name), default=None)

    def _key(self, key: str) -> str:
        return self.pseudonyms.without_uuids(clean(key))

    def _look(self) -> None:
        """Read the records that were written since the last reading, by any task."""
        names = record_names(self.folder, self._fs)
        gone = set(self._links).difference(names)
        if gone:
            raise AuditError(f"{self.folder}/{min(gone)} has disappeared: the certificate is incomplete.")
        for name in names:
            if name not in self._links:
                record = _read(self._fs, self.folder, name)
                self._check_origin(record)
                self._links[name] = _Link.of(record)

    def _check_origin(self, record: AuditRecord) -> None:
        """Refuse to write after a record with another salt or key, or after a forged one."""
        began = f"the certificate of request {self.request_id} was begun with"
        back = "Write the former one back until the request is closed; new requests may have a new one."
        if record.salt_id != self.pseudonyms.salt_id:
            raise PostHogSettingsError("audit_secret", f"is not the one that {began} (salt_id {record.salt_id}).", back)
        if not has_seal(record, self.pseudonyms):
            raise AuditError(f"{self.folder}/{record.name} was not sealed with the connection's salt: it was forged.")
        key_id = self.signer.key_id if self.signer else None
        if record.key_id != key_id:
            with_what = f"(key_id {record.key_id})" if record.key_id else "(none)"
            raise PostHogSettingsError(KEY_VARIABLE, f"is not the key that {began} {with_what}.", back)


def write_record(fs: AuditFileSystem, folder: str, record: AuditRecord) -> None:
    """Write a record as an object of its own, whole or not at all.

    :param fs: the file system.
    :param folder: the folder.
    :param record: the record.
    """
    path = f"{folder}/{record.name}"
    if is_flat(fs):
        # Object storage has an object whole or not at all, and may be write-once: nothing could be moved there.
        fs.pipe_file(path, record.as_bytes())
        fs.invalidate_cache(folder)
        return
    with AtomicFile(fs, path, token=secrets.token_hex(4)) as atomic:
        atomic.write(record.as_bytes())
        atomic.finish()
        atomic.commit()


def read_trail(folder: str, fs: AuditFileSystem) -> Iterator[AuditRecord]:
    """Yield the records of a request in their order, one at a time; each has its hash and its name.

    Whether the trail is whole says :func:`airflow_provider_posthog.audit.verify.verify`.

    :param folder: the request's folder (:attr:`AuditTrail.folder`), as the file system spells it.
    :param fs: the file system.
    :raises AuditError: for a record that is damaged.
    """
    for name in record_names(folder, fs):
        yield _read(fs, folder, name)


def record_names(folder: str, fs: AuditFileSystem) -> list[str]:
    """Return the names of the records in a folder, in their order; none if there is no such folder.

    :param folder: the folder.
    :param fs: the file system.
    """
    return [name for name in file_names(folder, fs) if is_record_name(name)]


def file_names(folder: str, fs: AuditFileSystem) -> list[str]:
    """Return the names of all that is in a folder, sorted; none if there is no such folder.

    :param folder: the folder.
    :param fs: the file system.
    """
    fs.invalidate_cache(folder)
    try:
        paths = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    return sorted(str(path).rstrip("/").rpartition("/")[2] for path in paths)


def request_folder(request_id: str) -> str:
    """Return the name of a request's folder: its id, with other characters than letters, digits, . - and _ replaced.

    :param request_id: the id.
    :raises PostHogSettingsError: if it is empty or holds an e-mail address or a key.
    """
    if not request_id.strip() or clean(request_id) != request_id:
        raise PostHogSettingsError(
            "request_id",
            "is empty, too long, or holds an e-mail address or a key (it is not shown).",
            "Write what the request is called where it was made, such as DSR-42.",
        )
    name = re.sub(r"[^A-Za-z0-9._-]", "_", request_id)[:120].lstrip(".")
    if name == request_id != LEDGER:
        return name
    return f"{name}-{hashlib.sha256(request_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS or kind == "closed":
        raise PostHogSettingsError("kind", "is not a kind of record.", f"Write one of {', '.join(KINDS[:-1])}.")


def _read(fs: AuditFileSystem, folder: str, name: str) -> AuditRecord:
    try:
        record = parse_record(fs.cat_file(f"{folder}/{name}"))
    except AuditError as error:
        raise AuditError(f"{folder}/{name} {error}.") from None
    if record.name != name:
        raise AuditError(f"{folder}/{name} has another record's name: it should be {record.name}.")
    return record
