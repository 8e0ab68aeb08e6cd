"""What a batch export has written, counted where it was written: PostHog's own word for it is no proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.export_intervals import Interval
from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.compat import BaseHook
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError, clean
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.tasks.batch_export import describe
from airflow_provider_posthog.tasks.interval import folder_of

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.hooks.posthog import PostHogHook

#: What PostHog holds of a backfill's interval, which takes events by when they happened ...
_HAPPENED = (
    "SELECT count(DISTINCT uuid) FROM events WHERE timestamp >= toDateTime({start}) AND timestamp < toDateTime({end})"
)
#: ... and of a scheduled run's, which takes them by when they came in.
_RECEIVED = (
    "SELECT count(DISTINCT uuid) FROM events WHERE created_at >= toDateTime({start}) AND created_at < toDateTime({end})"
    " AND timestamp >= toDateTime({start}) - toIntervalDay(7) AND timestamp < toDateTime({end}) + toIntervalDay(1)"
)
#: Rows that are read at once from a file.
_BATCH = 50_000


#: What PostHog calls a file that a run has written: its interval, and its number if the run has written several.
_RUN_FILE = pattern(
    r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))-(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))(?:-\d+)?"
    r"\.parquet(?:\.\w+)?"
)


#: Files of Parquet; PostHog writes the compression behind it, which is inside.
_PARQUET = pattern(r".+\.parquet(?:\.\w+)?")


def is_of_events(export: Mapping[str, Any]) -> bool:
    """Return whether a batch export's rows are events.

    :param export: PostHog's batch export; of servers that know no other model, too.
    """
    return (export.get("model") or "events") == "events"


@dataclass(frozen=True)
class DestinationCount:
    """How the rows of an interval are counted at the destination.

    :param sql_conn_id: Airflow's connection of the database.
    :param table: the table there, with its column ``uuid``.
    :param sql: a statement to use instead, which answers with one number; ``{start}`` and ``{end}`` in it stand for the
        interval's edges, as texts in quotes.
    :param path: a folder of Parquet files in their place, with the same columns.
    :param storage_conn_id: Airflow's connection of the object storage.
    :param column: the table's column that the interval is of: ``timestamp`` for a backfill, which takes events by when
        they happened; for a scheduled run one with when PostHog, or the destination, received them.
    """

    sql_conn_id: str | None = None
    table: str | None = None
    sql: str | None = None
    path: str | ObjectStoragePath | None = None
    storage_conn_id: str | None = None
    column: str | None = "timestamp"

    def __bool__(self) -> bool:
        return bool(self.sql_conn_id or self.path)

    def check(self) -> None:
        """Check the arguments, before anything is sent.

        :raises PostHogSettingsError: if they do not say one way to count.
        """
        if self.sql_conn_id and self.path:
            raise PostHogSettingsError("check_path", "goes without check_sql_conn_id.", "Count at one of the two.")
        if bool(self.sql_conn_id) != bool(self.table or self.sql) or (self.table and self.sql):
            raise PostHogSettingsError(
                "check_sql_conn_id", "needs one of check_table and check_sql.", "Write check_table='posthog_events'."
            )
        if self.table:
            from airflow_provider_posthog.load.names import parse_table

            parse_table(self.table, parts=3)
            if not self.column:
                raise PostHogSettingsError(
                    "check_column",
                    "is empty: a scheduled run takes events by when PostHog received them, and timestamp is when they "
                    "happened.",
                    "Name a column with the time of ingestion, or write check_sql.",
                )
        if self.path:
            folder_of(self.path, self.storage_conn_id)
        if self.sql_conn_id:
            BaseHook.get_connection(self.sql_conn_id)

    def check_model(self, export: Mapping[str, Any], *, of_run: bool = False) -> None:
        """Refuse to count events where a batch export has none.

        :param export: PostHog's batch export.
        :param of_run: whether a scheduled run's rows are counted, in files that are named for its interval.
        :raises PostHogSettingsError: if it is not of events, and only events could be counted.
        """
        if not is_of_events(export) and (self.table or (self.path and not of_run)):
            raise PostHogSettingsError(
                "check_table" if self.table else "check_path",
                f"counts events, and the batch export is of {clean(export.get('model'))[:40]}.",
                "Write check_sql with a statement that counts its rows.",
            )

    def of_run(self, interval: Interval) -> int:
        """Count the rows that a scheduled run has written: those of the files that are named for its interval.

        :param interval: start and end.
        """
        if not self.path:
            return self._in_table(interval)
        rows = 0
        for file in self._files():
            match = _RUN_FILE.fullmatch(file.name)
            if match and tuple(map(_utc_of, match.groups())) == tuple(map(_utc, interval)):
                with _opened(file) as parquet:
                    rows += parquet.metadata.num_rows
        return rows

    def of(self, interval: Interval) -> int:
        """Count the rows of an interval, each ``uuid`` once.

        :param interval: start and end.
        """
        return self._in_files(interval) if self.path else self._in_table(interval)

    def compare(
        self,
        hook: PostHogHook,
        log: Any,  # noqa: ANN401 - Airflow's own logger
        window: Interval,
        written: int | None,
        *,
        of_run: bool = False,
        events: bool = True,
    ) -> dict[str, int | None]:
        """Count an interval at the destination and in PostHog, and return both numbers.

        :param hook: asks PostHog.
        :param log: the task's log.
        :param window: start and end.
        :param written: the rows that PostHog says it has written; ``None`` if it does not say.
        :param of_run: whether a scheduled run wrote them, which takes events by when they came in.
        :param events: whether the rows are events, which PostHog is asked for, too.
        :returns: ``destination_rows`` and ``posthog_rows``; both ``None`` if no destination is given.
        :raises PostHogIncompleteError: if the destination holds less than was written.
        """
        if not self:
            return {"destination_rows": None, "posthog_rows": None}
        there = self.of_run(window) if of_run else self.of(window)
        edges = {name: edge.isoformat() for name, edge in zip(("start", "end"), window, strict=True)}
        (here,) = (hook.get_first(_RECEIVED if of_run else _HAPPENED, edges) or [0]) if events else [None]
        told = "" if here is None else f", {here:,} in PostHog"
        log.info("%s: %s rows at the destination%s", describe(window), f"{there:,}", told)
        _prove(there, written, window)
        if here is not None and here > there:
            log.warning(
                "PostHog holds %s events of the interval that the destination lacks: the export leaves them out, or "
                "they came later",
                f"{here - there:,}",
            )
        return {"destination_rows": there, "posthog_rows": None if here is None else int(here)}

    def _in_table(self, interval: Interval) -> int:
        from airflow_provider_posthog.hooks.databases import SqlDatabase
        from airflow_provider_posthog.load.names import parse_table, quote

        texts = [f"'{_utc(edge):%Y-%m-%d %H:%M:%S}'" for edge in interval]
        edges = dict(zip(("start", "end"), texts, strict=True))
        statement = self.sql or ""
        if self.table:
            name = ".".join(quote(part) for part in parse_table(self.table, parts=3))
            column = quote(self.column or "timestamp")
            # All dialects read a time in quotes; an offset in it not all do, so sessions are taken to be in UTC.
            statement = (
                f"SELECT count(DISTINCT uuid) FROM {name} "  # noqa: S608 - a checked name
                f"WHERE {column} >= {{start}} AND {column} < {{end}}"
            )
        for name, text in edges.items():
            statement = statement.replace(f"{{{name}}}", text)
        database = SqlDatabase(str(self.sql_conn_id), for_rows=False)
        known = database.kind in ("postgres", "duckdb", "motherduck", "sqlite")
        connection = database.connect()[0] if known else database.connect_by_hook()
        with closing(connection), closing(connection.cursor()) as cursor:
            cursor.execute(statement)
            row = cursor.fetchone()
        return _whole(row[0] if row else None)

    def _in_files(self, interval: Interval) -> int:
        start, end = (_utc(edge) for edge in interval)
        seen: set[int] = set()
        for uuids, moments in self._columns((start, end)):
            pairs = zip(uuids, moments, strict=True)
            seen.update(hash(uuid) for uuid, at in pairs if at is not None and start <= _utc(at) < end)
        return len(seen)

    def _files(self) -> list[Any]:
        folder, below = folder_of(self.path or "", self.storage_conn_id), ""
        while "*" in folder.path:  # a pattern of files; those of the folder before it are looked at
            folder, below = folder.parent, f"{folder.name}/{below}".rstrip("/")
        whole, wanted = len(str(folder).rstrip("/")) + 1, below.replace("**/", "*")
        found = (path for path in folder.rglob("*.parquet*") if _PARQUET.fullmatch(path.name))
        return sorted((path for path in found if not wanted or fnmatchcase(str(path)[whole:], wanted)), key=str)

    def _columns(self, interval: Interval) -> Iterator[tuple[list[Any], list[Any]]]:
        for file in self._files():
            with _opened(file) as parquet:
                groups = [group for group in range(parquet.num_row_groups) if _may_hold(parquet, group, interval)]
                for batch in parquet.iter_batches(_BATCH, row_groups=groups, columns=["uuid", "timestamp"]):
                    yield batch.column("uuid").to_pylist(), batch.column("timestamp").to_pylist()


@contextmanager
def _opened(file: Any) -> Iterator[Any]:  # noqa: ANN401 - a path, and a file of pyarrow
    """Open a file of Parquet, and name it in the error if it is none, or not one of events."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open("rb") as opened:
            yield pq.ParquetFile(opened)
    except (pa.ArrowException, KeyError) as error:
        raise PostHogLoadError(
            f"The file {clean(file.name)[:120]} in check_path cannot be counted: {clean(error)[:200]}. Name the folder "
            "that the batch export alone writes into."
        ) from error


def _may_hold(parquet: Any, group: int, interval: Interval) -> bool:  # noqa: ANN401 - a file of pyarrow
    """Tell whether a part of a file may hold rows of an interval, as far as its statistics say."""
    columns = parquet.metadata.row_group(group)
    for number in range(columns.num_columns):
        statistics = columns.column(number).statistics
        if columns.column(number).path_in_schema == "timestamp" and statistics is not None and statistics.has_min_max:
            first, last = statistics.min, statistics.max
            if isinstance(first, datetime) and isinstance(last, datetime):
                return _utc(first) < interval[1] and _utc(last) >= interval[0]
    return True


def _prove(there: int, written: int | None, window: Interval) -> None:
    if written is None:
        raise PostHogIncompleteError(
            f"{describe(window)}: the destination holds {there:,} rows, and PostHog does not tell how many it has "
            "written. Leave out the count, or compare it with what you know in a task of its own."
        )
    if there < written:
        raise PostHogIncompleteError(
            f"{describe(window)}: the destination holds {there:,} rows, and PostHog has written {written:,}. Look "
            "at the destination: another folder or table, a time zone, rows that something else removed."
        )


def _whole(value: Any) -> int:  # noqa: ANN401 - a database's: some write a whole number as a decimal
    try:
        whole = -1 if isinstance(value, (bool, str, bytes)) else int(value)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0 or whole != value:
        raise PostHogLoadError("The count at the destination is not a number of rows. Let check_sql answer with one.")
    return whole


def _utc_of(text: str) -> datetime:
    return _utc(read_iso(text))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
