"""How a task's rows become files: from its arguments to a layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from airflow_provider_posthog.tasks.bulk import ReadingArguments, ReadingOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.extract.layout import Layout
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.table_formats import LakeTable
    from airflow_provider_posthog.storage.manifest import Interval


class FilesTask(Protocol):
    """The arguments of a task that writes files."""

    format: Any
    compression: str | None
    partition_by: str | Sequence[str] | None
    partition_time: str | None
    partition_zone: str
    json_columns: Sequence[str]
    max_file_bytes: int
    max_file_rows: int
    row_group_rows: int | None
    max_shrink: float | str
    allow_shrink: bool | str
    schema_change: str
    verify_back: Any
    schema_policy: Any
    max_rejects: Any
    table_format: Any
    table_options: Mapping[str, Any] | None


class FilesArguments(ReadingArguments, total=False):
    """The arguments of :class:`FilesOperator`, for an editor and a type checker."""

    format: Literal["parquet", "jsonl", "csv"]
    compression: str | None
    partition_by: str | Sequence[str] | None
    partition_time: str | None
    partition_zone: str
    json_columns: Sequence[str]
    max_file_bytes: int
    max_file_rows: int
    row_group_rows: int | None


class FilesOperator(ReadingOperator):
    """Reads rows in bulk into files. Subclasses say where these are.

    :param format: ``parquet``, ``jsonl`` or ``csv``.
    :param compression: Parquet: ``zstd`` (default), ``snappy``, ``lz4``, ``gzip``, ``brotli``; the others: ``gzip``
        (default), ``zstd``; ``none`` for none.
    :param partition_by: ``day`` (``date=2026-11-01/``), ``hour`` (``date=2026-11-01/hour=07/``), of a snapshot
        ``snapshot`` (``snapshot=20261101T000000Z/``), a column, or several of these as a list: ``["day", "event"]``.
    :param partition_time: the column that days and hours are taken from; default: ``time_column``.
    :param partition_zone: the time zone of these days and hours; default: UTC.
    :param json_columns: columns of JSON text that JSON lines hold as JSON, not as text.
    :param max_file_bytes: roughly how large a file may be.
    :param max_file_rows: roughly how many rows a file may have.
    :param row_group_rows: how many rows a row group of Parquet has, such as 1,000,000 for Athena and Spark; up to 256
        MiB of rows wait in memory for that. Default: 50,000, or 16 MiB.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.bulk.ReadingOperator`.
    """

    def __init__(
        self,
        *,
        format: Literal["parquet", "jsonl", "csv"] = "parquet",
        compression: str | None = None,
        partition_by: str | Sequence[str] | None = None,
        partition_time: str | None = None,
        partition_zone: str = "UTC",
        json_columns: Sequence[str] = ("properties",),
        max_file_bytes: int = 128 * 1024 * 1024,
        max_file_rows: int = 1_000_000,
        row_group_rows: int | None = None,
        **kwargs: Unpack[ReadingArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_partition_by(partition_by)
        self.format = format
        self.compression = compression
        self.partition_by = partition_by
        self.partition_time = partition_time
        self.partition_zone = partition_zone
        self.json_columns = json_columns
        self.max_file_bytes = max_file_bytes
        self.max_file_rows = max_file_rows
        self.row_group_rows = row_group_rows


def check_files(task: FilesTask) -> None:
    """Refuse arguments that no files can be made by.

    :param task: the task.
    :raises PostHogSettingsError: if one cannot be used.
    """
    from airflow_provider_posthog.extract.layout import SUFFIXES
    from airflow_provider_posthog.storage.folder_types import POLICIES

    if task.format not in SUFFIXES:
        raise PostHogSettingsError("format", f"{task.format!r} is not known.", f"Write one of {', '.join(SUFFIXES)}.")
    known = [name or "none" for name in SUFFIXES[task.format]]
    if task.compression is not None and task.compression not in known:
        raise PostHogSettingsError(
            "compression", f"{task.compression!r} is not for {task.format}.", f"Write one of {', '.join(known)}."
        )
    for field in ("max_file_bytes", "max_file_rows", "row_group_rows"):
        value = getattr(task, field)
        if field == "row_group_rows" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PostHogSettingsError(field, f"{value!r} is not a size.", "Write a whole number, 1 or more.")
    check_partition_by(task.partition_by)
    check_zone(task.partition_zone)
    if task.schema_change not in POLICIES:
        raise PostHogSettingsError(
            "schema_change", f"{task.schema_change!r:.60} is not known.", f"Write one of {', '.join(POLICIES)}."
        )
    if isinstance(task.json_columns, str):  # else it would be a list of letters
        raise PostHogSettingsError("json_columns", "is a text.", "Write a list of names.")
    ShrinkGuard.of(task.max_shrink, task.allow_shrink)
    _check_policy(task)
    _check_table(task)


def _check_policy(task: FilesTask) -> None:
    number = task.max_rejects
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
        raise PostHogSettingsError("max_rejects", f"{number!r:.40} is not a number of rows.", "Write one, such as 100.")
    if number is not None and task.schema_policy != "quarantine":
        raise PostHogSettingsError("max_rejects", "is for schema_policy='quarantine'.", "Write both, or leave it out.")
    if task.schema_policy is not None and task.table_format is not None:
        raise PostHogSettingsError("schema_policy", "is for folders of files.", "Leave it out.")
    if task.schema_policy == "quarantine" and task.verify_back:
        raise PostHogSettingsError(
            "schema_policy", "'quarantine' leaves rows out, which verify_back would read again for ever.", "Choose one."
        )


def _check_table(task: FilesTask) -> None:
    from airflow_provider_posthog.extract.table_formats import check_lake

    if task.table_format is None:
        if task.table_options is not None:
            raise PostHogSettingsError("table_options", "is given without table_format.", "Write both, or neither.")
        return
    check_lake(task.table_format, task.table_options or {})
    for field, value in (("format", task.format == "parquet"), ("partition_by", task.partition_by is None)):
        if not value:
            raise PostHogSettingsError(
                field,
                f"is not for a table of {task.table_format}.",
                "Leave it out, or make a table of partitions.",
            )


def lake_of(task: FilesTask, source: Source, interval: Interval, uri: str) -> LakeTable:
    """Return the table of Delta or Iceberg that rows go into.

    :param task: the task; it has a ``table_format``.
    :param source: what is read.
    :param interval: what is written.
    :param uri: where the table is.
    :raises PostHogSettingsError: if nobody can tell which of its rows are replaced.
    """
    from airflow_provider_posthog.extract.table_formats import LakeTable

    if source.filtered:
        raise PostHogSettingsError(
            "table_format",
            f"{task.table_format!r} replaces rows, and a condition does not tell which.",
            "Choose by events or columns, or write a query, with a table of its own.",
        )
    only: dict[str, Any] = {}
    for expression, values in source.only.items():
        names = [name for name, column in source.columns.items() if column == expression]
        if not names:
            raise PostHogSettingsError("columns", f"has no {expression!r}, by which rows are replaced.", "Select it.")
        only[names[0]] = values
    time = source.time
    if time is not None and source.columns and time not in source.columns:
        raise PostHogSettingsError("columns", f"has no {time!r}, by which rows are replaced.", "Select it.")
    span = (interval.start, interval.end) if time is not None else (None, None)
    options = task.table_options or {}
    return LakeTable(task.table_format, uri, options, time, span[0], span[1], only)


def layout_of(task: FilesTask, source: Source, interval: Interval) -> Layout:
    """Return how rows become files.

    :param task: the task.
    :param source: what is read.
    :param interval: what is written.
    """
    from airflow_provider_posthog.extract.layout import SUFFIXES, Layout

    compression = next(iter(SUFFIXES[task.format])) if task.compression is None else task.compression
    return Layout(
        format=task.format,
        compression=None if compression == "none" else compression,
        partition_by=task.partition_by,
        partition_time=task.partition_time or source.time,
        partition_zone=task.partition_zone,
        snapshot=interval.stem.rpartition("_")[2] if interval.is_snapshot else None,
        json_columns=tuple(task.json_columns),
        own_json=source.own_json,
        max_bytes=task.max_file_bytes,
        max_rows=task.max_file_rows,
        row_group_rows=task.row_group_rows,
    )


def check_partition_by(value: object) -> None:
    """Refuse what names no column to partition by.

    :param value: the argument.
    :raises PostHogSettingsError: if it is neither text nor a list of texts; ``None`` is fine.
    """
    names = list(value) if isinstance(value, list | tuple) else [value]
    if value is None or (names and all(isinstance(name, str) and name.strip() for name in names)):
        return
    raise PostHogSettingsError(
        "partition_by",
        f"is not a name, but {value!r:.60}.",
        "Write 'day', 'hour', 'snapshot' or a column, several of them as a list, or leave it out.",
    )


def check_zone(value: object) -> None:
    """Refuse what is not a time zone.

    :param value: the argument ``partition_zone``.
    :raises PostHogSettingsError: if it is none.
    """
    from zoneinfo import ZoneInfo

    try:
        known = isinstance(value, str) and bool(ZoneInfo(value))
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        known = False
    if not known:
        raise PostHogSettingsError(
            "partition_zone", f"{value!r:.60} is not a time zone.", "Write one: 'Europe/Berlin'."
        )
