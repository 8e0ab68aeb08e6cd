"""Turn rows into events that PostHog accepts: checked against all that its capture refuses, before they are sent.

An event's uuid follows from the row's key, and from nothing that another try would have otherwise; its time is the
row's. So what is sent twice is one event: ClickHouse merges rows of the same uuid, event, distinct id and time.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple

from airflow_provider_posthog.capture.recipe_checks import KINDS, check_recipe
from airflow_provider_posthog.capture.values import RefusedError, id_text, key_part, moment, plain, written
from airflow_provider_posthog.exceptions import PostHogSettingsError

Kind = Literal["events", "persons", "groups", "aliases", "merges"]
#: The columns that become properties; a list means plain ones (of persons: ``$set``, of groups: ``$group_set``).
Properties = Sequence[str] | Mapping[str, Sequence[str]]

#: Characters of an event's name, and of a distinct id.
LONGEST = 200
#: Bytes of one event: PostHog hands each to Kafka as a message.
LARGEST = 1_000_000
#: Ids that PostHog refuses as mistakes, in any case and with any blanks around them.
ILLEGAL_IDS = frozenset(
    {
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
    }
)
_NAMESPACE = bytes.fromhex("3f2b7a5c9d1e4c0a8b6f5e2d7c4a1b90")
_OBJECTS = frozenset({"$set", "$set_once", "$groups"})
_ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_ENCODE_SHORT = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_ENCODE_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Event(NamedTuple):
    """An event that can be sent.

    :param uuid: its 16 bytes.
    :param name: the event.
    :param day: of its time in UTC, in days since 1970.
    :param body: it, as JSON: ``event``, ``uuid``, ``distinct_id``, ``timestamp``, ``properties``.
    :param check: a checksum of the event.
    :param at: its time, in seconds since 1970.
    """

    uuid: bytes
    name: str
    day: int
    body: bytes
    check: int
    at: float


def check_name(name: object) -> str:
    """Check and return an event's name.

    :param name: as it is in the row, or in the task.
    :raises RefusedError: if PostHog would not take it.
    """
    text = id_text(name)
    if not text:
        raise RefusedError("missing_event_name")
    if len(text) > LONGEST:
        raise RefusedError("event_name_too_long")
    if text == "$performance_event":
        raise RefusedError("dropped_performance_event")
    return _kept(text)


def check_distinct_id(value: object) -> str:
    """Check and return a distinct id.

    :param value: as it is in the row; a whole number is fine.
    :raises RefusedError: if PostHog would not take it, or would merge many persons by it.
    """
    text = id_text(value)
    bare = text.strip()
    if not bare:
        raise RefusedError("missing_distinct_id")
    if len(text) > LONGEST:
        raise RefusedError("distinct_id_too_large")
    if bare.lower() in ILLEGAL_IDS:
        raise RefusedError("invalid_distinct_id")
    return _kept(text)


def _kept(text: str) -> str:
    if "\0" in text:  # PostHog would write another character
        raise RefusedError("null_character")
    return text


def uuid_of(*parts: object) -> bytes:
    """Return the uuid (version 5) that follows from a key.

    :param parts: JSON.
    """
    name = _ENCODE_SORTED(parts).encode()
    digest = bytearray(hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def shown(uuid: bytes) -> str:
    """Return a uuid as it is written.

    :param uuid: its 16 bytes.
    """
    digits = uuid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def event_of(uuid: bytes, name: str, distinct_id: str, at: datetime, properties: Mapping[str, Any]) -> Event:
    """Write an event.

    :param uuid: its 16 bytes.
    :param name: the event, checked.
    :param distinct_id: the distinct id, checked.
    :param at: its time in UTC.
    :param properties: JSON.
    :raises RefusedError: if it is too large, or no JSON.
    """
    sent = {
        "event": name,
        "uuid": shown(uuid),
        "distinct_id": distinct_id,
        "timestamp": written(at),
        "properties": properties,
    }
    try:
        body = _ENCODE(sent).encode()
        if len(body) > LARGEST:  # written with escapes: PostHog counts the characters' own bytes
            body = _ENCODE_SHORT(sent).encode()
        if b"\\ud" in body:  # half a surrogate pair is no text: PostHog would refuse the whole batch
            _ENCODE_SHORT(sent).encode()
    except (TypeError, ValueError, RecursionError):
        raise RefusedError("not_json") from None
    if len(body) > LARGEST:
        raise RefusedError("event_too_large")
    return Event(uuid, name, (at - _EPOCH).days, body, zlib.crc32(body), at.timestamp())


@dataclass(frozen=True)
class Recipe:
    """How the rows of a source become events.

    :param kind: ``events``, ``persons`` (``$set``), ``groups`` (``$groupidentify``), ``aliases`` (``$create_alias``)
        or ``merges`` (``$merge_dangerously``).
    :param event: the event's name, the same for all rows.
    :param event_column: the column with the name, in its place.
    :param distinct_id: the column with the distinct id; of groups, with the group's key.
    :param timestamp: the column with the time; ``None``: all rows have the time of the load.
    :param key: the columns that identify a row.
    :param properties: the columns that become properties; ``None``: all others.
    :param group_type: of groups, such as ``company``.
    """

    kind: str = "events"
    event: str | None = None
    event_column: str | None = None
    distinct_id: str = "distinct_id"
    timestamp: str | None = None
    key: Sequence[str] = ()
    properties: Properties | None = None
    group_type: str | None = None

    def __post_init__(self) -> None:
        check_recipe(self)
        if self.event:
            try:
                check_name(self.event)
            except RefusedError as refused:
                raise PostHogSettingsError(
                    "event", f"is refused by PostHog ({refused.reason}).", "Rename it."
                ) from None

    def reader(self, columns: Sequence[str], at: datetime) -> Reader:
        """Return a maker of events from rows.

        :param columns: the names of the rows' columns, in their order.
        :param at: the time of the load, in UTC.
        :raises PostHogSettingsError: if a column is not there, or twice.
        """
        return Reader(self, columns, at)


class Reader:
    """Makes events from rows.

    :param recipe: how.
    :param columns: the names of the rows' columns, in their order.
    :param at: the time of the load, in UTC.
    :raises PostHogSettingsError: if a column is not there, or twice.
    """

    def __init__(self, recipe: Recipe, columns: Sequence[str], at: datetime) -> None:
        self._recipe = recipe
        #: Whether the events are there for what they change in persons and groups.
        self.needs_persons = recipe.kind != "events"
        self._columns = list(columns)
        self._at = at
        self._name = KINDS[recipe.kind] or recipe.event
        self._event = self._index("event_column", recipe.event_column)
        self._id = self._index("distinct_id", recipe.distinct_id)
        self._time = self._index("timestamp", recipe.timestamp)
        self._key = [self._at_index("key", name) for name in recipe.key]
        self._parts = {part: self._pairs(names) for part, names in self._named().items()}
        self._unset = self._unset_names()
        self._make: Callable[[Sequence[Any], str], tuple[str, dict[str, Any]]] = {
            "events": self._of_event,
            "persons": self._of_person,
            "groups": self._of_group,
        }.get(recipe.kind, self._of_alias)

    def _index(self, field: str, column: str | None) -> int | None:
        return None if column is None else self._at_index(field, column)

    def _at_index(self, field: str, column: str) -> int:
        if self._columns.count(column) != 1:
            problem = "names several columns" if column in self._columns else "names no column"
            raise PostHogSettingsError(
                field, f"{problem} {column!r:.60}.", f"The columns are: {', '.join(self._columns)[:300]}."
            )
        return self._columns.index(column)

    def _named(self) -> Mapping[str, Sequence[str]]:
        given = self._recipe.properties
        if isinstance(given, Mapping):
            return {part: names for part, names in given.items() if part != "$unset"}
        if given is None:
            recipe = self._recipe
            used = {recipe.distinct_id, recipe.timestamp, recipe.event_column}
            given = [name for name in self._columns if name not in used]
        return {"$set" if self._recipe.kind == "persons" else "properties": given}

    def _unset_names(self) -> list[str]:
        given = self._recipe.properties
        return list(given.get("$unset", ())) if isinstance(given, Mapping) else []

    def _pairs(self, names: Sequence[str]) -> list[tuple[str, int]]:
        return [(name, self._at_index("properties", name)) for name in names]

    def key_of(self, row: Sequence[Any]) -> list[Any]:
        """Return the key of a row, as JSON; null for what JSON cannot hold.

        :param row: the row.
        """
        parts = []
        for index in self._key or ([self._id] if self._id is not None else []):
            try:
                parts.append(key_part(row[index]))
            except RefusedError:
                parts.append(None)
        return parts

    def read(self, row: Sequence[Any], now: datetime) -> Event:
        """Make the event of a row.

        :param row: the row.
        :param now: the time.
        :raises RefusedError: if PostHog would not take it as it is.
        """
        name = check_name(self._name if self._event is None else row[self._event])
        who = check_distinct_id(row[self._id] if self._id is not None else None)
        at = self._at if self._time is None else moment(row[self._time], now)
        key = [key_part(row[index]) for index in self._key]
        if key and all(part is None for part in key):
            raise RefusedError("missing_key")
        distinct_id, properties = self._make(row, who)
        if self._recipe.kind == "events":
            uuid = uuid_of("events", name, key)
        else:  # a change, and not a thing that happened once: tomorrow's is another
            uuid = uuid_of(self._recipe.kind, self._recipe.group_type, distinct_id, key, written(at))
        return event_of(uuid, name, distinct_id, at, properties)

    def _values(self, row: Sequence[Any], part: str) -> dict[str, Any]:
        return {name: _value(name, row[index]) for name, index in self._parts.get(part, ())}

    def _of_event(self, row: Sequence[Any], who: str) -> tuple[str, dict[str, Any]]:
        made = self._values(row, "properties")
        for part in ("$set", "$set_once"):
            if part in self._parts:
                made[part] = self._values(row, part)
        if self._unset:
            made["$unset"] = self._unset
        return who, made

    def _of_person(self, row: Sequence[Any], who: str) -> tuple[str, dict[str, Any]]:
        return self._of_event(row, who)

    def _of_group(self, row: Sequence[Any], who: str) -> tuple[str, dict[str, Any]]:
        kind = str(self._recipe.group_type)
        values = self._values(row, "properties") | self._values(row, "$set")
        return check_distinct_id(f"{kind}_{who}"), {"$group_type": kind, "$group_key": who, "$group_set": values}

    def _of_alias(self, row: Sequence[Any], who: str) -> tuple[str, dict[str, Any]]:
        (index,) = [index for pairs in self._parts.values() for _, index in pairs]
        return who, {"alias": check_distinct_id(row[index])}


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if name in _OBJECTS and value is not None:
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            raise RefusedError("malformed_event_properties") from None
        if not isinstance(value, (Mapping, type(None))):
            raise RefusedError("malformed_event_properties")
    return plain(value)
