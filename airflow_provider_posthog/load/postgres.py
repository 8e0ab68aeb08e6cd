"""Load into PostgreSQL: binary COPY into a temporary table, then into the target at the end of the transaction."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.load.columns import Dialect, Existing, family_of, sql_family
from airflow_provider_posthog.load.fitting import numbered
from airflow_provider_posthog.load.postgres_copy import copy_in
from airflow_provider_posthog.load.postgres_table import COLUMNS, TableOfPostgres
from airflow_provider_posthog.load.postgres_values import as_jsonb, escaped, literal, moment_of
from airflow_provider_posthog.load.sending import send_aside
from airflow_provider_posthog.load.staged import StagedLoader
from airflow_provider_posthog.load.target import VALID_FROM, Loaded, Span, Target

if TYPE_CHECKING:
    import pyarrow as pa

DIALECT = Dialect(
    types={
        "text": "text",
        "integer": "bigint",
        "unsigned": "bigint",
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
    single=frozenset({"real", "float4"}),
    alters="ALTER COLUMN {column} TYPE {type}",
)
#: Prefixes of libpq's parameters that the extra of a connection may set.
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
_STAGE, _DIFFERENCES = "pg_temp.posthog_stage", "pg_temp.posthog_differences"
_SPARED = "pg_temp.posthog_spared"
_MORE_MEMORY = """
SELECT pg_catalog.set_config('work_mem', '65536', true) FROM pg_catalog.pg_settings
WHERE name = 'work_mem' AND setting::bigint < 65536
"""
#: The alias of the stage.
_ALIAS = "stage"
#: The order in which rows were written.
_ORDER = "n"
#: Distinguishes our advisory locks on a table from other programs'.
_LOCK = 0x5048_0000_0000_0000
#: Families, and types of texts, whose own equality operator distinguishes all different values.
_COMPARABLE = ("integer", "decimal", "float", "boolean", "date", "time", "bytes")
_COMPARABLE_TEXTS = ("uuid", "jsonb")
#: Settings that end a transaction while it waits for PostHog, if a server has such limits.
_IDLE_LIMITS = "'idle_in_transaction_session_timeout', 'transaction_timeout'"


class PostgresLoader(StagedLoader):
    r"""Loads into PostgreSQL through psycopg 2 or 3.

    Rows go into a temporary table as they arrive, so that the target is not locked meanwhile. The end takes a lock that
    only other loads of the same table request, replaces, counts and commits. So a concurrent load of the same interval
    is replaced, not doubled; loads of other intervals wait only for each other's end.

    Text loses its characters 0, which PostgreSQL does not keep: they become U+FFFD, as ``\u0000`` and half a surrogate
    pair (``\ud83d``) do for ``jsonb``.

    :param connection: of psycopg 2 or 3.
    :param target: the table. Without quotes, its name is lower case, as everywhere in PostgreSQL.
    """

    database = "PostgreSQL"
    dialect = DIALECT
    _value = "%s"
    _as_target = " AS target"  # it may be called "excluded"
    own_table = ("CREATE TEMPORARY TABLE", " ON COMMIT DROP")
    _stage, _differences, _number, _alias = _STAGE, _DIFFERENCES, _ORDER, _ALIAS

    def __init__(self, connection: Any, target: Target) -> None:  # noqa: ANN401 - psycopg's 2 or 3
        super().__init__(connection, target)
        self._parts = self._parts_of_table(2, str.lower)
        self._name = ".".join(self._quote(part) for part in self._parts)
        self._oid = 0
        self._casts: dict[str, tuple[str, str | None]] = {}
        self._letters: set[str] = set()

    @property
    def _ordered(self) -> bool:
        return not self.target.replaces

    @property
    def _is_unique(self) -> bool:
        return self.target.write_disposition in ("merge", "append")

    def _open(self) -> None:
        self._connection.rollback()
        self._connection.autocommit = False
        if hasattr(self._connection, "set_client_encoding"):
            self._connection.set_client_encoding("UTF8")  # psycopg2 does not notice the statement
        else:
            self._execute("SET client_encoding TO 'UTF8'")
        # Two loads that both make the table, or add a column, would fail each other.
        # Only the last part of the name counts, as the schema can be told or not.
        name = f"posthog {self._quote(self._parts[-1])}"
        self._rows_of("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext(%s))", [name])
        if "redshift" in str(self._rows_of("SELECT version()")[0][0]).lower():
            raise PostHogSettingsError(
                "sql_conn_id",
                "is a Redshift connection.",
                "Write files with PostHogQueryToObjectStorageOperator and COPY them.",
            )
        self._make_fit()
        self._connection.commit()
        self._begin()

    def _make_fit(self) -> None:
        self._find()
        if not self._oid:
            self._create()
            self._find()
        columns = self._rows_of(COLUMNS, [self._oid])
        existing = [Existing(name, kind, filled, nullable) for name, kind, _, filled, nullable, *_ in columns]
        added = self._compared(existing)
        fits = TableOfPostgres(self._rows_of, self._oid, self._name, self.target)
        fits.check_rights({name for name, *_ in columns} & set(self.schema.names))
        if self._is_unique:
            fits.check_unique({name: number for name, *_, number in columns})
        if added:
            self._execute(
                f"ALTER TABLE {self._name} " + ", ".join(f"ADD {self._definition(column)}" for column in added)
            )
        self._make_rejected()
        self._describe_kept()
        # With its schema: without, a temporary table of the same name would be found before it.
        self._name = fits.whole_name()

    def _describe_kept(self) -> None:
        """Note how values are brought into the table's columns."""
        columns = self._rows_of(COLUMNS, [self._oid])
        self._casts = {name: (cast, sql_family(kind)) for name, kind, cast, *_ in columns}
        self._letters = {name for name, *_, letters, _ in columns if letters}

    def _find(self) -> None:
        oid = self._rows_of("SELECT pg_catalog.to_regclass(%s)::oid", [self._name])[0][0]
        self._oid = int(oid or 0)

    def _create(self) -> None:
        parts = [self._definition(column) for column in self.schema]
        if self._ordered:
            versions = () if self._is_unique else (VALID_FROM,)
            parts.append(f"PRIMARY KEY ({self._list((*self.target.key, *versions))})")
        self._execute(f"CREATE TABLE {self._name} ({', '.join(parts)})")
        if self.target.has_interval and self.target.by:
            self._execute(f"CREATE INDEX ON {self._name} ({self._quote(self.target.by)})")

    def _begin(self) -> None:
        # The count at the end must see what others committed meanwhile, whatever the user's default is.
        self._execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # Times without a zone are UTC.
        self._execute("SET LOCAL timezone TO 'UTC'")
        self._execute(
            f"SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ({_IDLE_LIMITS})"
        )
        order = f", {_ORDER} bigint" if self._ordered else ""
        self._execute(f"CREATE TEMPORARY TABLE {_STAGE} ({self._transport(self.schema.names)}{order}) ON COMMIT DROP")

    def _check_rows(self, table: pa.Table) -> None:
        super()._check_rows(table)
        import pyarrow.compute as pc

        for name in self.target.key if self._ordered else ():
            if family_of(table.schema.field(name)) != "text":
                continue
            rows = pc.sum(pc.match_substring(table.column(name).cast("string"), "\0")).as_py()
            if rows:
                raise PostHogIncompleteError(
                    f"the key {name!r} of {rows:,} rows holds the character 0, which PostgreSQL does not store: it "
                    "would become another key. Nothing was changed."
                )

    def _write(self, table: pa.Table) -> None:
        self._copy(numbered(table, _ORDER, self._rows) if self._ordered else table, _STAGE)

    def _spare(self, keys: pa.Table) -> None:
        if not self._spared:
            self._spared = _SPARED
            self._execute(f"CREATE TEMPORARY TABLE {_SPARED} ({self._transport(keys.schema.names)}) ON COMMIT DROP")
        self._copy(keys, _SPARED)

    def _transport(self, names: Sequence[str]) -> str:
        """Return the definitions of a stage's columns."""
        from airflow_provider_posthog.load.copy_binary import TRANSPORT

        numbers = map(self.schema.get_field_index, names)
        return ", ".join(f"c{at} {TRANSPORT[family_of(self.schema.field(at))]}" for at in numbers)

    def _copy(self, table: pa.Table, stage: str) -> None:
        from airflow_provider_posthog.load.copy_binary import encode

        statement = f"COPY {stage} FROM STDIN WITH (FORMAT binary)"
        with self._cursor() as cursor:
            send_aside(lambda pieces: copy_in(cursor, statement, pieces), encode(table))

    def _finish(self) -> Loaded:
        self._execute(f"SELECT pg_catalog.pg_advisory_xact_lock({_LOCK + self._oid})")
        if self._grow():
            self._describe_kept()
        if not self._ordered:
            return self._replace()
        # Keys of a million rows need more than the 4 MB that a server gives by default.
        self._rows_of(_MORE_MEMORY)
        # Without figures of its own the planner takes the stage for a small table.
        counted = ", ".join(f"c{self.schema.get_field_index(name)}" for name in self.target.key)
        self._execute(f"ANALYZE {_STAGE} ({counted}, {_ORDER})")
        return self._bring_in()

    def _replace(self) -> Loaded:
        self._take_stock()
        self._stock.check()
        where, _ = self._replaced()
        deleted = self._execute(f"DELETE FROM {self._name} WHERE {where}")
        self._insert("")
        self._prove_replaced()
        return Loaded(self._rows, deleted, self._rows)

    def _write_differences(self) -> int:
        updates = [name for name in self.schema.names if name not in self.target.key]
        conflict = "DO NOTHING"
        if self.target.write_disposition == "merge" and updates:
            assigned = ", ".join(f"{self._quote(name)} = EXCLUDED.{self._quote(name)}" for name in updates)
            conflict = f"DO UPDATE SET {assigned}"
        return self._insert(
            f"JOIN {_DIFFERENCES} AS found ON found.n = {_ALIAS}.{_ORDER}",
            f" ON CONFLICT ({self._list(self.target.key)}) {conflict}",
        )

    def _letters_of_keys(self) -> list[str]:
        """Return the stage's keys so that different texts count separately, even for types such as citext."""
        keys = self._keys(_ALIAS)
        return [
            f'{self._staged(name)} COLLATE "C"' if name in self._letters else key
            for name, key in zip(self.target.key, keys, strict=True)
        ]

    def _count_keys(self) -> int:
        texts = ", ".join(self._letters_of_keys())
        kept = self._count(f"(SELECT DISTINCT {texts} FROM {_STAGE} AS {_ALIAS}) AS t")
        self._are_keys_once = kept == self._rows
        return kept

    def _keys_there(self) -> int:
        # Each as the table has it, so that an index is of use, and to the letter.
        keys = [
            f"{self._staged(name) if name in self._letters else self._as_kept(name, _ALIAS)} "
            f"AS c{self.schema.get_field_index(name)}"
            for name in self.target.key
        ]
        once = "" if self._are_keys_once else "DISTINCT "
        distinct = f"(SELECT {once}{', '.join(keys)} FROM {_STAGE} AS {_ALIAS}) AS {_ALIAS}"
        return self._count(
            f"{distinct} JOIN {self._name} AS there ON {self._same('there', _ALIAS)}{self._if_open('there')}"
        )

    def _prove_keys(self, kept: int) -> None:
        there = self._keys_there()
        if there < kept and self._letters.intersection(self.target.key):
            raise PostHogIncompleteError(
                f"{self.target.table} would hold {there:,} of the keys, but {kept:,} were written. Nothing was "
                f"changed. Does a column of the key ({', '.join(self.target.key)}) treat different texts as equal, as "
                "citext and char(n) do, or does a trigger or rule of the table drop rows?"
            )
        self._prove("of the keys", there, kept)

    def _staged(self, name: str) -> str:
        return f"{_ALIAS}.c{self.schema.get_field_index(name)}"

    def _keys(self, stage: str) -> list[str]:
        # As the target has them: to it two texts can be one UUID.
        return [self._as_kept(name, stage) for name in self.target.key]

    def _same(self, there: str, stage: str) -> str:
        """Return the condition that a row of the target has a key of the stage."""
        parts = []
        for name in self.target.key:
            column = f"{there}.{self._quote(name)}"
            parts.append(f"{column} = {self._as_kept(name, stage)}")
            if name in self._letters:
                parts.append(f'CAST({column} AS text) COLLATE "C" = {self._staged(name)}')
        return " AND ".join(parts)

    def _differs(self, name: str, there: str, stage: str) -> str:
        column, kept = f"{there}.{self._quote(name)}", self._as_kept(name, stage)
        cast, family = self._casts[name]
        if family in _COMPARABLE or cast in _COMPARABLE_TEXTS:
            return f"{column} IS DISTINCT FROM {kept}"
        # There are types without a sign for "equal" (json), and collations to which Acme and acme are one.
        return f'CAST({column} AS text) COLLATE "C" IS DISTINCT FROM CAST({kept} AS text)'

    def _as_kept(self, name: str, stage: str) -> str:
        """Return a stage's column as the target has it."""
        at = self.schema.get_field_index(name)
        there, family = self._casts[name]
        staged = f"{stage}.c{at}"
        if there == "jsonb":
            staged = as_jsonb(staged)
        if family == "decimal" and family_of(self.schema.field(at)) == "float":
            staged = f"CAST({staged} AS text)"  # straight, it would lose two of its 17 digits
        return f"CAST({staged} AS {there})" if there else staged

    def _in_span(self, span: Span) -> tuple[str, list[Any]]:
        start, end = map(moment_of, span)
        by = self._quote(self.target.by or "")
        return f"{by} >= {start} AND {by} < {end}", []

    def _one_of(self, column: str, values: Sequence[str | int]) -> tuple[str, list[Any]]:
        name, listed = self._quote(column), ", ".join(map(literal, values))
        # "C": there are types and collations to which Acme and acme are one.
        exact = f'CAST({name} AS text) COLLATE "C"' if any(isinstance(value, str) for value in values) else name
        return f"{exact} IN ({listed})", []

    def _ask(self, what: str, where: str, values: Sequence[Any]) -> int:
        return int(self._rows_of(f"SELECT {what} FROM {self._name} WHERE {where}", values)[0][0])

    def _cursor(self) -> Any:  # noqa: ANN401 - psycopg's 2 or 3
        return self._connection.cursor()

    def _count(self, of: str) -> int:
        return int(self._rows_of(f"SELECT count(*) FROM {of}")[0][0])

    def _literal(self, value: datetime | str | None) -> str:
        return "NULL" if value is None else literal(value) if isinstance(value, str) else moment_of(value)

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        with self._cursor() as cursor:
            cursor.execute(escaped(statement), values) if values else cursor.execute(statement)
            return int(cursor.rowcount)

    def _execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        with self._cursor() as cursor:
            cursor.executemany(escaped(statement), rows)
            return int(cursor.rowcount)

    def _rows_of(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            cursor.execute(escaped(statement), values) if values else cursor.execute(statement)
            # The connection's extra can ask for cursors whose rows are dictionaries.
            return [tuple(row.values() if isinstance(row, Mapping) else row) for row in cursor.fetchall()]


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
    settings = {"host": host, "port": port, "user": user, "password": password, "dbname": database}
    known = {name: str(value) for name, value in options.items() if name.startswith(_LIBPQ)}
    parameters = {**known, **{name: value for name, value in settings.items() if value}}
    for driver in ("psycopg", "psycopg2"):
        with suppress(ImportError):
            return importlib.import_module(driver).connect(**parameters)
    raise PostHogSettingsError(
        "sql_conn_id", "needs a PostgreSQL driver.", "Install apache-airflow-providers-postgres."
    )
