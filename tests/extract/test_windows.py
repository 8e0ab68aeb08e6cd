from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.windows import (
    DENSE_GROUPS,
    EPOCH,
    GROUPS,
    PARTS,
    SPAN,
    Piece,
    Window,
    checked,
    hash_pieces,
    iso,
    joined,
    packed,
    spans,
    step_of,
    time_pieces,
)

UTC = timezone.utc
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2105, 1, 1), timezones=st.just(UTC))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    first, second = draw(MOMENTS), draw(MOMENTS)
    return Window(min(first, second), max(first, second))


def tile(pieces: Sequence[Piece], window: Window) -> bool:
    """Whether pieces cover a window in order, without a gap or an overlap."""
    starts = [(piece.window.start, piece.window.first) for piece in pieces]
    if any(not piece.window.is_whole for piece in pieces):
        return (
            all(piece.window.start == window.start and piece.window.end == window.end for piece in pieces)
            and pieces[0].window.first == window.first
            and pieces[-1].window.last == window.last
            and all(a.window.last == b.window.first for a, b in pairwise(pieces))
        )
    return (
        starts == sorted(starts)
        and pieces[0].window.start == window.start
        and pieces[-1].window.end == window.end
        and all(a.window.end == b.window.start for a, b in pairwise(pieces))
    )


@given(windows(), st.lists(st.integers(0, 9999), max_size=40))
def test_pieces_of_time_tile_their_window(window: Window, at: list[int]) -> None:
    """Rows at some moments, grouped by steps as the server groups them."""
    span = window.end - window.start
    rows = sorted({window.start + span * place // 10_000 for place in at if span})
    step = step_of(window)
    counts: dict[int, int] = {}
    for row in rows:
        number = int((row - EPOCH).total_seconds() // 1) // step
        counts[number] = counts.get(number, 0) + 1
    assert len(counts) <= GROUPS + 2
    empty = Window(EPOCH, EPOCH)
    groups = [(EPOCH + timedelta(seconds=number * step), Piece(empty, count)) for number, count in counts.items()]
    pieces = time_pieces(window, groups, timedelta(seconds=step))
    assert tile(pieces, window)
    for piece in pieces:
        assert piece.window.end - piece.window.start <= timedelta(seconds=step) or piece.rows == 0
        assert piece.rows == sum(piece.window.start <= row < piece.window.end for row in rows)


@given(st.integers(0, PARTS - 2), st.sets(st.integers(0, PARTS - 1), max_size=30))
def test_pieces_of_hashes_tile_their_window(first: int, parts: set[int]) -> None:
    window = Window(EPOCH, EPOCH, first, PARTS)
    counts = [(part, Piece(window, part + 1)) for part in sorted(parts) if part >= first]
    pieces = hash_pieces(window, counts)
    assert tile(pieces, window) or (len(pieces) == 1 and pieces[0].window == window)
    for piece in pieces:
        inside = [count for part, count in counts if piece.window.first <= part < piece.window.last]
        assert piece.rows == sum(count.rows for count in inside)


def run_of(counts: Sequence[int]) -> tuple[list[Piece], Window]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=number) for number in range(len(counts) + 1)]
    pieces = [Piece(Window(a, b), rows, a, b) for a, b, rows in zip(hours[:-1], hours[1:], counts, strict=True)]
    return pieces, Window(hours[0], hours[-1])


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(1, 20))
def test_packed_pieces_tile_and_are_full(counts: list[int], most: int) -> None:
    pieces, window = run_of(counts)
    made = list(packed(pieces, lambda: most))
    assert tile(made, window)
    assert sum(piece.rows for piece in made) == sum(counts)
    assert all(piece.rows <= most or piece in pieces for piece in made)
    assert all(a.rows + b.rows > most for a, b in pairwise(made))
    for piece in made:
        assert piece.low == piece.window.start
        assert piece.high == piece.window.end


@given(st.lists(st.integers(0, 300), min_size=1), st.integers(1, 200))
def test_spans_tile_and_are_sparse_or_dense(counts: list[int], most: int) -> None:
    pieces, window = run_of(counts)
    runs = list(spans(pieces, lambda: most))
    assert [piece for run in runs for piece in run] == pieces
    assert tile([joined(run) for run in runs], window)
    for run in runs:
        dense = {piece.rows > most // 8 for piece in run}
        assert len(dense) == 1
        total = sum(piece.rows for piece in run)
        assert len(run) == 1 or total <= (most * SPAN if dense.pop() else most)


@given(windows())
def test_dense_groups_are_counted_by_finer_steps(window: Window) -> None:
    step = step_of(window)
    if step > 1:
        longest = Window(EPOCH, EPOCH + DENSE_GROUPS * timedelta(seconds=step))
        assert step_of(longest) <= step // 2


@given(windows(), st.integers(0, 60))
def test_halves_tile_until_there_is_nothing_to_halve(window: Window, turns: int) -> None:
    for turn in range(turns):
        halves = window.halves()
        if halves is None:
            assert window.last - window.first == 1
            return
        assert tile([Piece(half, 0) for half in halves], window)
        assert all(half != window for half in halves)
        window = halves[turn % 2]


def test_a_microsecond_is_halved_by_hash() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(start, start + timedelta(microseconds=1))
    halves = window.halves()
    assert halves is not None
    assert [(half.first, half.last) for half in halves] == [(0, PARTS // 2), (PARTS // 2, PARTS)]
    assert str(halves[1]).endswith("parts 16384 to 32767 of 32768")


@given(windows())
def test_steps_are_few(window: Window) -> None:
    step = step_of(window)
    seconds = (window.end - window.start).total_seconds()
    assert step >= 1
    assert seconds / step <= GROUPS
    assert step == 1 or seconds / (step - 1) > GROUPS - 2


def test_moments_are_written_for_any_time_zone() -> None:
    moment = datetime(2026, 11, 21, 8, 9, 33, 5, tzinfo=timezone(timedelta(hours=-5)))
    assert iso(moment) == "2026-11-21T13:09:33.000005Z"
    assert iso(datetime(1970, 1, 1, tzinfo=UTC)) == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "moment", [datetime(2026, 1, 1), datetime(1969, 12, 31, tzinfo=UTC), datetime(2106, 1, 2, tzinfo=UTC), "2026-01-01"]
)
def test_what_is_no_moment_is_refused(moment: datetime) -> None:
    with pytest.raises(PostHogSettingsError, match="start: "):
        checked("start", moment)
