"""Batch exports: their runs by schedule, by backfill and by retry, all by the emulator's clock."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.jobs.batch_runs import LIVE, Backfill, Run

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

INTERVALS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "every 5 minutes": timedelta(minutes=5),
    "every 15 minutes": timedelta(minutes=15),
}
# how much later than the end of its interval a run begins at most, in seconds
JITTER = {"hour": 900.0, "day": 1200.0, "week": 1800.0, "every 5 minutes": 60.0, "every 15 minutes": 180.0}
LATEST = 10
FIRST = "Events to the lake"


@dataclass
class BatchExport:
    """A batch export and everything it has ever run."""

    id: str
    name: str
    model: str
    destination: Json
    interval: str
    created_at: datetime
    next_start: datetime
    timezone: str = "UTC"
    offset_day: int = 0
    offset_hour: int = 0
    start_at: datetime | None = None
    end_at: datetime | None = None
    paused: bool = False
    last_paused_at: datetime | None = None
    last_updated_at: datetime | None = None
    runs: list[Run] = field(default_factory=list)
    backfills: list[Backfill] = field(default_factory=list)

    def as_json(self, now: datetime, project_id: int) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        :param project_id: which PostHog calls ``team_id`` here.
        """
        return {
            "id": self.id,
            "team_id": project_id,
            "name": self.name,
            "model": self.model,
            "destination": self.destination,
            "interval": self.interval,
            "paused": self.paused,
            "created_at": iso(self.created_at),
            "last_updated_at": iso(self.last_updated_at or self.created_at),
            "last_paused_at": iso_or_none(self.last_paused_at),
            "start_at": iso_or_none(self.start_at),
            "end_at": iso_or_none(self.end_at),
            "latest_runs": [run.as_json(now) for run in self.visible_runs(now)[:LATEST]],
            "schema": None,
            "filters": None,
            "timezone": self.timezone,
            "offset_day": self.offset_day if self.interval == "week" else None,
            "offset_hour": self.offset_hour if self.interval in ("day", "week") else None,
        }

    def visible_runs(self, now: datetime) -> list[Run]:
        """Return the runs that have begun, newest first.

        :param now: the emulator's time.
        """
        begun = [run for run in self.runs if run.begins <= now]
        return sorted(begun, key=lambda run: (run.begins, run.id), reverse=True)

    def after(self, moment: datetime) -> datetime:
        """Return the end of the interval that begins at a moment, on the export's own clock on the wall.

        :param moment: the beginning of an interval.
        """
        if self.interval not in ("day", "week"):
            return moment + INTERVALS[self.interval]
        # an hour that the clocks leave out must not move those of later days
        local = moment.astimezone(ZoneInfo(self.timezone)) - timedelta(hours=self.offset_hour)
        return self._at_hour(local + INTERVALS[self.interval]).astimezone(moment.tzinfo)

    def _at_hour(self, local: datetime) -> datetime:
        return local.replace(hour=self.offset_hour, minute=0, second=0, microsecond=0, fold=0)

    def first_start(self, moment: datetime) -> datetime:
        """Return the beginning of the interval in which a moment is.

        :param moment: an aware UTC datetime.
        """
        if self.interval not in ("day", "week"):
            length = INTERVALS[self.interval].total_seconds()
            return datetime.fromtimestamp(moment.timestamp() // length * length, tz=moment.tzinfo)
        local = moment.astimezone(ZoneInfo(self.timezone)) - timedelta(hours=self.offset_hour)
        start = local.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.interval == "week":
            start -= timedelta(days=(start.weekday() + 1 - self.offset_day) % 7)
        return self._at_hour(start).astimezone(moment.tzinfo)


class BatchExportService:
    """All batch exports of the project. The first one is there from the start.

    :param core: the clock, the settings, the store.
    :param seed: equal seeds make equal ids.
    """

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self._random = random.Random(f"batch exports {seed}")  # noqa: S311 - ids, not secrets
        self._exports: list[BatchExport] = []
        config = {"bucket_name": "lake", "prefix": "posthog"}
        destination = {"type": "S3Compatible", "config": config, "integration": 1}
        first = self.create({"name": FIRST, "model": "events", "destination": destination, "interval": "day"})
        first.created_at = first.last_updated_at = core.project.created_at - timedelta(days=5)
        first.next_start = first.first_start(first.created_at)

    def new_id(self) -> str:
        """Return a uuid."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def create(self, wanted: Json) -> BatchExport:
        """Make a batch export; its first run is for the current interval.

        :param wanted: ``name``, ``model``, ``destination``, ``interval``, ``paused``, ``timezone``, ``offset_day``,
            ``offset_hour``, ``start_at`` and ``end_at``, checked.
        """
        now = self._core.clock.now()
        made = BatchExport(id=self.new_id(), created_at=now, next_start=now, **wanted)
        made.next_start = made.first_start(now)
        self._exports.append(made)
        return made

    def remove(self, export: BatchExport) -> None:
        """Delete a batch export.

        :param export: what to delete.
        """
        self._exports.remove(export)

    def all(self) -> list[BatchExport]:
        """Return all batch exports with what has come due for them, newest first."""
        for export in self._exports:
            self._catch_up(export)
        return sorted(self._exports, key=lambda export: export.created_at, reverse=True)

    def find(self, wanted: str) -> BatchExport | None:
        """Return a batch export, or None.

        :param wanted: its id.
        """
        return next((export for export in self.all() if export.id == wanted), None)

    def _catch_up(self, export: BatchExport) -> None:
        """Make the runs that have come due since anybody has looked; nothing runs while an export is paused."""
        now, settings = self._core.clock.now(), self._core.settings
        due = []
        while (end := export.after(export.next_start)) <= now and not export.paused:
            start = export.next_start
            export.next_start = end
            if not ((export.start_at and end <= export.start_at) or (export.end_at and start >= export.end_at)):
                due.append((start, end))
        for (start, end), rows in zip(due, self._count(export, due, "created_at"), strict=True):
            jitter = settings.batch_jitter_seconds
            if jitter is None:
                jitter = random.Random(f"{export.id} {end}").random() * JITTER[export.interval]  # noqa: S311
            self._run(export, start, end, rows, begins=end + timedelta(seconds=jitter), column="created_at")

    def _count(self, export: BatchExport, intervals: Sequence[tuple[datetime, datetime]], column: str) -> list[int]:
        if export.model != "events":
            return [0] * len(intervals)
        return self._core.warehouse.count_events_of(intervals, column)

    def _run(
        self,
        export: BatchExport,
        start: datetime,
        end: datetime,
        rows: int,
        *,
        begins: datetime,
        column: str,
        backfill: str = "",
    ) -> Run:
        settings = self._core.settings
        ends = begins + timedelta(seconds=settings.batch_run_seconds)
        made = Run(
            self.new_id(),
            export.id,
            start,
            end,
            begins,
            ends,
            settings.batch_outcome,
            rows,
            backfill=backfill or None,
            rows_failed=settings.batch_records_failed,
        )
        export.runs.append(made)
        if settings.batch_destination and made.outcome == "Completed" and export.model == "events":
            self._write(made, column, Path(settings.batch_destination))
        return made

    def _write(self, run: Run, column: str, folder: Path) -> None:
        """Write the rows of a run into the destination's folder, as a batch export to S3 does.

        The file is named for the interval: another run of it, and a backfill, write over it.
        """
        interval = "-".join(edge.isoformat() for edge in (run.interval_start, run.interval_end))
        target = folder / run.export_id / f"{interval}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        edges = (int(edge.timestamp() * 1_000_000) for edge in (run.interval_start, run.interval_end))
        first, last = (f"fromUnixTimestamp64Micro({edge})" for edge in edges)
        columns = (
            "toString(uuid) AS uuid, event, distinct_id, toTimeZone(timestamp, 'UTC') AS timestamp, "
            "toTimeZone(created_at, 'UTC') AS created_at, properties"
        )
        self._core.warehouse.execute(
            f"SELECT {columns} FROM {{db}}.events WHERE {column} >= {first} AND {column} < {last} "  # noqa: S608
            f"INTO OUTFILE '{target}' TRUNCATE FORMAT Parquet"
        )

    def pause(self, export: BatchExport) -> None:
        """Stop the schedule.

        :param export: of this export.
        """
        if not export.paused:
            export.paused, export.last_paused_at = True, self._core.clock.now()

    def unpause(self, export: BatchExport, *, backfill: bool) -> None:
        """Go on with the schedule; what would have run meanwhile does not, unless it is backfilled.

        :param export: of this export.
        :param backfill: run what was missed.
        """
        if not export.paused:
            return
        missed, now = export.next_start, self._core.clock.now()
        export.paused = False
        export.next_start = export.first_start(now)
        if backfill and missed < export.next_start:
            self.backfill(export, missed, export.next_start)

    def live_backfills(self) -> list[Backfill]:
        """Return the backfills of all exports that have not ended."""
        now = self._core.clock.now()
        return [backfill for export in self._exports for backfill in export.backfills if backfill.status(now) in LIVE]

    def backfill(self, export: BatchExport, start: datetime, end: datetime) -> Backfill:
        """Start a backfill. It takes events by their own time, not by the time at which they came, as runs do.

        :param export: of this export.
        :param start: the beginning of its first interval.
        :param end: no interval begins there or later.
        """
        now, settings = self._core.clock.now(), self._core.settings
        made = Backfill(
            self.new_id(), export.id, start, end, now, now + timedelta(seconds=settings.backfill_hidden_seconds), []
        )
        has_data = export.model != "events" or self._core.warehouse.count_events(start, end, "timestamp") > 0
        at, begins, intervals = export.first_start(start), now, []
        while has_data and at < end:
            intervals.append((at, export.after(at)))
            at = intervals[-1][1]
        for (at, until), rows in zip(intervals, self._count(export, intervals, "timestamp"), strict=True):
            made.runs.append(self._run(export, at, until, rows, begins=begins, column="timestamp", backfill=made.id))
            begins = made.runs[-1].ends
        export.backfills.append(made)
        return made

    def cancel_backfill(self, export: BatchExport, backfill: Backfill) -> None:
        """Stop a backfill and the runs of it that have not ended; those that have not begun never will.

        :param export: of this export.
        :param backfill: what to stop.
        """
        now = self._core.clock.now()
        backfill.cancelled_at = now
        for run in list(backfill.runs):
            if run.begins > now:
                backfill.runs.remove(run)
                export.runs.remove(run)
            elif run.status(now) in LIVE:
                run.cancelled_at = now

    def retry(self, export: BatchExport, run: Run) -> str:
        """Run an interval again; return what PostHog calls ``backfill_id``, which is the id of no backfill.

        :param export: of this export.
        :param run: whose interval is to be run again.
        """
        now = self._core.clock.now()
        column = "timestamp" if run.backfill else "created_at"
        interval = (run.interval_start, run.interval_end)
        self._run(export, *interval, self._count(export, [interval], column)[0], begins=now, column=column)
        start, end = (moment.strftime("%Y-%m-%dT%H:%M:%S+00:00") for moment in (run.interval_start, run.interval_end))
        return f"{export.id}-Backfill-{start}-{end}"
