"""Query all data that PostHog has of a person, and only that person's events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api.answers import Kind
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.queries import packed, utc
from airflow_provider_posthog.erasure.resolve import held_now, moved_ids
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogValidationError

#: The columns of an event: those of ``SELECT *`` that servers of every age have, and the person's UUID.
EVENT_COLUMNS = (
    *("uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties", "elements_chain"),
    *("$session_id", "$window_id", "$group_0", "$group_1", "$group_2", "$group_3", "$group_4"),
)
_GROUPS = 5
_TEXT = (str, type(None))
_NUMBER = (int, float, type(None))
_REPLAY = (
    "SELECT session_id, distinct_id, toString(min(min_first_timestamp)) AS started,"
    " toString(max(max_last_timestamp)) AS ended, sum(click_count) AS clicks, sum(keypress_count) AS keys{gone}"
    " FROM raw_session_replay_events WHERE distinct_id IN {{ids}} GROUP BY session_id, distinct_id"
)


@dataclass(frozen=True)
class Subject:
    """The person whose data is requested.

    :param uuids: the persons' UUIDs.
    :param names: all of their distinct ids.
    :param others: distinct ids that are not theirs any more, but whose events carry one of the UUIDs.
    """

    uuids: tuple[str, ...]
    names: tuple[str, ...] = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class EventsPart:
    """Events of some of the distinct ids.

    :param where: HogQL that holds for them.
    :param values: the values of its placeholders.
    """

    where: str
    values: Mapping[str, Any] = field(repr=False)


def subject_of(client: ErasureClient, persons: Iterable[Person], server: Server) -> Subject:
    """Return the subject, with the distinct ids that were added since the persons were looked up.

    :param client: asks PostHog.
    :param persons: of the work file.
    :param server: the server.
    :raises PostHogIncompleteError: if a distinct id belongs to somebody else by now, whose data nobody may get.
    """
    known = list(persons)
    held = held_now(client, [person.uuid for person in known], server)
    uuids_of_all = {person.uuid for person in known}
    if moved := set(moved_ids(client, known, held, server).values()) - uuids_of_all:
        raise PostHogIncompleteError(
            f"Distinct ids belong to {len(moved)} other persons by now: the persons were split or merged since they "
            "were looked up. Nothing was handed out: look them up again."
        )
    uuids = sorted(uuids_of_all)
    names = {name for person in known for name in person.distinct_ids}
    for pack in packed(uuids):
        rows = client.rows(
            "SELECT distinct_id FROM person_distinct_ids WHERE person_id IN {uuids}", {"uuids": pack}, str
        )
        names.update(row[0] for row in rows)
    others: set[str] = set()
    for pack in packed(uuids):
        sql = "SELECT distinct_id FROM events WHERE toString(person_id) IN {uuids} GROUP BY distinct_id"
        others.update(row[0] for row in client.rows(sql, {"uuids": pack}, str))
    return Subject(tuple(uuids), tuple(sorted(names)), tuple(sorted(others - names)))


def event_parts(subject: Subject, until: datetime) -> Iterator[EventsPart]:
    """Yield conditions that tile the person's events, up to a moment.

    :param subject: whose.
    :param until: events that PostHog took in later are not among them.
    """
    moment = " AND created_at <= toDateTime({until})"
    for pack in packed(subject.names):
        yield EventsPart("distinct_id IN {ids}" + moment, {"ids": pack, "until": utc(until)})
    for pack in packed(subject.others):  # other persons may have events with these ids, too
        yield EventsPart(
            "distinct_id IN {ids} AND toString(person_id) IN {uuids}" + moment,
            {"ids": pack, "uuids": list(subject.uuids), "until": utc(until)},
        )


def count_events(client: ErasureClient, part: EventsPart, more: str = "", **values: Any) -> tuple[int, int]:  # noqa: ANN401
    """Count events: all of them, copies included, and those that are different.

    :param client: asks PostHog.
    :param part: which.
    :param more: HogQL that holds for them as well.
    :param values: the values of its placeholders.
    """
    sql = f"SELECT count(), uniqExact(uuid) FROM events WHERE {part.where}{more}"  # noqa: S608 - our own text
    ((rows, different),) = client.rows(sql, {**part.values, **values}, int, int)
    return rows, different


def profile(client: ErasureClient, subject: Subject, expected: int) -> list[dict[str, Any]]:
    """Return the profiles.

    :param client: asks PostHog.
    :param subject: whose.
    :param expected: how many there were when the persons were looked up.
    :raises PostHogIncompleteError: if some are not shown.
    """
    sql = (
        "SELECT toString(id), toString(created_at), properties, toString(is_identified) FROM persons"
        " WHERE id IN {uuids}"
    )
    rows = [
        row for pack in packed(subject.uuids) for row in client.rows(sql, {"uuids": pack}, str, _TEXT, _TEXT, _TEXT)
    ]
    if len(rows) < expected:
        raise PostHogIncompleteError(
            f"PostHog shows {len(rows)} of {expected} profiles: some are deleted, or its queries do not see them yet. "
            "Look the persons up again."
        )
    return [
        {"uuid": uuid, "created_at": at, "is_identified": known in ("1", "true"), "properties": _parsed(properties)}
        for uuid, at, properties, known in rows
    ]


def distinct_ids(subject: Subject) -> list[dict[str, Any]]:
    """Return all distinct ids.

    :param subject: whose.
    """
    return [{"distinct_id": name} for name in subject.names] + [
        {"distinct_id": name, "only_events_of_this_person": True} for name in subject.others
    ]


def groups(client: ErasureClient, subject: Subject) -> list[dict[str, Any]]:
    """Return the groups that the person's events name; a group's own properties are not the person's.

    :param client: asks PostHog.
    :param subject: whose.
    """
    counts: dict[tuple[int, str], int] = {}
    for index in range(_GROUPS):
        sql = (  # our own text
            f"SELECT `$group_{index}` AS name, count() FROM events"  # noqa: S608
            f" WHERE distinct_id IN {{ids}} AND `$group_{index}` != '' GROUP BY name"
        )
        for pack in packed(subject.names):
            for key, events in client.rows(sql, {"ids": pack}, str, int):
                counts[index, key] = counts.get((index, key), 0) + events
    return [{"group_type_index": index, "key": key, "events": n} for (index, key), n in sorted(counts.items())]


def cohorts(client: ErasureClient, subject: Subject, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the cohorts that have the person as a member.

    :param client: asks PostHog.
    :param subject: whose.
    :param names: the known names of cohorts.
    """
    # those of static cohorts are in a table of their own
    both = (
        "SELECT cohort_id FROM cohort_people WHERE person_id IN {uuids}"
        " UNION ALL SELECT cohort_id FROM static_cohort_people WHERE person_id IN {uuids}"
    )
    sql = f"SELECT cohort_id FROM ({both}) GROUP BY cohort_id"  # noqa: S608 - our own text
    members = {row[0] for pack in packed(subject.uuids) for row in client.rows(sql, {"uuids": pack}, int)}
    return [{"cohort_id": cohort, "name": names.get(cohort)} for cohort in sorted(members)]


def recordings(client: ErasureClient, subject: Subject) -> list[dict[str, Any]]:
    """List the session recordings that can still be watched, without their content.

    :param client: asks PostHog.
    :param subject: whose.
    """
    recorded: list[dict[str, Any]] = []
    for pack in packed(subject.names):
        kinds: Sequence[Kind] = (str, str, _TEXT, _TEXT, _NUMBER, _NUMBER)
        try:
            sql = _REPLAY.format(gone=", max(is_deleted) AS gone")
            rows = [row for row in client.rows(sql, {"ids": pack}, *kinds, _NUMBER) if not row[-1]]
        except PostHogValidationError:  # servers that cannot delete recordings do not know that column either
            rows = client.rows(_REPLAY.format(gone=""), {"ids": pack}, *kinds)
        names = ("session_id", "distinct_id", "started", "ended", "clicks", "keys")
        recorded += [dict(zip(names, row, strict=False)) for row in rows]
    return sorted(recorded, key=lambda recording: (recording["started"] or "", recording["session_id"]))


def check_events(counted: tuple[int, int], read: Mapping[str, Any]) -> None:
    """Compare events that were read with what the server counts of the same.

    :param counted: from :func:`count_events`.
    :param read: of the files' manifest: ``rows``, and ``counted``, which has copies in it.
    :raises PostHogIncompleteError: if it has others.
    """
    rows, different = counted
    if read["counted"] == rows and different <= read["rows"] <= rows:
        return
    raise PostHogIncompleteError(
        f"PostHog counts {rows:,} events ({different:,} different ones) of this person, and {read['counted']:,} were "
        f"read ({read['rows']:,} different ones): some arrived meanwhile. Let the task retry, which starts again."
    )


def _parsed(text: str | None) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text
