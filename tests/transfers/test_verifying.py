"""Which intervals are counted again: those before this one, as far as they are not read again anyway."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.verifying import windows_before

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
MINUTES = st.integers(0, 600).map(lambda number: timedelta(minutes=number))


@given(st.integers(1, 600).map(lambda number: timedelta(minutes=number)), MINUTES, MINUTES)
def test_they_tile_the_time_between(length: timedelta, look_back: timedelta, verify_back: timedelta) -> None:
    found = windows_before(START, START + length, look_back, verify_back)
    if verify_back <= look_back:
        assert found == []
        return
    assert (found[0].end, found[-1].start) == (START - look_back, START - verify_back)
    assert all(later.start == earlier.end for later, earlier in itertools.pairwise(found))
    assert all(one.end - one.start == length for one in found[:-1])
    assert found[-1].start < found[-1].end <= found[-1].start + length


def test_nothing_is_before_1970() -> None:
    early = datetime(1970, 1, 2, tzinfo=timezone.utc)
    found = windows_before(early, early + timedelta(hours=12), timedelta(0), timedelta(days=400))
    assert [one.start.hour for one in found] == [12, 0]


def test_thousands_of_intervals_are_refused() -> None:
    minute = timedelta(minutes=1)
    assert len(windows_before(START, START + minute, timedelta(0), timedelta(hours=33))) == 33 * 60
    with pytest.raises(PostHogSettingsError) as refused:
        windows_before(START, START + minute, timedelta(0), timedelta(days=2))
    assert refused.value.field == "verify_back"
