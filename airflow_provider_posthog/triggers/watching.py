"""What the triggers that watch something on PostHog share: the loop, and what their events say."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_posthog.api.jobs import (
    FAILURE_GRACE,
    FIRST_WAIT,
    GROWTH,
    LAST_POLL,
    LONGEST_OVERRUN,
    MAX_POLL_FAILURES,
    OUTCOMES,
    Again,
    Ended,
    Outcome,
    Watch,
)
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.wait_log import WaitLog, words_of
from airflow_provider_posthog.api.within import within
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.async_clients import AsyncClient
    from airflow_provider_posthog.hooks.posthog import PostHogHook

#: The version of all events. Newer workers and triggerers may add fields to them and to the triggers' arguments, and
#: have to do without those that an older one does not write; only another meaning of a field is another version.
EVENT_VERSION = 1
_POLL_INTERVAL = 10.0
#: Seconds that a look has at the least, where Airflow itself ends the task soon after the deadline.
_LAST_LOOK_BEFORE_AIRFLOW = 3.0


class _Always(TypedDict):
    posthog_conn_id: str
    deadline: float
    poll_interval: float


class Waiting(_Always, total=False):
    """How to wait: the arguments of :class:`PostHogWatchingTrigger`."""

    project_id: int | str | None
    first_wait: float
    growth: float
    max_poll_failures: int
    failure_grace: float
    silent_fail: bool
    limit: str
    try_number: int


class PostHogWatchingTrigger(BaseTrigger):
    """Looks at something on PostHog until it ended or the deadline passed, then fires one event. Subclasses say what.

    Its arguments are JSON and hold no secrets: the connection is read in the triggerer. What another version of the
    provider has stored can be run: arguments that are not known are ignored, and each has a default.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param deadline: when to give up, in seconds since 1970; absolute, so that a restarted triggerer keeps it.
        Without one the task's own timeout in Airflow ends the wait.
    :param poll_interval: the longest wait between two polls, in seconds.
    :param first_wait: the first wait, in seconds.
    :param growth: by what factor the waits grow towards ``poll_interval``.
    :param max_poll_failures: how many polls may fail in a row.
    :param failure_grace: seconds for which a failure that PostHog may still mend has to stand.
    :param silent_fail: go on after a failure until the deadline, as sensors with ``silent_fail`` do.
    :param limit: the name of the task's limit that the deadline follows; comes back in the event.
    :param try_number: the try that waits, from 1; 0 if that is not known; comes back in the event.
    :param newer: arguments of a newer version.
    """

    #: Whether the worker has just looked, so that the first wait comes before the first look.
    looked = False
    #: How many seconds a look has at the least, be it begun at the deadline.
    last_poll: ClassVar[float] = LAST_POLL

    def __init__(
        self,
        *,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        deadline: float = math.inf,
        poll_interval: float = _POLL_INTERVAL,
        project_id: int | str | None = None,
        first_wait: float = FIRST_WAIT,
        growth: float = GROWTH,
        max_poll_failures: int = MAX_POLL_FAILURES,
        failure_grace: float = FAILURE_GRACE,
        silent_fail: bool = False,
        limit: str = "timeout",
        try_number: int = 0,
        **newer: object,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if newer:
            self.log.debug("Arguments of another version of the provider are ignored: %s", ", ".join(sorted(newer)))
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.first_wait = first_wait
        self.growth = growth
        self.max_poll_failures = max_poll_failures
        self.failure_grace = failure_grace
        self.silent_fail = silent_fail
        self.limit = limit
        self.try_number = try_number
        self._began = time.time()
        self._wait_log = WaitLog()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def overrun(self) -> float:
        """Seconds for which a look at the deadline may be put off, once: none where Airflow itself ends the task."""
        return LONGEST_OVERRUN if self.limit == "timeout" else 0.0

    @abstractmethod
    def subject(self) -> dict[str, Any]:
        """Return the arguments that say what is watched."""

    @abstractmethod
    def title(self) -> str:
        """Name what is watched, for the log."""

    @abstractmethod
    async def look(self, client: AsyncClient) -> Verdict | PostHogError:
        """Look once; return an error of PostHog's or of the way there, do not raise it.

        :param client: the client.
        """

    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """Return what the event says besides how the watch ended."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                **self.subject(),
                "posthog_conn_id": self.posthog_conn_id,
                "project_id": self.project_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "first_wait": self.first_wait,
                "growth": self.growth,
                "max_poll_failures": self.max_poll_failures,
                "failure_grace": self.failure_grace,
                "silent_fail": self.silent_fail,
                "limit": self.limit,
                "try_number": self.try_number,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch; fire one event."""
        self._began = time.time()
        async with await self.client() as client:
            ended = await self.watch(client)
        self._tell_end(ended)
        yield TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "version": EVENT_VERSION,
                **self.payload(),
                "outcome": ended.outcome,
                "reason": ended.reason,
                "limit": self.limit,
                "try_number": self.try_number,
            }
        )

    async def client(self) -> AsyncClient:
        """Make the client."""
        # In a thread: the first import of the HTTP libraries takes tenths of a second, in which no other trigger runs.
        return await (await asyncio.to_thread(self.hook)).async_client()

    def hook(self) -> PostHogHook:
        """Make the hook, and import whatever looking will need; runs in a thread."""
        # Imported here: the HTTP libraries would slow down every worker that only makes this trigger.
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        with suppress(ImportError):  # httpx would import it at its first request, on the event loop
            importlib.import_module("anyio._backends._asyncio")
        return PostHogHook(self.posthog_conn_id, self.project_id)

    async def watch(self, client: AsyncClient) -> Ended:
        """Look until it ended or the deadline passed.

        :param client: the client.
        """
        watch = self._new_watch()
        seconds = max(0.0, min(self.first_wait, self.deadline - time.time())) if self.looked else 0.0
        while True:
            observed = await self._look_in_time(client, seconds)
            step = watch.observe(observed, time.time())
            if isinstance(step, Again):
                self._tell(observed)
            else:
                if not self.silent_fail or step.outcome in ("succeeded", "timeout"):
                    return step
                if time.time() >= self.deadline:
                    return Ended("timeout", step.reason)
                self.log.warning("%s: %s (%s); silent_fail goes on", self.title(), step.outcome, step.reason)
                watch = self._new_watch()
                step = Again(max(0.0, min(self.poll_interval, self.deadline - time.time())))
            seconds = step.seconds

    async def next_poll(self, client: AsyncClient, seconds: float) -> Verdict | PostHogError:
        """Look after a while.

        :param client: the client.
        :param seconds: after how many seconds.
        """
        await asyncio.sleep(seconds)
        return await self.look(client)

    def held_back(self, client: AsyncClient) -> float:
        """Return for how many seconds the rate limits hold back the next look now; 0 if they do not.

        :param client: the client.
        """
        return client.held_back

    async def _look_in_time(self, client: AsyncClient, seconds: float) -> Verdict | PostHogError:
        """Look, but not beyond the deadline: not for a place among the connections, nor for an answer that drips."""
        least = self.last_poll if self.limit == "timeout" else _LAST_LOOK_BEFORE_AIRFLOW
        limit = max(self.deadline - time.time(), seconds) + least
        self._tell_later(client)
        try:
            return await within(self.next_poll(client, seconds), limit)
        except asyncio.TimeoutError:
            return Verdict("pending", "the last poll did not end in time: PostHog held it open")
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _new_watch(self) -> Watch:
        return Watch(
            deadline=self.deadline,
            interval=self.poll_interval,
            first=self.first_wait,
            growth=self.growth,
            max_failures=self.max_poll_failures,
            grace=self.failure_grace,
            overrun=self.overrun,
        )

    # What the task's log says of it.

    def _tell(self, observed: Verdict | PostHogError) -> None:
        waited = time.time() - self._began
        if self._wait_log.is_news(observed, waited):
            level = logging.WARNING if isinstance(observed, PostHogError) else logging.INFO
            self.log.log(level, "%s: %s (waiting for %.0f s)", self.title(), words_of(observed), waited)

    def _tell_later(self, client: AsyncClient) -> None:
        # A timer keeps the trigger's context, by which Airflow finds its log; a task for each would cost more.
        late = self._wait_log.patience(self.poll_interval)
        self._timer = asyncio.get_running_loop().call_later(late, self._tell_if_held, client)

    def _tell_if_held(self, client: AsyncClient) -> None:
        held = self.held_back(client)
        if held and self._wait_log.is_held_news(time.time() - self._began):
            until = datetime.fromtimestamp(time.time() + held, timezone.utc).strftime("%H:%M:%S")
            self.log.info("%s: PostHog's rate limits hold back the next poll, until about %s UTC", self.title(), until)
        self._tell_later(client)

    def _tell_end(self, ended: Ended) -> None:
        waited = time.time() - self._began
        if ended.outcome == "succeeded":
            self.log.info("%s is ready, after %.0f s in the triggerer", self.title(), waited)
        else:
            why = ended.reason or "no reason was given"
            self.log.warning("%s: %s after %.0f s in the triggerer. %s", self.title(), ended.outcome, waited, why)


@dataclass(frozen=True)
class WatchEvent:
    """The event by which a trigger says how its watch ended. Triggers that say more have a class of their own for it.

    :param ended: how the watch ended.
    :param limit: which of the task's limits the deadline followed.
    :param try_number: the try that waited, from 1; 0 if that is not known.
    :param facts: what was last seen of the subject; empty if the event does not tell.
    """

    ended: Ended
    limit: str
    try_number: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_event(
    payload: object, known: Mapping[str, str], *, job_id: str | None = None
) -> tuple[Mapping[str, Any], WatchEvent]:
    """Read what every event says; what is not surely ours and known is an error, never a success.

    :param payload: the event's payload; a triggerer may run an older or a newer version than the worker.
    :param known: what it has to say, such as the kind of job that was deferred.
    :param job_id: the job's id, where the task knows it; for the error.
    :returns: the payload, and what every event says.
    :raises PostHogJobError: if the event cannot be trusted.
    """
    what = " ".join(known.values())
    if not isinstance(payload, Mapping):
        raise PostHogJobError(f"The trigger ended without an event for the {what}.", job_id=job_id)
    outcome = payload.get("outcome")
    ours = all(payload.get(name) == value for name, value in known.items())
    if payload.get("version") != EVENT_VERSION or not ours or not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise untrusted(payload, what, job_id)
    limit = "execution_timeout" if payload.get("limit") == "execution_timeout" else "timeout"
    try_number = payload.get("try_number")  # not in the event of an older triggerer
    ended = Ended(cast(Outcome, outcome), str(payload.get("reason") or ""))
    return payload, WatchEvent(ended, limit, try_number if isinstance(try_number, int) else 0)


def untrusted(payload: Mapping[str, Any], what: str, job_id: str | None = None) -> PostHogJobError:
    """Make the error for an event that cannot be trusted.

    :param payload: the event's payload.
    :param what: what was watched.
    :param job_id: the job's id, where the task knows it.
    """
    return PostHogJobError(
        f"The trigger's event for {what} cannot be trusted (version {payload.get('version')!r}, outcome "
        f"{payload.get('outcome')!r}). Restart the triggerer so that it runs the same version of the provider.",
        job_id=job_id,
    )
