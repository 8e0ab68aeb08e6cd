"""What is left of a project's limits, as pages ask for it."""

from __future__ import annotations

import time

from airflow_provider_posthog.api.budget import budget_of
from airflow_provider_posthog.api.byte_budget import ByteBudget, Told
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.extract.page_limits import PageLimits


def settings(share: float) -> ClientSettings:
    return ClientSettings(base_url="https://eu.example.com", api_key="phx_x", project_id=7, rate_limit_share=share)


def test_bytes_are_those_that_posthog_has_told() -> None:
    limits = PageLimits(settings(0.5), lambda: 0)
    assert limits.bytes_left() is None
    now = time.monotonic()
    ByteBudget.of(settings(0.5)).saw(now, Told(read=10, remaining=5_000), began=now)
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
