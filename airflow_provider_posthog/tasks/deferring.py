"""Waits of a transfer that occupy no worker: until rows have settled, and when PostHog asks to wait long (429)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import (
    AirflowTaskTimeout,
    before_execution_timeout,
    default_deferrable,
    is_of_earlier_try,
)
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import NotSettled, PostHogRateLimitError
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.base import PostHogOperator

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context

#: Seconds that a worker waits itself: a deferral takes some seconds, too.
WORTH = 60.0
#: The longest single wait for a 429: PostHog's longest window. Behind it PostHog is asked again.
LONGEST = 3600.0
#: For how many seconds in all a task without an ``execution_timeout`` defers: a bucket of PostHog holds a day.
IN_ALL = 86_400.0
#: How long a triggerer may be gone before Airflow fails the task.
_TRIGGERER_GONE = 3600.0


@dataclass(frozen=True)
class Past:
    """What a task has done before it was deferred.

    :param began: when it began first, in seconds since 1970.
    :param lost: the most rows that were read, and had to be read again.
    """

    began: float
    lost: int = 0


class DeferringArguments(PostHogArguments, total=False):
    """The arguments of :class:`DeferringOperator`, for an editor and a type checker."""

    deferrable: bool | None


class DeferringOperator(PostHogOperator):
    """Does a transfer, and leaves long waits to the triggerer. Subclasses say what a transfer is.

    :param deferrable: wait in the triggerer instead of in a worker, where more than a minute is left until rows have
        settled, or PostHog asks to wait longer (429).
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.base.PostHogOperator`.
    """

    _past = Past(0.0)
    _is_deferred = False

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = default_deferrable() if deferrable is None else deferrable

    @abstractmethod
    def transfer(self, context: Context) -> dict[str, Any]:
        """Do all of it, from the beginning or from where it stopped."""

    @abstractmethod
    def goes_on(self) -> str:
        """Return what becomes of what was read before a wait; for the log."""

    def rows_lost(self) -> int:
        """Return how many rows were read that have to be read again."""
        return 0

    def give_up(self) -> None:
        """Remove what is kept for a later part of this try, of which there will be none."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Do the transfer."""
        return self._run(context, Past(time.time()))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after a wait.

        All that is needed comes in the event: ``dag.test()`` of Airflow 3 drops what else was deferred.

        :param event: the timer's event.
        """
        from airflow_provider_posthog.triggers.timer import read_timer

        payload = read_timer(event) or {}
        began, lost, of_try = (payload.get(name) for name in ("began", "lost", "try_number"))
        if isinstance(of_try, int) and is_of_earlier_try(of_try, context):
            return self._run(context, Past(time.time()))
        if not isinstance(began, float) or not isinstance(lost, int):
            self.log.warning("The timer's event cannot be read (another version?): this try waits in the worker")
            began, lost = 0.0, 0
        return self._run(context, Past(began, lost))

    def _run(self, context: Context, past: Past) -> dict[str, Any]:
        self._past = past
        self._is_deferred = False
        try:
            return self._transfer(context)
        except BaseException:
            if not self._is_deferred:
                self.give_up()
            raise

    def _transfer(self, context: Context) -> dict[str, Any]:
        try:
            return self.transfer(context)
        except NotSettled as wait:
            until = wait.until.timestamp()
            if until > self._give_up_at():
                raise AirflowTaskTimeout(
                    f"The rows settle at {wait.until:%F %T} UTC (settle), behind the task's execution_timeout. Make it "
                    "longer, or run the task later."
                ) from None
            self._defer(context, until, "rows of the interval have settled (settle)")
        except PostHogRateLimitError as error:
            self._defer_rate_limited(context, error)

    # What subclasses read with.

    @property
    def longest_wait(self) -> float | None:
        """How many seconds the worker itself waits for rows to settle; ``None`` for as long as it takes."""
        return WORTH if self.deferrable and self._past.began else None

    def reading_settings(self) -> ClientSettings:
        """Return how to reach PostHog: no call waits longer for a 429 than is worth a worker."""
        settings = self.hook.settings()
        # Whose rows were lost to a wait before is not stopped again, if the connection lets it wait.
        if self.longest_wait is None or self._past.lost:
            return settings
        return replace(settings, max_rate_limit_wait=min(settings.max_rate_limit_wait, WORTH))

    def check_settled(self, settled_at: datetime) -> None:
        """Do nothing, unless the wait until a moment is to be left to the triggerer.

        :param settled_at: the moment.
        :raises NotSettled: if it is.
        """
        left = (settled_at - datetime.now(timezone.utc)).total_seconds()
        if self.longest_wait is not None and left > self.longest_wait:
            raise NotSettled(settled_at)

    # The wait.

    def _defer_rate_limited(self, context: Context, error: PostHogRateLimitError) -> NoReturn:
        if not self.deferrable or error.retry_after is None:
            raise error
        lost = self.rows_lost()
        if 0 < lost <= self._past.lost:
            self.log.error(
                "PostHog's limits stopped the load after %s rows, and no later than the last time: as it is, it would "
                "never end. Load shorter intervals, or files, which go on where they stopped",
                f"{lost:,}",
            )
            raise error
        seconds = min(max(error.retry_after, 1.0), LONGEST)
        until = time.time() + seconds
        if until > self._give_up_at():
            self.log.error("PostHog asks to wait %.0f s, and the task has not as much time left", seconds)
            raise error
        self._past = replace(self._past, lost=max(lost, self._past.lost))
        self._defer(context, until, f"PostHog takes queries again (429, {error.code or 'no code'})")

    def _give_up_at(self) -> float:
        limit = self.execution_timeout
        return self._past.began + (before_execution_timeout(limit) if limit is not None else IN_ALL)

    def _defer(self, context: Context, until: float, why: str) -> NoReturn:
        from airflow_provider_posthog.triggers.timer import PostHogTimerTrigger

        seconds = until - time.time()
        self._is_deferred = True
        self.log.info("Deferred for %.0f s, until %s. %s", seconds, why, self.goes_on())
        payload = {
            "began": self._past.began,
            "lost": self._past.lost,
            "try_number": getattr(context.get("ti"), "try_number", None) or 0,
        }
        self.defer(
            trigger=PostHogTimerTrigger(until=until, payload=payload),
            method_name="execute_complete",
            # For a triggerer that is gone; it may be restarted, and costs nothing then.
            timeout=timedelta(seconds=max(0.0, seconds) + _TRIGGERER_GONE),
        )
