"""Until when a request has to be answered: by the calendar, or by days; once extended, and no further than the law."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.audit.deadline import Deadline, later, read_day, read_rule
from airflow_provider_posthog.exceptions import PostHogSettingsError

DAY = date(2026, 11, 29)
DATES = st.dates(date(2020, 1, 1), date(2040, 1, 1))


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2026-11-29", "2026-12-29"),
        ("2026-01-31", "2026-02-28"),
        ("2028-01-31", "2028-02-29"),
        ("2026-12-31", "2027-01-31"),
        ("2026-05-31", "2026-06-30"),
    ],
)
def test_a_month_is_one_of_the_calendar(received: str, due: str) -> None:
    deadline = Deadline.of(date.fromisoformat(received), DAY)
    assert deadline.due.isoformat() == due
    assert deadline.text() == f"It was received on {received}; it is due on {due}."


@given(DATES, st.integers(1, 24))
def test_a_month_later_is_in_that_month(start: date, months: int) -> None:
    found = later(start, months)
    assert (found.year * 12 + found.month) - (start.year * 12 + start.month) == months
    assert found.day <= start.day
    assert found.day == start.day or (found + timedelta(days=1)).day == 1


def test_days_count_from_the_receipt_or_else_from_the_search() -> None:
    assert Deadline.of(date(2026, 11, 1), DAY, 45).due == date(2026, 12, 16)
    unknown = Deadline.of(None, DAY, 45)
    assert unknown.due == DAY + timedelta(days=45)
    assert unknown.text() == "Nobody told when it was received; it is due on 2027-01-13."


@given(DATES, st.one_of(st.just("month"), st.integers(1, 366)), st.booleans(), st.booleans())
def test_a_record_gives_it_back(day: date, rule: str | int, told: bool, extend: bool) -> None:
    deadline = Deadline.of(day if told else None, day, rule)
    deadline = deadline.extended_to(None) if extend else deadline
    assert Deadline.from_facts(dict(deadline.as_facts())) == deadline


@pytest.mark.parametrize(
    "facts", [None, {}, [], "x", {"due_at": None}, {"due_at": "soon"}, {"received_at": "2026-11-29"}]
)
def test_what_is_no_deadline_is_none(facts: Any) -> None:
    assert Deadline.from_facts(facts) is None


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (8, None),
        (7, "The request is due on 2026-11-29: 7 days left."),
        (1, "The request is due on 2026-11-29: 1 day left."),
        (0, "The request is due today, 2026-11-29."),
        (-1, "The request was due on 2026-11-29, 1 day ago."),
        (-40, "The request was due on 2026-11-29, 40 days ago."),
    ],
)
def test_it_warns_within_a_week(left: int, says: str | None) -> None:
    assert Deadline(DAY).warning(DAY - timedelta(days=left)) == says


def test_it_is_extended_once_and_no_further_than_the_law_allows() -> None:
    month, days = Deadline(DAY), Deadline(DAY, rule=45)
    assert month.extended_to(None).due == date(2027, 1, 29)
    assert days.extended_to(None).due == date(2027, 1, 13)
    assert month.extended_to(date(2026, 12, 24)).due == date(2026, 12, 24)
    for deadline, until in ((month, date(2027, 1, 30)), (month, DAY), (days, date(2027, 1, 14))):
        with pytest.raises(PostHogSettingsError) as refused:
            deadline.extended_to(until)
        assert refused.value.field == "until"
    with pytest.raises(PostHogSettingsError, match="extended already"):
        month.extended_to(None).extended_to(None)


@pytest.mark.parametrize(
    ("value", "day"),
    [
        (None, None),
        ("", None),
        ("None", None),
        (DAY, DAY),
        ("2026-11-29", DAY),
        (" 2026-11-29 ", DAY),
        ("2026-11-29T23:30:00-05:00", date(2026, 11, 30)),
        (datetime(2026, 11, 29, 23, tzinfo=timezone(timedelta(hours=-5))), date(2026, 11, 30)),
        (datetime(2026, 11, 29, 23), DAY),
    ],
)
def test_days_are_read(value: Any, day: date | None) -> None:
    assert read_day("received_at", value) == day


@pytest.mark.parametrize("value", ["29.11.2026", "yesterday", "2026-13-01", 20261129, b"2026-11-29", [DAY]])
def test_what_is_no_day_is_refused(value: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        read_day("received_at", value)
    assert refused.value.field == "received_at"


@pytest.mark.parametrize("value", [0, -1, 367, 1.5, True, "year", None, "0"])
def test_what_is_no_rule_is_refused(value: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        read_rule("due_in", value)
    assert refused.value.field == "due_in"
    assert [read_rule("due_in", good) for good in ("month", 45, "45")] == ["month", 45, 45]
