"""Rows of a database as they come: by a cursor on the server's side, so that memory stays flat."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.hooks.databases import SqlDatabase

#: Rows that are fetched at once.
ROWS = 5_000
#: What is read by :meth:`SqlDatabase.connect`.
_OWN = frozenset({"postgres", "duckdb", "motherduck", "sqlite"})


@contextmanager
def rows_of(
    conn_id: str, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
    """Run a statement, and give its columns and its rows while they come.

    :param conn_id: the database's connection.
    :param sql: one SELECT.
    :param parameters: its values, as the database's driver takes them.
    :raises PostHogSettingsError: if the connection leads to no database, or the statement gives no rows.
    :raises PostHogLoadError: if the database refuses it.
    """
    if not str(sql).strip():
        raise PostHogSettingsError("sql", "is empty.", "Write a SELECT.")
    database = SqlDatabase(conn_id, for_rows=False)
    with closing(_connect(database)) as connection, closing(_cursor(database.kind, connection)) as cursor:
        first = _executed(cursor, sql, parameters)
        if cursor.description is None:
            raise PostHogSettingsError("sql", "gives no rows.", "Write a SELECT.")
        yield [str(column[0]) for column in cursor.description], _rows(cursor, first)


def _connect(database: SqlDatabase) -> Any:  # noqa: ANN401 - PEP 249
    return database.connect()[0] if database.kind in _OWN else database.connect_by_hook()


def _cursor(kind: str, connection: Any) -> Any:  # noqa: ANN401
    if kind == "postgres":
        return connection.cursor(name="airflow_provider_posthog")
    if kind == "mysql":
        with suppress(ImportError, AttributeError):  # mysql-connector's own does not hold back anyway
            driver = type(connection).__module__.split(".")[0]
            return connection.cursor(importlib.import_module(f"{driver}.cursors").SSCursor)
    return connection.cursor()


def _executed(cursor: Any, sql: str, parameters: Any) -> Sequence[Sequence[Any]]:  # noqa: ANN401
    """Run the statement and return its first rows: only then a cursor on the server's side knows its columns."""
    with _discreetly("refused"):
        cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
        first: Sequence[Sequence[Any]] = cursor.fetchmany(ROWS)
    return first


@contextmanager
def _discreetly(did: str) -> Iterator[None]:
    """Say what a database did to the statement, without the driver's text: it quotes the statement, and values."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
        raise PostHogLoadError(
            f"The database {did} the statement of sql ({type(error).__name__}{f', {code}' if code else ''}). Run it "
            "by hand to see why.",
            sqlstate=code if isinstance(code, str) else None,
        ) from None


def _rows(cursor: Any, first: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:  # noqa: ANN401
    some = first
    while some:
        yield from some
        with _discreetly("broke off"):
            some = cursor.fetchmany(ROWS)
