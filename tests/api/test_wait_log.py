"""A wait logs each change, and an unchanged state ever more rarely."""

from __future__ import annotations

from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.wait_log import WaitLog
from airflow_provider_posthog.exceptions import PostHogServerError

PENDING = Verdict("pending")


def said(*seen: tuple[float, Verdict | PostHogServerError]) -> list[float]:
    wait_log = WaitLog()
    return [waited for waited, observed in seen if wait_log.is_news(observed, waited)]


def test_that_a_job_was_just_asked_for_is_no_news() -> None:
    assert said(*((seconds, PENDING) for seconds in range(29))) == []


def test_an_hour_of_polls_is_a_handful_of_lines() -> None:
    assert 3 <= len(said(*((float(seconds), PENDING) for seconds in range(3600)))) <= 8


def test_each_change_is_a_line_and_the_same_failure_none() -> None:
    failures = [
        PostHogServerError(status=502, method="GET", path="/x/", request_id=f"request {number}") for number in range(9)
    ]
    seen = [(1.0, PENDING), *((2.0 + number, error) for number, error in enumerate(failures)), (12.0, PENDING)]
    assert said(*seen) == [2.0, 12.0]
