"""What a reading will need is said before it begins."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.forecast import Forecast
from airflow_provider_posthog.extract.reader import Extraction

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        (0, 0),
        (10_000, 0),
        (2_400_000, 0),
        (2_400_001, 60),
        (24_000_000, 540),
        (24_000_001, 3600),
        (100_000_000, 14_460),
    ],
)
def test_the_limits_let_it_end_when_the_last_query_may_go(rows: int, seconds: int) -> None:
    """240 queries a minute and 2,400 an hour, 10,000 rows each."""
    assert Forecast(rows, 10_000, 900, 1.0).seconds == seconds


@given(st.integers(0, 10**9), st.integers(1, 49_999), st.floats(0, 1))
def test_more_rows_never_end_sooner_and_a_share_of_the_limits_never_either(rows: int, page: int, share: float) -> None:
    forecast = Forecast(rows, page, 1000, share)
    assert forecast.queries * page >= rows
    assert Forecast(rows + page, page, 1000, share).seconds >= forecast.seconds
    if share:
        assert forecast.seconds >= Forecast(rows, page, 1000, 1.0).seconds


def test_the_sentence_says_rows_queries_bytes_and_the_end() -> None:
    text = Forecast(100_000_000, 10_000, 1100, 1.0).text("events", NOON)
    assert text == (
        "events: 100,000,000 rows to read, by about 10,000 queries and 110 GB; the limits (240 queries a minute and "
        "2,400 an hour) let it end at 2026-05-01 16:01 UTC at the earliest"
    )
    assert "do not slow it down" in Forecast(5, 10, 0, 1.0).text("events", NOON)
    assert "120 queries a minute" in Forecast(5, 10, 0, 0.5).text("events", NOON)
    assert "no rate limits are kept" in Forecast(10**9, 10, 0, 0.0).text("events", NOON)


def test_the_sentence_says_what_is_left_of_the_budget_of_bytes_and_when_the_rest_is_back() -> None:
    rows, row = 1_000_000, 100_000
    told = Forecast(rows, 49_999, row, 1.0, left=431e9).text("events", NOON)
    assert "PostHog reads about 150 GB for that, and 431 GB of its budget are left; the limits" in told
    assert told.endswith("do not slow it down")
    slow = Forecast(rows, 49_999, row, 1.0, left=50e9, refill=20e9 / 3600)
    assert slow.seconds == pytest.approx(5 * 3600)
    assert slow.text("events", NOON).endswith(
        "2,400 an hour, 20 GB an hour are added) let it end at 2026-05-01 17:00 UTC at the earliest"
    )
    many = Forecast(rows, 100, row, 1.0, left=50e9, refill=1e9)
    assert many.seconds == Forecast(rows, 100, row, 1.0).seconds > 0, "requests are what is short"
    unknown = Forecast(rows, 49_999, row, 1.0, left=-3.0).text("events", NOON)
    assert "0 bytes of its budget are left: the rest waits until the budget refills; the limits" in unknown
    assert unknown.endswith("alone do not slow it down")
    assert "budget" not in Forecast(rows, 49_999, row, 0.0, left=0.0).text("events", NOON)


def test_a_reading_says_it_once_and_before_its_first_rows(
    posthog: EmulatorProcess, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ClientSettings(posthog.url, posthog.api_key, int(posthog.project_id), rate_limit_share=1.0)
    end = datetime.now(timezone.utc) - timedelta(days=1)
    start = end - timedelta(days=3)
    there = posthog.count_events(start.isoformat(), end.isoformat(), "created_at")
    with caplog.at_level(logging.INFO), Extraction(settings, sources.events(), start, end, page_rows=200) as reading:
        rows = iter(reading)
        next(rows)
        said = [line for line in caplog.messages if "rows to read" in line]
        list(rows)
    assert len(said) == 1
    assert f"events: {there:,} rows to read, by about" in said[0]
    assert [line for line in caplog.messages if "rows to read" in line] == said


def test_bytes_are_not_told_where_no_row_was_seen() -> None:
    text = Forecast(300, 20_000, 0.0, 1.0, left=1e9).text("sessions", NOON)
    assert text.startswith("sessions: 300 rows to read, by about 1 query; the limits (240 ")
    assert "bytes" not in text
    assert "0 bytes" in Forecast(0, 20_000, 0.0, 1.0).text("events", NOON)


def test_sessions_cost_more_than_events_of_their_length() -> None:
    one, more = (Forecast(1000, 1000, 100.0, 1.0, left=1e9, reads=reads) for reads in (1.5, 4.0))
    assert (one.read, more.read) == (150_000, 400_000)
