"""Plan which windows to read: the server counts its rows, coarsely first, finer where there are many."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogTransportError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.dated_ids import runs_of
from airflow_provider_posthog.extract.page_size import PageSize
from airflow_provider_posthog.extract.query_client import Asker, Result
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import (
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
from airflow_provider_posthog.results.clickhouse_values import moment_of
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)
_Bucket = TypeVar("_Bucket")
#: A number of rows, or of a group of them, as PostHog writes it.
_WHOLE = re.compile(r"-?[0-9]{1,20}")


class Planner:
    """Plans the windows of a range.

    :param asker: asks PostHog.
    :param source: what is read.
    :param size: how many rows a window is to hold.
    """

    def __init__(self, asker: Asker, source: Source, size: PageSize) -> None:
        self._asker = asker
        #: What is read; its key is known better after the first look.
        self.source = source
        self._size = size
        #: Rows that were counted so far in all ranges.
        self.counted = 0

    def count(self, window: Window) -> list[Piece]:
        """Count the rows of a range, coarsely.

        :param window: the range.
        :raises PostHogIncompleteError: if a query has rows that no window would hold, or that have no key.
        :raises PostHogError: if PostHog cannot do it in one query.
        """
        is_query = self.source.query is not None  # the times and keys of PostHog's own tables are never null
        counted = self.by_hash(window) if self.source.time is None else self._steps(window, is_query)
        self.counted += sum(piece.rows for piece in counted)
        return counted

    def likely(self, window: Window, counted: Callable[[], list[Piece]] | None = None) -> Piece:
        """Return the part of a window where a look for some of its rows is cheap, and how many to look at.

        :param window: the window.
        :param counted: waits for what :meth:`count` finds in it, if somebody has asked.
        """
        return Piece(self._likely(window), statements.SAMPLE)

    def _likely(self, window: Window) -> Window:
        return window

    def _counting(self) -> Source:
        """Return what is counted: what is read, as far as the server can count it."""
        return self.source

    def pieces(self, window: Window, count: Callable[[], list[Piece]] | None = None) -> Iterator[Piece]:
        """Yield the pieces of a range, in order; they tile it. Those with more rows than a page are rare, not wrong.

        :param window: the range.
        :param count: returns the result of :meth:`count`, if it was already requested.
        :raises PostHogIncompleteError: if PostHog cannot even count a second's rows.
        """
        try:
            counted = (count or partial(self.count, window))()
        except PostHogError as error:
            for half in self._halves(window, error):
                yield from self.pieces(half)
            return
        by_time = self.source.time is not None
        yield from packed(self._refined(window, counted) if by_time else counted, self._size)

    def _finer(self, window: Window, expected: int) -> Iterator[Piece]:
        try:
            counted = self._agreed(window, self._steps(window), expected)
        except PostHogError as error:
            for half in self._halves(window, error):
                yield from self._finer(half, 0)
            return
        yield from self._refined(window, counted)

    def _agreed(self, window: Window, pieces: list[Piece], expected: int) -> list[Piece]:
        """Return the pieces of a window, unless they hold fewer rows than PostHog has counted and still counts in it.

        A piece without rows is not read, so a count of only some of the rows would lose the others.
        """
        rows = sum(piece.rows for piece in pieces)
        if rows < expected and rows < (recount := self.rows_in(window)):
            raise PostHogIncompleteError(
                f"PostHog counted {recount:,} rows in {window}, but {rows:,} in its parts (its count was {expected:,} "
                "before). Let the task retry."
            )
        return pieces

    def _refined(self, window: Window, counted: list[Piece]) -> Iterator[Piece]:
        step = step_of(window)
        for run in spans(counted, self._size):
            whole = joined(run)
            if whole.rows <= self._size():
                yield whole
            elif step > 1:
                yield from self._finer(whole.window, whole.rows)
            else:
                yield from self._dense(run)

    def _dense(self, run: list[Piece]) -> Iterator[Piece]:
        """Yield pieces of seconds, or, of a second with too many rows, of its microseconds and of their hashes."""
        for piece in run:
            if piece.rows <= self._size():
                yield piece
                continue
            for moment in self._agreed(piece.window, self._moments(piece), piece.rows):
                if moment.rows > self._size():
                    yield from self._agreed(moment.window, self.by_hash(moment.window), moment.rows)
                else:
                    yield moment

    def _halves(self, window: Window, error: PostHogError) -> tuple[Window, Window]:
        if not is_too_heavy(error):
            raise error
        by_time = self.source.time is not None and window.end - window.start > timedelta(seconds=1)
        halves = window.halves() if by_time else None
        if halves is None:
            raise PostHogIncompleteError(f"PostHog cannot even count the rows of {window}: {error}") from error
        log.info("PostHog: counting %s was too much for one query (%s); counting its halves", window, error)
        return halves

    def _steps(self, window: Window, check: bool = False) -> list[Piece]:
        """Count by steps of time; if asked to, also the rows that no window would hold."""
        step = step_of(window)
        length = timedelta(seconds=step)
        make = statements.groups_of_query if check else statements.groups_by_time
        result = self._asker.ask(make(self._counting(), window, step))
        with readable(window):
            rows = [(number_of(row["bucket"], least=-1), row, _piece(row, window)) for row in rows_of(result)]
            groups = [(EPOCH + bucket * length, piece) for bucket, _, piece in rows if bucket >= 0]
            _check_order([begin for begin, _ in groups], window, length)
            lost = sum(piece.rows for bucket, _, piece in rows if bucket < 0)
            keyless = check and any(number_of(row["keyed"]) < piece.rows for _, row, piece in rows)
        if lost:
            raise PostHogIncompleteError(
                f"{lost:,} rows of {self.source.name} have no time that an interval can hold: {self.source.time} is "
                "null, before 1970 or after 2105. Leave them out in the query (WHERE), or give them a time."
            )
        if keyless:
            raise self._no_key(window)
        return time_pieces(window, groups, length)

    def _moments(self, whole: Piece) -> list[Piece]:
        """Count by microsecond."""
        window = whole.window
        moments: dict[datetime, Piece] = {}
        after: datetime | None = None
        while sum(piece.rows for piece in moments.values()) < whole.rows:
            before = after
            counted = self._counted(statements.groups_by_moment(self._counting(), window, after), window, moment_of)
            for after, piece in counted:
                moments[after] = moments[after].joined(piece) if after in moments else piece
            if after == before:
                break
        with readable(window):
            _check_order(list(moments), window, MICROSECOND)
        return time_pieces(window, moments.items(), MICROSECOND)

    def by_hash(self, window: Window) -> list[Piece]:
        """Count a window's rows by hash.

        :param window: the window.
        :raises PostHogIncompleteError: if a row has no key.
        """
        statement = statements.groups_by_hash(self._counting(), window)
        counted = self._counted(statement, window, lambda bucket: None if bucket is None else number_of(bucket))
        parts = [(part, piece) for part, piece in counted if part is not None]
        if len(parts) < len(counted):
            raise self._no_key(window)
        numbers = [part for part, _ in parts]
        with readable(window):
            if numbers != sorted(set(numbers)) or any(not window.first <= part < window.last for part in numbers):
                raise ValueError
        return hash_pieces(window, parts)

    def _no_key(self, window: Window) -> PostHogIncompleteError:
        return PostHogIncompleteError(f"rows of {window} have no key ({self.source.key} is null): they cannot be read")

    def rows_in(self, window: Window) -> int:
        """Count a window's rows anew.

        :param window: the window.
        """
        ((_, piece),) = self._counted(statements.total(self.source, window), window, number_of)
        return piece.rows

    def counted_again(self, window: Window) -> tuple[Piece, int]:
        """Count a window anew: its piece, and how many different keys it holds.

        :param window: the window.
        :raises PostHogIncompleteError: if a row has no key.
        """
        row = self._count_row(window)
        return row.piece, row.keys

    def halves(self, piece: Piece) -> list[Piece]:
        """Divide a piece that is too much for a query so that no part holds all its rows; empty if impossible.

        :param piece: the piece.
        """
        if piece.rows <= 1:
            return []
        window = piece.window
        if not window.is_whole or self.source.time is None:
            return [self.counted_again(half)[0] for half in window.hash_halves() or ()]
        row = self._count_row(window)
        earliest, latest = row.earliest, row.latest
        if earliest is None or latest is None or not row.piece.rows:
            return [Piece(window, 0)]
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

    def _count_row(self, window: Window) -> _Counts:
        result = self._asker.ask(statements.count(self.source, window))
        with readable(window):
            (row,) = rows_of(result)
            keyed, keys = number_of(row["keyed"]), number_of(row["different"])
            counts = _Counts(_piece(row, window), keys, _time(row, "earliest"), _time(row, "latest"))
        if keyed < counts.piece.rows:
            raise self._no_key(window)
        return counts

    def _counted(
        self, statement: Statement, window: Window, bucket: Callable[[Any], _Bucket]
    ) -> list[tuple[_Bucket, Piece]]:
        """Fetch counts, each with the value of the first column, by which its rows are grouped."""
        result = self._asker.ask(statement)
        with readable(window):
            return [
                (bucket(values[0]), _piece(row, window))
                for values, row in zip(result.rows, rows_of(result), strict=True)
            ]


@dataclass(frozen=True)
class _Counts:
    piece: Piece
    keys: int
    earliest: datetime | None
    latest: datetime | None


@contextmanager
def readable(window: Window) -> Iterator[None]:
    """Raise a clear error if an answer is not a valid count.

    :param window: what was counted.
    """
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError):
        raise PostHogTransportError(f"PostHog's answer to how many rows {window} has cannot be read") from None


def rows_of(result: Result) -> list[dict[str, Any]]:
    """Return an answer's rows by the names of its columns.

    :param result: the answer.
    :raises ValueError: if a row has more or fewer values than there are columns.
    """
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def number_of(value: object, least: int = 0) -> int:
    """Read a count.

    :param value: what PostHog answered.
    :param least: the least that it can be.
    :raises ValueError: if it is not a count.
    """
    text = str(value)  # a float, a truth value or nothing is not a count
    number = int(text) if _WHOLE.fullmatch(text) else least - 1
    if number < least:
        raise ValueError
    return number


def _check_order(begins: Sequence[datetime], window: Window, length: timedelta) -> None:
    """Check that groups are in order inside a window: rows between them would count as none, and not be read."""
    inside = all(begin < window.end and begin + length > window.start for begin in begins)
    if not inside or any(later <= earlier for earlier, later in pairwise(begins)):
        raise ValueError


def _time(row: Mapping[str, Any], name: str) -> datetime | None:
    value = row.get(name)
    return None if value is None else moment_of(value)


def _piece(row: Mapping[str, Any], window: Window) -> Piece:
    begun = runs_of(map(number_of, row.get("begun", ())), window.start, window.end)
    return Piece(window, number_of(row["counted"]), _time(row, "low"), _time(row, "high"), begun=begun)
