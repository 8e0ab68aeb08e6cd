"""Batch exports: what PostHog loads into a destination itself (``/api/projects/{id}/batch_exports/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

from airflow_provider_posthog.api.answers import object_or_empty
from airflow_provider_posthog.api.arguments import (
    Limit,
    Offset,
    Since,
    Text,
    TimeOrDay,
    Uuid,
    span,
    time_text,
)
from airflow_provider_posthog.api.call import Call, json_item, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogSettingsError

_READ = ("batch_export:read",)
_WRITE = ("batch_export:write",)

#: The ``code`` of a 429 while the project has as many backfills as it may.
NO_SLOT = "too_many_concurrent_backfills"


class BatchExport(TypedDict, total=False):
    """A batch export; ``interval`` is ``hour``, ``day``, ``week`` or ``every N minutes``."""

    id: str
    name: str
    model: str
    destination: Mapping[str, Any]
    interval: str
    timezone: str | None
    offset_day: int | None
    offset_hour: int | None
    paused: bool
    created_at: str
    last_updated_at: str
    start_at: str | None
    end_at: str | None
    latest_runs: Sequence[Mapping[str, Any]]


class BatchExportPage(TypedDict, total=False):
    """A page of batch exports."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[BatchExport]


class Run(TypedDict, total=False):
    """A run of a batch export; one interval may have several."""

    id: str
    batch_export: str
    backfill: str | None
    status: str
    records_completed: int | None
    records_failed: int | None
    records_total_count: int | None
    bytes_exported: int | None
    latest_error: str | None
    data_interval_start: str | None
    data_interval_end: str
    created_at: str
    finished_at: str | None


class RunPage(TypedDict, total=False):
    """A page of runs, 100 at the most."""

    next: str | None
    previous: str | None
    results: Sequence[Run]


class Backfill(TypedDict, total=False):
    """A backfill; ``Completed`` says that it ended, and its runs may have failed."""

    id: str
    batch_export: str
    start_at: str | None
    end_at: str | None
    status: str
    progress: Mapping[str, Any] | None
    total_records_count: int | None
    created_at: str
    finished_at: str | None


class BackfillPage(TypedDict, total=False):
    """A page of backfills, 50 at the most."""

    next: str | None
    previous: str | None
    results: Sequence[Backfill]


class BackfillId(TypedDict, total=False):
    """The answer to starting a backfill or a retry; after a retry the id is not a backfill's."""

    backfill_id: str


class Paused(TypedDict, total=False):
    """Whether a batch export is paused."""

    paused: bool


class Cancelled(TypedDict, total=False):
    """Whether a run or backfill was cancelled."""

    cancelled: bool


@endpoint("GET", "batch_exports/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0) -> Call[BatchExportPage]:
    """List batch exports.

    :param limit: batch exports per page.
    :param offset: how many to leave out.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("GET", "batch_exports/{id}/", scopes=_READ)
def retrieve(batch_export_id: Uuid) -> Call[BatchExport]:
    """Retrieve a batch export, with its ten latest runs.

    :param batch_export_id: its UUID.
    """
    return retrieve.call(json_item, id=batch_export_id)


@endpoint("POST", "batch_exports/{id}/pause/", scopes=_WRITE, repeatable=True)
def pause(batch_export_id: Uuid) -> Call[Paused]:
    """Pause a batch export.

    :param batch_export_id: its UUID.
    """
    return pause.call(object_or_empty, id=batch_export_id)


@endpoint("POST", "batch_exports/{id}/unpause/", scopes=_WRITE)
def unpause(batch_export_id: Uuid, *, backfill: bool = False) -> Call[Paused]:
    """Let a paused batch export go on. May be repeated unless it starts a backfill.

    :param batch_export_id: its UUID.
    :param backfill: also export what the pause left out.
    """
    return unpause.call(object_or_empty, json={"backfill": backfill}, repeatable=not backfill, id=batch_export_id)


@endpoint("GET", "batch_exports/{id}/runs/", scopes=_READ, paging="cursor")
def runs(
    batch_export_id: Uuid,
    *,
    after: Since | None = None,
    before: Since | None = None,
    start: Since | None = None,
    end: Since | None = None,
    ordering: Literal["data_interval_start", "-data_interval_start"] | None = None,
    cursor: Text | None = None,
) -> Call[RunPage]:
    """List the runs of a batch export: by when they were made, or by the data that they exported.

    One of the two lower bounds is needed, as PostHog's own leaves out whatever is older than seven days.

    :param batch_export_id: its UUID.
    :param after: only runs made after this: a time, or ``-30d``.
    :param before: only runs made before this.
    :param start: only runs whose interval starts at this time or later; not together with ``after`` and ``before``.
    :param end: only runs whose interval ends at this time or earlier; by default now.
    :param ordering: of runs chosen by their interval; by default the latest first.
    :param cursor: where to go on, from the address in ``next``.
    :raises PostHogSettingsError: for bounds of which PostHog would ignore some, and without a lower bound.
    """
    by_interval = not (start is None and end is None and ordering is None)
    _check_bounds(by_interval, start if by_interval else after, after is None and before is None)
    query = {
        "after": time_text(after),
        "before": time_text(before),
        "ordering": (ordering or "-data_interval_start") if by_interval else None,
        "start": time_text(start),
        "end": time_text(end),
        "cursor": cursor,
    }
    return runs.call(json_page, query=query, id=batch_export_id)


@endpoint("GET", "batch_exports/{id}/runs/{run_id}/", scopes=_READ)
def run(batch_export_id: Uuid, run_id: Uuid) -> Call[Run]:
    """Retrieve a run.

    :param batch_export_id: the batch export's UUID.
    :param run_id: the run's UUID.
    """
    return run.call(json_item, id=batch_export_id, run_id=run_id)


@endpoint("POST", "batch_exports/{id}/runs/{run_id}/retry/", scopes=_WRITE)
def retry_run(batch_export_id: Uuid, run_id: Uuid) -> Call[BackfillId]:
    """Export the interval of a run again, as a new run.

    The ``backfill_id`` of the answer is not a backfill's: find the new run among :func:`runs` of the same interval.

    :param batch_export_id: the batch export's UUID.
    :param run_id: the run's UUID.
    """
    return retry_run.call(object_or_empty, id=batch_export_id, run_id=run_id)


@endpoint("POST", "batch_exports/{id}/runs/{run_id}/cancel/", scopes=_WRITE, repeatable=True)
def cancel_run(batch_export_id: Uuid, run_id: Uuid) -> Call[Cancelled]:
    """Cancel a run; 400 for one that has ended.

    :param batch_export_id: the batch export's UUID.
    :param run_id: the run's UUID.
    """
    return cancel_run.call(object_or_empty, id=batch_export_id, run_id=run_id)


@endpoint("GET", "batch_exports/{id}/backfills/", scopes=_READ, paging="cursor")
def backfills(batch_export_id: Uuid, *, cursor: Text | None = None) -> Call[BackfillPage]:
    """List the backfills of a batch export.

    :param batch_export_id: its UUID.
    :param cursor: where to go on, from the address in ``next``.
    """
    return backfills.call(json_page, query={"cursor": cursor}, id=batch_export_id)


@endpoint("POST", "batch_exports/{id}/backfills/", scopes=_WRITE)
def start_backfill(batch_export_id: Uuid, *, start_at: TimeOrDay, end_at: TimeOrDay) -> Call[BackfillId]:
    """Export a range of time again. It selects events by their timestamp; scheduled runs select by arrival.

    :param batch_export_id: its UUID.
    :param start_at: from when: a day for daily and weekly exports, else a time with its offset.
    :param end_at: until when, not in the future; written like ``start_at``.
    :returns: the id to ask :func:`backfill` for, which answers 404 for the first seconds.
    """
    span(("start_at", "end_at"), start_at, end_at)
    body = {"start_at": time_text(start_at), "end_at": time_text(end_at)}
    return start_backfill.call(json_object, json=body, no_slot=NO_SLOT, id=batch_export_id)


@endpoint("GET", "batch_exports/{id}/backfills/{backfill_id}/", scopes=_READ)
def backfill(batch_export_id: Uuid, backfill_id: Uuid) -> Call[Backfill]:
    """Retrieve a backfill.

    :param batch_export_id: the batch export's UUID.
    :param backfill_id: the backfill's UUID; what :func:`retry_run` answers is none.
    """
    return backfill.call(json_object, id=batch_export_id, backfill_id=backfill_id)


@endpoint("POST", "batch_exports/{id}/backfills/{backfill_id}/cancel/", scopes=_WRITE, repeatable=True)
def cancel_backfill(batch_export_id: Uuid, backfill_id: Uuid) -> Call[Cancelled]:
    """Cancel a backfill.

    :param batch_export_id: the batch export's UUID.
    :param backfill_id: the backfill's UUID.
    """
    return cancel_backfill.call(object_or_empty, id=batch_export_id, backfill_id=backfill_id)


def interval_of(run: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """Return the interval of a run or backfill, in UTC; ``None`` for an edge that it does not have.

    :param run: the run.
    """
    names = ("data_interval_start", "data_interval_end") if "data_interval_end" in run else ("start_at", "end_at")
    return moment(run.get(names[0])), moment(run.get(names[1]))


def _check_bounds(by_interval: bool, lower: object, by_interval_only: bool) -> None:
    if by_interval and not by_interval_only:
        raise PostHogSettingsError(
            "after",
            "cannot be combined, and neither can before, with start, end or ordering: PostHog would ignore it.",
            "Leave one pair out.",
        )
    if lower is None:
        raise PostHogSettingsError(
            "start" if by_interval else "after",
            "is missing, and PostHog would leave out what is older than seven days.",
            "Write how far to look back, such as -30d.",
        )
