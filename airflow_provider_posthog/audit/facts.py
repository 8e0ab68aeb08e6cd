"""Check the facts of a record: known fields of known types, so that no personal data gets in by mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import MAX_PERSONS, OUTCOMES, hidden
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean

_STATE = re.compile(r"[A-Z][A-Z_]{0,39}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,79}")
_HMAC = re.compile(r"[0-9a-f]{64}")
_MAX_LIST = 10_000
#: Facts that hold free text; the others are words, numbers and times.
_TEXTS = ("error", "reason", "decision", "notes", "options", "cannot_erase")
#: Where a UUID is that of a batch export or the like, and of no person.
_NO_PERSONS = ("cannot_erase",)
_Read = Callable[[str, Any], Any]


def tell(facts: Mapping[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return facts as stored in a record: checked, cleaned, and with pseudonyms in place of identifiers.

    :param facts: see :class:`~airflow_provider_posthog.audit.records.Facts`.
    :param pseudonyms: makes the stand-ins.
    :raises PostHogSettingsError: for an unknown field and for a value of another type; it does not show the value.
    """

    def identifiers(field: str, value: Any) -> object:  # noqa: ANN401
        pairs = value if isinstance(value, Mapping) else list(value)
        for pair in pairs:
            if not _is_identifier(pair):
                raise _refusal(field, "has something else than pairs of a kind and an identifier")
        return hidden(pairs, pseudonyms)

    def person(field: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
        payload = _object(field, value, {**_PERSON, "identifiers": identifiers})
        if "uuid" in payload:
            payload["person"] = pseudonyms.of("uuid", payload.pop("uuid"))["hmac"]
        if "person" not in payload:
            raise _refusal(field, "lacks uuid")
        return payload

    fields: dict[str, _Read] = {
        **_FACTS,
        "identifiers": identifiers,
        "not_found": identifiers,
        "persons": _list_of(person, MAX_PERSONS),
    }
    record: dict[str, Any] = _object("facts", facts, fields)
    return _without(record, _plain(facts), pseudonyms)


def utc_text(value: datetime) -> str:
    """Format a time as in records: ISO, UTC, milliseconds, ``Z``.

    :param value: a time with an offset.
    """
    return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_time(field: str, value: Any) -> str | None:  # noqa: ANN401 - is checked
    """Check a time and format it as in records.

    :param field: what to call it in an error.
    :param value: ISO text (UTC, if it names no offset) or a ``datetime`` with an offset; or ``None``.
    :raises PostHogSettingsError: if it is neither.
    """
    if value is None:
        return None
    when = moment(value) if isinstance(value, str) else value
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise _refusal(field, "is not a time with an offset")
    return utc_text(when)


def _refusal(field: str, problem: str) -> PostHogSettingsError:
    return PostHogSettingsError(
        field, f"{problem}, so it cannot stand in a certificate (it is not shown).", "See docs/erasure-audit.md."
    )


def _is_identifier(pair: Any) -> bool:  # noqa: ANN401 - is checked
    if isinstance(pair, Mapping):
        return set(pair) == {"kind", "hmac"} and bool(_WORD.fullmatch(pair["kind"]) and _HMAC.fullmatch(pair["hmac"]))
    return isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def _plain(facts: Mapping[str, Any]) -> list[str]:
    """Return the plain identifiers in these facts, the longest first."""
    identifiers = [*(facts.get("identifiers") or ()), *(facts.get("not_found") or ())]
    for person in facts.get("persons") or ():
        identifiers += person.get("identifiers") or ()
    values = {pair[1].strip() for pair in identifiers if not isinstance(pair, Mapping)}
    return sorted((value for value in values if len(value) >= 4), key=len, reverse=True)


def _without(payload: dict[str, Any], identifiers: list[str], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Remove identifiers and the UUIDs of persons from free texts."""

    def scrub(value: Any, uuids: bool) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, Mapping):
            return {name: scrub(inner, uuids) for name, inner in value.items()}
        if isinstance(value, list):
            return [scrub(inner, uuids) for inner in value]
        if isinstance(value, str):
            for identifier in identifiers:
                value = value.replace(identifier, "<identifier>")
            return value if uuids else pseudonyms.without_uuids(value)
        return value

    for name in _TEXTS:
        if name in payload:
            payload[name] = scrub(payload[name], name in _NO_PERSONS)
    for person in payload.get("persons", ()):
        if "note" in person:
            person["note"] = scrub(person["note"], False)
    return payload


def _object(field: str, value: Any, fields: Mapping[str, _Read]) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        raise _refusal(field, "is not an object")
    unknown = [name for name in value if name not in fields]
    if unknown:
        raise _refusal(field, f"has {len(unknown)} fields that no record has (it has {', '.join(fields)})")
    return {name: fields[name](name, value[name]) for name in value}


def _count(field: str, value: Any) -> int:  # noqa: ANN401
    if type(value) is not int or not 0 <= value < 2**63:
        raise _refusal(field, "is not a whole number from 0")
    return value


def _flag(field: str, value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise _refusal(field, "is neither true nor false")
    return value


def _text(field: str, value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise _refusal(field, "is not text")
    return clean(value)


def _matching(pattern: re.Pattern[str]) -> _Read:
    def read(field: str, value: Any) -> str:  # noqa: ANN401
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _refusal(field, "is no such word")
        return value

    return read


def _uuid(field: str, value: Any) -> str:  # noqa: ANN401
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise _refusal(field, "is not a UUID") from None


def _outcome(field: str, value: Any) -> str:  # noqa: ANN401
    if value not in OUTCOMES:
        raise _refusal(field, f"is none of {', '.join(OUTCOMES)}")
    return str(value)


def _maybe(read: _Read) -> _Read:
    return lambda field, value: None if value is None else read(field, value)


def _list_of(read: _Read, most: int = _MAX_LIST) -> _Read:
    def read_list(field: str, value: Any) -> list[Any]:  # noqa: ANN401
        if isinstance(value, (str, Mapping)):
            raise _refusal(field, "is not a list")
        items = [read(field, item) for item in value]
        if len(items) > most:
            raise _refusal(field, f"has more than {most:,} entries: write several records")
        return items

    return read_list


def _map_of(read: _Read, keys: re.Pattern[str] = _WORD) -> _Read:
    def read_map(field: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
        if not isinstance(value, Mapping) or not all(isinstance(key, str) and keys.fullmatch(key) for key in value):
            raise _refusal(field, "is not an object with such keys")
        return {key: read(field, value[key]) for key in value}

    return read_map


def _plain_value(field: str, value: Any) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, bool):
        return value
    return _count(field, value) if isinstance(value, int) else _text(field, value)


def _fields(**fields: _Read) -> _Read:
    return lambda field, value: _object(field, value, fields)


def _day(field: str, value: Any) -> str | None:  # noqa: ANN401
    """Reduce a time to its day: to the millisecond it would identify one event."""
    time = value if not isinstance(value, str) or len(value) != 10 else f"{value}T00:00:00Z"
    at = read_time(field, time)
    return at[:10] if at else None


_COUNTS = _fields(
    events=_count,
    newest_event=_day,
    future_events=_count,
    later_events=_count,
    recordings=_count,
    profiles=_count,
    distinct_ids=_count,
    others=_count,
)
_PERSON: dict[str, _Read] = {
    "uuid": _uuid,
    "person": _matching(_HMAC),
    "state": _matching(_STATE),
    "before": _COUNTS,
    "after": _COUNTS,
    "survivors": _count,
    "deletion_status": _maybe(_matching(_WORD)),
    "note": _text,
}
_LISTED = _maybe(_list_of(_map_of(_plain_value)))
_FACTS: dict[str, _Read] = {
    "before": _COUNTS,
    "after": _COUNTS,
    "server": _fields(host=_text, project_id=_maybe(_count), generation=_maybe(_matching(re.compile("[A-Z]")))),
    "retention": _fields(
        event_retention_months=_maybe(_count), events_retention_enforced=_maybe(_flag), floor=read_time
    ),
    "options": _map_of(_plain_value),
    "calls": _map_of(_count),
    "states": _map_of(_count, _STATE),
    "outcome": _outcome,
    "cannot_erase": _fields(
        exports=_LISTED,
        batch_exports=_LISTED,
        static_cohorts=_LISTED,
        group_types=_LISTED,
        tables=_LISTED,
        hog_functions=_LISTED,
        subscriptions=_LISTED,
        warehouse_sources=_LISTED,
        elt_destinations=_LISTED,
        managed_warehouse=_LISTED,
        not_looked_at=_map_of(_text),
    ),
    "error": _text,
    "reason": _text,
    "decision": _text,
    "notes": _list_of(_text, 100),
    "deadline": _fields(
        received_at=_day, due_at=_day, rule=_matching(re.compile(r"month|\d{1,3} days")), extended=_flag
    ),
    "part": _count,
    "request": _text,
    "head": _matching(_HMAC),
    "records": _count,
}
