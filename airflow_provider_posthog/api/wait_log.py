"""What the log says of a wait: each change, the first failure, and what stays the same ever more rarely."""

from __future__ import annotations

import math

from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError

#: Seconds after which what has not changed is said again for the first time.
_AGAIN = 30.0
#: Seconds beside an interval after which a look is late.
_LATE = 5.0
#: Seconds without a wait after which a slowdown has ended.
_CALM = 60.0


class Slowdown:
    """Decides which wait for a budget is news: the first one of a slowdown. Whoever has one sees to its lock."""

    def __init__(self) -> None:
        self._until = -math.inf

    def begins(self, now: float, wait: float) -> bool:
        """Note that a call is held back; say whether it is the first one after a minute in which none was.

        :param now: the time, in seconds of any one clock that does not go back.
        :param wait: for how many seconds the call is held back.
        """
        begins = now - self._until > _CALM
        self._until = max(self._until, now + wait)
        return begins


class Telling:
    """Decides what of a wait is news. A line per poll would flood the log of a long job."""

    def __init__(self) -> None:
        self._shown: object = None
        self._again = self._held_again = _AGAIN
        self._held = False

    def is_news(self, observed: Verdict | PostHogError, waited: float) -> bool:
        """Tell whether what a look brought is to be said.

        :param observed: what it brought.
        :param waited: seconds since the wait began.
        """
        self._held = False
        what = _kind_of(observed)
        if what == self._shown and waited < self._again:
            return False
        self._shown, self._again = what, max(self._again, waited) * 2
        return True

    def is_held_news(self, waited: float) -> bool:
        """Tell whether it is to be said that the rate limits hold back a look.

        :param waited: seconds since the wait began.
        """
        if self._held and waited < self._held_again:
            return False
        self._held, self._held_again = True, max(self._held_again, waited) * 2
        return True

    @staticmethod
    def patience(interval: float) -> float:
        """Return after how many seconds a look is late.

        :param interval: the longest wait between two looks, in seconds.
        """
        return interval + _LATE


def words_of(observed: Verdict | PostHogError) -> str:
    """Say what a look brought.

    :param observed: the verdict, or the error.
    """
    return str(observed) if isinstance(observed, PostHogError) else f"{observed.state} {observed.reason}".rstrip()


def _kind_of(observed: Verdict | PostHogError) -> object:
    """Return what makes a failure another one: not its seconds or its request's number."""
    if isinstance(observed, PostHogAPIError):
        return type(observed), observed.status, observed.code
    return type(observed) if isinstance(observed, PostHogError) else (observed.state, observed.reason)
