"""Persons, groups and events in ClickHouse: what lists and HogQL see, perhaps later than PostHog's database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.emulator.hogql.values import literal

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.data.warehouse import Warehouse
    from airflow_provider_posthog.emulator.people.group import Group
    from airflow_provider_posthog.emulator.people.person import Person

INPUT = "SETTINGS date_time_input_format='best_effort'"
SYNC = "SETTINGS lightweight_deletes_sync=2"
#: What PostHog fills by itself, and tests fill here.
OTHERS = ("heatmaps", "flag_evaluations", "cohort_people", "static_cohort_people")


def text(value: object) -> str:
    """Return a value as a literal of ClickHouse.

    :param value: a text or a number.
    """
    return literal(value, clickhouse=True)


def listed(values: Sequence[str]) -> str:
    """Return texts as the right side of ClickHouse's ``IN``.

    :param values: at least one.
    """
    return f"({', '.join(map(text, values))})"


def moment(value: datetime) -> str:
    """Return a time as SQL of ClickHouse.

    :param value: an aware UTC datetime.
    """
    return f"toDateTime64('{value:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"


@dataclass
class PeopleTables:
    """Reads and writes those tables.

    :param warehouse: where they are.
    """

    warehouse: Warehouse

    def restore(self) -> None:
        """Bring back the persons and groups of the start."""
        for table in ("raw_session_replay_events", *OTHERS):
            self.warehouse.execute(f"TRUNCATE TABLE {{db}}.{table}")
        self.warehouse.refill_people()

    # -- persons -------------------------------------------------------------------------------------------------

    def persons(self) -> list[dict[str, Any]]:
        """Return all persons with their distinct ids, oldest first."""
        return self.warehouse.execute(
            "SELECT toString(id) AS uuid, toUnixTimestamp64Milli(created_at) AS millis, properties, is_identified,"
            " ids.listed AS distinct_ids FROM {db}.persons LEFT JOIN (SELECT person_id,"
            " arrayReverseSort(groupArray(distinct_id)) AS listed FROM {db}.person_distinct_ids GROUP BY person_id)"
            " AS ids ON ids.person_id = id ORDER BY created_at, id SETTINGS output_format_json_quote_64bit_integers=0"
        )

    def find(self, condition: str, limit: int, offset: int) -> list[str]:
        """Return the uuids of a page of persons, newest first.

        :param condition: SQL.
        :param limit: at most so many.
        :param offset: after so many.
        """
        rows = self.warehouse.execute(
            f"SELECT toString(id) AS uuid FROM {{db}}.persons WHERE {condition}"  # noqa: S608 - of our own making
            f" ORDER BY created_at DESC, id DESC LIMIT {limit} OFFSET {offset}"
        )
        return [str(row["uuid"]) for row in rows]

    def count(self, condition: str) -> int:
        """Return how many persons there are.

        :param condition: SQL.
        """
        rows = self.warehouse.execute(f"SELECT count() AS n FROM {{db}}.persons WHERE {condition}")  # noqa: S608
        return int(str(rows[0]["n"]))

    def write_persons(self, persons: Sequence[Person], *, new: bool) -> None:
        """Write persons and their distinct ids.

        :param persons: as they are now.
        :param new: whether none of them is there yet; otherwise what is there is replaced.
        """
        if not new:
            self.remove_persons([person.uuid for person in persons])
        lines = [
            {
                "id": person.uuid,
                "created_at": person.created_at.isoformat(),
                "properties": json.dumps(person.properties, ensure_ascii=False),
                "is_identified": int(person.is_identified),
            }
            for person in persons
        ]
        ids = [{"distinct_id": name, "person_id": person.uuid} for person in persons for name in person.distinct_ids]
        self._insert("persons", lines)
        self._insert("person_distinct_ids", ids)

    def remove_persons(self, uuids: Sequence[str]) -> None:
        """Remove persons and their distinct ids.

        :param uuids: of the persons.
        """
        for start in range(0, len(uuids), 1000):
            batch = listed(uuids[start : start + 1000])
            for table, column in (("persons", "id"), ("person_distinct_ids", "person_id")):
                self._delete(table, f"{column} IN {batch}")

    # -- events and recordings -----------------------------------------------------------------------------------

    def remove_events(self, until: Mapping[str, datetime], *, arrived: bool) -> int:
        """Delete the events of persons and their evaluations of flags, and return how many events there were.

        :param until: the last moment of events that are deleted, by the person's uuid.
        :param arrived: keep events that arrived after that moment, too.
        """
        removed, uuids = 0, [*until]
        for start in range(0, len(uuids), 1000):
            batch = listed(uuids[start : start + 1000])
            rows = self.warehouse.execute(
                f"SELECT DISTINCT toString(person_id) AS uuid FROM {{db}}.events WHERE person_id IN {batch} UNION ALL"  # noqa: S608
                f" SELECT DISTINCT toString(person_id) AS uuid FROM {{db}}.flag_evaluations WHERE person_id IN {batch}"
            )
            # most have none, and a mutation is slow
            busy = {str(row["uuid"]): until[str(row["uuid"])] for row in rows}
            if busy:
                removed += self._remove_events(busy, arrived=arrived)
        return removed

    def add_rows(self, table: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows of a table that PostHog fills by itself.

        :param table: one of :data:`OTHERS`.
        :param rows: its columns.
        """
        self._insert(table, rows)

    def _remove_events(self, until: Mapping[str, datetime], *, arrived: bool) -> int:
        uuids = ", ".join(map(text, until))
        times = ", ".join(text(f"{last:%Y-%m-%d %H:%M:%S.%f}") for last in until.values())
        last = f"toDateTime64OrZero([{times}][indexOf([{uuids}], toString(person_id))], 6, 'UTC')"
        where = f"person_id IN ({uuids}) AND timestamp <= {last}"
        if arrived:
            where += f" AND created_at <= {last}"
        self._delete("flag_evaluations", where)
        return self.warehouse.delete_events(where)

    def add_recordings(self, recordings: Iterable[tuple[str, str, str]]) -> None:
        """Add session recordings.

        :param recordings: session id, distinct id and time of each.
        """
        self._insert(
            "raw_session_replay_events",
            [
                {"session_id": session, "distinct_id": who, "min_first_timestamp": at, "max_last_timestamp": at}
                for session, who, at in recordings
            ],
        )

    def remove_recordings(self, distinct_ids: Sequence[str]) -> None:
        """Mark the recordings of a person as deleted.

        :param distinct_ids: whose.
        """
        where = f"distinct_id IN {listed(distinct_ids)}"
        if self._count("raw_session_replay_events", where):
            self.warehouse.execute(
                f"ALTER TABLE {{db}}.raw_session_replay_events UPDATE is_deleted = 1 WHERE {where}"
                " SETTINGS mutations_sync=2"
            )

    # -- groups --------------------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """Return all groups, oldest first."""
        return self.warehouse.execute(
            "SELECT `index`, key, toUnixTimestamp64Micro(created_at) AS micros, properties FROM {db}.groups"
            " ORDER BY created_at, key SETTINGS output_format_json_quote_64bit_integers=0"
        )

    def write_group(self, group: Group) -> None:
        """Write a group, replacing an existing one.

        :param group: as it is now.
        """
        self._delete("groups", f"`index` = {group.index} AND key = {text(group.key)}")
        line = {
            "index": group.index,
            "key": group.key,
            "created_at": group.created_at.isoformat(),
            "updated_at": group.created_at.isoformat(),
            "properties": json.dumps(group.properties, ensure_ascii=False),
        }
        self._insert("groups", [line])

    def _delete(self, table: str, where: str) -> None:
        if self._count(table, where):  # most have none, and a mutation is slow
            self.warehouse.execute(f"DELETE FROM {{db}}.{table} WHERE {where} {SYNC}")  # noqa: S608 - of our own making

    def _count(self, table: str, where: str) -> int:
        rows = self.warehouse.execute(f"SELECT count() AS n FROM {{db}}.{table} WHERE {where}")  # noqa: S608
        return int(str(rows[0]["n"]))

    def _insert(self, table: str, lines: Iterable[Mapping[str, object]]) -> None:
        written = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        if written:
            self.warehouse.execute(f"INSERT INTO {{db}}.{table} {INPUT} FORMAT JSONEachRow ", written)
