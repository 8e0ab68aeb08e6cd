"""Which number of an insight is its newest, and when it has none."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.insight_values import Reading, newest, number
from airflow_provider_posthog.exceptions import PostHogSettingsError

UTC = timezone.utc


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _trend(days: list[str], data: list[Any], calculated: str, **more: Any) -> dict[str, Any]:
    return _insight([{"label": "$pageview", "days": days, "data": data, "action": {}}], calculated, **more)


def _insight(
    result: Any, calculated: str | None, *, interval: str | None = "day", zone: str | None = "UTC", **node: Any
) -> dict[str, Any]:
    source = {"kind": "TrendsQuery", "interval": interval, **node}
    return {
        "query": {"kind": "InsightVizNode", "source": source},
        "result": result,
        "last_refresh": calculated,
        "timezone": zone,
    }


def _sql(result: Any, types: Any = None, **more: Any) -> dict[str, Any]:
    query = {"kind": "DataVisualizationNode", "source": {"kind": "HogQLQuery", "query": "select 1"}}
    return {"query": query, "result": result, "types": types, **more}


def _value(insight: Any, series: int | str = 0, at: str | None = None) -> Any:
    return newest(insight, series, None if at is None else _at(at)).value


DAYS = ["2026-11-19", "2026-11-20", "2026-11-21", "2026-11-22"]


@pytest.mark.parametrize(
    ("calculated", "expected"),
    [
        ("2026-11-22T00:00:00Z", ("2026-11-21", 3)),  # the day before has just ended
        ("2026-11-22T23:59:59.999999Z", ("2026-11-21", 3)),
        ("2026-11-21T23:59:59.999999Z", ("2026-11-20", 2)),
        ("2026-11-23T00:00:00Z", ("2026-11-22", 4)),
        ("2027-11-23T00:00:00Z", ("2026-11-22", 4)),
    ],
)
def test_the_day_that_goes_on_is_left_out(calculated: str, expected: tuple[str, int]) -> None:
    found = newest(_trend(DAYS, [1, 2, 3, 4], calculated), 0, _at(calculated.removesuffix("Z")))
    assert (found.date, found.value) == expected


@pytest.mark.parametrize(
    ("interval", "days", "calculated", "expected"),
    [
        ("minute", ["2026-11-22 05:00:00", "2026-11-22 05:01:00"], "2026-11-22T05:01:59Z", 1),
        ("hour", ["2026-11-22 04:00:00", "2026-11-22 05:00:00"], "2026-11-22T05:59:59Z", 1),
        ("hour", ["2026-11-22 04:00:00", "2026-11-22 05:00:00"], "2026-11-22T06:00:00Z", 2),
        ("week", ["2026-11-08", "2026-11-15"], "2026-11-21T23:00:00Z", 1),
        ("week", ["2026-11-08", "2026-11-15"], "2026-11-22T00:00:00Z", 2),
        ("month", ["2026-01-01", "2026-02-01"], "2026-02-28T23:59:59Z", 1),
        ("month", ["2026-01-01", "2026-02-01"], "2026-03-01T00:00:00Z", 2),
        ("month", ["2026-11-01", "2026-12-01"], "2026-12-31T23:59:59Z", 1),
        ("month", ["2026-11-01", "2026-12-01"], "2027-01-01T00:00:00Z", 2),
        (None, ["2026-11-20", "2026-11-21"], "2026-11-21T12:00:00Z", 1),  # PostHog's default is by day
    ],
)
def test_each_interval(interval: str | None, days: list[str], calculated: str, expected: int) -> None:
    assert _value(_trend(days, [1, 2], calculated, interval=interval)) == expected


def test_what_was_calculated_says_its_interval_better_than_the_query() -> None:
    item = {"days": ["2026-11-01", "2026-11-08"], "data": [1, 2], "filter": {"interval": "week"}, "label": "x"}
    assert _value(_insight([item], "2026-11-14T12:00:00Z", interval="day")) == 1


def test_the_project_s_own_midnight_ends_the_day() -> None:
    days = ["2026-11-20", "2026-11-21"]
    for zone, utc_midnight in (("Asia/Tokyo", "2026-11-21T15:00:00"), ("America/New_York", "2026-11-22T05:00:00")):
        before = _at(utc_midnight) - timedelta(seconds=1)
        assert _value(_trend(days, [1, 2], before.isoformat(), zone=zone)) == 1
        assert _value(_trend(days, [1, 2], utc_midnight + "Z", zone=zone)) == 2


@pytest.mark.parametrize("zone", [None, "", "Mars/Olympus", "../etc/passwd"])
def test_without_the_project_s_time_zone_no_day_ends_too_soon(zone: str | None) -> None:
    days = ["2026-11-20", "2026-11-21"]
    assert _value(_trend(days, [1, 2], "2026-11-22T11:59:59Z", zone=zone)) == 1
    assert _value(_trend(days, [1, 2], "2026-11-22T12:00:00Z", zone=zone)) == 2


def test_an_hour_that_is_there_twice_ends_at_its_second_end() -> None:
    """01:00 to 02:00 happens twice on the day that clocks go back."""
    days = ["2026-11-01 00:00:00", "2026-11-01 01:00:00"]
    zone = "America/New_York"  # at 06:00 UTC the second 01:00 begins
    assert _value(_trend(days, [1, 2], "2026-11-01T06:30:00Z", zone=zone, interval="hour")) == 1
    assert _value(_trend(days, [1, 2], "2026-11-01T07:00:00Z", zone=zone, interval="hour")) == 2


def test_days_with_an_offset() -> None:
    days = ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"]
    assert _value(_trend(days, [1, 2], "2026-11-21T12:00:00Z")) == 1


def test_a_point_that_ended_only_after_the_calculation_is_not_complete() -> None:
    """The cache of five to midnight says nothing of the whole day."""
    insight = _trend(DAYS, [1, 2, 3, 4], "2026-11-21T23:55:00Z")
    found = newest(insight, 0, _at("2026-11-22T00:05:00"))
    assert (found.value, found.stale) == (None, True)
    assert "2026-11-21" in found.reason
    found = newest(insight, 0, _at("2026-11-21T23:55:01"))
    assert (found.value, found.date, found.stale) == (2, "2026-11-20", False)


def test_a_range_that_ended_long_ago_has_its_last_point() -> None:
    assert _value(_trend(DAYS, [1, 2, 3, 4], "2026-12-01T00:00:00Z"), at="2026-12-01T00:00:00") == 4


def test_a_last_refresh_after_the_answer_is_not_believed() -> None:
    assert _value(_trend(DAYS, [1, 2, 3, 4], "2030-01-01T00:00:00Z"), at="2026-11-22T12:00:00") == 3


@pytest.mark.parametrize(
    "insight",
    [
        _trend(DAYS, [1, 2, None, 4], "2026-11-22T12:00:00Z"),
        _trend(DAYS[-1:], [1], "2026-11-22T12:00:00Z"),
        _trend([], [], "2026-11-22T12:00:00Z"),
        _trend(DAYS, [1, 2, 3, 4], None),
        _insight([], "2026-11-22T12:00:00Z"),
        _insight([{"aggregated_value": None, "data": [], "label": "x"}], "2026-11-22T12:00:00Z"),
        _sql([]),
        _sql([[]]),
        _sql([[None]]),
        _sql([[float("nan")]]),
        _sql([[float("inf")]]),
        _sql([["nan"]], [["n", "Float64"]]),
    ],
)
def test_no_data_is_no_number(insight: Any) -> None:
    found = newest(insight, 0, _at("2026-11-22T12:00:00"))
    assert found.value is None
    assert found.reason


@pytest.mark.parametrize("data", [[], None])
def test_a_total_is_its_value(data: Any) -> None:
    """``None`` is what a formula over totals has."""
    item = {"aggregated_value": 41.5, "data": data, "days": ["2026-11-22"], "label": "x"}
    assert newest(_insight([item], "2026-11-22T12:00:00Z"), 0, None) == Reading(41.5, reason="the trend has no total")


# Series.


def _series(*names: str, **more: Any) -> dict[str, Any]:
    items = [
        {"label": name, "days": ["2026-11-20"], "data": [index], "action": {"name": name, **more}}
        for index, name in enumerate(names)
    ]
    return _insight(items, "2026-11-22T12:00:00Z")


@pytest.mark.parametrize(("series", "expected"), [(0, 0), (1, 1), ("1", 1), ("pay", 1), ("view", 0), ("2", 2)])
def test_a_series_by_number_or_name(series: int | str, expected: int) -> None:
    assert _value(_series("view", "pay", "leave"), series) == expected


def test_a_name_of_digits_is_a_name_first() -> None:
    assert _value(_series("1", "0"), "0") == 1


def test_a_custom_name() -> None:
    assert _value(_series("view", custom_name="Views!"), "Views!") == 0


@pytest.mark.parametrize("series", [3, "3", "sign up", -1, "²", "-1"])
def test_a_series_that_is_not_there_is_refused_with_those_that_are(series: int | str) -> None:
    with pytest.raises(PostHogSettingsError, match="'view', 'pay'"):
        newest(_series("view", "pay"), series, None)


def test_two_series_of_one_name_are_refused() -> None:
    with pytest.raises(PostHogSettingsError, match="'view', the name of 2 series"):
        newest(_series("view", "view"), "view", None)
    assert _value(_series("view", "view"), 1) == 1


def test_the_period_before_is_no_series() -> None:
    items = [
        {"label": "view", "days": ["2026-11-20"], "data": [value], "compare_label": which}
        for value, which in ((1, "current"), (2, "current"), (7, "previous"), (8, "previous"))
    ]
    assert _value(_insight(items, "2026-11-22T12:00:00Z"), 1) == 2
    with pytest.raises(PostHogSettingsError):
        newest(_insight(items, "2026-11-22T12:00:00Z"), 2, None)


def _breakdown(*values: str) -> dict[str, Any]:
    items = [
        {
            "label": value,
            "breakdown_value": value,
            "days": ["2026-11-20"],
            "data": [index],
            "action": {"name": "view", "id": "view"},
        }
        for index, value in enumerate(values)
    ]
    return _insight(items, "2026-11-22T12:00:00Z")


def test_a_part_of_a_breakdown_by_its_name() -> None:
    assert _value(_breakdown("Chrome", "Firefox"), "Firefox") == 1


@pytest.mark.parametrize("series", [0, 1, "0"])
def test_a_breakdown_by_number_is_refused_as_its_order_changes(series: int | str) -> None:
    with pytest.raises(PostHogSettingsError, match="breakdown makes 2 series"):
        newest(_breakdown("Chrome", "Firefox"), series, None)


def test_a_part_without_events_is_waited_for() -> None:
    found = newest(_breakdown("Chrome"), "Firefox", None)
    assert (found.value, "Firefox" in found.reason) == (None, True)


def test_an_error_names_no_values_of_a_breakdown() -> None:
    with pytest.raises(PostHogSettingsError) as raised:
        newest(_breakdown("ann@example.org", "Bob B."), 0, None)
    assert "Bob" not in str(raised.value)


# SQL, and what is not a number.


@pytest.mark.parametrize(
    ("cell", "kind", "expected"),
    [
        (5, "UInt64", 5),
        (18446744073709551615, "UInt64", 18446744073709551615),
        (0.25, "Float64", 0.25),
        ("12.50", "Decimal(10, 2)", 12.5),
        ("-7", "Nullable(Int128)", -7),
        ("170141183460469231731687303715884105727", "Int128", 170141183460469231731687303715884105727),
        (True, "Bool", 1),
    ],
)
def test_the_first_cell(cell: Any, kind: str, expected: Any) -> None:
    found = newest(_sql([[cell, "x"], [1, "y"]], [["n", kind], ["s", "String"]]), 0, None)
    assert (found.value, found.date, type(found.value)) == (expected, None, type(expected))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("5", "String"), ("5", ""), ("ann@example.org", "Nullable(String)"), ([5], "Array(Int64)"), ({}, "")],
)
def test_what_is_no_number_is_refused_without_showing_it(cell: Any, kind: str) -> None:
    with pytest.raises(PostHogSettingsError, match="not a number") as raised:
        newest(_sql([[cell]], [["n", kind]] if kind else None), 0, None)
    assert "ann" not in str(raised.value)


@pytest.mark.parametrize("types", [None, [], [None], [[]], "x", {}])
def test_types_that_are_not_there(types: Any) -> None:
    assert newest(_sql([[3]], types), 0, None).value == 3


@pytest.mark.parametrize(
    "insight",
    [
        _insight([{"label": "x", "days": ["2026-11-20"], "data": ["many"]}], "2026-11-22T12:00:00Z"),
        _insight([{"label": "x", "days": ["Monday"], "data": [1]}], "2026-11-22T12:00:00Z"),
        _insight([{"label": "x", "days": ["2026-11-20"], "data": [1, 2]}], "2026-11-22T12:00:00Z"),
        _insight([{"label": "x", "data": [1]}], "2026-11-22T12:00:00Z"),
        _insight([{"label": "x", "days": ["2026-11-20"], "data": [1]}], "2026-11-22T12:00:00Z", interval="decade"),
        _insight({"a": 1}, "2026-11-22T12:00:00Z"),
        _insight([[1]], "2026-11-22T12:00:00Z"),
        _insight([{"count": 3}], "2026-11-22T12:00:00Z", kind="FunnelsQuery"),
        _insight([{"days": [1, 2], "data": [1, 2]}], "2026-11-22T12:00:00Z", kind="StickinessQuery"),
        {"query": None, "filters": {"insight": "RETENTION"}, "result": [{"values": []}]},
        _sql({"a": 1}),
        _sql("text"),
    ],
)
def test_an_insight_without_such_a_number_is_refused(insight: Any) -> None:
    with pytest.raises(PostHogSettingsError):
        newest(insight, 0, None)


@pytest.mark.parametrize("filters", [{"insight": "TRENDS", "interval": "hour"}, {"interval": "hour"}])
def test_an_insight_of_posthogs_first_years(filters: dict[str, Any]) -> None:
    days = ["2026-11-22 04:00:00", "2026-11-22 05:00:00"]
    item = {"label": "x", "days": days, "data": [1, 2]}
    insight = {"query": None, "filters": filters, "result": [item], "last_refresh": "2026-11-22T05:30:00Z"}
    assert _value({**insight, "timezone": "UTC"}) == 1


@given(
    start=st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)),
    seconds=st.integers(0, 40 * 86400),
    interval=st.sampled_from(["hour", "day", "week", "month"]),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Europe/London"]),
)
def test_a_point_is_only_taken_after_its_end(start: datetime, seconds: int, interval: str, zone: str) -> None:
    """Whatever the zone: the next interval's beginning has passed, and it is the newest of which that is true."""
    days, local = [], start.replace(minute=0, second=0, microsecond=0)
    if interval != "hour":
        local = local.replace(hour=0, day=1 if interval == "month" else local.day)
    for _ in range(50 if interval == "hour" else 20):
        days.append(local)
        if interval == "month":
            local = (local + timedelta(days=32)).replace(day=1)
        else:
            local += {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}[interval]
    now = (start + timedelta(seconds=seconds)).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    ended = [
        index
        for index, following in enumerate([*days[1:], local])
        if following.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) <= now
    ]
    texts = [f"{day:%Y-%m-%d %H:%M:%S}" if interval == "hour" else f"{day:%Y-%m-%d}" for day in days]
    insight = _trend(texts, list(range(len(texts))), now.isoformat(), interval=interval, zone=zone)
    assert newest(insight, 0, now).value == (ended[-1] if ended else None)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists))
def test_a_number_is_read_or_refused(value: object) -> None:
    try:
        found = number(value)
    except PostHogSettingsError:
        assert not isinstance(value, (int, float))
    else:
        assert found is None or found == value
