"""Write the result of an insight or a query as one file: JSON unchanged, or a table as CSV, JSONL, Parquet or XLSX."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError
from airflow_provider_posthog.results.insight_tables import Table
from airflow_provider_posthog.results.workbook import workbook
from airflow_provider_posthog.storage.atomic_file import AtomicFile, Compression

if TYPE_CHECKING:
    import pyarrow as pa

ResultFormat = Literal["json", "csv", "parquet", "jsonl", "xlsx"]

_FORMATS: dict[str, ResultFormat] = {
    **{".json": "json", ".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".xlsx": "xlsx"},
}
#: What a file may be.
FORMATS = tuple(_FORMATS.values())
#: Formats that are compressed as they are.
_PACKED = ("parquet", "xlsx")
_QUOTED = re.compile(r'[",\r\n]')
_CHUNK_ROWS = 5_000


def format_of(path: str, *, field: str = "path") -> ResultFormat:
    """Return the format of a path's suffix; text may be compressed with gzip.

    :param path: ends with ``.json``, ``.csv``, ``.jsonl`` (or those with ``.gz``), ``.parquet`` or ``.xlsx``.
    :param field: what an error calls the argument.
    :raises PostHogSettingsError: for any other suffix.
    """
    name = re.split(r"[/\\]", path)[-1].lower()
    packed = name.endswith(".gz")
    stem, dot, suffix = name.removesuffix(".gz").rpartition(".")
    chosen = _FORMATS.get(dot + suffix)
    if chosen is None or not stem or (packed and chosen in _PACKED):
        problem = (
            f"{chosen} is compressed itself." if packed and chosen else f"{name[-40:]!r} does not tell the format."
        )
        remedy = "End it with .json, .csv, .jsonl (or those with .gz), .parquet or .xlsx."
        raise PostHogSettingsError(field, problem, remedy)
    return chosen


def compression_of(path: str) -> Compression | None:
    """Return how :class:`~.atomic_file.AtomicFile` has to compress a path's file.

    :param path: one that :func:`format_of` accepts.
    """
    return "gzip" if path.lower().endswith(".gz") else None


def require_format(format: ResultFormat, *, field: str = "path") -> None:
    """Check, before anything is calculated, that a format can be written here.

    :param format: from :func:`format_of`.
    :param field: what an error calls the argument.
    :raises PostHogSettingsError: for Parquet without pyarrow.
    """
    if format == "parquet":
        _pyarrow(field)


def write_result(atomic: AtomicFile, document: object, table: Callable[[], Table], format: ResultFormat) -> None:
    """Write a result to an atomic file, and finish it.

    JSON is the document, in UTF-8, with a line break at the end. CSV is that of RFC 4180: a header always, lines end
    with CR LF, nothing for ``None`` and ``""`` for an empty text. JSON lines are one object per row. Parquet has the
    columns' types if the table knows them, else those that fit all of a column's values, or text. XLSX is one sheet.

    :param atomic: where to; made with ``compression=compression_of(path)``. Committing it is the caller's.
    :param document: what JSON is made of.
    :param table: makes the table; called for the other formats only.
    :param format: from :func:`format_of`.
    :raises PostHogSettingsError: if there is no table for the result, or no pyarrow for Parquet.
    :raises PostHogTransportError: if a value is not of the type that PostHog says its column has.
    :raises OSError: if the file system fails.
    """
    writers: dict[str, Callable[[Table], Iterable[bytes]]] = {
        **{"csv": _csv, "jsonl": _json_lines, "parquet": _parquet, "xlsx": _xlsx},
    }
    for chunk in [_json(document), b"\n"] if format == "json" else writers[format](table()):
        atomic.write(chunk)
    atomic.finish()


def _json(value: object) -> bytes:
    """Write JSON.

    :raises PostHogTransportError: if it holds what JSON cannot say.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, which only an escape can say
        return json.dumps(value, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise PostHogTransportError(
            "the result is not JSON: it holds NaN or Infinity, or is nested too deeply. Write it as .csv or .parquet"
        ) from None


def _slices(rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[tuple[Any, ...]]]:
    return (rows[at : at + _CHUNK_ROWS] for at in range(0, len(rows), _CHUNK_ROWS))


def _csv(table: Table) -> Iterable[bytes]:
    yield _csv_line(table.columns)
    for rows in _slices(table.rows):
        yield b"".join(map(_csv_line, rows))


def _csv_line(row: Sequence[Any]) -> bytes:
    """Write a line; by hand, as Python's writer cannot tell None from an empty text, and 3.10's fails at a NUL."""
    line = ",".join(map(_csv_cell, row))
    # readers skip empty lines
    return ((line if line or len(row) != 1 else '""') + "\r\n").encode("utf-8", "replace")


def _csv_cell(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    if value and not _QUOTED.search(value):
        return value
    return '"' + value.replace('"', '""') + '"'


def _json_lines(table: Table) -> Iterable[bytes]:
    for rows in _slices(table.rows):
        yield b"".join(_json(dict(zip(table.columns, row, strict=True))) + b"\n" for row in rows)


def _parquet(table: Table) -> Iterable[bytes]:
    pa = _pyarrow("path")
    import pyarrow.parquet as pq

    if table.types is not None:
        from airflow_provider_posthog.results import arrow_types

        schema = arrow_types.schema_of(table.columns, table.types)
        arrow = pa.Table.from_batches([arrow_types.batch_of(table.rows, schema)], schema)
    else:
        columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
        arrow = pa.table([_inferred(column) for column in columns], names=list(table.columns))
    sink = io.BytesIO()
    pq.write_table(arrow, sink)
    yield sink.getvalue()


def _xlsx(table: Table) -> Iterable[bytes]:
    try:
        yield workbook(table.columns, table.rows)
    except ValueError as error:
        raise PostHogSettingsError("path", f"is of .xlsx. {error}", "End it with .csv, .jsonl or .parquet.") from None


def _inferred(values: Sequence[Any]) -> pa.Array:
    """Make a column of the type that fits all values; text if none does, or if there is no value."""
    import pyarrow as pa

    try:
        made = pa.array(values)
    except (TypeError, ValueError, OverflowError):  # Arrow's own errors are the first two
        return pa.array(map(_text, values), pa.string())
    return made.cast(pa.string()) if pa.types.is_null(made.type) else made


def _text(value: Any) -> str | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    # JSON can hold half of a pair of surrogates, Arrow cannot
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace").decode()


def _pyarrow(field: str) -> Any:  # noqa: ANN401 - a module
    try:
        import pyarrow as pa
    except ImportError:
        raise PostHogSettingsError(
            field,
            "is for Parquet, which needs pyarrow.",
            "Install airflow-provider-posthog[warehouse], or end the path with .csv, .jsonl or .json.",
        ) from None
    return pa
