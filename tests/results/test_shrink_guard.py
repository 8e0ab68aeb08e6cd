"""What is there is not replaced by far less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard

WHAT = "analytics.events, 2026-11-01 to 2026-11-02"
counts = st.integers(0, 10_000_000)


@given(before=st.integers(1, 10_000_000), share=st.floats(0, 1))
def test_rows_are_never_replaced_by_none(before: int, share: float) -> None:
    with pytest.raises(PostHogIncompleteError, match=f"{before:,} rows are there"):
        ShrinkGuard(share).check(WHAT, before, 0)


@given(before=counts, more=counts)
def test_as_many_rows_or_more_may_take_their_place(before: int, more: int) -> None:
    ShrinkGuard(0.0).check(WHAT, before, before + more)


def test_a_first_load_of_an_empty_interval_is_fine() -> None:
    ShrinkGuard().check(WHAT, 0, 0)


def test_from_1000_rows_on_half_of_them_may_be_gone_and_no_more() -> None:
    ShrinkGuard().check(WHAT, 1_000, 500)
    with pytest.raises(PostHogIncompleteError) as raised:
        ShrinkGuard().check(WHAT, 1_000, 499)
    assert "1,000" in str(raised.value)
    assert "499" in str(raised.value)
    assert WHAT in str(raised.value)
    assert "allow_shrink=True" in str(raised.value)


def test_fewer_than_1000_rows_may_lose_all_but_one() -> None:
    ShrinkGuard().check(WHAT, 999, 1)


def test_a_smaller_share_is_stricter() -> None:
    with pytest.raises(PostHogIncompleteError):
        ShrinkGuard(0.1).check(WHAT, 1_000, 899)
    ShrinkGuard(0.1).check(WHAT, 1_000, 900)


@given(before=counts, after=counts)
def test_who_allows_it_may_replace_whatever_there_is(before: int, after: int) -> None:
    ShrinkGuard(0.0, allow_shrink=True).check(WHAT, before, after)


@pytest.mark.parametrize(("text", "expected"), [("True", True), ("true", True), ("False", False), ("", False)])
def test_templates_make_text_of_arguments(text: str, expected: bool) -> None:
    assert ShrinkGuard.of("0.25", text) == ShrinkGuard(0.25, expected)


@pytest.mark.parametrize("share", [-0.1, 1.1, "half", None, True, float("nan")])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(PostHogSettingsError, match="max_shrink"):
        ShrinkGuard.of(share)


@pytest.mark.parametrize("value", ["maybe", None, 2])
def test_what_is_no_boolean_is_refused(value: object) -> None:
    with pytest.raises(PostHogSettingsError, match="allow_shrink"):
        ShrinkGuard.of(0.5, value)
