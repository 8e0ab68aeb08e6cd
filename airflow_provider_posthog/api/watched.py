"""PostHog's own jobs that many tasks wait for at once: what is waited for, as text, and what its rows mean.

The poller treats all of them as one kind of job, so that one query covers every backfill, run, sync and view of a
project (:mod:`~airflow_provider_posthog.api.system_poll`). What is waited for is a text that triggers carry and that a
retry reads back: ``backfill/<export>/<backfill>/<since>``. Its first word is never renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict, of_run
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean

#: Seconds for which PostHog may not know a backfill whose id it has just returned.
HIDDEN_SECONDS = 300.0
#: Seconds after which a requested sync or view run must exist: PostHog answers 200 even when its scheduler has refused.
START_SECONDS = 900.0

#: The ``since`` of a backfill that went on already, so that it is not the task's to cancel.
SOMEBODYS = 0

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Watched:
    """What is waited for.

    :param what: ``backfill`` (an export, a backfill), ``run`` (an export, start and end of the interval), ``sync`` (a
        source, its schemas with commas between), ``view`` (a view), ``cohort`` (a cohort), ``suite`` (``table`` or
        ``view``, its id, a run of its checks), ``recalculation`` (an experiment, a calculation), ``fill`` (a static
        cohort, when it was calculated before the task added to it, how far the task is: see
        :mod:`~airflow_provider_posthog.tasks.cohort_fill`).
        Before a job: ``backfill_slot`` (an export, how many backfills of the project went on when one more was refused,
        since when the task waits; not before ``since``), ``sync_slot`` (a source, its schemas, since when the task
        waits) and ``view_slot`` (a view, since when the task waits): until PostHog has room for one more.
        ``runs`` (an export), ``syncs`` (a source) and ``views`` (a view): those that were completed at ``since`` or
        later.
    :param names: the ids.
    :param since: only what was created at this time or later counts, in seconds since 1970 by PostHog's clock. Of runs
        0 means that one of the schedule is waited for, and those of backfills count only beside it.
    """

    what: str
    names: tuple[str, ...]
    since: int = 0

    def __str__(self) -> str:
        return "/".join((self.what, *self.names, str(self.since)))

    @classmethod
    def parse(cls, text: str) -> Watched:
        """Read the text.

        :param text: as ``str()`` wrote it.
        :raises PostHogSettingsError: if this version of the provider knows no such thing.
        """
        what, *names = text.split("/")
        count = _NAMES.get(what)
        if count is None or len(names) != count + 1 or not names[-1].isdecimal():
            raise PostHogSettingsError(
                "job_id",
                f"is {clean(text)[:80]!r}, which this version of the provider cannot wait for.",
                "Restart the triggerer and the workers, so that both run the same version.",
            )
        return cls(what, tuple(names[:-1]), int(names[-1]))

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schemas of a source that are waited for."""
        return tuple(self.names[1].split(","))

    @property
    def interval(self) -> tuple[int, int]:
        """The interval of a run, in seconds since 1970."""
        return int(self.names[1]), int(self.names[2])


#: What is waited for before a job: that PostHog has room for it.
SLOTS = frozenset({"backfill_slot", "sync_slot", "view_slot"})
_NAMES = {"backfill": 2, "run": 3, "sync": 2, "view": 1, "cohort": 1, "suite": 3, "recalculation": 2, "fill": 3}
_NAMES |= {"backfill_slot": 3, "sync_slot": 3, "view_slot": 2, "runs": 1, "syncs": 1, "views": 1}

#: How a log or an error says what is waited for, by the names in its text.
_IN_WORDS = {
    "backfill": "backfill {1}",
    "backfill_slot": "room for a backfill of batch export {0}",
    "cohort": "cohort {0}",
    "fill": "cohort {0}",
    "recalculation": "the results of experiment {0}",
    "run": "the run of batch export {0}",
    "runs": "the runs of batch export {0}",
    "suite": "the checks of {0} {1}",
    "sync": "the sync of source {0}",
    "sync_slot": "the syncs of source {0}",
    "syncs": "the syncs of source {0}",
    "view": "view {0}",
    "view_slot": "view {0}",
    "views": "view {0}",
}


def named(text: str) -> str:
    """Return what is waited for as somebody would say it, for logs and errors.

    :param text: as ``str()`` of a :class:`Watched` wrote it; another text is returned as it is.
    """
    what, *names = text.split("/")
    if what not in _IN_WORDS or len(names) <= _NAMES[what]:
        return text
    return _IN_WORDS[what].format(*names)


def backfill_text(export_id: str, backfill_id: str, since: float) -> str:
    """Return the text for a backfill.

    :param export_id: the batch export's UUID.
    :param backfill_id: the backfill's UUID.
    :param since: when it was asked for, in seconds since 1970, or :data:`SOMEBODYS`.
    """
    return str(Watched("backfill", (export_id, backfill_id), int(since)))


def run_text(export_id: str, start: datetime, end: datetime, since: float = 0) -> str:
    """Return the text for the run of an interval.

    :param export_id: the batch export's UUID.
    :param start: the beginning of the interval.
    :param end: the first moment after it.
    :param since: only runs that were created at this time or later.
    """
    edges = (str(int(start.timestamp())), str(int(end.timestamp())))
    return str(Watched("run", (export_id, *edges), int(since)))


def row(job: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a job of PostHog's API into the form of all rows here.

    :param job: a run, a backfill, a sync, an entry of a view's history.
    :returns: ``id``, ``of`` (what it is a job of), ``backfill`` (of a run: whose), ``status``, ``created`` and
        ``finished`` (seconds since 1970 or ``None``), ``rows``, ``failed``, ``bytes``, ``error``.
    """
    schema = job.get("schema")
    created = moment(job.get("created_at") or job.get("timestamp") or job.get("last_run_at"))
    return {
        "id": str(job.get("id") or ""),
        "of": str(schema.get("id")) if isinstance(schema, Mapping) else _run_of(job),
        "backfill": str(job.get("backfill") or "") or None,
        "status": str(job.get("status")),
        "created": created.timestamp() if created is not None else None,
        "finished": _seconds(moment(job.get("finished_at")) or created),
        "rows": _first(job, "records_completed", "rows_synced", "rows_materialized", "total_records_count", "count"),
        "failed": _first(job, "records_failed"),
        "bytes": _first(job, "bytes_exported"),
        "error": _text(_first(job, "latest_error", "error", "error_code")),
    }


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()


def _run_of(run: Mapping[str, Any]) -> str:
    """Return the export and the interval of a run, as :func:`run_text` writes them; nothing for other things."""
    edges = [moment(run.get(name)) for name in ("data_interval_start", "data_interval_end")]
    if None in edges:
        return ""
    return "/".join((str(run.get("batch_export")), *(str(int(_seconds(edge) or 0)) for edge in edges)))


def _first(job: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401 - JSON
    return next((job[name] for name in names if job.get(name) is not None), None)


def _text(error: object) -> str | None:
    return clean(error) if isinstance(error, str) and error else None


def judge(answer: Mapping[str, Any]) -> Verdict:
    """Judge the rows of a poll.

    :param answer: ``id`` (the text of what is waited for), ``rows`` (as :func:`row` makes them) and ``at``, the
        server's time in seconds since 1970; 0 if it is not known.
    """
    watched = Watched.parse(str(answer["id"]))
    return _JUDGES[watched.what](watched, answer["rows"], float(answer["at"]))


def facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task needs to know of a job that has succeeded.

    :param answer: as for :func:`judge`.
    """
    watched = Watched.parse(str(answer["id"]))
    rows = [row for row in answer["rows"] if watched.what not in SLOTS]
    most = _MOST_FACTS
    if watched.what in ("runs", "syncs", "views"):  # for event watchers, which store none of it
        rows, most = list(completed(watched, rows)), len(rows)
    return {"id": str(answer["id"]), "at": answer["at"], "rows": [dict(row) for row in rows][:most]}


#: The most rows of an event: a source has as many schemas as its database has tables.
_MOST_FACTS = 200


def newest(rows: Sequence[Row]) -> Row | None:
    """Return the row that was created last; ``None`` if there is none.

    :param rows: the rows.
    """
    return max(rows, key=lambda row: (row["created"] or 0.0, row["id"]), default=None)


def since(watched: Watched, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that count, oldest first.

    :param watched: what is waited for.
    :param rows: the rows.
    """
    counting = [row for row in rows if row["created"] is not None and row["created"] >= watched.since]
    return sorted(counting, key=lambda row: (row["created"], row["id"]))


def deciding_run(watched: Watched, rows: Sequence[Row]) -> Row | None:
    """Return the run that decides on an interval's export: a successful one, of the schedule first, or else the newest.

    :param watched: what is waited for.
    :param rows: the interval's runs.
    """
    counting = since(watched, rows)
    good = [run for run in counting if of_run(run).state == "succeeded"]
    own = [run for run in good if run["backfill"] is None]
    return newest(own or good or counting)


def _backfill(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    if rows:
        return of_run(rows[0])
    if at and watched.since != SOMEBODYS and at - watched.since > HIDDEN_SECONDS:
        return Verdict("failed", "PostHog does not know the backfill whose id it returned")
    return Verdict("pending", "PostHog does not show the backfill yet")


def _run(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    run = deciding_run(watched, rows)
    own = [row for row in rows if watched.since or row["backfill"] is None]
    if run is None or not own:
        return Verdict("pending", "PostHog has begun no run of the interval yet")
    if run not in own and any(of_run(row).state == "pending" for row in own):  # a backfill takes other events
        return Verdict("pending", "the schedule's own run is running")
    return of_run(run)


def _backfill_slot(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    live = sum(of_run(row).state == "pending" for row in rows)
    if live < int(watched.names[1]) and at >= watched.since:
        return Verdict("succeeded")
    return Verdict("pending", f"{live} backfills are running")


def _free_slot(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    live = sum(_of_warehouse(row).state == "pending" for row in rows)
    return Verdict("pending", "a job that was started before is running") if live else Verdict("succeeded")


def _sync(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    counting = since(watched, rows)
    first = {job["of"]: job for job in reversed(counting)}  # the first of each schema
    verdicts = {schema: _of_warehouse(first[schema]) for schema in watched.schemas if schema in first}
    failed = [verdict for verdict in verdicts.values() if verdict.state == "failed"]
    missing = len(watched.schemas) - len(verdicts)
    if failed:
        return Verdict("failed", f"{len(failed)} of {len(watched.schemas)} syncs failed. {failed[0].reason}")
    if missing:
        return _not_started(watched, at, f"{missing} of {len(watched.schemas)} syncs")
    going_on = sum(verdict.state == "pending" for verdict in verdicts.values())
    return Verdict("pending", f"{going_on} syncs are running") if going_on else Verdict("succeeded")


def _first_since(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    counting = since(watched, rows)
    return _of_warehouse(counting[0]) if counting else _not_started(watched, at, "the run")


def _not_started(watched: Watched, at: float, what: str) -> Verdict:
    if at and at - watched.since > START_SECONDS:
        return Verdict(
            "failed", f"PostHog has not begun {what} within {START_SECONDS:.0f} s, although it accepted the request"
        )
    return Verdict("pending", f"PostHog has not begun {what} yet")


def _fill(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    cohort = rows[0]
    if cohort["status"] == "Failed":
        return Verdict("failed", "PostHog could not calculate it")
    if cohort["status"] == "Running":
        return Verdict("pending", "PostHog is calculating it")
    if str(cohort["created"] or 0) == watched.names[1]:  # still the calculation from before
        return Verdict("pending", "PostHog has not begun to fill it yet")
    return Verdict("succeeded")


#: PostHog's statuses for runs of checks and for calculations of experiments.
_ENDS = {
    "completed": Verdict("succeeded"),
    "failed": Verdict("failed", "PostHog could not do it"),
    "empty": Verdict("failed", "there is no check to run: switch one on, or write one that is"),
}


def _named(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    status, error = rows[0]["status"], rows[0].get("error")
    ended = _ENDS.get(status)
    if ended is None:
        return Verdict("pending", "" if status == "running" else f"PostHog calls it {clean(status)[:40]}")
    return ended if ended.state == "succeeded" or not error else Verdict("failed", f"{ended.reason}. {error}")


def _completed(watched: Watched, rows: Sequence[Row], at: float) -> Verdict:
    done = completed(watched, rows)
    return Verdict("succeeded") if done else Verdict("pending")


def completed(watched: Watched, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that were completed at ``since`` or later, in the order of their ends.

    :param watched: what is watched.
    :param rows: the rows.
    """
    past = [row for row in rows if row["status"] == "Completed" and (row["finished"] or 0.0) >= watched.since]
    return sorted(past, key=lambda row: (row["finished"], row["id"]))


_WAREHOUSE_FAILURES = {
    "Failed": "it failed",
    "Cancelled": "somebody cancelled it",
    "Skipped": "PostHog skipped it, as a view that it depends on fails or is paused",
    "Billing limits": "the billing limit is reached",
    "Billing limit too low": "the billing limit is too low for it",
    "BillingLimitReached": "the billing limit is reached",
    "BillingLimitTooLow": "the billing limit is too low for it",
}


def _of_warehouse(job: Row) -> Verdict:
    status, error = job["status"], job.get("error")
    if status == "Completed":
        return Verdict("succeeded")
    if status in _WAREHOUSE_FAILURES:
        reason = f"{status}: {_WAREHOUSE_FAILURES[status]}"
        return Verdict("failed", f"{reason}. {error}" if error else reason)
    return Verdict("pending", "" if status == "Running" else f"in a status this provider does not know: {status}")


_JUDGES: dict[str, Callable[[Watched, Sequence[Row], float], Verdict]] = {
    "backfill": _backfill,
    "run": _run,
    "backfill_slot": _backfill_slot,
    "sync_slot": _free_slot,
    "view_slot": _free_slot,
    "sync": _sync,
    "view": _first_since,
    "cohort": _first_since,
    "fill": _fill,
    "suite": _named,
    "recalculation": _named,
    "runs": _completed,
    "syncs": _completed,
    "views": _completed,
}


def utc(seconds: float) -> datetime:
    """Return a moment as a UTC datetime.

    :param seconds: since 1970.
    """
    return datetime.fromtimestamp(seconds, timezone.utc)
