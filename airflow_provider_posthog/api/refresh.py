"""Refresh insights: in a request that waits, or in the background.

The proof that the numbers are new is in :mod:`~airflow_provider_posthog.api.freshness`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

from airflow_provider_posthog.api import insights, jobs, queries
from airflow_provider_posthog.api.freshness import Earlier, Outcome, Target, fault, is_too_old
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.jobs import Again, Ended, Watch
from airflow_provider_posthog.api.retry import GATEWAY, LAST, NOT_BEGUN, ONCE, RetryPolicy, poll_policy
from airflow_provider_posthog.api.states import Verdict, failure_in
from airflow_provider_posthog.api.steps import Pause, Send, Steps, Stopped
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogQuotaError,
    PostHogServerError,
    PostHogTransportError,
)

log = logging.getLogger(__name__)

_FORGOTTEN = "PostHog has forgotten the calculation: it was cancelled, or took over 20 minutes"
NO_ROOM = "concurrency_limit_exceeded"
#: Seconds of the first and of the longest wait for a slot among the queries that run at once.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 20.0
#: The most bytes of a poll's answer: when the calculation has ended, the whole result is in it.
_MAX_STATUS = 64 * 1024 * 1024
_TOO_LATE = "it could not be started in time"
#: A passing fault must not leave a calculation behind, and a killed worker has only a few seconds.
_BRIEFLY = RetryPolicy(max_attempts=3, base=0.3, cap=1.0, max_rate_limit_wait=2.0)


def refresh(target: Target, deadline: float, interval: float, max_failures: int) -> Steps[Outcome]:
    """Calculate an insight afresh and prove it, in a worker.

    The request waits for the numbers; if a gateway cuts it off after a minute or two, PostHog is asked to calculate in
    the background, if the key is allowed to poll that.

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :param interval: the longest wait between two polls, in seconds.
    :param max_failures: how many polls may fail in a row.
    :returns: ``fresh``, or why not.
    """
    outcome = yield from in_request(target, deadline)
    if outcome.state != "cut":
        return outcome
    unwatched = yield from why_not_watch(target.query_id)
    cancelled = yield from cancel(target.query_id)  # it may go on behind the cut, and no second one may run beside it
    if unwatched is not None:
        return replace(outcome, reason=f"{outcome.reason}. It cannot be calculated in the background: {unwatched}")
    if not cancelled:
        return replace(outcome, reason=f"{outcome.reason}. PostHog may go on calculating, and that cannot be cancelled")
    return (yield from watched(target, deadline, interval, max_failures))


def watched(target: Target, deadline: float, interval: float, max_failures: int) -> Steps[Outcome]:
    """Calculate an insight in the background, and prove it; for a key that is allowed to poll that.

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :param interval: the longest wait between two polls, in seconds.
    :param max_failures: how many polls may fail in a row.
    :returns: ``fresh``, or why not.
    """
    background = yield from in_background(target, deadline, interval, max_failures)
    return (yield from finish(target, background))


def finish(target: Target, outcome: Outcome) -> Steps[Outcome]:
    """Turn a calculation that PostHog reports as done into a proved one, by reading it back.

    :param target: the insight.
    :param outcome: the outcome of the calculation.
    """
    if outcome.state != "calculated":
        return outcome
    try:
        proved = yield from read_back(target, outcome.started)
    except Stopped:
        raise
    except PostHogError as error:
        return replace(outcome, state="failed", reason=f"it was calculated, but cannot be read: {error}")
    return replace(proved, seconds=outcome.seconds, started=outcome.started)


def in_request(target: Target, deadline: float) -> Steps[Outcome]:
    """Calculate an insight while the request waits (``force_blocking``).

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :returns: ``fresh``, or why not; ``cut`` if the connection broke and PostHog may go on.
    """
    began = time.time()
    if began >= deadline:
        return Outcome("timeout", _TOO_LATE)
    for earlier in target.earlier:  # a killed try's calculation may still run, and cannot be waited for
        yield from cancel(earlier.query_id)
    wait, first = _FIRST_WAIT, ""
    while True:
        outcome, pause, too_old = yield from _ask(target)
        if too_old is not None and not first:
            # The clocks of a gateway and of PostHog differ, or the answer is that of an earlier request: a second
            # answer that is newer than the first, by the same clock, was begun after this task's request.
            first, target = f"{outcome.reason}. Asked once more: ", replace(target, since=None, before=too_old)
            continue
        if pause is None:
            reason = f"{first}{outcome.reason}" if outcome.reason else ""
            return Outcome(outcome.state, reason, outcome.insight, time.time() - began)
        pause, wait = max(pause, wait), min(wait * 2, _LONGEST_WAIT)
        if time.time() + pause >= deadline:
            return Outcome("timeout", outcome.reason, seconds=time.time() - began)
        yield Pause(pause)


def _ask(target: Target) -> Steps[tuple[Outcome, float | None, str | None]]:
    """Send one request.

    :returns: the outcome; after how many seconds to ask again, if at all; and the ``last_refresh`` of an answer that
        looks new except for its time.
    """
    try:
        answer: Insight = yield Send(target.read("force_blocking"), LAST)
    except Stopped:
        raise
    except PostHogError as error:
        return (*_of_error(error), None)
    outcome = _of_answer(answer, target)
    too_old = answer.get("last_refresh") if outcome.state == "failed" and is_too_old(answer, target) else None
    return outcome, 0.0 if _has_no_room(answer) else None, too_old


def _of_answer(answer: Insight, target: Target) -> Outcome:
    reason = fault(answer, target, calculated_now=True)
    return Outcome("fresh", insight=answer) if reason is None else Outcome("failed", reason)


def _of_error(error: PostHogError) -> tuple[Outcome, float | None]:
    """Return the outcome of an error, and after how many seconds to ask again, if at all."""
    if isinstance(error, PostHogQuotaError):
        return Outcome("failed", str(error)), None
    if isinstance(error, PostHogAPIError) and error.status in NOT_BEGUN:
        return Outcome("unreachable", str(error)), error.retry_after or 0.0
    if isinstance(error, PostHogTransportError) and not error.sent:
        return Outcome("unreachable", str(error)), 0.0
    if is_cut(error):
        return Outcome("cut", str(error)), None
    if isinstance(error, (PostHogPermissionError, PostHogAuthenticationError)):
        return Outcome("refused", str(error)), None
    return Outcome("failed", str(error)), None


def is_cut(error: PostHogError) -> bool:
    """Return whether PostHog may go on after an error: no answer, or a gateway's, which has no code of PostHog's.

    :param error: of a request that was to calculate.
    """
    if isinstance(error, PostHogTransportError):
        return error.sent
    return isinstance(error, PostHogServerError) and (error.status in GATEWAY or not error.code)


def _has_no_room(answer: Insight) -> bool:
    status = answer.get("query_status")
    return isinstance(status, Mapping) and NO_ROOM in (status.get("error_code"), status.get("error_message"))


def why_not_watch(query_id: str) -> Steps[str | None]:
    """Return why the key cannot poll a background calculation; ``None`` if it can. Starts nothing.

    :param query_id: any name.
    """
    try:
        yield queries.status(query_id)
    except PostHogNotFoundError:
        return None
    except PostHogPermissionError:
        return "the key needs the scope query:read to poll a calculation that no request waits for"
    except Stopped:
        raise
    except PostHogError as error:
        return f"a calculation cannot be polled: {error}"
    return None


def in_background(target: Target, deadline: float, interval: float, max_failures: int) -> Steps[Outcome]:
    """Have PostHog calculate an insight in the background (``force_async``), and poll until it ends.

    A calculation that an earlier try or this one has started is taken up, and not started again.

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :param interval: the longest wait between two polls, in seconds.
    :param max_failures: how many polls may fail in a row.
    :returns: ``calculated``, or why not.
    """
    began = time.time()
    if began >= deadline and target.may_start:
        return Outcome("timeout", _TOO_LATE)
    wait = _FIRST_WAIT
    while True:
        pause: float | None = None
        try:
            query_id = yield from start(target)
        except Stopped:
            raise
        except PostHogError as error:
            outcome, pause = _of_error(error)
        else:
            watch = Watch(deadline=deadline, interval=interval, max_failures=max_failures)
            outcome = yield from _watch(query_id, watch, deadline)
            if outcome.state in ("timeout", "unreachable") and query_id != target.query_id:
                yield from cancel(query_id)  # PostHog chose this name, so a retry would not know it
            if outcome.state == "failed" and NO_ROOM in outcome.reason and target.may_start:
                pause = 0.0
        if pause is None:
            return replace(outcome, seconds=time.time() - began)
        pause, wait = max(pause, wait), min(wait * 2, _LONGEST_WAIT)
        if time.time() + pause >= deadline:
            return Outcome("timeout", outcome.reason, seconds=time.time() - began)
        yield Pause(pause)


def start(target: Target) -> Steps[str]:
    """Have PostHog start to calculate an insight, unless it is already doing so.

    :param target: the insight.
    :returns: the name of the calculation.
    :raises PostHogError: if it cannot be started.
    """
    known = yield from _taken_up(target)
    if known is not None:
        return known
    if not target.may_start:
        raise PostHogJobFailed(_FORGOTTEN)
    try:
        answer: Insight = yield target.read("force_async")
    except Stopped:
        raise
    except PostHogError as error:
        if not is_cut(error):
            raise
        yield from _look_for_lost(target, error)
        return target.query_id
    query_status = answer.get("query_status")
    if not isinstance(query_status, Mapping) or not query_status.get("id"):
        raise PostHogJobFailed(failure_in(answer) or "PostHog did not start to calculate (no query_status)")
    return str(query_status["id"])


def _look_for_lost(target: Target, error: PostHogError) -> Steps[None]:
    """Check whether a calculation was started although the answer was lost; raise the error if it was not."""
    for seconds in jobs.LOST_WAITS:
        yield Pause(seconds)
        try:
            yield queries.status(target.query_id)
        except PostHogNotFoundError:
            continue
        return
    raise error


def _taken_up(target: Target) -> Steps[str | None]:
    """Return the name of the calculation that this try or an earlier one has started, if it is still of use."""
    for earlier in (Earlier(target.query_id, True), *target.earlier):
        try:
            status: queries.QueryStatus = yield queries.status(earlier.query_id)
        except PostHogNotFoundError:
            continue
        verdict = jobs.QUERY.judge(status)
        own = earlier.query_id == target.query_id
        if verdict.state == "pending" and not own and 0 < queries.started_at(status) <= target.superseded_before:
            log.warning("Calculation %s of an earlier try has used up its timeout: superseded", earlier.query_id)
            yield from cancel(earlier.query_id)
            continue
        if verdict.state == "pending" or (own and not target.may_start):
            return earlier.query_id
        if verdict.state == "succeeded" and earlier.same_life and queries.started_at(status) >= target.life_since:
            return earlier.query_id
    return None


def _watch(query_id: str, watch: Watch, deadline: float) -> Steps[Outcome]:
    seen_at = 0.0
    while True:
        observed: Verdict | PostHogError
        try:
            policy = poll_policy(ONCE, deadline - time.time())
            status: queries.QueryStatus = yield Send(replace(queries.status(query_id), max_bytes=_MAX_STATUS), policy)
            observed, seen_at = jobs.QUERY.judge(status), queries.started_at(status)
        except Stopped:
            raise
        except PostHogError as error:
            observed = error
        step = watch.observe(observed, time.time())
        if isinstance(step, Again):
            yield Pause(step.seconds)
        else:
            return replace(_of_end(step), started=seen_at)


def _of_end(ended: Ended) -> Outcome:
    if ended.outcome == "succeeded":
        return Outcome("calculated")
    if ended.outcome == "gone":
        return Outcome("failed", _FORGOTTEN)
    return Outcome(ended.outcome, ended.reason)


def read_back(target: Target, started: float) -> Steps[Outcome]:
    """Read the result of a calculation that has ended from PostHog's cache, and prove it.

    :param target: the insight.
    :param started: when the calculation was started, in seconds since 1970 by the server's clock; 0 if not known.
    :returns: ``fresh``, or why not.
    """
    if started:  # an earlier try may have started it, before this one's own ``since``
        target = replace(target, since=datetime.fromtimestamp(started, timezone.utc), before=None)
    elif target.since is None and target.before is None:
        return Outcome("failed", "PostHog does not say when it began to calculate it (start_time)")
    answer: Insight = yield target.read()
    reason = fault(answer, target, calculated_now=False)
    return Outcome("fresh", insight=answer) if reason is None else Outcome("failed", reason)


def cancel(query_id: str) -> Steps[bool]:
    """Cancel a calculation, if PostHog allows the key to.

    :param query_id: its name.
    :returns: whether PostHog confirms that it was ended, or that there is none.
    """
    over = False
    for call in (queries.cancel(query_id), insights.cancel(query_id)):
        try:
            yield Send(call, _BRIEFLY)
        except PostHogNotFoundError:
            over = True  # a calculation that a request waits for has no status; insights.cancel() knows it
        except Stopped:
            raise
        except PostHogError:
            over = False
        else:
            return True
    return over
