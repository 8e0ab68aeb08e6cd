"""The HogQL of watchers: how many events came in, asked so that PostHog can answer without a scan of all events.

PostHog's table is sorted by the day of ``timestamp``, when an event happened; nothing finds ``created_at``, when it
came in. So every question has a bound of ``timestamp``, compared by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import STATUS_BYTES
from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import iso
from airflow_provider_posthog.triggers.event_looks import Counted, Look, Terms

#: What the questions are called in PostHog's query log.
NAME = "airflow-provider-posthog: watch"
CLOCK = Statement("SELECT now()", {})


def recent(terms: Terms, look: Look, scan_from: datetime | None) -> Statement:
    """Count the events that came in after a moment, and not long after they happened.

    ``number`` (of the name in ``names``, from 1; 0 for others), ``counted``, ``kept``, ``fresh`` and ``newest``. A
    row is counted once, though PostHog has it twice until it merges its copies: a merge must not hide what is new.

    :param terms: the poll's terms.
    :param look: what is looked for; its counts are not there yet.
    :param scan_from: leave out what happened before.
    """
    where = ["events.created_at > toDateTime({since})"]
    values: dict[str, Any] = {"since": iso(min(look.after, look.next))}
    values |= {"after": iso(look.after), "next": iso(look.next), "newest": iso(look.newest)}
    if scan_from is not None and terms.scan_back is not None:
        where.insert(0, "events.timestamp >= toDateTime({scan_from})")
        where.append(f"events.timestamp >= {_limit(terms.scan_back)}")
        values["scan_from"] = iso(scan_from)
    counts = [
        f"uniqExactIf(events.uuid, events.created_at > toDateTime({{{edge}}})) AS {name}"
        for name, edge in (("counted", "after"), ("kept", "next"), ("fresh", "newest"))
    ]
    return _grouped(", ".join(counts), where, look.names, values)


def late(
    terms: Terms,
    names: Collection[str | None],
    arrived: tuple[datetime, datetime],
    happened: tuple[datetime | None, datetime],
) -> Statement:
    """Count the events that came in long after they happened: the columns of :func:`recent`.

    :param terms: the poll's terms, with a ``scan_back``.
    :param names: the watched events.
    :param arrived: they came in after the first moment, and not after the second.
    :param happened: they happened from the first moment on (``None``: from ever), and before the second.
    """
    where = ["events.timestamp < toDateTime({scan_until})"]
    values: dict[str, Any] = {"scan_until": iso(happened[1]), "after": iso(arrived[0]), "until": iso(arrived[1])}
    if happened[0] is not None:
        where.append("events.timestamp >= toDateTime({scan_from})")
        values["scan_from"] = iso(happened[0])
    where += [
        "events.created_at > toDateTime({after}) AND events.created_at <= toDateTime({until})",
        f"events.timestamp < {_limit(terms.scan_back or 0.0)}",
    ]
    return _grouped("uniqExact(events.uuid) AS counted, 0 AS kept, 0 AS fresh", where, names, values)


def _limit(seconds: float) -> str:
    return f"events.created_at - toIntervalSecond({int(seconds)})"


def _grouped(columns: str, where: list[str], names: Collection[str | None], values: dict[str, Any]) -> Statement:
    listed = listed_names(names)
    number, tail = "0", f"LIMIT {queries.MAX_ROWS}"
    if listed:
        number, tail = "indexOf({names}, events.event)", f"GROUP BY number ORDER BY number {tail}"
        values["names"] = listed
        if None not in names:
            where = [*where, "events.event IN {names}"]
    selected = f"{number} AS number, {columns}, max(events.created_at) AS newest_arrival"
    return Statement(f"SELECT {selected} FROM events WHERE {' AND '.join(where)} {tail}", values)  # noqa: S608


def listed_names(names: Collection[str | None]) -> list[str]:
    """Return the names in the order in which a question numbers them.

    :param names: the watched events.
    """
    return sorted(name for name in names if name is not None)


def read(rows: list[list[Any]], names: Collection[str | None]) -> Mapping[str | None, Counted]:
    """Read the answer to :func:`recent` or :func:`late`.

    :param rows: its rows.
    :param names: the watched events.
    :raises PostHogError: if it cannot be read.
    """
    listed: list[str | None] = [None, *listed_names(names)]
    try:
        counts = {}
        for number, counted, kept, fresh, newest in rows:
            if int(counted) or int(kept):
                counts[listed[int(number)]] = Counted(int(counted), int(kept), int(fresh), moment(newest))
        return counts
    except (TypeError, ValueError, IndexError):
        raise PostHogError("PostHog's answer to how many events came in cannot be read") from None


async def ask(client: AsyncClient, statement: Statement) -> list[list[Any]]:
    """Ask once.

    :param client: the client.
    :param statement: the question.
    :returns: the rows.
    :raises PostHogError: if there is no good answer.
    """
    call = queries.start(queries.hogql(statement.sql, statement.values), name=NAME)
    answer = await client.send(replace(call, max_bytes=STATUS_BYTES), policy=ONCE)
    rows = answer.get("results")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise PostHogError("PostHog answered a query without the rows that were asked for")
    return rows


async def ask_counts(
    client: AsyncClient, statement: Statement, names: Collection[str | None]
) -> Mapping[str | None, Counted]:
    """Ask how many events came in.

    :param client: the client.
    :param statement: of :func:`recent` or :func:`late`.
    :param names: the watched events.
    :raises PostHogError: if there is no good answer.
    """
    return read(await ask(client, statement), names)


async def ask_clock(client: AsyncClient) -> datetime:
    """Ask what time it is at PostHog.

    :param client: the client.
    :raises PostHogError: if there is no good answer.
    """
    rows = await ask(client, CLOCK)
    now = moment(rows[0][0]) if rows and rows[0] else None
    if now is None:
        raise PostHogError("PostHog did not say what time it is")
    return now
