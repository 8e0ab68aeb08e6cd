"""Read rows of files: Parquet and CSV have columns, JSON lines have whatever each line has."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from airflow_provider_posthog.capture.events import Event, Reader, Recipe
from airflow_provider_posthog.capture.values import RefusedError
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

FORMATS = ("parquet", "jsonl", "csv")
#: Rows that are read at once.
_ROWS = 2_000
_LONGEST_FIELD = 16_000_000
_NUMBER = pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
#: Digits that a number keeps in PostHog.
_MOST_DIGITS = 15
_WORDS = {"true": True, "false": False}


class DictReader:
    """Makes events from rows that are dictionaries, each with its own columns.

    :param recipe: how.
    :param at: the time of rows that have none.
    """

    def __init__(self, recipe: Recipe, at: datetime) -> None:
        self._recipe = recipe
        self.needs_persons = recipe.kind != "events"
        self._at = at
        self._readers: dict[tuple[str, ...], Reader] = {}
        named = recipe.properties
        if isinstance(named, Mapping):
            named = [name for part, names in named.items() if part != "$unset" for name in names]
        own = (recipe.distinct_id, recipe.timestamp, recipe.event_column, *recipe.key, *(named or ()))
        self._needed = [name for name in dict.fromkeys(own) if name is not None]

    def _reader(self, row: Mapping[str, Any]) -> tuple[Reader, list[Any]]:
        columns = tuple(dict.fromkeys([*row, *self._needed]))
        reader = self._readers.get(columns)
        if reader is None:
            if len(self._readers) > 1_000:
                self._readers.clear()
            reader = self._readers[columns] = self._recipe.reader(columns, self._at)
        return reader, [row.get(name) for name in columns]

    def read(self, row: object, now: datetime) -> Event:
        """Make the event of a row.

        :param row: the row; anything but a dictionary is refused.
        :param now: the time.
        :raises RefusedError: if PostHog would not take it as it is.
        """
        if not isinstance(row, Mapping):
            raise RefusedError("wrong_columns" if isinstance(row, tuple) else "not_json")
        reader, values = self._reader(row)
        return reader.read(values, now)

    def key_of(self, row: object) -> list[Any]:
        """Return the key of a row, as JSON.

        :param row: the row.
        """
        if not isinstance(row, Mapping):
            return []
        reader, values = self._reader(row)
        return reader.key_of(values)


@contextmanager
def rows_of_files(
    fs: Any,  # noqa: ANN401 - of fsspec
    paths: Sequence[str],
    format: str,
    recipe: Recipe,
    at: datetime,
) -> Iterator[tuple[Reader | DictReader, Iterator[Any]]]:
    """Yield a maker of events and the rows, file by file.

    :param fs: the file system.
    :param paths: the files, in their order.
    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :param recipe: how rows become events.
    :param at: the time of rows that have none.
    :raises PostHogSettingsError: if a column is not there.
    """
    if format == "jsonl":
        yield DictReader(recipe, at), _json_lines(fs, paths)
        return
    reader = DictReader(recipe, at)
    for columns in (_columns(fs, path, format) for path in paths):
        if columns:
            recipe.reader(columns, at)  # refuses a file without a column before anything is sent
    yield reader, _parquet_rows(fs, paths) if format == "parquet" else _csv_rows(fs, paths, recipe)


def _json_lines(fs: Any, paths: Sequence[str]) -> Iterator[Any]:  # noqa: ANN401
    for path in paths:
        with fs.open(path, "rb", compression="infer") as file:
            for line in file:
                if line.strip():
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError):
                        yield None


def _columns(fs: Any, path: str, format: str) -> list[str]:  # noqa: ANN401
    """Return the columns of a file; none if it is empty and says none."""
    if format == "csv":
        with _csv(fs, path) as lines:
            return next(lines, [])
    import pyarrow.parquet

    with fs.open(path, "rb") as file:
        try:
            return list(pyarrow.parquet.read_schema(file).names)
        except pyarrow.ArrowInvalid:
            raise PostHogSettingsError(
                "path", f"has {path.rpartition('/')[2]!r:.80}, which is no Parquet file.", "Leave it out, or repair it."
            ) from None


def _parquet_rows(fs: Any, paths: Sequence[str]) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    for path in paths:
        for batch in _parquet(fs, path):
            yield from _in_microseconds(batch).to_pylist()


def _parquet(fs: Any, path: str) -> Iterator[Any]:  # noqa: ANN401
    import pyarrow.parquet

    with fs.open(path, "rb") as file:
        yield from pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS)


def _in_microseconds(batch: Any) -> Any:  # noqa: ANN401 - of pyarrow
    """Cut times of nanoseconds, as PostHog does: without pandas, Python could not hold them."""
    import pyarrow as pa

    kinds = [column.type for column in batch.schema]
    fine = [at for at, kind in enumerate(kinds) if pa.types.is_timestamp(kind) and kind.unit == "ns"]
    columns = list(batch.columns)
    for at in fine:
        columns[at] = columns[at].cast(pa.timestamp("us", kinds[at].tz), safe=False)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names) if fine else batch


@contextmanager
def _csv(fs: Any, path: str) -> Iterator[Iterator[list[str]]]:  # noqa: ANN401
    """Open a CSV file. Bytes that are no UTF-8 become what no row can be sent with."""
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    with (
        fs.open(path, "rb", compression="infer") as file,
        io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        yield _csv_lines(csv.reader(text), path)


def _csv_lines(reader: Iterator[list[str]], path: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error:
        name = path.rpartition("/")[2]
        raise PostHogSettingsError(
            "path", f"has {name!r:.80}, which cannot be read as CSV to its end.", "Write it as CSV again."
        ) from None


def _csv_rows(fs: Any, paths: Sequence[str], recipe: Recipe) -> Iterator[dict[str, Any] | tuple[()]]:  # noqa: ANN401
    # An id like 007 is a text, and so is a time: whether it has an offset is ours to see.
    own = {recipe.distinct_id, recipe.timestamp, recipe.event_column, *recipe.key}
    for path in paths:
        with _csv(fs, path) as lines:
            columns = next(lines, [])
            typed = [name not in own for name in columns]
            for line in lines:
                if len(line) == len(columns):
                    values = (_typed(text) if is_typed else text for text, is_typed in zip(line, typed, strict=True))
                    yield dict(zip(columns, values, strict=True))
                elif line:
                    yield ()


def _typed(text: str) -> str | float | bool | None:
    """Read a value of CSV by itself, so that no other row changes it; 007 and what would lose digits stay text."""
    if not text:
        return None
    if _NUMBER.fullmatch(text) and sum(map(str.isdigit, text)) <= _MOST_DIGITS:
        return float(text) if "." in text else int(text)
    return _WORDS.get(text.lower(), text) if len(text) <= len("false") else text


def check_format(value: object) -> None:
    """Refuse a format that is not read.

    :param value: the argument.
    :raises PostHogSettingsError: if it is none of :data:`FORMATS`.
    """
    if value not in FORMATS:
        raise PostHogSettingsError(
            "format", f"is {value!r:.40}, which cannot be read.", f"Write one of {', '.join(FORMATS)}."
        )


@contextmanager
def text_rows(
    fs: Any,  # noqa: ANN401 - of fsspec
    path: str,
    format: str,
) -> Iterator[tuple[list[str], Iterator[Sequence[Any]]]]:
    """Return the columns of a file, and its rows; those of CSV are text.

    :param fs: the file system.
    :param path: the file.
    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :raises PostHogSettingsError: if a row has other columns than the file says: none is left out silently.
    """
    if format == "csv":
        with _csv(fs, path) as lines:
            columns = next(lines, [])
            yield columns, _whole_lines(lines, len(columns))
        return
    if format == "parquet":
        columns = _columns(fs, path, format)
        yield columns, (tuple(row.values()) for row in _parquet_rows(fs, [path]))
        return
    columns = [*dict.fromkeys(name for line in _objects(fs, path) for name in line)]
    yield columns, (tuple(line.get(name) for name in columns) for line in _objects(fs, path))


def _whole_lines(lines: Iterator[list[str]], length: int) -> Iterator[list[str]]:
    for number, line in enumerate(lines, 2):
        if line and len(line) != length:
            raise PostHogSettingsError(
                "path", f"has {len(line)} columns in row {number:,}, and {length} in its first.", "Repair the file."
            )
        if line:
            yield line


def _objects(fs: Any, path: str) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401
    for number, line in enumerate(_json_lines(fs, [path]), 1):
        if not isinstance(line, Mapping):
            raise PostHogSettingsError("path", f"has no JSON object in row {number:,}.", "Repair the file.")
        yield line
