"""Which time a transfer covers: runs of every kind, times of every form."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.interval import interval_of

BERLIN = "Europe/Berlin"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[misc, arg-type]


def run(start: Any, end: Any) -> dict[str, Any]:
    return {"data_interval_start": start, "data_interval_end": end}


@pytest.mark.parametrize("empty", [None, ""])
def test_the_run_s_interval_is_the_default(empty: Any) -> None:
    found = interval_of(run(pendulum.datetime(2026, 1, 1), pendulum.datetime(2026, 1, 2)), empty, empty)
    assert found == (utc(2026, 1, 1), utc(2026, 1, 2))
    assert [type(moment) for moment in found] == [datetime, datetime]


def test_one_edge_alone_can_be_given() -> None:
    both = run(utc(2026, 1, 1), utc(2026, 1, 2))
    assert interval_of(both, "2025-12-31T00:00:00Z", None) == (utc(2025, 12, 31), utc(2026, 1, 2))
    assert interval_of(both, None, "2026-01-01 06:00:00+01:00") == (utc(2026, 1, 1), utc(2026, 1, 1, 5))


@pytest.mark.parametrize("month", [3, 10])
def test_days_on_which_clocks_change_have_23_or_25_hours(month: int) -> None:
    day = 29 if month == 3 else 25
    aware = pendulum.datetime(2026, month, day, tz=BERLIN), pendulum.datetime(2026, month, day + 1, tz=BERLIN)
    start, end = interval_of(run(*aware), None, None)
    assert end - start == timedelta(hours=23 if month == 3 else 25)
    zone = ZoneInfo(BERLIN)
    assert interval_of({}, datetime(2026, month, day, tzinfo=zone), datetime(2026, month, day + 1, tzinfo=zone)) == (
        start,
        end,
    )


def test_the_hour_that_comes_twice_is_an_interval() -> None:
    zone = ZoneInfo(BERLIN)
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=fold) for fold in (0, 1))
    start, end = interval_of({}, first, second)
    assert end - start == timedelta(hours=1)


@pytest.mark.parametrize(
    ("context", "start", "end", "field", "text"),
    [
        ({}, None, None, "start", "the run has no data interval"),
        (run(None, None), None, None, "start", "the run has no data interval"),
        (run(utc(2026, 1, 1), None), None, None, "end", "the run has no data interval"),
        (run(utc(2026, 1, 1), utc(2026, 1, 1)), None, None, "end", "DAG without a schedule"),
        (
            run(utc(2026, 1, 1), utc(2026, 1, 1)),
            None,
            None,
            "end",
            "CronDataIntervalTimetable.*create_cron_data_intervals",
        ),
        (
            run(utc(2026, 1, 1), utc(2026, 1, 1)),
            None,
            None,
            "end",
            "DeltaDataIntervalTimetable.*create_delta_data_intervals",
        ),
        ({}, utc(2026, 1, 2), utc(2026, 1, 1), "end", "Write an earlier start, or a later end"),
        ({}, "None", utc(2026, 1, 1), "start", "'None' is not a time"),
        ({}, " ", utc(2026, 1, 1), "start", "is not a time"),
        ({}, "2026-01-01", utc(2026, 1, 2), "start", "without an offset"),
        ({}, datetime(2026, 1, 1), utc(2026, 1, 2), "start", "without an offset"),
        ({}, date(2026, 1, 1), utc(2026, 1, 2), "start", "is of the type date, which is no time"),
        ({}, 1_767_225_600, utc(2026, 1, 2), "start", "is of the type int, which is no time"),
        ({}, utc(2026, 1, 1), utc(2999, 1, 1), "end", "in the future"),
    ],
)
def test_no_interval(context: dict[str, Any], start: Any, end: Any, field: str, text: str) -> None:
    with pytest.raises(PostHogSettingsError, match=text) as refused:
        interval_of(context, start, end)
    assert refused.value.field == field


def test_a_worker_s_clock_may_be_behind_the_scheduler_s() -> None:
    end = datetime.now(timezone.utc) + timedelta(seconds=1.5)
    assert interval_of({}, utc(2026, 1, 1), end)[1] == end
    assert time.time() >= end.timestamp()


@given(st.datetimes(datetime(1971, 1, 1), datetime(2025, 1, 1), timezones=st.timezones()), st.integers(1, 10**9))
def test_text_and_time_mean_the_same(start: datetime, microseconds: int) -> None:
    first = start.astimezone(timezone.utc)
    end = first + timedelta(microseconds=microseconds)
    assert interval_of({}, start, end) == (first, end) == interval_of({}, first.isoformat(), str(end))
