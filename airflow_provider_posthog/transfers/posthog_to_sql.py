"""Events, persons or any query into a table of an SQL database, every row once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.storage.manifest import iso
from airflow_provider_posthog.storage.shrink_guard import MAX_SHRINK
from airflow_provider_posthog.tasks.base import at_once
from airflow_provider_posthog.tasks.bulk import ReadingArguments, need_arrow
from airflow_provider_posthog.tasks.interval import interval_of
from airflow_provider_posthog.tasks.lineage import Lineage
from airflow_provider_posthog.tasks.loading import (
    check_arguments,
    counts_of,
    earlier_windows,
    edges_of,
    of_interval,
    selected,
    target_of,
    with_types,
)
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.replacing import Replaces, check_mapped
from airflow_provider_posthog.tasks.spooling import SpoolingOperator
from airflow_provider_posthog.tasks.verifying import Earlier

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.extract.interval_counts import Recount
    from airflow_provider_posthog.extract.reader import Extraction
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.suppressor import Suppressor
    from airflow_provider_posthog.extract.windows import Window
    from airflow_provider_posthog.hooks.databases import SqlDatabase
    from airflow_provider_posthog.load.loader import Loader
    from airflow_provider_posthog.load.target import (
        Deleted,
        Loaded,
        OtherColumns,
        SchemaPolicy,
        Target,
        WriteDisposition,
    )
    from airflow_provider_posthog.tasks.spool import Spool

#: Seconds after which one that waits looks whether it was killed.
_NAP = 0.25


class PostHogToSqlOperator(SpoolingOperator):
    """Loads an interval's rows into a table, in one transaction, and proves that all of them are there.

    Rows are read by HogQL queries, counted by PostHog window by window, and written to the database as they arrive,
    without a file in between. PostgreSQL gets them by binary COPY, DuckDB and MotherDuck as Arrow, other databases
    through their Airflow hook by ``executemany``. The transaction is committed only if the table holds as many as
    PostHog counted: a killed task leaves the table as it was, and its retry starts over, or, with ``deferrable``,
    continues after what it has kept (docs: *warehouse.md*).

    The table is created on first use, and new columns are added to it. A column of another type, or a column of the
    table that is not loaded, is an error before anything changes.

    :param sql_conn_id: the database's connection.
    :param table: the table, such as ``analytics.events``; names in double quotes are taken as they are.
    :param write_disposition: ``replace_interval``, the default for sources with a time: the rows of the interval are
        replaced. ``replace``, the default for those without: all rows of the table are replaced. ``merge``: rows of the
        same key are replaced where they differ, new ones added; what has not changed is not touched. ``append``: only
        rows whose key is not there yet are added. ``scd2``, for what is read as a whole: the table keeps each version
        of a row, with ``valid_from`` and ``valid_to`` (null in the newest). Each can safely be repeated.
    :param replaces: which rows the first two replace. ``own``: those that this task reads; with ``events``, the rows of
        these events, for which the column ``event`` has to be there; of a cohort, its rows; with ``where`` or
        ``exclude_events`` that is unknown, and the task fails. ``all``: whatever the table has of the interval, or at
        all. That is for a table that holds nothing but what this task reads.
    :param max_shrink: the largest share of 1,000 rows or more that may be gone when they are replaced, from 0 to 1.
        What is there is never replaced by nothing.
    :param allow_shrink: replace the rows even if far fewer, or none, take their place.
    :param key: the column, or columns, that tell rows apart, needed for a query; default: ``uuid`` of events, ``id`` of
        persons, ``session_id`` of sessions. PostgreSQL needs a unique index on it to merge or append; tables made here
        have it.
    :param column_types: SQL types for columns that are made, such as ``{"properties": "jsonb"}``.
    :param other_columns: what ``replace_interval`` does if the table has columns, null by default, that are not loaded:
        ``fail``, as their values would be lost with the rows that are replaced, or leave them ``null`` in the new rows.
    :param deleted: what happens to rows of the table that are gone from a source that is read as a whole: ``keep`` them
        (default of ``merge``), ``delete`` them, or ``mark`` them: a column ``deleted_at`` says when it was noticed
        (``scd2``, by default: ``valid_to``), and is null again if they come back. Without ``write_disposition``, rows
        are merged. If far too many are gone (``max_shrink``), the task fails.
    :param load_columns: columns that say which load wrote a row last: ``True`` for ``_posthog_loaded_at``,
        ``_posthog_interval_start``, ``_posthog_interval_end`` (null without an interval) and ``_posthog_run``, or the
        names of some. A merge touches them only where a row has changed.
    :param schema_policy: what to do with columns and values that the table cannot hold. By default columns are added,
        and another type is an error; ``evolve`` makes types wider where no value changes by it; ``freeze`` adds
        nothing; ``quarantine`` puts rows with values that do not fit into ``<table>__rejected``, with the reason.
    :param max_rejects: how many values of typed ``columns`` may not fit (they are null then), or how many rows may be
        in quarantine; default: none of the former, any of the latter.
    :param native_types: make ``uuid``, ``jsonb`` and ``boolean`` columns for PostHog's ids, properties and flags, where
        the database has such types (PostgreSQL, DuckDB).
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.bulk.ReadingOperator`: ``source`` or ``query``,
        ``columns``, ``events``, ``exclude_events``, ``cohort_id``, ``where`` and ``values`` choose what is read;
        ``time_column``, ``start``, ``end`` and ``look_back`` which interval (without ``time_column``, queries and
        persons are read as a whole); ``max_in_flight``, ``page_rows``, ``settle`` and ``scan_back`` how;
        ``on_retention``. With ``deferrable`` long waits are left to the triggerer: for rows to settle, before anything
        is open, and for PostHog's limits, after which the load continues where it stopped (docs: *warehouse.md*).
        ``verify_back`` counts earlier intervals again, in PostHog and in the table. A column of ``columns`` can have a
        type: ``{"price": ("properties.price", "decimal(12,2)")}``.
    :returns: ``table``, ``database``, ``rows`` (loaded), ``deleted``, ``inserted``, ``changed`` and ``unchanged`` (null
        where rows are not compared), ``gone`` (null where nobody looked), ``rejected``, ``misfits`` (by column),
        ``windows``, ``duplicates`` (copies that were dropped), ``suppressed`` (rows of persons who were erased; null
        without ``suppress_path``), ``start``, ``end`` (null for a source without a time),
        ``verified`` (how many earlier intervals were counted again), ``reloaded`` (``start``, ``end``, ``rows`` and
        ``deleted`` of those that were read again), ``left_out`` (rows that ``scan_back`` leaves out of the day that the
        interval ends; null where nobody counted), ``seconds``.
    :raises PostHogSettingsError: if an argument is wrong, or the table does not fit.
    :raises PostHogIncompleteError: if it cannot be proved that all rows were read, or that the table holds them; if
        PostHog hides some; or if far fewer rows would replace the existing ones.
    :raises PostHogLoadError: if the database refuses something.
    """

    template_fields: Sequence[str] = (
        *SpoolingOperator.template_fields,
        "sql_conn_id",
        "table",
        "column_types",
        "max_shrink",
        "allow_shrink",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **{"query": "sql", "values": "json", "columns": "json", "column_types": "json"}
    }
    operator_extra_links = (PostHogLink(),)
    _database: SqlDatabase | None = None
    _columns: Sequence[tuple[str, str]] = ()
    _suppress: Suppressor | None = None

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        write_disposition: WriteDisposition | None = None,
        replaces: Replaces = "own",
        max_shrink: float | str = MAX_SHRINK,
        allow_shrink: bool | str = False,
        column_types: Mapping[str, str] | None = None,
        other_columns: OtherColumns = "fail",
        deleted: Deleted | None = None,
        load_columns: bool | Sequence[str] = False,
        schema_policy: SchemaPolicy | None = None,
        max_rejects: int | None = None,
        native_types: bool = False,
        **kwargs: Unpack[ReadingArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.write_disposition = write_disposition
        self.replaces = replaces
        self.max_shrink = max_shrink
        self.allow_shrink = allow_shrink
        self.column_types = column_types
        self.other_columns = other_columns
        self.deleted = deleted
        self.load_columns = load_columns
        self.schema_policy = schema_policy
        self.max_rejects = max_rejects
        self.native_types = native_types
        check_arguments(self)

    def transfer(self, context: Context) -> dict[str, Any]:
        """Load the interval's rows."""
        from airflow_provider_posthog.hooks.databases import SqlDatabase

        began = time.monotonic()
        need_arrow(type(self).__name__)
        source, start, end = self._of_run(context)
        back = self.looks_back(source)
        with self._reading(source, start, end, back) as extraction:
            self._extraction = extraction
            target = target_of(self, source, extraction.window, start, context)
            check_mapped(context, self.task_id, target.only, target.write_disposition, target.deleted)
            earlier = self._earlier(source, extraction.window, earlier_windows(self, target, start, end, back))
            database = self._database = SqlDatabase(self.sql_conn_id)
            target = with_types(target, source, database.kind, native=self.native_types)
            self.prepare(database)
            spool = self.open_spool(context, extraction, database)
            loaded, name = self._load(extraction, database, target, earlier, spool)
        result = {
            "table": self.table,
            "database": name,
            **counts_of(loaded),
            **self.counts(extraction),
            "suppressed": self._suppress.met if self._suppress else None,
            **edges_of(extraction.window if source.time else None),
            "verified": len(earlier.windows),
            "reloaded": self._reloaded(context, source, earlier, database, target),
            "left_out": self.left_out(source, start, end, back),
            "seconds": round(time.monotonic() - began, 3),
        }
        self.tidy(database)
        tell_outlets(context, self.outlets, result)
        self._conclude(source, result, loaded)
        return result

    def _conclude(self, source: Source, result: Mapping[str, Any], loaded: Loaded) -> None:
        edges = f" {result['start']} to {result['end']}" if result.get("start") else ""
        words = source.name, edges, self.table, self.sql_conn_id, counted(loaded.rows, "row"), loaded.describe()
        self.concludes("Loaded %s%s into %s (%s): %s%s, counted before the commit", *words)

    def _of_run(self, context: Context) -> tuple[Source, datetime | None, datetime | None]:
        self._link(context)
        source = self._what()
        start, end = interval_of(context, self.start, self.end) if source.time else (None, None)
        return replace(source, complete_at=end), start, end

    def _link(self, context: Context) -> None:
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/sql")

    def lineage(self, result: Mapping[str, Any]) -> Lineage:
        """Return what was read and written, for OpenLineage.

        :param result: the task's result; empty if it failed.
        """
        from airflow_provider_posthog.hooks.databases import SqlDatabase

        database = self._database or SqlDatabase(self.sql_conn_id)
        written = database.openlineage_name(self.table)
        return Lineage.of_source(self.hook.settings(), self._what(), written, result, self._columns)

    def prepare(self, database: SqlDatabase) -> None:
        """Do what is to be done in the database before the load's transaction. Subclasses have something."""

    def complete(self, loader: Loader) -> None:
        """Do what belongs into the load's transaction beside its rows. Subclasses have something."""

    def _load(
        self,
        extraction: Extraction,
        database: SqlDatabase,
        target: Target,
        earlier: Earlier | None = None,
        spool: Spool | None = None,
    ) -> tuple[Loaded, str]:
        if target.by:  # before the database is open: a transaction that waits holds up others, or VACUUM
            self._wait_until_settled(extraction)
        loader: Loader
        self._suppress = self.suppressor(extraction.source)
        read = None if spool is None else self.rows_of(extraction, database, target, spool)
        with database.loader(target) as loader:
            schema, tables = read or self.rows_of(extraction, database, target, None)
            loader.open(schema)
            self._columns = [
                (column.name, target.column_types.get(column.name) or loader.dialect.type_of(column))
                for column in schema
            ]
            for table in tables:
                loader.write(self._suppress(table) if self._suppress and table.num_rows else table)
                del table  # the next one comes into its place
            if earlier is not None:
                earlier.count_kept(loader)
            self.retention_guard.again()
            done = loader.commit(self.complete), loader.database
        return done

    def _reloaded(
        self, context: Context, source: Source, earlier: Earlier, database: SqlDatabase, target: Target
    ) -> list[dict[str, Any]]:
        differing = earlier.differing(self.reading_settings())
        return [self._reload(context, source, recount, database, target) for recount in differing]

    def _reload(
        self, context: Context, source: Source, there: Recount, database: SqlDatabase, target: Target
    ) -> dict[str, Any]:
        """Load an earlier interval again, by itself."""
        from airflow_provider_posthog.extract.query_client import Stopped

        window = there.window
        self.log.warning(
            "PostHog has another number of rows from %s to %s than %s (verify_back): loading them again",
            iso(window.start),
            iso(window.end),
            self.table,
        )
        with self._reading(source, window.start, window.end, timedelta(0)) as extraction:
            self._extraction = extraction
            if self._killed:
                raise Stopped
            spool = self.open_spool(context, extraction, database, again=True)
            loaded, _ = self._load(extraction, database, of_interval(target, window), spool=spool)
        if not there.agrees(loaded.rows, None):
            self.log.warning(
                "PostHog counted %s rows from %s to %s, and %s were there when they were loaded again",
                f"{there.rows:,}",
                iso(window.start),
                iso(window.end),
                f"{loaded.rows:,}",
            )
        return {**edges_of(window), "rows": loaded.rows, "deleted": loaded.deleted}

    def _wait_until_settled(self, extraction: Extraction) -> None:
        """Wait in naps: Airflow 3 stops a task by on_kill() alone, which may be called in the midst of one."""
        from airflow_provider_posthog.extract.query_client import Stopped

        self.check_settled(extraction.settled_at)
        is_logged = False
        while (left := (extraction.settled_at - datetime.now(timezone.utc)).total_seconds()) > 0:
            if not is_logged:
                self.log.info("Waiting %.0f s until rows of the interval have settled (settle)", left)
                is_logged = True
            time.sleep(min(left, _NAP))
            if self._killed:
                raise Stopped

    def _what(self) -> Source:
        """Return what is read: the table's key is one of columns, and only a query has to be told it."""
        from airflow_provider_posthog.extract.sources import quoted

        key = None if self.query is None else [quoted(name) for name in self._own_key()] or None
        return self.what(key=key, columns=selected(self.columns))

    def _own_key(self) -> tuple[str, ...]:
        if not self.key:
            return ()
        names = (self.key,) if isinstance(self.key, str) else self.key
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise PostHogSettingsError(
                "key",
                f"is {self.key!r:.60}, which is neither a name nor a list of names.",
                'Write "id", or ["a", "b"].',
            )
        return tuple(names)

    def key_of(self, source: Source) -> tuple[str, ...]:
        """Return the columns that tell rows apart.

        :param source: what is read.
        """
        return self._own_key() or source.columns_of_key

    def _reading(
        self, source: Source, start: datetime | None, end: datetime | None, look_back: timedelta
    ) -> Extraction:
        from airflow_provider_posthog.extract.lists import extraction_of
        from airflow_provider_posthog.extract.progress import Progress, ProgressLog

        settings = self.reading_settings()
        tell = ProgressLog(self.log.info, f"{source.name} into {self.table}")
        return extraction_of(source)(
            settings,
            source,
            start,
            end,
            max_in_flight=at_once(self.max_in_flight, settings),
            page_rows=self.page_rows,
            settle=self.settle,
            look_back=look_back,
            on_progress=lambda done: tell(Progress(done.rows, done.windows, done.rows_counted)),
        )

    def _earlier(self, source: Source, window: Window, before: list[Window]) -> Earlier:
        """Return the earlier intervals to count again, if PostHog hides nothing of all that is read."""
        begins = [window.start, *(earlier.start for earlier in before)] if source.time else []
        self.check_retention(source, min(begins, default=None), window.end)
        return Earlier(source, before)
