"""Events, persons or any query into a table of an SQL database, every row once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.operators.base import PostHogOperator
from airflow_provider_posthog.operators.outlets import tell_outlets
from airflow_provider_posthog.transfers.interval import interval_of
from airflow_provider_posthog.transfers.reading import need_arrow
from airflow_provider_posthog.transfers.source import source_of

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.extract.reader import Extraction
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.load.loader import Loader
    from airflow_provider_posthog.load.target import Loaded, Target, WriteMode
    from airflow_provider_posthog.transfers.databases import SqlDatabase

#: The columns that tell the rows of each of PostHog's tables apart.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "events": ("uuid",),
    "persons": ("id",),
    "sessions": ("session_id",),
    "groups": ("index", "key"),
    "cohort_people": ("cohort_id", "person_id"),
}
#: The time by which rows belong to an interval, where there is no choice.
_TIMES = {"sessions": "$start_timestamp"}


class PostHogToSqlOperator(PostHogOperator):
    """Loads an interval's rows into a table, in one transaction, and proves that all of them are there.

    Rows come by HogQL queries, are counted by PostHog window by window, and go into the database as they come, without
    a file between. PostgreSQL gets them by binary COPY, DuckDB and MotherDuck as Arrow, other databases through their
    Airflow hook by ``executemany``. Only when the table holds as many as PostHog counted, the transaction is committed:
    a task that is killed leaves the table as it was, and its retry begins anew (docs: *warehouse.md*).

    The table is made on first use, and gets a column when there is a new one. A column of another type, or one of the
    table that is not loaded, is an error before anything changes.

    :param sql_conn_id: the database's connection.
    :param table: the table, such as ``analytics.events``; what is in double quotes is taken as it is.
    :param source: ``events``, ``persons``, ``sessions``, ``groups``, ``cohort_members``, or a HogQL query (needs
        ``key``). A dictionary gives more arguments, such as ``{"table": "cohort_members", "cohort_id": 7}`` or
        ``{"hogql": "SELECT ...", "key": "concat(a, b)"}``.
    :param columns: names, or HogQL by name (``{"browser": "properties.$browser"}``); default: those of the source.
    :param event: only events of this name, or these names.
    :param where: a HogQL condition.
    :param values: what the placeholders of ``where`` or the query stand for.
    :param write: ``replace_interval``: the rows of the interval are replaced. ``merge``: rows of the same key are
        replaced, new ones added. ``append``: only rows whose key is not there yet are added. Each can be repeated
        without harm.
    :param key: the column, or columns, that tell rows apart; default: ``uuid`` of events, ``id`` of persons,
        ``session_id`` of sessions. PostgreSQL needs a unique index on it to merge or append; tables made here have it.
    :param by: the column of the time by which rows belong to the interval. Of events ``created_at`` (default), when
        PostHog took them in, so that no late event is missed, or ``timestamp``, when they happened. Of persons
        ``created_at``; without it ``merge`` and ``append`` read all persons. Of a query, one of its columns; without it
        all its rows are read.
    :param start: from when, as a time with an offset or ISO text; default: the run's data interval.
    :param end: until when; what is not settled yet is waited for.
    :param column_types: SQL types for columns that are made, such as ``{"properties": "jsonb"}``.
    :param in_flight: how many windows are read side by side; PostHog runs three queries of a project at once.
    :param page_rows: the most rows of a window, up to 49,999; fewer are asked for where rows are long or slow.
    :param settle: how long rows take until queries see them; what is younger is waited for. A timedelta.
    :param look_back: begin so much before ``start``, to load again what came late; for ``by="timestamp"``. A timedelta.
    :returns: ``table``, ``database``, ``rows`` (loaded), ``deleted`` and ``inserted`` (null where nobody counted),
        ``windows``, ``duplicates`` (copies that were dropped), ``start``, ``end`` (null for a source without a time),
        ``seconds``.
    :raises PostHogSettingsError: if an argument is wrong, or the table does not fit.
    :raises PostHogIncompleteError: if it can not be proved that all rows were read, or that the table holds them.
    :raises PostHogLoadError: if the database refuses something.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "sql_conn_id",
        "table",
        "source",
        "columns",
        "event",
        "where",
        "values",
        "key",
        "by",
        "start",
        "end",
        "column_types",
    )
    template_ext: Sequence[str] = (".sql", ".hogql")
    template_fields_renderers = {"columns": "json", "column_types": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (PostHogLink(),)
    _extraction: Extraction | None = None

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        source: str | Mapping[str, Any] = "events",
        columns: Sequence[str] | Mapping[str, str] | None = None,
        event: str | Sequence[str] | None = None,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        write: WriteMode = "replace_interval",
        key: str | Sequence[str] | None = None,
        by: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        column_types: Mapping[str, str] | None = None,
        in_flight: int = 3,
        page_rows: int = 10_000,
        settle: timedelta = timedelta(minutes=5),
        look_back: timedelta = timedelta(0),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.source = source
        self.columns = columns
        self.event = event
        self.where = where
        self.values = values
        self.write = write
        self.key = key
        self.by = by
        self.start, self.end = start, end
        self.column_types = column_types
        self.in_flight = in_flight
        self.page_rows = page_rows
        self.settle = settle
        self.look_back = look_back

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the interval's rows.

        :param context: the task's context; may be empty outside the task runner.
        """
        from airflow_provider_posthog.transfers.databases import SqlDatabase

        began = time.monotonic()
        need_arrow(type(self).__name__)
        source = self._source()
        with self._reading(context, source) as extraction:
            self._extraction = extraction
            target = self._target(source, extraction)
            database = SqlDatabase(self.sql_conn_id)
            settings = self.hook.settings()
            PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/sql")
            loaded, name = self._load(extraction, database, target)
            done = extraction.progress
        times = [extraction.window.start, extraction.window.end] if source.time else [None, None]
        found = {
            "table": self.table,
            "database": name,
            "rows": loaded.rows,
            "deleted": loaded.deleted,
            "inserted": loaded.inserted,
            "windows": done.windows,
            "duplicates": done.duplicates,
            **{edge: moment and _iso(moment) for edge, moment in zip(("start", "end"), times, strict=True)},
            "seconds": round(time.monotonic() - began, 3),
        }
        tell_outlets(context, self.outlets, found)
        self.log.info("%s holds %s rows of %s, counted before the commit", self.table, f"{loaded.rows:,}", source.name)
        return found

    def on_kill(self) -> None:
        """Stop reading: no more queries are sent, and the transaction is undone."""
        if self._extraction is not None:
            self._extraction.close()

    def _load(self, extraction: Extraction, database: SqlDatabase, target: Target) -> tuple[Loaded, str]:
        wait = (extraction.settled_at - datetime.now(timezone.utc)).total_seconds()
        if wait > 0 and target.by and database.is_blocked_by_a_load:
            self.log.info("Waiting %.0f s until rows of the interval have settled (settle)", wait)
            time.sleep(wait)
        loader: Loader
        with database.loader(target) as loader:
            loader.open(extraction.schema)
            for chunk in extraction:
                loader.write(chunk.table)
                del chunk  # the next one comes into its place
            return loader.commit(), loader.database

    def _source(self) -> Source:
        more: dict[str, Any] = {"table": self.source} if isinstance(self.source, str) else dict(self.source)
        text = str(more.get("table") or "").strip()
        if any(sign.isspace() for sign in text):
            more = {**more, "table": None, "hogql": text}
        table, query, name = (more.pop(field, None) for field in ("table", "hogql", "name"))
        if query is not None:
            more.setdefault("key", self._key_of_query())
            more.setdefault("time", self.by)
        elif table in _TIMES:
            if self.by not in (None, _TIMES[table]):
                raise PostHogSettingsError("by", f"{table} go by {_TIMES[table]}.", "Leave it out.")
        elif self.by is not None:
            more["by"] = self.by
        elif table == "persons" and self.write == "replace_interval":
            more.setdefault("by", "created_at")
        own = {"columns": self.columns, "event": self.event, "where": self.where, "values": self.values}
        given = {field: value for field, value in own.items() if value is not None}
        return source_of(table, query, name, **{**more, **given})

    def _key_of_query(self) -> str | None:
        """Return HogQL of a query's key, made of its key columns."""
        from airflow_provider_posthog.extract.sources import quoted

        names = [quoted(name) for name in self._key("")]
        if len(names) < 2:
            return names[0] if names else None
        # Lengths keep ("a:", "b") and ("a", ":b") apart.
        texts = [f"toString(length(toString({name}))), ':', toString({name})" for name in names]
        return f"concat({', '.join(texts)})"

    def _key(self, table: str) -> tuple[str, ...]:
        if self.key is None:
            return _KEYS.get(table, ())
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def _reading(self, context: Context, source: Source) -> Extraction:
        from airflow_provider_posthog.extract.progress import Progress, ProgressLog
        from airflow_provider_posthog.extract.reader import Extraction

        for field in ("settle", "look_back"):
            if not isinstance(getattr(self, field), timedelta):
                raise PostHogSettingsError(field, "is no length of time.", "Write timedelta(minutes=5).")
        if source.time is None and self.look_back:
            raise PostHogSettingsError("look_back", f"{source.name} is read as a whole.", "Leave it out.")
        tell = ProgressLog(self.log.info, f"{source.name} into {self.table}")
        start, end = interval_of(context, self.start, self.end) if source.time else (None, None)
        return Extraction(
            self.hook.settings(),
            source,
            start,
            end,
            in_flight=self.in_flight,
            page_rows=self.page_rows,
            settle=self.settle,
            look_back=self.look_back,
            on_progress=lambda done: tell(Progress(done.rows, done.windows, done.rows_counted)),
        )

    def _target(self, source: Source, extraction: Extraction) -> Target:
        from airflow_provider_posthog.load.target import Target

        if self.write == "replace_interval" and source.time is None:
            raise PostHogSettingsError(
                "write",
                f"{source.name} has no time, so no interval of it can be replaced.",
                "Write write='merge', or for a query by=..., its column of time.",
            )
        return Target(
            self.table,
            self.write,
            key=self._key(source.table),
            by=source.time,
            start=extraction.window.start,
            end=extraction.window.end,
            column_types=dict(self.column_types or {}),
        )


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
