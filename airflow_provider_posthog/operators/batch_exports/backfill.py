"""Backfills of batch exports as tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import batch_exports, states
from airflow_provider_posthog.api.export_intervals import Interval, Schedule
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.watched import SOMEBODYS, Watched, backfill_text, row
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogJobFailed,
    PostHogTransportError,
)
from airflow_provider_posthog.tasks.batch_export import describe, find, runs_between, summary, window_of
from airflow_provider_posthog.tasks.export_proof import DestinationCount, is_of_events
from airflow_provider_posthog.tasks.identity import Job
from airflow_provider_posthog.tasks.interval import interval_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.watched_job import WatchedJobOperator, rows_in_words, total

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.tasks.job import JobArguments

#: How many backfills are searched for one that goes on.
_NEWEST = 100
#: The most runs that a task returns.
_MOST_RUNS = 500
#: Seconds for which the runs of a backfill that has ended may still be written down as going on.
_RUNS_LATE = (1.0, 2.0, 4.0, 8.0, 15.0)


class PostHogBackfillBatchExportOperator(WatchedJobOperator):
    """Backfills a range of time of a batch export, and waits until every run has succeeded.

    PostHog writes; no row passes through Airflow. A backfill selects events by their ``timestamp``, while the export's
    scheduled runs select them by when PostHog received them: an event that arrives late is missing from any backfill of
    its day that ran before. Rows that both have written appear twice in a destination that only appends; they share one
    ``uuid``.

    The range is the run's data interval, and must be made of whole intervals of the export: its hours, or its days and
    weeks with their time zone and hour. If a backfill of the same range is already running, whoever started it, the
    task waits for that one instead of starting a second. While the project runs as many backfills as it may, the task
    waits for a slot.

    ::

        PostHogBackfillBatchExportOperator(task_id="backfill", batch_export="Events to the lake", pool="backfills")

    :param batch_export: the batch export's UUID or its name.
    :param start: the first moment, as a time with an offset or ISO text; default: the run's data interval.
    :param end: the first moment after it, not in the future; default: the run's data interval.
    :param check_sql_conn_id: also count the range's rows in the destination, through this Airflow connection of a
        database; with ``check_table`` or ``check_sql``. Rows from scheduled runs count too.
    :param check_table: the table there, with its columns ``uuid`` and ``timestamp``; sessions are taken to be in UTC.
    :param check_sql: a statement to use instead, which answers with one number; ``{start}`` and ``{end}`` in it stand
        for the edges of the range, as texts in quotes.
    :param check_path: a folder of Parquet files to count in, such as the batch export's prefix in a bucket, or a
        pattern of them with ``*`` (needs the extra ``warehouse``).
    :param object_storage_conn_id: Airflow's connection for that object storage.
    :param poll_interval: the longest wait between two polls, in seconds. All backfills, runs and syncs that a triggerer
        waits for on a connection share one query per poll.
    :param timeout: seconds that it may take, from its start; default a day. The wait for a slot may take as long again.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: ``backfill_id``, ``batch_export_id`` and ``batch_export`` (its name), ``start`` and ``end`` (ISO text),
        ``rows`` and ``bytes`` (int, of all runs; null if PostHog does not tell that of one), ``run_count`` (int),
        ``runs`` (the first 500: each with ``id``, ``start``, ``end``, ``status``, ``rows``, ``bytes``), ``project_id``
        (int), ``host``; ``destination_rows`` and ``posthog_rows`` (int, by their ``timestamp``, each ``uuid`` once;
        null if nothing was counted). Without data there is no run, and ``rows`` is 0. With
        ``wait_for_completion=False`` only what is known by then.
    :raises PostHogSettingsError: if the export cannot be found, or the range does not fit its intervals.
    :raises PostHogJobFailed: if a run did not complete, has failed records, or an interval has no run.
    :raises PostHogIncompleteError: if the destination holds fewer rows than the runs have written.
    :raises PostHogJobTimeout: if it did not end in time; it is cancelled then.
    """

    template_fields: Sequence[str] = (
        *WatchedJobOperator.template_fields,
        *("batch_export", "start", "end"),
        *("check_sql_conn_id", "check_table", "check_sql", "check_path", "object_storage_conn_id"),
    )

    def __init__(
        self,
        *,
        batch_export: str,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        check_sql_conn_id: str | None = None,
        check_table: str | None = None,
        check_sql: str | None = None,
        check_path: str | ObjectStoragePath | None = None,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.batch_export = batch_export
        self.start = start
        self.end = end
        self.check_sql_conn_id = check_sql_conn_id
        self.check_table = check_table
        self.check_sql = check_sql
        self.check_path = check_path
        self.object_storage_conn_id = object_storage_conn_id
        self._asked_at = 0.0

    def prepare(self) -> dict[str, Any]:
        """Find the export, and check that the range is made of whole intervals of it."""
        self._destination().check()
        start, end = interval_of(self._task_context, self.start, self.end)
        export = find(self.hook.client, self.batch_export)
        self._destination().check_model(export)
        schedule = Schedule.of(export)
        schedule.split(start, end)
        return {
            "export": str(export["id"]),
            "start": start.isoformat(),
            "end": end.isoformat(),
            "start_at": schedule.edge(start),
            "end_at": schedule.edge(end),
        }

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Start the backfill, unless one of the same range goes on."""
        self._marker, export_id = marker, request["export"]
        while True:
            page, at = self.server_time(batch_exports.backfills(export_id))
            self._asked_at = at
            same = self._same(request, page)
            live = next(filter(states.is_live, same), None)
            if live is not None:
                self.log.info("Taking up backfill %s of the same range, which goes on already", live.get("id"))
                return backfill_text(export_id, str(live["id"]), SOMEBODYS), {}
            self.keep_known(at, ((str(backfill["id"]), _created(backfill)) for backfill in same), request)
            call = batch_exports.start_backfill(export_id, start_at=request["start_at"], end_at=request["end_at"])
            try:
                answer = self.hook.client.send(call)
            except PostHogError as error:
                self.forget_known(error)
                if not isinstance(error, PostHogAPIError) or error.code != batch_exports.NO_SLOT:
                    raise
                self._wait_for_slot(export_id)
                continue
            if not answer.get("backfill_id"):
                raise PostHogTransportError("PostHog answered the start of a backfill without its 'backfill_id'")
            return backfill_text(export_id, str(answer["backfill_id"]), at), {}

    def _wait_for_slot(self, export_id: str) -> None:
        anybody = Watched("backfill_slot", (export_id, "0", self.waiting_since()), int(time.time()))
        rows = self.look(anybody)["rows"]
        live = sum(states.of_run(row).state == "pending" for row in rows)
        earliest = int(self._asked_at + math.ceil(self.poll_interval))
        slot = Watched("backfill_slot", (export_id, str(max(live, 1)), self.waiting_since()), earliest)
        self.wait_for_slot(slot, f"The project has as many backfills as it may ({live} of which are known)")

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the backfills of the same range that this task may have started, newest first."""
        known = self.known(batch_exports.retrieve(request["export"]))
        for backfill in self.hook.client.pages(batch_exports.backfills(request["export"])):
            at, backfill_id = _created(backfill), str(backfill["id"])
            if at < known.until and not states.is_live(backfill):
                return
            if _is_of(backfill, request) and not known.has(backfill_id, at):
                text = backfill_text(request["export"], backfill_id, at)
                yield self.found(text, at, request), states.of_run(backfill)

    def _same(self, request: Mapping[str, Any], page: batch_exports.BackfillPage) -> list[Mapping[str, Any]]:
        """Return the backfills of the same range among the newest."""
        backfills: Iterator[Mapping[str, Any]] = iter(page.get("results", ()))
        if page.get("next"):
            backfills = self.hook.client.pages(batch_exports.backfills(request["export"]), max_items=_NEWEST)
        return [backfill for backfill in backfills if _is_of(backfill, request)]

    @property
    def uncancellable(self) -> str:
        """Why a backfill is not cancelled."""
        return "it went on before this task"

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Prove every run of the backfill, and return what they wrote."""
        export_id, backfill_id = Watched.parse(job.id).names
        export = self.hook.client.send(batch_exports.retrieve(export_id))
        settings = self.hook.settings()
        result: dict[str, Any] = {
            "backfill_id": backfill_id,
            "batch_export_id": export_id,
            "batch_export": export.get("name"),
            "project_id": settings.project_id,
            "host": settings.base_url,
        }
        if not self.wait_for_completion:
            return result
        backfill = self.hook.client.send(batch_exports.backfill(export_id, backfill_id))
        start, end = batch_exports.interval_of(backfill)
        if start is None or end is None:
            raise PostHogTransportError("PostHog tells the backfill without its 'start_at' and 'end_at'")
        runs = self._proved_runs(export, backfill, (start, end), job)
        summaries = [summary(run) for run in runs]
        rows, size = (total(counts[name] for counts in summaries) for name in ("rows", "bytes"))
        self.concludes(
            "Backfill %s: %s, %s bytes in %s",
            backfill_id,
            rows_in_words(rows),
            f"{size or 0:,}",
            counted(len(runs), "run"),
        )
        return {
            **result,
            "start": start.isoformat(),
            "end": end.isoformat(),
            "rows": rows,
            "bytes": size,
            "run_count": len(runs),
            "runs": summaries[:_MOST_RUNS],
            **self._destination().compare(self.hook, self.log, (start, end), rows, events=is_of_events(export)),
        }

    def _destination(self) -> DestinationCount:
        return DestinationCount(
            self.check_sql_conn_id, self.check_table, self.check_sql, self.check_path, self.object_storage_conn_id
        )

    def _proved_runs(
        self, export: Mapping[str, Any], backfill: Mapping[str, Any], window: Interval, job: Job
    ) -> list[Mapping[str, Any]]:
        """Return the good run of each interval.

        :raises PostHogJobFailed: if an interval has none.
        """
        for wait in (*_RUNS_LATE, None):
            runs = self._runs_of(export, backfill, window)
            if wait is None or not any(states.is_live(run) for run in runs.values()):
                break
            time.sleep(wait)
        if not runs and backfill.get("total_records_count") == 0:  # null: PostHog has not looked, and runs all
            self.log.info("Backfill %s had no data to write", backfill.get("id"))
            return []
        first = moment(backfill.get("adjusted_start_at")) or window[0]  # PostHog leaves out what is before all data
        intervals = Schedule.of(export).split(*window)
        wanted = [interval for interval in intervals if interval[1] > first] or intervals
        bad = [_fault(runs.get(interval), interval) for interval in wanted]
        faults = [fault for fault in bad if fault is not None]
        if faults:
            more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
            text = (
                f"{len(faults)} of {len(wanted)} intervals were not written as a whole: {'; '.join(faults[:3])}{more}"
            )
            raise PostHogJobFailed(f"PostHog: backfill {backfill.get('id')}: {text}", job_id=job.id)
        return [runs[interval] for interval in wanted]

    def _runs_of(
        self, export: Mapping[str, Any], backfill: Mapping[str, Any], window: Interval
    ) -> dict[tuple[datetime | None, datetime | None], Mapping[str, Any]]:
        """Return the newest run of the backfill for each interval."""
        mine: dict[tuple[datetime | None, datetime | None], Mapping[str, Any]] = {}
        for run in runs_between(self.hook.client, str(export["id"]), *window):
            key, before = batch_exports.interval_of(run), mine.get(batch_exports.interval_of(run))
            is_newer = before is None or _created(run) > _created(before)
            if str(run.get("backfill")) == str(backfill.get("id")) and is_newer:
                mine[key] = run
        return mine

    def link(self, job: Job) -> str:
        """Return the batch export's page."""
        return f"pipeline/batch-exports/{Watched.parse(job.id).names[0]}"


def _created(job: Mapping[str, Any]) -> float:
    created = moment(job.get("created_at"))
    return created.timestamp() if created is not None else 0.0


def _is_of(backfill: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    return batch_exports.interval_of(backfill) == window_of(request)


def _fault(run: Mapping[str, Any] | None, interval: Interval) -> str | None:
    """Say why an interval was not written as a whole; ``None`` if it was."""
    if run is None:
        return f"{describe(interval)} has no run"
    verdict = states.of_run(row(run))
    if verdict.state == "succeeded":
        return None
    return f"{describe(interval)}: {verdict.reason or run.get('status')}"
