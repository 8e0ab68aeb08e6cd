"""Cells: boxes of the sort key of PostHog's events. Pure: no clock, no sockets.

ClickHouse keeps events in the order of the day of their ``timestamp``, then of their ``event``, then of the hash of
their ``distinct_id``, then of the hash of their ``uuid``, and reads them in granules of some 8,000 rows. A page that
takes a slice of time out of a day touches all granules of that day; one that takes a piece of this order reads only
what it returns. A cell is such a piece: some days; or some events of one day; or a range of hashes of one event; or a
range of hashes of ``uuid`` of one hash. The cells of a reading tile the whole order, so that even a row that was not
counted lies in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: ClickHouse's key counts days in 16 bits from 1970 on: others are stored under a wrong day. Here all days before 1970
#: are one day (-1), and so are all from this one on.
LAST_DAY = 65_000
#: How many hashes there are.
HASHES = 1 << 64
#: The most groups of outliers that one statement names.
MOST_GROUPS = 100

#: An event's name, and whether the edge is after it rather than before.
Edge = tuple[str, bool]
#: What an answer holds in place of bytes that are not UTF-8.
_LOST_BYTES = re.compile("[\ufffd\ud800-\udfff]")


def order_of(edge: Edge) -> tuple[bytes, bool]:
    """Return what ClickHouse compares: bytes.

    :param edge: an event's name, and whether it is the edge after it.
    """
    return edge[0].encode("utf-8", "surrogatepass"), edge[1]


def is_exact(name: str) -> bool:
    """Return whether a name in an answer is the event's own: no condition matches one that lost bytes.

    :param name: as it was answered.
    """
    return not _LOST_BYTES.search(name)


@dataclass(frozen=True)
class Cell:
    """A box of the sort key, half-open in each direction.

    :param first_day: the first day of ``timestamp``, in days since 1970, in UTC; ``None``: from the beginning.
    :param last_day: the first day after it; ``None``: to the end.
    :param low: where its events begin; ``None``: with the first. Only of a single day.
    :param high: where they end.
    :param hashes: the first hash of ``distinct_id``, and the first one after it. Only of a single event.
    :param keys: the same of ``uuid``. Only of a single step of hashes.
    """

    first_day: int | None = None
    last_day: int | None = None
    low: Edge | None = None
    high: Edge | None = None
    hashes: tuple[int, int] = (0, HASHES)
    keys: tuple[int, int] = (0, HASHES)

    @property
    def is_day(self) -> bool:
        """Whether it lies within a single day."""
        if self.is_beyond:
            return True
        return self.first_day is not None and self.last_day is not None and self.last_day - self.first_day == 1

    @property
    def is_beyond(self) -> bool:
        """Whether its days are outside the key: its rows are not found by an index of ``timestamp``."""
        before = self.last_day is not None and self.last_day <= 0
        return before or (self.first_day is not None and self.first_day >= LAST_DAY)

    @property
    def event(self) -> str | None:
        """The only event that it holds, if there is one."""
        if self.low is None or self.high is None or self.low[0] != self.high[0]:
            return None
        return self.low[0]

    @property
    def is_hashed(self) -> bool:
        """Whether it holds only a part of an event's hashes."""
        return self.hashes != (0, HASHES) or self.keys != (0, HASHES)

    def end(self) -> list[Any]:
        """Return where it ends in the sort key, for JSON: day, event, hash and hash of ``uuid``, as far as needed."""
        place: list[Any] = []
        if self.keys[1] < HASHES:
            place = [self.hashes[0], self.hashes[1], self.keys[1]]
        elif self.hashes[1] < HASHES:
            place = [self.hashes[1]]
        day = -1 if self.first_day is None else self.first_day
        if place:
            return [day, self.event, *place]
        if self.high is not None:
            return [day, self.high]
        return [] if self.last_day is None else [self.last_day]

    def after(self, place: Sequence[Any]) -> list[Cell]:
        """Return the cells that are left of this one after a place in the sort key, in order.

        :param place: what :meth:`end` of a cell within it returned.
        :raises ValueError: if it is not such a place.
        """
        if not place:
            return []
        day, *rest = _whole(place[0], -1 if len(place) > 1 else 0, LAST_DAY), *place[1:]
        if not rest:
            return self._from(day)
        cell, left = day_of(day), self._from(day + 1) if day < LAST_DAY else []
        if isinstance(rest[0], (list, tuple)):
            return [replace(cell, low=_edge(rest[0])), *left]
        name, *hashes = _name(rest[0]), *map(_hash, rest[1:])
        event = replace(cell, low=(name, False), high=(name, True))
        others = [replace(cell, low=(name, True)), *left]
        if len(hashes) == 1:
            return [replace(event, hashes=(hashes[0], HASHES)), *others]
        first, last, key = hashes
        parts = [replace(event, hashes=(first, last), keys=(key, HASHES)), replace(event, hashes=(last, HASHES))]
        return [*(part for part in parts if part.hashes[0] < part.hashes[1]), *others]

    def _from(self, day: int) -> list[Cell]:
        """Return the cells from a day on: the days of the key, and separately those after them."""
        if self.last_day is not None:
            return [replace(self, first_day=day)] if day < self.last_day else []
        late = Cell(LAST_DAY)
        return [replace(self, first_day=day, last_day=LAST_DAY), late] if day < LAST_DAY else [late]

    def holds(self, group: Group) -> bool:
        """Return whether the rows of a group can lie in it.

        :param group: as it was counted.
        """
        day, edge = _clipped(group.day), order_of((group.name, False))
        inside = (self.first_day is None or self.first_day <= day) and (self.last_day is None or day < self.last_day)
        hashed = self.hashes[0] <= group.hashes[0] <= group.hashes[1] < self.hashes[1]
        if not inside or not hashed or not is_exact(group.name):
            return inside and hashed
        return (self.low is None or order_of(self.low) <= edge) and (self.high is None or edge < order_of(self.high))

    def __str__(self) -> str:
        days = [_iso(day) if day is not None else "" for day in (self.first_day, self.last_day)]
        text = f"days {days[0]}..{days[1]}"
        if self.event is not None or self.low or self.high:
            # An event's name can be any text, so it is not shown.
            text += " of one event" if self.event is not None else " of some events"
        if self.is_hashed:
            text += f" (hashes {self.hashes[0]:x} to {self.hashes[1]:x}, {self.keys[0]:x} to {self.keys[1]:x})"
        return text


def day_of(day: int) -> Cell:
    """Return the cell of a day; all days before the key are one, and so are all after it.

    :param day: days since 1970.
    """
    return Cell(None if day < 0 else min(day, LAST_DAY), None if day >= LAST_DAY else max(day, -1) + 1)


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError("no place")
    return value


def _hash(value: object) -> int:
    return _whole(value, 0, HASHES)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no place")
    return value


def _edge(value: Sequence[Any]) -> Edge:
    name, is_after = value
    if not isinstance(is_after, bool):
        raise ValueError("no place")
    return _name(name), is_after


def _iso(day: int) -> str:
    return f"{EPOCH + timedelta(days=day):%Y-%m-%d}"


@dataclass(frozen=True)
class Group:
    """The rows of one event on one day, as the server counted them.

    :param day: days since 1970.
    :param name: the event.
    :param rows: how many.
    :param low: the lowest ``timestamp``.
    :param high: the highest.
    :param hashes: the lowest and the highest hash of ``distinct_id``.
    """

    day: int
    name: str
    rows: int
    low: datetime
    high: datetime
    hashes: tuple[int, int]

    def joined(self, other: Group) -> Group:
        """Return one group for this one and another one of the same event and day.

        :param other: the other one.
        """
        hashes = min(self.hashes[0], other.hashes[0]), max(self.hashes[1], other.hashes[1])
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Group(self.day, self.name, self.rows + other.rows, low, high, hashes)


def merged(groups: Iterable[Group]) -> list[Group]:
    """Return groups in the order of the sort key, those of one event on one day as one.

    :param groups: of names that are exact, in any order.
    """
    by_name: dict[tuple[int, str], Group] = {}
    for group in groups:
        place = (group.day, group.name)
        by_name[place] = by_name[place].joined(group) if place in by_name else group
    return [by_name[place] for place in sorted(by_name, key=lambda place: (place[0], order_of((place[1], False))))]


@dataclass(frozen=True)
class Box:
    """A cell, and what was counted in it."""

    cell: Cell
    groups: tuple[Group, ...] = ()
    is_outlier: bool = False

    @property
    def rows(self) -> int:
        """How many rows."""
        return sum(group.rows for group in self.groups)


def boxes(cell: Cell, groups: Iterable[Group], home: tuple[int, int], size: Callable[[], int]) -> Iterator[Box]:
    """Yield cells that tile one, in order: none has more rows than a page, except events that have more on one day.

    :param cell: what is tiled.
    :param groups: all that was counted in it.
    :param home: the first day on which most rows are expected, and the first day after; others hold outliers, which are
        read by themselves.
    :param size: the rows of a page, asked for anew each time.
    """
    days: dict[int, list[Group]] = {}
    for group in groups:
        days.setdefault(_clipped(group.day), []).append(group)
    if cell.is_day:
        yield from _events(cell, [group for of_day in days.values() for group in of_day], size)
        return
    at, done = cell.first_day, False
    for run, dense in _runs(days, home, size):
        first, last = min(run), max(run) + 1
        day = day_of(first)
        if dense or day.is_beyond:
            if day.first_day is not None and (at is None or at < day.first_day):
                yield Box(replace(cell, first_day=at, last_day=day.first_day))
            yield from _events(day, run[first], size)
        else:
            whole = tuple(group for day in sorted(run) for group in run[day])
            yield Box(replace(cell, first_day=at, last_day=last), whole, not home[0] <= first < home[1])
        at, done = last, last > LAST_DAY
    if not done and (at is None or at != cell.last_day):
        yield Box(replace(cell, first_day=at))


def _clipped(day: int) -> int:
    """Return a day of the key: those before 1970 and those after it are one day each."""
    return min(max(day, -1), LAST_DAY)


def _runs(
    days: Mapping[int, list[Group]], home: tuple[int, int], size: Callable[[], int]
) -> Iterator[tuple[dict[int, list[Group]], bool]]:
    """Yield days that are read together, and whether they are a single one that is too much for a page."""
    run: dict[int, list[Group]] = {}
    rows, kind = 0, LAST_DAY
    for day in sorted(days):
        groups, most = days[day], size()
        more = sum(group.rows for group in groups)
        is_key = 0 <= day < LAST_DAY
        outlier = is_key and not home[0] <= day < home[1]
        # Those that are on no day of the key are read by themselves, as no index helps to find them.
        own_kind = LAST_DAY + 1 + outlier if is_key else day
        named = sum(len(of_day) for of_day in run.values()) + len(groups)
        is_full = rows + more > most or own_kind != kind or (outlier and named > MOST_GROUPS)
        if run and is_full:
            yield run, False
            run, rows = {}, 0
        if more > most or (outlier and len(groups) > MOST_GROUPS):
            yield {day: groups}, True
            continue
        run[day], kind = groups, own_kind
        rows += more
    if run:
        yield run, False


def _events(cell: Cell, groups: Sequence[Group], size: Callable[[], int]) -> Iterator[Box]:
    """Yield cells that tile one of a single day."""
    units = _units(groups)
    if cell.event is not None or units is None:
        yield Box(cell, tuple(groups))
        return
    at = cell.low
    run: list[Group] = []
    for unit in units:
        most, rows, name = size(), sum(group.rows for group in unit), unit[0].name
        dense = rows > most and is_exact(name)
        if run and (dense or sum(group.rows for group in run) + rows > most):
            until = _between(run[-1].name, name, at_next=dense)
            if until is not None:
                yield Box(replace(cell, low=at, high=until), tuple(run))
                at, run = until, []
        if not dense:
            run += unit
            continue
        before, until = (name, False), (name, True)
        if at != before:
            yield Box(replace(cell, low=at, high=before))
        yield Box(replace(cell, low=before, high=until), tuple(unit))
        at = until
    if run or at != cell.high or at is None:
        yield Box(replace(cell, low=at), tuple(run))


def _units(groups: Sequence[Group]) -> list[list[Group]] | None:
    """Return the groups of each event, in order; ``None`` if their order is not known.

    Names that lost bytes stay where the server put them, each by itself.
    """
    if all(is_exact(group.name) for group in groups):
        names: dict[str, list[Group]] = {}
        for group in groups:
            names.setdefault(group.name, []).append(group)
        return [names[name] for name in sorted(names, key=lambda name: order_of((name, False)))]
    return [[group] for group in groups] if len({group.day for group in groups}) == 1 else None


def _between(low: str, high: str, *, at_next: bool) -> Edge | None:
    """Return an edge between two consecutive events; ``None`` if no condition can express it."""
    if at_next or not is_exact(low):
        return (high, False) if is_exact(high) else None
    return low, True


def hash_boxes(
    cell: Cell, counts: Sequence[tuple[int, int]], step: int, size: Callable[[], int], *, by_key: bool
) -> Iterator[tuple[Cell, int]]:
    """Yield cells that tile one by hash, with their rows; a step that holds more than a page stays alone.

    :param cell: what is tiled.
    :param counts: for each step that has rows, in order: its number and its rows.
    :param step: how many hashes a step has.
    :param size: the rows of a page.
    :param by_key: by the hashes of ``uuid``, rather than by those of ``distinct_id``.
    """
    first, last = cell.keys if by_key else cell.hashes

    def box(low: int, high: int) -> Cell:
        return replace(cell, keys=(low, high)) if by_key else replace(cell, hashes=(low, high))

    at, rows, until = first, 0, first
    for number, more in counts:
        begin, end = max(number * step, first), min((number + 1) * step, last)
        dense = more > size()
        if rows and (dense or rows + more > size()):
            cut = begin if dense else until
            yield box(at, cut), rows
            at, rows = cut, 0
        if dense:
            if at < begin:
                yield box(at, begin), 0
            yield box(begin, end), more
            at, rows = end, 0
        else:
            rows += more
        until = end
    if rows or at < last:
        yield box(at, last), rows
