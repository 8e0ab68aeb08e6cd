"""Calculating insights afresh, with proof that the numbers are new.

PostHog lies in several ways here: a plain GET never calculates, an unknown word in ``refresh`` means "from the cache",
a failed calculation is answered with 200, one refused for want of room even with a ``last_refresh`` of now, and a look
at the insight can not see a failure. :func:`fault` is the proof that none of these happened.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from airflow_provider_posthog.api import insights, jobs, queries
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.jobs import Again, Ended, Watch
from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict, failure_in
from airflow_provider_posthog.api.steps import Pause, Send, Steps, Stopped
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogServerError,
    PostHogTransportError,
)

State = Literal["fresh", "calculated", "failed", "timeout", "unreachable", "refused", "cut"]
STATES: frozenset[str] = frozenset({"fresh", "calculated", "failed", "timeout", "unreachable", "refused", "cut"})

#: Seconds by which the clocks of PostHog's own machines may differ: one writes ``Date``, another ``last_refresh``.
_CLOCKS_APART = timedelta(seconds=2)
_FORGOTTEN = "PostHog has forgotten the calculation: it was cancelled, or took over 20 minutes"
_NO_ROOM = "concurrency_limit_exceeded"
#: Seconds of the first and of the longest wait for room among the queries that run at once.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 20.0


@dataclass(frozen=True)
class Earlier:
    """A calculation that an earlier try may have started.

    :param query_id: its name.
    :param same_life: whether a success of it counts: no user has cleared the task since.
    """

    query_id: str
    same_life: bool


@dataclass(frozen=True)
class Target:
    """An insight to calculate afresh.

    :param insight_id: its number.
    :param query_id: the name of the calculation, to ask for it and to cancel it by.
    :param title: what to call it in messages.
    :param dashboard_id: with this dashboard's filters: a result of its own.
    :param since: the server's time before the request; ``None`` if the server does not tell it.
    :param before: the ``last_refresh`` before the request.
    :param filters_override: filters in place of its own.
    :param variables_override: variables in place of its own.
    :param earlier: what earlier tries may have started, newest first.
    :param life_since: when the task's run began, in seconds since 1970; an older success does not count.
    :param may_start: start it; otherwise it has been started, and is only watched.
    """

    insight_id: int
    query_id: str
    title: str = ""
    dashboard_id: int | None = None
    since: datetime | None = None
    before: str | None = None
    filters_override: Mapping[str, Any] | None = field(default=None, repr=False)
    variables_override: Mapping[str, Any] | None = field(default=None, repr=False)
    earlier: tuple[Earlier, ...] = ()
    life_since: float = 0.0
    may_start: bool = True

    def read(self, refresh: queries.Refresh | None = None) -> Call[Insight]:
        """Make the call that reads it.

        :param refresh: how to calculate; by default not at all.
        """
        call = insights.retrieve(
            self.insight_id,
            refresh=refresh,
            from_dashboard=self.dashboard_id,
            filters_override=self.filters_override,
            variables_override=self.variables_override,
            client_query_id=self.query_id if refresh else None,
        )
        # A second calculation would run beside the first, whose answer was lost.
        return replace(call, repeatable=refresh is None)


@dataclass(frozen=True)
class Outcome:
    """What came of a refresh.

    :param state: ``fresh`` (proved); ``calculated`` (PostHog says so: read it back); ``failed``; ``timeout``;
        ``unreachable``; ``refused`` (the key may not); ``cut`` (the connection was, while PostHog calculated).
    :param reason: why, fit for a log.
    :param insight: the insight with its result, if it is fresh.
    :param seconds: how long it took.
    :param started: when PostHog started to calculate, in seconds since 1970 by its clock; 0 if not known.
    """

    state: State
    reason: str = ""
    insight: Insight | None = field(default=None, repr=False)
    seconds: float = 0.0
    started: float = 0.0


def fault(insight: Insight, target: Target, *, calculated_now: bool) -> str | None:
    """Return why an answer does not prove that the insight is fresh; ``None`` if it does.

    :param insight: the answer.
    :param target: what was asked for.
    :param calculated_now: whether this very answer was to calculate it, and not only to read it back.
    """
    failure = failure_in(insight)
    if failure is not None:
        return failure
    if insight.get("result") is None:
        return "PostHog gave no result"
    if calculated_now and insight.get("is_cached") is not False:
        return "PostHog answered from its cache"
    refreshed = moment(insight.get("last_refresh"))
    if refreshed is None:
        return "PostHog does not say when it was calculated (last_refresh)"
    if target.since is not None and refreshed < target.since - _CLOCKS_APART:
        return f"its numbers are from {refreshed:%Y-%m-%d %H:%M:%S} UTC, before this refresh was asked for"
    before = moment(target.before)
    if before is not None and refreshed <= before:
        return f"its numbers are still those from {before:%Y-%m-%d %H:%M:%S} UTC"
    return None


def refresh(target: Target, deadline: float, interval: float, max_failures: int) -> Steps[Outcome]:
    """Calculate an insight afresh and prove it, in a worker.

    The request waits for the numbers; if something between here and PostHog cuts it off, as gateways do after a
    minute or two, PostHog is asked to calculate on its own, where the key may watch that.

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :param interval: the longest wait between two polls, in seconds.
    :param max_failures: how many polls may fail in a row.
    :returns: ``fresh``, or why not.
    """
    outcome = yield from in_request(target, deadline)
    if outcome.state != "cut":
        return outcome
    watched = yield from may_watch(target.query_id)
    yield from cancel(target.query_id)  # it may go on behind the cut, and a second one must not run beside it
    if not watched:
        more = "Give the key the scope query:read, and it is calculated without a request that waits."
        return replace(outcome, reason=f"{outcome.reason}. {more}")
    background = yield from in_background(target, deadline, interval, max_failures)
    return (yield from finish(target, background))


def finish(target: Target, outcome: Outcome) -> Steps[Outcome]:
    """Turn a calculation that PostHog reports as done into a proved one, by reading it back.

    :param target: the insight.
    :param outcome: what came of the calculation.
    """
    if outcome.state != "calculated":
        return outcome
    try:
        proved = yield from read_back(target, outcome.started)
    except Stopped:
        raise
    except PostHogError as error:
        return replace(outcome, state="failed", reason=f"it was calculated, but can not be read: {error}")
    return replace(proved, seconds=outcome.seconds, started=outcome.started)


def in_request(target: Target, deadline: float) -> Steps[Outcome]:
    """Calculate an insight while the request waits (``force_blocking``).

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :returns: ``fresh``, or why not; ``cut`` if the connection ended while PostHog may go on.
    """
    began = time.time()
    for earlier in target.earlier:  # a killed try's calculation may still run, and can not be waited for
        yield from cancel(earlier.query_id)
    wait = _FIRST_WAIT
    while True:
        try:
            answer: Insight = yield Send(target.read("force_blocking"), ONCE)
        except Stopped:
            raise
        except PostHogError as error:
            outcome, pause = _of_error(error)
        else:
            outcome, pause = _of_answer(answer, target), None
            if _has_no_room(answer):
                pause = 0.0
        if pause is None:
            return Outcome(outcome.state, outcome.reason, outcome.insight, time.time() - began)
        pause, wait = max(pause, wait), min(wait * 2, _LONGEST_WAIT)
        if time.time() + pause >= deadline:
            return Outcome("timeout", outcome.reason, seconds=time.time() - began)
        yield Pause(pause)


def _of_answer(answer: Insight, target: Target) -> Outcome:
    reason = fault(answer, target, calculated_now=True)
    return Outcome("fresh", insight=answer) if reason is None else Outcome("failed", reason)


def _of_error(error: PostHogError) -> tuple[Outcome, float | None]:
    """Say what an error means, and after how many seconds it makes sense to ask again, if ever."""
    if isinstance(error, PostHogAPIError) and error.status in (429, 503):
        return Outcome("unreachable", str(error)), error.retry_after or 0.0
    if isinstance(error, PostHogTransportError) and not error.sent:
        return Outcome("unreachable", str(error)), 0.0
    # An error of a gateway has no code of PostHog's; behind it PostHog goes on.
    gateway = isinstance(error, PostHogServerError) and not error.code
    if gateway or (isinstance(error, PostHogTransportError) and error.sent):
        return Outcome("cut", str(error)), None
    if isinstance(error, (PostHogPermissionError, PostHogAuthenticationError)):
        return Outcome("refused", str(error)), None
    return Outcome("failed", str(error)), None


def _has_no_room(answer: Insight) -> bool:
    status = answer.get("query_status")
    return isinstance(status, Mapping) and _NO_ROOM in (status.get("error_code"), status.get("error_message"))


def may_watch(query_id: str) -> Steps[bool]:
    """Find out whether the key may ask for asynchronous calculations (scope ``query:read``); starts nothing.

    :param query_id: any name.
    """
    try:
        yield queries.status(query_id)
    except PostHogNotFoundError:
        return True
    except PostHogPermissionError:
        return False
    return True


def in_background(target: Target, deadline: float, interval: float, max_failures: int) -> Steps[Outcome]:
    """Have PostHog calculate an insight on its own (``force_async``), and watch it end.

    A calculation that an earlier try or this one has started is taken up, and not started again.

    :param target: the insight.
    :param deadline: when to give up, in seconds since 1970.
    :param interval: the longest wait between two polls, in seconds.
    :param max_failures: how many polls may fail in a row.
    :returns: ``calculated``, or why not.
    """
    began = time.time()
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
            outcome = yield from _watch(query_id, watch)
            if outcome.state == "failed" and _NO_ROOM in outcome.reason:
                pause = 0.0
        if pause is None or not target.may_start:
            return replace(outcome, seconds=time.time() - began)
        pause, wait = max(pause, wait), min(wait * 2, _LONGEST_WAIT)
        if time.time() + pause >= deadline:
            return Outcome("timeout", outcome.reason, seconds=time.time() - began)
        yield Pause(pause)


def start(target: Target) -> Steps[str]:
    """Have PostHog start to calculate an insight, unless it does so already.

    :param target: the insight.
    :returns: the name of the calculation.
    :raises PostHogError: if it can not be started.
    """
    known = yield from _taken_up(target)
    if known is not None:
        return known
    if not target.may_start:
        raise PostHogJobFailed(_FORGOTTEN)
    try:
        answer: Insight = yield target.read("force_async")
    except PostHogTransportError as error:
        if not error.sent:
            raise
        return target.query_id  # whether it was started is for the watch to see
    query_status = answer.get("query_status")
    if not isinstance(query_status, Mapping) or not query_status.get("id"):
        raise PostHogJobFailed(failure_in(answer) or "PostHog did not start to calculate (no query_status)")
    return str(query_status["id"])


def _taken_up(target: Target) -> Steps[str | None]:
    """Return the name of the calculation that this try or an earlier one has started, if it is worth anything."""
    for earlier in (Earlier(target.query_id, True), *target.earlier):
        try:
            status: queries.QueryStatus = yield queries.status(earlier.query_id)
        except PostHogNotFoundError:
            continue
        verdict = jobs.QUERY.judge(status)
        mine = earlier.query_id == target.query_id
        if verdict.state == "pending" or (mine and not target.may_start):
            return earlier.query_id
        if verdict.state == "succeeded" and earlier.same_life and queries.started_at(status) >= target.life_since:
            return earlier.query_id
    return None


def _watch(query_id: str, watch: Watch) -> Steps[Outcome]:
    seen_at = 0.0
    while True:
        seen: Verdict | PostHogError
        try:
            status: queries.QueryStatus = yield Send(queries.status(query_id), ONCE)
            seen, seen_at = jobs.QUERY.judge(status), queries.started_at(status)
        except Stopped:
            raise
        except PostHogError as error:
            seen = error
        step = watch.observe(seen, time.time())
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
    answer: Insight = yield target.read()
    reason = fault(answer, target, calculated_now=False)
    return Outcome("fresh", insight=answer) if reason is None else Outcome("failed", reason)


def cancel(query_id: str) -> Steps[bool]:
    """End a calculation, where PostHog lets the key do so.

    :param query_id: its name.
    :returns: whether PostHog says that it was ended, or that there is none.
    """
    for call in (queries.cancel(query_id), insights.cancel(query_id)):
        try:
            yield Send(call, ONCE)
        except PostHogNotFoundError:
            continue  # it has no status, as one that a request waits for; the other way finds it
        except Stopped:
            raise
        except PostHogError:
            continue
        return True
    return False
