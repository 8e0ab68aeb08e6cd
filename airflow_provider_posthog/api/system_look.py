"""One query for all jobs of a project that tasks wait for, in the tables that show PostHog's own state.

``system.batch_export_runs`` and its like are newer than many servers. Which of them a server has not is found once,
and its jobs are asked for one by one from then on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from airflow_provider_posthog.api import queries, single_look
from airflow_provider_posthog.api.answers import typed_rows
from airflow_provider_posthog.api.call import STATUS_BYTES, Answer, Call
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.server_time import Timed, timed
from airflow_provider_posthog.api.steps import Send, Steps
from airflow_provider_posthog.api.watched import Watched, utc
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError, PostHogValidationError

#: What a query asks for at the most: its text has to stay below ClickHouse's limit of 256 KiB.
MOST = 2000
#: Seconds after which a table that was not there is looked for again.
_FORGET_AFTER = 6 * 3600.0

#: Which table tells of what; of the rest no table tells enough, and each is asked for alone. (That of cohorts'
#: calculations is not known to have those of static ones, and that of checks has only what has ended.)
TABLES = {
    "run": "system.batch_export_runs",
    "backfill": "system.batch_export_backfills",
    "place": "system.batch_export_backfills",
    "sync": "system.source_sync_jobs",
    "idle": "system.source_sync_jobs",
    "view": "system.data_modeling_jobs",
    "view_idle": "system.data_modeling_jobs",
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
_VIEW = "data_modeling_view_id"
#: For each table: what its rows are jobs of, and the columns that say the rest.
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
#: Which tables a server has not, by its address, and when that was found.
_missing: dict[str, dict[str, float]] = {}


def missing(server: str) -> set[str]:
    """Return which tables a server has not, as far as it is known.

    :param server: its address.
    """
    now, known = time.monotonic(), _missing.setdefault(server, {})
    for table, at in list(known.items()):
        if now - at > _FORGET_AFTER:
            del known[table]
    return set(known)


def look(texts: Collection[str], policy: RetryPolicy, server: str) -> Steps[dict[str, dict[str, Any]]]:
    """Ask for many jobs by one query.

    :param texts: what is waited for, as :class:`~airflow_provider_posthog.api.watched.Watched` writes it.
    :param policy: how patient to be.
    :param server: the address of the server, for what is known of it.
    :returns: what :func:`~airflow_provider_posthog.api.watched.judge` reads, by the texts; those are missing of which
        this server's tables do not tell.
    """
    asked = [each for each in _known(sorted(texts)) if each.what in TABLES]
    answers: dict[str, dict[str, Any]] = {}
    for first in range(0, len(asked), MOST):
        answers.update((yield from _look(asked[first : first + MOST], policy, server)))
    return answers


def _known(texts: Sequence[str]) -> Iterable[Watched]:
    for text in texts:
        with suppress(PostHogSettingsError):  # another version's: its own look says so, and no other task suffers
            yield Watched.parse(text)


def ask(text: str, policy: RetryPolicy, server: str) -> Steps[dict[str, Any]]:
    """Ask for one job: in the tables, or alone where there are none.

    :param text: what is waited for.
    :param policy: how patient to be.
    :param server: the address of the server.
    """
    answers = yield from look((text,), policy, server)
    if text in answers:
        return answers[text]
    alone: dict[str, Any] = yield Send(single_look.status(text), policy)
    return alone


def _look(asked: Sequence[Watched], policy: RetryPolicy, server: str) -> Steps[dict[str, dict[str, Any]]]:
    while True:
        without = missing(server)
        answerable = [each for each in asked if TABLES[each.what] not in without]
        if not answerable:
            return {}
        try:
            answer: Timed[Any] = yield Send(question(answerable), policy)
        except PostHogValidationError as error:
            _note_missing(server, {TABLES[each.what] for each in answerable}, str(error))
            continue
        at = answer.at.timestamp() if answer.at is not None else 0.0
        return {
            str(each): {"id": str(each), "rows": rows, "at": at} for each, rows in _sorted(answerable, answer.value)
        }


def _note_missing(server: str, tables: set[str], text: str) -> None:
    """Note the table that an error names, or else all that were asked for: it may be a column that is not there."""
    named = {table for table in tables if re.search(rf"[Uu]nknown table.*{re.escape(table)}\b", text)}
    for table in named or tables:
        _missing.setdefault(server, {})[table] = time.monotonic()


def question(asked: Sequence[Watched]) -> Call[Timed[Any]]:
    """Make the query.

    :param asked: what is waited for.
    """
    values: dict[str, Any] = {}
    arms = []
    for table in dict.fromkeys(TABLES[each.what] for each in asked):
        mine = [each for each in asked if TABLES[each.what] == table]
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


def _named(asked: Iterable[Watched], place: int = 0) -> list[str]:
    return sorted({each.names[place] for each in asked})


def _interval(watched: Watched) -> str:
    return "/".join(watched.names)


def _of_runs(asked: Sequence[Watched], values: dict[str, Any]) -> str:
    single = [each for each in asked if each.what == "run"]
    conditions = _completed(asked, values, "runs", "batch_export_id", "finished_at")
    if single:
        values["exports"], values["intervals"] = _named(single), sorted({_interval(each) for each in single})
        conditions.append(f"batch_export_id IN {{exports}} AND {_INTERVAL} IN {{intervals}}")
    return " OR ".join(f"({one})" for one in conditions)


def _completed(asked: Sequence[Watched], values: dict[str, Any], what: str, column: str, finished: str) -> list[str]:
    """Return the condition for what was completed since some time, if that is watched."""
    mine = [each for each in asked if each.what == what]
    if not mine:
        return []
    values[f"of_{what}"] = _named(mine)
    values[f"{what}_since"] = _time(min(each.since for each in mine))
    return [f"{column} IN {{of_{what}}} AND status = 'Completed' AND {finished} >= toDateTime({{{what}_since}})"]


def _time(seconds: float) -> str:
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of_backfills(asked: Sequence[Watched], values: dict[str, Any]) -> str:
    values["backfills"] = _named((each for each in asked if each.what == "backfill"), 1) or [""]
    live = " OR status IN ['Starting', 'Running']" if any(each.what == "place" for each in asked) else ""
    return f"id IN {{backfills}}{live}"


def _of_jobs(
    column: str, name: str, what: str, owner: str, finished: str
) -> Callable[[Sequence[Watched], dict[str, Any]], str]:
    def condition(asked: Sequence[Watched], values: dict[str, Any]) -> str:
        conditions = _completed(asked, values, f"{what}s", owner, finished)
        single = [each for each in asked if each.what != f"{what}s"]
        if single:
            values[f"{name}_ids"] = sorted({one for each in single for one in _owners(each)})
            counting, mine = [each.since for each in single if each.what == what], f"{column} IN {{{name}_ids}}"
            conditions.append(f"{mine} AND status = 'Running'")
            if counting:
                values[f"{name}_created"] = _time(min(counting))
                conditions.append(f"{mine} AND created_at >= toDateTime({{{name}_created}})")
        return " OR ".join(f"({one})" for one in conditions)

    return condition


def _of_cohorts(asked: Sequence[Watched], values: dict[str, Any]) -> str:
    values["cohorts"] = [int(each) for each in _named(asked)]
    values["cohorts_since"] = _time(min(each.since for each in asked))
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
    """Return what the rows that tell of it are jobs of, or their own ids."""
    if watched.what == "backfill":
        return (watched.names[1],)
    if watched.what == "run":
        return (_interval(watched),)
    return watched.schemas if watched.what in ("sync", "idle") else (watched.names[0],)


def _sorted(asked: Sequence[Watched], rows: Sequence[Sequence[Any]]) -> Iterable[tuple[Watched, list[dict[str, Any]]]]:
    """Yield what is waited for, each with the rows that tell of it."""
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
    for each in asked:
        table = TABLES[each.what]
        if each.what == "place":
            yield each, live
        elif each.what in ("runs", "syncs", "views"):
            yield each, [one for one in whole.get((table, each.names[0]), []) if (one["finished"] or 0) >= each.since]
        else:
            yield each, [one for owner in _owners(each) for one in by_owner.get((table, owner), [])]
