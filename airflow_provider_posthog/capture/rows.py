"""Read rows of files: Parquet and CSV have columns, JSON lines have whatever each line has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from airflow_provider_posthog.capture.events import Event, Reader, Recipe
from airflow_provider_posthog.capture.values import RefusedError
from airflow_provider_posthog.exceptions import PostHogSettingsError

FORMATS = ("parquet", "jsonl", "csv")
#: Rows that are read at once.
_ROWS = 2_000


class DictReader:
    """Makes events from rows that are dictionaries, each with its own columns.

    :param recipe: how.
    :param at: the time of rows that have none.
    """

    def __init__(self, recipe: Recipe, at: datetime) -> None:
        self._recipe = recipe
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
            raise RefusedError("not_json")
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
        recipe.reader(columns, at)  # refuses a file without a column before anything is sent
    yield reader, _tables(fs, paths, format, recipe)


def _json_lines(fs: Any, paths: Sequence[str]) -> Iterator[Any]:  # noqa: ANN401
    for path in paths:
        with fs.open(path, "rb", compression="infer") as file:
            for line in file:
                if line.strip():
                    try:
                        yield json.loads(line)
                    except ValueError:
                        yield None


def _columns(fs: Any, path: str, format: str) -> list[str]:  # noqa: ANN401
    if format == "parquet":
        import pyarrow.parquet

        with fs.open(path, "rb") as file:
            return list(pyarrow.parquet.read_schema(file).names)
    import csv
    import io

    with fs.open(path, "rb", compression="infer") as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        return next(csv.reader(text), [])


def _tables(fs: Any, paths: Sequence[str], format: str, recipe: Recipe) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    batches = _parquet if format == "parquet" else _csv
    for path in paths:
        for batch in batches(fs, path, recipe):
            for start in range(0, batch.num_rows, _ROWS):
                yield from batch.slice(start, _ROWS).to_pylist()


def _parquet(fs: Any, path: str, recipe: Recipe) -> Iterator[Any]:  # noqa: ANN401
    import pyarrow.parquet

    with fs.open(path, "rb") as file:
        yield from pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS)


def _csv(fs: Any, path: str, recipe: Recipe) -> Iterator[Any]:  # noqa: ANN401
    import pyarrow
    import pyarrow.csv

    # An id like 007 is a text, and so is a time: whether it has an offset is ours to see.
    own = (recipe.distinct_id, recipe.timestamp, recipe.event_column, *recipe.key)
    types = {name: pyarrow.string() for name in own if name is not None}
    with fs.open(path, "rb", compression="infer") as file:
        yield from pyarrow.csv.open_csv(file, convert_options=pyarrow.csv.ConvertOptions(column_types=types))


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
    """
    if format == "csv":
        import csv
        import io

        with fs.open(path, "rb", compression="infer") as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            columns = next(reader, [])
            yield columns, (row for row in reader if len(row) == len(columns))
        return
    if format == "parquet":
        columns = _columns(fs, path, format)
        batches = (batch for batch in _parquet(fs, path, Recipe(kind="persons")))
        yield columns, (tuple(row.values()) for batch in batches for row in batch.to_pylist())
        return
    first = next((line for line in _json_lines(fs, [path]) if isinstance(line, Mapping)), {})
    columns = list(first)
    lines = (line for line in _json_lines(fs, [path]) if isinstance(line, Mapping))
    yield columns, (tuple(line.get(name) for name in columns) for line in lines)
