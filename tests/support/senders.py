"""One face for both clients, so that one table of cases tests them alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.settings import ClientSettings

QUICK = RetryPolicy(max_attempts=4, base=0.01, cap=0.05, max_rate_limit_wait=0.0)


class Sender(Protocol):
    """Sends calls with one of the clients."""

    def send(
        self,
        settings: ClientSettings,
        *calls: Call[Any],
        policy: RetryPolicy | None = QUICK,
        between: Callable[[], object] = bool,
    ) -> Any:
        """Send the calls one after the other with one client; return the last one's value.

        :param between: called after each call, before the next one.
        """

    def send_together(self, settings: ClientSettings, calls: Sequence[Call[Any]]) -> list[Any]:
        """Send the calls all at once; return their values."""


class BlockingSender:
    def send(
        self,
        settings: ClientSettings,
        *calls: Call[Any],
        policy: RetryPolicy | None = QUICK,
        between: Callable[[], object] = bool,
    ) -> Any:
        value = None
        with Client(settings) as client:
            for call in calls:
                value = client.send(call, policy=policy)
                between()
        return value

    def send_together(self, settings: ClientSettings, calls: Sequence[Call[Any]]) -> list[Any]:
        # a client per thread, as each task of a worker has its own
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(lambda call: self.send(settings, call), calls))


class AsyncSender:
    def send(
        self,
        settings: ClientSettings,
        *calls: Call[Any],
        policy: RetryPolicy | None = QUICK,
        between: Callable[[], object] = bool,
    ) -> Any:
        async def run() -> Any:
            value = None
            async with AsyncClient(settings) as client:
                for call in calls:
                    value = await client.send(call, policy=policy)
                    between()
            return value

        return asyncio.run(run())

    def send_together(self, settings: ClientSettings, calls: Sequence[Call[Any]]) -> list[Any]:
        async def one(call: Call[Any]) -> Any:
            async with AsyncClient(settings) as client:
                return await client.send(call, policy=QUICK)

        async def run() -> list[Any]:
            return list(await asyncio.gather(*(one(call) for call in calls)))

        return asyncio.run(run())


SENDERS: dict[str, Sender] = {"blocking": BlockingSender(), "async": AsyncSender()}
