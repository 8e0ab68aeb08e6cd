"""One trigger for every job on PostHog's side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.jobs import KINDS, Ended
from airflow_provider_posthog.api.poller import Waiter
from airflow_provider_posthog.api.polls import poll_job
from airflow_provider_posthog.api.retry import LAST
from airflow_provider_posthog.api.steps import run_async
from airflow_provider_posthog.api.within import within
from airflow_provider_posthog.triggers.poller import JobPoller, joined
from airflow_provider_posthog.triggers.watching import PostHogWatchingTrigger, WatchEvent, read_event, untrusted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.async_clients import AsyncClient
    from airflow_provider_posthog.api.states import Verdict
    from airflow_provider_posthog.exceptions import PostHogError
    from airflow_provider_posthog.triggers.watching import Waiting

_SAME_VERSION = "Restart the triggerer and the workers, so that both run the same version."


class PostHogJobTrigger(PostHogWatchingTrigger):
    """Asks PostHog for a job until it ended or the deadline passed, then fires one event.

    Its arguments are JSON and hold no secrets: the connection is read in the triggerer.

    :param kind: the kind of job, a key of :data:`airflow_provider_posthog.api.jobs.KINDS`.
    :param job_id: the job's id on PostHog.
    :param cancel_on_kill: cancel the job, where PostHog can, when a user ends the deferred task (Airflow 3.3).
    :param superseded: ids of earlier tries' jobs in whose place it was started; they come back in the event.
    :param looked: whether the worker has just looked, so that the first wait comes before the first look.
    :param waiting: how to wait, as :class:`~airflow_provider_posthog.triggers.watching.PostHogWatchingTrigger` says:
        ``posthog_conn_id``, ``project_id``, ``deadline``, ``poll_interval``, ``first_wait``, ``growth``,
        ``max_poll_failures``, ``failure_grace``, ``silent_fail``, ``limit``, ``try_number``.
    """

    def __init__(
        self,
        *,
        kind: str = "",
        job_id: str = "",
        cancel_on_kill: bool = False,
        superseded: Sequence[str] = (),
        looked: bool = False,
        **waiting: Unpack[Waiting],
    ) -> None:
        super().__init__(**waiting)
        self.kind = kind
        self.job_id = job_id
        self.cancel_on_kill = cancel_on_kill
        self.superseded = list(superseded)
        self.looked = looked
        self._waiter = Waiter(job_id, self.poll_interval, overrun=self.overrun)
        self._poller: JobPoller | None = None
        self._facts: Mapping[str, Any] = {}
        self._keys_logged = 0

    def subject(self) -> dict[str, Any]:
        """Return the arguments that say what is watched."""
        subject = {"kind": self.kind, "job_id": self.job_id, "cancel_on_kill": self.cancel_on_kill}
        subject |= {"looked": True} if self.looked else {}
        return {**subject, "superseded": self.superseded} if self.superseded else subject

    def title(self) -> str:
        """Name the job, for the log."""
        kind = KINDS.get(self.kind)
        return f"{self.kind} {self.job_id}" if kind is None else kind.named(self.job_id)

    def payload(self) -> dict[str, Any]:
        """Return the job's kind and id, which jobs it superseded, and what PostHog said of one that has succeeded."""
        payload: dict[str, Any] = {"kind": self.kind, "job_id": self.job_id}
        if self.superseded:
            payload["superseded"] = self.superseded
        return {**payload, "facts": dict(self._facts)} if self._facts else payload

    async def watch(self, client: AsyncClient) -> Ended:
        """Join all that wait for such jobs on this connection, and wait.

        :param client: the client.
        """
        kind = KINDS.get(self.kind)
        if kind is None or not self.job_id:
            return Ended("refused", f"this version of the provider cannot watch {self.title()!r}. {_SAME_VERSION}")
        connection = (self.posthog_conn_id, self.project_id)
        async with joined(kind, self._waiter, connection, client) as self._poller:
            self._keys_logged = self._poller.client.keys_replaced
            return await super().watch(client)

    async def next_poll(self, client: AsyncClient, seconds: float) -> Verdict | PostHogError:
        """Wait for what the poller sees next.

        :param client: the client.
        :param seconds: when to look at the latest.
        """
        assert self._poller is not None  # noqa: S101 - for mypy
        seen = await self._poller.ask(self._waiter, seconds, self.deadline - time.time())
        self._facts = seen.facts
        if self._poller.client.keys_replaced > self._keys_logged:  # the poller itself has no task's log
            self._keys_logged = self._poller.client.keys_replaced
            self.log.info("%s: PostHog refused the key, and the connection has another one: going on", self.title())
        return seen.verdict

    async def look(self, client: AsyncClient) -> Verdict | PostHogError:
        """Ask for the job once, beside all others.

        :param client: the client.
        """
        return (await run_async(poll_job(KINDS[self.kind], self.job_id, LAST), client)).verdict

    def held_back(self, client: AsyncClient) -> float:
        """Return for how many seconds the rate limits hold back the poller.

        :param client: the trigger's own client.
        """
        return self._poller.client.held_back if self._poller is not None else 0.0

    async def on_kill(self) -> None:
        """Cancel the job when a user ends the deferred task, where PostHog can cancel it."""
        kind = KINDS.get(self.kind)
        if kind is None or not self.cancel_on_kill or not kind.cancelling(self.job_id):
            return
        async with await self.client() as client:
            await within(run_async(kind.cancelled(self.job_id), client), kind.cancel_seconds(self.job_id))
        self.log.info("Cancelled %s %s on PostHog", self.kind, self.job_id)


@dataclass(frozen=True)
class JobEvent(WatchEvent):
    """The event of a job that was watched; its ``facts`` are what PostHog said of one that has succeeded.

    :param job_id: the job's id on PostHog.
    :param superseded: ids of earlier tries' jobs in whose place the job was started.
    """

    job_id: str = ""
    superseded: Sequence[str] = ()

    @classmethod
    def parse(cls, event: Mapping[str, Any] | None, kind: str, job_id: str | None = None) -> JobEvent:
        """Read an event; what is not surely ours and known is an error, never a success.

        :param event: the event's payload; a triggerer may run an older or a newer version than the worker.
        :param kind: the kind of job that was deferred.
        :param job_id: its id, where the task knows it.
        :raises PostHogJobError: if the event cannot be trusted.
        """
        payload, base = read_event(event, {"kind": kind}, job_id=job_id)
        watched = payload.get("job_id")
        if not isinstance(watched, str) or not watched or job_id not in (None, watched):
            raise untrusted(payload, f"{kind} {job_id or watched}", job_id)
        superseded = payload.get("superseded")
        ids = [job_id for job_id in superseded if isinstance(job_id, str)] if isinstance(superseded, list) else ()
        facts = payload.get("facts")
        if base.ended.outcome != "succeeded" or not isinstance(facts, Mapping) or str(facts.get("id")) != watched:
            facts = {}
        return cls(base.ended, base.limit, base.try_number, facts, watched, ids)
