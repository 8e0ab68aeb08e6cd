"""Check certificates: is each record unaltered, is none missing, and what do they say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from airflow_provider_posthog.audit.chain import AuditFileSystem, file_names
from airflow_provider_posthog.audit.claims import left_on_purpose
from airflow_provider_posthog.audit.folders import is_folder_of, stands_for_a_request
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import (
    AuditError,
    AuditRecord,
    has_seal,
    has_signature,
    is_record_name,
    parse_record,
)
from airflow_provider_posthog.audit.signing import PublicKey


@dataclass(frozen=True)
class Problem:
    """A problem of a certificate.

    :param record: the record's name, or ``line 3`` of a file of records; empty for the certificate as a whole.
    :param text: what is wrong.
    """

    record: str
    text: str

    def __str__(self) -> str:
        return f"{self.record}: {self.text}" if self.record else self.text


@dataclass
class Story:
    """What the records of a request say together; the last word on each person counts.

    :param states: the last state of each person, by the HMAC of the uuid; empty where none was recorded.
    :param survivors: events of a person that were still readable, by the same, where there were any.
    :param options: those of the request.
    :param records: every record without its persons and identifiers, for the time line.
    """

    states: dict[str, str] = field(default_factory=dict)
    survivors: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    records: list[AuditRecord] = field(default_factory=list)
    identifiers: int = 0
    not_found: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def take(self, record: AuditRecord) -> None:
        """Add a record.

        :param record: the next one.
        """
        facts = record.facts
        light = {name: value for name, value in facts.items() if name not in ("persons", "identifiers", "not_found")}
        light["person_count"] = len(facts.get("persons", ()))
        for person in facts.get("persons", ()):
            self._take_person(person)
        for name, value in facts.get("options", {}).items():
            # What one try has left counts, whatever the next ones say: PostHog was asked once.
            if name not in self.options or left_on_purpose({name: value}):
                self.options[name] = value
        self.identifiers += len(facts.get("identifiers", ()))
        self.not_found += len(facts.get("not_found", ()))
        self.calls.update(facts.get("calls", {}))
        self.records.append(AuditRecord(**{**vars(record), "facts": light}))

    def _take_person(self, person: Mapping[str, Any]) -> None:
        name = person["person"]
        self.states[name] = person.get("state", self.states.get(name, ""))
        if person.get("survivors"):
            self.survivors[name] = person["survivors"]
        elif "survivors" in person or person.get("state") == "VERIFIED":
            self.survivors.pop(name, None)

    @property
    def left(self) -> list[str]:
        """What was left on purpose, a clause for each; none for a whole erasure."""
        return left_on_purpose(self.options)

    @property
    def closing(self) -> AuditRecord | None:
        """The closing record."""
        return next((record for record in self.records if record.kind == "closed"), None)

    def last(self, name: str) -> Any:  # noqa: ANN401 - a fact
        """Return the last recorded value of a fact; ``None`` if there is none.

        :param name: a common fact, such as ``server``.
        """
        values = [record.facts[name] for record in self.records if name in record.facts]
        return values[-1] if values else None

    def first(self, name: str) -> Any:  # noqa: ANN401 - a fact
        """Return the first recorded value of a fact; ``None`` if there is none.

        :param name: a common fact, such as ``before``.
        """
        return next((record.facts[name] for record in self.records if name in record.facts), None)


@dataclass
class Verdict:
    """The result of checking one certificate.

    :param source: where it is.
    :param problems: what is wrong; any means that it is damaged.
    :param story: what it says.
    :param sealed: whether the seals were checked: with the salt, which forgers lack.
    :param signed: whether the signatures were checked: with the public key; forgers lack the private one.
    :param notes: what is worth a look and not wrong.
    """

    source: str
    problems: list[Problem] = field(default_factory=list)
    story: Story = field(default_factory=Story)
    sealed: bool = False
    signed: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        """Whether it is closed, and nothing is wrong with it; whoever wrote it, and whatever it says."""
        return self.state == "closed"

    @property
    def origin_checked(self) -> bool:
        """Whether somebody who lacks the salt, or the private key, cannot have written it."""
        return self.sealed or self.signed

    @property
    def state(self) -> Literal["open", "closed", "damaged"]:
        """``damaged``: altered, forged or incomplete; ``open``: not closed, or its last records are missing."""
        if self.problems:
            return "damaged"
        return "open" if self.story.closing is None else "closed"

    @property
    def request_id(self) -> str:
        """The request."""
        return self.story.records[0].request_id if self.story.records else ""

    @property
    def entered_as(self) -> str | None:
        """The hash of its first entry in the ledger, as it notes it; ``None`` if it notes none."""
        notes = (record for record in self.story.records if (record.kind, record.key) == ("note", "ledger"))
        head = next((record.facts.get("head") for record in notes), None)
        return head if isinstance(head, str) else None

    @property
    def doubts(self) -> list[str]:
        """Why it does not prove that each person was erased; none means that it does."""
        doubts = ["The certificate is altered or incomplete."] if self.problems else []
        if not self.origin_checked:
            doubts.append(
                "Its origin was not checked: without the salt or the public key anybody could have written it."
            )
        return doubts + self.shortcomings

    @property
    def shortcomings(self) -> list[str]:
        """Why what the records say does not amount to the erasure of each person."""
        doubts: list[str] = []
        closing = self.story.closing
        if closing is None:
            doubts.append("The request is not closed: it is still going on, or its last records are missing.")
        elif closing.facts.get("outcome") != "VERIFIED":
            doubts.append(f"The request was closed as {closing.facts.get('outcome')}.")
        counts = Counter(state or "not told" for state in self.story.states.values())
        counted = Counter((closing.facts.get("states") if closing else None) or {})
        known = sorted({*counts} - {"VERIFIED", "not told"})
        doubts += [f"{_are(counts[state])} in the state {state}." for state in known]
        if unknown := counts["not told"]:
            doubts.append(
                f"How it ended for {f'{unknown:,} persons' if unknown > 1 else '1 person'} is not in the records."
            )
        if not counts:
            doubts.append("No person is named.")
        elif closing is not None and +counted != counts:
            doubts.append("The closing record counts other states than the records before it tell.")
        if self.story.survivors:
            doubts.append(f"{sum(self.story.survivors.values()):,} events were still readable.")
        return doubts

    @property
    def proves_erasure(self) -> bool:
        """Whether it proves that each person was erased; never where its origin was not checked."""
        return not self.doubts


def _are(count: int) -> str:
    return "1 person is" if count == 1 else f"{count:,} persons are"


@dataclass(frozen=True)
class Keys:
    """What the origin of records is checked with; with nothing, it is not.

    :param salts: one for each salt that was in use; which one a record needs says its ``salt_id``.
    :param public: the public keys of those whose signatures count.
    """

    salts: tuple[Pseudonyms, ...] = ()
    public: tuple[PublicKey, ...] = ()

    def wrong(self, record: AuditRecord) -> Iterator[str]:
        """Yield why somebody else may have written a record.

        :param record: the record.
        """
        if self.salts:
            fitting = [salt for salt in self.salts if salt.salt_id == record.salt_id]
            if not fitting:
                yield f"its seal was made with another salt ({record.salt_id}): it was forged, or that salt is missing"
            elif not has_seal(record, fitting[0]):
                yield "its seal is wrong: it was forged"
        if self.public:
            signers = [key for key in self.public if key.key_id == record.key_id]
            if record.signature is None:
                yield "it is not signed: it was forged, or was written without the private key"
            elif not signers:
                yield f"it was signed with another key ({record.key_id}): it was forged, or that public key is missing"
            elif not has_signature(record, signers[0]):
                yield "its signature is wrong: it was forged"


#: One salt, or each that was in use.
Salts = Pseudonyms | Iterable[Pseudonyms] | None


def keys_of(pseudonyms: Salts = None, public_keys: Iterable[PublicKey] = ()) -> Keys:
    """Return what the origin of records is checked with.

    :param pseudonyms: made with the salt, or with each salt that was in use.
    :param public_keys: whose signatures count.
    """
    salts = (pseudonyms,) if isinstance(pseudonyms, Pseudonyms) else tuple(pseudonyms or ())
    return Keys(salts, tuple(public_keys))


def verify_folder(
    folder: str, fs: AuditFileSystem, *, pseudonyms: Salts = None, public_keys: Iterable[PublicKey] = ()
) -> Verdict:
    """Check the certificate in a folder.

    :param folder: the request's folder, as the file system spells it.
    :param fs: the file system.
    :param pseudonyms: made with the salt, to check the seals, too; or several, of which each record needs the one of
        its ``salt_id``.
    :param public_keys: to check the signatures.
    """
    names = file_names(folder, fs)
    strange = [name for name in names if not is_record_name(name) and not name.startswith(".")]
    raws = ((name, fs.cat_file(f"{folder}/{name}")) for name in names if is_record_name(name))
    verdict = verify(folder, raws, pseudonyms=pseudonyms, public_keys=public_keys)
    if verdict.request_id and not is_folder_of(folder, verdict.request_id):
        text = f"The folder is not called as that of request {verdict.request_id}, whose records it has"
        if stands_for_a_request(folder, fs):
            verdict.problems.append(Problem("", f"{text}: it was renamed, or stands in another one's place."))
        else:
            verdict.notes.append(f"{text}: make sure that this is the request you mean.")
    if strange:
        verdict.notes.append(f"{len(strange)} other files are in the folder, such as {strange[0]}.")
    return verdict


def verify_lines(
    path: str, fs: AuditFileSystem, *, pseudonyms: Salts = None, public_keys: Iterable[PublicKey] = ()
) -> Verdict:
    """Check the certificate in one file: its records, a line each, in the order of their names (``cat *.json``).

    :param path: the file, as the file system spells it.
    :param fs: the file system.
    :param pseudonyms: as in :func:`verify_folder`.
    :param public_keys: as in :func:`verify_folder`.
    """
    lines = fs.cat_file(path).splitlines(keepends=True)
    raws = ((f"line {number}", line) for number, line in enumerate(lines, 1))
    return verify(path, raws, pseudonyms=pseudonyms, public_keys=public_keys)


def verify(
    source: str,
    raws: Iterable[tuple[str, bytes]],
    *,
    pseudonyms: Salts = None,
    public_keys: Iterable[PublicKey] = (),
) -> Verdict:
    """Check the records of one certificate; each is read once, and its persons' states are kept, not its bytes.

    :param source: where it is.
    :param raws: the records as they are stored, in order, each with its file's name or ``line 3``.
    :param pseudonyms: as in :func:`verify_folder`.
    :param public_keys: as in :func:`verify_folder`.
    """
    keys = keys_of(pseudonyms, public_keys)
    verdict = Verdict(source, sealed=bool(keys.salts), signed=bool(keys.public))
    labels: list[str] = []
    for label, record in _readable(raws, verdict):
        labels.append(label)
        if is_record_name(label) and label != record.name:
            verdict.problems.append(Problem(label, f"is the record {record.name} under another name"))
        verdict.problems += [Problem(label, why) for why in keys.wrong(record)]
        try:
            verdict.story.take(record)
        except (AttributeError, KeyError, TypeError, ValueError):  # of a record that this package did not write
            verdict.problems.append(Problem(label, "has facts of another shape than a record's"))
            verdict.story.records.append(record)
    together = list(zip(labels, verdict.story.records, strict=True))
    verdict.problems += [*wrong_links(together), *_wrong_keys(together), *_wrong_end(labels, verdict.story.records)]
    if not keys.public and any(record.signature for record in verdict.story.records):
        verdict.notes.append("It is signed, and the signatures were not checked: no public key was given.")
    return verdict


def _readable(raws: Iterable[tuple[str, bytes]], verdict: Verdict) -> Iterator[tuple[str, AuditRecord]]:
    for label, raw in raws:
        try:
            yield label, parse_record(raw)
        except AuditError as error:
            verdict.problems.append(Problem(label, str(error)))


def wrong_links(records: list[tuple[str, AuditRecord]]) -> Iterator[Problem]:
    """Yield what is wrong with the order: each record names those that it follows, by their hashes.

    :param records: the records with their labels, in the order in which they are there.
    """
    sequences: dict[str, int] = {}
    for label, record in records:
        if record.hash in sequences:
            yield Problem(label, "is there twice")
            continue
        if record.request_id != records[0][1].request_id:
            yield Problem(label, f"belongs to another request: {record.request_id}")
        missing = [digest for digest in record.previous if digest not in sequences]
        if missing:
            yield Problem(label, f"follows a record that is missing, altered or out of order ({missing[0][:16]})")
        elif record.sequence != 1 + max((sequences[digest] for digest in record.previous), default=0):
            yield Problem(label, "does not have the number that follows")
        sequences[record.hash] = record.sequence
    for (_, before), (label, after) in pairwise(records):
        if before.name > after.name:
            yield Problem(label, "is out of order")


def _wrong_keys(records: list[tuple[str, AuditRecord]]) -> Iterator[Problem]:
    """Yield who was not written with the salt and the key of the first: nobody changes them on the way."""
    for label, record in records:
        if (record.salt_id, record.key_id) != (records[0][1].salt_id, records[0][1].key_id):
            yield Problem(label, "was made with another salt or key than the first record")


def _wrong_end(labels: list[str], records: list[AuditRecord]) -> Iterator[Problem]:
    """Yield what is wrong with the closing record, which must follow all others."""
    if not records:
        yield Problem("", "There is no record.")
        return
    closings = [(label, record) for label, record in zip(labels, records, strict=True) if record.kind == "closed"]
    if not closings:  # it is open
        return
    label, closing = closings[0]
    for other, second in closings[1:]:
        # Two tries that closed it at the same moment say the same; that is no damage.
        if (second.facts, second.previous) != (closing.facts, closing.previous):
            yield Problem(other, "is a second closing record, which says something else")
    reached = _reached(closing, records)
    for other, record in zip(labels, records, strict=True):
        if record.hash not in reached and record.kind != "closed":
            yield Problem(other, "is not covered by the closing record: it was written beside it, or after it")
    if closing.facts.get("records") != len(reached):
        yield Problem(label, f"counts {closing.facts.get('records')} records, but there are {len(reached)}")


def _reached(closing: AuditRecord, records: list[AuditRecord]) -> set[str]:
    previous: Mapping[str, tuple[str, ...]] = {record.hash: record.previous for record in records}
    reached: set[str] = set()
    rest = [closing.hash]
    while rest:
        digest = rest.pop()
        if digest in previous and digest not in reached:
            reached.add(digest)
            rest += previous[digest]
    return reached
