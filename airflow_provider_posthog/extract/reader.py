"""Rows in bulk: every row of a range once, proved by the server's own count, with memory that does not grow."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from types import TracebackType

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.api.budget import share_of
from airflow_provider_posthog.api.queries import MAX_ROWS
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import (
    NotSettled,
    PostHogIncompleteError,
    PostHogSettingsError,
    PostHogValidationError,
)
from airflow_provider_posthog.extract.cell_planning import CellPlanner
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.chunks import Chunk, WindowReader
from airflow_provider_posthog.extract.dated_planning import DatedPlanner
from airflow_provider_posthog.extract.first_look import Look, first_look
from airflow_provider_posthog.extract.forecast import READ_A_BYTE, READ_A_BYTE_OF_SESSIONS, Forecast
from airflow_provider_posthog.extract.key_planning import KeyPlanner
from airflow_provider_posthog.extract.older_servers import of_older_server
from airflow_provider_posthog.extract.page_limits import PageLimits
from airflow_provider_posthog.extract.page_size import PageSize
from airflow_provider_posthog.extract.planning import Planner
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.ranges import left_of
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import LATEST, Piece, Position, Window, checked

__all__ = ["Chunk", "Extraction", "Progress"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """The progress of a reading.

    :param windows: windows that were handed out.
    :param rows: rows in them, copies included.
    :param rows_counted: rows of the whole range, as far as they are counted; the range is counted at the beginning.
    :param duplicates: copies that were dropped.
    :param size: bytes that PostHog answered.
    :param seconds: since the beginning.
    """

    windows: int
    rows: int
    rows_counted: int
    duplicates: int
    size: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """The mean speed."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time until the end; ``None`` before the first rows."""
        left = max(0, self.rows_counted - self.rows)
        return left / self.rows_per_second if self.rows_per_second else None

    def __str__(self) -> str:
        share = f" of {self.rows_counted:,} ({self.rows / self.rows_counted:.0%})" if self.rows_counted else ""
        left = f", {self.seconds_left:.0f} s left" if self.seconds_left else ""
        return f"{self.rows:,} rows{share} in {self.windows:,} windows, {self.rows_per_second:,.0f} rows/s{left}"


class Extraction:
    """Reads a range of a source: iterate over it. Each chunk is complete and proved when it is yielded.

    At most ``max_in_flight + 2`` windows are in memory, whatever the range. If a reading ends early, resume it with the
    ``resume_after`` of the last chunk that is safe and has one; chunks that were yielded after that one come again.
    Copies of an event (``duplicates``) are dropped within a window; by ``created_at`` copies that came at other times
    may be in two windows, as they may be in two runs: load them with a merge by key.

    :param settings: where the project is, and with which key.
    :param source: what to read.
    :param start: the first moment, aware; ``None`` for the beginning, which is 1970. A source without a time has none.
    :param end: the first moment after it, aware; ``None`` for now, as it is when the reading begins.
    :param max_in_flight: how many windows are read side by side; PostHog runs three queries of a project at once.
    :param page_rows: the most rows of a window, up to 49,999; fewer if rows are long or slow.
    :param settle: how long rows take until PostHog's queries see them. What is younger is waited for, after
        everything else was read.
    :param longest_wait: the most seconds of that wait; for a longer one the reading ends with
        :class:`~airflow_provider_posthog.exceptions.NotSettled`, after everything else was handed out.
    :param look_back: read from so much before ``start``, to see again rows that came late. Load them by a merge, or
        replace the whole longer range.
    :param resume_after: begin here instead, as the last chunk of an earlier reading of the same range said.
    :param on_progress: is called after each chunk was taken.
    :raises PostHogSettingsError: if an argument cannot be used.
    """

    #: Whether somebody iterates over it, what reads, and how many different keys the first look has seen.
    _busy = False
    _reader: WindowReader | None = None
    _keys_seen = 0
    _row_bytes = 0.0

    def __init__(
        self,
        settings: ClientSettings,
        source: Source,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        max_in_flight: int = 3,
        page_rows: int = 49_999,
        settle: timedelta = timedelta(minutes=5),
        longest_wait: float | None = None,
        look_back: timedelta = timedelta(0),
        resume_after: Position | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        _check(page_rows, max_in_flight, settle, look_back)
        self._end = checked("end", end or datetime.now(timezone.utc))
        begin = checked("start", (start if source.time else None) or EPOCH)
        self.window = Window(self._begin(begin, look_back, resume_after, source), self._end)
        if source.scan_back is not None:
            source = replace(source, scan_from=max(EPOCH, begin - look_back - source.scan_back))
        if source.complete_after is not None and source.complete_at is None:
            source = replace(source, complete_at=self._end)
        self.source = source
        self._in_flight = max_in_flight
        self._settle = settle
        self._longest_wait = longest_wait
        self._on_progress = on_progress or (lambda progress: None)
        self._settings = settings
        self._page_rows = page_rows
        self._asker = Asker(settings, max_in_flight)
        self._limits = PageLimits(settings, lambda: self._to_read)
        self._size = PageSize(page_rows, max_in_flight, self._limits)
        self._resume = resume_after
        self._planner = _planner_of(source)(self._asker, source, self._size)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: Future[list[Piece]] | None = None
        self._ranges: list[tuple[Window, datetime | None]] = []
        self._progress = Progress(0, 0, 0, 0, 0, 0.0)

    def at(self, place: Position | None) -> Extraction:
        """Return another reading of the same rows; of one that was not taken up itself.

        :param place: where it begins: as ``resume_after``; ``None`` for the beginning.
        :raises PostHogSettingsError: if that is not a place within the range.
        """
        return Extraction(
            self._settings,
            self.source,
            self.window.start,
            self._end,
            max_in_flight=self._in_flight,
            page_rows=self._page_rows,
            settle=self._settle,
            longest_wait=self._longest_wait,
            resume_after=place,
            on_progress=self._on_progress,
        )

    def _begin(self, begin: datetime, look_back: timedelta, resume: Position | None, source: Source) -> datetime:
        if begin > self._end:
            raise PostHogSettingsError("start", "is later than end.", "Write the earlier moment first.")
        begin = max(EPOCH, begin - look_back)
        if resume is None:
            return begin
        if source.time is None:
            raise PostHogSettingsError(
                "resume_after",
                f"is given for {source.name}, which has no time to resume from.",
                "Read it from its beginning.",
            )
        return min(max(begin, checked("resume_after", resume.time)), self._end)

    def __enter__(self) -> Extraction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._shut()

    @property
    def schema(self) -> pa.Schema:
        """The columns of all chunks; asks PostHog on first use.

        :raises PostHogError: if PostHog refuses the query.
        """
        return self._started().schema

    @property
    def settled_at(self) -> datetime:
        """When the whole range can be read without waiting."""
        return self._end + self._settle

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    @property
    def _to_read(self) -> int:
        return max(0, self._planner.counted - self._progress.rows)

    def close(self) -> None:
        """Stop reading without waiting for queries in flight. Once closed, it cannot be read again.

        May be called by another thread, or by a handler of signals in the middle of the reading, which then ends with
        :class:`~.asking.Stopped`.
        """
        self._asker.stop()
        if not self._busy:  # otherwise the reading thread holds locks, and closes the rest when it ends
            self._shut()

    def _shut(self) -> None:
        self._asker.stop()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._asker.close()

    def __iter__(self) -> Iterator[Chunk]:
        """Yield all rows, window by window: in the order of time, or in that of PostHog's own sort key.

        :raises PostHogIncompleteError: if it cannot be proved that all rows of a window were read.
        :raises PostHogError: if PostHog cannot be asked.
        :raises NotSettled: if the rest is to be waited for longer than ``longest_wait``.
        """
        began = time.monotonic()
        try:
            self._busy = True
            reader = self._started()
            for number, (window, wait_until) in enumerate(self._ranges):
                if wait_until is not None:
                    self._wait(window, wait_until)
                count = partial(self._count_and_tell, window) if number == 0 else None
                for chunk in self._chunks(reader, self._planner.pieces(window, count)):
                    self._count(chunk, time.monotonic() - began)
                    yield chunk
                    del chunk  # the next one comes into its place
                    self._on_progress(self._progress)
            for chunk in self._chunks(reader, self._ahead_of_time()):
                self._count(chunk, time.monotonic() - began)
                yield chunk
            self._compare_with_sample()
        finally:
            self._busy = False
            self._shut()

    def _count_and_tell(self, window: Window) -> list[Piece]:
        """Count the first range, unless it is counted already, and log the forecast."""
        counted = self._ahead.result() if self._ahead is not None else self._planner.count(window)
        self._ahead = None  # a part of it may be counted after all of it was too much
        share = share_of(self._settings, "query")
        # A page of a query costs as much as the query itself, which is not known.
        left = self._limits.bytes_left() if self.source.query is None else None
        forecast = Forecast(
            self._planner.counted,
            self._size.fitting(),
            self._row_bytes,
            share,
            left,
            self._limits.bytes_back(),
            READ_A_BYTE if self.source.dated_id is None else READ_A_BYTE_OF_SESSIONS,
        )
        log.info("PostHog: %s", forecast.text(self.source.name, datetime.now(timezone.utc)))
        return counted

    def _ahead_of_time(self) -> Iterator[Piece]:
        """Yield the rows that were created in the future, by clocks that are ahead."""
        if self.source.time is None and self.source.born:
            later = Window(max(self._end, datetime.now(timezone.utc)), LATEST)
            yield from (piece for piece in self._planner.pieces(later) if piece.rows)

    def _compare_with_sample(self) -> None:
        """Fail if the first look has seen more keys than were read: then the counts are wrong, even if repeated."""
        read = self._progress.rows - self._progress.duplicates
        if read < self._keys_seen:
            recounted = sum(self._planner.rows_in(window) for window, _ in self._ranges)
            raise PostHogIncompleteError(
                f"PostHog counted {self._progress.rows:,} rows in {self.window}, and {recounted:,} afterwards, but its "
                f"first answer showed {self._keys_seen:,} of them. Let the task retry."
            )

    def _chunks(self, reader: WindowReader, pieces: Iterator[Piece]) -> Iterator[Chunk]:
        """Read windows in parallel, and yield their chunks in order."""
        waiting: deque[Future[list[Chunk]]] = deque()
        while True:
            # Some are being read, and one is being yielded: never more than these.
            while len(waiting) < self._in_flight + 1 and (piece := next(pieces, None)) is not None:
                self._asker.check()
                waiting.append(self._workers().submit(reader.read, piece))
            if not waiting:
                return
            chunks = waiting.popleft().result()
            while chunks:
                yield chunks.pop(0)

    def _wait(self, window: Window, until: datetime) -> None:
        seconds = (until - datetime.now(timezone.utc)).total_seconds()
        if self._longest_wait is not None and seconds > self._longest_wait:
            raise NotSettled(until)
        log.info("PostHog: %s is read in %.0f s, once its rows have settled (settle)", window, seconds)
        self._asker.wait(seconds)

    def _count(self, chunk: Chunk, seconds: float) -> None:
        done = self._progress
        self._progress = Progress(
            windows=done.windows + 1,
            rows=done.rows + chunk.counted,
            rows_counted=self._planner.counted,
            duplicates=done.duplicates + chunk.duplicates,
            size=self._asker.size,
            seconds=seconds,
        )

    def _workers(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._in_flight + 1, thread_name_prefix="posthog-extract")
        return self._pool

    def _started(self) -> WindowReader:
        """Fetch the columns, and count the rows at the same time."""
        if self._reader is None:
            self._asker.check()
            self._ranges = self._settled()
            window, wait_until = self._ranges[0]
            # Where a query is counted by the hashes of its key, the key has to be known first.
            if wait_until is None and (self.source.time or self.source.query is None):
                self._ahead = self._workers().submit(self._planner.count, window)
            look = self._look(window)
            self._size.saw(look.rows, look.size)
            self._keys_seen = look.keys
            self._row_bytes = look.size / max(1, look.rows)
            self._planner.source = look.source
            self._reader = WindowReader(
                self._asker, self._planner, look.source, look.schema, self._size, exact=look.exact
            )
        return self._reader

    def _look(self, window: Window) -> Look:
        """Take the first look; if an older server lacks columns of the source, repeat it without them."""
        try:
            return first_look(self._asker, self.source, self._likely(window))
        except PostHogValidationError:
            older = of_older_server(self._asker, self.source)
            if older is None:
                raise
        self.source = self._planner.source = older
        if self._ahead is not None:
            self._ahead = self._workers().submit(self._planner.count, window)
        return first_look(self._asker, older, self._likely(window))

    def _likely(self, window: Window) -> Piece:
        return self._planner.likely(window, self._ahead.result if self._ahead is not None else None)

    def _settled(self) -> list[tuple[Window, datetime | None]]:
        """Return the range, or its settled part and the rest, each with the time until which to wait."""
        settled = datetime.now(timezone.utc) - self._settle
        ranges: list[tuple[Window, datetime | None]] = []
        # A range that was begun by cells stays whole: places in it say nothing about a part of its time.
        begun = self._resume.until if self._resume is not None else None
        for window in left_of(self.window, self.source, self._resume):
            if self.source.time is None or settled >= window.end:
                ranges.append((window, None))
            elif settled <= window.start or (begun is not None and window.end <= begun):
                ranges.append((window, self.settled_at))
            else:
                ranges += [(replace(window, end=settled), None), (replace(window, start=settled), self.settled_at)]
        return ranges


def _check(page_rows: int, max_in_flight: int, settle: timedelta, look_back: timedelta) -> None:
    if not 1 <= page_rows < MAX_ROWS:
        raise PostHogSettingsError("page_rows", f"is {page_rows}, too few or too many.", f"Write 1 to {MAX_ROWS - 1}.")
    if not 1 <= max_in_flight <= 32:
        raise PostHogSettingsError("max_in_flight", f"is {max_in_flight}, too few or too many.", "Write 1 to 32.")
    if settle < timedelta(0) or look_back < timedelta(0):
        raise PostHogSettingsError("settle, look_back", "hold a negative time.", "Write timedelta(0) or more.")


def _planner_of(source: Source) -> type[Planner]:
    if source.cells:
        return CellPlanner
    if source.dated_id is not None:
        return DatedPlanner
    return KeyPlanner if source.sort_key else Planner
