"""Which windows to read: the server counts its rows, coarsely first, finer where there are many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.arrow_types import moment_of
from airflow_provider_posthog.extract.asking import Asker, Result, is_too_heavy
from airflow_provider_posthog.extract.page_size import PageSize
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import MAX_ROWS
from airflow_provider_posthog.extract.windows import (
    EPOCH,
    MICROSECOND,
    Piece,
    Window,
    hash_pieces,
    joined,
    packed,
    spans,
    step_of,
    time_pieces,
)

log = logging.getLogger(__name__)


class Planner:
    """Plans the windows of a range.

    :param asker: asks PostHog.
    :param source: what is read.
    :param size: how many rows a window is to hold.
    """

    def __init__(self, asker: Asker, source: Source, size: PageSize) -> None:
        self._asker = asker
        self._source = source
        self._size = size
        #: Rows that were counted so far in all ranges.
        self.counted = 0

    def count(self, window: Window) -> list[Piece]:
        """Count the rows of a range, coarsely.

        :param window: the range.
        :raises PostHogError: if PostHog can not do it in one query.
        """
        counted = self.by_hash(window) if self._source.time is None else self._steps(window)
        self.counted += sum(piece.rows for piece in counted)
        return counted

    def pieces(self, window: Window, count: Callable[[], list[Piece]] | None = None) -> Iterator[Piece]:
        """Yield the pieces of a range, in order; they tile it. Those with more rows than a page are rare, not wrong.

        :param window: the range.
        :param count: gets what :meth:`count` finds in it, if somebody has asked already.
        :raises PostHogIncompleteError: if PostHog can not even count a second's rows.
        """
        try:
            counted = (count or partial(self.count, window))()
        except PostHogError as error:
            for half in self._halves(window, error):
                yield from self.pieces(half)
            return
        by_time = self._source.time is not None
        yield from packed(self._refined(window, counted) if by_time else counted, self._size)

    def _finer(self, window: Window) -> Iterator[Piece]:
        try:
            counted = self._steps(window)
        except PostHogError as error:
            for half in self._halves(window, error):
                yield from self._finer(half)
            return
        yield from self._refined(window, counted)

    def _refined(self, window: Window, counted: list[Piece]) -> Iterator[Piece]:
        step = step_of(window)
        for run in spans(counted, self._size):
            whole = joined(run)
            if whole.rows <= self._size():
                yield whole
            elif step > 1:
                yield from self._finer(whole.window)
            else:
                yield from self._dense(run)

    def _dense(self, run: list[Piece]) -> Iterator[Piece]:
        """Yield pieces of seconds, or, of a second with too many rows, of its microseconds and of their hashes."""
        for piece in run:
            if piece.rows <= self._size():
                yield piece
                continue
            for moment in self._moments(piece.window):
                yield from self.by_hash(moment.window) if moment.rows > self._size() else [moment]

    def _halves(self, window: Window, error: PostHogError) -> tuple[Window, Window]:
        if not is_too_heavy(error):
            raise error
        by_time = self._source.time is not None and window.end - window.start > timedelta(seconds=1)
        halves = window.halves() if by_time else None
        if halves is None:
            raise PostHogIncompleteError(f"PostHog can not even count the rows of {window}: {error}") from error
        log.info("PostHog: counting %s was too much for one query (%s); counting its halves", window, error)
        return halves

    def _steps(self, window: Window) -> list[Piece]:
        step = step_of(window)
        result = self._asker.ask(statements.groups_by_time(self._source, window, step))
        groups = [(EPOCH + timedelta(seconds=row[0] * step), piece_of(row, result, window)) for row in result.rows]
        return time_pieces(window, groups, timedelta(seconds=step))

    def _moments(self, window: Window) -> list[Piece]:
        """Count by microsecond."""
        found: dict[datetime, Piece] = {}
        after: datetime | None = None
        while True:
            result = self._asker.ask(statements.groups_by_moment(self._source, window, after))
            for row in result.rows:
                after = moment_of(row[0])
                piece = piece_of(row, result, window)
                found[after] = found[after].joined(piece) if after in found else piece
            if len(result.rows) < MAX_ROWS:
                break
        return time_pieces(window, found.items(), MICROSECOND)

    def by_hash(self, window: Window) -> list[Piece]:
        """Count a window's rows by hash.

        :param window: the window.
        :raises PostHogIncompleteError: if a row has no key.
        """
        result = self._asker.ask(statements.groups_by_hash(self._source, window))
        if any(row[0] is None for row in result.rows):
            raise PostHogIncompleteError(
                f"rows of {window} have no key ({self._source.key} is null): they can not be read"
            )
        return hash_pieces(window, [(int(row[0]), piece_of(row, result, window)) for row in result.rows])

    def counted_again(self, window: Window) -> tuple[Piece, int]:
        """Count a window anew: its piece, and how many different keys it holds.

        :param window: the window.
        """
        row = self._count_row(window)
        return _piece(row, window), int(str(row["different"]))

    def halves(self, piece: Piece) -> list[Piece]:
        """Return pieces of one that is too much for a query, none of which holds all of its rows; empty if none can be.

        :param piece: the piece.
        """
        if piece.rows <= 1:
            return []
        window = piece.window
        if not window.is_whole or self._source.time is None:
            return [self.counted_again(half)[0] for half in window.hash_halves() or ()]
        row = self._count_row(window)
        if not isinstance(row["earliest"], str) or int(str(row["counted"])) == 0:
            return [Piece(window, 0)]
        earliest, latest = moment_of(str(row["earliest"])), moment_of(str(row["latest"]))
        if earliest < latest:
            middle = earliest + (latest - earliest) // 2 + MICROSECOND
            parts = replace(window, end=middle), replace(window, start=middle)
            return [self.counted_again(part)[0] for part in parts]
        return self._parts_of_moment(window, earliest)

    def _parts_of_moment(self, window: Window, moment: datetime) -> list[Piece]:
        """Return the halves by hash of the only microsecond of a window that has rows, and what lies around it."""
        inside = replace(window, start=moment, end=moment + MICROSECOND)
        pieces = [self.counted_again(half)[0] for half in inside.hash_halves() or ()]
        if window.start < inside.start:
            pieces.insert(0, Piece(replace(window, end=inside.start), 0))
        if inside.end < window.end:
            pieces.append(Piece(replace(window, start=inside.end), 0))
        return pieces

    def _count_row(self, window: Window) -> dict[str, object]:
        result = self._asker.ask(statements.count(self._source, window))
        return dict(zip(result.columns, result.rows[0], strict=True))


def piece_of(row: list[object], result: Result, window: Window) -> Piece:
    """Read a row of counts.

    :param row: the row.
    :param result: the answer that it is in.
    :param window: the piece's window.
    """
    return _piece(dict(zip(result.columns, row, strict=True)), window)


def _piece(row: Mapping[str, object], window: Window) -> Piece:
    low, high = row.get("low"), row.get("high")
    return Piece(
        window,
        int(str(row["counted"])),
        moment_of(low) if isinstance(low, str) else None,
        moment_of(high) if isinstance(high, str) else None,
    )
