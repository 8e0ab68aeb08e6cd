"""One query for all jobs of a project that tasks wait for, in PostHog's system tables.

``system.batch_export_runs`` and the like are newer than many servers. A table that a server lacks is noticed once, and
its jobs are polled one by one from then on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from airflow_provider_posthog.api import queries, single_poll
from airflow_provider_posthog.api.answers import typed_rows
from airflow_provider_posthog.api.call import STATUS_BYTES, Answer, Call
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.server_time import Timed, timed
from airflow_provider_posthog.api.steps import Send, Steps
from airflow_provider_posthog.api.watched import Watched, utc
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError, PostHogValidationError

#: The most jobs of a query: its text has to stay below ClickHouse's limit of 256 KiB.
MOST = 2000
#: Seconds after which a missing table is tried again.
_FORGET_AFTER = 6 * 3600.0

#: Which table reports on what; no table reports enough on the rest, and each of those is polled alone. (That of
#: cohorts' calculations may lack those of static ones, and that of checks has only checks that have ended.)
TABLES = {
    "run": "system.batch_export_runs",
    "backfill": "system.batch_export_backfills",
    "backfill_slot": "system.batch_export_backfills",
    "sync": "system.source_sync_jobs",
    "sync_slot": "system.source_sync_jobs",
    "view": "system.data_modeling_jobs",
    "view_slot": "system.data_modeling_jobs",
    "cohort": "system.cohort_calculation_history",
    "runs": "system.batch_export_runs",
    "syncs": "system.source_sync_jobs",
    "views": "system.data_modeling_jobs",
}
_INTERVAL = (
    "concat(toString(batch_export_id), '/', toString(toUnixTimestamp(data_interval_start)), '/', "
    "toString(toUnixTimestamp(data_interval_end)))"
)
_NONE = "toInt(NULL)"
#: For each table: what its rows are jobs of, then the other columns.
_COLUMNS: dict[str, tuple[str, str, str, str, str, str]] = {
    "system.batch_export_runs": (
        _INTERVAL,
        "status",
        "created_at",
        "toInt(records_completed)",
        "toInt(bytes_exported)",
        "''",
    ),
    "system.batch_export_backfills": (
        "toString(batch_export_id)",
        "status",
        "created_at",
        "toInt(total_records_count)",
        _NONE,
        "''",
    ),
    "system.source_sync_jobs": (
        "toString(schema_id)",
        "status",
        "created_at",
        "toInt(rows_synced)",
        _NONE,
        "latest_error",
    ),
    "system.data_modeling_jobs": (
        "toString(data_modeling_view_id)",
        "status",
        "created_at",
        "toInt(rows_materialized)",
        _NONE,
        "error",
    ),
    "system.cohort_calculation_history": (
        "toString(cohort_id)",
        "if(isNull(finished_at), 'Running', if(ifNull(error_code, '') = '', 'Completed', 'Failed'))",
        "started_at",
        "toInt(count)",
        _NONE,
        "error_code",
    ),
}
#: What the jobs of each table belong to.
_PARENTS = {
    "system.batch_export_runs": "batch_export_id",
    "system.batch_export_backfills": "batch_export_id",
    "system.source_sync_jobs": "pipeline_id",
    "system.data_modeling_jobs": "data_modeling_view_id",
    "system.cohort_calculation_history": "cohort_id",
}
#: When a job of each table was over.
_FINISHED = {
    "system.batch_export_runs": "finished_at",
    "system.batch_export_backfills": "finished_at",
    "system.source_sync_jobs": "finished_at",
    "system.data_modeling_jobs": "updated_at",
    "system.cohort_calculation_history": "finished_at",
}
#: What each column of the answer holds.
_KINDS: tuple[tuple[type, ...], ...] = (
    (str,),
    (str,),
    (str, type(None)),
    (str, type(None)),
    (int, type(None)),
    (int, type(None)),
    (int, type(None)),
    (str, type(None)),
    (str, type(None)),
    (int, type(None)),
    (str, type(None)),
)
#: The tables that a server lacks, by its address, and when that was noticed.
_missing: dict[str, dict[str, float]] = {}


def missing(server: str) -> set[str]:
    """Return the tables that a server is known to lack.

    :param server: its address.
    """
    now, known = time.monotonic(), _missing.setdefault(server, {})
    for table, at in list(known.items()):
        if now - at > _FORGET_AFTER:
            del known[table]
    return set(known)


def look(texts: Collection[str], policy: RetryPolicy, server: str) -> Steps[dict[str, dict[str, Any]]]:
    """Poll many jobs by one query.

    :param texts: what is waited for, as :class:`~airflow_provider_posthog.api.watched.Watched` writes it.
    :param policy: how patient to be.
    :param server: the address of the server, for what is known about it.
    :returns: what :func:`~airflow_provider_posthog.api.watched.judge` reads, by the texts; without those that this
        server's tables do not report on.
    """
    jobs = [job for job in _known(sorted(texts)) if job.what in TABLES]
    answers: dict[str, dict[str, Any]] = {}
    for first in range(0, len(jobs), MOST):
        answers.update((yield from _look(jobs[first : first + MOST], policy, server)))
    return answers


def _known(texts: Sequence[str]) -> Iterable[Watched]:
    for text in texts:
        with suppress(
            PostHogSettingsError
        ):  # another version's: polling it alone reports that, and no other task suffers
            yield Watched.parse(text)


def ask(text: str, policy: RetryPolicy, server: str) -> Steps[dict[str, Any]]:
    """Poll one job: in the tables, or by a call of its own if there are none.

    :param text: what is waited for.
    :param policy: how patient to be.
    :param server: the address of the server.
    """
    answers = yield from look((text,), policy, server)
    if text in answers:
        return answers[text]
    alone: dict[str, Any] = yield Send(single_poll.status(text), policy)
    while (rest := single_poll.rest(alone)) is not None:
        alone = yield Send(rest, policy)
    return alone


def _look(jobs: Sequence[Watched], policy: RetryPolicy, server: str) -> Steps[dict[str, dict[str, Any]]]:
    while True:
        without = missing(server)
        answerable = [job for job in jobs if TABLES[job.what] not in without]
        if not answerable:
            return {}
        try:
            answer: Timed[Any] = yield Send(question(answerable), policy)
        except PostHogValidationError as error:
            _note_missing(server, {TABLES[job.what] for job in answerable}, str(error))
            continue
        at = answer.at.timestamp() if answer.at is not None else 0.0
        return {str(job): {"id": str(job), "rows": rows, "at": at} for job, rows in _sorted(answerable, answer.value)}


def _note_missing(server: str, tables: set[str], text: str) -> None:
    """Record the table that an error names, or else all that were queried: a column may be missing."""
    named = {table for table in tables if re.search(rf"[Uu]nknown table.*{re.escape(table)}\b", text)}
    for table in named or tables:
        _missing.setdefault(server, {})[table] = time.monotonic()


def question(jobs: Sequence[Watched]) -> Call[Timed[Any]]:
    """Make the query.

    :param jobs: the jobs that are waited for.
    """
    values: dict[str, Any] = {}
    arms = []
    for table in dict.fromkeys(TABLES[job.what] for job in jobs):
        mine = [job for job in jobs if TABLES[job.what] == table]
        of, status, created, rows, size, error = _COLUMNS[table]
        backfill = "toString(backfill_id)" if table == TABLES["run"] else "''"
        columns = (
            f"'{table}' AS source, toString(id) AS id, {of} AS of, toString({status}) AS state, "
            f"toUnixTimestamp({created}) AS created, {rows} AS rows, {size} AS bytes, toString({error}) AS error, "
            f"{backfill} AS backfill, toUnixTimestamp({_FINISHED[table]}) AS finished, "
            f"toString({_PARENTS[table]}) AS parent"
        )
        arms.append(f"SELECT {columns} FROM {table} WHERE {_CONDITIONS[table](mine, values)}")  # noqa: S608
    inner = " UNION ALL ".join(arms)
    names = "source, id, of, state, created, rows, bytes, error, backfill, finished, parent"
    sql = f"SELECT {names} FROM ({inner}) LIMIT {queries.MAX_ROWS}"  # noqa: S608
    return timed(replace(_answered(queries.hogql(sql, values)), max_bytes=STATUS_BYTES))


def _answered(node: Mapping[str, Any]) -> Call[Any]:
    call = queries.start(node, name="airflow: jobs that tasks wait for")

    def read(answer: Answer) -> list[list[Any]]:
        body = call.read(answer)
        rows = body.get("results")
        if body.get("error") or not isinstance(rows, list):
            raise PostHogTransportError("PostHog's answer on its jobs has no 'results'")
        if len(rows) >= queries.MAX_ROWS:
            raise PostHogTransportError("PostHog's answer on its jobs may be cut", too_large=True)
        return typed_rows(rows, _KINDS)

    return replace(cast("Call[Any]", call), read=read)


def _named(jobs: Iterable[Watched], place: int = 0) -> list[str]:
    return sorted({job.names[place] for job in jobs})


def _interval(watched: Watched) -> str:
    return "/".join(watched.names)


def _of_runs(jobs: Sequence[Watched], values: dict[str, Any]) -> str:
    single = [job for job in jobs if job.what == "run"]
    conditions = _completed(jobs, values, "runs", "batch_export_id", "finished_at")
    if single:
        values["exports"], values["intervals"] = _named(single), sorted({_interval(job) for job in single})
        conditions.append(f"batch_export_id IN {{exports}} AND {_INTERVAL} IN {{intervals}}")
    return " OR ".join(f"({condition})" for condition in conditions)


def _completed(jobs: Sequence[Watched], values: dict[str, Any], what: str, column: str, finished: str) -> list[str]:
    """Return the condition for jobs that were completed since a time, if any are watched."""
    mine = [job for job in jobs if job.what == what]
    if not mine:
        return []
    values[f"of_{what}"] = _named(mine)
    values[f"{what}_since"] = _time(min(job.since for job in mine))
    return [f"{column} IN {{of_{what}}} AND status = 'Completed' AND {finished} >= toDateTime({{{what}_since}})"]


def _time(seconds: float) -> str:
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of_backfills(jobs: Sequence[Watched], values: dict[str, Any]) -> str:
    values["backfills"] = _named((job for job in jobs if job.what == "backfill"), 1) or [""]
    live = " OR status IN ['Starting', 'Running']" if any(job.what == "backfill_slot" for job in jobs) else ""
    return f"id IN {{backfills}}{live}"


def _of_jobs(
    column: str, name: str, what: str, owner: str, finished: str
) -> Callable[[Sequence[Watched], dict[str, Any]], str]:
    def condition(jobs: Sequence[Watched], values: dict[str, Any]) -> str:
        conditions = _completed(jobs, values, f"{what}s", owner, finished)
        single = [job for job in jobs if job.what != f"{what}s"]
        if single:
            values[f"{name}_ids"] = sorted({owner for job in single for owner in _owners(job)})
            counting, mine = [job.since for job in single if job.what == what], f"{column} IN {{{name}_ids}}"
            conditions.append(f"{mine} AND status = 'Running'")
            if counting:
                values[f"{name}_created"] = _time(min(counting))
                conditions.append(f"{mine} AND created_at >= toDateTime({{{name}_created}})")
        return " OR ".join(f"({part})" for part in conditions)

    return condition


def _of_cohorts(jobs: Sequence[Watched], values: dict[str, Any]) -> str:
    values["cohorts"] = [int(cohort) for cohort in _named(jobs)]
    values["cohorts_since"] = _time(min(job.since for job in jobs))
    return "cohort_id IN {cohorts} AND started_at >= toDateTime({cohorts_since})"


_CONDITIONS: dict[str, Callable[[Sequence[Watched], dict[str, Any]], str]] = {
    "system.batch_export_runs": _of_runs,
    "system.batch_export_backfills": _of_backfills,
    "system.source_sync_jobs": _of_jobs("schema_id", "schema", "sync", "pipeline_id", "finished_at"),
    "system.data_modeling_jobs": _of_jobs(
        "data_modeling_view_id", "view", "view", "data_modeling_view_id", "updated_at"
    ),
    "system.cohort_calculation_history": _of_cohorts,
}


def _owners(watched: Watched) -> tuple[str, ...]:
    """Return the owners of the rows that report on it, or their own ids."""
    if watched.what == "backfill":
        return (watched.names[1],)
    if watched.what == "run":
        return (_interval(watched),)
    return watched.schemas if watched.what in ("sync", "sync_slot") else (watched.names[0],)


def _sorted(jobs: Sequence[Watched], rows: Sequence[Sequence[Any]]) -> Iterable[tuple[Watched, list[dict[str, Any]]]]:
    """Yield each job with the rows that report on it."""
    by_owner: dict[tuple[str, str], list[dict[str, Any]]] = {}
    whole: dict[tuple[str, str], list[dict[str, Any]]] = {}
    live: list[dict[str, Any]] = []
    for table, job_id, of, status, created, count, size, error, backfill, finished, parent in rows:
        sorted_rows: Mapping[str, Any] = {
            **{"id": job_id, "of": of or "", "backfill": backfill or None, "status": status or "", "created": created},
            **{"finished": finished, "rows": count, "failed": None, "bytes": size, "error": error or None},
        }
        is_backfill = table == TABLES["backfill"]
        by_owner.setdefault((table, job_id if is_backfill else of or ""), []).append(dict(sorted_rows))
        whole.setdefault((table, parent or ""), []).append(dict(sorted_rows))
        if is_backfill:
            live.append(dict(sorted_rows))
    for job in jobs:
        table = TABLES[job.what]
        if job.what == "backfill_slot":
            yield job, live
        elif job.what in ("runs", "syncs", "views"):
            yield job, [row for row in whole.get((table, job.names[0]), []) if (row["finished"] or 0) >= job.since]
        else:
            yield job, [row for owner in _owners(job) for row in by_owner.get((table, owner), [])]
