"""What a project tells of its events' retention, and what is decided by it."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogServerError,
    PostHogSettingsError,
)
from airflow_provider_posthog.results import retention as module
from airflow_provider_posthog.results.retention import Retention, check, check_open, months_later, retention_of
from airflow_provider_posthog.results.retention_guard import RetentionGuard

UTC = timezone.utc
NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
FLOOR = datetime(2025, 11, 29, 12, 0, 1, tzinfo=UTC)  # of 12 months; a Date is rounded down
DAY = timedelta(days=1)


def told(**fields: Any) -> Retention:
    names = {"months": "event_retention_months", "enforced": "events_retention_enforced"}
    return retention_of({names.get(name, name): value for name, value in fields.items()}, NOW)


# What is read.


@pytest.mark.parametrize(
    ("months", "enforced", "expected"),
    [
        (12, True, (12, True)),
        (84, False, (84, False)),
        ("12", "true", (12, True)),
        (12.0, "False", (12, False)),
        (12, 1, (12, True)),
        (12, None, (12, None)),
        (12, "perhaps", (12, None)),
        (12, [], (12, None)),
        # PostHog takes seven years where it enforces and has no months
        (None, True, (84, True)),
        (0, True, (84, True)),
        (None, False, (None, False)),
        (None, None, (None, None)),
        ("abc", True, (None, True)),
        (-1, True, (None, True)),
        (True, True, (None, True)),
        (False, True, (None, True)),
        (1.5, True, (None, True)),
        (float("nan"), True, (None, True)),
        ({}, {}, (None, None)),
        ("9" * 5000, True, (None, True)),
    ],
)
def test_fields_of_any_kind_are_read_or_taken_for_nothing(months: Any, enforced: Any, expected: Any) -> None:
    found = told(months=months, enforced=enforced)
    assert (found.months, found.enforced) == expected
    assert bool(found.unknown) == (found.months is None)


def test_a_server_without_the_fields_says_so() -> None:
    assert "does not say" in told().unknown
    assert "cannot be read" in told(months="soon", enforced=True).unknown


FIELDS = st.sampled_from(["event_retention_months", "events_retention_enforced", "timezone"])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.dictionaries(FIELDS, VALUES))
def test_whatever_a_server_tells_nothing_breaks(project: dict[str, Any]) -> None:
    found = retention_of(project, NOW)
    assert found.floor is None or found.floor < NOW
    assert isinstance(check(NOW - DAY, NOW, found), (str, type(None), PostHogIncompleteError))
    assert set(found.as_json()) == {"event_retention_months", "events_retention_enforced", "floor"}


# The floor.


def test_the_floor_goes_back_by_the_calendar() -> None:
    assert told(months=12, enforced=True).floor == FLOOR
    leap = retention_of({"event_retention_months": 12}, datetime(2024, 2, 29, tzinfo=UTC)).floor
    assert leap == datetime(2023, 2, 28, 0, 0, 1, tzinfo=UTC)
    short = retention_of({"event_retention_months": 1}, datetime(2026, 3, 31, tzinfo=UTC)).floor
    assert short == datetime(2026, 2, 28, 0, 0, 1, tzinfo=UTC)


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
    st.integers(1, 200),
    st.sampled_from(["UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_the_later_floor_of_both_calendars_counts(now: datetime, months: int, zone: str) -> None:
    at = now.replace(tzinfo=UTC)
    floor = retention_of({"event_retention_months": months, "timezone": zone}, at).floor
    assert floor is not None
    for each in (UTC, ZoneInfo(zone)):
        assert floor >= months_later(at.astimezone(each), -months)
    assert floor < at


def test_a_floor_before_all_years_hides_nothing() -> None:
    ancient = told(months=10**7, enforced=True)
    assert ancient.floor is None
    assert check(datetime(1970, 1, 1, tzinfo=UTC), NOW, ancient) is None


def test_dates_of_queries_are_read_from_the_project() -> None:
    there = told(months=12, enforced=True, timezone="America/New_York")
    assert there.moment_of("2026-11-01") == datetime(2026, 11, 1, 4, tzinfo=UTC)
    assert there.moment_of("2026-11-01T00:00:00Z") == datetime(2026, 11, 1, tzinfo=UTC)
    assert there.moment_of("-24h") == NOW - DAY
    assert there.moment_of("-7d") == datetime(2026, 11, 22, 5, tzinfo=UTC)
    assert there.moment_of("-1y") == datetime(2025, 11, 29, 5, tzinfo=UTC)
    month_start = there.moment_of("mStart")
    assert month_start is not None
    assert month_start <= datetime(2026, 11, 1, 4, tzinfo=UTC)
    for nothing in ("all", "", None, 7, "-999999y", "yesterday"):
        assert there.moment_of(nothing) is None


# The decision.

RETENTIONS = {
    "enforced": told(months=12, enforced=True),
    "not enforced": told(months=12, enforced=False),
    "perhaps enforced": told(months=12, enforced=None),
    "no scope": Retention(None, None, NOW, unknown="the key lacks the scope project:read"),
    "no fields": told(),
    "nonsense": told(months="soon", enforced="maybe"),
}
INTERVALS = {
    "before": (FLOOR - 40 * DAY, FLOOR - 39 * DAY),
    "up to the floor": (FLOOR - DAY, FLOOR),
    "across": (FLOOR - DAY, FLOOR + DAY),
    "at the floor": (FLOOR, FLOOR + DAY),
    "near": (FLOOR + 20 * DAY, FLOOR + 21 * DAY),
    "recent": (NOW - DAY, NOW),
}
HIDDEN = ("before", "up to the floor", "across", "at the floor")


def expected(retention: str, interval: str, choice: str) -> str:
    if choice == "ignore" or interval == "recent" or retention in ("no scope", "no fields", "nonsense"):
        return "nothing"
    return "error" if retention == "enforced" and interval in HIDDEN and choice == "fail" else "warning"


@pytest.mark.parametrize("choice", module.CHOICES)
@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("retention", RETENTIONS)
def test_what_is_decided(retention: str, interval: str, choice: str) -> None:
    found = check(*INTERVALS[interval], RETENTIONS[retention], choice)
    kind = "nothing" if found is None else "warning" if isinstance(found, str) else "error"
    assert kind == expected(retention, interval, choice)


def test_the_error_names_the_floor_the_interval_and_the_way_out() -> None:
    error = check(*INTERVALS["across"], RETENTIONS["enforced"])
    assert isinstance(error, PostHogIncompleteError)
    for part in ("2025-11-29 12:00", "2025-11-28 12:00 to 2025-11-30 12:00", "12 months", "on_retention='warn'"):
        assert part in str(error)
    assert "only a part" in str(error)
    assert "none of" in str(check(*INTERVALS["before"], RETENTIONS["enforced"]))
    assert "only a part" in str(check(FLOOR - DAY, None, RETENTIONS["enforced"]))


def test_a_warning_says_from_when_on_they_are_hidden() -> None:
    start = FLOOR + 20 * DAY
    text = str(check(start, start + DAY, RETENTIONS["enforced"]))
    assert f"{months_later(start, 12):%Y-%m-%d %H:%M}" in text
    assert "would hide" in str(check(start, start + DAY, RETENTIONS["not enforced"]))
    assert "not enforced yet" in str(check(FLOOR - DAY, FLOOR, RETENTIONS["not enforced"]))
    assert "does not say" in str(check(FLOOR - DAY, FLOOR, RETENTIONS["perhaps enforced"]))


def test_without_an_interval_it_is_said_where_it_is_enforced() -> None:
    found = {name: check_open(retention) for name, retention in RETENTIONS.items()}
    assert "2025-11-29 12:00" in str(found.pop("enforced"))
    assert set(found.values()) == {None}
    assert check_open(RETENTIONS["enforced"], "ignore") is None


# One task.


class Asked:
    """Answers what it was told to, and counts."""

    def __init__(self, answer: Retention | Exception) -> None:
        self.answer = answer
        self.count = 0

    def __call__(self) -> Retention:
        self.count += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def guard(answer: Retention | Exception, choice: Any = "fail") -> tuple[RetentionGuard, Asked]:
    asked = Asked(answer)
    return RetentionGuard(choice, asked, logging.getLogger("tests.retention")), asked


@pytest.mark.parametrize("choice", ["", None, True, "never", "None", ["fail"]])
def test_another_choice_is_refused(choice: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="on_retention: is not known"):
        guard(RETENTIONS["enforced"], choice)


def test_a_template_may_leave_blanks() -> None:
    one, _ = guard(RETENTIONS["enforced"], " Ignore\n")
    one.check(*INTERVALS["before"])


def test_posthog_is_asked_once_and_each_thing_said_once(caplog: pytest.LogCaptureFixture) -> None:
    one, asked = guard(RETENTIONS["not enforced"])
    for _ in range(3):
        one.check(*INTERVALS["before"])
        one.check(*INTERVALS["near"])
        one.check_open()
        one.again()
    assert asked.count == 1
    assert len(caplog.records) == 1
    assert caplog.records[0].levelname == "WARNING"


@pytest.mark.parametrize("retention", ["no scope", "no fields", "nonsense"])
def test_what_is_not_known_is_said_once_and_the_task_goes_on(retention: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one, asked = guard(RETENTIONS[retention])
    for _ in range(2):
        one.check(*INTERVALS["before"])
        one.check_open()
    assert asked.count == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"Whether PostHog hides old events is not known: {RETENTIONS[retention].unknown}."
    ]


def test_ignored_it_is_not_asked_for() -> None:
    one, asked = guard(RETENTIONS["enforced"], "ignore")
    one.check(*INTERVALS["before"])
    one.check_open()
    one.check_node({"kind": "EventsQuery", "after": "2000-01-01"})
    assert asked.count == 0


def test_a_server_in_trouble_ends_only_what_would_have_failed() -> None:
    trouble = PostHogServerError(method="GET", path="/", status=503)
    one, _ = guard(trouble)
    with pytest.raises(PostHogServerError):
        one.check(*INTERVALS["recent"])
    other, _ = guard(trouble, "warn")
    other.check(*INTERVALS["before"])


def test_an_interval_that_is_hidden_while_it_is_read_fails_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    one, asked = guard(RETENTIONS["enforced"])
    one.check(FLOOR + timedelta(minutes=30), FLOOR + DAY)
    one.again()
    later = module_clock() + 3600.0
    monkeypatch.setattr("airflow_provider_posthog.results.retention_guard.time.monotonic", lambda: later)
    with pytest.raises(PostHogIncompleteError, match="2025-11-29 13:00"):
        one.again()
    assert asked.count == 1


def module_clock() -> float:
    import time

    return time.monotonic()


@pytest.mark.parametrize(
    ("node", "outcome"),
    [
        ({"kind": "EventsQuery", "after": "2020-01-01"}, "error"),
        ({"kind": "EventsQuery", "after": "2020-01-01", "before": "2020-02-01"}, "error"),
        ({"kind": "EventsQuery", "after": "-5y"}, "error"),
        ({"kind": "EventsQuery", "after": "all"}, "warning"),
        ({"kind": "EventsQuery", "before": "2020-01-01"}, "nothing"),
        ({"kind": "EventsQuery"}, "nothing"),
        ({"kind": "EventsQuery", "after": "-7d"}, "nothing"),
        ({"kind": "HogQLQuery", "query": "SELECT 1 FROM events"}, "warning"),
        ({"kind": "HogQLQuery", "query": "SELECT 1 FROM persons"}, "nothing"),
        ({"kind": "TrendsQuery", "series": []}, "nothing"),
        ({"kind": "TrendsQuery", "dateRange": {"date_from": "2020-01-01"}}, "error"),
        ({"kind": "TrendsQuery", "dateRange": {"date_from": "all"}}, "warning"),
        ({"kind": "FunnelsQuery", "dateRange": None}, "nothing"),
        ({"kind": "PersonsNode"}, "nothing"),
        ({"kind": None, "dateRange": {"date_from": "2020-01-01"}}, "nothing"),
    ],
)
def test_query_nodes(node: dict[str, Any], outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    one, _ = guard(RETENTIONS["enforced"])
    if outcome == "error":
        with pytest.raises(PostHogIncompleteError):
            one.check_node(node)
        return
    one.check_node(node)
    assert ["warning"] * len(caplog.records) == ([outcome] if outcome == "warning" else [])
