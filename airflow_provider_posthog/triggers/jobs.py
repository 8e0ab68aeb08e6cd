"""One trigger for every job on PostHog's side."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_posthog.api.jobs import (
    FAILURE_GRACE,
    FIRST_WAIT,
    GROWTH,
    KINDS,
    MAX_POLL_FAILURES,
    OUTCOMES,
    Again,
    Ended,
    Outcome,
    Watch,
)
from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.clients import AsyncClient
    from airflow_provider_posthog.api.states import Verdict
    from airflow_provider_posthog.hooks.posthog import PostHogHook

EVENT_VERSION = 1


class PostHogJobTrigger(BaseTrigger):
    """Asks PostHog for a job until it ended or the deadline passed, then fires one event.

    Its arguments are JSON and hold no secrets: the connection is read in the triggerer.

    :param kind: the kind of job, a key of :data:`airflow_provider_posthog.api.jobs.KINDS`.
    :param job_id: the job's id on PostHog.
    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param deadline: when to give up, in seconds since 1970; absolute, so that a restarted triggerer keeps it.
    :param poll_interval: the longest wait between two polls, in seconds.
    :param first_wait: the first wait, in seconds.
    :param growth: by what factor the waits grow towards ``poll_interval``.
    :param max_poll_failures: how many polls may fail in a row.
    :param failure_grace: seconds for which a failure that PostHog may still mend has to stand.
    :param silent_fail: go on after a failure until the deadline, as sensors with ``silent_fail`` do.
    :param cancel_on_kill: cancel the job, where PostHog can, when a user ends the deferred task (Airflow 3.3).
    :param limit: the name of the task's limit that the deadline follows; comes back in the event.
    :param try_number: the try that waits, from 1; 0 if that is not known; comes back in the event.
    """

    def __init__(
        self,
        *,
        kind: str,
        job_id: str,
        posthog_conn_id: str,
        deadline: float,
        poll_interval: float,
        project_id: int | str | None = None,
        first_wait: float = FIRST_WAIT,
        growth: float = GROWTH,
        max_poll_failures: int = MAX_POLL_FAILURES,
        failure_grace: float = FAILURE_GRACE,
        silent_fail: bool = False,
        cancel_on_kill: bool = False,
        limit: str = "timeout",
        try_number: int = 0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = kind
        self.job_id = job_id
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.first_wait = first_wait
        self.growth = growth
        self.max_poll_failures = max_poll_failures
        self.failure_grace = failure_grace
        self.silent_fail = silent_fail
        self.cancel_on_kill = cancel_on_kill
        self.limit = limit
        self.try_number = try_number

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "kind": self.kind,
                "job_id": self.job_id,
                "posthog_conn_id": self.posthog_conn_id,
                "project_id": self.project_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "first_wait": self.first_wait,
                "growth": self.growth,
                "max_poll_failures": self.max_poll_failures,
                "failure_grace": self.failure_grace,
                "silent_fail": self.silent_fail,
                "cancel_on_kill": self.cancel_on_kill,
                "limit": self.limit,
                "try_number": self.try_number,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the job; fire one event."""
        async with await self._client() as client:
            ended = await self._watch(client)
        yield TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "version": EVENT_VERSION,
                "kind": self.kind,
                "job_id": self.job_id,
                "outcome": ended.outcome,
                "reason": ended.reason,
                "limit": self.limit,
                "try_number": self.try_number,
            }
        )

    async def on_kill(self) -> None:
        """Cancel the job when a user ends the deferred task, where PostHog can cancel it."""
        cancel = KINDS[self.kind].cancel
        if cancel is None or not self.cancel_on_kill:
            return
        async with await self._client() as client:
            await client.send(cancel(self.job_id))
        self.log.info("Cancelled %s %s on PostHog", self.kind, self.job_id)

    async def _client(self) -> AsyncClient:
        # In a thread: the first import of the HTTP libraries takes tenths of a second, in which no other trigger runs.
        return await (await asyncio.to_thread(self._hook)).async_client()

    def _hook(self) -> PostHogHook:
        # Imported here: the HTTP libraries would slow down every worker that only makes this trigger.
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        with suppress(ImportError):  # httpx would import it at its first request, on the event loop
            importlib.import_module("anyio._backends._asyncio")
        return PostHogHook(self.posthog_conn_id, self.project_id)

    async def _watch(self, client: AsyncClient) -> Ended:
        watch = self._new_watch()
        while True:
            step = watch.observe(await self._look(client), time.time())
            if isinstance(step, Ended):
                if not self.silent_fail or step.outcome in ("succeeded", "timeout"):
                    return step
                if time.time() >= self.deadline:
                    return Ended("timeout", step.reason)
                self.log.warning(
                    "%s %s: %s (%s); silent_fail goes on", self.kind, self.job_id, step.outcome, step.reason
                )
                watch = self._new_watch()
                step = Again(max(0.0, min(self.poll_interval, self.deadline - time.time())))
            await asyncio.sleep(step.seconds)

    def _new_watch(self) -> Watch:
        return Watch(
            deadline=self.deadline,
            interval=self.poll_interval,
            first=self.first_wait,
            growth=self.growth,
            max_failures=self.max_poll_failures,
            grace=self.failure_grace,
        )

    async def _look(self, client: AsyncClient) -> Verdict | PostHogError:
        kind = KINDS[self.kind]
        try:
            return kind.judge(await client.send(kind.status(self.job_id), policy=ONCE))
        except PostHogError as error:
            self.log.debug("Polling %s %s: %s", self.kind, self.job_id, error)
            return error


@dataclass(frozen=True)
class JobEvent:
    """What a trigger's event says.

    :param job_id: the job's id on PostHog.
    :param ended: how the watch ended.
    :param limit: which of the task's limits the deadline followed.
    :param try_number: the try that waited, from 1; 0 if that is not known.
    """

    job_id: str
    ended: Ended
    limit: str
    try_number: int = 0

    @classmethod
    def parse(cls, event: Mapping[str, Any] | None, kind: str, job_id: str | None = None) -> JobEvent:
        """Read an event; what is not surely ours and known is an error, never a success.

        :param event: the event's payload; a triggerer may run an older or a newer version than the worker.
        :param kind: the kind of job that was deferred.
        :param job_id: its id, where the task knows it.
        :raises PostHogJobError: if the event can not be trusted.
        """
        if not isinstance(event, Mapping):
            raise PostHogJobError(f"The trigger ended without an event for the {kind}.", job_id=job_id)
        found, outcome = event.get("job_id"), event.get("outcome")
        known = event.get("version") == EVENT_VERSION and event.get("kind") == kind and str(outcome) in OUTCOMES
        if not known or not isinstance(found, str) or not found or job_id not in (None, found):
            raise PostHogJobError(
                f"The trigger's event for {kind} {job_id or found} can not be trusted (version "
                f"{event.get('version')!r}, outcome {outcome!r}). Restart the triggerer so that it runs the same "
                "version of the provider.",
                job_id=job_id,
            )
        limit = "execution_timeout" if event.get("limit") == "execution_timeout" else "timeout"
        told = event.get("try_number")  # not in the event of an older triggerer
        try_number = told if isinstance(told, int) else 0
        return cls(found, Ended(cast(Outcome, outcome), str(event.get("reason") or "")), limit, try_number)
