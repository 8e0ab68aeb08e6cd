"""The loops that others read events by, a page at a time, and how PostHog counts their requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_posthog.extract.sources import EVENT_COLUMNS
from airflow_provider_posthog.extract.windows import iso

_SELECT = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events WHERE"
_NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Peer:
    """Somebody's loop.

    :param name: what it is called.
    :param rows: of a page.
    :param page: the statement of the page that begins at a moment, and its values; it also gets the day's end.
    :param an_hour: how many pages PostHog lets through in an hour.
    :param is_complete: whether it brings every event, also those of the same moment as a page's last one.
    """

    name: str
    rows: int
    page: Callable[[datetime, datetime], tuple[str, dict[str, Any]]]
    an_hour: int = 2400
    is_complete: bool = True


def _slice(start: datetime, end: datetime) -> tuple[str, dict[str, Any]]:
    edge = start + (end - start) / 1000
    inside = "{0} >= toDateTime({{a}}) AND {0} < toDateTime({{b}})"
    where = f"{inside.format('created_at')} AND {inside.format('timestamp')}"
    return f"{_SELECT} {where} ORDER BY created_at, toString(uuid) LIMIT 10001", {"a": iso(start), "b": iso(edge)}


def _keyset(start: datetime, end: datetime) -> tuple[str, dict[str, Any]]:
    where = "created_at < toDateTime({b}) AND (created_at, toString(uuid)) > (toDateTime({a}), {key})"
    values = {"a": iso(start), "b": iso(end), "key": _NO_ID}
    return f"{_SELECT} {where} ORDER BY created_at, toString(uuid) LIMIT 49999", values


def _dlt(start: datetime, end: datetime) -> tuple[str, dict[str, Any]]:
    where = "(timestamp, toString(uuid)) > (toDateTime({a}), {key})"
    return f"{_SELECT} {where} ORDER BY timestamp, toString(uuid) LIMIT 10000", {"a": iso(start), "key": _NO_ID}


def _documented(start: datetime, end: datetime) -> tuple[str, dict[str, Any]]:
    where = "timestamp > toDateTime({a}) AND timestamp < toDateTime({b})"
    return f"{_SELECT} {where} ORDER BY timestamp LIMIT 50000", {"a": iso(start), "b": iso(end)}


def _rest(start: datetime, end: datetime) -> tuple[str, dict[str, Any]]:
    """Newest first: what is left of the day when a page begins is what lies before it."""
    where = "timestamp > toDateTime({a}) AND timestamp < toDateTime({b})"
    begin = start.replace(hour=0, minute=0, second=0, microsecond=0)
    values = {"a": iso(begin), "b": iso(end - (start - begin))}
    return f"{_SELECT} {where} ORDER BY timestamp DESC LIMIT 1000", values


#: The last one is what Airbyte's connector, dlt's ``rest_api`` and most loops ask for.
PEERS = (
    Peer("slices of time of 10,000 rows", 10_000, _slice),
    Peer("a tight loop: keyset of created_at and uuid, 49,999 rows", 49_999, _keyset),
    Peer("dlt, HogQL by keyset, 10,000 rows", 10_000, _dlt),
    Peer("PostHog's timestamp pagination, 50,000 rows", 50_000, _documented, is_complete=False),
    Peer("GET events/ of Airbyte and dlt rest_api, 1,000 rows", 1_000, _rest, an_hour=1200, is_complete=False),
)
