"""How rows become files: their format, size and folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.compute as pc  # noqa: TID253

from airflow_provider_posthog.exceptions import PostHogSettingsError

#: The compressions of each format, the default first, and the suffixes of the files.
SUFFIXES: Mapping[str, Mapping[str | None, str]] = {
    "parquet": dict.fromkeys(("zstd", "snappy", "lz4", "gzip", "brotli", None), ".parquet"),
    "jsonl": {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", None: ".jsonl"},
    "csv": {"gzip": ".csv.gz", "zstd": ".csv.zst", None: ".csv"},
}
#: The most folders that a column may split rows into: with more, files would hold single rows.
MAX_PARTITIONS = 10_000
#: The most bytes of a column's name in the name of a folder.
_MAX_COLUMN = 120
SNAPSHOT = "snapshot"
_TIMES = {"day": ("date",), "hour": ("date", "hour")}
#: The folders that are made of no column.
_FOLDERS = {**_TIMES, SNAPSHOT: (SNAPSHOT,)}


@dataclass(frozen=True)
class Layout:
    """How rows become files.

    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :param compression: one of the format's, or ``None``.
    :param partition_by: ``day`` (``date=2026-11-01/``), ``hour`` (``date=2026-11-01/hour=07/``), ``snapshot``
        (``snapshot=20261101T000000Z/``), a column (which then is in the path only), several of these, one folder in
        another, or ``None`` for one folder.
    :param partition_time: the column of time that days and hours are taken from.
    :param partition_zone: the time zone that they are of.
    :param snapshot: the name of the snapshot; ``None`` for an interval.
    :param json_columns: columns of JSON text that JSON lines hold as JSON.
    :param own_json: those of them that PostHog itself writes, so that they need not be checked.
    :param max_bytes: roughly how large a file may be.
    :param max_rows: about how many rows a file may have; up to half as many more rather than a small rest.
    :param row_group_rows: how many rows a row group of Parquet has, as far as memory allows; ``None`` for about 50,000,
        or 16 MiB.
    """

    format: str = "parquet"
    compression: str | None = "zstd"
    partition_by: str | Sequence[str] | None = None
    partition_time: str | None = None
    partition_zone: str = "UTC"
    snapshot: str | None = None
    json_columns: Sequence[str] = ("properties",)
    own_json: Sequence[str] = ()
    max_bytes: int = 128 * 1024 * 1024
    max_rows: int = 1_000_000
    row_group_rows: int | None = None

    @property
    def suffix(self) -> str:
        """The suffix of the files."""
        return SUFFIXES[self.format][self.compression]

    def check(self, schema: pa.Schema) -> None:
        """Refuse what the rows' columns do not allow.

        :param schema: of the rows.
        :raises PostHogSettingsError: if a column is not there, or is of the wrong type.
        """
        parts = self.partitions
        folders = [name for part in parts for name in _FOLDERS.get(part, (part,))]
        for name in folders:
            if folders.count(name) > 1:
                raise PostHogSettingsError("partition_by", f"names {name!r} twice.", "Write each once.")
        for part in parts:
            if part in _TIMES:
                self._check_time(schema)
            elif part == SNAPSHOT:
                self._check_snapshot()
            elif part not in schema.names:
                raise PostHogSettingsError(
                    "partition_by",
                    f"names {part!r}, which is not a column.",
                    f"Write one of: {', '.join(schema.names)}.",
                )
            elif len(quote(part)) > _MAX_COLUMN:
                raise PostHogSettingsError(
                    "partition_by", "is too long for the name of a folder.", "Give the column a shorter name, with AS."
                )
            for name in _FOLDERS.get(part, ()):
                if name in schema.names:
                    raise PostHogSettingsError(
                        "partition_by",
                        f"makes a folder {name!r}, the name of a column.",
                        "Give the column another name.",
                    )

    def _check_time(self, schema: pa.Schema) -> None:
        column = self.partition_time or ""
        if column not in schema.names or not pa.types.is_timestamp(schema.field(column).type):
            raise PostHogSettingsError(
                "partition_by",
                f"needs a column of time, and {column!r} is none.",
                f"Write partition_time=... , one of: {', '.join(schema.names)}.",
            )

    def _check_snapshot(self) -> None:
        if self.snapshot is None:
            raise PostHogSettingsError(
                "partition_by", "is 'snapshot', which is for a whole table, not for an interval.", "Write 'day'."
            )

    @property
    def partitions(self) -> tuple[str, ...]:
        """What the folders are made of, the outermost first."""
        if self.partition_by is None:
            return ()
        return (self.partition_by,) if isinstance(self.partition_by, str) else tuple(self.partition_by)

    def kept(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns that are in the files.

        :param schema: of the rows.
        """
        return pa.schema([field for field in schema if field.name not in self.partitions])


def split(table: pa.Table, layout: Layout, schema: pa.Schema) -> Iterator[tuple[Mapping[str, str | None], pa.Table]]:
    """Yield the rows of each folder, in their order, with the values in its path.

    :param table: the rows.
    :param layout: how they become files.
    :param schema: the columns that are in the files.
    :raises PostHogSettingsError: if they would go into far too many folders.
    """
    rows = table.select(schema.names)
    written = [pair for part in layout.partitions for pair in _texts_of(table, part, layout)]
    if not written:
        yield {}, rows
        return
    coded = [texts.combine_chunks().dictionary_encode(null_encoding="encode") for _, texts in written]
    codes = coded[0].indices.cast(pa.int64())
    for column in coded[1:]:
        codes = pc.add(pc.multiply(codes, len(column.dictionary)), column.indices.cast(pa.int64()))
    codes = codes.dictionary_encode()
    values = codes.dictionary.to_pylist()
    _check_values(table, [part for part in layout.partitions if part not in _FOLDERS])
    if len(values) > 1:
        rows = rows.take(pc.sort_indices(codes.indices))  # stable: rows stay in the order of time
    counts = {count["values"]: count["counts"] for count in pc.value_counts(codes.indices).to_pylist()}
    first = 0
    for code, value in enumerate(values):
        partition: dict[str, str | None] = {}
        for (name, _), column in zip(reversed(written), reversed(coded), strict=True):
            value, at = divmod(value, len(column.dictionary))
            partition = {name: column.dictionary[at].as_py(), **partition}
        yield partition, rows.slice(first, counts[code])
        first += counts[code]


def _check_values(table: pa.Table, columns: Sequence[str]) -> None:
    """Refuse columns of far too many values. Of days and hours there can be any number: an import has years of them."""
    if not columns or table.num_rows <= MAX_PARTITIONS:
        return
    values = table.group_by(list(columns)).aggregate([]).num_rows
    if values > MAX_PARTITIONS:
        raise PostHogSettingsError(
            "partition_by",
            f"puts {table.num_rows:,} rows into {values:,} folders, by {', '.join(map(repr, columns))}.",
            f"Choose a column of fewer values, at the most {MAX_PARTITIONS:,}.",
        )


def _texts_of(table: pa.Table, part: str, layout: Layout) -> list[tuple[str, pa.ChunkedArray]]:
    """Return the names and the texts of the folders that rows go into."""
    if part == SNAPSHOT:
        return [(SNAPSHOT, pa.chunked_array([pa.repeat(layout.snapshot or "", table.num_rows)]))]
    if part not in _TIMES:
        return [(part, table.column(part).cast(pa.string()))]
    times = table.column(layout.partition_time or "").cast(pa.timestamp("us"))
    if layout.partition_zone != "UTC":
        zoned = times.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", layout.partition_zone))
        times = pc.local_timestamp(zoned)
    text = times.cast(pa.string())  # "2026-11-01 07:..."
    edges = {"date": (0, 10), "hour": (11, 13)}
    return [(name, pc.utf8_slice_codeunits(text, *edges[name])) for name in _TIMES[part]]
