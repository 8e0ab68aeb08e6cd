"""Waiting for the run of a batch export's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import batch_exports, jobs
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.export_intervals import Interval, Schedule
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.watched import Watched, deciding_run, run_text, utc
from airflow_provider_posthog.exceptions import PostHogJobError, PostHogSettingsError
from airflow_provider_posthog.tasks.arguments import PollingArguments, UnhurriedSensorArguments
from airflow_provider_posthog.tasks.batch_export import describe, find
from airflow_provider_posthog.tasks.export_proof import DestinationCount, is_of_events
from airflow_provider_posthog.tasks.interval import interval_of
from airflow_provider_posthog.tasks.sensor import PostHogWaitingSensor

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.triggers.watching import Waiting, WatchEvent

#: Seconds for which a failure has to stand that PostHog itself may mend with another run of the interval.
_GRACE = 900.0


class _BatchExportRunSensorRest(PollingArguments, UnhurriedSensorArguments, total=False):
    """What :class:`PostHogBatchExportRunSensor` takes beside its own arguments."""


class PostHogBatchExportRunSensor(PostHogWaitingSensor):
    """Waits until a batch export's scheduled run of an interval has succeeded: completed, and no record failed.

    PostHog begins the run some time after the interval is over (hours up to 15 minutes, days 20, weeks 30), so leave
    ``timeout`` that much room. It takes the events that PostHog *received* in the interval, not those that happened in
    it. An interval may have several runs: one that succeeded is enough, but a backfill's run alone does not count.

    ::

        PostHogBatchExportRunSensor(task_id="exported", batch_export="Events to the lake", deferrable=True)

    :param batch_export: the batch export's UUID or its name.
    :param start: the beginning of the interval, which must be one of the export's; default: the run's data interval.
    :param end: the first moment after it; default: the run's data interval.
    :param min_records: fail if the run has written fewer records; PostHog calls a run without any data completed.
    :param check_path: count the run's rows at the destination, too: a folder of Parquet files, such as the batch
        export's prefix in a bucket, in which PostHog names files for their interval, or a pattern of them with ``*``
        (needs the extra ``warehouse``).
    :param check_sql_conn_id: a database in its place; with ``check_table`` and ``check_column``, or ``check_sql``.
    :param check_table: the table there, with its column ``uuid``; sessions are taken to be in UTC.
    :param check_column: its column with the time of ingestion. Not ``timestamp``: that is when events happened, and
        a run has those of other days, too.
    :param check_sql: a statement in their place that answers with one number; ``{start}`` and ``{end}`` in it stand
        for the edges of the interval, as texts in quotes.
    :param object_storage_conn_id: Airflow's connection for that object storage.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor`; ``failure_grace`` is 900 s
        by default, as PostHog may mend ``FailedRetryable`` with another run.
    :returns: ``run_id``, ``batch_export_id``, ``start`` and ``end`` (ISO text), ``rows`` and ``bytes`` (int, or null
        if PostHog does not tell), ``destination_rows`` and ``posthog_rows`` (int; the latter of events, by
        ``created_at``, each ``uuid`` once, so that events near the edges may be another run's; null if nothing was
        counted).
    :raises PostHogSettingsError: if the export cannot be found, or the range is not one interval of it.
    :raises PostHogJobFailed: if the run failed, some of its records did, or it wrote fewer than ``min_records``.
    :raises PostHogIncompleteError: if the destination holds fewer rows than the run has written.
    """

    template_fields: Sequence[str] = (
        *("posthog_conn_id", "project_id"),
        *("batch_export", "start", "end", "min_records"),
        *("check_path", "check_sql_conn_id", "check_table", "check_column", "check_sql", "object_storage_conn_id"),
    )
    unmet: ClassVar[str] = "is not there"
    met: ClassVar[str] = "is there"
    last_poll: ClassVar[float] = jobs.LAST_POLL

    def __init__(
        self,
        *,
        batch_export: str,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        min_records: int = 0,
        check_path: str | ObjectStoragePath | None = None,
        check_sql_conn_id: str | None = None,
        check_table: str | None = None,
        check_column: str | None = None,
        check_sql: str | None = None,
        object_storage_conn_id: str | None = None,
        poke_interval: float | timedelta = 60.0,
        failure_grace: float = _GRACE,
        **kwargs: Unpack[_BatchExportRunSensorRest],
    ) -> None:
        super().__init__(poke_interval=poke_interval, failure_grace=failure_grace, **kwargs)
        self.batch_export = batch_export
        self.start = start
        self.end = end
        self.min_records = min_records
        self.check_path = check_path
        self.check_sql_conn_id = check_sql_conn_id
        self.check_table = check_table
        self.check_column = check_column
        self.check_sql = check_sql
        self.object_storage_conn_id = object_storage_conn_id
        self._text = ""

    def subject(self) -> str:
        """Name the run."""
        if not self._text:
            return f"the run of batch export {self.batch_export}"
        first, last = Watched.parse(self._text).interval
        return f"the run of batch export {self.batch_export} from {describe((utc(first), utc(last)))}"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the address of the batch export.

        :param settings: where PostHog is.
        :param facts: what the last look saw.
        """
        export_id = Watched.parse(self._text).names[0]
        return f"{settings.base_url}/project/{settings.project_id}/pipeline/batch-exports/{export_id}"

    def prepare(self, context: Context) -> None:
        """Find the export, and check that the range is one interval of it."""
        self._least()
        self._destination().check()
        start, end = interval_of(context, self.start, self.end)
        export = find(self.hook.client, self.batch_export)
        if export.get("paused"):
            self.log.warning("The batch export is paused: PostHog begins no more runs of its schedule")
        self._destination().check_model(export, of_run=True)
        schedule = Schedule.of(export)
        intervals = schedule.split(start, end)
        if len(intervals) != 1:
            shown = ", ".join(describe(interval) for interval in intervals[:3]) + (", ..." if intervals[3:] else "")
            raise PostHogSettingsError(
                "end",
                f"the range has {len(intervals)} intervals of the export ({schedule}): {shown}.",
                "Write one, or map the sensor over them.",
            )
        self._text = run_text(str(export["id"]), start, end)

    def _least(self) -> int:
        text = str(self.min_records).strip()  # a template makes text of a number
        least = int(text) if text.isdecimal() and not isinstance(self.min_records, bool) else -1
        if least < 0:
            raise PostHogSettingsError("min_records", "is not a number of records.", "Write 0 or more.")
        return least

    def look(self, context: Context) -> Finding:
        """Ask for the run once."""
        return self._look_at(self._text)

    def _look_at(self, text: str) -> Finding:
        answer = self.hook.client.send(jobs.WATCHED.poll(text))
        watched, verdict = Watched.parse(text), jobs.WATCHED.judge(answer)
        run = deciding_run(watched, answer["rows"])
        if verdict.state != "succeeded" or run is None:
            return Finding(verdict)
        first, last = watched.interval
        rows: int | None = run["rows"]
        if rows is None and self._least():
            reason = "PostHog does not tell how many records it has written, and min_records is given"
            return Finding(Verdict("failed", reason))
        if rows is not None and rows < self._least():
            reason = f"it has written {rows:,} records, fewer than min_records={self._least():,}"
            return Finding(Verdict("failed", reason))
        return Finding(
            verdict,
            {
                "run_id": run["id"],
                "batch_export_id": watched.names[0],
                "start": utc(first).isoformat(),
                "end": utc(last).isoformat(),
                "rows": rows,
                "bytes": run["bytes"],
                **self._compared(watched.names[0], (utc(first), utc(last)), rows),
            },
        )

    def _compared(self, export_id: str, interval: Interval, rows: int | None) -> dict[str, int | None]:
        destination = self._destination()
        export = self.hook.client.send(batch_exports.retrieve(export_id)) if destination else {}
        events = is_of_events(export)
        return destination.compare(self.hook, self.log, interval, rows, of_run=True, events=events)

    def _destination(self) -> DestinationCount:
        return DestinationCount(
            self.check_sql_conn_id,
            self.check_table,
            self.check_sql,
            self.check_path,
            self.object_storage_conn_id,
            self.check_column,
        )

    def new_trigger(self, context: Context, waiting: Waiting, *, looked: bool) -> BaseTrigger:
        """Make the trigger that goes on asking.

        :param waiting: its arguments that say how to wait.
        :param looked: whether the worker has just asked; the trigger asks at once all the same.
        """
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        return PostHogJobTrigger(kind=jobs.WATCHED.name, job_id=self._text, **waiting)

    def read_event(self, event: Mapping[str, Any] | None) -> WatchEvent:
        """Read the trigger's event.

        :param event: its payload.
        """
        from airflow_provider_posthog.triggers.jobs import JobEvent

        fired = JobEvent.parse(event, jobs.WATCHED.name)
        self._text = fired.job_id
        return fired

    def result(self, event: WatchEvent, context: Context) -> dict[str, Any]:
        """Ask for the run itself, which tells more than the table that the trigger reads.

        :param event: the trigger's event.
        """
        finding = self._look_at(self._text)
        if finding.verdict.state == "failed":
            raise self._failed("failed", finding.verdict.reason)
        if finding.verdict.state == "pending":
            raise PostHogJobError(f"{self._unmet()}, though it was a moment ago. {finding.verdict.reason}".rstrip())
        return dict(finding.facts)

    @property
    def job_id(self) -> str | None:
        """What is waited for, as the trigger knows it."""
        return self._text or None
