"""How much of persons can still be read: events, recordings and profiles, by HogQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.api.answers import Kind
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.queries import batched, is_unknown_table, packed, utc
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogError, PostHogValidationError
from airflow_provider_posthog.extract.query_client import is_too_heavy

_EVENTS = (
    "SELECT {owner} AS owner, distinct_id, count() AS found,"
    " countIf(timestamp <= toDateTime({until})) AS before,"
    " countIf(timestamp > toDateTime({until}) AND created_at <= toDateTime({until})) AS future,"
    " min(timestamp) AS oldest, max(timestamp) AS newest,"
    " maxIf(timestamp, timestamp <= toDateTime({until})) AS newest_before"
    " FROM {table} WHERE {where} GROUP BY owner, distinct_id"
)
_TIME = (str, type(None))
_EVENT_KINDS: tuple[Kind, ...] = (str, str, int, int, int, _TIME, _TIME, _TIME)
#: Evaluations of flags are events that newer servers keep apart; the same deletion sweeps both.
_TABLES = ("events", "flag_evaluations")
#: Up to so many ids are searched by their hashes, too.
_MAX_HASHES = 100
#: So many spans of time stand in a query at the most.
_MOST_SPANS = 24
#: So many persons are counted together along the key: those who had events at about the same time.
_TOGETHER = 250
#: A search that is too much at once is split down to months, from a time before PostHog was made.
_FIRST = datetime(2015, 1, 1, tzinfo=timezone.utc)
_MONTH = timedelta(days=31)
#: Times are told in milliseconds at the least.
_ROUNDED = timedelta(seconds=1)
_RECORDINGS = (
    "SELECT distinct_id, count() AS sessions FROM (SELECT distinct_id, session_id{gone} FROM raw_session_replay_events"
    " WHERE distinct_id IN {{ids}} GROUP BY distinct_id, session_id){kept} GROUP BY distinct_id"
)


@dataclass(frozen=True)
class Events:
    """The events of somebody, as they can be read now.

    :param before: how many are dated up to the moment of the request.
    :param future: how many are dated later, though they were there at that moment.
    :param later: how many came after it and are dated after it.
    :param oldest: the oldest one's time.
    :param newest: the newest one's time.
    :param newest_before: the newest one's of those up to the moment.
    """

    before: int = 0
    future: int = 0
    later: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    newest_before: datetime | None = None

    @property
    def all(self) -> int:
        """How many there are."""
        return self.before + self.future + self.later

    def and_(self, other: Events) -> Events:
        """Return the events of both.

        :param other: more events of the same person.
        """
        return Events(
            self.before + other.before,
            self.future + other.future,
            self.later + other.later,
            min((at for at in (self.oldest, other.oldest) if at is not None), default=None),
            _latest(self.newest, other.newest),
            _latest(self.newest_before, other.newest_before),
        )


NONE = Events()


_Groups = dict[tuple[str, str, str], Events]


def events(client: ErasureClient, batch: Sequence[Person], until: datetime) -> dict[str, Events]:
    """Count the events of persons, by UUID and by every distinct id: merged ones carry an old UUID for a while.

    It reads the whole history, as nothing in PostHog's key tells a person.

    :param client: asks PostHog.
    :param batch: the persons.
    :param until: the moment of the request.
    :returns: by person UUID; who has no events is not there.
    """
    ids = sorted({name for person in batch for name in person.distinct_ids})
    uuids = [person.uuid for person in batch]
    groups: _Groups = {}
    for table in _TABLES:
        try:
            for pack in packed(uuids):
                # A group found both ways is counted once: it is the same events each time.
                groups |= _grouped(client, table, _Search("toString(person_id) IN {values}", pack), until)
            for pack in packed(ids):
                groups |= _grouped(client, table, _Search(*_by_key(pack)), until)
        except PostHogValidationError as error:
            _let_pass(table, error)
    return _by_person(batch, groups)


def events_by_key(
    client: ErasureClient, batch: Sequence[Person], until: datetime, since: datetime
) -> dict[str, Events]:
    """Count the events of persons along PostHog's key: by distinct id, where their events were, and since then.

    That reads a small part of what :func:`events` reads. It misses events that carry the person's UUID and another
    distinct id, and those that came late into a time where the person had none; so it shows what is left, and proves
    nothing.

    :param client: asks PostHog.
    :param batch: the persons.
    :param until: the moment of the request.
    :param since: a moment before the persons' events were counted.
    """
    groups: _Groups = {}
    for some in batched(sorted(batch, key=lambda person: person.oldest_event or ""), _TOGETHER):
        spans = _spans(some, since)
        ids = sorted({name for person in some for name in person.distinct_ids})
        for table in _TABLES:
            try:
                for pack in packed(ids):
                    grouped = _grouped(client, table, _Search(*_by_key(pack), owner="''", spans=spans), until)
                    for key, more in grouped.items():
                        groups[key] = groups.get(key, NONE).and_(more)
            except PostHogValidationError as error:
                _let_pass(table, error)
    return _by_person(batch, groups)


def _by_key(ids: list[str]) -> tuple[str, dict[str, Any]]:
    """Write the condition along PostHog's key, which has ``cityHash64(distinct_id)`` in it, and its values.

    The hashes of many ids lie in every part of the key, so that they spare nothing.
    """
    if len(ids) > _MAX_HASHES:
        return "distinct_id IN {values}", {"values": ids}
    values: dict[str, Any] = {f"v{number}": name for number, name in enumerate(ids)}
    hashes = ", ".join(f"cityHash64({{{name}}})" for name in values)
    return f"distinct_id IN {{values}} AND cityHash64(distinct_id) IN ({hashes})", {**values, "values": ids}


def _let_pass(table: str, error: PostHogValidationError) -> None:
    """Let a server pass that has no such table; the events' own it has."""
    if table == "events" or not is_unknown_table(error):
        raise error


Span = tuple["datetime | None", "datetime | None"]


def _spans(people: Sequence[Person], since: datetime) -> tuple[Span, ...]:
    """Return when these persons had events, and may have them since: a few spans, in their order, the last one open."""
    had = sorted(
        (oldest - _ROUNDED, newest + _ROUNDED)
        for person in people
        if (oldest := moment(person.oldest_event)) is not None and (newest := moment(person.newest_event)) is not None
    )
    spans: list[tuple[datetime, datetime]] = []
    for start, end in had:
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    while len(spans) > _MOST_SPANS:  # the two that lie closest become one
        near = min(range(1, len(spans)), key=lambda place: spans[place][0] - spans[place - 1][1])
        spans[near - 1 : near + 1] = [(spans[near - 1][0], spans[near][1])]
    since = min([since, *(start for start, end in spans if end >= since)])
    return (*(span for span in spans if span[1] < since), (since, None))


@dataclass(frozen=True)
class _Search:
    """What events are counted: a condition with its values, within spans of time."""

    where: str
    values: Any
    owner: str = "toString(person_id)"
    spans: tuple[Span, ...] = ((None, None),)

    def statement(self, template: str) -> str:
        within = " OR ".join(
            " AND ".join(
                [f"timestamp >= toDateTime({{s{number}}})"] * (start is not None)
                + [f"timestamp < toDateTime({{e{number}}})"] * (end is not None)
            )
            for number, (start, end) in enumerate(self.spans)
        )
        return template.replace("{where}", f"({self.where}) AND ({within})" if within else self.where)

    def bound(self, sql: str, until: datetime) -> dict[str, Any]:
        values = self.values if isinstance(self.values, dict) else {"values": self.values}
        named = {f"s{number}": start for number, (start, _) in enumerate(self.spans)}
        named |= {f"e{number}": end for number, (_, end) in enumerate(self.spans)}
        times = {name: utc(at) for name, at in {**named, "until": until}.items() if at is not None}
        return {**values, **{name: at for name, at in times.items() if f"{{{name}}}" in sql}}

    def parts(self, until: datetime) -> list[_Search]:
        """Return the same in smaller parts, for a server to which it is too much at once; none where a month is."""
        if len(self.spans) > 1:
            middle = len(self.spans) // 2
            return [replace(self, spans=self.spans[:middle]), replace(self, spans=self.spans[middle:])]
        start, end = self.spans[0]
        now = until + timedelta(days=1)
        spans: list[Span] = []
        if start is None and end is None:
            spans = [(None, _FIRST), (_FIRST, now), (now, None)]
        elif start is not None and end is None and start < now:
            spans = [(start, now), (now, None)]
        elif start is not None and end is not None and end - start > _MONTH:
            half = start + (end - start) / 2
            spans = [(start, half), (half, end)]
        return [replace(self, spans=(span,)) for span in spans]


def _grouped(client: ErasureClient, table: str, search: _Search, until: datetime) -> _Groups:
    groups: _Groups = {}
    template = _EVENTS.replace("{owner}", search.owner).replace("{table}", table)
    for owner, name, count, before, future, *times in _rows(client, template, _EVENT_KINDS, search, until):
        oldest, newest, newest_before = map(moment, times)
        some = Events(before, future, count - before - future, oldest, newest, newest_before if before else None)
        groups[table, owner, name] = groups.get((table, owner, name), NONE).and_(some)
    return groups


def carriers(client: ErasureClient, where: str, values: list[str], until: datetime) -> set[tuple[str, str]]:
    """Return the person UUIDs and distinct ids that events carry, in the whole history.

    :param client: asks PostHog.
    :param where: the condition, with ``{values}`` in it.
    :param values: the values.
    :param until: the server's time.
    """
    sql = "SELECT DISTINCT toString(person_id), distinct_id FROM events WHERE {where}"
    rows = _rows(client, sql, (str, str), _Search(where, values), until)
    return {(str(uuid), str(name)) for uuid, name in rows}


def _rows(
    client: ErasureClient, template: str, kinds: tuple[Kind, ...], search: _Search, until: datetime
) -> list[list[Any]]:
    """Ask in one query; where that is too much for the server, in smaller parts, down to months."""
    sql = search.statement(template)
    try:
        return client.rows(sql, search.bound(sql, until), *kinds)
    except PostHogError as error:
        parts = search.parts(until) if is_too_heavy(error) else []
        if not parts:
            raise
    rows: list[list[Any]] = []
    for part in parts:
        rows += _rows(client, template, kinds, part, until)
    return rows


def _by_person(batch: Sequence[Person], groups: _Groups) -> dict[str, Events]:
    uuids = {person.uuid for person in batch}
    owners = {name: person.uuid for person in batch for name in person.distinct_ids}
    by_person: dict[str, Events] = {}
    for (_, owner, name), some in groups.items():
        for uuid in {owner if owner in uuids else None, owners.get(name)} - {None}:
            by_person[str(uuid)] = by_person.get(str(uuid), NONE).and_(some)
    return by_person


def recordings(client: ErasureClient, batch: Sequence[Person]) -> dict[str, int]:
    """Count the session recordings of persons, by every distinct id.

    :param client: asks PostHog.
    :param batch: the persons.
    :returns: by person UUID; who has none is not there.
    """
    owners = {name: person.uuid for person in batch for name in person.distinct_ids}
    counts: dict[str, int] = {}
    for pack in packed(sorted(owners)):
        try:
            rows = client.rows(
                _RECORDINGS.format(gone=", max(is_deleted) AS gone", kept=" WHERE gone = 0"), {"ids": pack}, str, int
            )
        except PostHogValidationError:  # servers that cannot delete recordings do not know that column either
            rows = client.rows(_RECORDINGS.format(gone="", kept=""), {"ids": pack}, str, int)
        for name, sessions in rows:
            uuid = owners.get(name)
            if uuid is not None:
                counts[uuid] = counts.get(uuid, 0) + int(sessions)
    return counts


def listed(client: ErasureClient, uuids: Iterable[str]) -> set[str]:
    """Return which persons PostHog's lists and queries still show.

    :param client: asks PostHog.
    :param uuids: of the persons.
    """
    listed_uuids: set[str] = set()
    for pack in packed(uuids):
        rows = client.rows("SELECT toString(id) FROM persons WHERE id IN {uuids}", {"uuids": pack}, str)
        listed_uuids.update(str(row[0]) for row in rows)
    return listed_uuids


def owners_of(client: ErasureClient, distinct_ids: Iterable[str]) -> dict[str, str]:
    """Return whose distinct ids are, as PostHog's lists and queries show it.

    :param client: asks PostHog.
    :param distinct_ids: the ids.
    :returns: the person's UUID by distinct id; an id that nobody has is not there.
    """
    owners: dict[str, str] = {}
    sql = "SELECT distinct_id, toString(person_id) FROM person_distinct_ids WHERE distinct_id IN {ids}"
    for pack in packed(distinct_ids):
        rows = client.rows(sql, {"ids": pack}, str, str)
        owners.update((str(name), str(uuid)) for name, uuid in rows)
    return owners


def ids_of(client: ErasureClient, uuids: Sequence[str]) -> dict[str, list[str]]:
    """Return the distinct ids of persons, as PostHog's queries show them.

    :param client: asks PostHog.
    :param uuids: of the persons.
    """
    ids: dict[str, list[str]] = {}
    sql = "SELECT toString(person_id), distinct_id FROM person_distinct_ids WHERE person_id IN {uuids}"
    for pack in packed(uuids):
        rows = client.rows(sql, {"uuids": pack}, str, str)
        for uuid, name in rows:
            ids.setdefault(str(uuid), []).append(str(name))
    return ids


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)
