"""The warehouse: sources and their syncs, views and their runs, linked tables, by the emulator's clock."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

RUNNING = "Running"


@dataclass
class Job:
    """A sync of a schema, or a run of a view. What it is at a moment follows from when it begins and ends.

    :param owner: the schema or the view.
    """

    id: str
    owner: str
    begins: datetime
    ends: datetime
    outcome: str
    rows: int
    cancelled_at: datetime | None = None

    def status(self, now: datetime) -> str:
        """Return the status.

        :param now: the emulator's time.
        """
        if self.cancelled_at is not None:
            return "Cancelled"
        return self.outcome if now >= self.ends else RUNNING

    def error(self, now: datetime) -> str | None:
        """Return why it failed.

        :param now: the emulator's time.
        """
        return None if self.status(now) in (RUNNING, "Completed", "Cancelled") else "could not connect to the source"

    def row(self, now: datetime) -> dict[str, object]:
        """Return the row of PostHog's table.

        :param now: the emulator's time.
        """
        done = self.status(now) != RUNNING
        return {
            "id": self.id,
            "status": self.status(now),
            "created_at": self.begins,
            "updated_at": self.ends if done else now,
            "finished_at": self.ends if done else None,
            "last_run_at": self.begins,
            "rows_synced": self.rows if done else 0,
            "rows_materialized": self.rows if done else 0,
            "rows_expected": self.rows,
            "latest_error": self.error(now),
            "error": self.error(now),
            "billable": True,
        }


@dataclass
class Schema:
    """A table of a source."""

    id: str
    name: str
    should_sync: bool = True
    jobs: list[Job] = field(default_factory=list)

    def brief(self, now: datetime) -> Json:
        """Return the short form.

        :param now: the emulator's time.
        """
        done = [job.ends for job in self.jobs if job.status(now) == "Completed"]
        last = iso_or_none(max(done, default=None))
        return {"id": self.id, "name": self.name, "should_sync": self.should_sync, "last_synced_at": last}

    def as_json(self, now: datetime) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        """
        begun = [job for job in self.jobs if job.begins <= now]
        last = begun[-1] if begun else None
        state = last.status(now) if last else None
        return {**self.brief(now), "status": state, "latest_error": last.error(now) if last else None}


@dataclass
class Source:
    """A source."""

    id: str
    kind: str
    schemas: list[Schema]

    def as_json(self, now: datetime) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        """
        schemas = [schema.as_json(now) for schema in self.schemas]
        return {"id": self.id, "source_type": self.kind, "status": "Completed", "prefix": "", "schemas": schemas}


@dataclass
class View:
    """A view."""

    id: str
    name: str
    is_materialized: bool
    jobs: list[Job] = field(default_factory=list)

    def as_json(self, now: datetime) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        """
        begun = [job for job in self.jobs if job.begins <= now]
        last = begun[-1] if begun else None
        return {
            "id": self.id,
            "name": self.name,
            "is_materialized": self.is_materialized,
            "status": last.status(now) if last else None,
            "last_run_at": iso_or_none(last.begins if last else None),
            "latest_error": last.error(now) if last else None,
        }


@dataclass
class LinkedTable:
    """A table of files in a user's bucket."""

    id: str
    name: str
    file_format: str
    url_pattern: str
    refreshed: int = 0

    def as_json(self) -> Json:
        """Return the object of the API; it never shows the credential."""
        columns = [{"key": "id", "name": "id", "type": "integer", "schema_valid": True}]
        shown = {"id": self.id, "name": self.name, "format": self.file_format, "url_pattern": self.url_pattern}
        return {**shown, "columns": columns, "refreshed": self.refreshed}


class WarehouseService:
    """The project's sources, views and linked tables. A source and two views are there from the start.

    :param core: the clock and the settings.
    :param seed: equal seeds make equal ids.
    """

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self._random = random.Random(f"warehouse {seed}")  # noqa: S311 - ids, not secrets
        names = (("orders", True), ("customers", True), ("audit_log", False))
        self.sources = [Source(self.new_id(), "Postgres", [Schema(self.new_id(), *schema) for schema in names])]
        self.views = [View(self.new_id(), "daily_orders", True), View(self.new_id(), "scratch", False)]
        self.tables: list[LinkedTable] = []

    def new_id(self) -> str:
        """Return a uuid."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def now(self) -> datetime:
        """Return the emulator's time."""
        return self._core.clock.now()

    def schemas(self) -> Iterator[tuple[Source, Schema]]:
        """Yield all schemas, each with its source."""
        for source in self.sources:
            for schema in source.schemas:
                yield source, schema

    def start(self, owner: Schema | View) -> None:
        """Begin a job, unless one is running: then PostHog's scheduler ignores it, and the answer is 200 all the same.

        :param owner: of what.
        """
        now, settings = self.now(), self._core.settings
        live = any(job.status(now) == RUNNING for job in owner.jobs)
        if live or not settings.warehouse_starts:
            return
        begins = now + timedelta(seconds=settings.warehouse_start_seconds)
        ends = begins + timedelta(seconds=settings.warehouse_job_seconds)
        outcome = settings.warehouse_outcome
        rows = settings.warehouse_rows
        owner.jobs.append(Job(self.new_id(), owner.id, begins, ends, outcome, rows))

    def cancel(self, owner: Schema | View) -> bool:
        """End the running job; return whether there was one.

        :param owner: of what.
        """
        now = self.now()
        live = [job for job in owner.jobs if job.begins <= now and job.status(now) == RUNNING]
        for job in live:
            job.cancelled_at = now
        return bool(live)

    def sync_rows(self) -> list[dict[str, object]]:
        """Return the rows of ``system.source_sync_jobs``."""
        now, project = self.now(), self._core.project.id
        return [
            {**job.row(now), "team_id": project, "pipeline_id": source.id, "schema_id": schema.id}
            for source, schema in self.schemas()
            for job in schema.jobs
            if job.begins <= now
        ]

    def view_rows(self) -> list[dict[str, object]]:
        """Return the rows of ``system.data_modeling_jobs``."""
        now, project = self.now(), self._core.project.id
        return [
            {**job.row(now), "team_id": project, "data_modeling_view_id": view.id}
            for view in self.views
            for job in view.jobs
            if job.begins <= now
        ]

    def source_rows(self) -> list[dict[str, object]]:
        """Return the rows of ``system.data_warehouse_sources``."""
        now, more = self.now(), {"team_id": self._core.project.id, "access_method": "warehouse", "deleted": 0}
        return [{**source.as_json(now), **more} for source in self.sources]

    def schema_rows(self) -> list[dict[str, object]]:
        """Return the rows of ``system.source_schemas``."""
        now, more = self.now(), {"team_id": self._core.project.id, "deleted": 0}
        return [{**schema.as_json(now), **more, "source_id": source.id} for source, schema in self.schemas()]

    def saved_rows(self) -> list[dict[str, object]]:
        """Return the rows of ``system.data_modeling_views``, but for the views that tests have made."""
        now, more = self.now(), {"team_id": self._core.project.id, "deleted": 0}
        return [{**view.as_json(now), **more} for view in self.views]

    def source_jobs(self, source: Source, after: datetime | None, before: datetime | None) -> list[Json]:
        """Return the syncs of a source as the API shows them, the newest first.

        :param source: the source.
        :param after: only those that were created after it.
        :param before: only those that were created before it.
        """
        now = self.now()
        jobs = [
            (job.begins, {**_sync(job, now), "schema": schema.brief(now)})
            for schema in source.schemas
            for job in schema.jobs
            if job.begins <= now and (after is None or job.begins > after) and (before is None or job.begins < before)
        ]
        return [shown for _, shown in sorted(jobs, key=lambda job: (job[0], job[1]["id"]), reverse=True)]


def _sync(job: Job, now: datetime) -> Json:
    done = job.status(now) != RUNNING
    return {
        "id": job.id,
        "created_at": iso(job.begins),
        "created_by": None,
        "finished_at": iso(job.ends) if done else None,
        "status": job.status(now),
        "rows_synced": job.rows if done else 0,
        "latest_error": job.error(now),
        "workflow_run_id": "",
        "billable": True,
    }
