"""Count what can still be read of persons, by HogQL: events, recordings and profiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api.answers import Kind
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.event_search import Search, Span, Statement, of_ids, whole_history
from airflow_provider_posthog.erasure.queries import batched, is_unknown_table, packed
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogValidationError
from airflow_provider_posthog.results.heaviness import is_too_heavy

_EVENTS = (
    "SELECT '{table}' AS place, {owner} AS owner, distinct_id, count() AS found,"
    " countIf(timestamp <= toDateTime({until})) AS before,"
    " countIf(timestamp > toDateTime({until}) AND created_at <= toDateTime({until})) AS future,"
    " min(timestamp) AS oldest, max(timestamp) AS newest,"
    " maxIf(timestamp, timestamp <= toDateTime({until})) AS newest_before"
    " FROM {table} WHERE {where} GROUP BY owner, distinct_id"
)
_TIME = (str, type(None))
_EVENT_KINDS: tuple[Kind, ...] = (str, str, str, int, int, int, _TIME, _TIME, _TIME)
#: Evaluations of flags are events that newer servers keep apart; the same deletion sweeps both.
_APART = "flag_evaluations"
_CARRIERS = Statement("SELECT DISTINCT toString(person_id), distinct_id FROM {table} WHERE {where}")
#: The most spans of time in a query.
_MOST_SPANS = 24
#: How many persons are counted together along the key: those with events at about the same time.
_TOGETHER = 250
#: The tolerance for times, which are exact to a millisecond at least.
_ROUNDED = timedelta(seconds=1)
_RECORDINGS = (
    "SELECT distinct_id, count() AS sessions FROM (SELECT distinct_id, session_id{gone} FROM raw_session_replay_events"
    " WHERE distinct_id IN {{ids}} GROUP BY distinct_id, session_id){kept} GROUP BY distinct_id"
)


@dataclass(frozen=True)
class Events:
    """The events of a person that can be read now.

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
        """Return the sum of two counts.

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

    It reads the whole history, as PostHog's key does not hold the person.

    :param client: asks PostHog.
    :param batch: the persons.
    :param until: the moment of the request.
    :returns: by person UUID; persons without events are missing.
    """
    ids = sorted({name for person in batch for name in person.distinct_ids})
    groups: _Groups = {}
    for search in whole_history([person.uuid for person in batch], ids):
        groups |= _grouped(client, search, until, "toString(person_id)")
    return _by_person(batch, groups)


def events_by_key(
    client: ErasureClient, batch: Sequence[Person], until: datetime, since: datetime
) -> dict[str, Events]:
    """Count the events of persons along PostHog's key: by distinct id, at the times of their events, and since then.

    That reads a small part of what :func:`events` reads. It misses events that carry the person's UUID and another
    distinct id, and those that came late into a time where the person had none; so it shows what is left, and proves
    nothing.

    :param client: asks PostHog.
    :param batch: the persons.
    :param until: the moment of the request.
    :param since: a moment before the persons' events were counted.
    """
    groups: _Groups = {}
    had = sorted((person for person in batch if person.oldest_event), key=lambda person: person.oldest_event or "")
    others = [person for person in batch if not person.oldest_event]  # can only have had events since
    for people in [*batched(had, _TOGETHER), *([others] if others else [])]:
        spans = _spans(people, since)
        for search in of_ids(sorted({name for person in people for name in person.distinct_ids}), spans):
            for key, more in _grouped(client, search, until, "''").items():
                groups[key] = groups.get(key, NONE).and_(more)
    return _by_person(batch, groups)


def _spans(people: Sequence[Person], since: datetime) -> tuple[Span, ...]:
    """Return a few spans in which these persons had events or may have them now, in order, the last one open."""
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


def _grouped(client: ErasureClient, search: Search, until: datetime, owner: str) -> _Groups:
    """Count events, and flag evaluations if the server keeps them apart, by the ids that they carry."""
    apart = () if _APART in client.unknown_tables else (_APART,)
    statement = Statement(_EVENTS, ("events", *apart), {"owner": owner})
    try:
        rows = _rows(client, statement, _EVENT_KINDS, search, until)
    except PostHogValidationError as error:
        if not apart or not is_unknown_table(error):
            raise
        client.unknown_tables.add(_APART)
        return _grouped(client, search, until, owner)
    except PostHogIncompleteError:
        fewer = search.fewer()
        if not fewer:
            raise
        # A group that matches by UUID and by distinct id is counted once: it is the same events.
        return {key: events for part in fewer for key, events in _grouped(client, part, until, owner).items()}
    groups: _Groups = {}
    for table, carried, name, total, before, future, *times in rows:
        oldest, newest, newest_before = map(moment, times)
        events = Events(before, future, total - before - future, oldest, newest, newest_before if before else None)
        groups[table, carried, name] = groups.get((table, carried, name), NONE).and_(events)
    return groups


def carriers(client: ErasureClient, where: str, values: list[str], until: datetime) -> set[tuple[str, str]]:
    """Return the person UUIDs and distinct ids that events carry, in the whole history.

    :param client: asks PostHog.
    :param where: the condition, with ``{values}`` in it.
    :param values: the values.
    :param until: the server's time.
    """
    search = Search(where=where, values=values)
    try:
        rows = _rows(client, _CARRIERS, (str, str), search, until)
    except PostHogIncompleteError:
        fewer = search.fewer()
        if not fewer:
            raise
        return {pair for part in fewer for pair in carriers(client, where, [*part.values], until)}
    return {(str(uuid), str(name)) for uuid, name in rows}


def _rows(
    client: ErasureClient, statement: Statement, kinds: tuple[Kind, ...], search: Search, until: datetime
) -> list[list[Any]]:
    """Run one query; if that is too much for the server, shorter spans of time, down to months."""
    sql = statement.sql(search)
    try:
        return client.rows(sql, search.bound(sql, until), *kinds)
    except PostHogError as error:
        parts = search.shorter(until) if is_too_heavy(error) else []
        if not parts:
            raise
    rows: list[list[Any]] = []
    for part in parts:
        rows += _rows(client, statement, kinds, part, until)
    return rows


def _by_person(batch: Sequence[Person], groups: _Groups) -> dict[str, Events]:
    uuids = {person.uuid for person in batch}
    owners = {name: person.uuid for person in batch for name in person.distinct_ids}
    by_person: dict[str, Events] = {}
    for (_, owner, name), events in groups.items():
        for uuid in {owner if owner in uuids else None, owners.get(name)} - {None}:
            by_person[str(uuid)] = by_person.get(str(uuid), NONE).and_(events)
    return by_person


def recordings(client: ErasureClient, batch: Sequence[Person]) -> dict[str, int]:
    """Count the session recordings of persons, by every distinct id.

    :param client: asks PostHog.
    :param batch: the persons.
    :returns: by person UUID; persons without any are missing.
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
    """Return the owners of distinct ids, as PostHog's lists and queries show them.

    :param client: asks PostHog.
    :param distinct_ids: the ids.
    :returns: the person's UUID by distinct id; ids without a person are missing.
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


def _latest(first: datetime | None, second: datetime | None) -> datetime | None:
    return max((at for at in (first, second) if at is not None), default=None)
