"""Runs of a partition (Airflow 3.2): the range that a task takes from the partition's key."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.interval import has_interval, interval_of
from airflow_provider_posthog.tasks.outlets import tell_outlets


@pytest.mark.parametrize(
    ("key", "start", "end"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00", "2026-11-02T00:00:00+00:00"),
        ("2026-11-01T06", "2026-11-01T06:00:00+00:00", "2026-11-01T07:00:00+00:00"),
        ("2025-12", "2025-12-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("2026-11-01T04:00:00Z/2026-11-02T05:00:00Z", "2026-11-01T04:00:00+00:00", "2026-11-02T05:00:00+00:00"),
        ("2025", "2025-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("2025-Q4", "2025-10-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("2024-03-11 (W11)", "2024-03-11T00:00:00+00:00", "2024-03-18T00:00:00+00:00"),
        ("2026-11-01/2026-11-08", "2026-11-01T00:00:00+00:00", "2026-11-08T00:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("of_run", [False, True], ids=["in the context", "of the run"])
def test_a_partition_s_key_says_the_range(key: str, start: str, end: str, of_run: bool) -> None:
    context: dict[str, Any] = {"dag_run": SimpleNamespace(partition_key=key)} if of_run else {"partition_key": key}
    assert has_interval(context, None, None)
    assert [edge.isoformat() for edge in interval_of(context, None, None)] == [start, end]


def test_what_the_author_writes_comes_first() -> None:
    given = ("2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z")
    assert interval_of({"partition_key": "2026-11-01"}, *given)[0].month == 10


@pytest.mark.parametrize(
    "key", ["eu-west", "2026-11-01T06:30:00", "2026-13", "2026-11-31", "/", "2026-Q5", "2024-03-12 (W11)", "0000"]
)
def test_a_key_that_says_no_range_is_no_guess(key: str) -> None:
    with pytest.raises(PostHogSettingsError, match="the range of the run's partition"):
        interval_of({"partition_key": key}, None, None)


@pytest.mark.parametrize(
    ("key", "begins", "taken"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00", True),
        ("2026-11-01", "2026-11-01T01:00:00+01:00", True),
        ("2026-11-01", "2026-11-01T06:00:00+00:00", True),  # a daily DAG at six
        ("2026-11-01", "2026-11-01T00:00:00+08:00", False),
        ("2026-11-01T06", "2026-11-01T06:00:00-05:00", False),
        ("2026-11", "2026-10-31T23:00:00+00:00", False),
    ],
)
@pytest.mark.parametrize("of_run", [False, True], ids=["in the context", "of the run"])
def test_a_day_of_another_zone_than_utc_is_not_taken_for_one_of_utc(
    key: str, begins: str, taken: bool, of_run: bool
) -> None:
    """Airflow writes keys in the time zone of the timetable, and says beside it when the partition begins."""
    given = {"partition_key": key, "partition_date": datetime.fromisoformat(begins)}
    context: dict[str, Any] = {"dag_run": SimpleNamespace(**given)} if of_run else given
    if taken:
        assert interval_of(context, None, None)[0].isoformat() == "2026-11-01T00:00:00+00:00"
        return
    with pytest.raises(PostHogSettingsError, match="is of another time zone than UTC: it begins at 2026-1"):
        interval_of(context, None, None)


class Accessor:
    """What Airflow 3.2 gives for an outlet."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self.keys: list[str] = []

    def add_partitions(self, key: str) -> None:
        self.keys.append(key)


@pytest.mark.parametrize(("key", "keys"), [("2026-11-01", ["2026-11-01"]), (None, [])])
def test_the_event_of_an_outlet_is_of_the_run_s_partition(key: str | None, keys: list[str]) -> None:
    asset, accessor = SimpleNamespace(uri="posthog://us.posthog.com/1/events"), Accessor()
    events = {id(asset): accessor}
    outlets = type("Events", (), {"__getitem__": lambda self, one: events[id(one)]})()
    context = {"partition_key": key, "outlet_events": outlets}
    tell_outlets(context, [asset], {"rows": 3})
    assert (accessor.keys, accessor.extra) == (keys, {"rows": 3})
