"""The pace of polls, by a clock that only these tests move."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.budget import HOUR, LIMITS, RESERVE, Budget, limit_of
from airflow_provider_posthog.api.call import Bucket
from airflow_provider_posthog.api.pace import Pace, place_of
from airflow_provider_posthog.api.retry import LAST, ONCE, RetryPolicy, poll_policy
from airflow_provider_posthog.api.settings import ClientSettings, Shares

LANES: tuple[Bucket, ...] = ("crud", "analytics", "query")


def _pace(budget: Budget, bucket: Bucket, share: float = 1.0) -> Pace:
    return Pace(bucket, share, lambda now: budget.left(bucket, now, share=share))


def _turns(
    pace: Pace, budget: Budget, bucket: Bucket, *, count: int, share: float = 1.0, now: float = 0.0
) -> list[float]:
    """Let one after another go as soon as it may."""
    went = []
    for _ in range(count):
        ticket = pace.join()
        while wait := pace.wait(ticket, now):
            now += min(wait, 15.0)
        assert budget.take(bucket, now, share=share, patience=0.0, reserve=False) == 0.0, (
            "the pace is within the budget"
        )
        went.append(now)
    return went


@pytest.mark.parametrize("bucket", LANES)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_polls_never_run_dry_and_leave_a_reserve(bucket: Bucket, share: float) -> None:
    budget = Budget()
    hour = limit_of(LIMITS[bucket][1][0], share)
    went = _turns(_pace(budget, bucket, share), budget, bucket, count=2 * hour, share=share)
    gaps = [later - earlier for earlier, later in pairwise(went)]
    assert max(gaps) <= 1.5 * HOUR / (hour * (1 - RESERVE)) + 1
    assert all(sum(at - HOUR < each <= at for each in went) <= hour * (1 - RESERVE) for at in went[::97])
    assert 0.85 * hour * (went[-1] / HOUR) <= len(went)


def test_a_few_polls_wait_for_nothing() -> None:
    budget = Budget()
    pace = _pace(budget, "crud")
    for now in range(0, 3600, 10):
        for _ in range(10):
            assert pace.wait(pace.join(), float(now)) == 0.0


def test_what_others_send_slows_polls_down_and_they_still_get_some() -> None:
    budget = Budget()
    pace = _pace(budget, "crud")
    free = pace.rate(0.0)
    for call in range(2400):
        budget.take("crud", 10.0 + call)
    half = pace.rate(2500.0)
    assert half == pytest.approx(free - 2400 / HOUR, rel=0.05)
    for call in range(2400):
        budget.take("crud", 2500.0 + call / 4)
    assert 0 < pace.rate(3200.0) < free / 50


def test_turns_come_in_the_order_of_the_line_and_who_leaves_gives_way() -> None:
    budget = Budget()
    pace = _pace(budget, "analytics")
    while pace.wait(pace.join(), 0.0) == 0.0:
        pass
    first, second = pace.join(), pace.join()
    waits = pace.wait(first, 0.0), pace.wait(second, 0.0)
    assert 0 < waits[0] < waits[1]
    pace.leave(first)
    assert pace.wait(second, 0.0) < waits[1]
    pace.leave(first)  # twice is no harm
    assert pace.wait(second, 0.0) == pytest.approx(waits[0])


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=200), st.sampled_from(LANES))
def test_every_poll_gets_its_turn_whatever_others_do(steps: list[tuple[float, bool]], bucket: Bucket) -> None:
    budget, now = Budget(), 0.0
    pace = _pace(budget, bucket)
    for passed, is_poll in steps:
        now += passed
        if not is_poll:
            budget.take(bucket, now)
            continue
        ticket = pace.join()
        wait = pace.wait(ticket, now)
        assert math.isfinite(wait)
        assert wait >= 0
        if wait:
            pace.leave(ticket)


@pytest.mark.parametrize("bucket", LANES)
def test_what_is_left_is_that_of_the_share_and_of_all_shares_together(bucket: Bucket) -> None:
    budget = Budget()
    (minute, seconds), (hour, _) = LIMITS[bucket]
    for _ in range(10):
        budget.take(bucket, 0.0, share=0.5)
    assert budget.left(bucket, 0.0, share=0.5) == (minute // 2 - 10, hour // 2 - 10)
    assert budget.left(bucket, 0.0, share=0.25) == (minute // 4, hour // 4), "of the others only PostHog's limits count"
    assert budget.left(bucket, 0.0) == (minute - 10, hour - 10)
    assert budget.left(bucket, seconds, share=0.5) == (minute // 2, hour // 2 - 10), "the minute has gone by"
    turn = budget.promise(bucket, seconds, share=0.5)
    assert turn.at is not None
    budget.give_back(bucket, turn.at, share=0.5)
    assert budget.left(bucket, seconds, share=0.5) == (minute // 2, hour // 2 - 10), "who gives back takes nothing"


def test_polls_of_the_triggerer_go_at_the_pace_of_its_share() -> None:
    settings = ClientSettings(base_url="https://pace.example", rate_limit_share=Shares(0.0, 0.5))
    assert place_of(settings, "crud", role="worker") is None, "a worker without a budget"
    place = place_of(settings, "crud", role="triggerer")
    assert place is not None
    assert place.wait() == 0.0


def test_a_look_at_a_deadline_alone_uses_the_reserve() -> None:
    assert [policy.reserve for policy in (ONCE, LAST, RetryPolicy())] == [False, True, True]
    assert not poll_policy(ONCE, 1.0).reserve
    assert poll_policy(ONCE, 0.0).reserve
