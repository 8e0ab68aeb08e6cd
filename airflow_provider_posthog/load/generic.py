"""Any database with a PEP 249 driver: executemany, in one transaction."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.load.columns import Dialect, Existing, added_columns, family_of
from airflow_provider_posthog.load.errors import told
from airflow_provider_posthog.load.loader import Loaded, Loader
from airflow_provider_posthog.load.target import Target

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows per executemany.
_BATCH = 1_000
#: Keys per question whether they are there; SQLite takes no condition deeper than 1,000.
_KEYS = 200
_TEXT_TIME = "%Y-%m-%d %H:%M:%S+00:00"


@dataclass(frozen=True)
class Flavour:
    """How a kind of database is spoken to.

    :param dialect: its types and names.
    :param mark: its quotation mark of names.
    :param key_text: the type of a text that is part of a key or index, where it is another.
    :param times: how times go in: as ``text`` of one width, as ``naive`` datetimes in UTC, or ``aware`` ones.
    :param columns: the statement that lists a table's columns (name, type, whether the database fills it) from its
        schema (or null) and its name; ``None`` to look at an empty result instead.
    """

    dialect: Dialect
    mark: str = '"'
    key_text: str | None = None
    times: str = "aware"
    columns: str | None = None


SQLITE = Flavour(
    Dialect(
        types={
            "text": "TEXT",
            "integer": "INTEGER",
            "unsigned": "TEXT",
            "decimal": "TEXT",
            "float": "REAL",
            "boolean": "BOOLEAN",
            "date": "DATE",
            "time": "TIMESTAMP",
            "naive": "TIMESTAMP",
            "bytes": "BLOB",
        },
        fold=str.casefold,
        longest_name=1024,
        also_fits={
            "boolean": frozenset({"integer"}),
            "unsigned": frozenset({"text"}),
            "decimal": frozenset({"text"}),
            "date": frozenset({"text"}),
            "time": frozenset({"text"}),
            "naive": frozenset({"text"}),
        },
    ),
    times="text",
    columns="SELECT name, type, dflt_value IS NOT NULL OR hidden > 0 FROM pragma_table_xinfo({table}, {schema})",
)
MYSQL = Flavour(
    Dialect(
        types={
            "text": "LONGTEXT",
            "integer": "BIGINT",
            "unsigned": "BIGINT UNSIGNED",
            "decimal": "DECIMAL({p}, {s})",
            "float": "DOUBLE",
            "boolean": "BOOLEAN",
            "date": "DATE",
            "time": "DATETIME(6)",
            "naive": "DATETIME(6)",
            "bytes": "LONGBLOB",
        },
        fold=str.casefold,
        longest_name=64,
    ),
    mark="`",
    key_text="VARCHAR(255)",
    times="naive",
    columns=(
        "SELECT column_name, column_type, column_default IS NOT NULL OR extra <> '' FROM information_schema.columns "
        "WHERE table_name = {table} AND table_schema = coalesce({schema}, database())"
    ),
)
ANSI = Flavour(
    Dialect(
        types={
            "text": "TEXT",
            "integer": "BIGINT",
            "unsigned": "DECIMAL(20, 0)",
            "decimal": "DECIMAL({p}, {s})",
            "float": "DOUBLE PRECISION",
            "boolean": "BOOLEAN",
            "date": "DATE",
            "time": "TIMESTAMP WITH TIME ZONE",
            "naive": "TIMESTAMP",
            "bytes": "BLOB",
        },
        fold=str.casefold,
        longest_name=128,
    ),
)
FLAVOURS: Mapping[str, Flavour] = {"sqlite": SQLITE, "mysql": MYSQL}


class GenericLoader(Loader):
    """Loads through a PEP 249 connection, row by row, with one commit at the end.

    It is as fast as the driver's ``executemany``. SQLite and MySQL are spoken to in their own words; another database
    in standard SQL, and where that does not do to make the table, make it yourself.

    The first rows lock what they replace until the end, so loads of one table are best run one after the other. Of two
    rows of one key that are a thousand rows apart, ``merge`` counts both.

    :param connection: a PEP 249 connection that is not in autocommit.
    :param target: the table.
    :param flavour: how the database is spoken to.
    :param placeholder: the driver's sign for a value: ``?`` or ``%s``.
    """

    database = "the database"

    def __init__(self, connection: Any, target: Target, flavour: Flavour = ANSI, placeholder: str = "?") -> None:  # noqa: ANN401
        super().__init__(connection, target)
        self._flavour = flavour
        self.dialect = flavour.dialect  # type: ignore[misc]
        self.mark = flavour.mark  # type: ignore[misc]
        self._value = placeholder
        self._parts = self._parts_of_table(3)
        self._name = ".".join(self._quote(part) for part in self._parts)
        self._bounds: list[Any] = []
        self._deleted = 0
        self._inserted = 0
        self._kept = 0

    def _quote(self, name: str) -> str:
        quoted = super()._quote(name)
        # Drivers with %s look for % in the whole statement.
        return quoted.replace("%", "%%") if "%" in self._value else quoted

    def _open(self) -> None:
        existing = self._existing()
        added = added_columns(self.schema, existing, self.dialect) if existing else []
        if not existing:
            self._create()
        for column in added:
            self._execute(f"ALTER TABLE {self._name} ADD COLUMN {self._definition(column)}")
        self._connection.commit()

    def _delete(self) -> None:
        """Delete the interval's rows, once; as late as can be, as it locks them."""
        if self.target.write == "replace_interval" and not self._bounds:
            import pyarrow as pa

            bounds = pa.array(self.target.interval, pa.timestamp("us", "UTC"))
            kind = self.schema.field(self.target.by).type
            self._bounds = self._values(bounds.cast(kind) if pa.types.is_date(kind) else bounds)
            self._deleted = self._execute(f"DELETE FROM {self._name} WHERE {self._interval()}", self._bounds)

    def _existing(self) -> list[Existing]:
        if self._flavour.columns is None:
            return self._described()
        schema = self._parts[-2] if len(self._parts) > 1 else None
        at = {"table": self._parts[-1], "schema": schema}
        # In the order in which the statement names them.
        names = sorted(at, key=lambda name: self._flavour.columns.index("{" + name + "}"))  # type: ignore[union-attr]
        statement = self._flavour.columns.format(table=self._value, schema=self._value)
        rows = self._rows_of(statement, [at[name] for name in names])
        return [Existing(name, kind, bool(filled)) for name, kind, filled in rows]

    def _described(self) -> list[Existing]:
        """Look at an empty result; a table that can not be selected from is taken for one that is not there."""
        try:
            with told(self._connection, "looking"):
                cursor = self._connection.cursor()
                cursor.execute(self._bare(f"SELECT * FROM {self._name} WHERE 1 = 0"))
                names = [column[0] for column in cursor.description]
                cursor.close()
        except Exception:  # each driver has its own for a table that is missing; making it will say what is wrong
            self._connection.rollback()
            return []
        return [Existing(name, "") for name in names]

    def _create(self) -> None:
        indexed = self.target.key if self.target.write != "replace_interval" else (self.target.by,)
        parts = []
        for column in self.schema:
            text = self._flavour.key_text if column.name in indexed and family_of(column) == "text" else None
            own = self.target.column_types.get(column.name) or text
            parts.append(f"{self._quote(column.name)} {own}" if own else self._definition(column))
        if self.target.write != "replace_interval":
            parts.append(f"PRIMARY KEY ({self._list(self.target.key)})")
        self._execute(f"CREATE TABLE {self._name} ({', '.join(parts)})")
        if self.target.write == "replace_interval" and self.target.by:
            digest = hashlib.sha256(self._name.encode()).hexdigest()[:12]
            # SQLite wants the schema at the index's name, MySQL at the table's.
            schema, table = ("", self._name)
            if self._flavour is SQLITE and len(self._parts) > 1:
                schema, table = self._quote(self._parts[-2]) + ".", self._quote(self._parts[-1])
            self._execute(f"CREATE INDEX {schema}posthog_by_{digest} ON {table} ({self._quote(self.target.by)})")

    def _write(self, table: pa.Table) -> None:
        self._delete()
        for batch in table.to_batches(max_chunksize=_BATCH):
            if batch.num_rows:
                rows = list(zip(*(self._values(column) for column in batch.columns), strict=True))
                if self.target.write == "replace_interval":
                    self._insert(rows)
                else:
                    self._put(rows)

    def _insert(self, rows: Sequence[Sequence[Any]]) -> None:
        values = ", ".join([self._value] * len(self.schema))
        self._execute_many(f"INSERT INTO {self._name} ({self._list(self.schema.names)}) VALUES ({values})", rows)

    def _put(self, rows: Sequence[Sequence[Any]]) -> None:
        """Merge or append rows by their key."""
        at = [self.schema.get_field_index(name) for name in self.target.key]
        chosen = {tuple(row[index] for index in at): row for row in rows}
        before = self._there(list(chosen))
        if self.target.write == "merge":
            same = " AND ".join(f"{self._quote(name)} = {self._value}" for name in self.target.key)
            self._execute_many(f"DELETE FROM {self._name} WHERE {same}", list(chosen))
            self._deleted += len(before)
            self._insert(list(chosen.values()))
        else:
            new = [row for key, row in chosen.items() if key not in before]
            self._insert(new)
        self._inserted += len(chosen) - len(before)
        self._prove("of the keys", len(self._there(list(chosen))), len(chosen))

    def _there(self, keys: Sequence[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Return which of the keys the table has."""
        same = " AND ".join(f"{self._quote(name)} = {self._value}" for name in self.target.key)
        found: set[tuple[Any, ...]] = set()
        for at in range(0, len(keys), _KEYS):
            some = keys[at : at + _KEYS]
            condition = " OR ".join([f"({same})"] * len(some))
            statement = f"SELECT {self._list(self.target.key)} FROM {self._name} WHERE {condition}"
            found.update(tuple(row) for row in self._rows_of(statement, [value for key in some for value in key]))
        return found

    def _finish(self) -> Loaded:
        self._delete()
        if self.target.write != "replace_interval":
            return Loaded(self._rows, self._deleted, self._inserted)
        there = self._rows_of(f"SELECT COUNT(*) FROM {self._name} WHERE {self._interval()}", self._bounds)
        self._prove("rows of the interval", int(there[0][0]), self._rows)
        return Loaded(self._rows, self._deleted if self._deleted >= 0 else None, self._rows)

    def _interval(self) -> str:
        by = self._quote(self.target.by or "")
        return f"{by} >= {self._value} AND {by} < {self._value}"

    def _values(self, column: pa.Array) -> list[Any]:
        """Return a column as the driver takes it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = column.type
        if pa.types.is_timestamp(kind):
            moments = column.cast(pa.timestamp("us", kind.tz))
            if self._flavour.times == "text":
                return list(pc.strftime(moments.cast(pa.timestamp("us")), format=_TEXT_TIME).to_pylist())
            if self._flavour.times == "naive":
                moments = moments.cast(pa.timestamp("us"))
            return list(moments.to_pylist())
        as_text = self._flavour.times == "text" and (
            pa.types.is_date(kind) or pa.types.is_decimal(kind) or pa.types.is_uint64(kind)
        )
        return list((column.cast(pa.string()) if as_text else column).to_pylist())

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        cursor = self._connection.cursor()
        try:
            # Drivers with %s only read %% for % when there are values.
            cursor.execute(statement, tuple(values)) if values else cursor.execute(self._bare(statement))
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _bare(self, statement: str) -> str:
        return statement.replace("%%", "%") if "%" in self._value else statement

    def _execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        cursor = self._connection.cursor()
        try:
            cursor.executemany(statement, rows)
        finally:
            cursor.close()

    def _rows_of(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement, tuple(values))
            return [tuple(row.values() if isinstance(row, Mapping) else row) for row in cursor.fetchall()]
        finally:
            cursor.close()
