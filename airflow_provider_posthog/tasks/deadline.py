"""When a task gives up, and by which of its limits."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow_provider_posthog.api.jobs import LONGEST_OVERRUN
from airflow_provider_posthog.compat import before_execution_timeout
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogJobTimeout
from airflow_provider_posthog.tasks.timeouts import PostHogTaskTimeout


@dataclass(frozen=True)
class Deadline:
    """The moment at which a task stops waiting.

    :param at: in seconds since 1970.
    :param limit: which of the task's limits it is: ``timeout`` or ``execution_timeout``.
    """

    at: float
    limit: str = "timeout"

    @classmethod
    def of(cls, began: float, seconds: float, execution_timeout: timedelta | None = None) -> Deadline:
        """Return the earlier of a task's two limits.

        :param began: when it began, in seconds since 1970.
        :param seconds: its ``timeout``.
        :param execution_timeout: Airflow's, if the wait is deferred: Airflow 3 does not end a deferred task at it.
        """
        if execution_timeout is not None:
            hard = before_execution_timeout(execution_timeout)
            if hard < seconds:
                return cls(began + hard, "execution_timeout")
        return cls(began + seconds)

    def backstop(self, poll_interval: float) -> timedelta:
        """Return what Airflow is to take as the timeout of a deferral.

        The trigger ends itself at the deadline and says so. Airflow's own timeout would fail the task without calling
        us, so it only stands behind that, for a triggerer that is gone.

        :param poll_interval: the longest wait between two polls, in seconds.
        """
        left = max(1.0, self.at - time.time())
        return timedelta(seconds=left + 2 * poll_interval + 60 + LONGEST_OVERRUN)


def timeout_error(limit: str, text: str, *, job_id: str | None = None) -> BaseException:
    """Return the error of a task that is out of time.

    :param limit: as of :class:`Deadline`; also what an event says of it.
    :param text: what has not ended, and what became of it.
    :param job_id: the job's id on PostHog.
    """
    kind = PostHogTaskTimeout if limit == "execution_timeout" else PostHogJobTimeout
    return kind(text, job_id=job_id)
