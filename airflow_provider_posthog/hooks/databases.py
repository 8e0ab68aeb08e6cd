"""From an Airflow connection to the fastest loader for its database."""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.assets import Dataset
from airflow_provider_posthog.compat import AirflowException, BaseHook
from airflow_provider_posthog.connection.form import CONN_TYPE
from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.load.loader import Loader
    from airflow_provider_posthog.load.parts import Parts
    from airflow_provider_posthog.load.target import Target

log = logging.getLogger(__name__)

_POSTGRES = "postgres"
_DUCKDB = ("duckdb", "motherduck")
#: They load files in bulk, and take single rows so slowly that a task would never end.
_BY_FILES = {
    "databricks": "DatabricksCopyIntoOperator",
    "gcpbigquery": "GCSToBigQueryOperator",
    "google_cloud_platform": "GCSToBigQueryOperator",
    "redshift": "S3ToRedshiftOperator",
    "snowflake": "CopyFromExternalStageToSnowflakeOperator",
}
#: Their statements cannot be undone: a load that is killed would leave half an interval.
_NO_TRANSACTIONS = (
    "athena",
    "clickhouse",
    "drill",
    "druid",
    "elasticsearch",
    "hive_cli",
    "hiveserver2",
    "impala",
    "kylin",
    "pinot",
    "presto",
    "spark",
    "spark_sql",
)
#: How DuckDB says that another process has the file open.
_IS_LOCKED = re.compile(r"(?i)\block\b|used by another process")
#: How long, in seconds, a DuckDB file that another process has open is waited for.
_LOCKED = 60.0


class SqlDatabase:
    """What an Airflow connection of a database leads to.

    PostgreSQL and DuckDB are also reached where Airflow's provider for them is not installed, if their driver is.

    :param conn_id: the connection's id.
    :param for_rows: whether rows are to be loaded.
    :raises PostHogSettingsError: if the database takes no rows in this way.
    """

    def __init__(self, conn_id: str, *, for_rows: bool = True) -> None:
        if not conn_id or not conn_id.strip():
            raise PostHogSettingsError("sql_conn_id", "is empty.", "Write the id of the database's connection.")
        self._connection: Any = BaseHook.get_connection(conn_id)
        kind = str(self._connection.conn_type or "").strip().lower()
        self.kind = _POSTGRES if kind == "postgresql" else kind
        if for_rows:
            self._check(conn_id)

    def _check(self, conn_id: str) -> None:
        """Refuse what takes no rows, before anything is asked or waited for."""
        if self.kind in _BY_FILES:
            raise PostHogSettingsError(
                "sql_conn_id",
                f"{conn_id!r} is a connection of type {self.kind}, which loads files, not rows.",
                f"Write Parquet with PostHogQueryToObjectStorageOperator and load it with {_BY_FILES[self.kind]}.",
            )
        if self.kind == CONN_TYPE:
            raise PostHogSettingsError(
                "sql_conn_id", f"{conn_id!r} is PostHog itself.", "Name the database that the rows go to."
            )
        if self.kind in _NO_TRANSACTIONS:
            raise PostHogSettingsError(
                "sql_conn_id",
                f"{conn_id!r} is a connection of type {self.kind}, which has no transactions: half a load would stay.",
                "Write Parquet with PostHogQueryToObjectStorageOperator and let the database read that.",
            )
        if self.kind not in (_POSTGRES, *_DUCKDB, "sqlite") and not hasattr(self._hook(), "insert_rows"):
            raise self._unknown()

    def loader(self, target: Target) -> Loader:
        """Connect, and return a loader. Close it, or use it in a ``with``.

        :param target: the table.
        :raises PostHogSettingsError: if the database cannot be reached with what is installed.
        """
        if self.kind == _POSTGRES:
            from airflow_provider_posthog.load.postgres import PostgresLoader

            return _made(self._postgres(), PostgresLoader, target)
        if self.kind in _DUCKDB:
            from airflow_provider_posthog.load.duckdb import DuckDBLoader

            return _made(self._duckdb(), DuckDBLoader, target)
        return self._generic(target)

    def connect(self) -> tuple[Any, str]:
        """Connect, and begin a transaction; what is not committed when the connection is closed was never there.

        :returns: the connection (PEP 249), and what stands for a value in a statement.
        :raises PostHogSettingsError: if the database is another than PostgreSQL, DuckDB, SQLite, MySQL and MariaDB, or
            cannot be reached with what is installed.
        """
        if self.kind == _POSTGRES:
            connection = self._postgres()
            connection.autocommit = False
            return connection, "%s"
        if self.kind in _DUCKDB:
            connection = self._duckdb()
            connection.begin()
            return connection, "?"
        if self.kind in ("sqlite", "mysql"):
            return self._plain()
        raise PostHogSettingsError(
            "sql_conn_id",
            f"is a connection of type {self.kind or 'none'}, where this package erases no rows.",
            "Name one of PostgreSQL, DuckDB, SQLite, MySQL, MariaDB, Snowflake or BigQuery, or erase the rows by a "
            "task of your own.",
        )

    def parts(self, table: str, tag: str) -> Parts | None:
        """Return a place beside a table for what a load has read so far; ``None`` where the database has none.

        :param table: the table.
        :param tag: tells the load from others: a few letters and digits.
        """
        from airflow_provider_posthog.load.parts import Parts, keeps_parts

        if not keeps_parts(self.kind):
            return None
        return Parts(self.connect, self.kind, table, tag)

    def connect_by_hook(self) -> Any:  # noqa: ANN401 - PEP 249
        """Connect as Airflow's own hook does; each statement is committed by itself.

        :raises PostHogSettingsError: if no installed provider has one.
        """
        hook = self._hook()
        if hook is None or not hasattr(hook, "get_conn"):
            raise self._unknown()
        if hasattr(hook, "use_legacy_sql"):
            hook.use_legacy_sql = False  # BigQuery's old dialect, which is its hook's default
        connection = hook.get_conn()
        if getattr(hook, "supports_autocommit", False):
            hook.set_autocommit(connection, True)
        return connection

    def openlineage_name(self, table: str) -> Dataset:
        """Return what OpenLineage calls a table: what Airflow's own SQL operators call it, where there is a rule.

        DuckDB is named as OpenLineage's integration of dbt does, SQLite alike.

        :param table: the table's name, as the loaders take it.
        """
        from airflow_provider_posthog.load.names import parse_table

        parts = parse_table(table, parts=3, fold=str.lower if self.kind == _POSTGRES else str)
        if self.kind in _DUCKDB or self.kind == "sqlite":
            path, name = self._file()
            return Dataset(f"{'sqlite' if self.kind == 'sqlite' else 'duckdb'}://{path}", _name((name, "main"), parts))
        connection, hook = self._connection, self._hook()
        info = schema = None
        with suppress(Exception):  # a hook may need what is not there, or not know lineage
            info = hook.get_openlineage_database_info(connection)
        if len(parts) == 1 and hook is not None:
            with suppress(Exception):  # it may ask the database
                schema = hook.get_openlineage_default_schema()
        if info is not None:
            namespace = f"{info.scheme}://{info.authority}" if info.authority else str(info.scheme)
            return Dataset(
                namespace, _name((info.database, schema or (not info.database and connection.schema)), parts)
            )
        port = connection.port or (5432 if self.kind == _POSTGRES else None)
        namespace = f"{self.kind}://{connection.host or ''}{f':{port}' if port else ''}"
        return Dataset(namespace, _name((connection.schema, "public" if self.kind == _POSTGRES else None), parts))

    def _file(self) -> tuple[str, str | None]:
        """Return the path of a DuckDB or SQLite, and what DuckDB calls the database in it."""
        connection, extra = self._connection, self._connection.extra_dejson
        if self.kind == "sqlite":
            return str(connection.host or ""), None
        if self.kind == "motherduck" or extra.get("motherduck_token") or connection.password:
            return f"md:{connection.schema or ''}", connection.schema
        path = str(extra.get("database") or connection.host or connection.schema or "")
        return path, PurePath(path).stem

    def _plain(self) -> tuple[Any, str]:
        from airflow_provider_posthog.load.transactions import commits_by_itself

        hook = self._hook()
        if hook is None and self.kind == "sqlite":
            return _kept(sqlite3.connect(self._connection.host or "")), "?"
        if hook is None or not hasattr(hook, "insert_rows"):
            raise self._unknown()
        connection = hook.get_conn()
        if getattr(hook, "supports_autocommit", False):
            hook.set_autocommit(connection, False)
        if commits_by_itself(connection):
            connection.close()
            raise PostHogSettingsError(
                "sql_conn_id",
                f"its connections ({self.kind}) commit each statement by itself: half of what a task does would stay.",
                "Give it transactions in the connection's extra, or name another connection.",
            )
        return _kept(connection) if self.kind == "sqlite" else connection, getattr(hook, "placeholder", "%s")

    def _unknown(self) -> PostHogSettingsError:
        if self.kind == "generic":  # what `airflow connections add` makes of a type that no provider has
            return PostHogSettingsError(
                "sql_conn_id",
                "is a connection of the type generic, which is no database.",
                "Install Airflow's provider of the database (such as apache-airflow-providers-postgres) and make the "
                "connection anew: without it `airflow connections add` stores every type as generic. For DuckDB set "
                'AIRFLOW_CONN_<ID>=\'{"conn_type": "duckdb", "host": "/data/warehouse.duckdb"}\'.',
            )
        return PostHogSettingsError(
            "sql_conn_id",
            f"no installed provider knows how to reach a {self.kind or 'connection without a type'} by SQL.",
            "Install its provider, such as apache-airflow-providers-mysql, or name another connection.",
        )

    def _hook(self) -> Any:  # noqa: ANN401 - a DbApiHook
        """Return Airflow's hook, or ``None`` if no installed provider has one for this type."""
        try:
            return self._connection.get_hook()
        except (AirflowException, AttributeError):  # of a type without a hook's class, Airflow takes a part of nothing
            return None

    def _postgres(self) -> Any:  # noqa: ANN401 - psycopg's 2 or 3
        hook = self._hook()
        if hook is not None:
            return hook.get_conn()
        from airflow_provider_posthog.load.postgres import connect

        connection = self._connection
        log.info("apache-airflow-providers-postgres is not installed: connecting with psycopg itself")
        return connect(
            host=connection.host,
            port=connection.port,
            user=connection.login,
            password=connection.password,
            database=connection.schema,
            options=connection.extra_dejson,
        )

    def _duckdb(self) -> Any:  # noqa: ANN401 - duckdb has no types for mypy
        hook = self._hook()
        end = time.monotonic() + _LOCKED
        while True:
            try:
                connection = hook.get_conn() if hook is not None else self._duckdb_file()
                break
            except Exception as error:  # DuckDB is only imported where it is used, and so are its errors
                # A file of DuckDB is open in one process at a time.
                if not _IS_LOCKED.search(str(error)) or time.monotonic() > end:
                    raise
                log.info("Another process has the DuckDB file open; waiting for it")
                time.sleep(2.0)
        row = connection.execute(
            "SELECT path IS NULL AND type = 'duckdb' FROM duckdb_databases() WHERE database_name = current_database()"
        ).fetchone()
        if row and row[0]:
            connection.close()
            raise PostHogSettingsError(
                "sql_conn_id", "is a DuckDB in memory, gone when the task ends.", "Write a file's path as its host."
            )
        return connection

    def _duckdb_file(self) -> Any:  # noqa: ANN401 - duckdb has no types for mypy
        try:
            import duckdb
        except ImportError as error:
            raise PostHogSettingsError("sql_conn_id", "needs DuckDB.", "pip install duckdb") from error
        connection = self._connection
        extra = connection.extra_dejson
        token = extra.get("motherduck_token") or connection.password
        if token or self.kind == "motherduck":
            return duckdb.connect(f"md:{connection.schema or ''}", config={"motherduck_token": token} if token else {})
        return duckdb.connect(extra.get("database") or connection.host or connection.schema or ":memory:")

    def _generic(self, target: Target) -> Loader:
        from airflow_provider_posthog.load.generic import ANSI, FLAVOURS, GenericLoader

        flavour = FLAVOURS.get(self.kind, ANSI)
        connection, placeholder = self._plain()
        return _made(connection, GenericLoader, target, flavour, placeholder)


def _name(around: tuple[Any, Any], parts: tuple[str, ...]) -> str:
    """Return a table's whole name: its own parts, and the database and schema that they leave out."""
    return ".".join(str(part) for part in (*around[: 3 - len(parts)], *parts) if part)


def _kept(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Refuse an SQLite database in memory."""
    if not any(file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"):
        connection.close()
        raise PostHogSettingsError(
            "sql_conn_id", "is an SQLite in memory, gone when the task ends.", "Write a file's path as its host."
        )
    return connection


def _made(connection: Any, kind: type[Loader], target: Target, *more: Any) -> Loader:  # noqa: ANN401
    """Make a loader, which closes the connection; if it cannot be made, close it here."""
    try:
        return kind(connection, target, *more)
    except BaseException:
        connection.close()
        raise
