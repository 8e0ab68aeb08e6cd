"""When to send a call again, and after how many seconds. Pure functions: no clock, no random numbers, no sockets.

The rules follow what PostHog's statuses mean: 512 and 513 are deterministic, and so is a 504 for a query; for anything
else a 504 is a gateway's, as Cloudflare's 520 to 524 are. 429 means that nothing was done. A call that creates
something may have created it although the answer is 500 or 503. A 429 for a quota or a billing limit lasts until
somebody pays.
"""

from __future__ import annotations

import math
from dataclasses import field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.patterns import pattern

RETRYABLE_STATUSES = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
#: Those that mean that a calculation takes too long: it would take as long again.
_TOO_HEAVY = frozenset({504, 524})
#: What says that a request was not begun, and may pass soon: it came too slowly or too early, PostHog has no room, or a
#: gateway does not reach it. (522 may also come of a request that PostHog has.)
NOT_BEGUN = frozenset({408, 425, 429, 503, 521, 523, 529})
#: What only a gateway says, whatever stands in its page: behind it PostHog may go on.
GATEWAY = frozenset({502, 520, 522, 524})
#: In a 429, what is no rate limit: no wait of a task mends it.
_QUOTAS = frozenset({"billing_limit_exceeded", "billing_limit_reached", "quota_exceeded", "quota_limit_exceeded"})
_EXPECTED = pattern(r"[Ee]xpected available in (\d+(?:\.\d+)?) second")


@dataclass(frozen=True)
class NoAnswer:
    """No answer arrived.

    :param reason: what happened, fit for a log.
    :param sent: whether the server may have received the request.
    :param lasting: whether sending again cannot help (a certificate that is not trusted).
    :param too_large: whether there was an answer, and it was larger than the call allows.
    """

    reason: str
    sent: bool
    lasting: bool = False
    too_large: bool = False


@dataclass(frozen=True)
class Wait:
    """Send again after ``seconds``.

    :param seconds: how long to wait.
    :param reason: why, fit for a log.
    :param counted: how many of the seconds count against ``max_rate_limit_wait``: what the server asked for.
    """

    seconds: float
    reason: str
    counted: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class GiveUp:
    """Do not send again."""


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a client is.

    :param max_attempts: how often a call is sent at the most, waits for 429 not counted.
    :param base: seconds of the first back-off.
    :param cap: seconds of the longest back-off.
    :param max_rate_limit_wait: seconds spent in all, for one call, on waits that the server asked for.
    :param polls: whether the call is a poll: it goes at the pace of all polls
        (:mod:`~airflow_provider_posthog.api.pace`), and leaves a reserve of the limits to other calls.
    :param max_pace_wait: the longest wait, in seconds, in the queue of polls.
    :param gives_way: the longest wait, in seconds, for a reservation. If it is farther away, the call goes without one,
        as it would come too late.
    """

    max_attempts: int = 5
    base: float = 0.5
    cap: float = 30.0
    max_rate_limit_wait: float = 60.0
    polls: bool = False
    max_pace_wait: float = math.inf
    gives_way: float = math.inf

    @property
    def reserve(self) -> bool:
        """Whether the call may use up the part of the rate budget that is kept back from polls."""
        return not self.polls


#: For the polls of a loop with a budget of its own: they are repeated anyway.
ONCE = RetryPolicy(max_attempts=1, max_rate_limit_wait=0.0, polls=True)
#: For the other calls of such a loop: those that start something, and the last poll.
LAST = RetryPolicy(max_attempts=1, max_rate_limit_wait=0.0)


def poll_policy(policy: RetryPolicy, left: float, *, gives_way: float = 0.0) -> RetryPolicy:
    """Return the policy of a poll: one at the deadline is always sent, from what polls keep in reserve.

    :param policy: the policy to start from.
    :param left: seconds until the deadline.
    :param gives_way: seconds for which a poll at the deadline can still be postponed.
    """
    gives_way = math.inf if left > 0 else gives_way
    return replace(policy, polls=left > 0, max_pace_wait=max(0.0, left), gives_way=gives_way)


def decide(
    call: Call[Any],
    attempt: int,
    outcome: Answer | NoAnswer,
    *,
    policy: RetryPolicy,
    draw: float,
    now: datetime,
    waited: float = 0.0,
) -> Wait | GiveUp:
    """Decide what to do after an attempt that did not bring a good answer.

    :param call: the call.
    :param attempt: how many attempts were made, from 1.
    :param outcome: an answer of status 400 or more, or none.
    :param policy: how patient to be.
    :param draw: a random number in [0, 1), for the jitter.
    :param now: the time, for a ``Retry-After`` that is a date.
    :param waited: seconds that this call has spent on waits that the server asked for.
    """
    backoff = draw * min(policy.cap, policy.base * 2 ** min(attempt - 1, 30))
    if lacks_slot(call, outcome) or is_over_quota(outcome):
        return GiveUp()
    if isinstance(outcome, Answer) and outcome.status == 429:
        return _rate_limited(outcome, policy, backoff, now, waited)
    if attempt >= policy.max_attempts or not _may_repeat(call, outcome):
        return GiveUp()
    if isinstance(outcome, NoAnswer):
        return Wait(backoff, outcome.reason)
    retry_in = retry_after(outcome, now)
    if retry_in is not None and waited + retry_in > policy.max_rate_limit_wait:
        return GiveUp()
    return Wait(max(backoff, retry_in or 0.0), f"status {outcome.status}", retry_in or 0.0)


def lacks_slot(call: Call[Any], outcome: Answer | NoAnswer) -> bool:
    """Return whether PostHog refused to start a job because too many are running: no rate limit, although it is a 429.

    :param call: the call.
    :param outcome: the answer, or that there was none.
    """
    if call.no_slot is None or not isinstance(outcome, Answer) or outcome.status != 429:
        return False
    body = outcome.json_or_none()
    return isinstance(body, dict) and body.get("code") == call.no_slot


def is_over_quota(outcome: Answer | NoAnswer) -> bool:
    """Tell whether PostHog refused because a quota or a billing limit is used up: no rate limit, though it answers 429.

    :param outcome: the answer, or that there was none.
    """
    if not isinstance(outcome, Answer) or outcome.status != 429:
        return False
    body = outcome.json_or_none()
    if isinstance(body, dict):
        inner = body.get("error")
        texts = [
            place.get(name)
            for place in (body, inner if isinstance(inner, dict) else {})
            for name in ("code", "error", "type", "detail")
        ]
    else:  # capture's older answers are plain text
        texts = [outcome.body[:200].decode("utf-8", "replace")]
    return any(isinstance(text, str) and "_".join(text.lower().strip(" .\r\n").split()) in _QUOTAS for text in texts)


def _may_repeat(call: Call[Any], outcome: Answer | NoAnswer) -> bool:
    if isinstance(outcome, NoAnswer):
        return not outcome.lasting and (call.repeatable or not outcome.sent)
    if outcome.status in _TOO_HEAVY and (call.bucket == "query" or call.read_timeout is not None):
        return False  # PostHog calculates: a smaller query may help
    return call.repeatable and outcome.status in RETRYABLE_STATUSES


def _rate_limited(answer: Answer, policy: RetryPolicy, backoff: float, now: datetime, waited: float) -> Wait | GiveUp:
    # The query limit's 429 has no Retry-After: back off by at least a second, so as not to hammer the server.
    retry_in = retry_after(answer, now)
    # The same goes for "Retry-After: 0".
    seconds = max(1.0, retry_in + min(1.0, backoff) if retry_in is not None else backoff)
    if waited + seconds > policy.max_rate_limit_wait:
        return GiveUp()
    return Wait(seconds, "status 429 (rate limit)", seconds)


def retry_after(answer: Answer, now: datetime) -> float | None:
    """Return how many seconds the server asked to wait, or ``None``.

    Reads ``Retry-After`` (seconds or a date), else the "Expected available in N seconds" of PostHog's detail.

    :param answer: the answer.
    :param now: the time, aware.
    """
    header = answer.headers.get("retry-after", "").strip()
    if header:
        seconds = _header_seconds(header, now)
        if seconds is not None:
            return seconds
    body = answer.json_or_none() if answer.status == 429 else None
    match = _EXPECTED.search(str(body.get("detail"))) if isinstance(body, dict) else None
    return _finite(float(match.group(1))) if match else None


def _finite(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _header_seconds(header: str, now: datetime) -> float | None:
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except (TypeError, ValueError, OverflowError, IndexError):
            return None
        aware = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        return max(0.0, (aware - now).total_seconds())
    return _finite(seconds)
