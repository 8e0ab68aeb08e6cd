"""Poll one job that tasks wait for by a call of the API, for servers without system tables; and cancel it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from airflow_provider_posthog.api import batch_exports, cohorts, data_quality, experiments, warehouse
from airflow_provider_posthog.api.call import STATUS_BYTES, Answer, Call
from airflow_provider_posthog.api.server_time import date_of, moment
from airflow_provider_posthog.api.watched import SOMEBODYS, Watched, named, row, utc
from airflow_provider_posthog.exceptions import PostHogTransportError

Rows = Callable[[Any], list[dict[str, Any]]]

#: Whose lists may have more than PostHog shows at once, and how long a full one is that does not say so.
_PAGED, _FULL = frozenset({"runs", "sync", "syncs"}), 50
#: The most pages of one poll.
_MOST_PAGES = 100


def status(text: str) -> Call[dict[str, Any]]:
    """Make the call that polls one job.

    :param text: what is waited for, as :class:`~airflow_provider_posthog.api.watched.Watched` writes it.
    :returns: a call that brings what :func:`~airflow_provider_posthog.api.watched.judge` reads; if PostHog may have
        more, :func:`rest` of that is the call for it.
    """
    watched = Watched.parse(text)
    call, rows_in = _CALLS[watched.what](watched)

    def read(answer: Answer) -> dict[str, Any]:
        at = date_of(answer)
        hidden = answer.status == 404 and watched.what == "backfill"  # for the first seconds
        listed = {} if hidden else call.read(answer)
        rows = [] if hidden else rows_in(listed)
        told = {"id": text, "rows": rows, "at": at.timestamp() if at is not None else 0.0}
        return {**told, "rest": _rest(watched, call, rows_in, listed, told, 1)}

    reads_error = _is_hidden if watched.what == "backfill" else call.reads_error
    return replace(call, read=read, reads_error=reads_error)


def rest(answer: Mapping[str, Any]) -> Call[dict[str, Any]] | None:
    """Return the call that brings the same answer with the next page, too; ``None`` if it is complete.

    :param answer: what :func:`status`, or such a call, has brought.
    """
    call: Call[dict[str, Any]] | None = answer.get("rest")
    return call


def _rest(
    watched: Watched,
    call: Call[Any],
    rows_in: Rows,
    listed: Any,  # noqa: ANN401 - JSON
    told: Mapping[str, Any],
    pages: int,
) -> Call[dict[str, Any]] | None:
    """Make the call for what was created before the last of a full page."""
    if watched.what not in _PAGED:
        return None
    items = listed.get("results", ()) if isinstance(listed, Mapping) else listed
    has_more = bool(listed.get("next")) if isinstance(listed, Mapping) else len(items) >= _FULL
    if not has_more or not items:
        return None
    oldest = moment(items[-1].get("created_at"))
    before = None if oldest is None else (oldest + timedelta(microseconds=1)).isoformat()  # beside those of that time
    if before is None or pages >= _MOST_PAGES or call.query.get("before") == before:
        raise PostHogTransportError(f"PostHog's list of {named(str(watched))} cannot be read to its end")
    following = replace(call, query={**call.query, "before": before}, max_bytes=STATUS_BYTES)

    def read(answer: Answer) -> dict[str, Any]:
        more = call.read(answer)
        known = {job["id"] for job in told["rows"]}
        both = {**told, "rows": [*told["rows"], *(job for job in rows_in(more) if job["id"] not in known)]}
        return {**both, "rest": _rest(watched, following, rows_in, more, both, pages + 1)}

    return cast("Call[dict[str, Any]]", replace(following, read=read))


def _is_hidden(answer: Answer) -> bool:
    """Return whether PostHog does not know the resource; an unknown project gets the same status."""
    body = answer.json_or_none()
    detail = str(body.get("detail")) if isinstance(body, Mapping) else ""
    return answer.status == 404 and isinstance(body, Mapping) and "project" not in detail.lower()


def cancelling(text: str) -> tuple[Call[Any], ...]:
    """Make the calls that cancel a job; none if PostHog cannot, if its id is not known, or if it is somebody else's.

    :param text: what is waited for.
    """
    watched = Watched.parse(text)
    if watched.what == "backfill":
        return (batch_exports.cancel_backfill(*watched.names),) if watched.since != SOMEBODYS else ()
    if watched.what == "sync":
        return tuple(warehouse.cancel_schema(schema) for schema in watched.schemas)
    if watched.what == "view":
        return (warehouse.cancel_view(watched.names[0]),)
    return ()


def _results(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row(result) for result in page.get("results", ())]


def _backfill(watched: Watched) -> tuple[Call[Any], Rows]:
    return batch_exports.backfill(*watched.names), lambda answer: [row(answer)]


def _run(watched: Watched) -> tuple[Call[Any], Rows]:
    start, end = map(utc, watched.interval)

    def of_interval(page: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [row(run) for run in page.get("results", ()) if batch_exports.interval_of(run) == (start, end)]

    return batch_exports.runs(watched.names[0], start=start, end=end, ordering="-data_interval_start"), of_interval


def _backfill_slot(watched: Watched) -> tuple[Call[Any], Rows]:
    return batch_exports.backfills(watched.names[0]), _results  # of one export: there is no list of all


def _syncs(watched: Watched) -> tuple[Call[Any], Rows]:
    schemas = set(watched.schemas)

    def of_schemas(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [job for job in map(row, jobs) if job["of"] in schemas]

    # One second before, as the server leaves out what was created at that time itself.
    after = utc(watched.since - 1) if watched.what == "sync" else None
    return warehouse.source_jobs(watched.names[0], after=after), of_schemas


def _views(watched: Watched) -> tuple[Call[Any], Rows]:
    def of_history(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [row(run) for run in answer.get("run_history", ())]

    return warehouse.view_runs(watched.names[0]), of_history


def _cohort(watched: Watched) -> tuple[Call[Any], Rows]:
    def of_cohort(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        going_on = bool(answer.get("is_calculating"))
        # A running calculation has begun after the last one that ended.
        began = utc(watched.since).isoformat() if going_on else answer.get("last_calculation")
        failed = bool(answer.get("errors_calculating")) and not going_on
        status = "Running" if going_on else "Failed" if failed else "Completed"
        return [row({"id": str(answer.get("id")), "status": status, "created_at": began, "count": answer.get("count")})]

    return cohorts.retrieve(int(watched.names[0])), of_cohort


def _fill(watched: Watched) -> tuple[Call[Any], Rows]:
    def of_cohort(cohort: Mapping[str, Any]) -> list[dict[str, Any]]:
        going_on, failed = bool(cohort.get("is_calculating")), bool(cohort.get("errors_calculating"))
        status = "Running" if going_on else "Failed" if failed else "Completed"
        last = cohort.get("last_calculation")
        return [row({"id": str(cohort.get("id")), "status": status, "created_at": last, "count": cohort.get("count")})]

    return cohorts.retrieve(int(watched.names[0])), of_cohort


def _suite(watched: Watched) -> tuple[Call[Any], Rows]:
    retrieve: Callable[[str, str], Call[Any]] = data_quality.table_suite
    if watched.names[0] == "view":
        retrieve = data_quality.view_suite
    return retrieve(*watched.names[1:]), lambda suite: [row(suite)]


def _recalculation(watched: Watched) -> tuple[Call[Any], Rows]:
    return experiments.recalculation(int(watched.names[0]), watched.names[1]), lambda recalculation: [
        row(recalculation)
    ]


#: The longest run, in seconds: lists filter by when runs were created, and these are watched by when they ended.
_LONGEST_RUN = 86_400


def _runs(watched: Watched) -> tuple[Call[Any], Rows]:
    return batch_exports.runs(watched.names[0], after=utc(max(0, watched.since - _LONGEST_RUN))), _results


def _all_syncs(watched: Watched) -> tuple[Call[Any], Rows]:
    call = warehouse.source_jobs(watched.names[0], after=utc(max(0, watched.since - _LONGEST_RUN)))
    return call, lambda jobs: [row(job) for job in jobs]


_CALLS: dict[str, Callable[[Watched], tuple[Call[Any], Rows]]] = {
    "backfill": _backfill,
    "run": _run,
    "backfill_slot": _backfill_slot,
    "sync": _syncs,
    "sync_slot": _syncs,
    "view": _views,
    "view_slot": _views,
    "cohort": _cohort,
    "fill": _fill,
    "suite": _suite,
    "recalculation": _recalculation,
    "runs": _runs,
    "syncs": _all_syncs,
    "views": _views,
}
