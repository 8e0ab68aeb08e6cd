"""What a load has read so far, in a table of its own beside the target: numbered parts, each committed by itself.

No transaction is open between two parts. The table goes when the load has ended, well or not; what a killed try has
left is taken up by the next one, or removed.
"""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.names import parse_table, quote

log = logging.getLogger(__name__)

#: What bytes are called, by the connection's type; other databases keep no parts.
_BYTES: Mapping[str, str] = {
    "postgres": "bytea",
    "duckdb": "BLOB",
    "motherduck": "BLOB",
    "sqlite": "BLOB",
    "mysql": "LONGBLOB",
}
#: Bytes of a row at the most: MariaDB takes 16 MB in one statement.
_PIECE = 4 * 1024 * 1024
#: Bytes that are left of the target's own name: PostgreSQL knows 63 of a name.
_STEM = 40


def keeps_parts(kind: str) -> bool:
    """Tell whether a database can keep parts.

    :param kind: its connection's type.
    """
    return kind in _BYTES


class Parts:
    """The parts of one load.

    :param connect: returns a connection (PEP 249) in a new transaction, and its driver's sign for a value.
    :param kind: the connection's type, one that :func:`keeps_parts`.
    :param table: the table that is loaded.
    :param tag: tells this load from others of the same table: a few letters and digits.
    """

    def __init__(self, connect: Callable[[], tuple[Any, str]], kind: str, table: str, tag: str) -> None:
        self._connect = connect
        self._kind = kind
        mark = "`" if kind == "mysql" else '"'
        *around, last = parse_table(table, parts=3, fold=str.lower if kind == "postgres" else str)
        stem = last.encode()[:_STEM].decode(errors="ignore")
        self._name = ".".join(quote(part, mark) for part in (*around, f"{stem}__loading_{tag}"))
        self._table = table
        #: Whether nobody can read while a transaction writes.
        self.is_one_at_a_time = kind == "sqlite"

    def notes(self) -> list[dict[str, Any]]:
        """Return what was noted with each part, in order; empty if there are none."""
        try:
            with self._transaction() as (ask, _):
                rows = ask(f"SELECT part, note FROM {self._name} WHERE piece = 0 ORDER BY part")
            stored = [json.loads(note) for _, note in rows]
            return stored if [int(part) for part, _ in rows] == [*range(len(rows))] else []
        except Exception:
            return []

    def add(self, number: int, note: Mapping[str, Any], data: bytes) -> None:
        """Keep a part; it is there as a whole, or not at all.

        :param number: its number, from 0, which makes the table anew.
        :param note: what to note with it, as JSON.
        :param data: its bytes.
        :raises PostHogLoadError: if the database refuses it.
        """
        if number == 0:
            self._make()
        with self._transaction() as (ask, value):
            marks = ", ".join([value] * 4)
            for piece, at in enumerate(range(0, max(1, len(data)), _PIECE)):
                text = json.dumps(note) if piece == 0 else ""
                ask(f"INSERT INTO {self._name} VALUES ({marks})", (number, piece, text, data[at : at + _PIECE]))

    def data(self, number: int) -> bytes:
        """Return a part's bytes.

        :param number: its number.
        :raises PostHogLoadError: if the database refuses.
        """
        with self._transaction() as (ask, value):
            rows = ask(f"SELECT data FROM {self._name} WHERE part = {value} ORDER BY piece", (number,))
        return b"".join(bytes(data) for (data,) in rows)

    def drop(self) -> None:
        """Remove the table, if it is there. If the database refuses, that is logged: the load has ended."""
        try:
            with self._transaction() as (ask, _):
                ask(f"DROP TABLE IF EXISTS {self._name}")
        except Exception as error:
            log.warning("The table %s could not be removed (%s); it may be dropped", self._name, type(error).__name__)

    def _make(self) -> None:
        made = "CREATE UNLOGGED TABLE" if self._kind == "postgres" else "CREATE TABLE"
        columns = f"part BIGINT, piece BIGINT, note TEXT, data {_BYTES[self._kind]}, PRIMARY KEY (part, piece)"
        with self._transaction() as (ask, _):
            ask(f"DROP TABLE IF EXISTS {self._name}")
            ask(f"{made} {self._name} ({columns})")

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Callable[..., list[Any]], str]]:
        """Connect for a moment; what is asked is committed at the end."""
        connection, value = self._connect()
        with closing(connection), translate_errors(connection, f"keeping what was read for {self._table}"):
            by_cursor = not hasattr(connection, "begin") or self._kind == "mysql"

            def ask(statement: str, values: Sequence[Any] = ()) -> list[Any]:
                # DuckDB's cursor would be another connection.
                cursor = connection.cursor() if by_cursor else connection
                cursor.execute(statement, tuple(values)) if values else cursor.execute(statement)
                return list(cursor.fetchall()) if statement.startswith("SELECT") else []

            yield ask, value
            connection.commit()
