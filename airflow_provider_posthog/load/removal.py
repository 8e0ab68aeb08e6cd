"""Erase the rows of persons from a table, in one transaction, proved by counting."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load.beside import Beside, Kind
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.names import parse_table, quote

#: Values per statement.
_BATCH = 500
#: Types whose text is not an identifier, although one may be in it: lists, objects, JSON and bytes.
_NOT_ONE = re.compile(
    r".*\]|jsonb?|bytea|(?:tiny|medium|long)?blob|(?:(?:var)?binary|bit|set)\b.*|hstore|xml|variant"
    r"|(?:struct|map|union|record)\b.*",
    re.IGNORECASE,
)
#: SQLite's own LOWER knows ASCII only.
_FOLDS = "posthog_lower"
_ICU = (
    "SELECT 1 FROM pg_catalog.pg_collation WHERE collname = 'und-x-icu' AND current_setting('server_encoding') = 'UTF8'"
)
_NOTHING = "Nothing was erased."


@dataclass(frozen=True)
class Criterion:
    """A column that says whose row it is.

    :param column: its name, as the database keeps it.
    :param values: whose rows to erase; read once.
    :param any_case: whether case is ignored, as for UUIDs.
    """

    column: str
    values: Iterator[str] = field(repr=False)
    any_case: bool = False


class Removal:
    """Erases rows through a connection, in its current transaction; the caller commits.

    The values go into a temporary table first, so that the table is read once for each column, however many persons
    there are. A text column is compared as it is, any other (PostgreSQL's ``uuid``) by its text. Rows that loads have
    put into the table's quarantine go, too.

    :ivar rejected: how many rows of the quarantine went; ``None`` if the table has none.
    :param connection: of psycopg (2 or 3), DuckDB or SQLite, in a transaction.
    :param table: the table, such as ``analytics.events``.
    :param placeholder: the driver's sign for a value: ``?`` or ``%s``.
    :raises PostHogSettingsError: if the table's name is none.
    """

    #: The most parts of a table's name, and the quotation mark of names.
    _most: ClassVar[int] = 3
    _mark: ClassVar[str] = '"'

    def __init__(self, connection: Any, table: str, placeholder: str) -> None:  # noqa: ANN401 - PEP 249
        self._connection = connection
        self._value = placeholder
        self._is_postgres = self._kind == "postgres"
        fold = str.lower if self._is_postgres else str
        self._names = parse_table(table, parts=self._most, fold=fold)
        self._parts = [quote(part, self._mark) for part in self._names]
        self.rejected: int | None = None
        self._name = ".".join(self._parts)
        self._table = table
        self._beyond_ascii: set[str] = set()  # the temporary tables with such values

    def run(self, criteria: Sequence[Criterion]) -> dict[str, int]:
        """Erase, and count what is left.

        :param criteria: the columns; a row goes if any of them says so.
        :returns: how many rows were erased, by column; a row that two columns match counts for the first.
        :raises PostHogLoadError: if the database refuses, or if rows are left. The message holds no value.
        """
        self._prepare()
        for criterion in criteria:  # before any value is sent, so that the error may say what is wrong
            with translate_errors(self._connection, f"reading column {criterion.column} of {self._table}", _NOTHING):
                self._check_type(criterion)
        with translate_errors(self._connection, f"looking for tables that loads keep beside {self._table}", _NOTHING):
            beside = Beside(self._rows, self._names, self._kind)
        self._check_unfinished(beside)
        removed: dict[str, int] = {}
        conditions: dict[str, str] = {}
        for number, criterion in enumerate(criteria):
            with translate_errors(self._connection, f"erasing rows of {self._table} by {criterion.column}", _NOTHING):
                values = self._place(number)
                self._gather(values, criterion)
                condition = self._is_in(self._text(criterion), criterion, values)
                conditions[criterion.column] = condition
                removed[criterion.column] = self._count(condition)
                self._execute(f"DELETE FROM {self._name} WHERE {condition}")
        if beside.quarantine is not None:
            with translate_errors(self._connection, f"erasing rows of {beside.quarantine}", _NOTHING):
                self._empty_quarantine(beside, criteria)
        with translate_errors(self._connection, f"counting rows of {self._table}", _NOTHING):
            left = {column: n for column, condition in conditions.items() if (n := self._count(condition))}
        if left:
            raise PostHogLoadError(
                f"{sum(left.values()):,} rows of {self._table} are still there after they were deleted (by "
                f"{', '.join(left)}): something else is writing them, or a rule or trigger keeps them. {_NOTHING}"
            )
        return removed

    @property
    def _kind(self) -> Kind:
        if self._value == "%s":
            return "postgres"
        return "sqlite" if isinstance(self._connection, sqlite3.Connection) else "duckdb"

    def _prepare(self) -> None:
        """Let a policy of row-level security be an error: rows that this user does not see would stay, uncounted."""
        if not self._is_postgres:
            return
        with translate_errors(self._connection, "setting row_security", _NOTHING):
            if self._rows("SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'row_security'"):
                self._execute("SET LOCAL row_security = off")

    def _check_type(self, criterion: Criterion) -> None:
        """Refuse a column whose values are not one identifier each: comparing them would find nobody, and pass."""
        kind = self._type_of(criterion)
        if _NOT_ONE.fullmatch(kind):
            raise PostHogLoadError(
                f"The column {criterion.column} of {self._table} has the type {kind}, and not one identifier in each "
                f"row: a row of several persons would go for one of them. {_NOTHING} Name a column of text or UUIDs."
            )

    def _type_of(self, criterion: Criterion) -> str:
        column = f"SELECT {self._column(criterion)} FROM {self._name} WHERE 1 = 0"
        if self._kind != "sqlite":
            function = "pg_typeof" if self._is_postgres else "typeof"
            return str(self._rows(f"SELECT CAST({function}(({column})) AS TEXT)")[0][0])
        self._execute(column)
        self._connection.create_function(_FOLDS, 1, lambda text: text and text.lower(), deterministic=True)
        schema, table = ("main", *self._names)[-2:]
        asked = "SELECT type FROM pragma_table_info(?, ?) WHERE lower(name) = lower(?)"
        return "".join(str(kind) for (kind,) in self._rows(asked, [table, schema, criterion.column]))

    def _check_unfinished(self, beside: Beside) -> None:
        if beside.unfinished:
            raise PostHogLoadError(
                f"A load into {self._table} has not ended: what it has read is in {', '.join(beside.unfinished)}, and "
                f"may be of these persons. {_NOTHING} Let it end, or drop that table if its task never runs again."
            )

    def _empty_quarantine(self, beside: Beside, criteria: Sequence[Criterion]) -> None:
        """Erase rows of the quarantine, each of which is JSON in a text, and count what is left."""
        name = beside.quarantine_name
        parts = [
            self._is_in(beside.in_data(criterion.column), criterion, self._place(number))
            for number, criterion in enumerate(criteria)
        ]
        condition = " OR ".join(f"({part})" for part in parts)
        self.rejected = self._count(condition, name)
        self._execute(f"DELETE FROM {name} WHERE {condition}")
        if left := self._count(condition, name):
            raise PostHogLoadError(f"{left:,} rows of {beside.quarantine} are still there. {_NOTHING}")

    def _place(self, number: int) -> str:
        """Return the name of the temporary table of a criterion's values."""
        return f"posthog_erasure_{number}"

    def _gather(self, name: str, criterion: Criterion) -> None:
        """Write the values to a temporary table."""
        self._execute(f"CREATE TEMPORARY TABLE {name} (id TEXT)")
        values = iter(criterion.values)
        while batch := [self._fit(value, criterion) for value in islice(values, _BATCH)]:
            if not all(map(str.isascii, batch)):
                self._beyond_ascii.add(name)
            rows = ", ".join([f"({self._value})"] * len(batch))
            self._execute(f"INSERT INTO {name} (id) VALUES {rows}", batch)
        if self._is_postgres:
            self._execute(f"ANALYZE {name}")  # without figures its planner takes it for a small one

    def _is_in(self, text: str, criterion: Criterion, values: str) -> str:
        """Return the condition that a text is one of the values."""
        if criterion.any_case:  # and without blanks around it, as in PostHog
            text = (
                f"{_FOLDS}(TRIM({text}))" if self._kind == "sqlite" else f"LOWER(TRIM({text}){self._collation(values)})"
            )
        return f"{text} IN (SELECT id FROM {values})"

    def _collation(self, values: str) -> str:
        """Return the collation that knows other small letters than ASCII's, which PostgreSQL's default may not."""
        if not self._is_postgres or values not in self._beyond_ascii:
            return ""
        return ' COLLATE "und-x-icu"' if self._rows(_ICU) else ""

    def _text(self, criterion: Criterion) -> str:
        return f"CAST({self._column(criterion)} AS TEXT)"

    def _column(self, criterion: Criterion) -> str:
        # With the table's name: SQLite takes a quoted name that is not a column's for a text.
        return f"{self._parts[-1]}.{quote(criterion.column, self._mark)}"

    def _fit(self, value: str, criterion: Criterion) -> str:
        if self._is_postgres:  # keeps no character 0: the loader writes this one in its place
            value = value.replace("\0", "\ufffd")
        return value.lower() if criterion.any_case else value

    def _count(self, condition: str, table: str = "") -> int:
        return int(self._rows(f"SELECT count(*) FROM {table or self._name} WHERE {condition}")[0][0])

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return list(self._execute(statement, values).fetchall())

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Any:  # noqa: ANN401 - a PEP 249 cursor
        # Without values psycopg takes no % of a name for a placeholder.
        given = [values] if values else []
        if not self._is_postgres:  # a cursor of DuckDB is another connection, outside of the transaction
            return self._connection.execute(statement, *given)
        cursor = self._connection.cursor()
        cursor.execute(statement, *given)
        return cursor


def as_text(removed: Mapping[str, int], rejected: int | None = None) -> str:
    """Describe what was erased, for a log or a certificate.

    :param removed: what :meth:`Removal.run` returned.
    :param rejected: how many rows of the table's quarantine went; ``None`` if it has none.
    """
    by = ", ".join(f"{n:,} by {column}" for column, n in removed.items())
    aside = "" if rejected is None else f" and {rejected:,} rows in quarantine"
    return f"{sum(removed.values()):,} rows ({by}){aside}"
