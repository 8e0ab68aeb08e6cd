"""The control interface: settings, keys, calls, clock, reset."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import requests

from airflow_provider_posthog.emulator.http.faults import Fault
from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from airflow_provider_posthog.emulator.settings import Settings
from tests.emulator.client import CSV, Client, hogql
from tests.support.every import failures


def test_settings_are_merged(posthog: EmulatorProcess) -> None:
    before = posthog.settings()
    after = posthog.settings(export_seconds=7, max_page=None, gzip=False)
    assert after == {**before, "export_seconds": 7, "max_page": None, "gzip": False}
    assert posthog.control("GET", "settings") == after


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"export_secnds": 1}, "export_secnds"),
        ({"export_seconds": "1"}, "a number of seconds"),
        ({"export_seconds": -1}, "a number of seconds"),
        ({"export_seconds": True}, "a number of seconds"),
        ({"export_outcome": "fail"}, "one of succeed, exception"),
        ({"create_blocks": 1}, "true or false"),
        ({"not_ready": 400}, "one of 404, 409, 425"),
        ({"unauthenticated_status": True}, "one of 401, 403"),
        ({"csv_row_cap": 0}, "a whole number, 1 or more"),
        ({"max_page": 0}, "or null"),
        ({"timezone": "Mars/Olympus"}, "an IANA time zone"),
        ({"exception_text": ""}, "a text"),
    ],
)
def test_wrong_settings_change_nothing(posthog: EmulatorProcess, changes: dict[str, object], text: str) -> None:
    before = posthog.settings()
    with pytest.raises(EmulatorError, match="400") as refused:
        posthog.settings(retry_seconds=99, **changes)
    assert text in str(refused.value)
    assert repr(next(iter(changes))) in str(refused.value)
    assert posthog.settings() == before


def test_max_page(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(max_page=2)
    page = api.get("insights/?limit=100").json()
    assert (len(page["results"]), page["next"]) == (2, f"{api.url}/api/projects/1/insights/?limit=2&offset=2")


def test_time_zone(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(timezone="Asia/Kathmandu")
    assert api.get("/api/projects/1/").json()["timezone"] == "Asia/Kathmandu"
    answer = api.query("select timestamp from events limit 1").json()
    assert answer["timezone"] == "Asia/Kathmandu"
    assert answer["results"][0][0].endswith("+05:45")


def test_calls_and_stats(api: Client, posthog: EmulatorProcess) -> None:
    body = {"export_format": CSV, "export_context": {"source": hogql("select 1")}}
    made = api.post("exports/?a=1&token=phc_x", body, headers={"User-Agent": "tests/1"}).json()
    api.get("/nothing")
    api.ended(made["id"])
    call = posthog.calls("/exports/", "POST")[0]
    assert call["query"] == {"a": "1", "token": "***"}
    assert (call["method"], call["path"], call["status"]) == ("POST", "/api/projects/1/exports/", 201)
    assert (call["auth_header"], call["user_agent"], call["body"]) == (True, "tests/1", body)
    stats = posthog.stats()
    assert stats["routes"]["POST /api/projects/{project_id}/exports/"] == 1
    assert stats["routes"]["GET /nothing"] == 1
    assert stats["exports"] == {"created": 1, "running": 0, "with_content": 1, "failed": 0}
    posthog.control("DELETE", "calls")
    assert posthog.calls() == []


def test_reset(api: Client, posthog: EmulatorProcess) -> None:
    key = posthog.create_key(["export:read"])
    posthog.settings(export_seconds=1000, timezone="Asia/Tokyo")
    posthog.faults(path="/nothing", status=500, count=-1)
    posthog.next_exports("exception")
    posthog.advance(5000)
    api.post("exports/", {"export_format": "image/png", "insight": 1})
    api.post("insights/", {"name": "x"})
    before = api.get("/api/users/@me/").json()
    posthog.reset()
    assert posthog.settings()["export_seconds"] == 0.1
    assert posthog.control("GET", "faults") == {"faults": []}
    assert posthog.calls() == []
    assert posthog.stats()["exports"]["created"] == 0
    assert Client(posthog.url, key).get("exports/").status_code == 401
    assert api.get("insights/").json()["count"] == 3
    assert api.get("/api/users/@me/").json()["uuid"] == before["uuid"]
    made = api.export(hogql("select timestamp from events limit 1"))
    assert (made["id"], made["exception"]) == (1, None)


def test_a_reset_leaves_no_event_that_was_added(api: Client, posthog: EmulatorProcess) -> None:
    def rows() -> object:
        return api.query("SELECT count(), max(uuid) FROM events").json()["results"]

    before, moment = rows(), "2026-01-02T03:04:05Z"
    event = {"event": "e", "distinct_id": "new", "timestamp": moment, "properties": {}}
    ids = {"uuid": "ffffffff-ffff-4fff-8fff-ffffffffffff", "person_id": "ffffffff-ffff-4fff-8fff-fffffffffffe"}
    posthog.add_events([{**event, **ids, "created_at": moment}])
    posthog.capture([event])
    assert rows() != before
    posthog.reset()
    assert rows() == before


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("POST", "keys", {"scope": ["*"]}, "'scope'"),
        ("POST", "keys", {"scopes": "*"}, "a list of texts"),
        ("POST", "keys", {"user": 0}, "a number"),
        ("POST", "keys", {"projects": ["1"]}, "a list of numbers"),
        ("DELETE", "keys", {"api_key": "phx_no"}, "no such key"),
        ("POST", "exports", {"outcome": "fail"}, "one of succeed"),
        ("POST", "exports", {"outcome": "succeed", "count": 0}, "a whole number"),
        ("POST", "exports", {"exception_text": 5}, "a text"),
        ("POST", "clock", {"advance": -1}, "a number of seconds"),
        ("POST", "clock", {"back": 1}, "'back'"),
        ("POST", "events", {"events": [{"uuid": "x"}]}, "distinct_id"),
        ("GET", "events/count?start=x&end=y", None, "an ISO time"),
        ("GET", "events/count?start=2026-01-01&end=2026-01-02&column=uuid", None, "'column'"),
        ("GET", "nothing", None, "not_found"),
    ],
)
def test_wrong_orders_are_refused(posthog: EmulatorProcess, method: str, path: str, body: object, text: str) -> None:
    answer = requests.request(method, f"{posthog.url}/__emulator__/{path}", json=body, timeout=10)
    assert answer.status_code in (400, 404)
    assert text in answer.text


def test_everything_is_in_the_manual() -> None:
    text = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
    names = {each.name for each in fields(Settings)} | {each.name for each in fields(Fault)} - {"hits"}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_clock_can_be_read(posthog: EmulatorProcess) -> None:
    before = posthog.control("GET", "clock")["now"]
    posthog.advance(86400)
    after = posthog.control("GET", "clock")["now"]
    assert after[:10] > before[:10]


UUID = "00000000-0000-4000-8000-000000000001"
AT = "2026-11-20T10:00:00Z"
EVENT = {"uuid": UUID, "event": "x", "distinct_id": "ada", "person_id": UUID, "timestamp": AT, "created_at": AT}


REFUSED: list[tuple[str, dict[str, object], str]] = [
    ("capture", {"events": [{"event": "x", "distinct_id": "a", "timestamp": "soon"}]}, "'events[0].timestamp' takes"),
    ("capture", {"events": [{"event": "x", "distinct_id": "a", "uuid": "x"}]}, "'events[0].uuid' takes a UUID"),
    ("capture", {"events": [{"event": None, "distinct_id": "a"}]}, "'events[0].event' takes a text, not None"),
    ("capture", {"events": [{"event": "x", "distinct_id": ["a"]}]}, "'events[0].distinct_id' takes a text"),
    ("capture", {"events": [{"event": "x", "distinct_id": "a", "$set": 3}]}, "'events[0].$set' takes a mapping"),
    ("capture", {"events": [{"event": "x", "distinct_id": "a", "$unset": "b"}]}, "takes a list of texts"),
    ("events", {"events": [{**EVENT, "properties": "{}"}]}, "'events[0].properties' takes a mapping, not '{}'"),
    ("events", {"events": [{**EVENT, "properties": {}, "person_id": None}]}, "'events[0].person_id' takes a UUID"),
    ("persons", {"persons": [{"distinct_ids": ["b"], "uuid": "x"}]}, "'persons[0].uuid' takes a UUID, not 'x'"),
    ("persons", {"persons": [{"distinct_ids": ["b"], "properties": [1]}]}, "'persons[0].properties' takes a mapping"),
    ("persons/failures", {"uuids": ["ada"]}, "'uuids' takes UUIDs of persons, not 'ada'"),
    ("recordings", {"recordings": [{"session_id": "s", "distinct_id": "a", "timestamp": "soon"}]}, "an ISO time"),
    ("records", {"kind": "surveys", "rows": [3]}, "'rows', a list of objects"),
    ("rows", {"table": "heatmaps", "rows": [{"nope": 1}]}, "Table 'heatmaps' has no column 'nope'."),
    ("rows", {"table": "logs", "rows": [{"body": "a"}, {"timestamp": "soon"}]}, "Table 'logs': "),
    ("cohorts", {"name": "c", "persons": ["x"]}, "There is no person 'x'."),
    ("cohorts", {"name": "c", "query": "SELECT 'a'"}, "'query' has to give uuids of persons in its first column"),
    ("actions", {"name": "a", "steps": [{"event": 3}]}, "'steps[0].event' takes a text, not 3"),
    ("actions", {"name": "a", "steps": [{"properties": 3}]}, "'steps[0].properties' takes a mapping"),
    ("tables", {"name": "t", "columns": {"a": "Int64"}, "rows": [{"b": 1}]}, "Table 't' has no column 'b'."),
    ("views", {"name": "v", "query": "SELECT a FROM nope"}, "View 'v': Unknown table"),
    ("views", {"name": "v", "query": "SELECT a FROM v"}, "View 'v': Unknown table"),
    ("projects", {"events": -1}, "'events' takes a whole number, 0 or more, not -1."),
    ("projects", {"days": 0}, "'days' takes a whole number, 1 or more, not 0."),
]


def test_what_cannot_be_is_refused_by_its_name(posthog: EmulatorProcess) -> None:
    def is_refused(number: int) -> None:
        path, body, says = REFUSED[number]
        with pytest.raises(EmulatorError) as caught:
            posthog.control("POST", path, body)
        assert "400" in str(caught.value)
        assert says in str(caught.value)

    assert failures(range(len(REFUSED)), is_refused) == {}


def test_a_project_is_named_until_the_next_reset(api: Client, posthog: EmulatorProcess) -> None:
    before = api.get("").json()["name"]
    posthog.control("POST", "projects", {"id": 1, "name": "Shop"})
    assert api.get("").json()["name"] == "Shop" != before
    posthog.reset()
    assert api.get("").json()["name"] == before
    for body in ({"id": 2, "name": "Shop"}, {"id": 1}, {"id": 1, "name": 3}, {"id": 1, "name": "Shop", "days": 3}):
        with pytest.raises(EmulatorError, match="400"):
            posthog.control("POST", "projects", body)


def test_refused_rows_are_not_there_and_the_others_stay(api: Client, posthog: EmulatorProcess) -> None:
    posthog.add_rows("logs", [{"body": "kept", "timestamp": AT}])
    with pytest.raises(EmulatorError):
        posthog.add_rows("logs", [{"body": "lost", "timestamp": "soon"}])
    assert api.query("SELECT body FROM logs").json()["results"] == [["kept"]]
    for time in ("2026-11-20", "2026-11-20 10:00:00", "2026-11-20T10:00:00.123456+01:00", None):
        posthog.capture([{"event": "timed", "distinct_id": 7, "timestamp": time}])
    assert api.query("SELECT count() FROM events WHERE event = 'timed' AND distinct_id = '7'").json()["results"] == [
        [4]
    ]
