"""Old events that PostHog hides from queries since 2026, as its source says it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql

NOW = datetime.now(timezone.utc)
FIELDS = ("event_retention_months", "events_retention_enforced")


def add(posthog: EmulatorProcess, moment: datetime) -> str:
    uuid = str(uuid4())
    times = {"timestamp": moment.isoformat(), "created_at": NOW.isoformat()}
    made = {"uuid": uuid, "event": f"aged {uuid}", "distinct_id": "a", "person_id": str(uuid4()), "properties": {}}
    posthog.add_events([{**made, **times}])
    return uuid


def rows(api: Client, sql: str, uuid: str) -> list[Any]:
    answer = api.query(sql, uuid=uuid)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["results"]
    return found


def seen(api: Client, uuid: str) -> bool:
    return rows(api, "SELECT count() FROM events WHERE toString(uuid) = {uuid}", uuid) == [[1]]


def test_a_project_tells_its_retention(posthog: EmulatorProcess, api: Client) -> None:
    project = api.get("/api/projects/1/").json()
    assert [project[name] for name in FIELDS] == [84, False]
    posthog.settings(event_retention_months=12, events_retention_enforced=True)
    assert [api.get("/api/projects/1/").json()[name] for name in FIELDS] == [12, True]
    posthog.settings(event_retention_months=None)
    assert api.get("/api/projects/1/").json()["event_retention_months"] is None


@pytest.mark.parametrize("generation", ["A", "B"])
def test_older_servers_neither_tell_nor_hide(posthog: EmulatorProcess, api: Client, generation: str) -> None:
    old = add(posthog, NOW - timedelta(days=4000))
    posthog.settings(generation=generation, events_retention_enforced=True)
    assert not set(FIELDS) & set(api.get("/api/projects/1/").json())
    assert seen(api, old)


def test_events_are_hidden_after_calendar_months_where_it_is_enforced(posthog: EmulatorProcess, api: Client) -> None:
    year_ago = NOW.replace(year=NOW.year - 1, day=min(NOW.day, 28))
    young, old = add(posthog, year_ago + timedelta(days=4)), add(posthog, year_ago - timedelta(days=4))
    posthog.settings(event_retention_months=12)
    assert seen(api, old), "it is not enforced"
    posthog.settings(events_retention_enforced=True)
    assert (seen(api, young), seen(api, old)) == (True, False)
    posthog.settings(event_retention_months=13)
    assert seen(api, old)
    posthog.settings(event_retention_months=None)
    ancient = add(posthog, NOW - timedelta(days=84 * 31))
    assert (seen(api, old), seen(api, ancient)) == (True, False), "84 months where it has none"


def test_they_are_hidden_by_the_servers_clock(posthog: EmulatorProcess, api: Client) -> None:
    uuid = add(posthog, NOW - timedelta(days=10))
    posthog.settings(event_retention_months=1, events_retention_enforced=True)
    assert seen(api, uuid)
    posthog.advance(30 * 86_400)
    assert not seen(api, uuid)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT uuid FROM events AS e WHERE toString(e.uuid) = {uuid}",
        "SELECT uuid FROM (SELECT uuid FROM events) WHERE toString(uuid) = {uuid}",
        "WITH those AS (SELECT uuid FROM events) SELECT uuid FROM those WHERE toString(uuid) = {uuid}",
        "SELECT e.uuid FROM (SELECT {uuid} AS n) AS p JOIN events AS e ON toString(e.uuid) = p.n",
        "SELECT 1 WHERE {uuid} IN (SELECT toString(uuid) FROM events)",
        "SELECT uuid FROM events SAMPLE 1 WHERE toString(uuid) = {uuid}",
    ],
)
def test_every_scan_of_events_is_cut(posthog: EmulatorProcess, api: Client, sql: str) -> None:
    old = add(posthog, NOW - timedelta(days=60))
    posthog.settings(event_retention_months=1)
    assert len(rows(api, sql, old)) == 1
    posthog.settings(events_retention_enforced=True)
    assert rows(api, sql, old) == []


def test_an_outer_join_keeps_its_rows(posthog: EmulatorProcess, api: Client) -> None:
    old = add(posthog, NOW - timedelta(days=60))
    sql = "SELECT p.n, e.event FROM (SELECT {uuid} AS n) p LEFT JOIN events e ON toString(e.uuid) = p.n"
    posthog.settings(event_retention_months=1, events_retention_enforced=True)
    ((name, event),) = rows(api, sql, old)
    assert (name, event or "") == (old, "")


def test_the_condition_is_shown_as_posthog_writes_it(posthog: EmulatorProcess, api: Client) -> None:
    posthog.settings(event_retention_months=7, events_retention_enforced=True)
    answer = api.query("SELECT count() FROM events").json()
    assert "minus(now64(6, " in answer["clickhouse"]
    assert "toIntervalMonth(7)" in answer["clickhouse"]
    assert "toIntervalMonth" not in answer["hogql"]


def test_exports_and_other_queries_are_cut_too(posthog: EmulatorProcess, api: Client) -> None:
    old = add(posthog, NOW - timedelta(days=60))
    posthog.settings(event_retention_months=1, events_retention_enforced=True)
    node = {"kind": "EventsQuery", "select": ["uuid"], "after": "2000-01-01", "event": f"aged {old}"}
    assert api.post("query/", {"query": node}).json()["results"] == []
    lines = api.table(hogql(f"SELECT count() AS n FROM events WHERE event = 'aged {old}' LIMIT 1"))
    assert lines == ["n", "0"]
