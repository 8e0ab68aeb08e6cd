"""The base of all loaders: check rows, write them, prove the result, commit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load import own_columns
from airflow_provider_posthog.load.columns import Existing, added_columns, family_of, fits
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.fitting import fitted, kept_as
from airflow_provider_posthog.load.names import check_names
from airflow_provider_posthog.load.quarantine import Quarantine
from airflow_provider_posthog.load.rejects import Rejects
from airflow_provider_posthog.load.stock import Stock
from airflow_provider_posthog.load.target import DELETED_AT, VALID_FROM, VALID_TO, Loaded, Span, Target
from airflow_provider_posthog.load.widening import outgrown, wider

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

_MOMENTS = ("time", "naive", "date")


class Loader(Quarantine):
    """Loads Arrow tables into one table of a database; in a ``with``, what was not committed is rolled back at the end.

    Until :meth:`commit` no row is visible, and if the connection dies, the existing rows stay. Only a new table, or new
    columns (which are null), remain.

    :param connection: the database's connection, of this loader alone; it is closed at the end.
    :param target: the table, and how rows get into it.
    """

    def __init__(self, connection: Any, target: Target) -> None:  # noqa: ANN401 - a PEP 249 connection
        self._connection = connection
        self.target = target
        self._schema: pa.Schema | None = None
        self._stock = Stock(target)
        self._opened: pa.Schema | None = None
        #: The SQL type of each column that is loaded, and the table's columns that are not.
        self._types: dict[str, str] = {}
        self._others: list[str] = []
        #: The wider types of columns that values have outgrown.
        self._outgrown: dict[str, str] = {}
        self._rejects = Rejects(target)
        self._rows = 0
        self._committed = False

    @property
    def schema(self) -> pa.Schema:
        """The schema of all that is written, as the table keeps it."""
        if self._schema is None:
            raise PostHogSettingsError("open", "was not called.", "Open the loader before writing.")
        return self._schema

    def open(self, schema: pa.Schema) -> None:
        """Check the table against the schema, create it or add columns, and begin.

        :param schema: of all tables that will be written.
        :raises PostHogSettingsError: if the table does not fit; nothing was changed.
        :raises PostHogLoadError: if the database refuses something.
        """
        self._opened, schema = schema, self._rejects.typed(schema)
        names = [column.name for column in schema]
        check_names(names, fold=self.dialect.fold, longest=self.dialect.longest_name)
        by = (self.target.by,) if self.target.has_interval and self.target.by else ()
        named = {
            "key": () if self.target.replaces else self.target.key,
            "by": by,
            "columns": self.target.only,
            "column_types": self.target.column_types,
        }
        for argument, columns in named.items():
            for name in columns:
                if name not in names:
                    raise PostHogSettingsError(
                        argument, f"names {name!r}, which is not a column: {', '.join(names)}.", "Select it as well."
                    )
        if by and family_of(schema.field(by[0])) not in _MOMENTS:
            raise PostHogSettingsError("by", f"is {by[0]!r}, which is not a time.", "Name a column of times.")
        self._check_own_types(schema)
        self._schema = own_columns.added_to(schema, self.target)
        check_names(self._schema.names, fold=self.dialect.fold, longest=self.dialect.longest_name)
        with translate_errors(self._connection, f"reading the columns of {self.target.table}"):
            self._open()

    def counts(self, spans: Sequence[Span], key: str | None = None) -> list[int]:
        """Count rows of the table in pieces of time; before the commit.

        :param spans: the pieces.
        :param key: count different values of this column instead.
        :raises PostHogLoadError: if the database refuses.
        """
        what = f"count(DISTINCT {self._quote(key)})" if key else "count(*)"
        with translate_errors(self._connection, f"counting rows of {self.target.table}"):
            return [self._ask(what, *self._where(span)) for span in spans]

    def write(self, table: pa.Table) -> None:
        """Write rows; they are not visible yet.

        :param table: the rows.
        :raises PostHogLoadError: if the database refuses them.
        :raises PostHogIncompleteError: if a row is not of the interval, or has no key.
        """
        if table.num_rows == 0:
            return
        import pyarrow as pa

        opened = self._opened or self.schema
        if table.schema.names != opened.names or table.schema.types != opened.types:
            raise PostHogSettingsError("table", "has other columns than were opened.", "Open the loader with these.")
        coming = table
        table, rejected = self._rejects.split(coming)
        # What is in quarantine is not missing in PostHog, and the guard looks for that.
        self._check_rows(coming if self.target.replaces else table)
        table = fitted(own_columns.filled(table, self.target), self._types, self.dialect)
        self._measure(table)
        try:
            with translate_errors(self._connection, f"writing {table.num_rows:,} rows"):
                if rejected:
                    self._reject(rejected)
                    self._keep_rejected()
                if table.num_rows:
                    self._write(table)
        except (pa.ArrowInvalid, OverflowError):  # its text can hold the value; SQLite's driver raises the other
            raise PostHogLoadError(
                f"{self.database} cannot store some value, such as a time before its first year."
            ) from None
        self._rows += table.num_rows

    def commit(self, then: Callable[[Loader], None] | None = None) -> Loaded:
        """Bring the rows into the table, count them there, and commit.

        :param then: what else to do in the same transaction, once the table has them.
        :raises PostHogIncompleteError: if the table does not hold what was written.
        :raises PostHogLoadError: if the database refuses something.
        """
        with translate_errors(self._connection, f"loading {self._rows:,} rows into {self.target.table}"):
            loaded = self._finish()
            if self._rejects.quarantines:
                self._end_rejects()
            if then is not None:
                then(self)
        loaded = replace(loaded, rejected=self._rejects.rejected, misfits=self._rejects.misfits)
        unsure = "It may have happened all the same; loading the same again settles it."
        with translate_errors(self._connection, "the commit", unsure):
            self._commit()
        self._committed = True
        return loaded

    def abort(self) -> None:
        """Undo all that was written."""
        with suppress(Exception):  # a connection that died has undone it already; what matters is why it died
            self._rollback()

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # it may have died
            self._connection.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            self.abort()
        self.close()

    @abstractmethod
    def _open(self) -> None:
        """Make the table fit and begin."""

    @abstractmethod
    def _write(self, table: pa.Table) -> None:
        """Write rows."""

    def _keep_rejected(self) -> None:
        """Remember rows in quarantine: PostHog has them, so those of their keys are not gone."""
        keys = self._rejects.keys
        if keys is not None and keys.num_rows:
            self._spare(fitted(keys, self._types, self.dialect))

    @abstractmethod
    def _spare(self, keys: pa.Table) -> None:
        """Remember keys whose rows are neither written nor gone.

        :param keys: with the key's columns only.
        """

    @abstractmethod
    def _finish(self) -> Loaded:
        """Put the rows into the table and prove it."""

    @abstractmethod
    def _ask(self, what: str, where: str, values: Sequence[Any]) -> int:
        """Return a number that is selected from the table."""

    @abstractmethod
    def _in_span(self, span: Span) -> tuple[str, list[Any]]:
        """Return the condition that a row's time is in a piece of time, with its values."""

    @abstractmethod
    def _one_of(self, column: str, values: Sequence[str | int]) -> tuple[str, list[Any]]:
        """Return the condition that a column has exactly one of some values, with its values."""

    def _where(self, span: Span | None) -> tuple[str, list[Any]]:
        """Return the condition of the rows that this load replaces, in a piece of time or at all times."""
        parts = [self._in_span(span)] if span else []
        parts += [self._one_of(column, values) for column, values in self.target.only.items()]
        return " AND ".join(sql for sql, _ in parts) or "1 = 1", [value for _, values in parts for value in values]

    def _replaced(self) -> tuple[str, list[Any]]:
        """Return the condition of all rows that this load replaces."""
        return self._where(self.target.interval if self.target.has_interval else None)

    def _take_stock(self) -> None:
        """Count the rows to replace, before they are deleted."""
        self._stock.take(lambda span: self._ask("count(*)", *self._where(span)))
        for column in self.target.only:
            sql, values = self._in_span(self.target.interval) if self.target.has_interval else ("", [])
            where = f"{sql} AND " if sql else ""
            unknown = self._ask("count(*)", f"{where}{self._quote(column)} IS NULL", values)
            if unknown:
                raise PostHogSettingsError(
                    "table",
                    f"has {unknown:,} rows without {column!r}, so that it is not known whether to replace them.",
                    "Load them once more without a filter, or write replaces='all' if all rows are to go.",
                )

    @property
    def _compared_names(self) -> list[str]:
        """The columns that are compared to see whether a row has changed."""
        apart = {*self.target.key, *self.target.stamps}
        if self.target.write_disposition == "scd2":
            apart |= {VALID_FROM, VALID_TO}
        return [name for name in self.schema.names if name not in apart]

    @property
    def _end_of_rows(self) -> dict[str, datetime | str | None]:
        """The values that mark rows that are gone, or that a newer version follows."""
        column = VALID_TO if self.target.write_disposition == "scd2" else DELETED_AT
        return {**self.target.stamps, column: self.target.now}

    @property
    def _is_open(self) -> str:
        """The column that is null in current rows, which are compared and can be gone; empty if all rows are."""
        if self.target.write_disposition == "scd2":
            return VALID_TO
        return DELETED_AT if self.target.deleted == "mark" else ""

    def _guard_gone(self, there: int, gone: int) -> None:
        """Refuse if far too many rows would be gone."""
        self.target.guard.check(self.target.table, there, there - gone)

    def _compared(self, existing: Sequence[Existing]) -> list[pa.Field]:
        """Compare the loaded columns with the table's, and remember the result; return those that it lacks."""
        # Where rows are not deleted, their other columns stay; where they are, null has to do.
        stay = not self.target.replaces or self.target.other_columns == "null"
        if self._rejects.quarantines:
            self._schema = self._rejects.fitting(self.schema, existing, self.dialect)
        elif self.target.schema_policy == "evolve":
            existing = [self._widened(column) for column in existing]
        added = added_columns(self.schema, existing, self.dialect, others_may_stay=stay)
        self._check_frozen(added if existing else [])
        fold = self.dialect.fold
        there = {fold(column.name): column.type for column in existing}
        for column in self.schema:
            known = there.get(fold(column.name), self.dialect.type_of(column))
            # If the table cannot be described, the user's own types count.
            own = self.target.column_types.get(column.name)
            self._types[column.name] = own or known if fold(column.name) not in there else known or own or ""
        coming = {fold(column.name) for column in self.schema}
        self._others = [column.name for column in existing if fold(column.name) not in coming]
        self._schema = kept_as(self.schema, self._types)
        return added

    def _check_frozen(self, added: Sequence[pa.Field]) -> None:
        new = [column.name for column in added if column.name not in self.target.own]
        if new and self.target.schema_policy == "freeze":
            raise PostHogSettingsError(
                "schema_policy",
                f"is 'freeze', and the table lacks {', '.join(map(repr, new))}.",
                "Leave them out of columns, add them to the table, or write 'evolve'.",
            )

    def _widened(self, existing: Existing) -> Existing:
        """Widen a column of the table to hold the loaded values, if needed and possible."""
        coming = {self.dialect.fold(column.name): column for column in self.schema}.get(
            self.dialect.fold(existing.name)
        )
        if coming is None or not self.dialect.alters or fits(coming, existing.type, self.dialect):
            return existing
        widened = wider(coming, existing.type, self.dialect)
        if widened is None:
            return existing
        self._alter(existing.name, widened)
        return replace(existing, type=widened)

    def _alter(self, name: str, sql_type: str) -> None:
        clause = self.dialect.alters.format(column=self._quote(name), type=sql_type)
        self._execute(f"ALTER TABLE {self._name} {clause}")

    def _measure(self, table: pa.Table) -> None:
        """Note which columns of the table are too small for values."""
        if self.target.schema_policy != "evolve" or not self.dialect.alters:
            return
        for column in table.schema:
            sql_type = self._outgrown.get(column.name) or self._types[column.name]
            widened = outgrown(column, table.column(column.name), sql_type, self.dialect)
            if widened is not None:
                self._outgrown[column.name] = widened

    def _grow(self) -> bool:
        """Make these columns wider, as late as possible, as that locks the table; return whether there are any."""
        grown, self._outgrown = self._outgrown, {}
        for name, sql_type in grown.items():
            self._alter(name, sql_type)
            self._types[name] = sql_type
        return bool(grown)

    def _definition(self, column: pa.Field) -> str:
        return f"{self._quote(column.name)} {self.target.column_types.get(column.name) or self.dialect.type_of(column)}"

    def _check_own_types(self, schema: pa.Schema) -> None:
        for name, sql_type in self.target.column_types.items():
            column = schema.field(name)
            if not fits(column, sql_type, self.dialect):
                raise PostHogSettingsError(
                    "column_types",
                    f"have {sql_type} for {name!r}, which comes as {column.type} and would be changed by it.",
                    "Write a type that does.",
                )

    def _check_rows(self, table: pa.Table) -> None:
        if self.target.replaces:
            self._stock.see(table)
            return
        for name in self.target.key:
            if table.column(name).null_count:
                raise PostHogIncompleteError(f"the key {name!r} of {table.column(name).null_count:,} rows is null")

    def _prove(self, what: str, there: int, expected: int) -> None:
        if there != expected:
            raise PostHogIncompleteError(
                f"{self.target.table} would hold {there:,} {what}, but {expected:,} were written. Nothing was changed. "
                "Does something else write to the table, or a trigger or rule of its own drop rows?"
            )

    def _prove_replaced(self) -> None:
        there = self._ask("count(*)", *self._replaced())
        what = "rows of the interval" if self.target.has_interval else "rows"
        self._prove(what, there, self._rows)


__all__ = ["Loaded", "Loader", "PostHogLoadError"]
