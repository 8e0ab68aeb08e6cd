"""One record of a certificate: its fields, how it is written, and what makes it unforgeable.

A record is one line of canonical JSON. :data:`SCHEMA_VERSION` says which fields there are; docs/erasure-audit.md
lists them. Texts are cleaned of e-mail addresses and keys, identifiers stand there as HMACs only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from airflow_provider_posthog.audit.deadline import DeadlineFacts
from airflow_provider_posthog.audit.pseudonyms import Pseudonym, Pseudonyms
from airflow_provider_posthog.audit.signing import PublicKey, Signer
from airflow_provider_posthog.exceptions import PostHogError, clean

SCHEMA_VERSION = 1

Kind = Literal[
    "requested", "dry_run", "accepted", "state_changed", "verified", "failed", "residue", "exported", "note", "closed"
]
KINDS: tuple[Kind, ...] = (
    "requested",
    "dry_run",
    "accepted",
    "state_changed",
    "verified",
    "failed",
    "residue",
    "exported",
    "note",
    "closed",
)
#: What happened to a request, in the ledger of all of them.
LedgerKind = Literal["begun", "extended", "ended"]
LEDGER_KINDS: tuple[LedgerKind, ...] = ("begun", "extended", "ended")
#: The ledger's folder beside those of the requests, and the ``request_id`` of its entries.
LEDGER = "_ledger"
#: How a request ended, as its closing record says.
Outcome = Literal["VERIFIED", "NOT_VERIFIED", "DRY_RUN", "EXPORTED"]
OUTCOMES: tuple[Outcome, ...] = ("VERIFIED", "NOT_VERIFIED", "DRY_RUN", "EXPORTED")

#: The most persons in one record, as in one of PostHog's deletions; more go into several records.
MAX_PERSONS = 1000

_SIGNED = b"record\0"
_OVER_THE_BODY = ("seal", "signature", "hash")
_NAME = re.compile(r"(\d{6,})-([a-z_]+)-([0-9a-f]{16})\.json")


class AuditError(PostHogError):
    """A certificate is altered, incomplete, unreadable, or already closed."""


class Counts(TypedDict, total=False):
    """What PostHog counted: whole numbers, and ``newest_event`` as the day in UTC (``2026-11-01``) or null.

    ``others`` are distinct ids that nobody asked for: they were merged into the same persons, and went along.
    """

    events: int
    newest_event: str | None
    future_events: int
    later_events: int
    recordings: int
    profiles: int
    distinct_ids: int
    others: int


class PersonFacts(TypedDict, total=False):
    """The facts of one person: always who it is, the others if known.

    ``uuid`` is the person's when it is appended. The record has ``person`` in its place, the HMAC of it: PostHog makes
    UUIDs out of distinct ids, so that a UUID gives away every distinct id that can be guessed.
    ``state`` is that of the verification (``VERIFIED``, ``SURVIVORS``, ...). ``survivors`` are events still readable.
    ``deletion_status`` is what PostHog says, which is no proof. ``identifiers`` are pairs of kind and value when they
    are appended, and pseudonyms in the record.
    """

    uuid: str
    person: str
    state: str
    before: Counts
    after: Counts
    survivors: int
    identifiers: Sequence[Pseudonym | tuple[str, str]]
    deletion_status: str | None
    note: str


class Server(TypedDict, total=False):
    """The PostHog server: ``generation`` is A, B or C, by how it deletes persons."""

    host: str
    project_id: int | None
    generation: str | None


class Retention(TypedDict, total=False):
    """How long PostHog showed events then: events older than ``floor`` were not read if that is enforced.

    Each is null where PostHog does not tell it, or the key may not read it. ``floor`` is ISO text in UTC.
    """

    event_retention_months: int | None
    events_retention_enforced: bool | None
    floor: str | None


class CannotErase(TypedDict, total=False):
    """What a deletion in PostHog does not reach; ``audit.residue`` looks for it.

    The last five are recipients: who may hold the data, too.
    Each list is null where it was not looked at; ``not_looked_at`` says why, as ``missing scope export:read``.
    ``tables`` are PostHog's tables that its deletion of a person leaves alone, each with its name (``table``) and how
    many rows of these persons it has (``rows``).
    """

    exports: list[dict[str, Any]] | None
    batch_exports: list[dict[str, Any]] | None
    static_cohorts: list[dict[str, Any]] | None
    group_types: list[dict[str, Any]] | None
    tables: list[dict[str, Any]] | None
    hog_functions: list[dict[str, Any]] | None
    subscriptions: list[dict[str, Any]] | None
    warehouse_sources: list[dict[str, Any]] | None
    elt_destinations: list[dict[str, Any]] | None
    managed_warehouse: list[dict[str, Any]] | None
    not_looked_at: dict[str, str]


class CommonFacts(TypedDict, total=False):
    """The common facts of a record; all are optional.

    ``identifiers`` are what was asked for, ``not_found`` those that match no person (both pairs of kind and value when
    appended, pseudonyms in the record). ``before`` and ``after`` are sums over all persons. ``calls`` counts the calls
    by endpoint (``persons.bulk_delete``). ``options`` are those of the request. ``deadline`` says until when it has to
    be answered. ``error`` is the name of a class and its message. ``reason`` and ``decision`` say why a request was
    extended, or ended without proof, and who decided what.
    """

    identifiers: Sequence[Pseudonym | tuple[str, str]]
    not_found: Sequence[Pseudonym | tuple[str, str]]
    before: Counts
    after: Counts
    server: Server
    retention: Retention
    options: Mapping[str, bool | int | str | None]
    calls: Mapping[str, int]
    deadline: DeadlineFacts
    cannot_erase: CannotErase
    error: str
    reason: str
    decision: str
    notes: Sequence[str]


class Facts(CommonFacts, total=False):
    """The facts of a record: the common ones, and those about persons.

    ``persons`` are 1000 at the most, and ``part`` numbers the records of a larger request. ``states`` counts persons by
    state. ``outcome`` and ``records``, the number of all records, stand in the closing record. ``request`` and
    ``head``, the hash of the request's first or closing record, stand in the entries of the ledger.
    """

    persons: Sequence[PersonFacts]
    part: int
    states: Mapping[str, int]
    outcome: Outcome
    records: int
    request: str
    head: str


@dataclass(frozen=True)
class Who:
    """Which task writes the record, and for which ticket.

    :param dag_id: the DAG.
    :param run_id: its run.
    :param task_id: the task.
    :param try_number: the task's try, from 1.
    :param map_index: the index of a mapped task; -1 for others.
    :param ticket: the request's own reference, such as ``DSR-42``; no name and no e-mail address.
    """

    dag_id: str
    run_id: str
    task_id: str
    try_number: int = 1
    map_index: int = -1
    ticket: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in a record."""
        return {name: clean(value) if isinstance(value, str) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class AuditRecord:
    """One record, as it is stored.

    :param schema_version: which fields there are.
    :param request_id: the request that it is about.
    :param sequence: 1 for the first; otherwise 1 more than the highest of those that it follows.
    :param kind: what happened.
    :param key: tells records of one kind apart, such as ``chunk-7``; empty where there is one.
    :param at: when it was written, by the worker's clock: ISO text in UTC.
    :param server_at: the time by PostHog's clock, where it was asked for.
    :param who: the task (:class:`Who`).
    :param salt_id: which salt made the pseudonyms and the seal.
    :param key_id: which pair of keys made the signature; ``None`` where nothing is signed.
    :param facts: what is to be told (:class:`Facts`).
    :param previous: the hashes of the records that it follows: one; none for the first; two or more after two tasks
        wrote at the same moment.
    :param seal: HMAC of all fields above, which needs the salt.
    :param signature: Ed25519 signature of the same, which needs the private key; ``None`` where nothing is signed.
    :param hash: SHA-256 of all fields above, as canonical JSON.
    """

    schema_version: int
    request_id: str
    sequence: int
    kind: str
    key: str
    at: str
    server_at: str | None
    who: dict[str, Any]
    salt_id: str
    key_id: str | None
    facts: dict[str, Any]
    previous: tuple[str, ...]
    seal: str
    signature: str | None
    hash: str

    @property
    def name(self) -> str:
        """The name of its file, such as ``000001-requested-0123456789abcdef.json``."""
        return f"{self.sequence:06d}-{self.kind}-{self.hash[:16]}.json"

    def as_bytes(self) -> bytes:
        """Return the record as it is stored: one line of canonical JSON."""
        return canonical(vars(self)) + b"\n"


def canonical(value: object) -> bytes:
    """Write JSON so that equal values are equal bytes: sorted keys, no blanks, ASCII, whole numbers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def make_record(fields: Mapping[str, Any], pseudonyms: Pseudonyms, signer: Signer | None = None) -> AuditRecord:
    """Seal, sign and hash a record.

    :param fields: all of its fields but ``key_id``, ``seal``, ``signature`` and ``hash``.
    :param pseudonyms: makes the seal.
    :param signer: makes the signature.
    """
    payload = {**fields, "key_id": signer.key_id if signer else None}
    body = canonical(payload)
    sealed = {
        **payload,
        "seal": pseudonyms.seal(body),
        "signature": signer.sign(_SIGNED + body) if signer else None,
    }
    return AuditRecord(**sealed, hash=hash_of(sealed))


def hash_of(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record's fields without ``hash``, as canonical JSON.

    :param fields: the fields.
    """
    return hashlib.sha256(canonical({name: value for name, value in fields.items() if name != "hash"})).hexdigest()


def has_seal(record: AuditRecord, pseudonyms: Pseudonyms) -> bool:
    """Return whether a record was sealed with the salt.

    :param record: the record.
    :param pseudonyms: holds the salt.
    """
    return hmac.compare_digest(pseudonyms.seal(_body(record)), record.seal)


def has_signature(record: AuditRecord, key: PublicKey) -> bool:
    """Return whether a record was signed with the private key of a public one.

    :param record: the record.
    :param key: the public key.
    """
    return record.signature is not None and key.has_signed(_SIGNED + _body(record), record.signature)


def _body(record: AuditRecord) -> bytes:
    """Return the sealed and signed part: all but the seal, the signature and the hash."""
    return canonical({name: value for name, value in vars(record).items() if name not in _OVER_THE_BODY})


def parse_record(raw: bytes) -> AuditRecord:
    """Read a record and check its form, its version and its hash.

    :param raw: its line, with the newline.
    :raises AuditError: with what is wrong: not JSON, not written canonically, other fields, another version, or
        contents that do not have the hash.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise AuditError("is not JSON: it is cut, or was altered") from None
    if not isinstance(fields, dict):
        raise AuditError("is not a record")
    if fields.get("schema_version") != SCHEMA_VERSION:
        raise AuditError("is of a schema version that this release cannot read, or was altered")
    if set(fields) != set(AuditRecord.__dataclass_fields__):
        raise AuditError("has other fields than a record: it was altered")
    _check_shape(fields)
    try:
        same = canonical(fields) + b"\n" == raw
    except (ValueError, RecursionError):  # 1e999 is read as infinity
        same = False
    if not same:
        raise AuditError("is not written as records are: it was altered")
    if hash_of(fields) != fields["hash"]:
        raise AuditError("does not have its hash: it was altered")
    return AuditRecord(**{**fields, "previous": tuple(fields["previous"])})


def _check_shape(fields: Mapping[str, Any]) -> None:
    texts = all(
        isinstance(fields[name], str) for name in ("request_id", "kind", "key", "at", "salt_id", "seal", "hash")
    )
    numbered = type(fields["sequence"]) is int and fields["sequence"] > 0
    objects = isinstance(fields["who"], dict) and isinstance(fields["facts"], dict)
    previous = fields["previous"]
    linked = isinstance(previous, list) and all(isinstance(digest, str) for digest in previous)
    signed = [fields[name] for name in ("key_id", "signature")]
    signatures = signed == [None, None] or all(isinstance(text, str) for text in signed)
    if not (texts and numbered and objects and linked and signatures and fields["kind"] in (*KINDS, *LEDGER_KINDS)):
        raise AuditError("has a field of another type than a record's: it was altered")


def is_record_name(name: str) -> bool:
    """Return whether a file's name is that of a record.

    :param name: the name, without a folder.
    """
    return _NAME.fullmatch(name) is not None


def hidden(identifiers: Iterable[Pseudonym | tuple[str, str]], pseudonyms: Pseudonyms) -> list[Pseudonym]:
    """Return pseudonyms of identifiers, sorted, each once.

    :param identifiers: pairs of kind and value, or pseudonyms.
    :param pseudonyms: makes them.
    """
    by_value: dict[tuple[str, str], Pseudonym] = {}
    for identifier in identifiers:
        if isinstance(identifier, Mapping):
            stand_in: Pseudonym = {"kind": identifier["kind"], "hmac": identifier["hmac"]}
        else:
            stand_in = pseudonyms.of(identifier[0], identifier[1])
        by_value[(stand_in["kind"], stand_in["hmac"])] = stand_in
    return [by_value[pair] for pair in sorted(by_value)]
