"""Remote jobs: what differs between an export, a query and other jobs, and how any of them is watched.

:class:`Watch` is the whole polling policy, without a clock or a socket: the worker's loop and the trigger's loop only
ask PostHog, pass the answer to the watch, and wait as long as it says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from airflow_provider_posthog.api import (
    exports,
    file_downloads,
    queries,
    single_poll,
    states,
    system_poll,
    watched,
)
from airflow_provider_posthog.api.call import STATUS_BYTES, Call
from airflow_provider_posthog.api.retry import RETRYABLE_STATUSES, RetryPolicy
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Pause, Send, Steps
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogNotFoundError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogTransportError,
)

Outcome = Literal["succeeded", "failed", "gone", "timeout", "unreachable", "refused"]
OUTCOMES: frozenset[str] = frozenset({"succeeded", "failed", "gone", "timeout", "unreachable", "refused"})

#: How many polls in a row may fail before a job is given up as unreachable.
MAX_POLL_FAILURES = 10
#: Seconds for which a failure that PostHog may still repair has to last: its first two retries come after 30 and 60 s.
FAILURE_GRACE = 100.0
#: Seconds of an operator's first wait, and by what factor its waits grow towards ``poll_interval``.
FIRST_WAIT = 1.0
GROWTH = 1.5
#: The least seconds for a poll, even one begun at the deadline, and for a check, which may take several calls.
LAST_POLL = 5.0
LAST_CHECK = 30.0
#: Seconds for which a poll at the deadline is postponed, once, if the rate limits refuse it.
LONGEST_OVERRUN = 60.0
#: Seconds between polls for a job when the answer to its creation was lost.
LOST_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Seconds for cancelling a job, by a task that is itself out of time.
CANCEL_SECONDS = 5.0
#: Seconds between calls that cancel what PostHog does not show yet.
HIDDEN_WAITS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Listing:
    """A list of PostHog's that reports on many jobs of a kind.

    :param page: makes the call of a page, newest first, from an offset and the number of rows.
    :param rows: picks the rows of some ids from a page, each as ``judge`` of the kind reads it.
    :param tells_all: whether a row shows how a job ended; otherwise only that it is running.
    :param least: from how many jobs on a list is cheaper.
    """

    page: Callable[[int, int], Call[Any]]
    rows: Callable[[Mapping[str, Any], Collection[str]], Mapping[str, Mapping[str, Any]]]
    tells_all: bool = True
    least: int = 3


@dataclass(frozen=True)
class Asking:
    """A query that reports on many jobs of a kind, and on exactly those.

    :param steps: asks, given their ids, how patient to be, and the server's address; returns a row for each job that
        PostHog reports on, as ``judge`` of the kind reads it.
    :param least: from how many jobs on it is cheaper.
    """

    steps: Callable[[Collection[str], RetryPolicy, str], Steps[Mapping[str, Mapping[str, Any]]]]
    least: int = 1


def _no_rest(answer: Mapping[str, Any]) -> Call[Any] | None:
    return None


def _shows_at_once(job_id: str) -> bool:
    return False


def _no_facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class JobKind:
    """What is particular to one kind of job.

    :param name: the name that triggers and stored job ids carry; never renamed.
    :param status: makes the call that asks for the job with this id.
    :param judge: reads what that call brings.
    :param cancel: makes the call that ends the job, or ``None`` where PostHog offers none.
    :param brings_result: whether the answer holds the whole result, once the job has ended.
    :param cancels: makes the calls that end the job with this id, where they depend on the id.
    :param listing: what reports on many of them; ``None`` where PostHog has nothing that does.
    :param facts: what a task needs to know of a job that has succeeded: small, JSON, without personal data. It is in
        the trigger's event.
    :param names: what a job is called, by its id; ``None`` for the kind's name and the id.
    :param rest: the call that brings an answer with what PostHog has left out; ``None`` for nothing.
    :param hides: whether PostHog answers 404 for the job with this id in its first seconds.
    """

    name: str
    status: Callable[[str], Call[Any]]
    judge: Callable[[Mapping[str, Any]], Verdict]
    cancel: Callable[[str], Call[Any]] | None = None
    brings_result: bool = False
    listing: Listing | Asking | None = None
    cancels: Callable[[str], Sequence[Call[Any]]] | None = None
    facts: Callable[[Mapping[str, Any]], dict[str, Any]] = _no_facts
    names: Callable[[str], str] | None = None
    rest: Callable[[Mapping[str, Any]], Call[Any] | None] = _no_rest
    hides: Callable[[str], bool] = _shows_at_once

    def named(self, job_id: str) -> str:
        """Return what a job is called in logs and errors, such as ``export 7``.

        :param job_id: the job's id.
        """
        return self.names(job_id) if self.names is not None else f"{self.name.replace('_', ' ')} {job_id}"

    def poll(self, job_id: str) -> Call[Any]:
        """Make the call that polls the job; its answer is limited in size.

        :param job_id: the job's id.
        """
        return replace(self.status(job_id), max_bytes=STATUS_BYTES)

    def asked(self, job_id: str, policy: RetryPolicy) -> Steps[Mapping[str, Any]]:
        """Poll the job, page by page where PostHog answers in pages.

        :param job_id: the job's id.
        :param policy: how patient to be.
        """
        answer: Mapping[str, Any] = yield Send(self.poll(job_id), policy)
        while (rest := self.rest(answer)) is not None:
            answer = yield Send(rest, policy)
        return answer

    def cancelling(self, job_id: str) -> Sequence[Call[Any]]:
        """Make the calls that cancel a job; none if PostHog cannot.

        :param job_id: the job's id.
        """
        if self.cancels is not None:
            return self.cancels(job_id)
        return () if self.cancel is None else (self.cancel(job_id),)

    def cancelled(self, job_id: str) -> Steps[None]:
        """Cancel the job: each part of it, though others have ended, and one that PostHog shows a moment later.

        :param job_id: the job's id.
        :raises PostHogError: if no part was cancelled, or PostHog could not be asked.
        """
        refusals: list[PostHogError] = []
        calls = self.cancelling(job_id)
        for call in calls:
            try:
                yield from _cancelled(call, HIDDEN_WAITS if self.hides(job_id) else ())
            except PostHogAPIError as error:
                if not 400 <= error.status < 500 or error.status in RETRYABLE_STATUSES:
                    raise
                refusals.append(error)
        if refusals and len(refusals) == len(calls):
            raise refusals[0]

    def cancel_seconds(self, job_id: str) -> float:
        """Return how many seconds cancelling may take.

        :param job_id: the job's id.
        """
        return CANCEL_SECONDS + (sum(HIDDEN_WAITS) if self.hides(job_id) else 0.0)

    def of_error(self, error: PostHogError) -> Verdict | PostHogError:
        """Return what the error of a poll means: a job whose answer is too large has ended, as it holds the result.

        The task reads it whole, and so proves it; it does not fit into the triggerer's memory.

        :param error: the error.
        """
        if self.brings_result and isinstance(error, PostHogTransportError) and error.too_large:
            return Verdict("succeeded")
        return error


def _rows_by_id(page: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Mapping[str, Any]]:
    return {str(row.get("id")): row for row in page.get("results", ()) if str(row.get("id")) in wanted}


def _page_of_downloads(offset: int, limit: int) -> Call[Any]:
    return _page(file_downloads.list(), offset, limit)


def _page(call: Call[Any], offset: int, limit: int) -> Call[Any]:
    return replace(call, query={**call.query, "limit": limit, "offset": offset or None}, max_bytes=STATUS_BYTES)


EXPORT = JobKind(
    "export",
    lambda job_id: exports.retrieve(int(job_id)),
    states.of_export,
    listing=Listing(lambda offset, limit: _page(exports.list(), offset, limit), _rows_by_id),
    facts=exports.facts_of,
)
QUERY = JobKind("query", queries.status, states.of_query, queries.cancel, brings_result=True)
FILE_DOWNLOAD = JobKind(
    "file_download",
    file_downloads.retrieve,
    states.of_file_download,
    file_downloads.cancel,
    listing=Listing(_page_of_downloads, _rows_by_id, tells_all=False),
)


#: Backfills, runs, syncs, views and more, by texts of :mod:`~airflow_provider_posthog.api.watched`: one kind, so that
#: one query answers for all of them.
WATCHED = JobKind(
    "job",
    single_poll.status,
    watched.judge,
    cancels=single_poll.cancelling,
    listing=Asking(system_poll.look),
    facts=watched.facts,
    names=watched.named,
    rest=single_poll.rest,
    hides=lambda job_id: job_id.startswith("backfill/"),
)

KINDS: dict[str, JobKind] = {kind.name: kind for kind in (EXPORT, QUERY, FILE_DOWNLOAD, WATCHED)}


def _cancelled(call: Call[Any], waits: Sequence[float]) -> Steps[None]:
    for seconds in waits:
        try:
            yield call
        except PostHogNotFoundError:
            yield Pause(seconds)
        else:
            return
    yield call


@dataclass(frozen=True)
class Again:
    """Ask again.

    :param seconds: how long to wait before.
    """

    seconds: float


@dataclass(frozen=True)
class Ended:
    """The watch is over.

    :param outcome: ``succeeded``; ``failed`` and ``gone`` (PostHog says so); ``timeout`` (the deadline passed);
        ``unreachable`` (too many polls failed in a row); ``refused`` (the key is not allowed to ask).
    :param reason: why, fit for a log.
    """

    outcome: Outcome
    reason: str = ""


class Watch:
    """Decides, poll by poll, whether to go on watching a job.

    :param deadline: when to give up, in seconds of the clock that ``now`` is read from.
    :param interval: the longest wait between two polls, in seconds.
    :param first: the first wait, in seconds.
    :param growth: by what factor the waits grow towards ``interval``.
    :param max_failures: how many polls in a row may fail; one that works resets the count.
    :param grace: seconds for which a failure that PostHog may still repair has to last.
    :param overrun: seconds for which a poll at the deadline may be postponed, once, if the rate limits refuse it.
    """

    def __init__(
        self,
        *,
        deadline: float,
        interval: float,
        first: float = FIRST_WAIT,
        growth: float = GROWTH,
        max_failures: int = MAX_POLL_FAILURES,
        grace: float = FAILURE_GRACE,
        overrun: float = 0.0,
    ) -> None:
        self._deadline = deadline
        self._interval = interval
        self._max_failures = max_failures
        self._grace = grace
        self._growth = growth
        self._overrun = overrun
        self._wait = min(first, interval)
        self._failures = 0
        self._failing_since: float | None = None

    def observe(self, observed: Verdict | PostHogError, now: float) -> Again | Ended:
        """Take the outcome of a poll, and return what to do.

        :param observed: the verdict on the job's status, or the error of the poll.
        :param now: the time.
        """
        ended = self._on_error(observed) if isinstance(observed, PostHogError) else self._on_verdict(observed, now)
        if ended is not None:
            return ended
        if now >= self._deadline:
            return self._at_deadline(observed)
        return Again(max(0.0, min(self._next_wait(observed), self._deadline - now)))

    def _on_verdict(self, verdict: Verdict, now: float) -> Ended | None:
        self._failures = 0
        if verdict.state == "succeeded":
            return Ended("succeeded")
        if verdict.state == "pending":
            self._failing_since = None
            return None
        if self._failing_since is None:
            self._failing_since = now
        if verdict.final or now - self._failing_since >= self._grace:
            return Ended("failed", verdict.reason)
        return None

    def _on_error(self, error: PostHogError) -> Ended | None:
        if isinstance(error, PostHogRateLimitError):
            return None  # the server is healthy, and the deadline ends the wait
        if isinstance(error, PostHogNotFoundError):
            return Ended("gone", str(error))
        passing = isinstance(error, PostHogAPIError) and error.status in RETRYABLE_STATUSES
        if passing or isinstance(error, (PostHogTransportError, PostHogServerError)):
            self._failures += 1
            return Ended("unreachable", str(error)) if self._failures >= self._max_failures else None
        return Ended("refused", str(error))

    def _next_wait(self, observed: Verdict | PostHogError) -> float:
        if isinstance(observed, PostHogError):
            # A server in trouble is not polled sooner than necessary, so that the budget of failures lasts longer.
            retry_in = observed.retry_after if isinstance(observed, PostHogAPIError) else None
            return max(self._interval, retry_in or 0.0)
        wait, self._wait = self._wait, min(self._wait * self._growth, self._interval)
        return wait * random.uniform(0.9, 1.0)  # noqa: S311 - spreads the polls of tasks that started together

    def _at_deadline(self, observed: Verdict | PostHogError) -> Again | Ended:
        wait = observed.retry_after if isinstance(observed, PostHogRateLimitError) else None
        if wait is not None and 0 < wait <= self._overrun:  # PostHog was not asked
            self._overrun = 0.0
            return Again(wait)
        if isinstance(observed, PostHogError):
            return Ended("timeout", str(observed))
        return Ended("timeout", observed.reason or "At the last poll PostHog called it pending.")
