from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.extract.page_size import FEWEST_ROWS, FIRST_ROWS, TARGET_BYTES, TARGET_SECONDS, PageSize


def test_few_rows_are_asked_for_until_it_is_known_how_long_they_are() -> None:
    """Of rows of a megabyte, as many as short ones would be too many to hold."""
    size = PageSize(10_000)
    assert size() == FIRST_ROWS
    size.saw(0, 0)
    assert size() == FIRST_ROWS
    size.saw(10, 2_000)
    assert size() == 10_000
    assert PageSize(7)() == 7


def test_long_rows_make_small_pages_at_once_and_short_ones_larger_ones_again() -> None:
    size = PageSize(10_000)
    size.saw(10, 2_000)
    assert size() == 10_000
    size.saw(100, 100 * 100_000)
    assert size() == TARGET_BYTES // 100_000
    for _ in range(30):
        size.saw(size(), size() * 200)
    assert size() == 10_000


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
    size.saw(10, 2_000)
    size.refused(9_000)
    assert size() == 4_500
    size.refused(9_500)
    assert size() == 4_500


@given(
    st.integers(1, 49_999),
    st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 10**9), st.floats(0, 100)), max_size=20),
)
def test_it_stays_in_its_bounds(most: int, answers: list[tuple[int, int, float]]) -> None:
    size = PageSize(most)
    for rows, bytes_, seconds in answers:
        size.saw(rows, bytes_, seconds)
        assert 1 <= size() <= most
