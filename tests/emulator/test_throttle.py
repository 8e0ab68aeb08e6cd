"""PostHog's own limits of a minute and an hour, for all keys together."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from tests.emulator.client import Client


def _until_refused(client: Client, path: str, most: int = 60) -> tuple[int, int]:
    """How many calls go, and for how many seconds the next is told to wait."""
    for number in range(most):
        answer = client.get(path)
        if answer.status_code == 429:
            return number, int(answer.headers["Retry-After"])
    raise AssertionError(f"more than {most} calls went")


def test_a_tenth_of_posthogs_own_limits(posthog: EmulatorProcess) -> None:
    one, other = (Client(posthog.url, key) for key in (posthog.api_key, posthog.create_key()))
    posthog.settings(rate_limits=0.1)
    assert _until_refused(one, "exports/")[0] == 48
    assert other.get("exports/").status_code == 429, "keys count together"
    went, wait = _until_refused(one, "insights/?limit=1&basic=true")
    assert (went, wait <= 60) == (24, True)
    posthog.advance(wait + 1)
    assert one.get("insights/?limit=1&basic=true").status_code == 200


def test_the_hour_ends_later_than_the_minute(posthog: EmulatorProcess) -> None:
    posthog.settings(rate_limits=0.01)  # 2 a minute and 12 an hour
    client = Client(posthog.url, posthog.api_key)
    gone = 0
    while True:
        went, wait = _until_refused(client, "insights/?limit=1&basic=true")
        gone += went
        if wait > 60:
            break
        posthog.advance(wait + 1)
    assert gone == 12
    assert wait > 3600 - 7 * 62


@pytest.mark.parametrize("wrong", [0, -1, "all", True])
def test_a_part_that_is_no_part(posthog: EmulatorProcess, wrong: object) -> None:
    with pytest.raises(EmulatorError, match="rate_limits"):
        posthog.settings(rate_limits=wrong)
