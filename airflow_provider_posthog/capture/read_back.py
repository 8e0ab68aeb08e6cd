"""Look up the events that were sent: capture's answer proves that they were accepted, not that they are stored.

Each question is bounded along the key of PostHog's table: one event, one day. What asks is a query of the project's
key; what was asked to take the events was another server, with another token.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.capture.events import shown
from airflow_provider_posthog.capture.ledger import FOUND, Cell, Ledger
from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.results.answer import ask, read

#: Uuids of a query: PostHog refuses statements of 256 KiB.
MOST_UUIDS = 5_000
_WHERE = (
    "FROM events WHERE event = {event} AND timestamp >= toDateTime({start}) AND timestamp < toDateTime({end})"
    " AND toString(uuid) IN {uuids}"
)
_COUNT = f"SELECT count(DISTINCT uuid) AS found {_WHERE}"
_LIST = f"SELECT DISTINCT toString(uuid) AS uuid {_WHERE} LIMIT {MOST_UUIDS + 1}"
_EPOCH = date(1970, 1, 1)


def look(client: Client, ledger: Ledger) -> int:
    """Look up all events that PostHog has not shown yet, and record those that it shows.

    :param client: asks, with the project's key.
    :param ledger: what was sent.
    :returns: how many are not there.
    :raises PostHogError: if PostHog does not answer.
    """
    missing = 0
    for cell in ledger.unproved(MOST_UUIDS):
        present = _uuids_present(client, cell)
        if present:
            ledger.mark(present, FOUND)
        missing += len(cell.uuids) - len(present)
    return missing


def _uuids_present(client: Client, cell: Cell) -> list[bytes]:
    day = _EPOCH + timedelta(days=cell.day)
    values = {
        "event": cell.name,
        "start": f"{day}T00:00:00.000000Z",
        "end": f"{day + timedelta(days=1)}T00:00:00.000000Z",
        "uuids": [shown(uuid) for uuid in cell.uuids],
    }
    count = _rows(client, _COUNT, values)[0][0]
    if not isinstance(count, int) or not 0 <= count <= len(cell.uuids):
        raise PostHogTransportError("PostHog's answer to a count of events is not a count")
    if count == len(cell.uuids):
        return cell.uuids
    if not count:
        return []
    listed = {str(row[0]).lower() for row in _rows(client, _LIST, values)}
    return [uuid for uuid in cell.uuids if shown(uuid) in listed]


def _rows(client: Client, sql: str, values: dict[str, Any]) -> list[list[Any]]:
    question = ask(sql, values)
    answer = client.send(queries.start(queries.hogql(question.sql, values), refresh="force_blocking"))
    rows: list[list[Any]] = read(answer, question, shows_reason=False).whole().rows
    return rows
