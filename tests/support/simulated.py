"""A clock, a PostHog with its throttles, and all that polls it: hours in a moment, and without a socket."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

from airflow_provider_posthog.api.budget import HOUR, MINUTE, Budget
from airflow_provider_posthog.api.call import Bucket, Call
from airflow_provider_posthog.api.jobs import EXPORT, Again, Ended, JobKind, Watch
from airflow_provider_posthog.api.pace import Pace
from airflow_provider_posthog.api.poller import Poll, Rounds, Waiter
from airflow_provider_posthog.api.polls import ListReader, Reading, Seen, poll_job
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.steps import Send
from airflow_provider_posthog.exceptions import PostHogError, PostHogNotFoundError, PostHogRateLimitError

LATENCY = 0.2
#: PostHog's own throttles, written down once more.
THROTTLES: dict[Bucket, tuple[int, int]] = {"crud": (480, 4800), "analytics": (240, 1200), "query": (240, 2400)}

Work = Generator[Send | float, Any, Any]


class World:
    """The clock, the server, and one process that calls it.

    :param share: the process's share of the limits.
    :param listed: whether the server lists exports.
    :param longest: the most rows that it gives as a page.
    """

    def __init__(self, share: float = 1.0, *, listed: bool = True, longest: int = 100) -> None:
        self.longest = longest
        self.now = 0.0
        self.calls: list[tuple[float, Bucket]] = []
        self.refused = 0
        self.ready: dict[str, float] = {}
        self.budget = Budget()
        self.share = share
        self.listed = listed
        self._paces: dict[Bucket, Pace] = {}
        self._let_through: dict[Bucket, deque[float]] = {bucket: deque() for bucket in THROTTLES}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), what))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def pace(self, bucket: Bucket) -> Pace:
        if bucket not in self._paces:
            self._paces[bucket] = Pace(bucket, self.share, lambda now: self.budget.left(bucket, now, share=self.share))
        return self._paces[bucket]

    def a_minute(self, start: float, end: float, bucket: Bucket = "crud") -> float:
        return sum(start <= at < end and of == bucket for at, of in self.calls) * 60 / (end - start)

    def work(
        self, steps: Work, then: Callable[[Any], None] = lambda _: None, needed: Callable[[], bool] = lambda: True
    ) -> None:
        """Do what :func:`~airflow_provider_posthog.api.steps.run_async` does; a number is a wait."""
        self._next(steps, None, then, needed)

    def _next(self, steps: Work, came: Any, then: Callable[[Any], None], needed: Callable[[], bool]) -> None:
        try:
            step = steps.throw(came) if isinstance(came, PostHogError) else steps.send(came)
        except StopIteration as end:
            then(end.value)
            return
        if isinstance(step, float):
            self.at(self.now + step, lambda: self._next(steps, None, then, needed))
            return
        self._send(step.call, step.policy, lambda came: self._next(steps, came, then, needed), needed)

    def _send(
        self, call: Call[Any], policy: RetryPolicy, then: Callable[[Any], None], needed: Callable[[], bool]
    ) -> None:
        pace, began = self.pace(call.bucket), self.now
        ticket = pace.join()

        def go() -> None:
            if not needed():
                return pace.leave(ticket)
            wait = pace.wait(ticket, self.now) if policy.polls else 0.0
            if self.now - began + wait > policy.max_pace_wait:
                pace.leave(ticket)
                return then(limited(wait))
            if wait:
                return self.at(self.now + min(wait, 15.0), go)
            held = self.budget.take(call.bucket, self.now, share=self.share, patience=0.0, reserve=policy.reserve)
            if 0 < held <= policy.gives_way:
                return then(limited(held))
            if held:
                self.budget.count(call.bucket, self.now, share=self.share)
            self.calls.append((self.now, call.bucket))
            return self.at(self.now + LATENCY, lambda: then(self._answer(call)))

        if not policy.polls:
            pace.leave(ticket)
        go()

    def _answer(self, call: Call[Any]) -> Any:
        minute, hour = THROTTLES[call.bucket]
        went = self._let_through[call.bucket]
        recent = sum(at > self.now - MINUTE for at in went)
        while went and went[0] <= self.now - HOUR:
            went.popleft()
        if recent >= minute or len(went) >= hour:
            self.refused += 1
            return limited(60.0)
        went.append(self.now)
        if call.path == "exports/":
            return self._page(call) if self.listed else PostHogNotFoundError(status=404, method="GET", path=call.path)
        if call.bucket != "crud":
            return {}
        return self._row(call.path.split("/")[-2])

    def _page(self, call: Call[Any]) -> dict[str, Any]:
        offset, limit = int(call.query["offset"] or 0), int(call.query["limit"] or 100)  # type: ignore[call-overload]
        limit = min(limit, self.longest)
        rows = [self._row(each) for each in sorted(self.ready, key=int, reverse=True)]
        return {"results": rows[offset : offset + limit], "next": "more" if offset + limit < len(rows) else None}

    def _row(self, job_id: str) -> Any:
        if job_id not in self.ready:
            return PostHogNotFoundError(status=404, method="GET", path=f"exports/{job_id}/")
        done = self.now >= self.ready[job_id]
        return {"id": int(job_id), "has_content": done, "exception": None, "complete": done}


def limited(seconds: float) -> PostHogRateLimitError:
    return PostHogRateLimitError(status=429, method="GET", path="x", retry_after=seconds)


class Poller:
    """What :class:`~airflow_provider_posthog.triggers.poller.JobPoller` and its triggers do."""

    def __init__(self, world: World, kind: JobKind = EXPORT) -> None:
        self.world = world
        self.kind = kind
        self.rounds = Rounds(kind.listing.least if kind.listing else None)
        self.reader = ListReader(kind, kind.listing) if kind.listing else None
        self.ended: dict[str, tuple[Ended, float]] = {}
        self._wants: dict[Waiter, tuple[Watch, float]] = {}
        self._woken = float("inf")

    def wait(self, job_id: str, *, deadline: float, interval: float = 10.0) -> None:
        """Begin to wait for a job, as a trigger that starts now."""
        waiter = Waiter(job_id, interval)
        self.rounds.waiters.add(waiter)
        self._wants[waiter] = (Watch(deadline=deadline, interval=interval), deadline)
        waiter.want(self.world.now, deadline)
        self._pump()

    def _pump(self) -> None:
        """Wake the loop, once for all that has happened by now."""
        if self._woken > self.world.now:
            self._wake_at(self.world.now)

    def _wake_at(self, when: float) -> None:
        self._woken = when
        self.world.at(when, lambda: self._run() if self._woken == when else None)

    def _run(self) -> None:
        self._woken = float("inf")
        for poll in list(self.rounds.begin(self.world.now)):
            if poll.listed:
                assert self.reader is not None
                ids = {waiter.job_id for waiter in poll.waiters}
                steps = self.reader.read(ids, poll.policy(self.world.now))
                self.world.work(steps, lambda reading, poll=poll: self._read(poll, reading))  # type: ignore[arg-type, misc]
            else:
                self._alone(poll)
        when = self.rounds.next_at()
        if when < 1e12:
            when = max(when, self.world.now + 1e-3)
            if when < self._woken:
                self._wake_at(when)

    def _alone(self, poll: Poll) -> None:
        steps = poll_job(self.kind, poll.waiters[0].job_id, poll.policy(self.world.now))
        self.world.work(steps, lambda seen: self._answer(poll.waiters, seen, poll), lambda: self.rounds.needs(poll))  # type: ignore[arg-type]

    def _read(self, poll: Poll, reading: Reading) -> None:
        assert self.reader is not None
        self.rounds.end(poll, reading.pages)
        if not self.reader.usable:
            self.rounds.without_list()
        for waiter in poll.waiters:
            seen = reading.seen.get(waiter.job_id) or (Seen(reading.error) if reading.error else None)
            if seen is not None:
                self._answer((waiter,), seen, poll)
        for one in list(self.rounds.missed(poll, reading)):
            self._alone(one)
        self._pump()

    def _answer(self, waiters: tuple[Waiter, ...], seen: Seen, poll: Poll) -> None:
        for waiter in waiters:
            if waiter not in self.rounds.waiters or not self.rounds.answers(waiter, seen, poll, self.world.now):
                continue
            watch, deadline = self._wants[waiter]
            step = watch.observe(seen.verdict, self.world.now)
            if isinstance(step, Again):
                due = self.world.now + step.seconds
                waiter.want(due, max(deadline, due))
            else:
                self.rounds.waiters.discard(waiter)
                self.ended[waiter.job_id] = (step, self.world.now)
        self._pump()

    def lateness(self) -> Iterator[float]:
        """Yield how late each end was noticed."""
        for job_id, (_, at) in self.ended.items():
            yield at - self.world.ready[job_id]
