"""Arrow tables into files of bounded size: Parquet, JSON lines or CSV, in one folder or in Hive's partitions."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.compute as pc  # noqa: TID253
import pyarrow.csv as pa_csv  # noqa: TID253
import pyarrow.parquet as pq  # noqa: TID253

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.json_lines import iso_times, lines_of
from airflow_provider_posthog.storage.staged_file import StagedFile
from airflow_provider_posthog.storage.staging import Staging

#: The compressions of each format, the default first, and what the files' names end in.
SUFFIXES: Mapping[str, Mapping[str | None, str]] = {
    "parquet": dict.fromkeys(("zstd", "snappy", "lz4", "gzip", "brotli", None), ".parquet"),
    "jsonl": {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", None: ".jsonl"},
    "csv": {"gzip": ".csv.gz", "zstd": ".csv.zst", None: ".csv"},
}
#: Rows are collected up to so many, or so many bytes, before they are written: Parquet's row groups.
GROUP_ROWS = 50_000
GROUP_BYTES = 16 * 1024 * 1024
#: How many files may be open at once; each has buffers.
MAX_OPEN = 64
#: To how many values of a column rows that are written at once may go: more are no partitions, but files of a row.
MAX_PARTITIONS = 10_000
#: How many bytes the name of a column may take in the name of a folder.
_MAX_COLUMN = 120
#: A column of which fewer than this share of the values differ is written to Parquet with a dictionary.
_REPEATS = 0.5
#: How much larger than asked for a file may be.
_MOST = 1.5
_TIMES = {"day": ("date",), "hour": ("date", "hour")}


@dataclass(frozen=True)
class Layout:
    """How rows become files.

    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :param compression: one of the format's, or ``None``.
    :param partition_by: ``day`` (``date=2026-11-01/``), ``hour`` (``date=2026-11-01/hour=07/``), a column (which then
        is in the path only), or ``None`` for one folder.
    :param partition_time: the column of time that days and hours are taken from.
    :param json_columns: columns of JSON text that JSON lines hold as JSON.
    :param own_json: those of them that PostHog itself has written, so that they need not be checked.
    :param max_bytes: about how large a file may be.
    :param max_rows: about how many rows a file may have; up to half as many more rather than a small rest.
    """

    format: str = "parquet"
    compression: str | None = "zstd"
    partition_by: str | None = None
    partition_time: str | None = None
    json_columns: Sequence[str] = ("properties",)
    own_json: Sequence[str] = ()
    max_bytes: int = 128 * 1024 * 1024
    max_rows: int = 1_000_000

    @property
    def suffix(self) -> str:
        """What the files' names end in."""
        return SUFFIXES[self.format][self.compression]

    def check(self, schema: pa.Schema) -> None:
        """Refuse what the rows' columns do not allow.

        :param schema: of the rows.
        :raises PostHogSettingsError: if a column is not there, or is of the wrong type.
        """
        if self.partition_by is None:
            return
        if self.partition_by in _TIMES:
            column = self.partition_time or ""
            if column not in schema.names or not pa.types.is_timestamp(schema.field(column).type):
                raise PostHogSettingsError(
                    "partition_by",
                    f"{column!r} is no column of time.",
                    f"Write partition_time=... , one of: {', '.join(schema.names)}.",
                )
            for name in _TIMES[self.partition_by]:
                if name in schema.names:
                    raise PostHogSettingsError(
                        "partition_by", f"there is a column {name!r}, too.", "Give the column another name."
                    )
        elif self.partition_by not in schema.names:
            raise PostHogSettingsError(
                "partition_by",
                f"there is no column {self.partition_by!r}.",
                f"Write one of: {', '.join(schema.names)}.",
            )
        elif len(quote(self.partition_by)) > _MAX_COLUMN:
            raise PostHogSettingsError(
                "partition_by", "is too long for the name of a folder.", "Give the column a shorter name, with AS."
            )

    def kept(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns that are in the files.

        :param schema: of the rows.
        """
        return pa.schema([field for field in schema if field.name != self.partition_by])


class _Part(Protocol):
    def write(self, table: pa.Table) -> None: ...
    def close(self) -> None: ...


class _ParquetPart:
    def __init__(self, file: StagedFile, sample: pa.Table, layout: Layout) -> None:
        repeating = [name for name in sample.column_names if _repeats(sample.column(name))]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(file, mode="w"),
            sample.schema,
            compression=layout.compression or "none",
            use_dictionary=repeating or False,
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))

    def close(self) -> None:
        self._writer.close()


class _TextPart:
    """What JSON lines and CSV share: a stream of bytes, perhaps compressed."""

    def __init__(self, file: StagedFile, layout: Layout) -> None:
        self._file: Any = file
        if layout.compression == "gzip":
            # Without a name and a time in it, the same rows make the same bytes.
            self._file = gzip.GzipFile("", "wb", 6, file, mtime=0)
        elif layout.compression == "zstd":
            self._file = pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd")

    def close(self) -> None:
        self._file.close()


class _JsonPart(_TextPart):
    def __init__(self, file: StagedFile, layout: Layout) -> None:
        super().__init__(file, layout)
        self._nested = frozenset(layout.json_columns)
        self._unchecked = frozenset(layout.own_json)

    def write(self, table: pa.Table) -> None:
        self._file.write(lines_of(table, self._nested, self._unchecked))


class _CsvPart(_TextPart):
    def __init__(self, file: StagedFile, layout: Layout) -> None:
        super().__init__(file, layout)
        self._header = True

    def write(self, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pa_csv.write_csv(_with_iso_times(table), sink, pa_csv.WriteOptions(include_header=self._header))
        self._header = False
        self._file.write(sink.getvalue())


class _OpenFile:
    """A file that takes rows."""

    def __init__(self, file: StagedFile, part: _Part, partition: Mapping[str, str | None]) -> None:
        self.file = file
        self.part = part
        self.partition = partition
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        self.part.write(table)
        self.rows += table.num_rows

    def close(self) -> None:
        try:
            self.part.close()
        finally:  # where the rest does not fit, the file would stay open, and an upload would stay begun
            self.file.close()
        self.file.finish()

    def give_up(self) -> None:
        with suppress(Exception):  # a writer of Parquet that is not closed complains when it is forgotten
            self.part.close()
        self.file.give_up()


class TableFiles:
    """Writes tables to staged files, and says which are ready to be recorded.

    In a ``with``, files that cannot be recorded any more are removed when an error ends it.

    :param staging: where the files go.
    :param schema: of the tables.
    :param layout: how rows become files.
    """

    def __init__(self, staging: Staging, schema: pa.Schema, layout: Layout) -> None:
        layout.check(schema)
        self._staging = staging
        self._layout = layout
        self._schema = layout.kept(schema)
        self._pending: list[pa.Table] = []
        self._open: dict[tuple[str | None, ...], _OpenFile] = {}
        self._closed: list[tuple[StagedFile, dict[str, Any]]] = []
        #: Whether a file is as large as it may be: a good time to :meth:`finish`.
        self.is_due = False

    def __enter__(self) -> TableFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        for opened in self._open.values():
            opened.give_up()
        for file, _ in self._closed:
            file.give_up()

    def add(self, table: pa.Table) -> None:
        """Take rows.

        :param table: the rows.
        """
        if not table.num_rows:
            return
        self._pending.append(table)
        if (
            sum(each.num_rows for each in self._pending) >= min(GROUP_ROWS, self._layout.max_rows)
            or sum(each.nbytes for each in self._pending) >= GROUP_BYTES
        ):
            self._flush()

    def finish(self) -> list[dict[str, Any]]:
        """Close all files, and return what is to be recorded of those that were closed since the last time."""
        self._flush()
        for key in list(self._open):
            self._close(key)
        closed = [found for _, found in self._closed]
        self._closed, self.is_due = [], False
        return closed

    def _flush(self) -> None:
        if not self._pending:
            return
        whole, self._pending = pa.concat_tables(self._pending), []
        for partition, table in self._partitions(whole):
            for piece in _pieces(table, self._layout.max_rows):
                self._write(tuple(partition.values()), partition, piece)

    def _write(self, key: tuple[str | None, ...], partition: Mapping[str, str | None], table: pa.Table) -> None:
        opened = self._open.get(key)
        if opened is not None and opened.rows + table.num_rows > _MOST * self._layout.max_rows:
            self._close(key)
        opened = self._file_for(key, partition, table)
        opened.write(table)
        # Files grow a little over the limit, rather than leave a small rest to a file of its own.
        if opened.rows >= self._layout.max_rows or opened.file.size >= self._layout.max_bytes:
            self._close(key)

    def _file_for(self, key: tuple[str | None, ...], partition: Mapping[str, str | None], table: pa.Table) -> _OpenFile:
        if key not in self._open:
            if len(self._open) >= MAX_OPEN:
                self._close(next(iter(self._open)))
            file = self._staging.new_file()
            try:
                part = _part(file, table, self._layout)
            except BaseException:  # gzip and Parquet begin with bytes of their own, which a full disk refuses
                file.give_up()
                raise
            self._open[key] = _OpenFile(file, part, partition)
        return self._open[key]

    def _close(self, key: tuple[str | None, ...]) -> None:
        self.is_due = True
        opened = self._open[key]
        opened.close()
        found = self._staging.describe(opened.file, self._layout.suffix, rows=opened.rows, partition=opened.partition)
        del self._open[key]  # not before it is among the others: an error would leave it behind
        self._closed.append((opened.file, found))

    def _partitions(self, table: pa.Table) -> Iterator[tuple[Mapping[str, str | None], pa.Table]]:
        by = self._layout.partition_by
        if by is None:
            yield {}, table
            return
        texts = _partition_texts(table, by, self._layout.partition_time or "").combine_chunks()
        codes = texts.dictionary_encode(null_encoding="encode")
        values = codes.dictionary.to_pylist()
        if by not in _TIMES and len(values) > MAX_PARTITIONS:
            raise PostHogSettingsError(
                "partition_by",
                f"{by!r} puts {table.num_rows:,} rows into {len(values):,} folders.",
                f"Choose a column of fewer values, at the most {MAX_PARTITIONS:,}.",
            )
        order = pc.sort_indices(codes.indices)  # stable: rows stay in the order of time
        rows = table.select(self._schema.names).take(order) if len(values) > 1 else table.select(self._schema.names)
        counts = {found["values"]: found["counts"] for found in pc.value_counts(codes.indices).to_pylist()}
        first = 0
        for code, value in enumerate(values):
            yield _named(by, value), rows.slice(first, counts[code])
            first += counts[code]


def _pieces(table: pa.Table, most: int) -> Iterator[pa.Table]:
    """Split a table evenly into pieces of about so many rows."""
    count = max(1, round(table.num_rows / most))
    size = -(-table.num_rows // count)
    return (table.slice(first, size) for first in range(0, table.num_rows, size))


def _part(file: StagedFile, sample: pa.Table, layout: Layout) -> _Part:
    if layout.format == "parquet":
        return _ParquetPart(file, sample, layout)
    return _JsonPart(file, layout) if layout.format == "jsonl" else _CsvPart(file, layout)


def _partition_texts(table: pa.Table, by: str, time: str) -> pa.ChunkedArray:
    if by not in _TIMES:
        return table.column(by).cast(pa.string())
    # "2026-11-01 07:..." of UTC: its first ten, or thirteen, signs
    text = table.column(time).cast(pa.timestamp("us")).cast(pa.string())
    return pc.utf8_slice_codeunits(text, 0, 10 if by == "day" else 13)


def _named(by: str, value: str | None) -> Mapping[str, str | None]:
    if by not in _TIMES:
        return {by: value}
    names = _TIMES[by]
    return dict(zip(names, value.split(" ") if value else [None] * len(names), strict=True))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Tell whether a dictionary is worth its trouble for a column; for one of unique times or texts it is not."""
    if pa.types.is_null(column.type):  # which Arrow does not count
        return True
    sample = column.slice(0, 5000)
    return bool(pc.count_distinct(sample).as_py() < _REPEATS * len(sample)) or not len(sample)


def _with_iso_times(table: pa.Table) -> pa.Table:
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            texts = pa.chunked_array([iso_times(chunk) for chunk in table.column(number).chunks], pa.large_string())
            table = table.set_column(number, field.name, texts)
    return table
