"""Everything the server remembers, in one place."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_posthog.emulator.activity import ActivityLog
from airflow_provider_posthog.emulator.auth import ApiKey, Keyring
from airflow_provider_posthog.emulator.batch_exports import BatchExportService
from airflow_provider_posthog.emulator.calls import CallLog
from airflow_provider_posthog.emulator.clock import Clock
from airflow_provider_posthog.emulator.dashboards import DashboardStore
from airflow_provider_posthog.emulator.elements import ElementStore
from airflow_provider_posthog.emulator.envelopes import Json
from airflow_provider_posthog.emulator.exports import ExportService
from airflow_provider_posthog.emulator.faults import Faults
from airflow_provider_posthog.emulator.file_downloads import FileDownloadService
from airflow_provider_posthog.emulator.groups import GroupStore
from airflow_provider_posthog.emulator.insights import InsightStore
from airflow_provider_posthog.emulator.person_deletion import Deletions
from airflow_provider_posthog.emulator.persons import People
from airflow_provider_posthog.emulator.projects import Project
from airflow_provider_posthog.emulator.queries import QueryService
from airflow_provider_posthog.emulator.settings import Settings
from airflow_provider_posthog.emulator.sharing import SharingStore
from airflow_provider_posthog.emulator.storage import Storage
from airflow_provider_posthog.emulator.system_rows import sources
from airflow_provider_posthog.emulator.throttle import Throttle

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.warehouse import Warehouse


class InternalCaller(Protocol):
    """How the exports' worker calls the server's own API."""

    async def __call__(self, key: ApiKey, path: str) -> tuple[int, Json]:
        """Return the status and the JSON body of a GET.

        :param key: whose call it is.
        :param path: with its query; a full address is fine.
        """
        ...


class State:
    """The server's state.

    :param warehouse: where the events are.
    :param seed: equal seeds make equal keys and ids.
    :param settings: the settings to begin with and to come back to.
    """

    def __init__(self, warehouse: Warehouse, seed: int, settings: Mapping[str, object] | None = None) -> None:
        self.warehouse = warehouse
        self.seed = seed
        self.clock = Clock()
        self.settings = Settings()
        self.calls = CallLog(self.clock)
        self.faults = Faults()
        self.storage = Storage(self.clock, hashlib.sha256(f"storage {seed}".encode()).digest())
        self.project = Project(seed, self.clock.now())
        self.get_internally: InternalCaller = _nothing
        self._first_settings = dict(settings or {})
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Another one after each reset.
        self.life = object()
        self._start()

    def _start(self) -> None:
        self.keyring = Keyring(self.seed)
        self.throttle = Throttle(self.clock)
        self.queries = QueryService(self)
        self.exports = ExportService(self)
        self.insights = InsightStore(self, self.seed)
        self.project.primary_dashboard = 1
        self.dashboards = DashboardStore(self)
        self.activity = ActivityLog(self.clock)
        self.sharing = SharingStore(self.clock, self.seed)
        self.batch_exports = BatchExportService(self, self.seed)
        self.file_downloads = FileDownloadService(self, self.seed)
        self.people = People(self)
        self.deletions = Deletions(self)
        self.groups = GroupStore(self)
        self.elements = ElementStore()
        self.warehouse.sources = sources(self)
        self.change_settings(self._first_settings)

    def is_due(self) -> bool:
        """Tell whether something was to happen by now: see :meth:`tick`."""
        return self.people.is_due() or self.deletions.is_due()

    def tick(self) -> None:
        """Do what was to happen by now: queued deletions, ClickHouse catching up, the weekly deletion of events."""
        with self.people.lock:
            self.people.tick()
            self.deletions.tick()

    def change_settings(self, changes: Mapping[str, object]) -> None:
        """Change settings, here and where they are used.

        :param changes: new values by name.
        :raises SettingError: for a name that does not exist or a value of the wrong kind.
        """
        self.settings.merge(changes)
        self.warehouse.timezone = self.settings.timezone
        self.warehouse.newer_functions = self.settings.generation != "A"
        self.storage.link_seconds = self.settings.link_seconds
        self.queries.bucket.size(self.settings.query_bytes_per_hour, self.settings.query_budget_hours)

    def reset(self) -> None:
        """Go back to how the server was when it started, but for its data: see ``people.restore``."""
        for task in list(self._tasks):
            task.cancel()
        self.clock.reset()
        self.settings = Settings()
        self.faults.waiting.clear()
        self.calls.calls.clear()
        self.storage.clear()
        self.life = object()
        self._start()

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
