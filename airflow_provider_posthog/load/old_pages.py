"""Remove erased rows that a database keeps in its file: rewrite the file if possible, and report it if not."""

# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from typing import Any

from airflow_provider_posthog.load.names import parse_table, quote

log = logging.getLogger(__name__)

_COPY = "posthog_erasure_copy"
#: The objects of a DuckDB database besides rows, each without the name of the database.
_CATALOG = (
    "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = ? AND NOT temporary ORDER BY ALL",
    "SELECT schema_name, index_name, sql FROM duckdb_indexes() WHERE database_name = ? ORDER BY ALL",
    "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = ? AND NOT internal ORDER BY ALL",
    "SELECT schema_name, sequence_name FROM duckdb_sequences() WHERE database_name = ? ORDER BY ALL",
    "SELECT schema_name, function_name FROM duckdb_functions() WHERE database_name = ? AND NOT internal ORDER BY ALL",
    "SELECT schema_name, type_name FROM duckdb_types() WHERE database_name = ? AND NOT internal ORDER BY ALL",
)


class _Stays(Exception):
    """Why a file could not be rewritten."""


def prepare(connection: Any, kind: str) -> None:  # noqa: ANN401 - PEP 249
    """Make a database overwrite deleted rows from now on, if it can. Begins no transaction.

    :param connection: the connection.
    :param kind: the connection's type, such as ``sqlite``.
    """
    if kind == "sqlite":
        connection.execute("PRAGMA secure_delete = ON")


def clear(connection: Any, kind: str, table: str, *, rewrite: bool = True) -> str | None:  # noqa: ANN401 - PEP 249
    """Remove erased rows from the database's file, after the commit. Do not use the connection afterwards.

    :param connection: the connection, in no transaction.
    :param kind: the connection's type, such as ``duckdb``.
    :param table: the table that was erased from.
    :param rewrite: whether a DuckDB's file may be rewritten, which takes as much room again and as long as a copy.
    :returns: what stays, and how to get rid of it; ``None`` if nothing does.
    """
    if kind == "sqlite":
        return _clear_sqlite(connection)
    if kind == "duckdb":
        return _clear_duckdb(connection, rewrite=rewrite)
    if kind == "motherduck":
        return "MotherDuck keeps snapshots of the time before, from which erased rows can be restored for a while."
    if kind == "mysql":
        name = ".".join(quote(part, "`") for part in parse_table(table, parts=2))
        return (
            f"InnoDB keeps erased rows in the table's pages until they are rewritten (OPTIMIZE TABLE {name}), and the "
            "server in its binary log, replicas and backups until these expire."
        )
    name = ".".join(quote(part) for part in parse_table(table, parts=3, fold=str.lower))
    return (
        f"PostgreSQL keeps erased rows in the table's pages until they are rewritten (VACUUM (FULL) {name}), and in "
        "its write-ahead log, replicas and backups until these expire."
    )


def _clear_sqlite(connection: Any) -> str | None:  # noqa: ANN401
    overwrites = connection.execute("PRAGMA secure_delete").fetchone()
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if overwrites and overwrites[0] == 1 and busy and busy[0] == 0:
        return None
    return "SQLite may keep erased rows in its file and in the one that ends in -wal. Run VACUUM when nobody reads it."


def _clear_duckdb(connection: Any, *, rewrite: bool) -> str | None:  # noqa: ANN401
    name, path = connection.execute(
        "SELECT database_name, path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchone()
    path = os.path.realpath(path)
    try:
        if not rewrite:
            raise _Stays("it was not asked for")
        _rewrite(connection, name, path)
    except Exception as error:  # the rows are erased all the same; report what is left
        why = str(error) if isinstance(error, _Stays) else type(error).__name__
        text = (
            f"DuckDB keeps erased rows in the file {path}, which could not be rewritten ({why}). Write a new one with "
            "ATTACH and COPY FROM DATABASE, and put it in this one's place; CHECKPOINT and VACUUM are not enough."
        )
        log.warning("%s", text)
        return text
    return None


def _rewrite(connection: Any, name: str, path: str) -> None:  # noqa: ANN401
    """Copy a database to a new file, and replace the old one with it, which this process has locked."""
    folder, _, file = path.rpartition(os.sep)
    part = os.path.join(folder, f".{file}.erasure.part")
    _check_alone(connection)
    if _ask(connection, "SELECT encrypted FROM duckdb_databases() WHERE database_name = current_database()"):
        raise _Stays("it is encrypted")
    _remove(part)
    if shutil.disk_usage(folder or ".").free < os.path.getsize(path):
        raise _Stays("there is no room for a second one")
    try:
        connection.execute("CHECKPOINT")
        connection.execute(f"ATTACH {_text(part)} AS {_COPY}")
        try:
            connection.execute(f"COPY FROM DATABASE {quote(name)} TO {_COPY}")
            if _contents(connection, name) != _contents(connection, _COPY):
                raise _Stays("the copy is not the same")
        finally:
            connection.execute(f"DETACH {_COPY}")
        if os.path.exists(f"{part}.wal"):
            raise _Stays("the copy is not whole")
        _replace(part, path)
    finally:
        _remove(part)


def _check_alone(connection: Any) -> None:  # noqa: ANN401
    """Refuse if others in this process have the file open: they would go on writing to the old one."""
    if _ask(connection, "SELECT * FROM duckdb_connection_count()") not in (None, 1):
        raise _Stays("another connection of this process has it open")


def _ask(connection: Any, sql: str) -> Any:  # noqa: ANN401
    """Return a value; ``None`` if this DuckDB is too old for the query. Other errors leave the file as it is."""
    from duckdb import BinderException, CatalogException

    try:
        return connection.execute(sql).fetchone()[0]
    except (BinderException, CatalogException):
        return None


def _replace(part: str, path: str) -> None:
    original = os.stat(path)
    os.chmod(part, original.st_mode & 0o7777)
    with suppress(OSError):  # only root may give files away
        os.chown(part, original.st_uid, original.st_gid)
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _contents(connection: Any, database: str) -> list[Any]:  # noqa: ANN401
    """Return what identifies a database's contents: all definitions, and a checksum of each table's rows."""
    contents: list[Any] = [connection.execute(sql, [database]).fetchall() for sql in _CATALOG]
    for schema, table, _ in contents[0]:
        full = ".".join(quote(part) for part in (database, schema, table))
        contents.append(connection.execute(f"SELECT count(*), sum(hash(t)) FROM {full} AS t").fetchone())
    return contents


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _remove(path: str) -> None:
    for file in (path, f"{path}.wal"):
        with suppress(FileNotFoundError):
            os.remove(file)
