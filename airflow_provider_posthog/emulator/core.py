"""What every part of the server needs: the clock, the settings, the store, and work beside the requests."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_posthog.emulator.clock import Clock
from airflow_provider_posthog.emulator.data.projects import Project
from airflow_provider_posthog.emulator.http.auth import ApiKey, Keyring
from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.http.storage import Storage
from airflow_provider_posthog.emulator.settings import Settings

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.data.warehouse import Warehouse


class InternalCaller(Protocol):
    """How the exports' worker calls the server's own API."""

    async def __call__(self, key: ApiKey, path: str) -> tuple[int, Json]:
        """Return the status and the JSON body of a GET.

        :param key: whose call it is.
        :param path: with its query; a full address is fine.
        """
        ...


class Core:
    """What every part of the server needs.

    :param warehouse: where the events are.
    :param seed: equal seeds make equal keys and ids.
    :param server: whose clock, keys and object storage these are; None for their own.
    """

    def __init__(self, warehouse: Warehouse, seed: int, server: Core | None = None) -> None:
        self.warehouse = warehouse
        self.seed = seed
        self.clock: Clock = server.clock if server else Clock()
        self.settings = Settings()
        self.keyring: Keyring = server.keyring if server else Keyring(seed)
        secret = hashlib.sha256(f"storage {seed}".encode()).digest()
        self.storage: Storage = server.storage if server else Storage(self.clock, secret)
        self.project = Project(seed, self.clock.now(), warehouse.team)
        self.get_internally: InternalCaller = server.get_internally if server else _nothing
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Another one after each reset.
        self.life = object()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the requests until it ends or the server is reset.

        :param work: what to run.
        :returns: its task; whoever starts it looks after what goes wrong.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def background(self, work: Coroutine[object, object, None]) -> None:
        """Run something beside the requests; what goes wrong in it is written to stderr.

        :param work: what to run.
        """
        self.spawn(work).add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            sys.stderr.write(f"posthog emulator: work in the background failed: {error!r}\n")


async def _nothing(key: ApiKey, path: str) -> tuple[int, Json]:
    return 503, {"detail": "The server is not up yet."}
