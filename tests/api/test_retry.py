"""Properties of the decision to send a call again, over all its inputs."""

from __future__ import annotations

import json
import math
import uuid
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import batch_exports, file_downloads, insights
from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.exchange import Exchange
from airflow_provider_posthog.api.retry import (
    ONCE,
    RETRYABLE_STATUSES,
    GiveUp,
    NoAnswer,
    RetryPolicy,
    Wait,
    decide,
    retry_after,
)
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogQuotaError, PostHogServerError
from tests.api.cases import CREATE, GET, QUERY, answer

#: What has no offset is UTC, and no local time.
pytestmark = pytest.mark.usefixtures("far_from_utc")

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
CALLS = st.sampled_from([GET, CREATE])
STATUSES = st.one_of(st.integers(300, 599), st.sampled_from([408, 429, 500, 502, 503, 504, 512, 513]))
HINTS = st.one_of(
    st.none(),
    st.integers(-10, 10**6).map(str),
    st.floats().map(str),
    st.datetimes(datetime(1900, 1, 1), datetime(9999, 1, 1)).map(lambda when: format_datetime(when)),
    st.sampled_from(["", "soon", "1e999", "nan", "-inf", "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", ","]),
    st.from_regex(r"\w{3}, \d{1,22} Jan \d{1,22} \d{1,22}:\d{1,22}:\d\d [+-]\d{1,22}", fullmatch=True),
    st.text(max_size=40),
)
DETAILS = st.one_of(
    st.text(max_size=30), st.integers(0, 10**400).map(lambda n: f"Expected available in {n} seconds."), st.none()
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    hint = draw(HINTS)
    body = json.dumps({"detail": draw(DETAILS)}).encode() if draw(st.booleans()) else draw(st.binary(max_size=20))
    return Answer(draw(STATUSES), {} if hint is None else {"retry-after": hint}, body)


NO_ANSWERS = st.builds(NoAnswer, reason=st.just("cut"), sent=st.booleans(), lasting=st.booleans())
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 12),
    base=st.floats(0, 100),
    cap=st.floats(0, 100),
    max_rate_limit_wait=st.floats(0, 1000),
)
DRAWS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("start", [file_downloads.start, batch_exports.start_backfill], ids=["download", "backfill"])
@pytest.mark.parametrize("code", ["no slot", "throttled", None, "not JSON"])
def test_no_client_waits_for_a_slot_and_every_client_for_a_rate_limit(start, code) -> None:  # noqa: ANN001
    call = {
        file_downloads.start: lambda: start(model="events", data_interval_start=NOW - DAY, data_interval_end=NOW),
        batch_exports.start_backfill: lambda: start(str(uuid.uuid4()), start_at=NOW - DAY, end_at=NOW),
    }[start]()
    named = call.no_slot if code == "no slot" else code
    body = b"<html>" if code == "not JSON" else json.dumps({"code": named}).encode()
    step = decide(call, 1, Answer(429, {"retry-after": "3"}, body), policy=RetryPolicy(), draw=0.5, now=NOW)
    assert isinstance(step, GiveUp) is (code == "no slot")


@given(CALLS, st.integers(1, 10**6), st.one_of(answers(), NO_ANSWERS), POLICIES, DRAWS, st.floats(0, 2000))
def test_every_decision(call, attempt, outcome, policy, draw, waited) -> None:  # noqa: ANN001
    step = decide(call, attempt, outcome, policy=policy, draw=draw, now=NOW, waited=waited)
    if isinstance(step, GiveUp):
        return
    assert math.isfinite(step.seconds)
    assert step.seconds >= 0
    assert step.reason
    if isinstance(outcome, Answer) and outcome.status == 429:
        assert step.seconds >= 1
        assert waited + step.seconds <= policy.max_rate_limit_wait
        return
    assert attempt < policy.max_attempts
    assert step.seconds <= max(policy.cap, policy.max_rate_limit_wait)
    if isinstance(outcome, NoAnswer):
        assert not outcome.lasting
        assert call.repeatable or not outcome.sent
    else:
        assert call.repeatable
        assert outcome.status in RETRYABLE_STATUSES


@given(st.lists(answers(), min_size=1, max_size=30), POLICIES, DRAWS)
def test_all_waits_for_429s_of_a_call_are_bounded(script: list[Answer], policy: RetryPolicy, draw: float) -> None:
    waited, sent = 0.0, 0
    for outcome in script * 60:
        sent += 1
        step = decide(
            CREATE, 1, Answer(429, outcome.headers, outcome.body), policy=policy, draw=draw, now=NOW, waited=waited
        )
        if isinstance(step, GiveUp):
            break
        waited += step.seconds
    assert waited <= policy.max_rate_limit_wait
    assert sent <= policy.max_rate_limit_wait + 1


@pytest.mark.parametrize("code", ["billing_limit_exceeded", "quota_limit_exceeded"])
@pytest.mark.parametrize("field", ["code", "error", "detail"])
def test_nobody_waits_for_a_quota(code: str, field: str) -> None:
    within = Answer(429, {"retry-after": "3"}, json.dumps({"error": {field: code}}).encode())
    assert decide(GET, 1, within, policy=RetryPolicy(), draw=0.5, now=NOW) == GiveUp()
    outcome = Answer(429, {"retry-after": "3"}, json.dumps({field: code}).encode())
    assert decide(GET, 1, outcome, policy=RetryPolicy(), draw=0.5, now=NOW) == GiveUp()
    exchange = Exchange(GET, ClientSettings(project_id=7), RetryPolicy())
    with pytest.raises(PostHogQuotaError, match="Raise the billing limit"):
        exchange.receive(outcome)


@pytest.mark.parametrize("code", ["throttled", "api_queries_budget_exceeded", "rate_limited", None])
def test_a_rate_limit_is_no_quota(code: str | None) -> None:
    outcome = Answer(429, {"retry-after": "3"}, json.dumps({"code": code, "detail": "Over the limit"}).encode())
    assert isinstance(decide(GET, 1, outcome, policy=RetryPolicy(), draw=0.5, now=NOW), Wait)


@pytest.mark.parametrize("status", sorted(set(range(300, 600)) - RETRYABLE_STATUSES - {429}))
def test_final_statuses(status: int) -> None:
    assert decide(GET, 1, answer(status), policy=RetryPolicy(), draw=0.5, now=NOW) == GiveUp()


@pytest.mark.parametrize("status", sorted(RETRYABLE_STATUSES))
def test_passing_statuses(status: int) -> None:
    assert isinstance(decide(GET, 1, answer(status), policy=RetryPolicy(), draw=0.5, now=NOW), Wait)
    assert decide(CREATE, 1, answer(status), policy=RetryPolicy(), draw=0.5, now=NOW) == GiveUp()


def test_waits_double_up_to_the_cap() -> None:
    policy = RetryPolicy(max_attempts=99, base=1.0, cap=5.0)
    waits = [decide(GET, n, answer(500), policy=policy, draw=0.999, now=NOW) for n in (1, 2, 3, 4, 50)]
    assert [round(wait.seconds) for wait in waits if isinstance(wait, Wait)] == [1, 2, 4, 5, 5]


@pytest.mark.parametrize("outcome", [answer(429), answer(500), NoAnswer("cut", sent=True)])
def test_once_is_once(outcome: Answer | NoAnswer) -> None:
    assert decide(GET, 1, outcome, policy=ONCE, draw=0.5, now=NOW) == GiveUp()


def test_the_server_s_wish_for_a_503_is_granted_up_to_the_limit() -> None:
    policy = RetryPolicy(max_rate_limit_wait=60)
    assert decide(GET, 1, answer(503, retry_after="20"), policy=policy, draw=0.1, now=NOW) == Wait(20.0, "status 503")
    assert decide(GET, 1, answer(503, retry_after="61"), policy=policy, draw=0.1, now=NOW) == GiveUp()


def _date(seconds: float, zone: timezone = timezone.utc) -> str:
    return format_datetime((NOW + timedelta(seconds=seconds)).astimezone(zone))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("12", 12.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-3", 0.0),
        (_date(90), 90.0),
        (_date(90, timezone(timedelta(hours=5))), 90.0),
        (_date(-90), 0.0),
        ("Sun, 22 Nov 2026 12:01:00", 60.0),
        ("nan", 5.0),
        ("inf", 5.0),
        ("later", 5.0),
        ("", 5.0),
    ],
)
def test_retry_after(header: str, expected: float) -> None:
    body = b'{"detail": "Request was throttled. Expected available in 5 seconds."}'
    assert retry_after(answer(429, body, retry_after=header), NOW) == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"x"', b"{}", b'{"detail": {"a": 1}}', b'{"detail": "Too many"}', b"\xff"]
)
def test_no_hint(body: bytes) -> None:
    assert retry_after(answer(429, body), NOW) is None


def test_a_single_second() -> None:
    assert retry_after(answer(429, b'{"detail": "Expected available in 1 second."}'), NOW) == 1.0


@given(answers())
def test_retry_after_is_a_time_or_none(outcome: Answer) -> None:
    seconds = retry_after(outcome, NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(st.lists(st.sampled_from(["5", "20", "0", None]), min_size=1, max_size=40), st.floats(0, 60), DRAWS)
def test_all_waits_that_the_server_asked_for_are_bounded_together(
    hints: list[str | None], most: float, draw: float
) -> None:
    policy, waited = RetryPolicy(max_attempts=99, cap=1.0, max_rate_limit_wait=most), 0.0
    for attempt, hint in enumerate(hints, 1):
        found = answer(503, **({"retry_after": hint} if hint else {}))
        step = decide(GET, attempt, found, policy=policy, draw=draw, now=NOW, waited=waited)
        if isinstance(step, GiveUp):
            assert waited + float(hint or 0) > most
            return
        assert step.counted == float(hint or 0)
        waited += step.counted
        assert waited <= most


def test_the_waits_of_a_503_and_of_a_429_are_one_sum() -> None:
    exchange = Exchange(GET, ClientSettings(project_id=7), RetryPolicy(max_rate_limit_wait=30))
    for status in (503, 429):
        assert isinstance(exchange.receive(answer(status, retry_after="12")), Wait)
    with pytest.raises(PostHogServerError, match="asked to wait 12 s"):
        exchange.receive(answer(503, retry_after="12"))


@pytest.mark.parametrize("status", [504, 524])
def test_what_is_too_heavy_is_not_repeated_where_posthog_calculates(status: int) -> None:
    for call in (QUERY, insights.retrieve(7, refresh="force_blocking")):
        assert decide(call, 1, answer(status), policy=RetryPolicy(), draw=0.5, now=NOW) == GiveUp()
