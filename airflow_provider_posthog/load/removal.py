"""Erasing the rows of persons from a table, in one transaction, proved by counting."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.names import parse_table, quote

#: Values per statement.
_BATCH = 500
_NOTHING = "Nothing was erased."


@dataclass(frozen=True)
class Criterion:
    """A column that says whose row it is.

    :param column: its name, as the database keeps it.
    :param values: whose rows are to go; read once.
    :param any_case: whether capitals are the same, as in UUIDs.
    """

    column: str
    values: Iterator[str] = field(repr=False)
    any_case: bool = False


class Removal:
    """Erases rows through a connection, in the transaction that it is in; the caller commits.

    The values go into a temporary table first, so that the table is read once for each column, however many persons
    there are. A text column is compared as it is, any other (PostgreSQL's ``uuid``) by its text.

    :param connection: of psycopg (2 or 3), DuckDB or SQLite, in a transaction.
    :param table: the table, such as ``analytics.events``.
    :param placeholder: the driver's sign for a value: ``?`` or ``%s``.
    :raises PostHogSettingsError: if the table's name is none.
    """

    def __init__(self, connection: Any, table: str, placeholder: str) -> None:  # noqa: ANN401 - PEP 249
        self._connection = connection
        self._is_postgres = placeholder == "%s"
        fold = str.lower if self._is_postgres else str
        self._parts = [quote(part) for part in parse_table(table, parts=3, fold=fold)]
        self._name = ".".join(self._parts)
        self._table = table
        self._value = placeholder

    def run(self, criteria: Sequence[Criterion]) -> dict[str, int]:
        """Erase, and count what is left.

        :param criteria: the columns; a row goes if any of them says so.
        :returns: how many rows went, by column; one that two columns name counts for the first.
        :raises PostHogLoadError: if the database refuses, or if rows are left. The text holds no value.
        """
        for one in criteria:  # before any value is sent, so that the error may say what is wrong
            with translate_errors(self._connection, f"reading column {one.column} of {self._table}", _NOTHING):
                self._execute(f"SELECT 1 FROM {self._name} WHERE {self._column(one)} IS NULL AND 1 = 0")
        removed: dict[str, int] = {}
        conditions: dict[str, str] = {}
        for number, one in enumerate(criteria):
            with translate_errors(self._connection, f"erasing rows of {self._table} by {one.column}", _NOTHING):
                conditions[one.column] = condition = self._gather(f"posthog_erasure_{number}", one)
                removed[one.column] = self._count(condition)
                self._execute(f"DELETE FROM {self._name} WHERE {condition}")
        with translate_errors(self._connection, f"counting rows of {self._table}", _NOTHING):
            left = {column: n for column, condition in conditions.items() if (n := self._count(condition))}
        if left:
            raise PostHogLoadError(
                f"{sum(left.values()):,} rows of {self._table} are still there after they were deleted (by "
                f"{', '.join(left)}): others write them at this moment, or a rule or trigger keeps them. {_NOTHING}"
            )
        return removed

    def _gather(self, name: str, one: Criterion) -> str:
        """Write the values into a table of this connection; return the condition that finds their rows."""
        self._execute(f"CREATE TEMPORARY TABLE {name} (id TEXT)")
        values = iter(one.values)
        while batch := [self._fit(value, one) for value in islice(values, _BATCH)]:
            rows = ", ".join([f"({self._value})"] * len(batch))
            self._execute(f"INSERT INTO {name} (id) VALUES {rows}", batch)
        if self._is_postgres:
            self._execute(f"ANALYZE {name}")  # without figures its planner takes it for a small one
        column = f"CAST({self._column(one)} AS TEXT)"
        return f"{f'LOWER({column})' if one.any_case else column} IN (SELECT id FROM {name})"

    def _column(self, one: Criterion) -> str:
        # With the table's name: SQLite takes a quoted name that is not a column's for a text.
        return f"{self._parts[-1]}.{quote(one.column)}"

    def _fit(self, value: str, one: Criterion) -> str:
        if self._is_postgres:  # keeps no character 0: the loader writes this one in its place
            value = value.replace("\0", "\ufffd")
        return value.lower() if one.any_case else value

    def _count(self, condition: str) -> int:
        cursor = self._execute(f"SELECT count(*) FROM {self._name} WHERE {condition}")
        return int(cursor.fetchone()[0])

    def _execute(self, statement: str, values: Sequence[str] = ()) -> Any:  # noqa: ANN401 - a PEP 249 cursor
        # Without values psycopg takes no % of a name for a placeholder.
        given = [values] if values else []
        if not self._is_postgres:  # a cursor of DuckDB is another connection, outside of the transaction
            return self._connection.execute(statement, *given)
        cursor = self._connection.cursor()
        cursor.execute(statement, *given)
        return cursor


def as_text(removed: Mapping[str, int]) -> str:
    """Say what went, for a log or a certificate.

    :param removed: what :meth:`Removal.run` returned.
    """
    return f"{sum(removed.values()):,} rows (" + ", ".join(f"{n:,} by {column}" for column, n in removed.items()) + ")"
