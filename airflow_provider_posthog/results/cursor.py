"""A PEP 249 connection and cursor over HogQL. They only read, and do not depend on Airflow.

PostHog answers a statement as a whole: a cursor has all rows that it will ever have when ``execute`` returns. The
errors are this provider's own; none of PEP 249's are raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

from airflow_provider_posthog.api.hogql import one_statement, statements, tokens
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.results.answer import Answer

#: Runs one statement with its values, and raises if PostHog could not.
Calculate = Callable[[str, Mapping[str, Any] | None], Answer]
#: A column's name and PostHog's type of it (``None`` if PostHog names none); PEP 249's other five are never known.
Description = list[tuple[str, str | None, None, None, None, None, None]]

READS_ONLY = "PostHog answers questions: HogQL has SELECT, and nothing that writes."
_SAYING = ("word", "text", "name")
_WRITES = re.compile(
    "ALTER|ATTACH|BEGIN|CALL|COMMIT|COPY|CREATE|DELETE|DETACH|DROP|EXCHANGE|GRANT|INSERT|KILL|MERGE|OPTIMIZE|RENAME"
    "|REPLACE|REVOKE|ROLLBACK|SET|START|SYSTEM|TRUNCATE|UNDROP|UPDATE|UPSERT|USE|VACUUM"
)


def one_select(sql: str, field: str = "sql") -> str:
    """Return the only statement of SQL as PostHog takes it: without a semicolon at its end.

    :param sql: a statement.
    :param field: the argument that it was given in.
    :raises PostHogSettingsError: if it is none, several, or one that would write.
    """
    if isinstance(sql, str) and len(parts := statements(sql)) > 1:
        problem = f"holds {len(parts)} statements, and PostHog takes one at a time."
        raise PostHogSettingsError(field, problem, "Write one, or have several run in turn: split_statements=True.")
    statement = one_statement(sql, field)
    first = next((token.upper for token in tokens(statement) if token.kind in _SAYING), "")
    if _WRITES.fullmatch(first):
        raise PostHogSettingsError(field, f"begins with {first}. {READS_ONLY}", "Write a SELECT.")
    return statement


def values_of(parameters: object) -> dict[str, Any] | None:
    """Read a statement's parameters as the values that PostHog fills into its ``{name}``.

    :param parameters: a mapping of names to values. Times need an offset and become ISO text, for ``toDateTime({t})``;
        days become text, sets and tuples lists. ``None`` and nothing at all mean no values.
    :raises PostHogSettingsError: for values without names, and for times without an offset, which PostHog would take
        for the project's.
    """
    if parameters is None or (isinstance(parameters, (list, tuple)) and not parameters):
        return None
    if not isinstance(parameters, Mapping):
        raise PostHogSettingsError(
            "parameters",
            f"are a {type(parameters).__name__}, but HogQL has names for values, neither %s nor ?.",
            'Write {since} in the statement, and {"since": "2026-01-01T00:00:00Z"} as its parameters.',
        )
    return {str(name): _value(f"parameters[{str(name)!r}]", value) for name, value in parameters.items()} or None


def _value(field: str, value: object) -> object:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            problem = "is a time without an offset, which PostHog would read in the project's zone."
            raise PostHogSettingsError(field, problem, "Give it one: datetime(2026, 1, 1, tzinfo=timezone.utc).")
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(field, item) for item in value]
    if isinstance(value, Decimal):  # as a float it would lose digits, as a text it is none
        raise PostHogSettingsError(
            field,
            "is a Decimal, which JSON has not.",
            "Send str(value), and write toDecimal({...}, 2) in the statement.",
        )
    if isinstance(value, (bytes, bytearray, timedelta)) or (isinstance(value, float) and not isfinite(value)):
        raise PostHogSettingsError(
            field, f"is {type(value).__name__} that cannot be sent as JSON.", "Use text, finite numbers and lists."
        )
    return value


class PostHogCursor:
    """The result of a statement: its rows as tuples, with the values of PostHog's JSON (times are ISO text).

    PostHog cuts answers (at 100 rows without a LIMIT, at 50,000 with one). The rows it gave can be fetched one by one;
    going past the last one of a cut answer raises, and so does ``fetchall``.

    :param calculate: runs a statement.
    """

    arraysize = 1

    def __init__(self, calculate: Calculate) -> None:
        self._calculate = calculate
        self._bound: object = None
        self._forget()

    def _forget(self) -> None:
        #: A tuple for each column, or ``None`` before the first statement.
        self.description: Description | None = None
        #: How many rows the statement has; -1 if that is not known.
        self.rowcount = -1
        self._rows: list[tuple[Any, ...]] = []
        self._at = 0
        self._cut: str | None = None

    def bind(self, parameters: object) -> None:
        """Set the parameters of the next ``execute``, so that callers that log its arguments do not log them.

        :param parameters: as for :func:`values_of`.
        """
        self._bound = parameters

    def execute(self, operation: str, parameters: object = None) -> PostHogCursor:
        """Run a statement.

        :param operation: one SELECT, with ``{name}`` for each value; a semicolon at its end is left out.
        :param parameters: the values by name, as for :func:`values_of`.
        :raises PostHogSettingsError: for what cannot be sent.
        :raises PostHogError: if PostHog refuses or fails, with whatever status.
        """
        self._forget()
        values, self._bound = self._bound if parameters is None else parameters, None
        answer = self._calculate(one_select(operation), values_of(values))
        self.description = [
            (name, kind, None, None, None, None, None)
            for name, kind in zip(answer.names(), answer.kinds(), strict=True)
        ]
        self._rows = [tuple(row) for row in answer.rows]
        self._cut = answer.cut
        self.rowcount = -1 if self._cut else len(self._rows)
        return self

    def executemany(self, operation: str, seq_of_parameters: object) -> None:
        """Refuse: many sets of values are for statements that write.

        :param operation: a statement.
        :param seq_of_parameters: values for each time.
        :raises PostHogSettingsError: always.
        """
        raise PostHogSettingsError("executemany", READS_ONLY, "Run a SELECT with execute().")

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row; ``None`` after the last one.

        :raises PostHogIncompleteError: after the last one that PostHog gave of more.
        """
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return the next rows.

        :param size: how many at the most; ``arraysize`` by default.
        :raises PostHogIncompleteError: if PostHog did not give that many of more.
        """
        end = self._at + (self.arraysize if size is None else size)
        if end > len(self._rows):
            self._refuse_cut()
        return self._take(end)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are left.

        :raises PostHogIncompleteError: if PostHog did not give all.
        """
        self._refuse_cut()
        return self._take(len(self._rows))

    def _take(self, end: int) -> list[tuple[Any, ...]]:
        if self.description is None:
            raise PostHogSettingsError("fetch", "has no statement to fetch rows of.", "Call execute().")
        rows = self._rows[self._at : end]
        self._at += len(rows)
        return rows

    def _refuse_cut(self) -> None:
        if self._cut is not None:
            raise PostHogIncompleteError(self._cut)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    def setinputsizes(self, sizes: object) -> None:
        """Do nothing, as PEP 249 allows.

        :param sizes: not used.
        """

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Do nothing, as PEP 249 allows.

        :param size: not used.
        :param column: not used.
        """

    def close(self) -> None:
        """Release the rows."""
        self._forget()


class PostHogConnection:
    """Cursors over one hook's client. PostHog has no sessions and no transactions: closing and committing do nothing.

    :param calculate: runs a statement.
    """

    def __init__(self, calculate: Calculate) -> None:
        self._calculate = calculate

    def cursor(self) -> PostHogCursor:
        """Make a cursor."""
        return PostHogCursor(self._calculate)

    def commit(self) -> None:
        """Do nothing: there is nothing to commit."""

    def rollback(self) -> None:
        """Do nothing: there is nothing to take back."""

    def close(self) -> None:
        """Do nothing: the HTTP connections are the hook's, which may use them again."""
