"""Find the certificates that name an identifier, in any of its spellings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_posthog.audit.chain import AuditFileSystem, read_trail
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms

#: The kinds that are tried by default; a ticket is stored as plain text.
KINDS = ("email", "distinct_id", "uuid")


def wanted(kind: str, value: str, salts: Iterable[Pseudonyms]) -> dict[str, set[str]]:
    """Return the HMACs of an identifier, by the ``salt_id`` of the records that may hold them.

    An e-mail address is found whatever its case, and also where it is a distinct id; a distinct id as it is written.

    :param kind: ``email``, ``distinct_id``, ``uuid``, another word, or ``any``.
    :param value: the identifier.
    :param salts: one for each salt that was in use.
    """
    kinds = KINDS if kind == "any" else ("email", "distinct_id") if kind == "email" else (kind,)
    spellings = dict.fromkeys([value, value.strip()])
    return {
        pseudonyms.salt_id: {pseudonyms.of(kind, text)["hmac"] for kind in kinds for text in spellings}
        for pseudonyms in salts
    }


def names(fs: AuditFileSystem, folder: str, kind: str, value: str, salts: Iterable[Pseudonyms]) -> bool:
    """Return whether a certificate names an identifier or a ticket.

    :param fs: the file system.
    :param folder: the certificate's folder.
    :param kind: ``ticket``, or as in :func:`wanted`.
    :param value: what to find.
    :param salts: one for each salt that was in use.
    """
    text = value.strip()
    if not text:
        return False
    hmacs = {} if kind == "ticket" else wanted(kind, value, salts)
    for record in read_trail(folder, fs):
        if kind in ("ticket", "any") and text in (record.who.get("ticket"), record.request_id):
            return True
        if hmacs.get(record.salt_id, set()) & set(_hmacs_in(record.facts)):
            return True
    return False


def _hmacs_in(facts: Any) -> Iterable[str]:  # noqa: ANN401 - JSON
    """Yield every HMAC in a record's facts."""
    if isinstance(facts, dict):
        for name, value in facts.items():
            if name in ("hmac", "person") and isinstance(value, str):
                yield value
            else:
                yield from _hmacs_in(value)
    elif isinstance(facts, list):
        for fact in facts:
            yield from _hmacs_in(fact)
