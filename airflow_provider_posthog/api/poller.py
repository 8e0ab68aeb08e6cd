"""One poller for all that wait: which polls are due, and which of them one list answers together.

:class:`Rounds` is the whole policy for the jobs of one kind, without a clock or a socket. Each waiter says when it
wants to poll next; a list answers all of them at once, so that 300 waiting exports cost three calls a round, and
not 300. Times are seconds of any one clock that does not go back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from airflow_provider_posthog.api.jobs import LONGEST_OVERRUN
from airflow_provider_posthog.api.polls import Reading, Seen
from airflow_provider_posthog.api.retry import LAST, ONCE, RetryPolicy, poll_policy
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogError, PostHogRateLimitError

#: Seconds between two rounds for each page that they read, unless all want to poll more rarely: 24 calls a minute.
_SECONDS_A_PAGE = 2.5
#: ... and the least for each page after the first, however often all want to poll: 51 calls a minute for ten pages.
_SECONDS_A_MORE_PAGE = 1.3
#: Polls that are due within this time go in the same round.
_SOON = 0.02
#: Seconds for which a list waits for waiters that were just answered and will ask again: one call answers them all.
_GATHER = 1.0
#: Seconds before a deadline in which only what is final answers: by the time somebody hears of anything else, the
#: deadline may have passed, and the poll at it would not be made.
_NEAR = 0.25
#: How many lists in a row may fail before polling one job shows whether it is only the list.
_BAD_LISTS = 3


@dataclass(eq=False)
class Waiter:
    """A task or trigger that waits for a job.

    :param job_id: the job's id.
    :param interval: the longest wait between two polls, in seconds.
    :param due: when it wants to poll next.
    :param deadline: when it polls for the last time.
    :param waits: whether it waits for an answer now.
    :param overrun: seconds for which its poll at the deadline may be postponed, once, if the rate limits refuse it.
    """

    job_id: str
    interval: float
    due: float = 0.0
    deadline: float = math.inf
    waits: bool = False
    overrun: float = LONGEST_OVERRUN
    #: Whether the list's first pages do not show its job, or not enough of it: twice in a row, as rows move up between
    #: two pages when others are deleted.
    deep: bool = False
    missed: bool = False
    #: Whether a poll of its job alone is in flight, and whether the one at the deadline is.
    asked: bool = False
    asked_last: bool = False

    @property
    def may_poll_last(self) -> bool:
        """Whether it waits, and has not begun its last poll."""
        return self.waits and not self.asked_last

    def want(self, due: float, deadline: float) -> None:
        """Wait for the next answer.

        :param due: when to poll next.
        :param deadline: when to poll for the last time.
        """
        self.due, self.deadline, self.waits = due, deadline, True
        self.asked = self.asked_last = False


@dataclass(frozen=True)
class Poll:
    """A poll to be made now.

    :param waiters: for whom; without a list all of them wait for one job.
    :param listed: whether to ask for the list.
    :param last: whether it is one at a deadline, which uses the reserve and does not queue.
    :param gives_way: seconds for which one at a deadline may be postponed.
    """

    waiters: tuple[Waiter, ...]
    listed: bool
    last: bool
    gives_way: float = LONGEST_OVERRUN

    def policy(self, now: float) -> RetryPolicy:
        """Return how patient it is.

        :param now: the time.
        """
        if self.last:
            return poll_policy(LAST, 0.0, gives_way=self.gives_way)
        if self.listed:
            return ONCE  # a waiter whose deadline comes meanwhile gets a poll of its own
        return poll_policy(ONCE, max(waiter.deadline for waiter in self.waiters) - now)


class Rounds:
    """Decides when to poll, and how.

    :param least: from how many jobs on a list is cheaper; ``None`` if there is no list.
    """

    def __init__(self, least: int | None) -> None:
        self.waiters: set[Waiter] = set()
        self._least = least
        self._began = -math.inf
        self._pages = 1
        self._goes_on = False
        self._bad_lists = 0

    def next_at(self) -> float:
        """Return when the next poll is due; infinite if none is."""
        single, listed = self._split()
        times = [waiter.due for waiter in single]
        times += [waiter.deadline for waiter in self.waiters if waiter.may_poll_last]
        if listed and not self._goes_on:
            times.append(self._list_at(listed))
        return min(times, default=math.inf)

    def begin(self, now: float) -> Iterator[Poll]:
        """Yield the polls that are due, and record that they are in flight.

        :param now: the time.
        """
        yield from self._last_polls(now)
        single, listed = self._split()
        soon = now + _SOON
        if listed and not self._goes_on and self._list_at(listed) <= soon:
            self._goes_on, self._began = True, now
            for waiter in listed:
                waiter.asked = False  # a poll of its own, which may still be queued, is not needed any more
            yield Poll(tuple(listed), listed=True, last=False)
        # A poll a moment before the deadline has no time to queue: the one at the deadline takes its place.
        due = {waiter.job_id for waiter in single if waiter.due <= (soon if waiter.deadline > soon else now)}
        together = [waiter for waiter in single if waiter.job_id in due]
        for waiter in together:
            waiter.asked = True
        yield from self._one_by_one(together, last=False)

    def _last_polls(self, now: float) -> Iterator[Poll]:
        urgent = [waiter for waiter in self.waiters if waiter.may_poll_last and waiter.deadline <= now]
        gives_way = min((waiter.overrun for waiter in urgent), default=LONGEST_OVERRUN)
        for waiter in urgent:
            waiter.asked_last, waiter.overrun = True, 0.0
        shallow = [waiter for waiter in urgent if not waiter.deep]
        if self._by_list(shallow):
            yield Poll(tuple(shallow), listed=True, last=True, gives_way=gives_way)
            urgent = [waiter for waiter in urgent if waiter.deep]
        yield from self._one_by_one(urgent, last=True, gives_way=gives_way)

    def needs(self, poll: Poll) -> bool:
        """Return whether any waiter still needs a poll that was begun.

        :param poll: the poll.
        """
        waiting = [waiter for waiter in poll.waiters if waiter.waits and waiter in self.waiters]
        return bool(waiting) if poll.listed else any(waiter.asked or waiter.asked_last for waiter in waiting)

    def end(self, poll: Poll, pages: int) -> None:
        """Record that a list was read.

        :param poll: the poll.
        :param pages: how many calls it took.
        """
        self._pages = max(1, pages)
        if not poll.last:
            self._goes_on = False

    def go_on(self) -> None:
        """Start again after a fault in which the end of a poll may have been missed."""
        self._goes_on = False

    def is_list_bad(self, reading: Reading) -> bool:
        """Return whether the list has failed so often that a single job has to be polled to see whether that works.

        :param reading: what was just read.
        """
        passing = isinstance(reading.error, PostHogError) and not isinstance(reading.error, PostHogRateLimitError)
        self._bad_lists = self._bad_lists + 1 if passing else 0
        return self._bad_lists >= _BAD_LISTS

    def missed(self, poll: Poll, reading: Reading) -> Iterator[Poll]:
        """Yield polls for the jobs that a list did not report fully; after the second time each gets its own polls.

        :param poll: the poll that read the list.
        :param reading: its outcome.
        """
        if reading.error is not None:
            return
        rest = [waiter for waiter in poll.waiters if waiter.waits and waiter.job_id not in reading.seen]
        for waiter in set(poll.waiters).difference(rest):
            waiter.missed = False
        for waiter in rest:
            waiter.asked = True
            waiter.deep, waiter.missed = self._least is not None and waiter.missed, True
        yield from self._one_by_one(rest, last=poll.last, gives_way=poll.gives_way)

    def answers(self, waiter: Waiter, seen: Seen, poll: Poll, now: float) -> bool:
        """Return whether the outcome of a poll answers a waiter; if so, it waits no more.

        A list's failure counts only for waiters that were due by then: others have not tried as often. Just before a
        deadline, and behind it, whatever is not final leaves the answer to the poll at the deadline.

        :param waiter: the waiter.
        :param seen: the outcome.
        :param poll: the poll.
        :param now: the time.
        """
        wanted = poll.last or not poll.listed or waiter.due <= now
        if not waiter.waits or (isinstance(seen.verdict, PostHogError) and not wanted):
            return False
        if not poll.last and not _is_final(seen) and waiter.deadline <= now + _NEAR:
            return False
        waiter.waits = False
        return True

    def without_list(self) -> None:
        """Poll each job alone from now on: this PostHog has no such list."""
        self._least = None

    def _by_list(self, waiters: Collection[Waiter]) -> bool:
        return self._least is not None and len({waiter.job_id for waiter in waiters}) >= self._least

    def _split(self) -> tuple[list[Waiter], list[Waiter]]:
        """Return the waiters to poll one by one, and those to poll by the list."""
        waiting = [waiter for waiter in self.waiters if waiter.may_poll_last]
        shallow = [waiter for waiter in waiting if not waiter.deep]
        listed = shallow if self._goes_on or self._by_list(shallow) else []
        return [waiter for waiter in waiting if not waiter.asked and (waiter.deep or not listed)], listed

    def _list_at(self, listed: Collection[Waiter]) -> float:
        """Return when the list is due, allowing for waiters that are about to ask."""
        at = max(self._free_at(), min(waiter.due for waiter in listed))
        return at if all(waiter.waits for waiter in self.waiters) else at + _GATHER

    def _free_at(self) -> float:
        interval = min(waiter.interval for waiter in self.waiters)
        least = (self._pages - 1) * _SECONDS_A_MORE_PAGE
        return self._began + max(min(interval, self._pages * _SECONDS_A_PAGE), least)

    @staticmethod
    def _one_by_one(waiters: Iterable[Waiter], *, last: bool, gives_way: float = LONGEST_OVERRUN) -> Iterator[Poll]:
        by_id: dict[str, list[Waiter]] = {}
        for waiter in waiters:
            by_id.setdefault(waiter.job_id, []).append(waiter)
        for together in by_id.values():
            yield Poll(tuple(together), listed=False, last=last, gives_way=gives_way)


def _is_final(seen: Seen) -> bool:
    verdict = seen.verdict
    return isinstance(verdict, Verdict) and verdict.state != "pending" and verdict.final
