"""The intervals of batch exports: hours, days and weeks of a time zone, on days of 23 and 25 hours, too."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.export_intervals import Schedule
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError

UTC = timezone.utc
ZONES = ["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/London", "Pacific/Apia"]
schedules = st.builds(
    Schedule,
    st.sampled_from(["hour", "day", "week", "every 5 minutes", "every 15 minutes"]),
    st.sampled_from(ZONES),
    st.integers(0, 6),
    st.integers(0, 23),
)
moments = st.datetimes(datetime(2012, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(schedules, moments)
def test_every_moment_is_in_one_interval_and_the_next_follows(schedule: Schedule, moment: datetime) -> None:
    start, end = schedule.around(moment)
    assert start <= moment < end
    assert schedule.around(start) == (start, end)
    following = schedule.around(end)
    assert following[0] == end
    assert schedule.split(start, following[1]) == [(start, end), following]


@given(schedules, moments, st.integers(1, 40))
def test_an_edge_is_written_as_posthog_reads_it(schedule: Schedule, moment: datetime, count: int) -> None:
    edge = schedule.around(moment)[0]
    text = schedule.edge(edge)
    if not schedule.by_day:
        assert datetime.fromisoformat(text) == edge
        return
    day = date.fromisoformat(text)
    local = datetime(day.year, day.month, day.day, schedule.offset_hour, tzinfo=ZoneInfo(schedule.zone))
    assert local.astimezone(UTC) == edge
    assert schedule.interval == "day" or day.isoweekday() % 7 == schedule.offset_day


@pytest.mark.parametrize(
    ("schedule", "start", "end", "hours", "days"),
    [
        (Schedule("day", "America/New_York"), "2026-03-08T05:00", "2026-03-09T04:00", 23, ("2026-03-08", "2026-03-09")),
        (Schedule("day", "America/New_York"), "2026-11-01T04:00", "2026-11-02T05:00", 25, ("2026-11-01", "2026-11-02")),
        # 02:00 is left out on that day: the interval begins when the clocks show 03:00.
        (
            Schedule("day", "America/New_York", 0, 2),
            "2026-03-08T07:00",
            "2026-03-09T06:00",
            23,
            ("2026-03-08", "2026-03-09"),
        ),
        # 01:00 is there twice: the first one counts.
        (
            Schedule("day", "America/New_York", 0, 1),
            "2026-11-01T05:00",
            "2026-11-02T06:00",
            25,
            ("2026-11-01", "2026-11-02"),
        ),
        (Schedule("day", "Asia/Kathmandu"), "2026-11-01T18:15", "2026-11-02T18:15", 24, ("2026-11-02", "2026-11-03")),
        (
            Schedule("week", "America/New_York", 1, 6),
            "2026-10-26T10:00",
            "2026-11-02T11:00",
            169,
            ("2026-10-26", "2026-11-02"),
        ),
    ],
)
def test_days_on_which_clocks_change(
    schedule: Schedule, start: str, end: str, hours: int, days: tuple[str, str]
) -> None:
    found = schedule.split(utc(start), utc(end))
    assert [last - first for first, last in found] == [timedelta(hours=hours)]
    assert (schedule.edge(utc(start)), schedule.edge(utc(end))) == days


@pytest.mark.parametrize(
    ("schedule", "start", "end", "field", "told"),
    [
        (
            Schedule("day"),
            "2026-11-01T00:00",
            "2026-11-01T06:00",
            "end",
            "2026-11-01T00:00:00Z to 2026-11-02T00:00:00Z",
        ),
        # A day of UTC is none of New York's or of Kathmandu's.
        (
            Schedule("day", "America/New_York"),
            "2026-11-01T00:00",
            "2026-11-02T00:00",
            "start",
            "2026-10-31T04:00:00Z to 2026-11-01T04:00:00Z",
        ),
        (
            Schedule("day", "Asia/Kathmandu"),
            "2026-11-01T00:00",
            "2026-11-02T00:00",
            "start",
            "2026-10-31T18:15:00Z to 2026-11-01T18:15:00Z",
        ),
        # Hours begin with those of UTC, also for a DAG in Kathmandu.
        (
            Schedule("hour", "Asia/Kathmandu"),
            "2026-11-01T18:15",
            "2026-11-01T19:15",
            "start",
            "2026-11-01T18:00:00Z to 2026-11-01T19:00:00Z",
        ),
        (
            Schedule("week", "UTC", 0),
            "2026-11-02T00:00",
            "2026-11-09T00:00",
            "start",
            "2026-11-01T00:00:00Z to 2026-11-08T00:00:00Z",
        ),
        (
            Schedule("every 15 minutes"),
            "2026-11-01T00:05",
            "2026-11-01T00:20",
            "start",
            "2026-11-01T00:00:00Z to 2026-11-01T00:15:00Z",
        ),
    ],
)
def test_a_range_that_does_not_fit_is_refused_with_the_intervals_that_there_are(
    schedule: Schedule, start: str, end: str, field: str, told: str
) -> None:
    with pytest.raises(PostHogSettingsError) as error:
        schedule.split(utc(start), utc(end))
    assert error.value.field == field
    assert told in str(error.value)


@pytest.mark.parametrize("export", [{"interval": "month"}, {"interval": "day", "timezone": "Mars/Olympus"}, {}])
def test_an_interval_that_is_not_known_is_no_guess(export: dict[str, object]) -> None:
    with pytest.raises(PostHogTransportError, match="does not know"):
        Schedule.of(export)


def test_older_servers_tell_neither_zone_nor_offset() -> None:
    assert Schedule.of({"interval": "day"}) == Schedule("day")
    assert Schedule.of({"interval": "week", "timezone": None, "offset_day": None}) == Schedule("week")


def test_a_range_of_very_many_intervals_is_refused() -> None:
    with pytest.raises(PostHogSettingsError, match="in parts"):
        Schedule("every 5 minutes").split(utc("2020-01-01T00:00"), utc("2026-01-01T00:00"))
