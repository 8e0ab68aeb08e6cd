"""One look for all triggers of an event loop that ask the same question, be it of one insight or of one dashboard.

PostHog's lists of insights tell nothing that could stand in for the looks (docs: *limits.md*), so each question costs a
call. What many sensors wait for in common costs it once an interval, as whoever looks first tells the others.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.exceptions import PostHogError


@dataclass(frozen=True)
class CheckResult:
    """What a look brought.

    :param verdict: the verdict, or the error of the look.
    :param facts: what was seen.
    """

    verdict: Verdict | PostHogError
    facts: Mapping[str, Any] = field(default_factory=dict)


class Question:
    """What several triggers ask alike."""

    def __init__(self) -> None:
        self.members = 0
        self._looking = 0
        self._next: asyncio.Future[CheckResult | None] | None = None

    async def ask(self, seconds: float, left: float, look: Callable[[], Awaitable[CheckResult]]) -> CheckResult:
        """Wait for what the next look brings; make it, if nobody else does in time.

        :param seconds: when to look at the latest.
        :param left: seconds until the deadline, at which there is a look of one's own, whatever others do.
        :param look: looks.
        """
        clock = asyncio.get_running_loop().time
        due = clock() + seconds
        deadline = max(due, clock() + left)
        while True:
            until = deadline if self._looking else due
            if clock() >= until:
                return await self._look(look)
            answer = await self._wait(until - clock())
            # A failure counts only for those who wanted to look by then: others have not tried as often.
            if answer is not None and (clock() >= due or not isinstance(answer.verdict, PostHogError)):
                return answer

    async def _wait(self, seconds: float) -> CheckResult | None:
        """Wait for somebody's look; ``None`` if it did not come, or was not finished."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        answer = self._next
        await asyncio.wait({answer}, timeout=seconds)
        return answer.result() if answer.done() else None

    async def _look(self, look: Callable[[], Awaitable[CheckResult]]) -> CheckResult:
        self._looking += 1
        answer = None
        try:
            answer = await look()
            return answer
        finally:  # who was cancelled leaves the look to others
            self._looking -= 1
            waiting, self._next = self._next, None
            if waiting is not None:
                waiting.set_result(answer)


_questions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Question]] = weakref.WeakKeyDictionary()


@contextmanager
def asking(key: Hashable) -> Iterator[Question]:
    """Ask beside all on this event loop that ask the same.

    :param key: what is asked, and by which connection.
    """
    of_loop = _questions.setdefault(asyncio.get_running_loop(), {})
    question = of_loop.setdefault(key, Question())
    question.members += 1
    try:
        yield question
    finally:
        question.members -= 1
        if not question.members and of_loop.get(key) is question:
            del of_loop[key]
