"""The ledger of all requests, so that a missing certificate is noticed.

``<audit_path>/_ledger`` has a record for each request that was begun, and one when it ended, chained as those of a
certificate are (:mod:`airflow_provider_posthog.audit.chain`): nothing is ever changed. The hash of the newest one, its
head, stands in the tasks' logs and XComs: whoever cuts the end off would have to change these, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from airflow_provider_posthog.audit.chain import AuditFileSystem, read_trail, record_names, write_record
from airflow_provider_posthog.audit.deadline import Deadline
from airflow_provider_posthog.audit.facts import tell, utc_text
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import (
    LEDGER,
    SCHEMA_VERSION,
    AuditError,
    AuditRecord,
    LedgerKind,
    Who,
    has_seal,
    make_record,
    parse_record,
)
from airflow_provider_posthog.audit.signing import Signer

#: How many of the newest entries are read before one is added: those that tasks wrote at the same moment.
_WINDOW = 32


class Ledger:
    """Adds to the ledger. The constructor reads and writes nothing.

    :param fs_path: the folder of all certificates, as the file system spells it.
    :param fs: the file system.
    :param who: the task that writes.
    :param pseudonyms: made with the connection's salt.
    :param signer: signs the entries, too.
    :param now: the time.
    """

    def __init__(
        self,
        fs_path: str,
        fs: AuditFileSystem,
        who: Who,
        pseudonyms: Pseudonyms,
        *,
        signer: Signer | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.folder = ledger_folder(fs_path)
        self._fs = fs
        self._who = who
        self._pseudonyms = pseudonyms
        self._signer = signer
        self._now = now

    def enter(self, kind: LedgerKind, request_id: str, **facts: Any) -> str:  # noqa: ANN401 - see Facts
        """Add an entry, unless one of the newest is equal; return the ledger's head, which is its hash.

        :param kind: ``begun``, ``extended`` or ``ended``.
        :param request_id: the request.
        :param facts: ``head`` (the hash of the first or of the closing record), ``deadline``, ``outcome``.
        :raises AuditError: if one of the newest entries is damaged or forged.
        """
        payload = tell({**facts, "request": request_id}, self._pseudonyms)
        newest = [self._read(name) for name in record_names(self.folder, self._fs)[-_WINDOW:]]
        same = next((entry for entry in newest if (entry.kind, entry.facts) == (kind, payload)), None)
        if same is not None:
            return same.hash
        followed = {digest for record in newest for digest in record.previous}
        heads = [record for record in newest if record.hash not in followed]
        fields = {
            "schema_version": SCHEMA_VERSION,
            "request_id": LEDGER,
            "sequence": 1 + max((record.sequence for record in heads), default=0),
            "kind": kind,
            "key": "",
            "at": utc_text(self._now()),
            "server_at": None,
            "who": self._who.as_json(),
            "salt_id": self._pseudonyms.salt_id,
            "facts": payload,
            "previous": tuple(sorted(record.hash for record in heads)),
        }
        record = make_record(fields, self._pseudonyms, self._signer)
        write_record(self._fs, self.folder, record)
        return record.hash

    def _read(self, name: str) -> AuditRecord:
        try:
            record = parse_record(self._fs.cat_file(f"{self.folder}/{name}"))
        except AuditError as error:
            raise AuditError(f"{self.folder}/{name} {error}.") from None
        if record.salt_id == self._pseudonyms.salt_id and not has_seal(record, self._pseudonyms):
            raise AuditError(f"{self.folder}/{name} was not sealed with the connection's salt: it was forged.")
        return record


@dataclass
class Listed:
    """A request in the ledger.

    :param request_id: the request.
    :param ticket: what it is called elsewhere.
    :param began_with: the hash of its certificate's first record.
    :param deadline: until when it has to be answered; ``None`` where that is not known.
    :param outcome: how it ended; ``None`` while it is open.
    :param closed_with: the hash of its closing record.
    """

    request_id: str
    ticket: str | None = None
    began_with: str | None = None
    deadline: Deadline | None = None
    outcome: str | None = None
    closed_with: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.closed_with is None

    def as_json(self, today: date) -> dict[str, Any]:
        """Return what a report or an XCom needs of an open request.

        :param today: the day, in UTC.
        """
        return {
            "request_id": self.request_id,
            "ticket": self.ticket,
            "due_at": self.deadline.due.isoformat() if self.deadline else None,
            "days_left": self.deadline.days_left(today) if self.deadline else None,
        }


def requests_of(records: Iterable[AuditRecord]) -> dict[str, Listed]:
    """Return what the ledger says of each request, by its id.

    :param records: its entries, in their order.
    """
    requests: dict[str, Listed] = {}
    for record in records:
        facts: Mapping[str, Any] = record.facts
        listed = requests.setdefault(str(facts.get("request")), Listed(str(facts.get("request"))))
        listed.ticket = record.who.get("ticket") or listed.ticket
        listed.deadline = Deadline.from_facts(facts.get("deadline")) or listed.deadline
        if record.kind == "begun":
            listed.began_with = listed.began_with or facts.get("head")
        if record.kind == "ended":
            listed.outcome, listed.closed_with = facts.get("outcome"), facts.get("head")
    return requests


def due(records: Iterable[AuditRecord], within: int, today: date) -> list[Listed]:
    """Return the open requests that are due soon or over; those without a known deadline come first.

    :param records: the ledger's entries.
    :param within: how many days before.
    :param today: the day, in UTC.
    """
    opened = [request for request in requests_of(records).values() if request.is_open]
    soon = [request for request in opened if request.deadline is None or request.deadline.days_left(today) <= within]
    return sorted(
        soon, key=lambda request: (request.deadline is not None, request.deadline.due if request.deadline else today)
    )


def read_ledger(fs_path: str, fs: AuditFileSystem, salts: Iterable[Pseudonyms] = ()) -> Iterator[AuditRecord]:
    """Yield the ledger's entries in their order; none if there is no ledger.

    :param fs_path: the folder of all certificates.
    :param fs: the file system.
    :param salts: of each entry the seal is checked whose salt is among them.
    :raises AuditError: for an entry that is damaged or forged.
    """
    by_id = {salt.salt_id: salt for salt in salts}
    for record in read_trail(ledger_folder(fs_path), fs):
        if record.salt_id in by_id and not has_seal(record, by_id[record.salt_id]):
            raise AuditError(f"{ledger_folder(fs_path)}/{record.name} was not sealed with the salt: it was forged.")
        yield record


def ledger_folder(fs_path: str) -> str:
    """Return the ledger's folder.

    :param fs_path: the folder of all certificates.
    """
    return f"{fs_path.rstrip('/')}/{LEDGER}"
