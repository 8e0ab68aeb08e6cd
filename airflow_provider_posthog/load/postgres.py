"""PostgreSQL: binary COPY into a temporary table, and one short transaction's end that puts it into its place."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.load.columns import Dialect, Existing, family_of, sql_family
from airflow_provider_posthog.load.loader import Loaded, Loader
from airflow_provider_posthog.load.postgres_table import TableOfPostgres
from airflow_provider_posthog.load.sending import send_aside
from airflow_provider_posthog.load.target import Span, Target

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
)
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
#: ``type`` is that under a domain; ``cast`` is empty for texts, as an explicit cast would cut what is too long; they
#: are told apart by their ``letters``.
_COLUMNS = """
SELECT a.attname AS name,
       pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid),
                              CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END) AS type,
       CASE WHEN t.typcategory = 'S' AND t.typname <> 'citext' THEN ''
            ELSE pg_catalog.format_type(a.atttypid, NULL) END AS "cast",
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS filled,
       NOT (a.attnotnull OR t.typnotnull) AS nullable,
       t.typcategory = 'S' AS letters, a.attnum AS number
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
#: Escapes whose own backslash is not escaped, and that jsonb does not keep: character 0, and half of a surrogate pair,
#: as is left where a script cut a text in the middle of an emoji.
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPED = r"(?<!\\)((?:\\\\)*)"
_NOT_JSONB = (rf"{_ESCAPED}\\u0000", rf"{_ESCAPED}{_HIGH}(?!{_LOW})", rf"(?<!{_HIGH}){_ESCAPED}{_LOW}")


class PostgresLoader(Loader):
    r"""Loads into PostgreSQL through psycopg 2 or 3.

    Rows go into a temporary table while they come, so that nothing of the target is locked meanwhile. The end takes a
    lock that only other loads of the same table ask for, replaces, counts and commits. A load of the same interval that
    ran beside this one is thereby replaced, not doubled; other intervals do not wait but for each other's end.

    Text loses its characters 0, which PostgreSQL does not keep: they become U+FFFD, as ``\u0000`` and half a surrogate
    pair (``\ud83d``) do for ``jsonb``.

    :param connection: of psycopg 2 or 3.
    :param target: the table. Without quotes, its name is lower case, as everywhere in PostgreSQL.
    """

    database = "PostgreSQL"
    dialect = DIALECT

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
        existing = [Existing(name, kind, filled, nullable) for name, kind, _, filled, nullable, *_ in columns]
        added = self._compared(existing)
        fits = TableOfPostgres(self._rows_of, self._oid, self._name, self.target)
        fits.check_rights({name for name, *_ in columns} & set(self.schema.names))
        if self._ordered:
            fits.check_unique({name: number for name, *_, number in columns})
        if added:
            self._execute(f"ALTER TABLE {self._name} " + ", ".join(f"ADD {self._definition(one)}" for one in added))
        columns = self._rows_of(_COLUMNS, [self._oid])
        self._casts = {name: (cast, sql_family(kind)) for name, kind, cast, *_ in columns}
        self._letters = {name for name, *_, letters, _ in columns if letters}
        # With its schema: without, a temporary table of the same name would be found before it.
        self._name = fits.whole_name()

    def _find(self) -> None:
        found = self._rows_of("SELECT pg_catalog.to_regclass(%s)::oid", [self._name])[0][0]
        self._oid = int(found or 0)

    def _create(self) -> None:
        parts = [self._definition(column) for column in self.schema]
        if self._ordered:
            parts.append(f"PRIMARY KEY ({self._list(self.target.key)})")
        self._execute(f"CREATE TABLE {self._name} ({', '.join(parts)})")
        if self.target.write == "replace_interval" and self.target.by:
            self._execute(f"CREATE INDEX ON {self._name} ({self._quote(self.target.by)})")

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

    def _check_rows(self, table: pa.Table) -> None:
        super()._check_rows(table)
        import pyarrow.compute as pc

        for name in self.target.key if self._ordered else ():
            if family_of(table.schema.field(name)) != "text":
                continue
            found = pc.sum(pc.match_substring(table.column(name).cast("string"), "\0")).as_py()
            if found:
                raise PostHogIncompleteError(
                    f"the key {name!r} of {found:,} rows holds the character 0, which PostgreSQL does not keep: it "
                    "would be taken for another key. Nothing was changed."
                )

    def _write(self, table: pa.Table) -> None:
        from airflow_provider_posthog.load.copy_binary import encode

        if self._ordered:
            table = self._numbered(table, _ORDER)
        statement = f"COPY {_STAGE} FROM STDIN WITH (FORMAT binary)"
        with self._cursor() as cursor:
            send_aside(lambda pieces: _copy(cursor, statement, pieces), encode(table))

    def _finish(self) -> Loaded:
        self._execute(f"SELECT pg_catalog.pg_advisory_xact_lock({_LOCK + self._oid})")
        columns = self._list(column.name for column in self.schema)
        values = ", ".join(self._cast(at, column) for at, column in enumerate(self.schema))
        if not self._ordered:
            return self._replace(columns, values)
        # Without figures of its own the planner takes the stage for a small table.
        self._execute(f"ANALYZE {_STAGE}")
        indexes = [self.schema.get_field_index(name) for name in self.target.key]
        # As the target has them: to it two texts can be one UUID.
        keys = [self._cast(at, self.schema.field(at)) for at in indexes]
        order = ", ".join(keys)
        chosen = f"SELECT DISTINCT ON ({order}) * FROM {_STAGE} ORDER BY {order}, {_ORDER} DESC"
        updates = [column.name for column in self.schema if column.name not in self.target.key]
        conflict = "DO NOTHING"
        if self.target.write == "merge" and updates:
            assigned = ", ".join(f"{self._quote(name)} = EXCLUDED.{self._quote(name)}" for name in updates)
            conflict = f"DO UPDATE SET {assigned}"
        inserted = self._execute(
            f"INSERT INTO {self._name} AS target ({columns}) SELECT {values} FROM ({chosen}) AS chosen "
            f"ON CONFLICT ({self._list(self.target.key)}) {conflict}"
        )
        kept = self._prove_keys(keys)
        if self.target.write == "append":
            return Loaded(kept, 0, inserted)
        if updates:  # a trigger can keep the old row
            self._prove("of the rows", inserted, kept)
        return Loaded(kept, None, None)

    def _replace(self, columns: str, values: str) -> Loaded:
        self._take_stock()
        self._stock.check()
        where, _ = self._replaced()
        deleted = self._execute(f"DELETE FROM {self._name} WHERE {where}")
        self._execute(f"INSERT INTO {self._name} ({columns}) SELECT {values} FROM {_STAGE}")
        self._prove_replaced()
        return Loaded(self._rows, deleted, self._rows)

    def _prove_keys(self, keys: Sequence[str]) -> int:
        """Count the stage's keys, and prove that the target has each of them once, to the letter."""
        # A column may take different texts for one, as citext does: their count is that of the texts.
        texts = [
            f'c{self.schema.get_field_index(name)} COLLATE "C"' if name in self._letters else key
            for name, key in zip(self.target.key, keys, strict=True)
        ]
        named = ", ".join(
            f"{key} AS k{at}, {text} AS t{at}" for at, (key, text) in enumerate(zip(keys, texts, strict=True))
        )
        distinct = f"(SELECT DISTINCT {named} FROM {_STAGE}) AS stage"
        kept = int(self._rows_of(f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(texts)} FROM {_STAGE}) AS t")[0][0])
        same = " AND ".join(self._same(at, name) for at, name in enumerate(self.target.key))
        there = int(self._rows_of(f"SELECT count(*) FROM {distinct} JOIN {self._name} AS target ON {same}")[0][0])
        if there < kept and self._letters.intersection(self.target.key):
            raise PostHogIncompleteError(
                f"{self.target.table} would hold {there:,} of the keys, but {kept:,} were written. Nothing was "
                f"changed. Does a column of the key ({', '.join(self.target.key)}) take different texts for one, as "
                "citext and char(n) do, or does a trigger or rule of the table drop rows?"
            )
        self._prove("of the keys", there, kept)
        return kept

    def _same(self, at: int, name: str) -> str:
        """Return the condition that a row of the target has a key of the stage."""
        column = f"target.{self._quote(name)}"
        if name not in self._letters:
            return f"{column} = stage.k{at}"
        return f'{column} = stage.k{at} AND CAST({column} AS text) COLLATE "C" = stage.t{at}'

    def _cast(self, at: int, column: pa.Field) -> str:
        """Return a stage's column as the target has it."""
        there, family = self._casts[column.name]
        staged = f"c{at}"
        if there == "jsonb":
            staged = _jsonb(staged)
        if family == "decimal" and family_of(column) == "float":
            staged = f"CAST({staged} AS text)"  # straight, it would lose two of its 17 digits
        return f"CAST({staged} AS {there})" if there else staged

    def _in_span(self, span: Span) -> tuple[str, list[Any]]:
        start, end = map(_moment, span)
        by = self._quote(self.target.by or "")
        return f"{by} >= {start} AND {by} < {end}", []

    def _one_of(self, column: str, values: Sequence[str | int]) -> tuple[str, list[Any]]:
        name, listed = self._quote(column), ", ".join(map(_literal, values))
        # "C": there are types and collations to which Acme and acme are one.
        exact = f'CAST({name} AS text) COLLATE "C"' if any(isinstance(value, str) for value in values) else name
        return f"{exact} IN ({listed})", []

    def _ask(self, what: str, where: str, values: Sequence[Any]) -> int:
        return int(self._rows_of(f"SELECT {what} FROM {self._name} WHERE {where}", values)[0][0])

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

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def _copy(cursor: Any, statement: str, pieces: Iterator[memoryview]) -> None:  # noqa: ANN401 - psycopg's 2 or 3
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(statement, _Reader(pieces), size=256 * 1024)
        return
    with cursor.copy(statement) as copy:
        for piece in pieces:
            for at in range(0, len(piece), 64 * 1024):
                copy.write(piece[at : at + 64 * 1024])


def _jsonb(text: str) -> str:
    """Return a text's expression with the escapes that jsonb does not keep as U+FFFD."""
    made = text
    for pattern in _NOT_JSONB:
        made = rf"regexp_replace({made}, '{pattern}', '\1\\ufffd', 'g')"
    found = " + ".join(rf"position('\{start}' IN {text})" for start in ("u0000", "ud", "uD"))
    return f"CASE WHEN {found} > 0 THEN {made} ELSE {text} END"


def _literal(value: str | int) -> str:
    """Write a text, or a number; without placeholders, no % of a column's name is taken for one."""
    if not isinstance(value, str):
        return str(int(value))
    text = value.replace("\0", "\ufffd").replace("\\", "\\\\").replace("'", "''")
    return f"E'{text}'"


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
