"""The embedded PostHog's store: ClickHouse in the process, read through HogQL."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_posthog.emulator.data import web_shop as data
from airflow_provider_posthog.emulator.data.information import information_sources
from airflow_provider_posthog.emulator.data.own import OwnTables
from airflow_provider_posthog.emulator.hogql.engine_errors import from_clickhouse
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.results import read_rows
from airflow_provider_posthog.emulator.hogql.system import Sources, clickhouse_name, create_statement, lines_of
from airflow_provider_posthog.emulator.hogql.tables import create_statements
from airflow_provider_posthog.emulator.hogql.translate import Compiled, Floor, Rules, translate

__all__ = ["HogQLError", "QueryResult", "Warehouse"]

_FORMAT = "JSONCompactEachRowWithNamesAndTypes"
# ISO times and bare integers, as PostHog's answers have them
_SETTINGS = (
    "SET date_time_output_format='iso', output_format_json_quote_64bit_integers=0, "
    "output_format_json_quote_decimals=1, output_format_json_named_tuples_as_objects=0, "
    "output_format_json_escape_forward_slashes=0, "
    "max_execution_time=60, max_memory_usage=4000000000"
)
# what a query reads must not depend on those before it; versions before 2025 have no such cache
_NO_MEMORY = "SET use_query_condition_cache=0"
# what events fill, and what a reset puts back
_OF_EVENTS = ("events", "raw_sessions")
_OF_PEOPLE = ("persons", "person_distinct_ids", "groups")
# one ClickHouse lives in a process: all warehouses share it, each in a database of its own, the last one closes it
_engine_lock = threading.RLock()
_engine: Any = None
_open: set[str] = set()
_numbers = itertools.count(1)
_WINDOWS_AT_ONCE = 500


@dataclass(frozen=True)
class QueryResult:
    """The answer to a query, as ``/query/`` gives it: ``rows`` hold values ready for JSON."""

    columns: list[str]
    types: list[tuple[str, str]]
    rows: list[list[object]]
    has_more: bool | None
    limit: int | None
    offset: int | None
    hogql: str
    clickhouse: str
    timezone: str
    bytes_read: int = 0


def _run(sql: str, output: str = "TabSeparated") -> bytes:
    """Run ClickHouse SQL of our own making; one statement at a time in the whole process."""
    return _measured(sql, output)[0]


def _measured(sql: str, output: str) -> tuple[bytes, int]:
    """Run ClickHouse SQL as :func:`_run` does; also return how many uncompressed bytes it read from its tables."""
    global _engine
    from chdb import session

    with _engine_lock:
        if _engine is None:
            open_session: Any = session.Session
            _engine = open_session()
            _engine.query(_SETTINGS)
            with suppress(RuntimeError):
                _engine.query(_NO_MEMORY)
        try:
            answer = _engine.query(sql, output)
        except RuntimeError:
            # what a query has written before it failed would begin the next answer
            _engine.query("SELECT 1")
            raise
        return bytes(answer.bytes()), int(answer.storage_bytes_read())


class Warehouse:
    """One project's events and persons.

    :param seed: what the invented data depends on
    :param events: how many events to make
    :param start: midnight UTC of the first day with data; the data ends yesterday by default
    :param days: how many days of data
    :param timezone: the project's IANA time zone; the attribute of that name may be changed at any time
    :param newer_functions: accept what PostHog servers of 2025 and later accept, such as ``toDateTime64``
    :param team: the project's id
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        events: int = 20_000,
        start: datetime | None = None,
        days: int = 30,
        timezone: str = "UTC",
        newer_functions: bool = True,
        team: int = 1,
    ) -> None:
        self.timezone = timezone
        self.newer_functions = newer_functions
        #: what fills the tables that show the server's own state, by name
        self.sources: Sources = {}
        self._database = f"project_{next(_numbers)}"
        self._made_of: dict[str, int] = {"seed": seed, "events": events, "days": days}
        self._start = start
        self.team = team
        #: cohorts, actions, tables and the like that tests have given the project
        self.own = OwnTables(lambda sql: _run(sql.replace("{db}.", f"{self._database}.")), team)
        _open.add(self._database)
        self._make()

    def _make(self) -> None:
        """Make the project's tables with their data."""
        self._first_day = self._start or data.default_start(self._made_of["days"])
        filled = data.fill_statements(self._database, start=self._first_day, **self._made_of)
        for statement in [*create_statements(self._database, self.team), *filled]:
            _run(statement)
        for table in map(self._named, (*_OF_EVENTS, *_OF_PEOPLE)):
            # links to the same files, so it costs nothing
            _run(f"CREATE TABLE {table}_at_start AS {table}")
            _run(f"ALTER TABLE {table}_at_start ATTACH PARTITION tuple() FROM {table}")
        self._events_changed = False

    def renew(self) -> bool:
        """Make the data anew if it should end yesterday and no longer does, and tell whether it was made.

        Who starts before midnight and resets after it gets what they would get from a new start.
        """
        if self._first_day == (self._start or data.default_start(self._made_of["days"])):
            return False
        with _engine_lock:
            _run(f"DROP DATABASE {self._database}")
            self._make()
        return True

    @property
    def timezone(self) -> str:
        """The project's IANA time zone: results and times without a zone follow it.

        :raises ValueError: when set to a zone that does not exist
        """
        return self._timezone

    @timezone.setter
    def timezone(self, name: str) -> None:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is not an IANA time zone; write one such as 'Europe/Berlin'") from error
        self._timezone = name

    def query(
        self,
        hogql: str,
        values: Mapping[str, object] | None = None,
        *,
        limit_context: str = "query",
        personal_api_key: bool = True,
        floor: Floor | None = None,
        without: frozenset[str] = frozenset(),
    ) -> QueryResult:
        """Answer a HogQL query. Safe to call from several threads.

        :param hogql: the query
        :param values: what its ``{placeholders}`` stand for
        :param limit_context: ``query`` (100 rows without LIMIT, 50,000 at most) or ``export`` (50,000 and 300,000)
        :param personal_api_key: refuse OFFSET, as PostHog does for such keys since 2026
        :param floor: what hides old events
        :param without: tables that the server does not have
        :raises HogQLError: for what PostHog answers an error to
        """
        zone, newer, export = self.timezone, self.newer_functions, limit_context == "export"
        own = (self.own.catalog(), self.team)
        rules = Rules(zone, self._database, newer, export, personal_api_key, floor, without, *own)
        compiled = translate(hogql, values or {}, rules)
        answer, bytes_read = self._execute(compiled)
        types, rows = read_rows(answer, zone)
        more = compiled.page is not None and len(rows) > compiled.page
        return QueryResult(
            columns=compiled.columns,
            types=list(zip(_names(compiled, answer, len(types)), types, strict=True)),
            rows=rows[: compiled.page],
            has_more=None if compiled.page is None else more,
            limit=compiled.page,
            offset=None if compiled.page is None else 0,
            hogql=compiled.hogql,
            clickhouse=compiled.clickhouse,
            timezone=zone,
            bytes_read=bytes_read,
        )

    def insert_events(self, events: Iterable[Mapping[str, object]]) -> None:
        """Add events.

        :param events: each with uuid, event, distinct_id, person_id, timestamp, created_at (datetimes or ISO text) and
            properties (a dict)
        """
        lines = "\n".join(json.dumps(_row(event), ensure_ascii=False) for event in events)
        if lines:
            self._events_changed = True
            settings = "SETTINGS date_time_input_format='best_effort'"
            _run(f"INSERT INTO {self._database}.events {settings} FORMAT JSONEachRow {lines}")

    def count_events(self, start: datetime, end: datetime, column: str = "timestamp") -> int:
        """Count the events of a half-open window without HogQL: the truth that answers are checked against.

        :param start: the first moment inside, with its zone
        :param end: the first moment after it, with its zone
        :param column: ``timestamp`` or ``created_at``
        """
        return self.count_events_of([(start, end)], column)[0]

    def count_events_of(self, windows: Sequence[tuple[datetime, datetime]], column: str = "timestamp") -> list[int]:
        """Count the events of each of several windows, as :meth:`count_events` does.

        :param windows: their first moments, and the first ones after them
        :param column: ``timestamp`` or ``created_at``
        """
        if column not in ("timestamp", "created_at"):
            raise ValueError(f"events are counted by timestamp or created_at, not by {column!r}")
        counts: list[int] = []
        for first in range(0, len(windows), _WINDOWS_AT_ONCE):
            asked = windows[first : first + _WINDOWS_AT_ONCE]
            terms = (f"countIf({column} >= {_micros(start)} AND {column} < {_micros(end)})" for start, end in asked)
            counts += map(int, _run(f"SELECT {', '.join(terms)} FROM {self._database}.events").split())  # noqa: S608 - our own
        return counts

    def execute(self, sql: str, lines: str = "") -> list[dict[str, Any]]:
        """Run ClickHouse SQL of the emulator's own making.

        :param sql: a statement; ``{db}`` in it stands for the project's database, in front of a table's name
        :param lines: what an INSERT is to insert
        :returns: the rows of a SELECT by column, none for other statements
        """
        answer = _run(sql.replace("{db}.", f"{self._database}.") + lines, "JSONEachRow").decode(errors="replace")
        return [json.loads(line) for line in answer.split("\n") if line]

    def delete_events(self, where: str) -> int:
        """Delete events, and return how many there were.

        :param where: a condition of ClickHouse
        """
        count = int(_run(f"SELECT count() FROM {self._database}.events WHERE {where}"))  # noqa: S608 - our own making
        if count:
            # most have none, and a mutation is slow
            self._events_changed = True
            _run(f"DELETE FROM {self._database}.events WHERE {where} SETTINGS lightweight_deletes_sync=2")  # noqa: S608 - our own making
        return count

    def restore_events(self) -> None:
        """Make the events as they were when the warehouse was opened."""
        if self._events_changed:
            self._put_back(_OF_EVENTS)
            self._events_changed = False

    def _named(self, table: str) -> str:
        return f"{self._database}.{table}"

    def refill_people(self) -> None:
        """Make persons and groups as they were when the warehouse was opened."""
        self._put_back(_OF_PEOPLE)

    def _put_back(self, tables: Iterable[str]) -> None:
        for table in map(self._named, tables):
            # not REPLACE PARTITION, which takes no empty one
            _run(f"TRUNCATE TABLE {table}")
            _run(f"ALTER TABLE {table} ATTACH PARTITION tuple() FROM {table}_at_start")

    def close(self) -> None:
        """Drop the project's data; closing the last warehouse of a process also removes ClickHouse's own files."""
        global _engine
        with _engine_lock:
            if self._database not in _open:
                return
            _run(f"DROP DATABASE IF EXISTS {self._database}")
            _open.discard(self._database)
            if not _open:
                _engine.close()
                _engine = None

    def _fill(self, name: str) -> None:
        """Write the server's state of now into the table that shows it."""
        table = f"{self._database}.{clickhouse_name(name)}"
        # only now, since few ever ask: so the server starts no later for them
        _run(create_statement(self._database, name))
        sources = {**information_sources(self.own), **self.sources}
        rows = [*(sources[name]() if name in sources else []), *self.own.rows.get(name, [])]
        lines = lines_of(name, rows)
        if lines:
            _run(f"INSERT INTO {table} SETTINGS date_time_input_format='best_effort' FORMAT JSONEachRow {lines}")

    def _execute(self, compiled: Compiled) -> tuple[bytes, int]:
        try:
            if not compiled.system:
                return _measured(compiled.sql, _FORMAT)
            with _engine_lock:
                for name in compiled.system:
                    self._fill(name)
                return _measured(compiled.sql, _FORMAT)
        except RuntimeError as error:
            raise from_clickhouse(str(error), self._database) from error


def _names(compiled: Compiled, answer: bytes, count: int) -> list[str]:
    """Return the names of an answer's columns: ClickHouse's own where one of the query's became several."""
    if len(compiled.type_names) == count:
        return compiled.type_names
    names: list[str] = json.loads(answer[: answer.index(b"\n")])
    return names


def _micros(moment: datetime) -> str:
    text = moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"toDateTime64('{text}', 6, 'UTC')"


def _row(event: Mapping[str, object]) -> dict[str, object]:
    properties = event["properties"]
    session = properties.get("$session_id", "") if isinstance(properties, dict) else ""
    times = {key: _iso(event[key]) for key in ("timestamp", "created_at")}
    kept = {key: event[key] for key in ("event", "distinct_id")} | {
        key: str(event[key]) for key in ("uuid", "person_id")
    }
    text = json.dumps(properties, ensure_ascii=False)
    personless = isinstance(properties, dict) and properties.get("$process_person_profile") is False
    mode = "propertyless" if personless else "full"
    kept |= {"elements_chain": str(event["elements_chain"])} if "elements_chain" in event else {}
    return {**kept, **times, "properties": text, "$session_id": str(session), "person_mode": mode}


def _iso(moment: object) -> str:
    return moment.isoformat() if isinstance(moment, datetime) else str(moment)
