"""Read one window: its pages, its copies, and the proof that all of it was read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.compute as pc  # noqa: TID253

from airflow_provider_posthog.api.queries import MAX_ROWS
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogTransportError, clean
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.arrow_batches import Batches, Rooms
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.page_size import PageSize
from airflow_provider_posthog.extract.planning import Planner
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.sources import KEY_NAME, TIME_NAME, Source
from airflow_provider_posthog.extract.windows import MICROSECOND, Piece, Position, Window
from airflow_provider_posthog.results.arrow_types import schema_of
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)

#: How often a window that is too much for PostHog is halved: if a 256th of it still fails, size is not the cause.
MOST_HALVINGS = 8


@dataclass(frozen=True)
class Chunk:
    """All rows of one window: as many as the server counted.

    :param window: the window.
    :param table: the rows, in the order of time and key.
    :param rows: how many.
    :param counted: what the server counted, copies included: ``rows + duplicates``.
    :param duplicates: copies that were dropped, or that the pages passed over.
    :param resume_after: where the reading can be resumed, once this chunk and all before it are safe; ``None`` if it
        cannot: in the middle of a microsecond with too many rows for one window, and if rows have no time.
    """

    window: Window
    table: pa.Table
    rows: int
    counted: int
    duplicates: int
    resume_after: Position | None


class WindowReader:
    """Reads windows. Safe to use from threads.

    :param asker: asks PostHog.
    :param planner: counts anew where that is needed.
    :param source: what is read.
    :param schema: of an answer's rows.
    :param size: how many rows to ask for at once.
    :param exact: whether integers may be longer than 64 bits.
    """

    def __init__(
        self,
        asker: Asker,
        planner: Planner,
        source: Source,
        schema: pa.Schema,
        size: PageSize,
        *,
        exact: bool = False,
    ) -> None:
        self._asker = asker
        self._planner = planner
        self._source = source
        self._schema = schema
        self._size = size
        self._exact = exact
        self._rooms = Rooms()

    @property
    def schema(self) -> pa.Schema:
        """The schema of the chunks: without the columns that the reader adds."""
        return pa.schema([field for field in self._schema if field.name not in (KEY_NAME, TIME_NAME)])

    def read(self, piece: Piece, halvings: int = 0) -> list[Chunk]:
        """Read a window; in several chunks if it was too much for PostHog at once.

        :param piece: the window and what the server counted in it.
        :param halvings: how often it was halved.
        :raises PostHogIncompleteError: if it cannot be proved that all rows were read.
        :raises PostHogError: if PostHog cannot be asked.
        """
        try:
            return [self._proved(piece)]
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
            halves = self._planner.halves(piece) if halvings < MOST_HALVINGS else []
            if not halves:
                raise PostHogIncompleteError(
                    f"PostHog cannot answer for the {piece.rows:,} rows of {piece.window}, nor for parts: {error}"
                ) from error
            if not isinstance(error, PostHogTransportError):  # of that, the page has learnt
                self._size.refused(piece.rows)
            # A part of the rows is where all of them are.
            parts = [replace(half, begun=half.begun or piece.begun) for half in halves]
            return [chunk for half in parts for chunk in self.read(half, halvings + 1)]

    def _proved(self, piece: Piece) -> Chunk:
        table = self._table(piece)
        kept = self._without_copies(table, piece.window)
        if table.num_rows == piece.rows == kept.num_rows:
            return self._chunk(piece.window, kept, table.num_rows)
        # Row counts with copies prove nothing: an extra copy hides a missing row, and ClickHouse may have merged some
        # since the count. Compare the keys.
        again, keys = self._planner.counted_again(piece.window)
        if kept.num_rows != keys:
            log.info(
                "PostHog counted %d rows (%d keys) in %s, but answered %d (%d): reading it once more",
                again.rows,
                keys,
                piece.window,
                table.num_rows,
                kept.num_rows,
            )
            table = self._table(again)
            kept = self._without_copies(table, piece.window)
        if kept.num_rows != keys:
            raise PostHogIncompleteError(
                f"PostHog counted {again.rows:,} rows with {keys:,} keys in {piece.window}, but answered "
                f"{table.num_rows:,} with {kept.num_rows:,} (its count was {piece.rows:,} before). Rows may still be "
                "arriving: let the task retry, or end the range earlier."
            )
        # A page that ends between two copies has one, and so has what was counted before ClickHouse merged them.
        return self._chunk(piece.window, kept, max(again.rows, table.num_rows))

    def _chunk(self, window: Window, kept: pa.Table, counted: int) -> Chunk:
        table = kept.select(self.schema.names)
        after = window.after(by_parts=bool(self._source.sort_key)) if self._source.time is not None else None
        return Chunk(window, table, kept.num_rows, counted, counted - kept.num_rows, after)

    def _table(self, piece: Piece) -> pa.Table:
        """Read the pages of a window."""
        pages: list[pa.Table] = []
        after: tuple[datetime | None, str] | None = None
        rows = 0
        while piece.rows:
            # Ask for one row more than counted: it shows that others have arrived. Pages may have become smaller since
            # the window was planned, but a slightly larger one is better than a second page. The byte budget does not
            # make pages smaller, as each page of a window makes ClickHouse read all of it.
            limit = min(piece.rows, self._size.fitting() * 3 // 2, MAX_ROWS - 1) + 1
            page = self._page(piece, limit, after)
            pages.append(page)
            rows += page.num_rows
            # A short page is the last one, unless the server has a limit of its own.
            if page.num_rows < limit and (rows >= piece.rows or not page.num_rows):
                break
            before, after = after, self._edge(page)
            if after == before:
                raise PostHogIncompleteError(f"PostHog answered the same page of {piece.window} twice")
        return pa.concat_tables(pages) if pages else self._schema.empty_table()

    def _page(self, piece: Piece, limit: int, after: tuple[datetime | None, str] | None) -> pa.Table:
        asked = statements.page(self._source, piece, limit, after)
        try:
            parts = self._asker.ask_in_parts(
                asked,
                lambda: Batches(self._schema, self._rooms),
                self._check_columns,
                exact=self._exact,
                reads=self._size.reads(limit),
                most=self._size.most_bytes(limit),
            )
        except PostHogTransportError as error:
            if error.too_large:
                self._size.overran(limit)
            raise
        page = parts.rows
        self._size.saw(page.num_rows, parts.size, parts.seconds, parts.coming, parts.read)
        self._check_times(page, piece.window)
        return page

    def _check_times(self, page: pa.Table, window: Window) -> None:
        """Fail on rows outside the window: they would be counted in place of those inside."""
        if not self._source.time_column or not page.num_rows:
            return
        times = page.column(self._source.time_column)
        edges = pc.min_max(times)
        first, last = (edges[name].value for name in ("min", "max"))  # their as_py() would import pandas
        start, end = ((edge - EPOCH) // MICROSECOND for edge in (window.start, window.end))
        if times.null_count or first < start or last >= end:
            raise PostHogIncompleteError(
                f"PostHog answered rows of {window} that have no time, or one outside of it ({self._source.time}). Let "
                "the task retry."
            )

    def _check_columns(self, columns: list[str], types: list[list[str]]) -> None:
        if columns != self._schema.names:
            raise PostHogTransportError("PostHog returned other columns than requested")
        if (schema := schema_of(columns, types)) != self._schema:
            changed = next(field.name for field in schema if field != self._schema.field(field.name))
            raise PostHogTransportError(
                f"the column {clean(changed)[:60]!r} has changed its type since the reading began. Let the task retry."
            )

    def _edge(self, page: pa.Table) -> tuple[datetime | None, str]:
        last = page.num_rows - 1
        moment = None
        if time_column := self._source.time_column:  # its as_py() would import pandas
            moment = EPOCH + timedelta(microseconds=page.column(time_column)[last].value)
        return moment, str(page.column(self._source.key_column)[last].as_py())

    def _without_copies(self, table: pa.Table, window: Window) -> pa.Table:
        """Return a table with the last row of each key; the last one is what PostHog keeps, too."""
        keys = table.column(self._source.key_column)
        if keys.null_count:
            raise PostHogIncompleteError(f"rows of {window} have no key ({self._source.key} is null)")
        different = pc.count_distinct(keys, mode="all").as_py()
        if different == table.num_rows:
            return table
        if not self._source.copies:
            raise PostHogIncompleteError(
                f"{table.num_rows:,} rows of {window} have only {different:,} different keys: {self._source.key} does "
                "not identify them"
            )
        numbered = pa.table({"key": keys, "at": pa.array(range(table.num_rows), pa.int64())})
        last = numbered.group_by("key").aggregate([("at", "max")]).column("at_max")
        return table.take(last.take(pc.sort_indices(last)))
