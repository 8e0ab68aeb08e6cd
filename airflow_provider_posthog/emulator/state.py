"""Everything the server remembers, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.capture.intake import Intake
from airflow_provider_posthog.emulator.core import Core
from airflow_provider_posthog.emulator.data.own_rows import own_sources
from airflow_provider_posthog.emulator.data.records import Records
from airflow_provider_posthog.emulator.data.system_rows import sources
from airflow_provider_posthog.emulator.http.auth import Keyring
from airflow_provider_posthog.emulator.http.calls import CallLog
from airflow_provider_posthog.emulator.http.faults import Faults
from airflow_provider_posthog.emulator.http.throttle import Throttle
from airflow_provider_posthog.emulator.insights.activity import ActivityLog
from airflow_provider_posthog.emulator.insights.dashboards import DashboardStore
from airflow_provider_posthog.emulator.insights.insights import InsightStore
from airflow_provider_posthog.emulator.insights.sharing import SharingStore
from airflow_provider_posthog.emulator.jobs.batch_exports import BatchExportService
from airflow_provider_posthog.emulator.jobs.cohorts import Cohorts
from airflow_provider_posthog.emulator.jobs.exports import ExportService
from airflow_provider_posthog.emulator.jobs.file_downloads import FileDownloadService
from airflow_provider_posthog.emulator.jobs.quality import QualityService
from airflow_provider_posthog.emulator.jobs.queries import QueryService
from airflow_provider_posthog.emulator.jobs.warehouse_jobs import WarehouseService
from airflow_provider_posthog.emulator.people.elements import ElementStore
from airflow_provider_posthog.emulator.people.groups import GroupStore
from airflow_provider_posthog.emulator.people.person_deletion import Deletions
from airflow_provider_posthog.emulator.people.persons import People
from airflow_provider_posthog.emulator.settings import Settings

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.data.warehouse import Warehouse
    from airflow_provider_posthog.emulator.hogql.system import Sources


class State(Core):
    """The server's state.

    :param warehouse: where the events are.
    :param seed: equal seeds make equal keys and ids.
    :param settings: the settings to begin with and to come back to.
    :param server: for a further project: the state of the server's first one, with which it shares keys, faults, calls
        and the clock.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        seed: int,
        settings: Mapping[str, object] | None = None,
        server: State | None = None,
    ) -> None:
        super().__init__(warehouse, seed, server)
        self.calls: CallLog = server.calls if server else CallLog(self.clock)
        self.faults: Faults = server.faults if server else Faults()
        #: the state of the server's first project
        self.server: State = server or self
        #: further projects by their id
        self.others: dict[int, State] = {}
        self._first_settings = dict(settings or {})
        #: what is done again after each reset, such as a scenario
        self.after_reset: Callable[[], Awaitable[None]] | None = None
        self._start()

    def _start(self) -> None:
        self.throttle = Throttle(self.clock)
        self.batch_exports = BatchExportService(self, self.seed)
        self.warehouse_jobs = WarehouseService(self, self.seed)
        self.quality = QualityService(self, self.seed)
        self.queries = QueryService(self, catch_up=self.batch_exports.all)
        self.exports = ExportService(self)
        self.insights = InsightStore(self, self.seed)
        self.project.primary_dashboard = 1
        self.dashboards = DashboardStore(self, self.insights)
        self.activity = ActivityLog(self.clock)
        self.sharing = SharingStore(self.clock, self.seed)
        self.file_downloads = FileDownloadService(self, self.seed)
        self.people = People(self)
        self.deletions = Deletions(self, self.people, self.activity)
        self.groups = GroupStore(self, self.people)
        self.elements = ElementStore()
        self.capture = Intake(self, self.people, self.groups)
        self.records = Records(self, self.seed)
        self.cohorts = Cohorts(self, self.people)
        self.warehouse.sources = self._sources()
        self.change_settings(self._first_settings)

    def _sources(self) -> Sources:
        """Return what fills the tables that show the server's own state."""
        shown = sources(
            self,
            exports=self.exports.all,
            insights=self.insights.all,
            dashboards=self.dashboards.all,
            batch_exports=self.batch_exports.all,
            warehouse_jobs=self.warehouse_jobs,
            downloads=self.file_downloads,
            records=self.records,
        )
        own = own_sources(
            self,
            activity=lambda: self.activity.entries,
            queries=lambda: self.queries.log,
            views=self.warehouse_jobs.saved_rows,
            definitions=lambda: self.records.all("property_definitions"),
        )
        return {**shown, **own, "system.cohorts": self.cohorts.rows}

    def of_project(self, number: int) -> State | None:
        """Return the state of one of the server's projects.

        :param number: its id.
        """
        return self if number == self.project.id else self.others.get(number)

    def all_projects(self) -> list[State]:
        """Return the states of all projects of the server, its first one at the front."""
        return [self, *self.others.values()]

    def add_project(self, warehouse: Warehouse, name: str, settings: Mapping[str, object]) -> State:
        """Add a project, until the next reset.

        :param warehouse: its events; its id is the ``team`` of that.
        :param name: of the project; empty for one of ours.
        :param settings: its settings, on top of those that the server's first project has now.
        """
        made = State(warehouse, self.seed, {**self.settings.as_json(), **settings}, self)
        made.project.name = name or made.project.name
        self.others[made.project.id] = made
        self.project.others[made.project.id] = made.project.name
        return made

    def is_due(self) -> bool:
        """Return whether something was to happen by now: see :meth:`tick`."""
        return any(state.people.is_due() or state.deletions.is_due() for state in (self, *self.others.values()))

    def tick(self) -> None:
        """Do what was to happen by now: queued deletions, ClickHouse catching up, the weekly deletion of events."""
        for state in (self, *self.others.values()):
            with state.people.lock:
                state.people.tick()
                state.deletions.tick()

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
        for task in [task for state in (self, *self.others.values()) for task in state._tasks]:
            task.cancel()
        for state in self.others.values():
            state.warehouse.close()
        self.others.clear()
        self.project.others.clear()
        self.project.name = self.project.first_name
        self.clock.reset()
        self.settings = Settings()
        self.faults.waiting.clear()
        self.calls.calls.clear()
        self.storage.clear()
        self.life = object()
        self.keyring = Keyring(self.seed)
        self._start()
