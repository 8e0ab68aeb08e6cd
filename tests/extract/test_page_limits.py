"""What is left of a project's limits, as pages ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api.budget import budget_of
from airflow_provider_posthog.api.byte_budget import READ_HEADER, REMAINING_HEADER, BudgetHeaders, ByteBudget
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.page_limits import PageLimits
from tests.extract.reading import SECOND, Middleman, column, event, read, settings_of, uuids
from tests.extract.reading import Told as Answered


def settings(share: float) -> ClientSettings:
    return ClientSettings(base_url="https://eu.example.com", api_key="phx_x", project_id=7, rate_limit_share=share)


def test_bytes_are_those_that_posthog_has_told() -> None:
    limits = PageLimits(settings(0.5), lambda: 0)
    assert limits.bytes_left() is None
    now = time.monotonic()
    ByteBudget.of(settings(0.5)).saw(now, BudgetHeaders(read=10, remaining=5_000), began=now)
    left = limits.bytes_left()
    assert left is not None
    assert left >= 5_000
    assert PageLimits(settings(0), lambda: 0).bytes_left() is None


def test_requests_are_short_where_they_do_not_bring_all_rows_within_the_hour() -> None:
    rows = 0
    limits = PageLimits(settings(0.5), lambda: rows)
    rows = 1_200 * 1_000
    assert not limits.is_short(1_000)
    budget_of(settings(0.5)).take("query", time.monotonic(), share=0.5)
    assert limits.is_short(1_000)
    assert not limits.is_short(2_000)
    assert not PageLimits(settings(0), lambda: rows).is_short(1)


def test_a_reading_asks_for_less_where_little_is_left(man: Middleman, rows: EmulatorProcess, day: datetime) -> None:
    """Of 4.5 MB that are left, three pages at a time of rows that take 1 KB."""
    made = [event(day + number * SECOND, name=f"e{number % 20:02}") for number in range(9_000)]
    rows.add_events(made)

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Answered]) -> Answered:
        status, answer = ask()
        count = len(answer["results"])
        man.headers = {READ_HEADER: str(1000 * count), REMAINING_HEADER: "4500000"}
        return status, answer

    man.rule = rule
    settings = settings_of(man.url, rows, max_rate_limit_wait=0.01)
    chunks = read(settings, sources.events(["uuid"]), day, day + timedelta(days=1), page_rows=3_000, max_in_flight=1)
    assert sorted(column(chunks)) == uuids(made)
    sizes = [chunk.rows for chunk in chunks]
    assert max(sizes[:2]) > 2_000, "before it is known what rows take"
    assert max(sizes[4:]) <= 1_350
