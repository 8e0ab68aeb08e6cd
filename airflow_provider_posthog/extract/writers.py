"""Write Arrow tables to files of bounded size: Parquet, JSON lines or CSV, in one folder or in Hive partitions."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.compute as pc  # noqa: TID253
import pyarrow.csv as pa_csv  # noqa: TID253
import pyarrow.parquet as pq  # noqa: TID253

from airflow_provider_posthog.extract.json_lines import iso_times, lines_of
from airflow_provider_posthog.extract.layout import Layout, split
from airflow_provider_posthog.storage.staged_file import StagedFile
from airflow_provider_posthog.storage.staging import Staging

#: Rows are collected up to so many, or so many bytes, before they are written: Parquet's row groups.
GROUP_ROWS = 50_000
GROUP_BYTES = 16 * 1024 * 1024
#: The most bytes that wait in all files for their row groups to reach the requested size.
MOST_WAITING = 256 * 1024 * 1024
#: How many files may be open at once; each has buffers.
MAX_OPEN = 64
#: A column of which fewer than this share of the values differ is written to Parquet with a dictionary.
_REPEATS = 0.5
#: How much larger than requested a file may be.
_MOST = 1.5


class _Part(Protocol):
    #: How many bytes wait to be written.
    waiting: int

    def write(self, table: pa.Table) -> None: ...
    def flush(self) -> None: ...
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

        self._group = layout.row_group_rows or 0
        self._pending: list[pa.Table] = []
        self.waiting = 0

    def write(self, table: pa.Table) -> None:
        self._pending.append(table)
        self.waiting += table.nbytes
        while sum(table.num_rows for table in self._pending) >= max(self._group, 1):
            self._write(self._group or table.num_rows)

    def flush(self) -> None:
        self._write(0)

    def _write(self, most: int) -> None:
        """Write a row group of so many rows, or of all that wait."""
        if not self._pending:
            return
        whole = pa.concat_tables(self._pending)
        rows = most or whole.num_rows
        self._writer.write_table(whole.slice(0, rows), row_group_size=max(rows, 1))
        rest = whole.slice(rows)
        self._pending = [rest] if rest.num_rows else []
        self.waiting = rest.nbytes if rest.num_rows else 0

    def close(self) -> None:
        self.flush()
        self._writer.close()


class _TextPart:
    """What JSON lines and CSV share: a stream of bytes, perhaps compressed."""

    waiting = 0

    def __init__(self, file: StagedFile, layout: Layout) -> None:
        self._file: Any = file
        if layout.compression == "gzip":
            # Without a name and a time, the same rows make the same bytes.
            self._file = gzip.GzipFile("", "wb", 6, file, mtime=0)
        elif layout.compression == "zstd":
            self._file = pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd")

    def flush(self) -> None:
        """Nothing waits."""

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
        finally:  # otherwise a full disk would leave the file open, and an upload unfinished
            self.file.close()
        self.file.finish()

    def give_up(self) -> None:
        with suppress(Exception):  # a writer of Parquet that is not closed complains when it is forgotten
            self.part.close()
        self.file.give_up()


class TableFiles:
    """Writes tables to staged files, and reports which are ready to be recorded.

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
            sum(table.num_rows for table in self._pending) >= min(GROUP_ROWS, self._layout.max_rows)
            or sum(table.nbytes for table in self._pending) >= GROUP_BYTES
        ):
            self._flush()

    def finish(self) -> list[dict[str, Any]]:
        """Close all files, and return the descriptions of those that were closed since the last call."""
        self._flush()
        for key in list(self._open):
            self._close(key)
        closed = [described for _, described in self._closed]
        self._closed, self.is_due = [], False
        return closed

    def _flush(self) -> None:
        if not self._pending:
            return
        whole, self._pending = pa.concat_tables(self._pending), []
        for partition, table in split(whole, self._layout, self._schema):
            for piece in _pieces(table, self._layout.max_rows):
                self._write(tuple(partition.values()), partition, piece)

    def _write(self, key: tuple[str | None, ...], partition: Mapping[str, str | None], table: pa.Table) -> None:
        opened = self._open.get(key)
        if opened is not None and opened.rows + table.num_rows > _MOST * self._layout.max_rows:
            self._close(key)
        opened = self._file_for(key, partition, table)
        opened.write(table)
        if sum(file.part.waiting for file in self._open.values()) > MOST_WAITING:
            max(self._open.values(), key=lambda file: file.part.waiting).part.flush()
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
        described = self._staging.describe(
            opened.file, self._layout.suffix, rows=opened.rows, partition=opened.partition
        )
        del self._open[key]  # not before it is among the others: an error would leave it behind
        self._closed.append((opened.file, described))


def _pieces(table: pa.Table, most: int) -> Iterator[pa.Table]:
    """Split a table evenly into pieces of about so many rows."""
    count = max(1, round(table.num_rows / most))
    size = -(-table.num_rows // count)
    return (table.slice(first, size) for first in range(0, table.num_rows, size))


def _part(file: StagedFile, sample: pa.Table, layout: Layout) -> _Part:
    if layout.format == "parquet":
        return _ParquetPart(file, sample, layout)
    return _JsonPart(file, layout) if layout.format == "jsonl" else _CsvPart(file, layout)


def _repeats(column: pa.ChunkedArray) -> bool:
    """Return whether a dictionary pays off for a column; for unique times or texts it does not."""
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
