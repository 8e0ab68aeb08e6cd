"""The policy of watching a job, with a clock made of numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.jobs import KINDS, OUTCOMES, Again, Ended, Watch
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogSettingsError,
    PostHogTransportError,
    error_for_status,
)

PENDING = Verdict("pending", "still running")
DONE = Verdict("succeeded")
FAILED = Verdict("failed", "Unknown table")
SHAKY = Verdict("failed", "Failed to fetch", final=False)
CUT = PostHogTransportError("the connection was cut")


def http(status: int, retry_after: float | None = None) -> PostHogAPIError:
    return error_for_status(status)(status=status, method="GET", path="/x/", retry_after=retry_after)


def watch(deadline: float = 1000.0, interval: float = 30.0, max_failures: int = 3, grace: float = 100.0) -> Watch:
    return Watch(deadline=deadline, interval=interval, max_failures=max_failures, grace=grace)


def test_success_and_failure_end_at_once() -> None:
    assert watch().observe(DONE, 0) == Ended("succeeded")
    assert watch().observe(FAILED, 0) == Ended("failed", "Unknown table")


def test_news_at_the_deadline_count() -> None:
    assert watch().observe(DONE, 5000) == Ended("succeeded")
    assert watch().observe(FAILED, 5000) == Ended("failed", "Unknown table")


@pytest.mark.parametrize("seen", [PENDING, CUT, http(429), http(503)])
@pytest.mark.parametrize("now", [1000, 1000.1, 9999])
def test_deadline(seen: Verdict | PostHogError, now: float) -> None:
    ended = watch().observe(seen, now)
    assert isinstance(ended, Ended)
    assert ended.outcome == "timeout"
    assert ended.reason == (str(seen) if isinstance(seen, PostHogError) else seen.reason)


def test_waits_grow_up_to_the_interval() -> None:
    subject, waits = watch(deadline=1e9, interval=8.0), []
    for now in range(12):
        step = subject.observe(PENDING, now)
        assert isinstance(step, Again)
        waits.append(step.seconds)
    assert waits[0] <= 1.0
    assert all(0 < wait <= 8.0 for wait in waits)
    assert waits[-1] >= 0.9 * 8.0
    assert waits[:5] == sorted(waits[:5])


def test_a_short_interval_holds_from_the_start() -> None:
    step = watch(interval=0.2).observe(PENDING, 0)
    assert isinstance(step, Again)
    assert 0.18 <= step.seconds <= 0.2


def test_no_wait_goes_beyond_the_deadline() -> None:
    subject = watch(deadline=100, interval=30)
    for now in (0, 50, 99.5):
        step = subject.observe(http(429, retry_after=5000) if now else PENDING, now)
        assert isinstance(step, Again)
        assert now + step.seconds <= 100


def test_a_rate_limit_says_when_to_come_again() -> None:
    assert watch(interval=10).observe(http(429, retry_after=77), 0) == Again(77)


def test_failures_in_a_row_end_the_watch() -> None:
    subject = watch(max_failures=3)
    assert isinstance(subject.observe(CUT, 0), Again)
    assert isinstance(subject.observe(http(502), 1), Again)
    assert subject.observe(CUT, 2) == Ended("unreachable", str(CUT))


def test_a_poll_that_works_resets_the_failures() -> None:
    subject = watch(max_failures=2)
    for now in range(0, 40, 2):
        assert isinstance(subject.observe(CUT, now), Again)
        assert isinstance(subject.observe(PENDING, now + 1), Again)


def test_rate_limits_are_no_failures() -> None:
    subject = watch(max_failures=2)
    for now in range(100):
        assert isinstance(subject.observe(http(429), now), Again)
    assert isinstance(subject.observe(CUT, 100), Again)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 512, 513, 520])
def test_what_passes_is_asked_again(status: int) -> None:
    assert isinstance(watch(max_failures=2).observe(http(status), 0), Again)
    assert watch(max_failures=1).observe(http(status), 0) == Ended("unreachable", str(http(status)))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 405, 409])
def test_a_refusal_ends_the_watch(status: int) -> None:
    assert watch().observe(http(status), 0) == Ended("refused", str(http(status)))


def test_a_redirect_ends_the_watch() -> None:
    error = PostHogSettingsError("host", "is redirected.", "Write another.")
    assert watch().observe(error, 0) == Ended("refused", str(error))


def test_gone() -> None:
    assert watch().observe(http(404), 0) == Ended("gone", str(http(404)))


def test_a_failure_that_may_be_mended_has_to_stand() -> None:
    subject = watch(grace=100)
    assert isinstance(subject.observe(SHAKY, 10), Again)
    assert isinstance(subject.observe(CUT, 60), Again)  # not knowing does not clear it
    assert isinstance(subject.observe(SHAKY, 109.9), Again)
    assert subject.observe(SHAKY, 110) == Ended("failed", "Failed to fetch")


def test_an_exception_then_success() -> None:
    subject = watch(grace=100)
    assert isinstance(subject.observe(SHAKY, 10), Again)
    assert isinstance(subject.observe(PENDING, 50), Again)  # PostHog tries again and has cleared the text
    assert isinstance(subject.observe(SHAKY, 120), Again)  # a new failure, with a grace of its own
    assert subject.observe(DONE, 130) == Ended("succeeded")


def test_a_failure_that_becomes_lasting_ends_at_once() -> None:
    subject = watch()
    assert isinstance(subject.observe(SHAKY, 10), Again)
    assert subject.observe(FAILED, 11) == Ended("failed", "Unknown table")


def test_without_grace_every_failure_counts() -> None:
    assert watch(grace=0).observe(SHAKY, 0) == Ended("failed", "Failed to fetch")


SEEN = st.one_of(
    st.sampled_from([PENDING, DONE, FAILED, SHAKY, CUT]),
    st.builds(http, st.sampled_from([400, 404, 408, 429, 500, 503, 504]), st.none() | st.floats(0, 1e6)),
)
PASSING = st.one_of(
    st.sampled_from([PENDING, SHAKY]), st.builds(http, st.just(429), st.none() | st.floats(0, allow_nan=False))
)


@given(
    st.lists(SEEN | PASSING, min_size=1, max_size=60),
    st.floats(0, 1000),
    st.floats(0.01, 100),
    st.integers(1, 5),
    st.floats(0, 500),
)
def test_every_watch_ends(
    script: list[Verdict | PostHogError], deadline: float, interval: float, max_failures: int, grace: float
) -> None:
    subject = watch(deadline, interval, max_failures, grace)
    now, failures = 0.0, 0
    for seen in script:
        step = subject.observe(seen, now)
        failing = isinstance(seen, PostHogTransportError) or (
            isinstance(seen, PostHogAPIError) and seen.status in (408, 500, 503, 504)
        )
        failures = failures + 1 if failing else failures if isinstance(seen, PostHogError) else 0
        if isinstance(step, Ended):
            assert step.outcome in OUTCOMES
            if step.outcome == "timeout":
                assert now >= deadline
            if step.outcome == "unreachable":
                assert failures == max_failures
            return
        assert now < deadline
        assert failures < max_failures
        assert seen is not DONE
        assert seen is not FAILED
        assert math.isfinite(step.seconds)
        assert step.seconds >= 0
        assert now + step.seconds <= deadline * (1 + 1e-9)
        if not (isinstance(seen, PostHogAPIError) and seen.retry_after):
            assert step.seconds <= interval
        now += step.seconds
    assert isinstance(subject.observe(PENDING, deadline), Ended)


@given(st.lists(PASSING, min_size=1), st.floats(0.1, 50), st.floats(1, 500))
def test_the_loop_terminates_by_itself(script: list[Verdict | PostHogError], interval: float, deadline: float) -> None:
    """Driven as workers and triggers drive it, a watch of a job that never ends polls a bounded number of times."""
    subject, now, polls = watch(deadline, interval, grace=1e9), 0.0, 0
    while isinstance(step := subject.observe(script[polls % len(script)], now), Again):
        now += step.seconds
        polls += 1
        assert polls < 30 + 2 * deadline / min(interval, 0.1)
    assert step.outcome == "timeout"
    assert now == pytest.approx(deadline)


def test_kinds_keep_their_names() -> None:
    """Stored job ids and running triggers carry them."""
    assert {name: kind.status("5").path for name, kind in KINDS.items() if name in ("export", "query")} == {
        "export": "exports/5/",
        "query": "query/5/",
    }
    assert KINDS["export"].cancel is None
    cancel = KINDS["query"].cancel
    assert cancel is not None
    assert (cancel("a b").method, cancel("a b").path) == ("DELETE", "query/a%20b/")
