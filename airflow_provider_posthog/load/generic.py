"""Load into any database with a PEP 249 driver: executemany, in one transaction."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.columns import Existing, family_of, is_null
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.flavours import ANSI, FLAVOURS, MYSQL, SQLITE, Flavour, keeps_texts
from airflow_provider_posthog.load.keyed import KeyedLoader
from airflow_provider_posthog.load.mysql import TableOfMySQL
from airflow_provider_posthog.load.names import parse_table
from airflow_provider_posthog.load.rejects import SUFFIX
from airflow_provider_posthog.load.target import VALID_FROM, Loaded, Span, Target
from airflow_provider_posthog.load.transactions import leave_autocommit

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows per executemany.
_BATCH = 1_000
#: How databases without SQLSTATE report missing rights.
_DENIED = re.compile(r"(?i)\bdenied\b|\bprivileges?\b|\bpermissions?\b")
_TEXT_TIME = "%Y-%m-%d %H:%M:%S+00:00"


class GenericLoader(KeyedLoader):
    """Loads through a PEP 249 connection, row by row, with one commit at the end.

    It is as fast as the driver's ``executemany``. SQLite and MySQL have their own SQL; other databases get standard
    SQL, and if that cannot create the table, create it yourself.

    The first rows lock what they replace until the end, so loads of one table are best run one after the other. Of two
    rows of one key that are a thousand rows apart, ``merge`` counts both.

    :param connection: a PEP 249 connection; autocommit is switched off.
    :param target: the table.
    :param flavour: the database's SQL.
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
        self._mysql = TableOfMySQL(self._rows_of, self._parts, target.table) if flavour is MYSQL else None
        self._transactional = " ENGINE = InnoDB" if self._mysql else ""
        self._is_cleared = False
        self._is_alone = False
        self._changed = 0 if flavour.differs else None

    def _quote(self, name: str) -> str:
        quoted = super()._quote(name)
        # Drivers with %s look for % in the whole statement.
        return quoted.replace("%", "%%") if "%" in self._value else quoted

    def _open(self) -> None:
        if self._flavour.differs is None and (self.target.write_disposition == "scd2" or self.target.deleted != "keep"):
            raise PostHogSettingsError(
                "write_disposition" if self.target.write_disposition == "scd2" else "deleted",
                "is not for databases that get standard SQL only.",
                "Leave it out, or name PostgreSQL, DuckDB, SQLite, MySQL or MariaDB.",
            )
        leave_autocommit(self._connection)
        for statement in self._flavour.session:
            self._execute(statement)
        if self._mysql:
            self._mysql.check_session()
        existing = self._existing()
        if existing and self._mysql:
            self._mysql.check_engine()
        added = self._compared(existing)
        if not existing:
            self._create()
            self._connection.commit()
        lacking = {column.name for column in added} if existing else set()
        self._check_rights([name for name in self.schema.names if name not in lacking])
        for column in added if existing else ():
            self._execute(f"ALTER TABLE {self._name} ADD COLUMN {self._definition(column)}")
        if self._flavour is SQLITE:  # as a text, a number that is too long would be rounded
            types = {self.dialect.fold(column.name): column.type for column in self._existing()}
            self._as_numbers = {
                name for name in self.schema.names if not keeps_texts(types.get(self.dialect.fold(name), ""))
            }
        self._make_seen()
        self._make_rejected()
        self._connection.commit()

    def _check_rights(self, names: Sequence[str]) -> None:
        """Run the load's statements without rows, and roll back: missing rights are reported before reading."""
        columns = self._list(names)
        if self._flavour is SQLITE:  # a file is writable or not; a lock on it may pass
            try:
                self._execute(f"DELETE FROM {self._name} WHERE 1 = 0")
            except Exception as error:
                if "readonly" in str(error).lower():
                    raise
            self._connection.rollback()
            return
        if not names:  # the table has none of them yet
            return
        statements = {"SELECT": f"SELECT COUNT(*) FROM {self._name} WHERE 1 = 0"}
        if self.target.write_disposition != "append" and (not self._updates or self.target.deleted == "delete"):
            statements["DELETE"] = f"DELETE FROM {self._name} WHERE 1 = 0"
        if self._updates:
            same = self._quote(next((name for name in names if name not in self.target.key), names[0]))
            statements["UPDATE"] = f"UPDATE {self._name} SET {same} = {same} WHERE 1 = 0"
        statements["INSERT"] = f"INSERT INTO {self._name} ({columns}) SELECT {columns} FROM {self._name} WHERE 1 = 0"
        for right, statement in statements.items():
            with translate_errors(self._connection, f"checking whether the user may {right} on {self.target.table}"):
                self._execute(statement)
        self._connection.rollback()

    def _delete(self) -> None:
        """Delete the rows to replace, once, and as late as possible, as that locks them."""
        if self.target.replaces and not self._is_cleared:
            self._is_cleared = True
            self._take_stock()
            self._check_names()
            where, values = self._replaced()
            self._execute(f"DELETE FROM {self._name} WHERE {where}", values)

    def _check_names(self) -> None:
        """Refuse to delete rows with other values that the database treats as equal to those of this load."""
        for column, names in self.target.only.items():
            if any(isinstance(name, int) for name in names):
                continue
            where, values = self._replaced()
            cursor = self._connection.cursor()
            try:
                statement = f"SELECT {self._quote(column)} FROM {self._name} WHERE {where}"
                cursor.execute(statement, tuple(values))
                while rows := cursor.fetchmany(_BATCH):
                    matched = {next(iter(row.values())) if isinstance(row, Mapping) else row[0] for row in rows}
                    if not matched <= set(names):
                        raise self._takes_for_one("values", [column])
            finally:
                cursor.close()

    def _edges(self, span: Span) -> list[Any]:
        """Return a start and an end as values of the time column."""
        import pyarrow as pa

        start, end = span
        column = self.schema.field(self.target.by)
        if pa.types.is_date(column.type):  # a day is its midnight: the first in the interval, and the first after it
            days = [(moment - timedelta(microseconds=1)).date() + timedelta(days=1) for moment in (start, end)]
            return self._values(pa.field("by", pa.date32()), pa.array(days, pa.date32()))
        edges = pa.array([start, end], pa.timestamp("us", "UTC"))
        # Times without a zone are UTC.
        return self._values(column, edges if column.type.tz else edges.cast(pa.timestamp("us")))

    def _existing(self) -> list[Existing]:
        if self._flavour.columns is None:
            return self._described()
        schema = self._parts[-2] if len(self._parts) > 1 else None
        at = {"table": self._parts[-1], "schema": schema}
        # In the order in which the statement names them.
        names = sorted(at, key=lambda name: self._flavour.columns.index("{" + name + "}"))  # type: ignore[union-attr]
        statement = self._flavour.columns.format(table=self._value, schema=self._value)
        rows = self._rows_of(statement, [at[name] for name in names])
        return [
            Existing(name, kind, bool(filled) or not is_null(default), bool(nullable))
            for name, kind, default, filled, nullable in rows
        ]

    def _described(self) -> list[Existing]:
        """Describe the table by an empty result; a table that cannot be selected from counts as missing."""
        try:
            with translate_errors(self._connection, f"checking whether the user may SELECT on {self.target.table}"):
                cursor = self._connection.cursor()
                cursor.execute(self._bare(f"SELECT * FROM {self._name} WHERE 1 = 0"))
                # The last of a column's parts is whether it takes null, where the driver says so.
                names = [(column[0], tuple(column[6:7]) not in ((False,), (0,))) for column in cursor.description]
                cursor.close()
        except PostHogLoadError as error:  # creating the table will report the error, unless it exists
            if error.sqlstate == "42501" or _DENIED.search(str(error)):
                raise
            self._connection.rollback()
            return []
        return [Existing(name, "", nullable=nullable) for name, nullable in names]

    def _create(self) -> None:
        versions = (VALID_FROM,) if self.target.write_disposition == "scd2" else ()
        indexed = (*self.target.only, self.target.by) if self.target.replaces else (*self.target.key, *versions)
        text = (
            self._mysql.key_type(self.schema, list(self.target.only) or [name for name in indexed if name])
            if self._mysql
            else None
        )
        parts = []
        for column in self.schema:
            is_text = column.name in indexed and family_of(column) == "text"
            own = self.target.column_types.get(column.name) or (text if is_text else None)
            parts.append(f"{self._quote(column.name)} {own}" if own else self._definition(column))
        if not self.target.replaces:
            parts.append(f"PRIMARY KEY ({self._list(indexed)})")
        self._execute(f"CREATE TABLE {self._name} ({', '.join(parts)})")
        if self._mysql:
            try:
                self._mysql.check_engine()
            except PostHogSettingsError:  # the server's default engine; nothing is to be left
                self._execute(f"DROP TABLE {self._name}")
                raise
        if self.target.has_interval and self.target.by:
            # SQLite wants the schema at the index's name, MySQL at the table's.
            schema, table = ("", self._name)
            if self._flavour is SQLITE and len(self._parts) > 1:
                schema, table = self._quote(self._parts[-2]) + ".", self._quote(self._parts[-1])
            # A table that was renamed keeps its index, whatever it is called.
            name = f"posthog_by_{uuid4().hex[:12]}"
            self._execute(f"CREATE INDEX {schema}{name} ON {table} ({self._quote(self.target.by)})")

    def check_undone(self, table: str) -> None:
        """Check the engine of another table, which only MySQL's tables have."""
        self._check_engine(parse_table(table, parts=3), table)

    def _check_engine(self, parts: Sequence[str], name: str) -> None:
        if self._mysql:
            TableOfMySQL(self._rows_of, parts, name).check_engine()

    def _make_rejected(self) -> None:
        super()._make_rejected()
        if self._rejects.quarantines:
            *before, last = self._parts
            self._check_engine([*before, last + SUFFIX], f"{self.target.table}{SUFFIX}")

    def _take_turn(self) -> None:
        """Wait for the table's other loads, before anything is read that they may change: MySQL would not see it."""
        if self._mysql and not self._is_alone:
            self._is_alone = True
            self._mysql.wait_for_others()

    def _reject(self, rows: Sequence[tuple[str, str]]) -> None:
        self._take_turn()
        super()._reject(rows)

    def _write(self, table: pa.Table) -> None:
        self._take_turn()
        self._delete()
        for batch in table.to_batches(max_chunksize=_BATCH):
            if batch.num_rows:
                columns = zip(batch.schema, batch.columns, strict=True)
                rows = list(zip(*(self._values(field, column) for field, column in columns), strict=True))
                if self.target.replaces:
                    self._insert(rows)
                else:
                    self._put(rows)

    def _insert(self, rows: Sequence[Sequence[Any]]) -> None:
        values = ", ".join([self._value] * len(self.schema))
        self._execute_many(f"INSERT INTO {self._name} ({self._list(self.schema.names)}) VALUES ({values})", rows)

    def _finish(self) -> Loaded:
        self._take_turn()
        self._delete()
        if not self.target.replaces:
            return self._merged()
        self._stock.check()
        self._prove_replaced()
        return Loaded(self._rows, self._stock.there, self._rows)

    def _in_span(self, span: Span) -> tuple[str, list[Any]]:
        by = self._quote(self.target.by or "")
        return f"{by} >= {self._value} AND {by} < {self._value}", self._edges(span)

    def _one_of(self, column: str, values: Sequence[str | int]) -> tuple[str, list[Any]]:
        return f"{self._quote(column)} IN ({', '.join([self._value] * len(values))})", list(values)

    def _ask(self, what: str, where: str, values: Sequence[Any]) -> int:
        return int(self._rows_of(f"SELECT {what} FROM {self._name} WHERE {where}", values)[0][0])

    def _values(self, field: pa.Field, column: pa.Array) -> list[Any]:
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
            pa.types.is_date(kind)
            or pa.types.is_decimal(kind)
            or (pa.types.is_uint64(kind) and field.name not in self._as_numbers)
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

    def _execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        if not rows:
            return 0
        cursor = self._connection.cursor()
        try:
            cursor.executemany(statement, rows)
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _rows_of(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement, tuple(values)) if values else cursor.execute(self._bare(statement))
            return [tuple(row.values() if isinstance(row, Mapping) else row) for row in cursor.fetchall()]
        finally:
            cursor.close()


__all__ = ["ANSI", "FLAVOURS", "MYSQL", "SQLITE", "GenericLoader"]
