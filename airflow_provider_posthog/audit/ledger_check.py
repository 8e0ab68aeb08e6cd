"""Check the ledger of all requests against the existing certificates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_posthog.audit.chain import AuditFileSystem, file_names, record_names, request_folder
from airflow_provider_posthog.audit.ledger import Listed, ledger_folder, requests_of
from airflow_provider_posthog.audit.records import (
    LEDGER,
    LEDGER_KINDS,
    AuditError,
    AuditRecord,
    is_record_name,
    parse_record,
)
from airflow_provider_posthog.audit.verify import Keys, Problem, wrong_links


@dataclass
class LedgerVerdict:
    """The result of checking a ledger.

    :param source: where it is.
    :param problems: what is wrong.
    :param origin_checked: whether somebody without the salt or the private key cannot have written it.
    :param entries: how many entries it has.
    :param requests: what it says of each request.
    :param heads: the hashes of its newest entries: one, or several after tasks wrote at the same moment.
    :param notes: what is worth checking, but not wrong.
    :param unended: requests whose certificate is closed, and of which the ledger does not have the end.
    """

    source: str
    problems: list[Problem] = field(default_factory=list)
    origin_checked: bool = False
    entries: int = 0
    requests: dict[str, Listed] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return it in a few lines of text."""
        state = "complete and unaltered" if self.origin_checked else "internally consistent; origin not checked"
        still = sum(listed.is_open for listed in self.requests.values())
        lines = [
            self.source,
            f"  ledger: {'ALTERED OR INCOMPLETE' if self.problems else state}; {self.entries} entries; "
            f"{len(self.requests)} {'request' if len(self.requests) == 1 else 'requests'}, {still} of them open",
            *(f"    - {problem}" for problem in self.problems),
            *(f"  head: {head}" for head in self.heads),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def verify_ledger(
    fs_path: str, fs: AuditFileSystem, keys: Keys, head: str | None = None, noted: Mapping[str, str] | None = None
) -> LedgerVerdict | None:
    """Check the ledger, and that each certificate that it names is there; ``None`` if there is no ledger.

    :param fs_path: the folder of all certificates.
    :param fs: the file system.
    :param keys: what the origin is checked with.
    :param head: a head that a task has logged or returned, which has to be in it.
    :param noted: the hashes of entries that certificates note, by request (:attr:`Verdict.entered_as`).
    """
    verdict = LedgerVerdict(ledger_folder(fs_path), origin_checked=bool(keys.salts or keys.public))
    records = list(_readable(verdict, fs, keys))
    if not records and not verdict.problems and head is None and not noted:
        return None
    verdict.entries, verdict.requests = len(records), requests_of(record for _, record in records)
    followed = {previous for _, record in records for previous in record.previous}
    verdict.heads = [record.hash for _, record in records if record.hash not in followed]
    verdict.problems += wrong_links(records)
    verdict.problems += _lost({record.hash for _, record in records}, head, noted or {})
    _compare(verdict, fs_path, fs)
    return verdict


def _lost(entries: set[str], head: str | None, noted: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the entries that somebody else knows of and that are missing."""
    if head is not None and head.strip().lower() not in entries:
        yield Problem("", f"The head {head[:16]} is not in it: its end was cut off, or it was replaced.")
    if lost := [request for request, entry in noted.items() if entry not in entries]:
        what = f"The entries of {len(lost)} certificates are not in it, such as of {lost[0]}"
        yield Problem("", f"{what}: it was cut off, replaced, or not copied with them.")


def _compare(verdict: LedgerVerdict, fs_path: str, fs: AuditFileSystem) -> None:
    """Compare it with the certificates that are there."""
    for listed in verdict.requests.values():
        names = record_names(f"{fs_path.rstrip('/')}/{request_folder(listed.request_id)}", fs)
        verdict.problems += _missing(names, listed)
        if listed.is_open and any("-closed-" in name for name in names):
            verdict.unended.append(listed.request_id)
    if verdict.unended:
        verdict.notes.append(
            f"{len(verdict.unended)} certificates are closed, such as {verdict.unended[0]}, and their end is not in "
            "the ledger: its last entries were cut off, or the task that closed them has not come so far."
        )
    known = {request_folder(name) for name in verdict.requests}
    others = [name for name in _certificates(fs_path, fs) if name not in known]
    if others:
        verdict.notes.append(f"{len(others)} certificates are not in the ledger, such as {others[0]}.")


def _readable(verdict: LedgerVerdict, fs: AuditFileSystem, keys: Keys) -> Iterator[tuple[str, AuditRecord]]:
    for name in record_names(verdict.source, fs):
        try:
            record = parse_record(fs.cat_file(f"{verdict.source}/{name}"))
        except AuditError as error:
            verdict.problems.append(Problem(name, str(error)))
            continue
        if record.name != name:
            verdict.problems.append(Problem(name, f"is the entry {record.name} under another name"))
        if record.request_id != LEDGER or record.kind not in LEDGER_KINDS:
            verdict.problems.append(Problem(name, "is not an entry of a ledger"))
        verdict.problems += [Problem(name, why) for why in keys.wrong(record)]
        yield name, record


def _missing(names: Sequence[str], listed: Listed) -> Iterator[Problem]:
    """Yield the records that the ledger knows and that are missing."""
    if not names:
        yield Problem("", f"The certificate of request {listed.request_id} is missing.")
        return
    for what, wanted in (("first", listed.began_with), ("closing", listed.closed_with)):
        if wanted and not any(name.removesuffix(".json").endswith(f"-{wanted[:16]}") for name in names):
            yield Problem("", f"The {what} record of request {listed.request_id} is missing, or was replaced.")


def _certificates(fs_path: str, fs: AuditFileSystem) -> list[str]:
    names = [name for name in file_names(fs_path, fs) if not name.startswith(".") and name != LEDGER]
    return [name for name in names if any(is_record_name(file) for file in file_names(f"{fs_path}/{name}", fs))]
