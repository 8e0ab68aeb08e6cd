"""One trigger for every check of a sensor."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import checks, refresh
from airflow_provider_posthog.api.jobs import CANCEL_SECONDS, LAST_CHECK, Ended
from airflow_provider_posthog.api.retry import RetryPolicy, poll_policy
from airflow_provider_posthog.api.steps import run_async
from airflow_provider_posthog.api.within import within
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.triggers.shared_checks import CheckResult, Question, asking
from airflow_provider_posthog.triggers.watching import PostHogWatchingTrigger, WatchEvent, read_event, untrusted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.async_clients import AsyncClient
    from airflow_provider_posthog.api.states import Verdict
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.triggers.watching import Waiting


#: Within so many seconds of a deferral no triggerer is found to be dead, and followed by another.
_AT_ONCE = 2.0


class PostHogCheckTrigger(PostHogWatchingTrigger):
    """Makes a check again and again until it says yes or no or the deadline passed, then fires one event.

    A look waits out rate limits and short faults as the connection says, but not beyond the deadline; its calls go at
    the pace of all that poll (:mod:`~airflow_provider_posthog.api.pace`), and those that ask alike share it
    (:mod:`~airflow_provider_posthog.triggers.shared_checks`). The event carries the facts of the last look.

    :param check: the check's name, a key of :data:`airflow_provider_posthog.api.checks.CHECKS`.
    :param arguments: its arguments: JSON, without secrets and personal data, as Airflow stores and shows them.
    :param looked: whether the worker has just looked, so that the first wait comes before the first look.
    :param deferred_at: when the task was deferred, in seconds since 1970: a triggerer that begins at once is the first,
        and no other can have left a calculation running.
    :param waiting: how to wait, as :class:`~airflow_provider_posthog.triggers.watching.PostHogWatchingTrigger` says:
        ``posthog_conn_id``, ``project_id``, ``deadline``, ``poll_interval``, ``first_wait``, ``growth``,
        ``max_poll_failures``, ``failure_grace``, ``silent_fail``, ``limit``, ``try_number``.
    """

    #: A check may take several calls, and queries among them.
    last_poll: ClassVar[float] = LAST_CHECK

    def __init__(
        self,
        *,
        check: str = "",
        arguments: Mapping[str, Any] | None = None,
        looked: bool = False,
        deferred_at: float = 0.0,
        **waiting: Unpack[Waiting],
    ) -> None:
        super().__init__(**waiting)
        self.check = check
        self.arguments = dict(arguments or {})
        self.looked = looked
        self.deferred_at = deferred_at
        self._facts: dict[str, Any] = {}
        self._gives_way = self.overrun
        name = self.arguments.get("query_id")
        #: Under what name PostHog calculates something for a look, if it does.
        self._calculation = name if isinstance(name, str) and name else None
        #: Whether another triggerer may have begun before.
        self._follows = False
        self._question: Question | None = None

    def subject(self) -> dict[str, Any]:
        """Return the arguments that say what is watched."""
        return {
            "check": self.check,
            "arguments": self.arguments,
            "looked": self.looked,
            "deferred_at": self.deferred_at,
        }

    def title(self) -> str:
        """Name the check, for the log."""
        return f"check {self.check}"

    def payload(self) -> dict[str, Any]:
        """Return the check's name and the facts of the last look."""
        return {"check": self.check, "facts": self._facts}

    def hook(self) -> PostHogHook:
        """Make the hook, and import the check; runs in a thread."""
        with suppress(PostHogSettingsError):  # look() says so
            checks.check(self.check)
        return super().hook()

    async def watch(self, client: AsyncClient) -> Ended:
        """Make the check beside all who make the same one on this connection.

        :param client: the client.
        """
        self._follows = time.time() - self.deferred_at > _AT_ONCE
        question = json.dumps([self.check, self.arguments], sort_keys=True, default=str)
        with asking((self.posthog_conn_id, client.settings, question)) as self._question:
            return await super().watch(client)

    async def next_poll(self, client: AsyncClient, seconds: float) -> Verdict | PostHogError:
        """Look after a while, or hear what another saw until then.

        :param client: the client.
        :param seconds: when to look at the latest.
        """

        async def look() -> CheckResult:
            verdict = await self.look(client)
            return CheckResult(verdict, self._facts)

        assert self._question is not None  # noqa: S101 - for mypy
        answer = await self._question.ask(seconds, self.deadline - time.time(), look)
        self._facts = dict(answer.facts)
        return answer.verdict

    async def look(self, client: AsyncClient) -> Verdict | PostHogError:
        """Look once.

        :param client: the client.
        """
        if self._follows:
            self._follows = False
            await self._cancel(client)  # a triggerer that was killed in its look has left that running
        left = max(0.0, self.deadline - time.time())
        policy = poll_policy(RetryPolicy(max_rate_limit_wait=left), left, gives_way=self._gives_way)
        self._gives_way = self._gives_way if left else 0.0
        self._facts = {}
        try:
            finding = await run_async(checks.start(self.check, self.arguments), client, policy=policy)
        except PostHogError as error:
            return error
        self._facts = dict(finding.facts)
        return finding.verdict

    async def on_kill(self) -> None:
        """Cancel what is calculated for a look, when a user ends the deferred task (Airflow 3.3)."""
        if self._calculation is not None:
            async with await self.client() as client:
                with suppress(asyncio.TimeoutError):
                    await within(self._cancel(client), CANCEL_SECONDS)

    async def _cancel(self, client: AsyncClient) -> None:
        if self._calculation is not None:
            await run_async(refresh.cancel(self._calculation), client)


def check_event(event: Mapping[str, Any] | None, check: str) -> WatchEvent:
    """Read the event of a check; what is not surely ours and known is an error, never a success.

    :param event: the event's payload; a triggerer may run an older or a newer version than the worker.
    :param check: the name of the check that was deferred.
    :returns: the event; its ``facts`` are those of the last look.
    :raises PostHogJobError: if the event cannot be trusted.
    """
    payload, base = read_event(event, {"check": check})
    facts = payload.get("facts")
    if not isinstance(facts, Mapping) or not all(isinstance(name, str) for name in facts):
        raise untrusted(payload, check)
    return replace(base, facts=facts)
