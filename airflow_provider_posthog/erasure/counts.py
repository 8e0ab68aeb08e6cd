"""How much of persons can still be read: events, recordings and profiles, by HogQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_posthog.api.answers import Kind
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.steps import Steps
from airflow_provider_posthog.erasure.asking import ask, packed, utc
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogValidationError

_EVENTS = (
    "SELECT toString(person_id) AS owner, distinct_id, count() AS found,"
    " countIf(timestamp <= toDateTime({until})) AS before,"
    " countIf(timestamp > toDateTime({until}) AND created_at <= toDateTime({until})) AS future,"
    " max(timestamp) AS newest, max(created_at) AS arrived,"
    " maxIf(timestamp, timestamp <= toDateTime({until})) AS newest_before"
    " FROM events WHERE {where} GROUP BY owner, distinct_id"
)
_TIME = (str, type(None))
_EVENT_KINDS: tuple[Kind, ...] = (str, str, int, int, int, _TIME, _TIME, _TIME)
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
    :param newest: the newest one's time.
    :param newest_before: the newest one's of those up to the moment.
    :param arrived: when the last one arrived.
    """

    before: int = 0
    future: int = 0
    later: int = 0
    newest: datetime | None = None
    newest_before: datetime | None = None
    arrived: datetime | None = None

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
            _latest(self.newest, other.newest),
            _latest(self.newest_before, other.newest_before),
            _latest(self.arrived, other.arrived),
        )


NONE = Events()


def events(batch: Sequence[Person], until: datetime) -> Steps[dict[str, Events]]:
    """Count the events of persons, by UUID and by every distinct id: merged ones carry an old UUID for a while.

    :param batch: the persons.
    :param until: the moment of the request.
    :returns: by person UUID; who has no events is not there.
    """
    ids = sorted({name for person in batch for name in person.distinct_ids})
    groups: dict[tuple[str, str], Events] = {}
    for column, values in (("toString(person_id)", [person.uuid for person in batch]), ("distinct_id", ids)):
        for pack in packed(values):
            rows = yield from ask(
                _EVENTS.replace("{where}", f"{column} IN {{values}}"),
                {"values": pack, "until": utc(until)},
                *_EVENT_KINDS,
            )
            for owner, name, found, before, future, newest, arrived, newest_before in rows:
                # A group found both ways is counted once: it is the same events each time.
                groups[(owner, name)] = Events(
                    before,
                    future,
                    found - before - future,
                    moment(newest),
                    moment(newest_before) if before else None,
                    moment(arrived),
                )
    return _by_person(batch, groups)


def _by_person(batch: Sequence[Person], groups: Mapping[tuple[str, str], Events]) -> dict[str, Events]:
    uuids = {person.uuid for person in batch}
    owners = {name: person.uuid for person in batch for name in person.distinct_ids}
    found: dict[str, Events] = {}
    for (owner, name), some in groups.items():
        for uuid in {owner if owner in uuids else None, owners.get(name)} - {None}:
            found[str(uuid)] = found.get(str(uuid), NONE).and_(some)
    return found


def recordings(batch: Sequence[Person]) -> Steps[dict[str, int]]:
    """Count the session recordings of persons, by every distinct id.

    :param batch: the persons.
    :returns: by person UUID; who has none is not there.
    """
    owners = {name: person.uuid for person in batch for name in person.distinct_ids}
    found: dict[str, int] = {}
    for pack in packed(sorted(owners)):
        try:
            rows = yield from ask(
                _RECORDINGS.format(gone=", max(is_deleted) AS gone", kept=" WHERE gone = 0"), {"ids": pack}, str, int
            )
        except PostHogValidationError:  # servers that cannot delete recordings do not know that column either
            rows = yield from ask(_RECORDINGS.format(gone="", kept=""), {"ids": pack}, str, int)
        for name, sessions in rows:
            uuid = owners.get(name)
            if uuid is not None:
                found[uuid] = found.get(uuid, 0) + int(sessions)
    return found


def listed(uuids: Iterable[str]) -> Steps[set[str]]:
    """Return which persons PostHog's lists and queries still show.

    :param uuids: of the persons.
    """
    found: set[str] = set()
    for pack in packed(uuids):
        rows = yield from ask("SELECT toString(id) FROM persons WHERE id IN {uuids}", {"uuids": pack}, str)
        found.update(str(row[0]) for row in rows)
    return found


def owners_of(distinct_ids: Iterable[str]) -> Steps[dict[str, str]]:
    """Return whose distinct ids are, as PostHog's lists and queries show it.

    :param distinct_ids: the ids.
    :returns: the person's UUID by distinct id; an id that nobody has is not there.
    """
    found: dict[str, str] = {}
    sql = "SELECT distinct_id, toString(person_id) FROM person_distinct_ids WHERE distinct_id IN {ids}"
    for pack in packed(distinct_ids):
        rows = yield from ask(sql, {"ids": pack}, str, str)
        found.update((str(name), str(uuid)) for name, uuid in rows)
    return found


def ids_of(uuids: Sequence[str]) -> Steps[dict[str, list[str]]]:
    """Return the distinct ids of persons, as PostHog's queries show them.

    :param uuids: of the persons.
    """
    found: dict[str, list[str]] = {}
    sql = "SELECT toString(person_id), distinct_id FROM person_distinct_ids WHERE person_id IN {uuids}"
    for pack in packed(uuids):
        rows = yield from ask(sql, {"uuids": pack}, str, str)
        for uuid, name in rows:
            found.setdefault(str(uuid), []).append(str(name))
    return found


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)
