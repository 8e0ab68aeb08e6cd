"""What a wait logs: each change, the first failure, and an unchanged state ever more rarely."""

from __future__ import annotations

import math

from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError

#: Seconds after which an unchanged state is logged again for the first time.
_AGAIN = 30.0
#: Seconds beyond an interval after which a poll is late.
_LATE = 5.0
#: Seconds without a wait after which a slowdown has ended.
_CALM = 60.0


class Slowdown:
    """Decides which wait for a budget is logged: the first one of a slowdown. The owner provides the lock."""

    def __init__(self) -> None:
        self._until = -math.inf

    def begins(self, now: float, wait: float) -> bool:
        """Record that a call is held back; return whether it is the first after a minute without any.

        :param now: the time, in seconds of any one clock that does not go back.
        :param wait: for how many seconds the call is held back.
        """
        begins = now - self._until > _CALM
        self._until = max(self._until, now + wait)
        return begins


class WaitLog:
    """Decides what of a wait is logged. A line per poll would flood the log of a long job."""

    def __init__(self) -> None:
        self._shown: object = _kind_of(Verdict("pending"))  # that it has just been asked for says nothing
        self._again = self._held_again = _AGAIN
        self._held = False

    def is_news(self, observed: Verdict | PostHogError, waited: float) -> bool:
        """Return whether to log the outcome of a poll.

        :param observed: the outcome.
        :param waited: seconds since the wait began.
        """
        self._held = False
        kind = _kind_of(observed)
        if kind == self._shown and waited < self._again:
            return False
        self._shown, self._again = kind, max(self._again, waited) * 2
        return True

    def is_held_news(self, waited: float) -> bool:
        """Return whether to log that the rate limits hold back a poll.

        :param waited: seconds since the wait began.
        """
        if self._held and waited < self._held_again:
            return False
        self._held, self._held_again = True, max(self._held_again, waited) * 2
        return True

    @staticmethod
    def patience(interval: float) -> float:
        """Return after how many seconds a poll is late.

        :param interval: the longest wait between two polls, in seconds.
        """
        return interval + _LATE


def words_of(observed: Verdict | PostHogError) -> str:
    """Describe the outcome of a poll.

    :param observed: the verdict, or the error.
    """
    return str(observed) if isinstance(observed, PostHogError) else f"{observed.state} {observed.reason}".rstrip()


def _kind_of(observed: Verdict | PostHogError) -> object:
    """Return what distinguishes outcomes: not the seconds or the request's id in a message."""
    if isinstance(observed, PostHogAPIError):
        return type(observed), observed.status, observed.code
    return type(observed) if isinstance(observed, PostHogError) else (observed.state, observed.reason)
