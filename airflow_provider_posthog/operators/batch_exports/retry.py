"""Another run of an interval whose run failed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import batch_exports, states
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.watched import Watched, row, run_text, utc
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogSettingsError,
    clean,
)
from airflow_provider_posthog.tasks.batch_export import describe, failed_records, find, runs_between, summary, window_of
from airflow_provider_posthog.tasks.identity import Job
from airflow_provider_posthog.tasks.interval import interval_of
from airflow_provider_posthog.tasks.watched_job import WatchedJobOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.tasks.job import JobArguments


#: The ``since`` of runs of which any counts.
_ANY = 1


class PostHogRetryBatchExportRunOperator(WatchedJobOperator):
    """Retries a failed run of a batch export for its interval, and waits until the new run has succeeded.

    A run that has meanwhile succeeded is not repeated, so that its rows are not written twice.

    ::

        PostHogRetryBatchExportRunOperator(task_id="retry", batch_export="To the lake", run_id="{{ params.run }}")

    :param batch_export: the batch export's UUID or its name.
    :param run_id: the run's UUID; default: the newest run of the interval from ``start`` to ``end``.
    :param start: the beginning of the interval; default: the run's data interval.
    :param end: the first moment after it; default: the run's data interval.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: the run: ``id``, ``start``, ``end``, ``status``, ``rows``, ``bytes``; ``retried`` (bool),
        ``batch_export_id``, ``project_id`` (int), ``host``.
    :raises PostHogSettingsError: if there is no such export or run.
    :raises PostHogJobFailed: if the new run did not complete, or with failed records.
    """

    template_fields: Sequence[str] = (*WatchedJobOperator.template_fields, "batch_export", "run_id", "start", "end")

    def __init__(
        self,
        *,
        batch_export: str,
        run_id: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.batch_export = batch_export
        self.run_id = run_id
        self.start = start
        self.end = end

    def prepare(self) -> dict[str, Any]:
        """Find the run."""
        export_id = str(find(self.hook.client, self.batch_export)["id"])
        if self.run_id:
            try:
                run = self.hook.client.send(batch_exports.run(export_id, self.run_id))
            except PostHogNotFoundError as error:
                text = f"the batch export has no run {clean(self.run_id)[:40]}."
                raise PostHogSettingsError("run_id", text, "Write the UUID that PostHog shows.") from error
            start, end = batch_exports.interval_of(run)
            if start is None or end is None:
                raise PostHogSettingsError("run_id", "is of a run without an interval.", "Backfill its range.")
        else:
            start, end = interval_of(self._task_context, self.start, self.end)
        return {"export": export_id, "run": self.run_id, "start": start.isoformat(), "end": end.isoformat()}

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Retry the run, unless its interval has a good one, or one that goes on."""
        self._marker = marker
        export_id, window = request["export"], window_of(request)
        runs = self._runs(request)
        if not runs:
            raise PostHogSettingsError(
                "start",
                f"no run of {describe(window)} is known.",
                "Write the edges of an interval that PostHog has run.",
            )
        text = run_text(export_id, *window, since=_ANY)
        if any(states.of_run(row(run)).state == "succeeded" or states.is_live(run) for run in runs):
            self.log.info("The interval %s has a run that is good or goes on: none is started", describe(window))
            return text, {}
        run_id = request["run"] or max(runs, key=lambda run: str(run.get("created_at")))["id"]
        last = max((row(run)["created"] or 0.0 for run in runs), default=0.0)
        while True:
            _, at = self.server_time(batch_exports.retrieve(export_id))
            if at > last:
                break
            time.sleep(0.5)  # a run is told from those before by whole seconds
        self.keep_known(at, ((str(run["id"]), row(run)["created"] or 0.0) for run in runs), request)
        try:
            self.hook.client.send(batch_exports.retry_run(export_id, str(run_id)))
        except PostHogError as error:
            self.forget_known(error)
            raise
        return run_text(export_id, *window, since=at), {}

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the runs of the interval that this task may have started, newest first."""
        known = self.known(batch_exports.retrieve(request["export"]))
        for run in sorted(self._runs(request), key=lambda run: str(run.get("created_at")), reverse=True):
            created = row(run)["created"] or 0.0
            if not known.has(str(run["id"]), created):
                text = run_text(request["export"], *window_of(request), since=created)
                yield self.found(text, created, request), states.of_run(row(run))

    def _runs(self, request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        window = window_of(request)
        runs = runs_between(self.hook.client, request["export"], *window)
        return [run for run in runs if batch_exports.interval_of(run) == window]

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Return the run."""
        watched, settings = Watched.parse(job.id), self.hook.settings()
        window = (utc(watched.interval[0]), utc(watched.interval[1]))
        runs = self._runs({"export": watched.names[0], "start": window[0].isoformat(), "end": window[1].isoformat()})
        new = [run for run in runs if (row(run)["created"] or 0.0) >= watched.since]
        good = [run for run in new if states.of_run(row(run)).state == "succeeded"]
        where = {"batch_export_id": watched.names[0], "project_id": settings.project_id, "host": settings.base_url}
        if not self.wait_for_completion and not good:
            return {**where, "start": window[0].isoformat(), "end": window[1].isoformat(), "retried": True}
        if not good:  # records that failed are named by the run itself, not by the tables
            failed = sum(map(failed_records, new))
            raise PostHogJobFailed(
                f"PostHog: the run of {describe(window)} is not good: {failed:,} records failed", job_id=job.id
            )
        newest = max(good, key=lambda run: str(run.get("created_at")))
        return {**summary(newest), "retried": watched.since > _ANY, **where}

    def _cancel(self, job: Job) -> bool:
        """Cancel the run that goes on: a retry does not tell its id."""
        watched = Watched.parse(job.id)
        if not self.cancel_on_kill or watched.what != "run" or watched.since <= _ANY:
            return False
        window = [utc(edge).isoformat() for edge in watched.interval]
        try:
            live = self._runs({"export": watched.names[0], "start": window[0], "end": window[1]})
            for run in filter(states.is_live, live):
                self.hook.client.send(batch_exports.cancel_run(watched.names[0], str(run["id"])))
        except PostHogError as error:
            self.log.warning("Could not cancel the run: %s", error)
            return False
        return True

    def link(self, job: Job) -> str:
        """Return the batch export's page."""
        return f"pipeline/batch-exports/{Watched.parse(job.id).names[0]}"
