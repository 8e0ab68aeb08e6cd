"""Store what a load has read so far in a table beside the target: numbered parts, each committed by itself.

No transaction is open between two parts. The table is dropped when the load has ended, well or not; the next try
resumes what a killed one left. What no try resumes is removed by a later load of the same table.
"""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogLoadError
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.names import parse_table, quote

log = logging.getLogger(__name__)

#: The type for bytes, by the connection's type; other databases store no parts.
_BYTES: Mapping[str, str] = {
    "postgres": "bytea",
    "duckdb": "BLOB",
    "motherduck": "BLOB",
    "sqlite": "BLOB",
    "mysql": "LONGBLOB",
}
#: Lists the tables of a schema, by the connection's type: null stands for the connection's own schema.
_TABLES: Mapping[str, str] = {
    "postgres": "SELECT tablename FROM pg_tables WHERE schemaname = COALESCE(CAST({schema} AS text), current_schema())",
    "mysql": "SELECT table_name FROM information_schema.tables WHERE table_schema = COALESCE({schema}, DATABASE())",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
}
_OF_DUCKDB = (
    "SELECT table_name FROM duckdb_tables() WHERE schema_name = COALESCE({schema}, current_schema())"
    " AND database_name = COALESCE({catalog}, current_database())"
)
#: The most bytes of a row: MariaDB takes 16 MB in one statement.
_PIECE = 4 * 1024 * 1024
#: Bytes of the target's own name that are kept: PostgreSQL allows 63 in a name.
_STEM = 26
#: The rest of the name: what the table is, then the day on which it was made, and its load.
_NAME = "__loading_posthog_"
_LIKE = re.compile(rf".*{_NAME}(?P<day>[0-9]{{8}})_(?P<tag>[0-9a-z]+)", re.DOTALL)


def keeps_parts(kind: str) -> bool:
    """Return whether a database can store parts.

    :param kind: its connection's type.
    """
    return kind in _BYTES


def stem_of(table: str) -> str:
    """Return the prefix of the names of tables with parts of loads.

    :param table: the target's own name.
    """
    return f"{table.encode()[:_STEM].decode(errors='ignore')}{_NAME}"


class Parts:
    """The parts of one load.

    :param connect: returns a connection (PEP 249) in a new transaction, and its driver's sign for a value.
    :param kind: the connection's type, one that :func:`keeps_parts`.
    :param table: the table that is loaded.
    :param tag: identifies this load among others of the same table: a few letters and digits.
    """

    def __init__(self, connect: Callable[[], tuple[Any, str]], kind: str, table: str, tag: str) -> None:
        self._connect = connect
        self._kind = kind
        self._mark = "`" if kind == "mysql" else '"'
        *self._around, last = parse_table(table, parts=3, fold=str.lower if kind == "postgres" else str)
        self._stem = last.encode()[:_STEM].decode(errors="ignore")
        self._tag = tag
        self._own: str | None = None
        self._table = table
        #: Whether reading is blocked while a transaction writes.
        self.is_one_at_a_time = kind == "sqlite"

    @property
    def name(self) -> str:
        """The name of the table, quoted: that of the target, what it is, the day on which it was made, and the tag."""
        if self._own is None:
            self._own = f"{self._stem}{_NAME}{datetime.now(timezone.utc):%Y%m%d}_{self._tag}"
        return self._quoted(self._own)

    def notes(self) -> list[dict[str, Any]]:
        """Return the notes of the parts, in order; empty if there are none.

        Unreadable notes are no error: the load reads the rows from PostHog again, and logs that.
        """
        try:
            tables = [name for name, (_, tag) in self._like().items() if tag == self._tag]
            if not tables:
                return []
            self._own = max(tables)
            if stored := self._notes_in(self.name):
                return stored
        except (PostHogError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            log.warning(
                "What an earlier try of this load may have kept beside %s cannot be read, so that it is read from "
                "PostHog again. %s",
                self._table,
                error if isinstance(error, PostHogError) else "It is not what this package writes.",
            )
        if self._own is not None:
            self.drop()
        return []

    def _notes_in(self, name: str) -> list[dict[str, Any]]:
        with self._transaction() as (ask, _):
            rows = ask(f"SELECT part, note FROM {name} WHERE piece = 0 ORDER BY part")
        notes = [json.loads(note) for _, note in rows]
        if not all(isinstance(note, dict) for note in notes):
            raise ValueError
        return notes if [int(part) for part, _ in rows] == [*range(len(rows))] else []

    def add(self, number: int, note: Mapping[str, Any], data: bytes) -> None:
        """Store a part, as a whole or not at all.

        :param number: its number, from 0, which makes the table anew.
        :param note: its note, as JSON.
        :param data: its bytes.
        :raises PostHogLoadError: if the database refuses it.
        """
        if number == 0:
            self._make()
        with self._transaction() as (ask, value):
            marks = ", ".join([value] * 4)
            for piece, at in enumerate(range(0, max(1, len(data)), _PIECE)):
                text = json.dumps(note) if piece == 0 else ""
                ask(f"INSERT INTO {self.name} VALUES ({marks})", (number, piece, text, data[at : at + _PIECE]))

    def data(self, number: int) -> bytes:
        """Return a part's bytes.

        :param number: its number.
        :raises PostHogLoadError: if the database refuses.
        """
        with self._transaction() as (ask, value):
            rows = ask(f"SELECT data FROM {self.name} WHERE part = {value} ORDER BY piece", (number,))
        return b"".join(bytes(data) for (data,) in rows)

    def drop(self) -> None:
        """Drop the table, if it exists. If the database refuses, that is only logged: the load has ended."""
        self._drop(self.name)
        self._own = None

    def sweep(self, before: float) -> list[str]:
        """Drop the tables that other loads of the same table have left and no try has resumed.

        Only tables with such a name and these columns, whose parts are all this package's and old enough. If the
        database refuses, that is only logged.

        :param before: when the last part was kept, in seconds since 1970, for the table to go.
        :returns: the names of the tables that were removed.
        """
        try:
            tables = self._like()
        except PostHogError as error:
            log.info("What earlier loads of %s may have left was not looked for. %s", self._table, error)
            return []
        day = f"{datetime.fromtimestamp(before, timezone.utc):%Y%m%d}"
        old = [name for name, (made, _) in tables.items() if made < day]
        return [name for name in old if self._is_left(self._quoted(name), before) and self._drop(self._quoted(name))]

    def _is_left(self, name: str, before: float) -> bool:
        try:
            with self._transaction() as (ask, _):
                rows = ask(f"SELECT part, piece, data IS NULL, note FROM {name} WHERE piece = 0")
            notes = [json.loads(note) for *_, note in rows]
            return all({"owner", "load"} <= {*note} and float(note["began"]) < before for note in notes)
        except (PostHogError, LookupError, TypeError, ValueError):
            return False  # somebody else's

    def _like(self) -> dict[str, tuple[str, str]]:
        """Return the days and tags of the tables of this kind beside the target, by their names."""
        catalog, schema = [None, None, *self._around][-2:]
        statement = _TABLES.get(self._kind, _OF_DUCKDB)
        values = [schema] if "{schema}" in statement else []
        values += [catalog] if "{catalog}" in statement else []
        with self._transaction() as (ask, value):
            names = [str(name) for (name,) in ask(statement.format(schema=value, catalog=value), values)]
        stem = f"{self._stem}{_NAME}".casefold()  # some servers make names small
        matches = {name: _LIKE.fullmatch(name) for name in names if name.casefold().startswith(stem)}
        return {name: (match["day"], match["tag"]) for name, match in matches.items() if match}

    def _quoted(self, name: str) -> str:
        return ".".join(quote(part, self._mark) for part in (*self._around, name))

    def _drop(self, name: str) -> bool:
        try:
            with self._transaction() as (ask, _):
                ask(f"DROP TABLE IF EXISTS {name}")
        except PostHogLoadError as error:
            log.warning("The table %s could not be removed; it may be dropped. %s", name, error)
            return False
        return True

    def _make(self) -> None:
        made = "CREATE UNLOGGED TABLE" if self._kind == "postgres" else "CREATE TABLE"
        text = "LONGTEXT" if self._kind == "mysql" else "TEXT"
        columns = f"part BIGINT, piece BIGINT, note {text}, data {_BYTES[self._kind]}, PRIMARY KEY (part, piece)"
        with self._transaction() as (ask, _):
            ask(f"DROP TABLE IF EXISTS {self.name}")
            ask(f"{made} {self.name} ({columns})" + (" ENGINE = InnoDB" if self._kind == "mysql" else ""))

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Callable[..., list[Any]], str]]:
        """Connect for one transaction, which is committed at the end."""
        try:
            connection, value = self._connect()
        except PostHogError:
            raise
        except Exception as error:  # each driver has errors of its own, whose text may hold what it connects with
            raise PostHogLoadError(f"The database cannot be reached ({type(error).__name__}).") from None
        with closing(connection), translate_errors(connection, f"keeping what was read for {self._table}"):
            by_cursor = not hasattr(connection, "begin") or self._kind == "mysql"

            def ask(statement: str, values: Sequence[Any] = ()) -> list[Any]:
                # DuckDB's cursor would be another connection.
                cursor = connection.cursor() if by_cursor else connection
                cursor.execute(statement, tuple(values)) if values else cursor.execute(statement)
                return list(cursor.fetchall()) if statement.startswith("SELECT") else []

            yield ask, value
            connection.commit()
