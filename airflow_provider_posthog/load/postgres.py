"""PostgreSQL: binary COPY into a temporary table, and one short transaction's end that puts it into its place."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.columns import Dialect, Existing, added_columns, family_of
from airflow_provider_posthog.load.loader import Loaded, Loader
from airflow_provider_posthog.load.target import Target

if TYPE_CHECKING:
    import pyarrow as pa

DIALECT = Dialect(
    types={
        "text": "text",
        "integer": "bigint",
        "unsigned": "numeric(20, 0)",
        "decimal": "numeric",
        "float": "double precision",
        "boolean": "boolean",
        "date": "date",
        "time": "timestamp with time zone",
        "naive": "timestamp without time zone",
        "bytes": "bytea",
    },
    fold=str,
    longest_name=63,
)
_PLAIN_TEXT = frozenset({"text", "character varying", "character", "bpchar", "citext"})
#: What the extra of a connection may say to libpq.
_LIBPQ = (
    "ssl",
    "keepalives",
    "connect_timeout",
    "target_session_attrs",
    "options",
    "application_name",
    "gss",
    "channel",
)
_STAGE = "pg_temp.posthog_stage"
#: The order in which rows were written.
_ORDER = "n"
#: Tells our advisory locks on a table from other programs'.
_LOCK = 0x5048_0000_0000_0000
#: What ends a transaction that waits for PostHog, where a server has such limits.
_IDLE_LIMITS = "'idle_in_transaction_session_timeout', 'transaction_timeout'"
_COLUMNS = """
SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       pg_catalog.format_type(a.atttypid, NULL) AS bare,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS filled, a.attnum AS number
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
#: Unique indexes that ON CONFLICT can use: of whole columns, over all rows, checked at once.
_UNIQUE = """
SELECT i.indkey::text FROM pg_catalog.pg_index i
WHERE i.indrelid = %s AND i.indisunique AND i.indimmediate AND i.indisvalid
AND i.indpred IS NULL AND i.indexprs IS NULL
"""
#: jsonb keeps no character 0, not even escaped: \\u0000 becomes \\ufffd, where its backslash is not escaped itself.
_NO_ZERO = (
    r"CASE WHEN position('\u0000' IN {0}) > 0 "
    r"THEN regexp_replace({0}, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g') ELSE {0} END"
)


class PostgresLoader(Loader):
    r"""Loads into PostgreSQL through psycopg 2 or 3.

    Rows go into a temporary table while they come, so that nothing of the target is locked meanwhile. The end takes a
    lock that only other loads of the same table ask for, replaces, counts and commits. A load of the same interval that
    ran beside this one is thereby replaced, not doubled; other intervals do not wait but for each other's end.

    Text loses its characters 0, which PostgreSQL does not keep: they become U+FFFD, as ``\u0000`` does for ``jsonb``.

    :param connection: of psycopg 2 or 3.
    :param target: the table. Without quotes, its name is lower case, as everywhere in PostgreSQL.
    """

    database = "PostgreSQL"
    dialect = DIALECT

    def __init__(self, connection: Any, target: Target) -> None:  # noqa: ANN401 - psycopg's 2 or 3
        super().__init__(connection, target)
        self._name = ".".join(self._quote(part) for part in self._parts_of_table(2, str.lower))
        self._oid = 0
        self._casts: dict[str, str] = {}

    @property
    def _ordered(self) -> bool:
        return self.target.write != "replace_interval"

    def _open(self) -> None:
        self._connection.rollback()
        self._connection.autocommit = False
        self._execute("SET client_encoding TO 'UTF8'")
        # Two loads that both make the table, or add a column, would fail each other.
        self._rows_of("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext(%s))", [f"posthog {self._name}"])
        if "redshift" in str(self._rows_of("SELECT version()")[0][0]).lower():
            raise PostHogSettingsError(
                "sql_conn_id", "is a Redshift.", "Write files with PostHogQueryToObjectStorageOperator and COPY them."
            )
        self._make_fit()
        self._connection.commit()
        self._begin()

    def _make_fit(self) -> None:
        self._find()
        if not self._oid:
            self._create()
            self._find()
        columns = self._rows_of(_COLUMNS, [self._oid])
        existing = [Existing(name, kind, filled) for name, kind, _, filled, _ in columns]
        added = added_columns(self.schema, existing, self.dialect)
        numbers = {name: number for name, *_, number in columns}
        if self._ordered:
            self._check_unique({numbers.get(name) for name in self.target.key})
        if added:
            self._execute(f"ALTER TABLE {self._name} " + ", ".join(f"ADD {self._definition(one)}" for one in added))
        self._casts = {name: bare for name, _, bare, *_ in self._rows_of(_COLUMNS, [self._oid])}

    def _find(self) -> None:
        found = self._rows_of("SELECT pg_catalog.to_regclass(%s)::oid", [self._name])[0][0]
        self._oid = int(found or 0)

    def _create(self) -> None:
        parts = [self._definition(column) for column in self.schema]
        if self._ordered:
            parts.append(f"PRIMARY KEY ({self._list(self.target.key)})")
        self._execute(f"CREATE TABLE {self._name} ({', '.join(parts)})")
        if not self._ordered and self.target.by:
            self._execute(f"CREATE INDEX ON {self._name} ({self._quote(self.target.by)})")

    def _check_unique(self, key: set[int | None]) -> None:
        indexes = [{int(number) for number in row[0].split()} for row in self._rows_of(_UNIQUE, [self._oid])]
        if key not in indexes:
            raise self._no_such_index(f"CREATE UNIQUE INDEX ON {self._name} ({self._list(self.target.key)})")

    def _begin(self) -> None:
        from airflow_provider_posthog.load.copy_binary import TRANSPORT

        # The count at the end must see what others committed meanwhile, whatever the user's default is.
        self._execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # Times without a zone are UTC.
        self._execute("SET LOCAL timezone TO 'UTC'")
        self._execute(
            f"SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ({_IDLE_LIMITS})"
        )
        columns = [f"c{at} {TRANSPORT[family_of(column)]}" for at, column in enumerate(self.schema)]
        if self._ordered:
            columns.append(f"{_ORDER} bigint")
        self._execute(f"CREATE TEMPORARY TABLE {_STAGE} ({', '.join(columns)}) ON COMMIT DROP")

    def _write(self, table: pa.Table) -> None:
        from airflow_provider_posthog.load.copy_binary import encode

        if self._ordered:
            import pyarrow as pa

            order = pa.array(range(self._rows, self._rows + table.num_rows), pa.int64())
            table = table.append_column(pa.field(f"{_ORDER} ", pa.int64()), order)
        statement = f"COPY {_STAGE} FROM STDIN WITH (FORMAT binary)"
        with self._cursor() as cursor:
            if hasattr(cursor, "copy_expert"):
                _Reader(encode(table)).copy(cursor, statement)
            else:
                with cursor.copy(statement) as copy:
                    for piece in encode(table):
                        for at in range(0, len(piece), 64 * 1024):
                            copy.write(piece[at : at + 64 * 1024])

    def _finish(self) -> Loaded:
        self._execute(f"SELECT pg_catalog.pg_advisory_xact_lock({_LOCK + self._oid})")
        columns = self._list(column.name for column in self.schema)
        values = ", ".join(self._cast(at, column) for at, column in enumerate(self.schema))
        if not self._ordered:
            return self._replace(columns, values)
        # Without figures of its own the planner takes the stage for a small table.
        self._execute(f"ANALYZE {_STAGE}")
        keys = self._stage_keys()
        chosen = f"SELECT DISTINCT ON ({keys}) * FROM {_STAGE} ORDER BY {keys}, {_ORDER} DESC"
        updates = [column.name for column in self.schema if column.name not in self.target.key]
        conflict = "DO NOTHING"
        if self.target.write == "merge" and updates:
            assigned = ", ".join(f"{self._quote(name)} = EXCLUDED.{self._quote(name)}" for name in updates)
            conflict = f"DO UPDATE SET {assigned}"
        inserted = self._execute(
            f"INSERT INTO {self._name} ({columns}) SELECT {values} FROM ({chosen}) AS chosen "
            f"ON CONFLICT ({self._list(self.target.key)}) {conflict}"
        )
        return self._prove_keys(keys, inserted)

    def _replace(self, columns: str, values: str) -> Loaded:
        interval = self._interval()
        deleted = self._execute(f"DELETE FROM {self._name} WHERE {interval}")
        self._execute(f"INSERT INTO {self._name} ({columns}) SELECT {values} FROM {_STAGE}")
        there = self._rows_of(f"SELECT count(*) FROM {self._name} WHERE {interval}")[0][0]
        self._prove("rows of the interval", int(there), self._rows)
        return Loaded(self._rows, deleted, self._rows)

    def _prove_keys(self, keys: str, inserted: int) -> Loaded:
        kept = int(self._rows_of(f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {_STAGE}) AS keys")[0][0])
        indexes = [self.schema.get_field_index(name) for name in self.target.key]
        same = " AND ".join(
            f"target.{self._quote(name)} = {self._cast(at, self.schema.field(at), 'stage.')}"
            for name, at in zip(self.target.key, indexes, strict=True)
        )
        there = self._rows_of(
            f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {_STAGE}) AS stage "
            f"JOIN {self._name} AS target ON {same}"
        )
        self._prove("of the keys", int(there[0][0]), kept)
        if self.target.write == "append":
            return Loaded(kept, 0, inserted)
        return Loaded(kept, None, None)

    def _stage_keys(self) -> str:
        return ", ".join(f"c{self.schema.get_field_index(name)}" for name in self.target.key)

    def _cast(self, at: int, column: pa.Field, of: str = "") -> str:
        """Return a stage's column as the target has it."""
        there = self._casts[column.name]
        staged = f"{of}c{at}"
        if there == "jsonb":
            staged = _NO_ZERO.format(staged)
        if there in _PLAIN_TEXT:
            return staged  # an explicit cast would cut what is too long
        return f"CAST({staged} AS {there})"

    def _interval(self) -> str:
        start, end = (_moment(moment) for moment in self.target.interval)
        by = self._quote(self.target.by or "")
        return f"{by} >= {start} AND {by} < {end}"

    def _cursor(self) -> Any:  # noqa: ANN401 - psycopg's 2 or 3
        return self._connection.cursor()

    def _execute(self, statement: str) -> int:
        """Run a statement without values; return how many rows it touched."""
        with self._cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.rowcount)

    def _rows_of(self, statement: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            # With values, a % in the statement itself would be one too many.
            cursor.execute(statement, values) if values else cursor.execute(statement)
            # The connection's extra can ask for cursors whose rows are dictionaries.
            return [tuple(row.values() if isinstance(row, Mapping) else row) for row in cursor.fetchall()]


class _Reader:
    """A file over pieces, for psycopg 2."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._error: Exception | None = None

    def copy(self, cursor: Any, statement: str) -> None:  # noqa: ANN401 - psycopg2's
        """Send all pieces."""
        try:
            cursor.copy_expert(statement, self, size=256 * 1024)
        except Exception:
            if self._error is not None:  # psycopg2 makes one of its own of it, with its text
                raise self._error from None
            raise

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        try:
            while not self._rest:
                self._rest = next(self._pieces)
        except StopIteration:
            return b""
        except Exception as error:
            self._error = error
            raise
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def _moment(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat(sep=' ')}'"


def connect(
    *,
    host: str | None,
    port: int | None,
    user: str | None,
    password: str | None,
    database: str | None,
    options: Mapping[str, Any],
) -> Any:  # noqa: ANN401 - psycopg's 2 or 3
    """Connect with the psycopg that is installed, where Airflow's PostgreSQL provider is not.

    :param host: the server's name, or the folder of its socket.
    :param port: its port.
    :param user: the user.
    :param password: the user's password.
    :param database: the database.
    :param options: parameters of libpq, such as ``sslmode``; others are left out.
    :raises PostHogSettingsError: if there is no psycopg.
    """
    given = {"host": host, "port": port, "user": user, "password": password, "dbname": database}
    known = {name: str(value) for name, value in options.items() if name.startswith(_LIBPQ)}
    parameters = {**known, **{name: value for name, value in given.items() if value}}
    for driver in ("psycopg", "psycopg2"):
        with suppress(ImportError):
            return importlib.import_module(driver).connect(**parameters)
    raise PostHogSettingsError(
        "sql_conn_id", "needs a driver of PostgreSQL.", "Install apache-airflow-providers-postgres."
    )
