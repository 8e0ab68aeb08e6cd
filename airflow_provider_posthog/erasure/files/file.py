"""Count the rows of persons in a file, and rewrite it without them; all other rows stay unchanged.

JSON lines and CSV keep the very bytes of every other row, Parquet its columns' types, metadata and compression.
"""

from __future__ import annotations

import gzip
import re
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson  # noqa: TID253 - this module is imported when a task runs
import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253
import pyarrow.parquet as pq  # noqa: TID253

from airflow_provider_posthog.storage.atomic_file import FileSystem
from airflow_provider_posthog.storage.staged_file import StagedFile

#: The suffixes of files, with their format and compression.
_ENDS: Mapping[str, tuple[str, str | None]] = {
    ".parquet": ("parquet", None),
    **{
        f".{end}{more}": (kind, compression)
        for end, kind in (("jsonl", "jsonl"), ("ndjson", "jsonl"), ("csv", "csv"))
        for more, compression in (("", None), (".gz", "gzip"), (".zst", "zstd"))
    },
}
_ROWS = 50_000
_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
#: The longest row of text: a longer one means that the file is not in the format of its name.
_MAX_ROW = 256 * 1024 * 1024
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n?$)')

#: Words in Arrow's errors about damaged data, whose class is the same as that of a storage's errors.
_DAMAGED = re.compile(r"(?i)corrupt|truncated|compress|parquet|snappy|zstd")


class UnreadableError(Exception):
    """Why a file cannot be read; the message holds nothing of its rows."""


@dataclass(frozen=True)
class Wanted:
    """A column that identifies the person of a row.

    :param column: its name.
    :param values: whose rows to remove; in lower case, if case is ignored.
    :param any_case: whether case is ignored.
    """

    column: str
    values: frozenset[str] = field(repr=False)
    any_case: bool = False

    @classmethod
    def of(cls, column: str, values: Iterator[str], *, any_case: bool = False) -> Wanted:
        """Collect the values.

        :param column: the column's name.
        :param values: the values.
        :param any_case: whether case is ignored.
        """
        return cls(column, frozenset(value.lower() if any_case else value for value in values), any_case)

    def has(self, value: object) -> bool:
        """Return whether a value is one of them.

        :param value: the row's value in the column.
        """
        if value is None:
            return False
        if isinstance(value, (list, dict)):  # a row of several persons would go for one of them, or none would
            raise UnreadableError(f"has lists or objects in {self.column!r}, and not one identifier in each row")
        text = value if isinstance(value, str) else str(value)
        return (text.strip(" ").lower() if self.any_case else text) in self.values


@dataclass
class Look:
    """The contents of a file.

    :param rows: how many rows.
    :param by: how many of them to remove, by column; a row that two columns match counts for the first.
    """

    rows: int = 0
    by: Counter[str] = field(default_factory=Counter)

    @property
    def hits(self) -> int:
        """How many rows to remove."""
        return sum(self.by.values())


def format_of(name: str) -> tuple[str, str | None] | None:
    """Return the format and compression of a file; ``None`` if this package does not write such files.

    :param name: the file's name.
    """
    return next((chosen for end, chosen in _ENDS.items() if name.endswith(end)), None)


def look(fs: FileSystem, path: str, wanted: Sequence[Wanted]) -> Look:
    """Count a file's rows, and those to remove.

    :param fs: the file system.
    :param path: the file.
    :param wanted: whose rows are to go.
    :raises UnreadableError: if it cannot be read.
    """
    result = Look()
    with _readable(fs, path) as (kind, compression, file):
        if kind == "parquet" and not wanted:
            result.rows = _parquet(file).metadata.num_rows
        elif kind == "parquet":
            for batch in _batches(file, [criterion.column for criterion in wanted]):
                masks = _masks(batch, wanted)
                result.rows += batch.num_rows
                result.by.update({criterion.column: n for criterion, mask in masks if (n := pc.sum(mask).as_py() or 0)})
        else:
            for _, named in _rows(kind, compression, file, wanted):
                if named is not None:
                    result.rows += 1
                    column = _column_of(named, wanted)
                    result.by.update([column] if column is not None else [])
    return result


def rewrite(fs: FileSystem, path: str, wanted: Sequence[Wanted], target: StagedFile) -> None:
    """Write all other rows of a file to another one, and close that.

    :param fs: the file system.
    :param path: the file.
    :param wanted: whose rows are left out.
    :param target: the other file.
    :raises UnreadableError: if it cannot be read.
    """
    with _readable(fs, path) as (kind, compression, file):
        if kind == "parquet":
            _rewrite_parquet(file, wanted, target)
        else:
            sink = _sink(target, compression)
            try:
                for raw, named in _rows(kind, compression, file, wanted):
                    if named is None or _column_of(named, wanted) is None:
                        sink.write(raw)
            finally:
                sink.close()
    target.finish()


@contextmanager
def _readable(fs: FileSystem, path: str) -> Iterator[tuple[str, str | None, Any]]:
    """Open a file; errors never quote its content."""
    form = format_of(path.rpartition("/")[2])
    if form is None:
        raise UnreadableError("is neither Parquet nor JSON lines nor CSV")
    try:
        with closing(fs.open(path, "rb")) as file:
            yield form[0], form[1], file
    except (UnicodeDecodeError, orjson.JSONDecodeError):
        raise UnreadableError("is not text in UTF-8") from None
    except (pa.ArrowException, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableError(f"is damaged, or is not what its name says ({type(error).__name__})") from None
    except OSError as error:
        if not _DAMAGED.search(str(error)):  # the storage cannot be reached: a retry may
            raise
        raise UnreadableError("is damaged, or is not what its name says") from None


# Parquet.


def _parquet(file: Any) -> pq.ParquetFile:  # noqa: ANN401
    # In pieces, as a row group of another writer may be as large as the file.
    return pq.ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False)


def _batches(file: Any, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    parquet = _parquet(file)
    missing = [name for name in columns or () if parquet.schema_arrow.names.count(name) != 1]
    if missing:
        raise UnreadableError(f"has no column {missing[0]!r}")
    yield from parquet.iter_batches(_ROWS, columns=columns)


def _masks(batch: pa.RecordBatch, wanted: Sequence[Wanted]) -> list[tuple[Wanted, pa.Array]]:
    """Return which rows to remove by each column, without those of earlier columns."""
    masks: list[tuple[Wanted, pa.Array]] = []
    gone: pa.Array | None = None
    for criterion in wanted:
        texts = _texts(batch.column(criterion.column))
        values = pa.array(sorted(criterion.values), pa.large_string())
        if criterion.any_case:
            texts = pc.utf8_lower(pc.utf8_trim(texts, " "))
        mask = pc.is_in(texts, value_set=values)
        if gone is not None:
            mask = pc.and_(mask, pc.invert(gone))
        gone = mask if gone is None else pc.or_(gone, mask)
        masks.append((criterion, mask))
    return masks


def _texts(column: pa.Array) -> pa.Array:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column, kind = column.storage, kind.storage_type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in column.to_pylist()], _TEXT)
    if pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        raise UnreadableError(f"has a column of type {kind} where identifiers should be")
    return column.cast(_TEXT)


_TEXT = pa.large_string()


def _rewrite_parquet(file: Any, wanted: Sequence[Wanted], target: StagedFile) -> None:  # noqa: ANN401
    parquet = _parquet(file)
    kept: list[pa.RecordBatch] = []
    with pq.ParquetWriter(pa.PythonFile(target, mode="w"), parquet.schema_arrow, **_options(parquet)) as writer:

        def flush() -> None:
            if kept:
                table = pa.Table.from_batches(kept, parquet.schema_arrow)
                kept.clear()
                writer.write_table(table, row_group_size=max(table.num_rows, 1))

        for batch in parquet.iter_batches(_ROWS):
            gone = [mask for _, mask in _masks(batch, wanted)]
            keep = pc.invert(gone[0])
            for mask in gone[1:]:
                keep = pc.and_(keep, pc.invert(mask))
            left = batch.filter(keep)
            if left.num_rows:
                kept.append(left)
            if sum(batch.num_rows for batch in kept) >= _ROWS or sum(batch.nbytes for batch in kept) >= _BYTES:
                flush()
        flush()


def _options(parquet: pq.ParquetFile) -> dict[str, Any]:
    """Return the options with which the file was written, from its first row group."""
    about = parquet.metadata
    if not about.num_row_groups:
        return {"compression": "zstd"}
    group = about.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    codecs = {column.compression for column in columns}
    codec = next(iter(codecs)).lower() if codecs else "zstd"
    return {
        "compression": "none" if codec == "uncompressed" else codec,
        "use_dictionary": [column.path_in_schema for column in columns if column.has_dictionary_page] or False,
    }


# Text.


def _rows(
    kind: str,
    compression: str | None,
    file: Any,  # noqa: ANN401
    wanted: Sequence[Wanted],
) -> Iterator[tuple[bytes, Mapping[str, Any] | None]]:
    """Yield the bytes of each row with its values; ``None`` for a header or a blank line."""
    lines = _lines(_reader(compression, file))
    return _csv(lines, wanted) if kind == "csv" else _json(lines, wanted)


def _column_of(named: Mapping[str, Any], wanted: Sequence[Wanted]) -> str | None:
    return next((criterion.column for criterion in wanted if criterion.has(named[criterion.column])), None)


def _json(lines: Iterator[bytes], wanted: Sequence[Wanted]) -> Iterator[tuple[bytes, Mapping[str, Any] | None]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            yield line, None
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise UnreadableError(f"line {number} is not JSON") from None
        missing = [criterion.column for criterion in wanted if not isinstance(row, dict) or criterion.column not in row]
        if missing:
            raise UnreadableError(f"line {number} has no {missing[0]!r}")
        yield line, row


def _csv(lines: Iterator[bytes], wanted: Sequence[Wanted]) -> Iterator[tuple[bytes, Mapping[str, Any] | None]]:
    names: list[str] | None = None
    for number, raw in enumerate(_records(lines), 1):
        fields = _fields(raw, number)
        if names is None:
            names = [fields[0].removeprefix("\ufeff"), *fields[1:]]
            missing = [criterion.column for criterion in wanted if names.count(criterion.column) != 1]
            if missing:
                raise UnreadableError(f"has no column {missing[0]!r}")
            yield raw, None
        elif len(fields) == len(names):
            yield raw, dict(zip(names, fields, strict=True))
        elif not raw.strip():
            yield raw, None
        else:
            raise UnreadableError(f"row {number} has {len(fields)} cells, and the header {len(names)}")
    if names is None:
        return


def _records(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Join lines that a quoted cell spans: only the parity of quotes matters."""
    pending: list[bytes] = []
    is_open, size = False, 0
    for line in lines:
        is_open ^= line.count(b'"') % 2 == 1
        pending.append(line)
        size += len(line)
        if not is_open:
            yield b"".join(pending)
            pending, size = [], 0
        elif size > _MAX_ROW:
            break
    if pending:
        raise UnreadableError("has a quote that is never closed")


def _fields(raw: bytes, number: int) -> list[str]:
    text, at = raw.decode("utf-8"), 0
    fields: list[str] = []
    while True:
        cell = _FIELD.match(text, at)
        if cell is None:
            raise UnreadableError(f"row {number} is not CSV")
        fields.append(cell[2] if cell[1] is None else cell[1].replace('""', '"'))
        at = cell.end()
        if cell[3] != ",":
            return fields


def _lines(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield lines with their ends."""
    rest: list[bytes] = []
    size = 0
    while chunk := read(_CHUNK):
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line, b"\n"])
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > _MAX_ROW:
            raise UnreadableError("has a line that is longer than any row")
    if any(rest):
        yield b"".join(rest)


def _reader(compression: str | None, file: Any) -> Callable[[int], bytes]:  # noqa: ANN401
    if compression == "gzip":
        read: Callable[[int], bytes] = gzip.GzipFile(fileobj=file, mode="rb").read
    elif compression == "zstd":
        read = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd").read
    else:
        read = file.read
    return read


def _sink(target: StagedFile, compression: str | None) -> Any:  # noqa: ANN401 - a file object
    if compression == "gzip":
        return gzip.GzipFile("", "wb", 6, target, mtime=0)
    if compression == "zstd":
        return pa.CompressedOutputStream(pa.PythonFile(target, mode="w"), "zstd")
    return target
