"""Certificates to look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.audit.chain import AuditTrail, read_trail
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import Who

SALT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PSEUDONYMS = Pseudonyms(SALT)
ANN = "01900000-0000-5000-8000-000000000001"
BEN = "01900000-0000-5000-8000-000000000002"
IDENTIFIERS = [("email", "ann@example.org"), ("distinct_id", "user-of-ann-1"), ("email", "ben@example.org")]
BEFORE = {"events": 7, "newest_event": "2026-11-01T10:00:00+01:00", "profiles": 2, "recordings": 1, "others": 3}
AFTER: Any = {"events": 0, "newest_event": None, "profiles": 0, "recordings": 0}


def name_of(uuid: str) -> str:
    """Return what stands for a person in a record."""
    return PSEUDONYMS.of("uuid", uuid)["hmac"]


def who(task: str = "erase", **changes: Any) -> Who:
    return Who("erasure", "manual__2026-11-22", task, **{"ticket": "DSR-42", **changes})


class Clock:
    """Goes on by an hour each time it is looked at."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 8, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        self.time += timedelta(hours=1)
        return self.time


def trail_in(fs: Any, folder: str, request: str = "DSR-42", **changes: Any) -> AuditTrail:
    given = {"who": who(), "pseudonyms": PSEUDONYMS, "now": Clock(), **changes}
    return AuditTrail(folder, fs, request, **given)


def fill(trail: AuditTrail, states: Sequence[str] = ("VERIFIED", "VERIFIED"), *, close: bool = True) -> AuditTrail:
    """Write a whole certificate of Ann and Ben."""
    persons: Any = [{"uuid": uuid, "before": {"events": 3}} for uuid in (ANN, BEN)]
    server: Any = {"host": "http://127.0.0.1:1", "project_id": 1, "generation": "B"}
    options = {"delete_events": True, "keep_person": False}
    trail.append("requested", identifiers=IDENTIFIERS, persons=persons, before=BEFORE, server=server, options=options)  # type: ignore[arg-type]
    trail.append("accepted", key="chunk-1", persons=persons, calls={"persons.bulk_delete": 1})
    residue: Any = {
        "exports": [{"id": 5, "created_at": "2026-10-01T00:00:00Z", "expires_after": None}],
        "batch_exports": [{"id": "x", "name": "to the warehouse", "type": "S3", "paused": False}],
        "static_cohorts": None,
        "group_types": [],
        "hog_functions": [{"id": "h", "name": "to the CRM", "type": "destination", "enabled": True}],
        "subscriptions": None,
        "not_looked_at": {
            "static_cohorts": "missing scope cohort:read",
            "subscriptions": "missing scope subscription:read",
        },
    }
    trail.append("residue", cannot_erase=residue)
    counted: Any = [
        {"uuid": uuid, "state": state, "survivors": 0 if state == "VERIFIED" else 4}
        for uuid, state in zip((ANN, BEN), states, strict=True)
    ]
    trail.append("verified", persons=counted, after=AFTER)
    if close:
        told = {state: list(states).count(state) for state in states}
        trail.close("VERIFIED" if set(states) == {"VERIFIED"} else "NOT_VERIFIED", states=told)
    return trail


def stored(fs: Any, trail: AuditTrail) -> dict[str, bytes]:
    """The files of a certificate, by name."""
    return {record.name: fs.cat_file(f"{trail.folder}/{record.name}") for record in read_trail(trail.folder, fs)}
