from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.call import MAX_BYTES
from airflow_provider_posthog.extract.page_size import (
    FEWEST_ROWS,
    FIRST_ROWS,
    IN_MEMORY,
    LONG_SECONDS,
    TARGET_BYTES,
    TARGET_COMING,
    TARGET_SECONDS,
    PageSize,
)


def test_the_first_page_is_small_while_no_row_was_seen() -> None:
    size = PageSize(49_999)
    assert size() == FIRST_ROWS
    size.saw(0, 500, 0.1)
    assert size() == FIRST_ROWS, "an answer without rows says nothing of rows"
    size.saw(10, 10 * 200)
    assert size() == 49_999


def test_long_rows_make_small_pages_at_once_and_short_ones_larger_ones_again() -> None:
    size = PageSize(10_000)
    size.saw(100, 100 * 100_000)
    assert size() == TARGET_BYTES // 100_000
    for _ in range(30):
        size.saw(size(), size() * 200)
    assert size() == 10_000


def test_answers_that_take_long_to_come_make_small_pages() -> None:
    size = PageSize(10_000)
    size.saw(10_000, 1, 0.1, TARGET_COMING + 1)
    assert size() == 7_000
    size.saw(7_000, 1, 0.1, TARGET_COMING * 0.75)
    assert size() == 7_000
    size.saw(7_000, 1, 0.1, TARGET_COMING * 0.1)
    assert size() == 7_700


def test_pages_come_near_to_what_was_refused_only_slowly() -> None:
    size = PageSize(40_000)
    size.saw(10, 10)
    size.refused(20_000)
    pages = 0
    while size() < 20_000:
        size.saw(size(), 1, 0.1)
        pages += 1
    assert pages > 20


def test_slow_pages_make_small_ones() -> None:
    size = PageSize(10_000)
    size.saw(10_000, 1, TARGET_SECONDS + 1)
    assert size() == 7_000
    for _ in range(100):
        size.saw(size(), 1, TARGET_SECONDS + 1)
    assert size() == FEWEST_ROWS
    size.saw(10, 1, 0.1)
    assert size() > FEWEST_ROWS


def test_what_was_refused_is_not_asked_for_again() -> None:
    size = PageSize(10_000)
    size.saw(10, 10)
    size.refused(9_000)
    assert size() == 4_500
    size.refused(9_500)
    assert size() == 4_500


class Left:
    """What is left of the limits, as it is told here."""

    def __init__(self, size: float | None = None, *, short: bool = False) -> None:
        self.size = size
        self.short = short

    def bytes_left(self) -> float | None:
        return self.size

    def is_short(self, rows: int) -> bool:
        return self.short


def test_pages_share_memory_where_many_are_on_their_way() -> None:
    for in_flight in (1, 3, 8, 32):
        size = PageSize(49_999, in_flight)
        size.saw(10, 10 * 10_000)
        assert size() * 10_000 * (in_flight + 2) <= IN_MEMORY
        assert size() <= TARGET_BYTES // 10_000


def test_answers_that_are_longer_than_expected_are_left_and_make_small_pages_but_not_for_good() -> None:
    for in_flight in (3, 32):
        size = PageSize(49_999, in_flight)
        size.saw(10, 10 * 500)
        most = size.most_bytes(49_999)
        assert most * min(in_flight, 3) <= 400_000_000
        assert most > 1.5 * size.fitting() * 500, "those that are expected fit"
        assert size.most_bytes(FEWEST_ROWS) == MAX_BYTES, "a few may be as long as PostHog lets them be"
        size.overran(40_000)
        assert size() * most / 40_000 <= most / 2
        for _ in range(30):
            size.saw(size(), size() * 500)
        assert size() > 10_000


def test_what_is_left_of_the_bytes_is_for_as_many_pages_as_run_at_once() -> None:
    left = Left(3_000_000_000.0)
    size = PageSize(49_999, left=left)
    size.saw(10, 10_000, read=10_000_000)
    assert size() == 49_999, "few rows have much read around them, which says nothing of many"
    size.saw(10_000, 1, read=500_000_000)
    assert size() == 18_000
    assert size.reads(20_000) == 1_000_000_000
    assert size.fitting() == 49_999, "a window that is planned is not read twice for it"
    left.size = -5.0
    assert size() == FIRST_ROWS, "smaller ones would use up the requests"
    left.size = None
    assert size() == 49_999


def test_pages_may_take_longer_where_requests_are_short() -> None:
    left = Left(short=True)
    size = PageSize(10_000, left=left)
    size.saw(10_000, 1, (TARGET_SECONDS + LONG_SECONDS) / 2)
    assert size() == 10_000
    left.short = False
    size.saw(10_000, 1, (TARGET_SECONDS + LONG_SECONDS) / 2)
    assert size() == 7_000


@given(
    st.integers(1, 49_999),
    st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 10**9), st.floats(0, 100)), max_size=20),
)
def test_it_stays_in_its_bounds(most: int, answers: list[tuple[int, int, float]]) -> None:
    size = PageSize(most)
    for rows, bytes_, seconds in answers:
        size.saw(rows, bytes_, seconds)
        assert 1 <= size() <= most
