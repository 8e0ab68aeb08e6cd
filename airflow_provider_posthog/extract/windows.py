"""Windows: the pieces in which a table is read. Pure: no clock, no sockets.

A window is half-open, ``[start, end)``. The windows of one extraction tile its range without a gap or an overlap, also
where nothing was counted. Where time cannot tell rows apart (a table without a time, or one microsecond that holds too
many rows) a window is a range of the rows' keys instead, or of the keys' hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.cells import EPOCH, Cell, Group
from airflow_provider_posthog.extract.dated_ids import Minutes, joined_runs

MICROSECOND = timedelta(microseconds=1)
#: ClickHouse counts the seconds that rows are grouped by in 32 bits.
LATEST = datetime(2106, 1, 1, tzinfo=timezone.utc)
#: A part of the days: the first, and the first after it; ``None`` for those before and after all others.
Part = tuple[int | None, int | None]
#: How many parts the keys of rows are put into, by their hashes or by their own order; PostHog answers 50,000 rows.
PARTS = 32_768
#: The most groups of a count; PostHog answers 50,000 rows.
GROUPS = 4000
#: The most windows' rows, and the most groups, that one query counts again by finer steps: few enough for the steps to
#: be finer.
SPAN = 400
DENSE_GROUPS = GROUPS // 8


@dataclass(frozen=True)
class Window:
    """A half-open piece of a table.

    :param start: the first moment inside, in UTC, to the microsecond.
    :param end: the first moment after it.
    :param first: the first part of the keys, or of their hashes, that belongs to it.
    :param last: the first part after it.
    :param cell: of events, the cell of their sort key that it is, rather than all of its time.
    :param keys: of what is sorted by other keys, the range of them that it is.
    :param part: where the days are read newest part first, from which day to which the part is that it lies in.
    """

    start: datetime
    end: datetime
    first: int = 0
    last: int = PARTS
    cell: Cell | None = None
    keys: Keys | None = None
    part: Part | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it holds all rows of its time, rather than a part of their keys."""
        return self.first == 0 and self.last == PARTS and self.keys is None

    def goes_on_in(self, other: Window) -> bool:
        """Return whether another window follows, so that both can be joined.

        :param other: the other one.
        """
        if self.is_whole and other.is_whole:
            return self.end == other.start
        if self.keys != other.keys:
            return self.keys is not None and other.keys is not None and self.keys.high == other.keys.low
        return (self.start, self.end, self.last) == (other.start, other.end, other.first)

    def after(self, *, by_parts: bool = False) -> Position | None:
        """Return where a reading goes on after it, or ``None`` in the middle of a microsecond's hashes.

        :param by_parts: whether all of the time is read by parts of the keys, one after another.
        """
        if self.cell is not None and ((place := self.cell.end()) or self.part is not None):
            return Position(self.start, self.end, tuple(place), self.part)
        if self.keys is not None and self.keys.high is not None:
            return None
        if by_parts and self.last < PARTS:
            return Position(self.start, self.end, (self.last,))
        return Position(self.end) if self.last == PARTS else None

    def halves(self) -> tuple[Window, Window] | None:
        """Return its two halves, by time if that can be, else by hash; ``None`` if it cannot be halved."""
        middle = self.start + (self.end - self.start) // 2
        if self.is_whole and self.start < middle:
            return replace(self, end=middle), replace(self, start=middle)
        return self.hash_halves()

    def hash_halves(self) -> tuple[Window, Window] | None:
        """Return its two halves by hash, or ``None`` if it is a single part."""
        cut = (self.first + self.last) // 2
        return (replace(self, last=cut), replace(self, first=cut)) if self.first < cut else None

    def __str__(self) -> str:
        text = f"[{iso(self.start)}, {iso(self.end)})"
        if self.cell is not None:
            return f"{text} {self.cell}"
        if self.keys is not None:  # keys may be personal data
            text = f"{text} a range of keys"
        is_part = self.first > 0 or self.last < PARTS
        return f"{text} parts {self.first} to {self.last - 1} of {PARTS}" if is_part else text


@dataclass(frozen=True)
class Keys:
    """A half-open range of keys, in the order that the table is sorted by.

    :param low: the first key inside; ``None`` for all from the beginning.
    :param high: the first key after it; ``None`` for all to the end.
    """

    low: tuple[Any, ...] | None = None
    high: tuple[Any, ...] | None = None

    def to(self, other: Keys) -> Keys:
        """Return one range for this one and the one that follows it.

        :param other: the next one.
        """
        return Keys(self.low, other.high)


@dataclass(frozen=True)
class Piece:
    """A window and what the server counted in it.

    :param window: the window.
    :param rows: its rows, copies included.
    :param low: the lowest value of the column that narrows the scan, where there is one.
    :param high: the highest.
    :param groups: of a cell, the days and events that were counted in it.
    :param begun: the minutes in which the ids of its rows begin, where that is known.
    :param is_outlier: whether it holds rows that happened far from the range: they are read by their groups.
    """

    window: Window
    rows: int
    low: datetime | None = None
    high: datetime | None = None
    groups: tuple[Group, ...] = ()
    is_outlier: bool = False
    begun: tuple[Minutes, ...] = ()

    def joined(self, other: Piece) -> Piece:
        """Return one piece for this one and the one that follows it.

        :param other: the next piece.
        """
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        window = replace(self.window, end=other.window.end, last=other.window.last)
        if self.window.keys is not None and other.window.keys is not None:
            window = replace(window, keys=self.window.keys.to(other.window.keys))
        low, high = min(lows, default=None), max(highs, default=None)
        is_known = all(piece.begun or not piece.rows for piece in (self, other))
        begun = joined_runs((*self.begun, *other.begun)) if is_known else ()
        return Piece(window, self.rows + other.rows, low, high, begun=begun)


@dataclass(frozen=True)
class Position:
    """Where a reading stopped, and the next one resumes.

    :param time: all rows before this moment are safe.
    :param until: with a place, the end of the time that was read by cells.
    :param place: in the sort key, what lies before it in ``[time, until)`` is safe, too, as :meth:`.Cell.end` says; or
        the first part of the keys that is not.
    :param part: where the days are read newest part first, that of the place: the days behind it are safe, and those
        before it are not.
    """

    time: datetime
    until: datetime | None = None
    place: tuple[Any, ...] = ()
    part: Part | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        if self.until is None:
            return {"time": iso(self.time)}
        payload = {"time": iso(self.time), "until": iso(self.until), "place": list(self.place)}
        return payload if self.part is None else {**payload, "part": list(self.part)}

    @classmethod
    def from_json(cls, value: Any) -> Position:  # noqa: ANN401 - JSON
        """Read it from JSON.

        :param value: what :meth:`as_json` returned.
        :raises ValueError: if it is something else.
        """
        try:
            until = _read(value["until"]) if "until" in value else None
            place = value.get("place", [])
            Cell().after(place)
            placed = tuple(tuple(part) if isinstance(part, list) else part for part in place)
            return cls(_read(value["time"]), until, placed, _part(value.get("part")))
        except (AttributeError, LookupError, TypeError):
            raise ValueError("no position") from None


def _part(value: object) -> Part | None:
    if value is None:
        return None
    edges = [edge for edge in value if edge is None or type(edge) is int] if isinstance(value, list | tuple) else []
    if len(edges) != 2:
        raise ValueError("no position")
    return edges[0], edges[1]


def _read(text: str) -> datetime:
    moment = read_iso(text)
    if moment.tzinfo is None:
        raise ValueError("no moment")
    return moment


def iso(moment: datetime) -> str:
    """Format a moment so that PostHog reads it exactly, in any project's time zone: in UTC, with six digits and a Z.

    :param moment: aware.
    """
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def checked(name: str, moment: datetime) -> datetime:
    """Return a moment in UTC.

    :param name: the argument that it came in.
    :param moment: aware, from 1970 to 2105.
    :raises PostHogSettingsError: for any other.
    """
    remedy = "Give a datetime with its time zone, such as the run's data_interval_start."
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise PostHogSettingsError(name, "has no time zone, so that it is not a moment.", remedy)
    moment = moment.astimezone(timezone.utc)
    if not EPOCH <= moment <= LATEST:
        raise PostHogSettingsError(name, "is before 1970 or after 2105.", remedy)
    return moment.replace(fold=0)


def step_of(window: Window) -> int:
    """Return by how many seconds a window's rows are grouped when they are counted.

    :param window: the window.
    """
    return max(1, -(-int((window.end - window.start).total_seconds() + 1) // GROUPS))


def time_pieces(window: Window, groups: Iterable[tuple[datetime, Piece]], length: timedelta) -> list[Piece]:
    """Return pieces that tile a window, those without rows too.

    :param window: the window.
    :param groups: for each group that has rows, in order: when it begins, and its counts (its window is not read).
    :param length: how long a group is.
    """
    made: list[Piece] = []
    at = window.start
    for begin, piece in groups:
        start = min(max(begin, at), window.end)
        end = min(max(begin + length, start), window.end)
        if at < start:
            made.append(Piece(replace(window, start=at, end=start), 0))
        made.append(replace(piece, window=replace(window, start=start, end=end)))
        at = end
    if at < window.end or not made:
        made.append(Piece(replace(window, start=at), 0))
    return made


def hash_pieces(window: Window, counts: Sequence[tuple[int, Piece]]) -> list[Piece]:
    """Return pieces that tile a window by hash.

    :param window: the window.
    :param counts: for each part that has rows, in order: its number, and its counts (its window is not read).
    """
    if not counts:
        return [Piece(window, 0)]
    edges = [window.first, *(part for part, _ in counts[1:]), window.last]
    return [
        replace(piece, window=replace(window, first=first, last=last))
        for (_, piece), first, last in zip(counts, edges[:-1], edges[1:], strict=True)
    ]


def spans(pieces: Iterable[Piece], size: Callable[[], int]) -> Iterator[list[Piece]]:
    """Yield pieces in runs: sparse ones that fit into one window, or dense ones, to be counted finer together.

    A piece of more than an eighth of a window is dense: windows of whole pieces would be left half empty.

    :param pieces: pieces that tile a range.
    :param size: the rows of a window, asked for anew each time.
    """
    run: list[Piece] = []
    rows, dense = 0, False
    for piece in pieces:
        most = size()
        is_dense = piece.rows > most // 8
        is_full = rows + piece.rows > (most * SPAN if dense else most) or (dense and len(run) == DENSE_GROUPS)
        if run and (is_dense != dense or is_full):
            yield run
            run, rows = [], 0
        dense = is_dense
        run.append(piece)
        rows += piece.rows
    if run:
        yield run


def packed(pieces: Iterable[Piece], size: Callable[[], int]) -> Iterator[Piece]:
    """Yield pieces joined into as few windows as hold no more rows than asked for; a larger piece stays alone.

    :param pieces: pieces that tile a range.
    :param size: the rows of a window, asked for anew each time.
    """
    waiting: Piece | None = None
    for piece in pieces:
        if waiting is None:
            waiting = piece
        elif waiting.window.goes_on_in(piece.window) and waiting.rows + piece.rows <= size():
            waiting = waiting.joined(piece)
        else:
            yield waiting
            waiting = piece
    if waiting is not None:
        yield waiting


def joined(pieces: Sequence[Piece]) -> Piece:
    """Return one piece for several that follow one another.

    :param pieces: at least one.
    """
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole.joined(piece)
    return whole
