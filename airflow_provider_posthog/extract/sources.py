"""The sources of bulk reading: PostHog's own tables, and any HogQL query whose rows have a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_provider_posthog.api.hogql import one_statement
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.choices import (
    Columns,
    check_time,
    check_time_of_events,
    columns_of,
    events_chosen,
)
from airflow_provider_posthog.extract.lazy_conditions import check_lazy
from airflow_provider_posthog.extract.lazy_queries import check_query
from airflow_provider_posthog.extract.names import check_own, check_where, names_in

EVENT_COLUMNS = ("uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties")
PERSON_COLUMNS = ("id", "created_at", "properties", "is_identified")
SESSION_COLUMNS = (
    "session_id",
    "distinct_id",
    "$start_timestamp",
    "$end_timestamp",
    "$entry_current_url",
    "$exit_current_url",
    "$num_uniq_urls",
    "$pageview_count",
    "$autocapture_count",
    "$session_duration",
)
GROUP_COLUMNS = ("index", "key", "created_at", "updated_at", "properties")

#: Null of a type, for columns that a server does not have.
NO_TIME, NO_NUMBER = "nullIf(now(), now())", "nullIf(toInt(1), 1)"

#: Columns that the reader adds if a page's edge cannot be read from the source's own; it removes them again.
KEY_NAME = "posthog_key"
TIME_NAME = "posthog_time"
#: The parts of a query's key, of which the first look learns the types.
PART_NAME = "posthog_key_"
#: The prefix of the reader's own placeholders.
OWN = "window_"

_FIELD = re.compile(r"[A-Za-z_$][\w$]*")


@dataclass(frozen=True)
class Source:
    """Rows that can be read in bulk.

    :param name: what to call it in logs and file names, such as ``events``.
    :param table: what stands after FROM.
    :param columns: HogQL by column name, in order; empty for all columns of ``table``.
    :param query: the query that ``table`` is made of, as it was written; ``None`` for one of PostHog's tables.
    :param key: HogQL that identifies a row.
    :param keys: if several expressions identify a row together: each of them; ``key`` then only names them.
    :param zoned: those of them that are times: their text is in UTC, as otherwise an hour that comes twice when clocks
        go back would be one key.
    :param time: HogQL of the time that the windows go by, never null; ``None`` reads all rows, by the hashes of their
        keys.
    :param scan: a column of time that the table is sorted by, where that is not ``time``. Each window's lowest and
        highest value of it is counted along, and narrows what PostHog has to look at, without losing a row.
    :param scan_back: leave out rows whose ``scan`` is more than this before the range's start.
    :param scan_from: the moment that comes of it.
    :param born: a column of time; without ``time``, rows that are born while others are read are left for the next
        time. Those that say that they are born later are read at the end.
    :param changes_for: how long after its ``time`` a row can change: so far back rows are read again by default.
    :param complete: a column of the time until which a row changes; with ``complete_after``.
    :param complete_after: leave out rows that changed less than this before ``complete_at``.
    :param complete_at: the moment that is looked at from; default: the end of what is read.
    :param row_key: the columns that identify its rows in a table, if that is not ``key``.
    :param where: a HogQL condition.
    :param only: HogQL of columns, with the values that alone are read of them; ``where`` says the same.
    :param filtered: whether ``where`` leaves out rows for other reasons, too.
    :param values: the values of the placeholders in ``table``, ``columns`` and ``where``.
    :param cells: whether it is read by cells of the events' sort key, rather than by slices of time.
    :param sort_key: the columns that the table is sorted by, where these are the key: pages are ranges of them, rather
        than of hashes.
    :param is_uuid: whether the sort key is one column with UUIDs.
    :param newer: columns that not every server has, each with the HogQL in which it stands, and what stands there on
        servers without it.
    :param newer_in: the table that has them, where ``table`` is a query of our own.
    :param dated_id: a column of which the table is sorted by the time that it begins with, above its last 80 bits.
    :param copies: whether a key may be there more than once, as PostHog's events are until ClickHouse merges them:
        then only the last copy in a window is returned. Where it may not, that is an error.
    """

    name: str
    table: str
    columns: Mapping[str, str]
    key: str
    time: str | None = None
    scan: str | None = None
    scan_back: timedelta | None = None
    scan_from: datetime | None = None
    born: str | None = None
    changes_for: timedelta = timedelta(0)
    complete: str | None = None
    complete_after: timedelta | None = None
    complete_at: datetime | None = None
    row_key: tuple[str, ...] = ()
    where: str | None = None
    only: Mapping[str, tuple[str, ...] | tuple[int, ...]] = field(default_factory=dict)
    filtered: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    copies: bool = False
    cells: bool = False
    sort_key: tuple[str, ...] = ()
    is_uuid: bool = False
    dated_id: str | None = None
    query: str | None = None
    keys: tuple[str, ...] = ()
    zoned: frozenset[str] = frozenset()
    newer: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    newer_in: str = ""

    def __post_init__(self) -> None:
        for name in self.values:
            if not isinstance(name, str):
                raise PostHogSettingsError("values", f"have {name!r:.60}, which is no name.", "Write names as text.")
            if name.startswith(OWN):
                raise PostHogSettingsError("values", f"have {name!r}, like the reader's own.", "Choose another name.")
        for name in self.columns:
            if not name or re.search(r"[`\\\x00-\x1f]", name) or is_own(name):
                raise PostHogSettingsError("columns", f"have {name!r}, which cannot be a name.", "Choose another name.")
        check_own(self.columns, names_in(self.time, self.scan, self.key, self.born, self.dated_id))
        check_where(self.columns, self.where)
        check_lazy(self.table, self.columns, self.where)
        check_query(self.query or "")

    @property
    def key_parts(self) -> tuple[str, ...]:
        """The expressions that identify a row together."""
        return self.keys or (self.key,)

    @property
    def columns_of_key(self) -> tuple[str, ...]:
        """The columns that identify its rows in a table; empty for a query, for which only the task knows them."""
        return self.row_key or (() if self.query is not None else (self.key,))

    @property
    def key_text(self) -> str:
        """HogQL of the key as text: ClickHouse sorts UUIDs in an order of its own."""
        in_utc = {key: f"toTimeZone({key}, 'UTC')" for key in self.zoned}
        texts = [f"toString({in_utc.get(key, key)})" for key in self.key_parts]
        if len(texts) == 1:
            return texts[0]
        # Lengths keep ("a:", "b") and ("a", ":b") apart.
        return "concat(" + ", ".join(f"toString(length({text})), ':', {text}" for text in texts) + ")"

    @property
    def added_columns(self) -> list[str]:
        """The names of the columns that the reader adds to those of the source."""
        added = [KEY_NAME] if self.key_column == KEY_NAME else []
        return [*added, TIME_NAME] if self.time and self.time_column == TIME_NAME else added

    @property
    def key_column(self) -> str:
        """The name of the column that holds the key's text."""
        return self._column_of(self.key, KEY_NAME)

    @property
    def time_column(self) -> str | None:
        """The name of the column that holds the time, if there is one."""
        return self._column_of(self.time, TIME_NAME) if self.time else None

    @property
    def own_json(self) -> tuple[str, ...]:
        """The columns whose text PostHog itself has written as JSON: its own ``properties``, under their own name."""
        has = self.table in ("events", "persons", "groups") and self.columns.get("properties") == "properties"
        return ("properties",) if has else ()

    def _column_of(self, expression: str, otherwise: str) -> str:
        if self.query is not None or not _FIELD.fullmatch(self.table):
            return otherwise  # a query's columns may be of any type, and another text in JSON than in ClickHouse
        same = [name for name, hogql in self.columns.items() if hogql == expression and _FIELD.fullmatch(hogql)]
        return same[0] if same else otherwise

    @property
    def is_query(self) -> bool:
        """Whether it is a HogQL query, not one of PostHog's tables."""
        return not _FIELD.fullmatch(self.table)

    @property
    def text(self) -> str:
        """Its whole HogQL, as one statement."""
        return f"SELECT {self.selected()} FROM {self.table} WHERE {self.where or 1}"  # noqa: S608 - is not sent

    def selected(self) -> str:
        """Return the expressions after SELECT."""
        parts = [_as(expression, name) for name, expression in self.columns.items()] or ["*"]
        added = {KEY_NAME: self.key_text, TIME_NAME: self.time}
        return ", ".join([*parts, *(f"{added[name]} AS {name}" for name in self.added_columns)])


def is_own(name: str) -> bool:
    """Return whether a column's name is one of the reader's own.

    :param name: the name.
    """
    return name in (KEY_NAME, TIME_NAME) or (name.startswith(PART_NAME) and name[len(PART_NAME) :].isdigit())


def _as(expression: str, name: str) -> str:
    # `timestamp AS timestamp` would be another column to HogQL than the table's.
    return quoted(name) if expression == name else f"{expression} AS {quoted(name)}"


def quoted(name: str) -> str:
    """Write a column's name in HogQL.

    :param name: without backticks.
    """
    return name if _FIELD.fullmatch(name) and name != "index" else f"`{name}`"


def events(
    columns: Columns = None,
    *,
    time_column: Literal["created_at", "timestamp"] = "created_at",
    events: str | Sequence[str] | None = None,
    exclude_events: str | Sequence[str] | None = None,
    where: str | None = None,
    values: Mapping[str, Any] | None = None,
    scan_back: timedelta | None = None,
) -> Source:
    """Return events.

    :param columns: HogQL by name, such as ``{"browser": "properties.$browser"}``, or names; default: ``EVENT_COLUMNS``.
    :param time_column: ``created_at``, when PostHog took it in: a late event is in a later range. ``timestamp``, when
        it happened: a late event is in a range that may have been read before.
    :param events: only events of this name, or of these names.
    :param exclude_events: all events but those of this name, or of these names.
    :param where: a HogQL condition.
    :param values: the values of its placeholders.
    :param scan_back: with ``created_at``, leave out events that happened more than this before the range.
    :raises PostHogSettingsError: if an argument cannot be used.
    """
    check_time_of_events(time_column, scan_back)
    chosen, given = events_chosen(events, exclude_events, columns)
    return Source(
        name="events",
        table="events",
        columns=columns_of(columns, EVENT_COLUMNS),
        key="uuid",
        time=time_column,
        scan="timestamp" if time_column == "created_at" else None,
        scan_back=scan_back,
        where="\n) AND (".join([where, *chosen] if where else chosen) or None,
        only={} if events is None else {"event": tuple(given["posthog_event_names"])},
        filtered=bool(where) or exclude_events is not None,
        values={**(values or {}), **given},
        copies=True,
        cells=True,
    )


def persons(
    columns: Columns = None,
    *,
    time_column: Literal["created_at"] | None = None,
    where: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> Source:
    """Return the persons: all there are when the reading starts, or those that were created in the range.

    PostHog takes the time of a person's first event for ``created_at``. A phone that was offline, or an import, makes
    persons of last month, whom no range that is read from now on holds; a clock that is ahead makes some of tomorrow.

    :param columns: HogQL by column name, or names; ``None`` for ``id, created_at, properties, is_identified``.
    :param time_column: ``created_at`` to read only persons created in the range; a person that changes later is not
        read again, and one that comes late is never read. ``None`` reads all.
    :param where: a HogQL condition.
    :param values: the values of its placeholders.
    :raises PostHogSettingsError: if an argument cannot be used.
    """
    check_time(time_column, "persons", (None, "created_at"))
    return Source(
        name="persons",
        table="persons",
        columns=columns_of(columns, PERSON_COLUMNS),
        key="id",
        sort_key=("id",),
        is_uuid=True,
        newer={"is_identified": ("is_identified", NO_NUMBER)} if columns is None else {},
        time=time_column,
        born="created_at",
        where=where,
        filtered=bool(where),
        values=dict(values or {}),
    )


def sessions(
    columns: Columns = None,
    *,
    time_column: Literal["$start_timestamp"] = "$start_timestamp",
    where: str | None = None,
    values: Mapping[str, Any] | None = None,
    complete_after: timedelta | None = None,
) -> Source:
    """Return the sessions that began in the range. A session that goes on after it was read changes, for a day at most.

    :param columns: HogQL by column name, or names; ``None`` for those that servers of every age have.
    :param time_column: the only one there is.
    :param where: a HogQL condition.
    :param values: the values of its placeholders.
    :param complete_after: only sessions whose last event is older than this at the end of the range, such as
        ``timedelta(hours=1)``. The others are read when they are complete, as far as the reading looks back.
    :raises PostHogSettingsError: if an argument cannot be used.
    """
    check_time(time_column, "sessions", ("$start_timestamp",))
    if complete_after is not None and (not isinstance(complete_after, timedelta) or complete_after <= timedelta(0)):
        raise PostHogSettingsError(
            "complete_after", f"is {complete_after!r:.60}, which is not a length of time.", "Write timedelta(hours=1)."
        )
    return Source(
        name="sessions",
        table="sessions",
        columns=columns_of(columns, SESSION_COLUMNS),
        key="session_id",
        time=time_column,
        dated_id="session_id_v7",
        # PostHog begins another one after 24 hours, whatever goes on
        changes_for=timedelta(days=1) + (complete_after or timedelta(0)),
        complete="$end_timestamp",
        complete_after=complete_after,
        where=where,
        filtered=bool(where),
        values=dict(values or {}),
    )


def groups(columns: Columns = None, *, where: str | None = None, values: Mapping[str, Any] | None = None) -> Source:
    """Return all groups; ``index``, the number of its type, and ``key`` together identify a group.

    :param columns: HogQL by column name, or names; ``None`` for ``index, key, created_at, updated_at, properties``.
    :param where: a HogQL condition.
    :param values: the values of its placeholders.
    """
    return Source(
        name="groups",
        table="groups",
        columns=columns_of(columns, GROUP_COLUMNS),
        key="concat(toString(`index`), ':', key)",
        row_key=("index", "key"),
        sort_key=("`index`", "key"),
        newer={name: (name, NO_TIME) for name in ("created_at", "updated_at")} if columns is None else {},
        where=where,
        filtered=bool(where),
        values=dict(values or {}),
    )


def hogql(
    query: str,
    *,
    key: str | Sequence[str],
    time_column: str | None = None,
    values: Mapping[str, Any] | None = None,
    name: str = "query",
    copies: bool = False,
) -> Source:
    """Return the rows of a HogQL query. Each of its columns needs a unique name (``AS``), or reading it fails.

    :param query: the query. It runs once for each window, so it has to answer the same rows each time.
    :param key: HogQL over its columns that identifies a row, such as ``id``, never null; or a list of them. Leave
        times as they are: as text (``toString(hour)``) two hours are one when clocks go back.
    :param time_column: the column of time that the windows go by, never null. Without it all rows are read, in parts.
    :param values: the values of its placeholders.
    :param name: what to call it in logs and file names.
    :param copies: whether a key may be there more than once, to hand out one row of each; else that is an error.
    :raises PostHogSettingsError: if the query is empty, or holds several statements.
    """
    text = one_statement(query, "query")
    keys = (key,) if isinstance(key, str) or not isinstance(key, Sequence) else tuple(key)
    if not keys or not all(isinstance(part, str) and part.strip() for part in keys):
        raise PostHogSettingsError("key", "is empty.", "Write the column, or HogQL, that identifies a row.")
    keys = tuple(part.strip() for part in keys)
    table = f"({text}\n) AS source"  # the line break ends a comment at the end of the query
    given = dict(values or {})
    time = None if time_column is None else str(time_column).strip()
    if time == "":
        raise PostHogSettingsError("time_column", "is empty.", "Write the query's column of time, or leave it out.")
    return Source(name, table, {}, ", ".join(keys), keys=keys, time=time, values=given, copies=copies, query=text)
