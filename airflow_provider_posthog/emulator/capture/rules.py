"""What PostHog's capture refuses of an event, as its source has it (rust/capture/src/v1/analytics)."""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

MOST_CHARACTERS = 200
FUTURE = timedelta(hours=23)
ILLEGAL = (
    "0",
    "00000000-0000-0000-0000-000000000000",
    "[object object]",
    "anonymous",
    "anonymous-user",
    "backend",
    "distinct_id",
    "distinctid",
    "email",
    "false",
    "guest",
    "id",
    "nan",
    "none",
    "not_authenticated",
    "null",
    "system",
    "true",
    "undefined",
    "user",
)
_FLAGS = ("cookieless_mode", "disable_skew_correction", "process_person_profile")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def moment(text: object) -> datetime | None:
    """Read a time as RFC 3339 has it, with an offset; None for anything else.

    :param text: as sent.
    """
    if not isinstance(text, str) or not (match := _RFC_3339.fullmatch(text)):
        return None
    digits = (match[1] or ".0")[1:7].ljust(6, "0")
    offset = "+00:00" if match[2] in "Zz" else match[2]
    try:
        return datetime.fromisoformat(f"{text[:10]}T{text[11:19]}.{digits}{offset}").astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def fault_of(event: Mapping[str, Any]) -> str | None:
    """Return PostHog's word for the fault of an event, or None.

    :param event: as sent to capture V1.
    """
    name, distinct_id = event.get("event"), event.get("distinct_id")
    if name == "$performance_event":
        return "dropped_performance_event"
    if not isinstance(name, str) or not name:
        return "missing_event_name"
    if len(name) > MOST_CHARACTERS:
        return "event_name_too_long"
    if not isinstance(distinct_id, str) or not distinct_id.strip():
        return "missing_distinct_id"
    if len(distinct_id) > MOST_CHARACTERS:
        return "distinct_id_too_large"
    if distinct_id.strip().lower() in ILLEGAL:
        return "malformed_distinct_id"
    if moment(event.get("timestamp")) is None:
        return "invalid_event_timestamp"
    if not isinstance(event.get("properties"), dict):
        return "malformed_event_properties"
    options = event.get("options")
    if not isinstance(options, dict) or any(not isinstance(options.get(flag, True), bool) for flag in _FLAGS):
        return "invalid_options"
    return None


def uuid_fault(event: object) -> str | None:
    """Return PostHog's word for the fault of an event's uuid, or None.

    :param event: as sent.
    """
    if not isinstance(event, dict) or not event.get("uuid"):
        return "missing_event_uuid"
    try:
        uuids.UUID(str(event["uuid"]))
    except ValueError:
        return "invalid_event_uuid"
    return None
