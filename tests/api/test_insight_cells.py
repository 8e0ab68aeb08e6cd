"""What is read of SQL, funnels, retention and lifecycles, and of a point's neighbours."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api.insight_values import Pick, Reading, readings
from airflow_provider_posthog.exceptions import PostHogSettingsError

NOW = datetime(2026, 11, 29, 6, tzinfo=timezone.utc)


def insight(kind: str, result: Any, **more: Any) -> dict[str, Any]:
    node = {"kind": kind, **more.pop("node", {})}
    return {"query": node, "result": result, "last_refresh": NOW.isoformat(), "timezone": "UTC", **more}


def read(found: dict[str, Any], **pick: Any) -> list[Reading]:
    return readings(found, Pick(**pick), NOW)


def value(found: dict[str, Any], **pick: Any) -> Any:
    (reading,) = read(found, **pick)
    return reading.value


SQL = insight(
    "HogQLQuery",
    [[1, "a", True], [2, "b", False]],
    columns=["n", "name", "ok"],
    types=[["n", "UInt64"], ["name", "String"], ["ok", "Bool"]],
)


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ({}, 1),
        ({"row": 1}, 2),
        ({"column": "n", "row": 1}, 2),
        ({"column": 2}, 1),
        ({"column": "ok", "row": 1}, 0),
        ({"row": 5}, None),
    ],
)
def test_a_cell_of_sql_by_row_and_column(pick: dict[str, Any], expected: Any) -> None:
    found = value(SQL, **pick)
    assert found == expected
    assert not isinstance(found, bool)


@pytest.mark.parametrize("column", [3, -1, "nope", "name"])
def test_a_column_that_is_not_there_or_no_number_is_refused(column: Any) -> None:
    with pytest.raises(PostHogSettingsError):
        read(SQL, column=column)


def steps(*counts: int, **more: Any) -> list[dict[str, Any]]:
    names = ["see", "try", "pay"]
    times = {"average_conversion_time": 30.5, "median_conversion_time": 20}
    return [{"order": index, "name": names[index], "count": each, **times, **more} for index, each in enumerate(counts)]


FUNNEL = insight("FunnelsQuery", steps(200, 50, 10))


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ({}, 5.0),
        ({"step": 1}, 100.0),
        ({"step": 2}, 25.0),
        ({"step": "pay"}, 5.0),
        ({"step": "3", "measure": "conversion_from_previous"}, 20.0),
        ({"measure": "count"}, 10),
        ({"measure": "average_seconds"}, 30.5),
        ({"measure": "median_seconds"}, 20),
    ],
)
def test_a_step_of_a_funnel(pick: dict[str, Any], expected: float) -> None:
    assert value(FUNNEL, **pick) == expected


@pytest.mark.parametrize("pick", [{"step": 4}, {"step": 0}, {"step": "buy"}, {"measure": "percent"}])
def test_a_step_or_a_measure_that_is_not_there_is_refused(pick: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError, match=r"'see', 'try', 'pay'|measure"):
        read(FUNNEL, **pick)


def test_a_funnel_that_nobody_entered_has_no_conversion() -> None:
    (found,) = read(insight("FunnelsQuery", steps(0, 0)))
    assert (found.value, found.reason) == (None, "nobody took the step before")


def test_the_parts_of_a_funnel_by_their_names() -> None:
    parts = [steps(10, 5, breakdown_value=["Chrome"]), steps(4, 1, breakdown_value=["Safari"])]
    found = insight("FunnelsQuery", parts)
    assert value(found, series="Safari") == 25.0
    assert [reading.value for reading in read(found, series=None)] == [50.0, 25.0]
    assert read(found, series="Opera")[0].value is None
    with pytest.raises(PostHogSettingsError, match="2 funnels"):
        read(found)


def test_conversion_rates_in_time_are_points_of_percent() -> None:
    node = {"funnelsFilter": {"funnelVizType": "trends"}, "interval": "day"}
    item = {"days": ["2026-11-27", "2026-11-28", "2026-11-29"], "data": [10.0, 20.0, 90.0], "label": "x"}
    (found,) = read(insight("FunnelsQuery", [item], node=node))
    assert (found.value, found.date, found.previous, found.percent) == (20.0, "2026-11-28", 10.0, True)


def cohort(day: str, *counts: Any, **more: Any) -> dict[str, Any]:
    values = [{"count": count, "label": f"Day {index}"} for index, count in enumerate(counts)]
    return {"date": f"{day}T00:00:00Z", "label": day, "values": values, **more}


RETENTION = insight(
    "RetentionQuery",
    [
        cohort("2026-11-26", 50, 10, 5, 1),
        cohort("2026-11-27", 40, 20, 1),
        cohort("2026-11-28", 8, 8),
        cohort("2026-11-29", 3),
    ],
)


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ({}, (50.0, "2026-11-27", 20.0)),  # the day after the 28th goes on
        ({"period": 2}, (10.0, "2026-11-26", None)),
        ({"period": 0}, (100.0, "2026-11-28", 100.0)),
        ({"measure": "count"}, (20, "2026-11-27", 10)),
        ({"cohort": "2026-11-26"}, (20.0, "2026-11-26", None)),
        ({"cohort": "2026-11-28"}, (None, None, None)),
        ({"period": 9}, (None, None, None)),
    ],
)
def test_a_cell_of_a_retention_is_one_that_is_over(pick: dict[str, Any], expected: Any) -> None:
    (found,) = read(RETENTION, **pick)
    assert (found.value, found.date, found.previous) == expected


def test_a_retention_from_yesterday_is_stale() -> None:
    old = {**RETENTION, "last_refresh": "2026-11-28T23:00:00Z"}
    assert read(old)[0].stale


def test_a_lifecycle_by_its_status() -> None:
    items = [
        {"label": f"$pageview - {status}", "status": status, "days": ["2026-11-28"], "data": [number], "action": {}}
        for number, status in enumerate(("new", "returning", "resurrecting", "dormant"))
    ]
    found = insight("LifecycleQuery", items)
    assert value(found, series="dormant") == 3
    assert [reading.series for reading in read(found, series=None)] == [item["label"] for item in items]


def test_a_point_knows_the_one_before_and_that_of_the_period_before() -> None:
    days = ["2026-11-27", "2026-11-28", "2026-11-29"]
    items = [
        {"label": "x", "days": days, "data": [10, 30, 1], "compare_label": "current"},
        {"label": "x", "days": ["2026-11-20"] * 3, "data": [5, 6, 7], "compare_label": "previous"},
    ]
    (found,) = read(insight("TrendsQuery", items, node={"compareFilter": {"compare": True}}))
    assert (found.value, found.previous, found.previous_date, found.period) == (30, 10, "2026-11-27", 6)


def test_a_total_has_that_of_the_period_before() -> None:
    items = [
        {"label": "x", "aggregated_value": total, "data": [], "days": [], "compare_label": which}
        for which, total in (("current", 9), ("previous", 4))
    ]
    (found,) = read(insight("TrendsQuery", items))
    assert (found.value, found.period) == (9, 4)


@pytest.mark.parametrize(
    ("dates", "stale"),
    [
        ({"date_from": "-1dStart", "date_to": "-1dEnd"}, True),
        ({"date_from": "-7d"}, True),
        ({"date_from": "mStart"}, False),
    ],
)
def test_a_total_of_a_range_that_has_moved_on_is_stale(dates: dict[str, str], stale: bool) -> None:
    item = {"label": "x", "aggregated_value": 9, "data": [], "days": []}
    found = insight("TrendsQuery", [item], node={"dateRange": dates}, last_refresh="2026-11-28T23:30:00Z")
    assert read(found)[0].stale is stale


def test_quarters_are_points_too() -> None:
    days = ["2026-04-01", "2026-07-01", "2026-10-01"]
    item = {"label": "x", "days": days, "data": [1, 2, 3]}
    (found,) = read(insight("TrendsQuery", [item], node={"interval": "quarter"}))
    assert (found.value, found.date, found.previous) == (2, "2026-07-01", 1)


@pytest.mark.parametrize("kind", ["PathsQuery", "StickinessQuery", "WebOverviewQuery"])
def test_other_kinds_are_refused(kind: str) -> None:
    with pytest.raises(PostHogSettingsError, match=kind):
        read(insight(kind, [{"a": 1}]))
