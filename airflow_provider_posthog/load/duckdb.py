"""Load into DuckDB and MotherDuck, which read Arrow tables directly."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.columns import Dialect, Existing, family_of, is_null
from airflow_provider_posthog.load.fitting import numbered
from airflow_provider_posthog.load.names import ascii_lower, spare_name
from airflow_provider_posthog.load.staged import StagedLoader
from airflow_provider_posthog.load.target import Loaded, Span, Target

if TYPE_CHECKING:
    import pyarrow as pa

DIALECT = Dialect(
    types={
        "text": "VARCHAR",
        "integer": "BIGINT",
        "unsigned": "UBIGINT",
        "decimal": "DECIMAL({p}, {s})",
        "float": "DOUBLE",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "time": "TIMESTAMP WITH TIME ZONE",
        "naive": "TIMESTAMP",
        "bytes": "BLOB",
    },
    fold=ascii_lower,
    longest_name=1024,
    single=frozenset({"float", "float4", "real"}),
    alters="ALTER COLUMN {column} TYPE {type}",
)
#: The variable that DuckDB reads rows from, unless a table has its name.
_BATCH = "posthog_batch_of_this_load"
_PLACE = """
WHERE lower(database_name) = lower(coalesce(?, current_database()))
AND lower(schema_name) = lower(coalesce(?, current_schema())) AND lower(table_name) = lower(?)
"""
_COLUMNS = (
    f"SELECT column_name, data_type, column_default, is_nullable FROM duckdb_columns() {_PLACE} ORDER BY column_index"
)
_IS_TAKEN = """
SELECT EXISTS (FROM duckdb_tables() WHERE lower(table_name) = ?)
OR EXISTS (FROM duckdb_views() WHERE lower(view_name) = ?)
"""
_INDEXES = f"SELECT coalesce(sum(index_count), 0) FROM duckdb_tables() {_PLACE}"
#: Whether a foreign key may refer to the table; it is in the same schema.
_IS_REFERRED_TO = """
SELECT EXISTS (FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY'
AND lower(database_name) = lower(coalesce(?, current_database()))
AND lower(schema_name) = lower(coalesce(?, current_schema()))
AND contains(lower(constraint_text), lower(?)))
"""
#: The type of a database: MotherDuck has its own.
_KIND = "SELECT type FROM duckdb_databases() WHERE lower(database_name) = lower(coalesce(?, current_database()))"
_COMMENT = f"SELECT comment FROM duckdb_tables() {_PLACE}"
#: The first of two parts of a name is a schema, or else a database.
_IS_DATABASE = """
SELECT EXISTS (FROM duckdb_databases() WHERE lower(database_name) = lower(?))
AND NOT EXISTS (FROM duckdb_schemas() WHERE database_name = current_database() AND lower(schema_name) = lower(?))
"""


#: MiB that uncommitted rows may take. More does not make a load faster.
_MEMORY = 512
_UNITS = {"MiB": 1, "GiB": 1024, "TiB": 1024**2, "PiB": 1024**3, "EiB": 1024**4}


class DuckDBLoader(StagedLoader):
    """Loads into DuckDB, all in one transaction.

    Rows of ``replace_interval`` and ``replace`` go straight into the table. Those of ``merge`` and ``append`` first go
    into a table that only the transaction sees. (A temporary one would stay in memory.) So do all where columns may
    have to grow: before 2.0, DuckDB commits no other type of a column of which rows were deleted.

    :param connection: a ``DuckDBPyConnection``.
    :param target: the table, with up to three parts: database, schema, table.
    """

    database = "DuckDB"
    dialect = DIALECT

    def __init__(self, connection: Any, target: Target) -> None:  # noqa: ANN401 - duckdb has no types for mypy
        super().__init__(connection, target)
        self._parts = self._parts_of_table(3)
        self._name = ".".join(self._quote(part) for part in self._parts)
        # Unique to this load: a table of the user's may have any name.
        self._load_id = uuid4().hex
        self._stage, self._differences = self._beside("stage"), self._beside("differences")
        self._order = "posthog order"
        # The alias of the stage in a statement that also names the table.
        self._alias = self._quote(spare_name("stage", self._parts[-1:], self.dialect.fold))
        self._deleted = 0
        self._limit: str | None = None

    @property
    def _staged(self) -> bool:
        return not self.target.replaces or self.target.schema_policy == "evolve"

    def _open(self) -> None:
        self._connection.execute("SET python_enable_replacements = true")
        self._connection.execute("SET TimeZone = 'UTC'")  # in which times go into columns without a zone
        self._connection.execute("SET default_collation = ''")  # others may treat different keys as equal
        if self._connection.execute(_IS_TAKEN, [_BATCH, _BATCH]).fetchone()[0]:
            raise PostHogSettingsError(
                "sql_conn_id", f"has a table {_BATCH!r} in its database, a name that loads need.", "Rename that table."
            )
        place = self._place()
        self._take_less_memory(place)
        self._connection.execute("BEGIN TRANSACTION")
        columns = self._connection.execute(_COLUMNS, place).fetchall()
        if columns:
            existing = [Existing(name, kind, not is_null(value), null) for name, kind, value, null in columns]
            for column in self._compared(existing):
                self._connection.execute(f"ALTER TABLE {self._name} ADD COLUMN {self._definition(column)}")
        else:
            parts = ", ".join(self._definition(column) for column in self._compared([]))
            self._connection.execute(f"CREATE TABLE {self._name} ({parts})")
        self._make_rejected()
        if self._staged:
            parts = ", ".join(f"{self._quote(column.name)} {self.dialect.type_of(column)}" for column in self.schema)
            self._order = spare_name(self._order, self.schema.names, self.dialect.fold)
            self._connection.execute(f"CREATE TABLE {self._stage} ({parts}, {self._quote(self._order)} BIGINT)")
        else:
            self._clear()

    def _clear(self) -> None:
        self._take_stock()
        where, values = self._replaced()
        self._deleted = self._execute(f"DELETE FROM {self._name} WHERE {where}", values)

    def _beside(self, name: str) -> str:
        """Return the quoted name of a table of this load's own, in the target's schema."""
        return ".".join(self._quote(part) for part in (*self._parts[:-1], f"posthog {name} {self._load_id}"))

    def _place(self) -> list[str | None]:
        """Return the table's database, schema and name; ``None`` for parts that its name leaves out."""
        *before, table = self._parts
        database, schema = (None, None, *before)[-2:]
        if len(before) == 1 and self._connection.execute(_IS_DATABASE, [schema, schema]).fetchone()[0]:
            database, schema = schema, "main"
        return [database, schema, table]

    def _take_less_memory(self, place: list[str | None]) -> None:
        """Make DuckDB write rows to disk before the commit, rather than keep them in memory.

        An index must fit into memory as a whole, so a table with one keeps the limit. So does the final sort.
        """
        if self._connection.execute(_INDEXES, place).fetchone()[0]:
            return
        limit = str(self._connection.execute("SELECT current_setting('memory_limit')").fetchone()[0])
        number, _, unit = limit.partition(" ")
        if unit in _UNITS and float(number) * _UNITS[unit] > _MEMORY:
            # DuckDB shows units that it does not read: where it sees no limit of the machine, its own is 1638.3 PiB
            self._limit = limit if unit in ("MiB", "GiB", "TiB") else f"{float(number) * _UNITS[unit] / 1024**2} TiB"
            self._connection.execute(f"SET memory_limit = '{_MEMORY} MiB'")

    def _take_all_memory(self) -> None:
        if self._limit is not None:
            self._connection.execute(f"SET memory_limit = '{self._limit}'")
            self._limit = None

    def _write(self, table: pa.Table) -> None:
        if self._staged:
            self._insert_into(self._stage, numbered(table, self._order, self._rows))
        else:
            self._insert_into(self._name, table)

    def _spare(self, keys: pa.Table) -> None:
        if not self._spared:
            self._spared = self._beside("spared")
            parts = (f"{self._quote(column.name)} {self.dialect.type_of(column)}" for column in keys.schema)
            self._connection.execute(f"CREATE TABLE {self._spared} ({', '.join(parts)})")
        self._insert_into(self._spared, keys)

    def _insert_into(self, name: str, table: pa.Table) -> None:
        columns = self._list(table.schema.names)
        # DuckDB finds the variable by its name. A registered table would only be freed when the transaction ends.
        posthog_batch_of_this_load = table  # noqa: F841
        self._connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM posthog_batch_of_this_load")

    def _finish(self) -> Loaded:
        self._take_all_memory()
        self._keep_others_out()
        self._grow()
        loaded = self._replace() if self.target.replaces else self._bring_in()
        made = (self._staged and self._stage, not self.target.replaces and self._differences, self._spared)
        for table in filter(None, made):
            self._connection.execute(f"DROP TABLE {table}")
        return loaded

    def _replace(self) -> Loaded:
        if self._staged:
            self._clear()
            self._insert("")
        self._stock.check()
        self._prove_replaced()
        return Loaded(self._rows, self._deleted, self._rows)

    def _keep_others_out(self) -> None:
        """Make DuckDB refuse one of two loads that write the table at the same time, in this process.

        Loads that only add rows do not conflict. Both alter the table here, and only one of them can.
        """
        place = self._place()
        kind = self._connection.execute(_KIND, place[:1]).fetchone()
        comment = self._connection.execute(_COMMENT, place).fetchone()
        if kind == ("duckdb",) and comment is not None:
            self._execute(f"COMMENT ON TABLE {self._name} IS {self._literal(comment[0])}")

    @property
    def _number(self) -> str:  # type: ignore[override]
        return self._quote(self._order)

    def _write_differences(self) -> int:
        stage = self._alias
        join = f"JOIN {self._differences} AS found ON found.n = {stage}.{self._number}"
        if self.target.write_disposition == "append":
            return self._insert(join)
        names = [name for name in self.schema.names if name not in self.target.key]
        same = self._same(self._name, stage)
        # A row that a foreign key refers to cannot be deleted, not even to come again.
        if not self._others and not self._connection.execute(_IS_REFERRED_TO, self._place()).fetchone()[0]:
            self._execute(
                f"DELETE FROM {self._name} WHERE EXISTS (SELECT 1 FROM {self._stage} AS {stage} {join} WHERE {same})"
            )
            return self._insert(join)
        updated = 0
        if names:  # other columns keep their values
            assigned = ", ".join(f"{self._quote(name)} = {self._as_kept(name, stage)}" for name in names)
            updated = self._execute(
                f"UPDATE {self._name} SET {assigned} FROM (SELECT {stage}.* FROM {self._stage} AS {stage} {join} "
                f"WHERE found.is_there) AS {stage} WHERE {same}"
            )
        return updated + self._insert(f"{join} AND NOT found.is_there")

    def _keys(self, stage: str) -> list[str]:
        return [f"{stage}.{self._quote(name)}" for name in self.target.key]

    def _count_keys(self) -> int:
        return self._count(f"(SELECT DISTINCT {self._list(self.target.key)} FROM {self._stage})")

    def _keys_there(self) -> int:
        distinct = f"(SELECT DISTINCT {self._list(self.target.key)} FROM {self._stage}) AS stage"
        return self._count(
            f"{distinct} JOIN {self._name} AS there ON {self._same('there', 'stage')}{self._if_open('there')}"
        )

    def _differs(self, name: str, there: str, stage: str) -> str:
        letters = self._letters(name)
        return f"{there}.{self._quote(name)}{letters} IS DISTINCT FROM {self._as_kept(name, stage)}"

    def _as_kept(self, name: str, stage: str) -> str:
        return f"CAST({stage}.{self._quote(name)} AS {self._types[name]})"

    def _literal(self, value: datetime | str | None) -> str:
        if value is None:
            return "NULL"
        return _moment(value) if isinstance(value, datetime) else "'" + value.replace("'", "''") + "'"

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _rollback(self) -> None:
        self._connection.execute("ROLLBACK")
        self._take_all_memory()

    def _same(self, there: str, loaded: str) -> str:
        """Return the condition that a row of the table and a loaded one have exactly the same key."""
        return " AND ".join(
            f"{there}.{self._quote(name)}{self._letters(name)} = {loaded}.{self._quote(name)}"
            for name in self.target.key
        )

    def _letters(self, name: str) -> str:
        """Return the collation that keeps a column's own one from treating different keys as equal."""
        is_text = family_of(self.schema.field(name)) == "text" and self._types[name].upper() == "VARCHAR"
        return ' COLLATE "C"' if is_text else ""

    def _in_span(self, span: Span) -> tuple[str, list[Any]]:
        start, end = map(_moment, span)
        by = self._quote(self.target.by or "")
        return f"{by} >= {start} AND {by} < {end}", []

    def _one_of(self, column: str, values: Sequence[str | int]) -> tuple[str, list[Any]]:
        name, signs = self._quote(column), ["?"] * len(values)
        if any(isinstance(value, str) for value in values):  # as bytes: a column's collation can ignore case
            name, signs = f"encode(CAST({name} AS VARCHAR))", ["encode(?)"] * len(values)
        return f"{name} IN ({', '.join(signs)})", list(values)

    def _ask(self, what: str, where: str, values: Sequence[Any]) -> int:
        statement = f"SELECT {what} FROM {self._name} WHERE {where}"
        return int(self._connection.execute(statement, list(values)).fetchone()[0])

    def _count(self, of: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {of}").fetchone()[0])

    def _execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        self._connection.executemany(statement, [list(row) for row in rows])
        return -1

    def _rows_of(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(statement, list(values)).fetchall()]

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; return how many rows it touched."""
        row = self._connection.execute(statement, list(values)).fetchone()
        return int(row[0]) if row else -1


def _moment(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat(sep=' ')}'"
