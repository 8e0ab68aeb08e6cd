"""Which cells of the events' sort key to read: the server counts them by day and event, and dense ones by hash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from airflow_provider_posthog.api.queries import MAX_ROWS
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.arrow_types import moment_of
from airflow_provider_posthog.extract.asking import Result, is_too_heavy
from airflow_provider_posthog.extract.cells import EPOCH, HASHES, Box, Cell, Group, boxes, hash_boxes
from airflow_provider_posthog.extract.planning import Planner, number_of, readable, rows_of
from airflow_provider_posthog.extract.windows import Piece, Window

log = logging.getLogger(__name__)

#: How many steps a page of a dense event is counted by.
_STEPS_OF_PAGE = 8
_FEWEST_STEPS, _MOST_STEPS = 16, 4096
#: Days around the range on which nearly all of its rows have happened: clocks are wrong, and phones are offline.
_AROUND = 2
#: Nothing that PostHog has is older, but for what wrong clocks have sent.
_OLDEST = (datetime(2010, 1, 1) - datetime(1970, 1, 1)).days


class CellPlanner(Planner):
    """Plans the cells of a range of events."""

    def count(self, window: Window) -> list[Piece]:
        """Count the rows of a range by day and event.

        :param window: the range.
        :raises PostHogError: if PostHog cannot do it in one query.
        """
        groups = self._groups(window)
        self.counted += sum(group.rows for group in groups)
        return [_piece(window, Box(_cell(window), tuple(groups)))]

    def likely(self, window: Window) -> Window:
        """Return the days of a range on which nearly all of its rows have happened.

        :param window: the range.
        """
        cell, (first, last) = _cell(window), self._home(window)
        if cell.first_day is None and cell.last_day is None:
            return replace(window, cell=replace(cell, first_day=first, last_day=last))
        return window

    def pieces(self, window: Window, count: Callable[[], list[Piece]] | None = None) -> Iterator[Piece]:
        """Yield the cells of a range, in the order of the sort key; they tile it.

        :param window: the range.
        :param count: gets what :meth:`count` finds in it, if somebody has asked already.
        :raises PostHogIncompleteError: if PostHog cannot even count the rows of a day.
        """
        try:
            (whole,) = count() if count is not None else self.count(window)
        except PostHogError as error:
            for part in self._parts(window, error):
                yield from self.pieces(part)
            return
        yield from self._boxes(window, whole.groups)

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
        result = self._asker.ask(statements.groups_of_event(self.source, piece.window, step, by_key=by_key))
        with readable(piece.window):
            counts = [(number_of(row["bucket"]), number_of(row["counted"])) for row in rows_of(result)]
        self._agreed(piece.window, [Piece(piece.window, rows) for _, rows in counts], piece.rows)
        for part, rows in hash_boxes(cell, counts, step, size, by_key=by_key):
            yield replace(piece, window=replace(piece.window, cell=part), rows=rows)

    def _groups(self, window: Window) -> list[Group]:
        """Count by day and event; 50,000 groups at a time."""
        groups: list[Group] = []
        cells = [_cell(window)]
        while cells:
            cell = cells.pop(0)
            result = self._asker.ask(statements.groups_by_event(self.source, replace(window, cell=cell)))
            with readable(window):
                found = _groups(result)
            groups += found
            if len(found) >= MAX_ROWS:
                last = found[-1]
                cells[:0] = cell.after([last.day, [last.name, True]])
        return groups

    def _parts(self, window: Window, error: PostHogError) -> list[Window]:
        """Return the parts of a range whose count was too much for a query."""
        if not is_too_heavy(error):
            raise error
        cell = _cell(window)
        cut = self._cut(cell, self._home(window)[0])
        if cut is None:
            raise PostHogIncompleteError(f"PostHog cannot even count the rows of {window}: {error}") from error
        log.info("PostHog: counting %s was too much for one query (%s); counting its parts", window, error)
        return [
            replace(window, cell=replace(cell, last_day=cut)),
            replace(window, cell=replace(cell, first_day=cut)),
        ]

    @staticmethod
    def _cut(cell: Cell, home: int) -> int | None:
        """Return a day to cut a cell at: first what is recent from the history, then that by halves."""
        first, last = cell.first_day, cell.last_day
        if first is None and (last is None or last > home):
            return home
        if first is None:
            return _OLDEST if last is None or last > _OLDEST else None
        if last is None:
            return max(first + 1, home + 2 * _AROUND)
        return (first + last) // 2 if last - first > 1 else None

    def _home(self, window: Window) -> tuple[int, int]:
        days = [(edge - EPOCH) // timedelta(days=1) for edge in (window.start, window.end)]
        return days[0] - _AROUND, days[1] + _AROUND

    def halves(self, piece: Piece) -> list[Piece]:
        """Return pieces of one that is too much for a query, none of which holds all of its rows; empty if none can be.

        :param piece: the piece.
        """
        if piece.rows <= 1:
            return []
        cell, most = _cell(piece.window), max(1, piece.rows // 2)
        if cell.event is None:
            counted = boxes(cell, self._groups(piece.window), self._home(piece.window), lambda: most)
            parts = [_piece(piece.window, box) for box in counted]
        else:
            parts = list(self._parts_of(piece, lambda: most, by_key=cell.keys != (0, HASHES)))
            if parts[0].window == piece.window and cell.keys == (0, HASHES):  # a step of hashes cannot be cut further
                parts = list(self._parts_of(piece, lambda: most, by_key=True))
        whole = next((part for part in parts if part.rows >= piece.rows), None)
        if whole is None:
            return parts
        # All rows are of one event, or of one distinct id: what is finer tells them apart.
        finer = self.halves(whole) if whole.window != piece.window else []
        return [each for part in parts for each in (finer if part is whole else [part])] if finer else []


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
            rows=number_of(row["counted"]),
            low=moment_of(row["low"]),
            high=moment_of(row["high"]),
            hashes=(number_of(row["first_hash"]), number_of(row["last_hash"])),
        )
        for row in rows_of(result)
    ]


def _day(yyyymmdd: int) -> int:
    return (datetime(yyyymmdd // 10_000, yyyymmdd // 100 % 100, yyyymmdd % 100) - datetime(1970, 1, 1)).days


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
