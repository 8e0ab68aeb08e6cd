"""Extract what a certificate says of one person, to hand out: nothing of others, and only for a proved erasure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_posthog.audit.chain import AuditFileSystem, read_trail
from airflow_provider_posthog.audit.claims import claim
from airflow_provider_posthog.audit.finding import wanted
from airflow_provider_posthog.audit.pseudonyms import SHORT
from airflow_provider_posthog.audit.records import AuditError, AuditRecord
from airflow_provider_posthog.audit.timeline import text
from airflow_provider_posthog.audit.verify import Keys, Verdict, verify_folder


@dataclass(frozen=True)
class Extract:
    """What a certificate says of one person.

    :param facts: JSON: ``request_id``, ``ticket``, ``host``, ``project_id``, ``person`` (the HMAC of the UUID),
        ``state`` (``VERIFIED``), ``verified_at``, ``claim`` (a sentence), ``left_on_purpose``, ``hidden`` (events that
        PostHog hides by its retention), ``before`` (counts), ``cannot_erase`` (how many of each), ``records`` (name and
        hash of each that names the person), ``closing_hash`` (null while others are not proved), ``checked``.
    """

    facts: Mapping[str, Any]

    def page(self) -> str:
        """Return it as a page in HTML."""
        facts = self.facts
        before = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts["before"].items())
        rows = [
            ("Request", facts["request_id"]),
            ("Ticket", facts["ticket"] or "none"),
            ("PostHog", f"{facts['host']}, project {facts['project_id']}"),
            ("Person", f"{facts['person'][:SHORT]} (HMAC of PostHog's UUID)"),
            ("Proved at", facts["verified_at"]),
            ("There was before", before or "not told"),
            (
                "PostHog cannot erase",
                ", ".join(f"{n}: {v}" for n, v in facts["cannot_erase"].items()) or "not looked for",
            ),
            ("Records", ", ".join(record["hash"][:16] for record in facts["records"])),
            ("Closing record", facts["closing_hash"] or "none yet: others of the request are not proved"),
            ("Checked by", facts["checked"]),
        ]
        body = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in rows)
        left = "".join(f"<p>Left on purpose: {text(clause)}.</p>" for clause in facts["left_on_purpose"])
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>Extract of a certificate</title>'
            "<style>body{font:15px system-ui,sans-serif;max-width:760px;margin:24px auto}th{text-align:left;"
            "vertical-align:top;padding-right:12px}</style></head><body><h1>Extract of a certificate of erasure</h1>"
            f"{left}<p>{text(facts['claim'])}</p><p>{text(facts['hidden'])}</p><table>{body}</table></body></html>\n"
        )


def extract(folder: str, fs: AuditFileSystem, kind: str, value: str, keys: Keys) -> Extract:
    """Return what a certificate says of one person.

    :param folder: the request's folder.
    :param fs: the file system.
    :param kind: ``uuid``, ``distinct_id``, ``email``, ``any``; or ``person``, the HMAC or its first 16 digits, as the
        page lists it.
    :param value: the identifier.
    :param keys: what the origin is checked with.
    :raises AuditError: if the certificate is damaged, its origin cannot be checked, it does not name the person by this
        identifier, or the person is not ``VERIFIED``.
    """
    verdict = verify_folder(folder, fs, pseudonyms=keys.salts, public_keys=keys.public)
    if verdict.state == "damaged" or not verdict.origin_checked:
        raise AuditError(f"{folder} is damaged, or its origin was not checked: there is no extract of it.")
    persons = _persons(folder, fs, kind, value, keys)
    if len(persons) != 1:
        raise AuditError(
            f"{folder} names {len(persons)} persons by this identifier, and an extract is of one. Take the UUID or a "
            "distinct id: an address that was asked for does not say whose it was. Or use --kind person."
        )
    (person,) = persons
    state = verdict.story.states.get(person) or "not told"
    if state != "VERIFIED" or person in verdict.story.survivors:
        raise AuditError(f"The person is in the state {state}: there is no extract before the erasure is proved.")
    return Extract(_facts(verdict, person, [record for record in read_trail(folder, fs) if person in _named(record)]))


def _persons(folder: str, fs: AuditFileSystem, kind: str, value: str, keys: Keys) -> set[str]:
    """Return the persons that an identifier leads to; for a single person, also the requested identifiers."""
    by_salt = {} if kind == "person" else wanted(kind, value, keys.salts)
    everybody: set[str] = set()
    persons: set[str] = set()
    asked = False
    for record in read_trail(folder, fs):
        hmacs = by_salt.get(record.salt_id, set())
        for name, facts in _named(record).items():
            everybody.add(name)
            own = {name, *(identifier["hmac"] for identifier in facts.get("identifiers", ()))}
            short = kind == "person" and len(value.strip()) >= SHORT and name.startswith(value.strip().lower())
            if short or own & hmacs:
                persons.add(name)
        asked = asked or bool(hmacs & {identifier["hmac"] for identifier in record.facts.get("identifiers", ())})
    return everybody if not persons and asked and len(everybody) == 1 else persons


def _named(record: AuditRecord) -> dict[str, Mapping[str, Any]]:
    return {person["person"]: person for person in record.facts.get("persons", ())}


def _facts(verdict: Verdict, person: str, records: list[AuditRecord]) -> dict[str, Any]:
    story = verdict.story
    named = [(record, _named(record)[person]) for record in records]
    proof = next(record for record, facts in reversed(named) if facts.get("state") == "VERIFIED")
    server = story.last("server") or {}
    # Of the sums over all persons only which of them were counted.
    after = story.last("after") or {}
    retention = story.last("retention") or {}
    listed = story.last("cannot_erase") or {}
    return {
        "request_id": verdict.request_id,
        "ticket": proof.who.get("ticket"),
        "host": server.get("host"),
        "project_id": server.get("project_id"),
        "person": person,
        "state": "VERIFIED",
        "verified_at": proof.server_at or proof.at,
        "claim": claim(1, after, story.options),
        "left_on_purpose": story.left,
        "hidden": hidden_events(retention),
        "before": next((facts["before"] for _, facts in named if "before" in facts), {}),
        "cannot_erase": {
            name: "not looked at" if items is None else len(items)
            for name, items in listed.items()
            if name != "not_looked_at"
        },
        "records": [{"name": record.name, "hash": record.hash} for record in records],
        "closing_hash": story.closing.hash if story.closing else None,
        "checked": " and ".join(
            name for name, was in (("seals", verdict.sealed), ("signatures", verdict.signed)) if was
        ),
    }


def hidden_events(retention: Mapping[str, Any]) -> str:
    """Return which events could not be counted, if PostHog hid some; empty otherwise.

    :param retention: as it stands in a record.
    """
    if retention.get("events_retention_enforced") is not True or not retention.get("floor"):
        return ""
    return (
        f"Events older than {retention['floor']} are hidden by PostHog (retention of "
        f"{retention.get('event_retention_months')} months) and were not looked at."
    )
