"""Commit proved files to a Delta or Apache Iceberg table: replace an interval's rows in one commit."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.parquet as pq  # noqa: TID253

from airflow_provider_posthog.exceptions import PostHogSettingsError

log = logging.getLogger(__name__)

FORMATS = ("delta", "iceberg")
#: Under which name a commit says which load it is of.
MARK = "posthog_load"
#: How many of the newest commits are searched for one that a killed try made.
_LOOKED_AT = 50


@dataclass(frozen=True)
class LakeTable:
    """A table that an interval's rows go into.

    :param format: ``delta`` or ``iceberg``.
    :param uri: where a table of Delta is.
    :param options: of Delta its ``storage_options``; of Iceberg the properties of the ``catalog``, its ``name`` among
        them, and ``table``, the name in it.
    :param time: the column of time by which rows belong to the interval; ``None`` replaces the whole table.
    :param start: the interval's start.
    :param end: its end.
    :param only: the values by column of the interval's rows that are replaced; empty for all.
    """

    format: str
    uri: str
    options: Mapping[str, Any]
    time: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    only: Mapping[str, tuple[str, ...] | tuple[int, ...]] = field(default_factory=dict)

    def commit(self, fs: Any, paths: Sequence[str], mark: str) -> dict[str, Any]:  # noqa: ANN401 - a file system
        """Put the rows of some files into the table, unless a commit of the same mark has done so.

        :param fs: the file system of the files.
        :param paths: files of Parquet.
        :param mark: stands for these rows.
        :returns: ``format``, ``table`` (its name or place), and ``version`` (of Iceberg: the snapshot).
        """
        files = _Files(fs, paths)
        return self._into_delta(files, mark) if self.format == "delta" else self._into_iceberg(files, mark)

    def _into_delta(self, files: _Files, mark: str) -> dict[str, Any]:
        from deltalake import CommitProperties, DeltaTable, write_deltalake

        storage = dict(self.options.get("storage_options") or {}) or None
        described = {"format": "delta", "table": self.uri}
        exists = DeltaTable.is_deltatable(self.uri, storage_options=storage)
        known = DeltaTable(self.uri, storage_options=storage) if exists else None
        if known is not None and any(commit.get(MARK) == mark for commit in known.history(_LOOKED_AT)):
            log.info("%s has the rows of %s already, from a try before", self.uri, mark)
            return {**described, "version": known.version()}
        properties = CommitProperties(custom_metadata={MARK: mark})
        where = self._where()
        # Delta's writer makes an integer of 1.5, and a day of a time.
        rows = files.rows(pa.schema(known.schema().to_arrow()) if known is not None else None, self.uri)
        if rows is not None:
            new: dict[str, Any] = {"schema_mode": "merge", "predicate": where} if known is not None else {}
            write_deltalake(
                self.uri, rows, mode="overwrite", storage_options=storage, commit_properties=properties, **new
            )
        elif known is not None:
            known.delete(where, commit_properties=properties)
        else:
            return {**described, "version": None}
        return {**described, "version": DeltaTable(self.uri, storage_options=storage).version()}

    def _where(self) -> str | None:
        """Return the condition of the rows that are replaced; ``None`` for all."""
        parts = []
        if self.time is not None and self.start is not None and self.end is not None:
            time = _quoted(self.time)
            edges = (f"'{moment:%Y-%m-%dT%H:%M:%S.%fZ}'" for moment in (self.start, self.end))
            parts.append("{time} >= {} AND {time} < {}".format(*edges, time=time))
        for column, values in self.only.items():
            texts = ", ".join(str(value) if isinstance(value, int) else _text(value) for value in values)
            parts.append(f"{_quoted(column)} IN ({texts})")
        return " AND ".join(parts) or None

    def _into_iceberg(self, files: _Files, mark: str) -> dict[str, Any]:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError

        name = str(self.options["table"])
        properties = dict(self.options.get("catalog") or {})
        catalog = load_catalog(properties.pop("name", None), **properties)
        described = {"format": "iceberg", "table": name}
        try:
            table = catalog.load_table(name)
            rows = files.rows(table.schema().as_arrow(), name, grows=True)
        except NoSuchTableError:
            rows = files.rows(None, name)
            if rows is None:
                return {**described, "version": None}
            with suppress(NamespaceAlreadyExistsError):
                catalog.create_namespace(name.rpartition(".")[0])
            table = catalog.create_table(name, rows.schema)
        for snapshot in reversed(table.metadata.snapshots[-_LOOKED_AT:]):
            if snapshot.summary is not None and snapshot.summary.additional_properties.get(MARK) == mark:
                log.info("%s has the rows of %s already, from a try before", name, mark)
                return {**described, "version": snapshot.snapshot_id}
        with warnings.catch_warnings(), table.transaction() as transaction:
            warnings.filterwarnings("ignore", message="Delete operation did not match")  # of a new interval
            if rows is None:
                transaction.delete(self._filter(), snapshot_properties={MARK: mark})
            else:
                with transaction.update_schema() as update:
                    update.union_by_name(rows.schema)
                transaction.overwrite(rows, self._filter(), snapshot_properties={MARK: mark})
        current = table.current_snapshot()
        return {**described, "version": current.snapshot_id if current else None}

    def _filter(self) -> Any:  # noqa: ANN401 - an expression of pyiceberg
        made_of: Any = import_module("pyiceberg.expressions")  # its types do not say what its constructors take
        made = made_of.AlwaysTrue()
        if self.time is not None and self.start is not None and self.end is not None:
            edges = [moment.isoformat() for moment in (self.start, self.end)]
            made = made_of.And(made_of.GreaterThanOrEqual(self.time, edges[0]), made_of.LessThan(self.time, edges[1]))
        for column, values in self.only.items():
            made = made_of.And(made, made_of.In(column, values))
        return made


@dataclass(frozen=True)
class _Files:
    """Files of Parquet that hold an interval's rows.

    :param fs: their file system.
    :param paths: where they are; none for no rows.
    """

    fs: Any
    paths: Sequence[str]

    def rows(self, known: pa.Schema | None, table: str, *, grows: bool = False) -> pa.RecordBatchReader | None:
        """Read the files one after another; ``None`` if there are none.

        :param known: the table's columns; ``None`` for a table that is not there yet.
        :param table: what the table is called.
        :param grows: whether the format makes columns wider.
        :raises PostHogSettingsError: if a column has another type than the table's.
        """
        if not self.paths:
            return None
        with self.fs.open(self.paths[0], "rb") as file:
            coming = pq.read_schema(file)
        schema = self._as_known(coming, known, table, grows=grows)
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, table))

    def _as_known(self, coming: pa.Schema, known: pa.Schema | None, table: str, *, grows: bool) -> pa.Schema:
        """Return the types in which rows go into a table: those that it has, if they hold the same values."""
        fields = []
        for column in signed(coming):
            at = known.get_field_index(column.name) if known is not None else -1
            there = column.type if known is None or at < 0 else known.field(at).type
            kept = _kept_as(there, column.type, grows=grows)
            if kept is None and not self._is_null(column.name):
                raise PostHogSettingsError(
                    "columns",
                    f"have {column.name!r} as {column.type}, but the table {table} has it as {there}.",
                    "Load it under another name, or write another table.",
                )
            fields.append(column.with_type(there if kept is None else kept))
        return pa.schema(fields)

    def _is_null(self, name: str) -> bool:
        """Return whether a column has nothing but nulls, whose type may be any."""
        for path in self.paths:
            with self.fs.open(path, "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(columns=[name]):
                    if batch.column(0).null_count < batch.num_rows:
                        return False
        return True

    def _batches(self, schema: pa.Schema, table: str) -> Iterator[pa.RecordBatch]:
        for path in self.paths:
            with self.fs.open(path, "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches():
                    yield from _cast(pa.Table.from_batches([batch]), schema, table).to_batches()


def _cast(rows: pa.Table, schema: pa.Schema, table: str) -> pa.Table:
    for at, (column, values) in enumerate(zip(schema, rows.columns, strict=True)):
        if values.null_count == rows.num_rows:
            rows = rows.set_column(at, column, pa.nulls(rows.num_rows, column.type))
    try:
        return rows.cast(schema)
    except pa.ArrowInvalid:  # its text has the value
        raise PostHogSettingsError(
            "columns", f"hold a number that is too big for its column of {table}.", "Write another table."
        ) from None


def _kept_as(there: pa.DataType, coming: pa.DataType, *, grows: bool) -> pa.DataType | None:
    """Return the type in which values go into a column as they are; ``None`` if there is none.

    :param there: the column's.
    :param coming: that of the values.
    :param grows: whether the format makes the column as wide as they are.
    """
    is_ = pa.types
    wider = coming if grows else None
    if is_.is_string(coming):
        return coming if is_.is_string(there) or is_.is_large_string(there) or is_.is_string_view(there) else None
    if is_.is_integer(coming) and is_.is_integer(there):  # each is checked
        return wider or there
    if is_.is_floating(coming) and is_.is_floating(there):
        return there if there.bit_width >= coming.bit_width else wider
    if is_.is_decimal(coming) and is_.is_decimal(there) and there.scale == coming.scale:
        return there if there.precision >= coming.precision else wider
    return there if there.equals(coming) else None


def signed(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose integers have a sign and 64 bits, as the formats have no others for all of them.

    :param schema: of the rows; a number that does not fit is an error when it comes.
    """
    fields = [field.with_type(pa.int64()) if pa.types.is_integer(field.type) else field for field in schema]
    return pa.schema([field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in fields])


def check_lake(format: object, options: object) -> None:
    """Refuse a table format or options that name no table.

    :param format: the task's ``table_format``.
    :param options: its ``table_options``.
    :raises PostHogSettingsError: if one cannot be used, or the format's package is not installed.
    """
    if format not in FORMATS:
        raise PostHogSettingsError(
            "table_format", f"is {format!r:.40}, which is not known.", f"Write one of {', '.join(FORMATS)}."
        )
    known = {"delta": {"storage_options"}, "iceberg": {"catalog", "table"}}[str(format)]
    if not isinstance(options, Mapping) or set(options) - known:
        raise PostHogSettingsError(
            "table_options", f"is not what {format} takes.", f"Write a dictionary with {', '.join(sorted(known))}."
        )
    name = options.get("table")
    if format == "iceberg" and not (isinstance(name, str) and name.rpartition(".")[0]):
        raise PostHogSettingsError(
            "table_options", "names no table in a namespace.", "Write {'table': 'analytics.events', 'catalog': {...}}."
        )
    package = {"delta": "deltalake", "iceberg": "pyiceberg"}[str(format)]
    try:
        __import__(package)
    except ImportError:
        raise PostHogSettingsError(
            "table_format", f"is {format!r}, which needs {package}.", f"Install airflow-provider-posthog[{format}]."
        ) from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
