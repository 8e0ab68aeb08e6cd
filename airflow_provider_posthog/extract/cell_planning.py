"""Plan which cells of the events' sort key to read: the server counts them by day and event, and dense ones by hash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from airflow_provider_posthog.api.queries import MAX_ROWS
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.cells import (
    EPOCH,
    HASHES,
    LAST_DAY,
    Box,
    Cell,
    Group,
    boxes,
    hash_boxes,
    is_exact,
    merged,
    order_of,
)
from airflow_provider_posthog.extract.planning import Planner, number_of, readable, rows_of
from airflow_provider_posthog.extract.query_client import Result
from airflow_provider_posthog.extract.windows import Piece, Window
from airflow_provider_posthog.results.clickhouse_values import moment_of
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)

#: Into how many steps a page of a dense event is divided for counting.
_STEPS_OF_PAGE = 8
_FEWEST_STEPS, _MOST_STEPS = 16, 4096
#: How often a range of hashes is halved if counting it is too much for a query.
_MOST_HALVINGS = 6
#: After so many empty days in a row that are too much to count in one query, the size is not the cause.
_MOST_IN_VAIN = 8
#: Days around the range in which nearly all of its rows happened: clocks are wrong, and phones are offline.
_AROUND = 2
#: PostHog has no older events, except from wrong clocks.
_OLDEST = (datetime(2010, 1, 1) - datetime(1970, 1, 1)).days


class CellPlanner(Planner):
    """Plans the cells of a range of events."""

    #: Days without rows, one after another, whose count was too much for a query.
    _in_vain = 0

    def count(self, window: Window) -> list[Piece]:
        """Count the rows of a range by day and event.

        :param window: the range.
        :raises PostHogError: if PostHog cannot do it in one query.
        """
        groups = self._groups(window)
        self.counted += sum(group.rows for group in groups)
        return [_piece(window, Box(_cell(window), tuple(groups)))]

    def _likely(self, window: Window) -> Window:
        """Return the days of a range on which nearly all of its rows have happened."""
        cell, (first, last) = _cell(window), self._home(window)
        if cell.first_day is None and cell.last_day is None:
            return replace(window, cell=replace(cell, first_day=first, last_day=last))
        return window

    def pieces(self, window: Window, count: Callable[[], list[Piece]] | None = None) -> Iterator[Piece]:
        """Yield the cells of a range, in the order of the sort key; they tile it.

        If counting it is too much for PostHog, its days are counted and read part by part, newest first: nearly all
        rows are there, and the rest of a budget is not spent on years that hold almost none.

        :param window: the range.
        :param count: returns the result of :meth:`count`, if it was already requested.
        :raises PostHogIncompleteError: if PostHog cannot even count the rows of a part of a day.
        """
        try:
            (whole,) = count() if count is not None else self.count(window)
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
            if not _cell(window).is_day:
                for part in _newest_first(window, self._parts(window, error)):
                    yield from self.pieces(part)
                return
            groups = tuple(self._groups_by_hash(window, error))
            self._in_vain = 0 if groups else self._in_vain + 1
            if self._in_vain > _MOST_IN_VAIN:
                raise _uncounted(window, error) from error
            self.counted += sum(group.rows for group in groups)
        else:
            groups = whole.groups
        yield from self._boxes(window, groups)

    def _boxes(self, window: Window, groups: tuple[Group, ...]) -> Iterator[Piece]:
        for box in boxes(_cell(window), groups, self._home(window), self._size):
            if box.rows > self._size() and box.cell.event is not None:
                yield from self._by_hash(_piece(window, box), by_key=box.cell.keys != (0, HASHES))
            else:
                yield _piece(window, box)

    def _by_hash(self, piece: Piece, *, by_key: bool) -> Iterator[Piece]:
        """Yield parts of an event's day, by hashes of distinct ids, or of the uuids of one that has too many rows."""
        for made in self._parts_of(piece, self._size, by_key=by_key):
            if made.rows > self._size() and not by_key:
                yield from self._by_hash(made, by_key=True)
            else:
                yield made

    def _parts_of(self, piece: Piece, size: Callable[[], int], *, by_key: bool) -> Iterator[Piece]:
        cell = _cell(piece.window)
        first, last = cell.keys if by_key else cell.hashes
        wanted = max(_FEWEST_STEPS, min(_MOST_STEPS, _STEPS_OF_PAGE * piece.rows // size()))
        step = 1 << max(0, (last - first - 1).bit_length() - (wanted - 1).bit_length())
        counts = self._steps_of(piece.window, step, by_key=by_key)
        self._agreed(piece.window, [Piece(piece.window, rows) for rows in counts.values()], piece.rows)
        for part, rows in hash_boxes(cell, sorted(counts.items()), step, size, by_key=by_key):
            yield replace(piece, window=replace(piece.window, cell=part), rows=rows)

    def _steps_of(self, window: Window, step: int, *, by_key: bool, halvings: int = 0) -> dict[int, int]:
        """Count an event's rows by steps of hashes; by halves where that is too much for a query."""
        cell = _cell(window)
        first, last = cell.keys if by_key else cell.hashes
        try:
            result = self._asker.ask(statements.groups_of_event(self.source, window, step, by_key=by_key))
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
            if halvings == _MOST_HALVINGS or last - first <= step:
                raise _uncounted(window, error) from error
            middle = first // step * step + -(-(last - first) // (2 * step)) * step
            steps: dict[int, int] = {}
            for half in ((first, middle), (middle, last)):
                part = replace(cell, keys=half) if by_key else replace(cell, hashes=half)
                steps |= self._steps_of(replace(window, cell=part), step, by_key=by_key, halvings=halvings + 1)
            return steps
        with readable(window):
            counts = [(number_of(row["bucket"]), number_of(row["counted"], least=1)) for row in rows_of(result)]
            numbers = [number for number, _ in counts]
            inside = all(first // step <= number <= (last - 1) // step for number in numbers)
            if not inside or any(later <= earlier for earlier, later in pairwise(numbers)):
                raise ValueError
        return dict(counts)

    def _groups(self, window: Window) -> list[Group]:
        """Count by day and event; 50,000 groups at a time."""
        groups: list[Group] = []
        left: list[tuple[Cell, Group | None]] = [(_cell(window), None)]
        while left:
            cell, after = left.pop(0)
            inside = replace(window, cell=cell)
            behind = (_yyyymmdd(after.day), after.name) if after is not None else None
            result = self._asker.ask(statements.groups_by_event(self.source, inside, behind))
            with readable(inside):
                counted = _groups(result)
                _check_order(counted, cell, after)
                if self.source.time == "timestamp":
                    _check_times(counted, window)
                if len(counted) >= MAX_ROWS:
                    counted, more = _counted_on(counted, cell)
                    left[:0] = more
            groups += counted
        return groups

    def _groups_in_parts(self, window: Window) -> list[Group]:
        """Count by day and event; by parts where that is too much for a query."""
        try:
            return self._groups(window)
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
            if _cell(window).is_day:
                return self._groups_by_hash(window, error)
            return [group for part in self._parts(window, error) for group in self._groups_in_parts(part)]

    def _groups_by_hash(self, window: Window, error: PostHogError, halvings: int = 0) -> list[Group]:
        """Count a day, whose count was too much for a query, by ranges of hashes, and add the counts up."""
        cell = _cell(window)
        halves = _hash_halves(cell) if halvings < _MOST_HALVINGS else None
        if halves is None:
            raise _uncounted(window, error) from error
        log.info("PostHog: counting %s was too much for one query (%s); counting parts of its hashes", window, error)
        groups: list[Group] = []
        for half in halves:
            part = replace(window, cell=half)
            try:
                groups += self._groups(part)
            except PostHogError as again:
                if not is_too_heavy(again):
                    raise
                groups += self._groups_by_hash(part, again, halvings + 1)
        if not all(is_exact(group.name) for group in groups):
            raise _uncounted(window, error) from error  # their place in the order is not known
        return merged(groups)

    def _parts(self, window: Window, error: PostHogError) -> list[Window]:
        """Return the parts of a range of several days whose count was too much for a query, in order."""
        cell = _cell(window)
        cuts = _cuts(cell, self._home(window))
        log.info("PostHog: counting %s was too much for one query (%s); counting its parts", window, error)
        edges = [cell.first_day, *cuts, cell.last_day]
        return [replace(window, cell=replace(cell, first_day=first, last_day=last)) for first, last in pairwise(edges)]

    def _home(self, window: Window) -> tuple[int, int]:
        return _day_of(window.start) - _AROUND, _day_of(window.end) + _AROUND

    def halves(self, piece: Piece) -> list[Piece]:
        """Divide a piece that is too much for a query so that no part holds all its rows; empty if impossible.

        :param piece: the piece.
        """
        if piece.rows <= 1:
            return []
        return self._divided(piece, by_key=_cell(piece.window).keys != (0, HASHES))

    def _divided(self, piece: Piece, *, by_key: bool) -> list[Piece]:
        cell, most = _cell(piece.window), max(1, piece.rows // 2)
        if cell.event is None:
            counted = boxes(cell, self._groups_in_parts(piece.window), self._home(piece.window), lambda: most)
            parts = self._agreed(piece.window, [_piece(piece.window, box) for box in counted], piece.rows)
        else:
            parts = list(self._parts_of(piece, lambda: most, by_key=by_key))
        whole = next((part for part in parts if part.rows >= piece.rows), None)
        if whole is None:
            return parts
        # All rows are of one event, or of one step of hashes: finer steps separate them, unless they are copies.
        is_finer = by_key or cell.event is None
        if is_finer and (whole.window == piece.window or (by_key and self.counted_again(whole.window)[1] <= 1)):
            return []
        finer = self._divided(whole, by_key=cell.event is not None)
        return [piece for part in parts for piece in (finer if part is whole else [part])] if finer else []


def _newest_first(window: Window, parts: list[Window]) -> list[Window]:
    """Return the parts of a range in the order in which they are read; what is left of a part keeps its own order."""
    cell = _cell(window)
    if window.part not in (None, (cell.first_day, cell.last_day)):
        return parts
    edges = [(part.cell.first_day, part.cell.last_day) for part in parts if part.cell is not None]
    return [replace(part, part=edge) for part, edge in zip(parts[::-1], edges[::-1], strict=True)]


def _uncounted(window: Window, error: PostHogError) -> PostHogIncompleteError:
    return PostHogIncompleteError(f"PostHog cannot even count the rows of {window}: {error}")


def _cuts(cell: Cell, home: tuple[int, int]) -> list[int]:
    """Return days to cut a cell at: first recent days, the history, and days that no index finds, then by halves."""
    if cell.is_day:
        return []
    first = -1 if cell.first_day is None else cell.first_day
    last = LAST_DAY + 1 if cell.last_day is None else cell.last_day
    if cell.first_day is None or cell.last_day is None:
        cuts = {0, home[0], LAST_DAY}
    else:
        cuts = {next((day for day in (home[1], _OLDEST) if first < day < last), _middle(first, last))}
    return sorted(day for day in cuts if first < day < last)


def _middle(first: int, last: int) -> int:
    """Return a day in the middle, the first of a month if there is one near it: PostHog's table is kept by months."""
    middle = (first + last) // 2
    month = _day(int(f"{EPOCH + timedelta(days=middle):%Y%m}01"))
    return month if first < month and 4 * (middle - month) < last - first else middle


def _hash_halves(cell: Cell) -> tuple[Cell, Cell] | None:
    """Return the halves of a cell by hashes, of ``uuid`` where it has a single one of ``distinct_id``, or of both."""
    by_key = cell.keys != (0, HASHES) or cell.hashes[1] - cell.hashes[0] <= 1
    first, last = cell.keys if by_key else cell.hashes
    middle = (first + last) // 2
    if not first < middle < last:
        return None
    if by_key:
        return replace(cell, keys=(first, middle)), replace(cell, keys=(middle, last))
    return replace(cell, hashes=(first, middle)), replace(cell, hashes=(middle, last))


def _counted_on(groups: list[Group], cell: Cell) -> tuple[list[Group], list[tuple[Cell, Group | None]]]:
    """Cut a full answer to the groups after which counting can go on; return them, and where to go on."""
    while not is_exact(groups[-1].name):
        groups = groups[:-1]  # a name that lost bytes is no place to go on from
    last = groups[-1]
    if cell.is_day or not 0 <= last.day < LAST_DAY:
        return groups, [(cell, last)]
    if cell.last_day is not None:
        return groups, [(replace(cell, first_day=last.day), last)]
    return groups, [(replace(cell, first_day=last.day, last_day=LAST_DAY), last), (Cell(LAST_DAY), None)]


def _cell(window: Window) -> Cell:
    return window.cell or Cell()


def _piece(window: Window, box: Box) -> Piece:
    lows, highs = [group.low for group in box.groups], [group.high for group in box.groups]
    return Piece(
        replace(window, cell=box.cell),
        box.rows,
        min(lows, default=None),
        max(highs, default=None),
        groups=box.groups,
        is_outlier=box.is_outlier,
    )


def _groups(result: Result) -> list[Group]:
    return [
        Group(
            day=_day(number_of(row["day"])),
            name=_text(row["name"]),
            rows=number_of(row["counted"], least=1),
            low=moment_of(row["low"]),
            high=moment_of(row["high"]),
            hashes=(number_of(row["first_hash"]), number_of(row["last_hash"])),
        )
        for row in rows_of(result)
    ]


def _check_order(groups: list[Group], cell: Cell, after: Group | None) -> None:
    """Check that groups are in order inside a cell: rows between them would count as none, and not be read."""
    last = (after.day, order_of((after.name, False))) if after is not None else None
    day = after.day if after is not None else groups[0].day if groups else 0
    for group in groups:
        days = {_day_of(group.low), _day_of(group.high), group.day}
        if not cell.holds(group) or group.low > group.high or len(days) > 1 or group.day < day:
            raise ValueError
        day = group.day
        if is_exact(group.name):  # the server has put others where their own bytes belong
            place = (group.day, order_of((group.name, False)))
            if last is not None and place <= last:
                raise ValueError
            last = place


def _check_times(groups: list[Group], window: Window) -> None:
    if any(group.low < window.start or group.high >= window.end for group in groups):
        raise ValueError


def _day_of(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(days=1)


def _day(yyyymmdd: int) -> int:
    return (datetime(yyyymmdd // 10_000, yyyymmdd // 100 % 100, yyyymmdd % 100) - datetime(1970, 1, 1)).days


def _yyyymmdd(day: int) -> int:
    return int(f"{EPOCH + timedelta(days=day):%Y%m%d}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
