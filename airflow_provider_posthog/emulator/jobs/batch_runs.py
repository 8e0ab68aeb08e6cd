"""A run and a backfill of a batch export: what each is at a moment follows from when it begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import Json

LIVE = ("Starting", "Running")


@dataclass
class Run:
    """One run. What it is at a moment follows from when it begins and ends, unless it was cancelled.

    :param begins: when it is created.
    :param ends: when it is over.
    :param outcome: what it is then.
    :param rows: how many it exports.
    :param rows_failed: how many of them the destination did not take, though it completes.
    """

    id: str
    export_id: str
    interval_start: datetime
    interval_end: datetime
    begins: datetime
    ends: datetime
    outcome: str
    rows: int
    backfill: str | None = None
    rows_failed: int = 0
    cancelled_at: datetime | None = None

    def status(self, now: datetime) -> str:
        """Return the status.

        :param now: the emulator's time.
        """
        if self.cancelled_at is not None:
            return "Cancelled"
        if now >= self.ends:
            return self.outcome
        # PostHog knows a run for a moment before a worker takes it
        return "Starting" if now < self.begins + (self.ends - self.begins) / 4 else "Running"

    def as_json(self, now: datetime) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        """
        status = self.status(now)
        done = status == "Completed"
        finished = self.cancelled_at or (None if status in LIVE else self.ends)
        failed = {"Failed", "FailedRetryable", "FailedBilling", "Terminated", "TimedOut"}
        return {
            "id": self.id,
            "batch_export": self.export_id,
            "batch_export_on_demand": None,
            "backfill": self.backfill,
            "status": status,
            "records_completed": self.rows if done else None,
            "records_failed": self.rows_failed if done else None,
            "records_total_count": self.rows if done else None,
            "bytes_exported": self.rows * 512 if done else None,
            "latest_error": f"The destination did not take it ({status})." if status in failed else None,
            "data_interval_start": iso(self.interval_start),
            "data_interval_end": iso(self.interval_end),
            "cursor": None,
            "created_at": iso(self.begins),
            "finished_at": iso_or_none(finished),
            "last_updated_at": iso(finished or now),
        }


@dataclass
class Backfill:
    """One backfill: one run after the other, each for one interval.

    :param visible_from: PostHog gives the id away before there is a row for it.
    """

    id: str
    export_id: str
    start: datetime
    end: datetime
    created_at: datetime
    visible_from: datetime
    runs: list[Run]
    cancelled_at: datetime | None = None

    @property
    def ends(self) -> datetime:
        """The moment at which its last run is over."""
        return self.cancelled_at or (self.runs[-1].ends if self.runs else self.created_at)

    def status(self, now: datetime) -> str:
        """Return the status. ``Completed`` says that it has ended, not that its runs went well.

        :param now: the emulator's time.
        """
        if self.cancelled_at is not None:
            return "Cancelled"
        if now >= self.ends:
            return "Completed"
        return "Starting" if now < self.visible_from else "Running"

    def as_json(self, now: datetime, project_id: int) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        :param project_id: which PostHog calls ``team`` here.
        """
        status, total = self.status(now), len(self.runs)
        finished = sum(run.status(now) in ("Completed", "Failed") for run in self.runs)
        part = 1.0 if status == "Completed" else round(finished / total, 2) if total else 0.0
        ended = status not in LIVE
        return {
            "id": self.id,
            "team": project_id,
            "batch_export": self.export_id,
            "start_at": iso(self.start),
            "end_at": iso(self.end),
            "status": status,
            "created_at": iso(self.created_at),
            "finished_at": iso(self.ends) if ended else None,
            "last_updated_at": iso(self.ends if ended else now),
            "total_records_count": sum(run.rows for run in self.runs),
            "adjusted_start_at": None,
            "progress": None
            if status == "Cancelled"
            else {"total_runs": total, "finished_runs": finished, "progress": part},
        }
