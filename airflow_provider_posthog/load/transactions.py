"""Check that a connection can roll back: otherwise a failed load would leave half of its rows."""

from __future__ import annotations

from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError


def commits_by_itself(connection: Any) -> bool:  # noqa: ANN401 - a PEP 249 connection
    """Return whether a connection reports autocommit; PEP 249 does not define how, so drivers differ.

    :param connection: a PEP 249 connection.
    """
    if getattr(connection, "autocommit", None) is True or getattr(connection, "autocommit_state", None) is True:
        return True  # most drivers; pymssql
    if getattr(getattr(connection, "isolation_level", None), "name", None) == "AUTOCOMMIT":
        return True  # Trino's
    asks = (getattr(connection, "get_autocommit", None), getattr(_java(connection), "getAutoCommit", None))
    return any(callable(ask) and bool(ask()) for ask in asks)  # MySQL's drivers; JDBC


def leave_autocommit(connection: Any) -> None:  # noqa: ANN401 - a PEP 249 connection
    """Switch autocommit off, and check that the connection can roll back.

    :param connection: a PEP 249 connection, in which nothing has been done.
    :raises PostHogSettingsError: if it stays in autocommit, or has no transactions.
    """
    if getattr(connection, "in_transaction", None) is False and getattr(connection, "isolation_level", "") is None:
        connection.isolation_level = "DEFERRED"  # SQLite
    if commits_by_itself(connection):
        _end_autocommit(connection)
        if commits_by_itself(connection):
            raise PostHogSettingsError("sql_conn_id", "stays in autocommit.", "Name a connection with transactions.")
    undo = getattr(connection, "rollback", None)
    try:
        undoes = undo is not None
        if undo is not None:
            undo()
    except Exception as error:
        if type(error).__name__ not in ("NotSupportedError", "NotImplementedError"):
            raise
        undoes = False
    if not undoes:
        raise PostHogSettingsError(
            "sql_conn_id",
            "has no transactions: half a load would stay.",
            "Write Parquet with PostHogQueryToObjectStorageOperator and let the database read that.",
        )


def _end_autocommit(connection: Any) -> None:  # noqa: ANN401
    end = getattr(_java(connection), "setAutoCommit", None) or getattr(connection, "autocommit", None)
    if callable(end):
        end(False)
    else:
        connection.autocommit = False


def _java(connection: Any) -> Any:  # noqa: ANN401 - JPype's
    """Return the JDBC connection within a connection of JayDeBeApi."""
    return getattr(connection, "jconn", None)
