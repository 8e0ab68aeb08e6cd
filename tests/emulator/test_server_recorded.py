"""The emulator answers as a PostHog server of October 2024 did: same statuses, same errors, same fields."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.emulator.settings import OCTOBER_2024
from tests.emulator.client import Client, hogql, wait_for

# ids of the recorded server -> ids here
ERRORS = [
    ("route.method_not_allowed", "PUT", "insights/", None),
    ("insights.create_bad_name_type", "POST", "insights/", {"name": {"a": 1}}),
    ("insights.retrieve_unknown", "GET", "insights/999999/", None),
    ("insights.delete", "DELETE", "insights/1/", None),
    ("query.bad_kind", "POST", "query/", {"query": {"kind": "Nope"}}),
    ("query.empty", "POST", "query/", {}),
    ("dashboards.retrieve_unknown", "GET", "dashboards/999999/", None),
    ("extra.dashboards_delete_405", "DELETE", "dashboards/1/", None),
    ("exports.create_no_format", "POST", "exports/", {"dashboard": 1}),
    ("exports.create_null_format", "POST", "exports/", {"dashboard": 1, "export_format": None}),
    (
        "exports.create_json_format",
        "POST",
        "exports/",
        {"export_context": {"path": "/x"}, "export_format": "application/json"},
    ),
    (
        "exports.create_format_uppercase",
        "POST",
        "exports/",
        {"export_context": {"path": "/x"}, "export_format": "TEXT/CSV"},
    ),
    ("exports.create_neither", "POST", "exports/", {"export_format": "image/png"}),
    ("exports.create_empty", "POST", "exports/", {}),
    ("exports.create_unknown_insight", "POST", "exports/", {"export_format": "image/png", "insight": 999999}),
    ("exports.patch", "PATCH", "exports/5/", {"export_format": "text/csv"}),
    ("exports.delete", "DELETE", "exports/5/", None),
    ("exports.content_unknown", "GET", "exports/999999/content/", None),
    ("exports.retrieve_nonint", "GET", "exports/abc/", None),
    ("auth.bad_team_id", "GET", "/api/projects/abc/insights/", None),
    ("extra.project_unknown_exports", "GET", "/api/projects/999999/exports/", None),
    ("extra.insight_tags_not_list", "PATCH", "insights/2/", {"tags": "x"}),
]


@pytest.fixture
def old(api: Client, posthog: EmulatorProcess) -> Client:
    posthog.settings(**OCTOBER_2024)
    return api


@pytest.mark.parametrize(("case", "method", "path", "body"), ERRORS, ids=[each[0] for each in ERRORS])
def test_errors(old: Client, recorded: dict[str, Any], case: str, method: str, path: str, body: object) -> None:
    wanted = recorded[case]
    answer = old(method, path, json=body)
    assert answer.status_code == wanted["status"]
    assert answer.headers.get("Content-Type") == wanted["headers"].get("Content-Type")
    if wanted["body"] == "":
        assert answer.content == b""
        return
    found = answer.json()
    if found["code"] == "parse_error":
        # the list of kinds grows with each version, and pydantic's wording with each of its own
        assert found["detail"][:60] == wanted["body"]["detail"][:60]
        found["detail"] = wanted["body"]["detail"]
    assert found == wanted["body"]


@pytest.mark.parametrize("header", [None, "Basic cGg6eA==", "Bearer ", "Bearer"])
def test_no_key(old: Client, recorded: dict[str, Any], header: str | None) -> None:
    caller = Client(old.url, None)
    answer = caller.get("insights/", headers={"Authorization": header} if header else {})
    wanted = recorded["auth.basic_scheme"]
    assert (answer.status_code, answer.json()) == (wanted["status"], wanted["body"])


def _missing(wanted: object, found: object, path: str = "") -> list[str]:
    """Name the fields that the recorded answer has and the emulator's has not, and the other way round."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        lost = [f"-{path}.{name}" for name in wanted if name not in found]
        gained = [f"+{path}.{name}" for name in found if name not in wanted]
        inner = [x for name in wanted if name in found for x in _missing(wanted[name], found[name], f"{path}.{name}")]
        return lost + gained + inner
    if isinstance(wanted, list) and isinstance(found, list) and wanted and found:
        return _missing(wanted[0], found[0], f"{path}[]")
    return []


# free-form objects, or parts of PostHog that the emulator shows less of
FREE = (".query", ".filters", ".export_context", ".modifiers", ".default_modifiers", ".test_account_filters", ".result")


def _same_shape(wanted: dict[str, Any], answer: requests.Response) -> None:
    assert answer.status_code == wanted["status"]
    differences = _missing(wanted["shape"], answer.json())
    assert [each for each in differences if not _is_free(each)] == []


def _is_free(difference: str) -> bool:
    return any(re.search(rf"{re.escape(free)}([.\[]|$)", difference) for free in FREE)


SHAPES = [
    ("projects.retrieve", "GET", "/api/projects/1/", None),
    ("extra.users_me", "GET", "/api/users/@me/", None),
    ("insights.create_query", "POST", "insights/", {"name": "q", "query": hogql("select 1")}),
    (
        "insights.create_trends_query",
        "POST",
        "insights/",
        {"name": "tq", "query": {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}},
    ),
    ("insights.retrieve", "GET", "insights/1/", None),
    ("insights.retrieve_refresh", "GET", "insights/2/?refresh=true", None),
    ("insights.list_limit1_offset1", "GET", "insights/?limit=1&offset=1", None),
    ("extra.insights_offset_beyond", "GET", "insights/?limit=5&offset=1000", None),
    ("extra.insights_query_status", "GET", "insights/1/?refresh=async", None),
    ("insights.delete_soft", "PATCH", "insights/1/", {"deleted": True}),
    ("pages.insights_basic.0", "GET", "insights/?basic=true&limit=2", None),
    ("dashboards.undelete", "GET", "dashboards/1/", None),
    ("query.hogql", "POST", "query/", {"query": hogql("select event, count() from events group by event")}),
    ("query.hogql_async", "POST", "query/", {"query": hogql("select 1"), "refresh": "force_async"}),
    ("exports.create_dashboard_png", "POST", "exports/", {"dashboard": 1, "export_format": "image/png"}),
    ("exports.create_insight_png", "POST", "exports/", {"insight": 1, "export_format": "image/png"}),
    ("exports.create_csv_insight", "POST", "exports/", {"insight": 1, "export_format": "text/csv"}),
    (
        "exports.create_extra_readonly",
        "POST",
        "exports/",
        {"dashboard": 1, "export_format": "image/png", "filename": "evil.exe", "has_content": True, "id": 777},
    ),
]


@pytest.mark.parametrize(("case", "method", "path", "body"), SHAPES, ids=[each[0] for each in SHAPES])
def test_shapes(old: Client, recorded: dict[str, Any], case: str, method: str, path: str, body: object) -> None:
    wanted = recorded[case]
    if case == "exports.create_extra_readonly":
        assert old(method, path, json=body).json()["id"] == 1
    if case == "dashboards.undelete":
        wanted = {**wanted, "status": 200}
    _same_shape(wanted, old(method, path, json=body))


def test_lists_of_exports(old: Client, recorded: dict[str, Any]) -> None:
    for _ in range(3):
        old.post("exports/", {"dashboard": 1, "export_format": "image/png"})
    _same_shape(recorded["exports.list_limit1"], old.get("exports/?limit=1"))
    _same_shape(recorded["pages.exports.1"], old.get("exports/?limit=1&offset=1"))
    _same_shape(recorded["pages.dashboards.1"], old.get("dashboards/?limit=1"))


@pytest.mark.parametrize(
    ("case", "total", "limit", "offset"),
    [
        ("insights.list_limit1_offset1", 11, 1, 1),
        ("pages.exports.1", 13, 5, 5),
        ("extra.insights_offset_beyond", 14, 5, 1000),
        ("exports.list_limit1", 13, 1, 0),
    ],
)
def test_links_of_pages(old: Client, recorded: dict[str, Any], case: str, total: int, limit: int, offset: int) -> None:
    for _ in range(total):
        old.post("exports/", {"dashboard": 1, "export_format": "image/png"})
    path = "exports/" + (f"?limit={limit}&offset={offset}" if offset else f"?limit={limit}")
    found = old.get(path).json()
    for name, link in recorded[case]["links"].items():
        wanted = link and link.replace("http://127.0.0.1:8010", old.url).replace("/insights/", "/exports/")
        assert found[name] == wanted


def test_query_answers(old: Client, recorded: dict[str, Any]) -> None:
    wanted = recorded["query.hogql"]
    found = old.post("query/", wanted["request"]).json()
    assert found["types"] == [["event", "String"], ["count()", "UInt64"]]
    assert found["columns"] == ["event", "count()"]
    assert [found["hasMore"], found["limit"], found["offset"]] == [False, 100, 0]


def test_insight_flow(old: Client, recorded: dict[str, Any], posthog: EmulatorProcess) -> None:
    flow = {step: recorded[f"flow.insight-hogql.{step}"] for step in (4, 5, 8, 9, 10)}
    posthog.settings(async_seconds=1000)
    made = old.post("insights/", {"name": "sql", "saved": True, "query": old.get("insights/1/").json()["query"]})
    path = f"insights/{made.json()['id']}/"
    first = old.get(f"{path}?refresh=blocking")
    _same_shape(flow[4], first)
    for name in ("hogql", "types", "is_cached"):
        assert first.json()[name] == flow[4][name]
    second = old.get(f"{path}?refresh=blocking")
    assert second.json()["is_cached"] is flow[5]["is_cached"] is True
    assert second.json()["last_refresh"] == first.json()["last_refresh"]
    pending = old.get(f"{path}?refresh=force_async")
    _same_shape(flow[8], pending)
    assert pending.json()["result"] is None
    assert pending.json()["filters_hash"] is None
    status = old.get(f"query/{pending.json()['query_status']['id']}/")
    _same_shape(flow[9], status)
    assert status.status_code == 202
    posthog.advance(1000)
    wait_for(lambda: old.get(f"query/{pending.json()['query_status']['id']}/").status_code == 200)


def test_broken_insight_flow(old: Client, recorded: dict[str, Any]) -> None:
    query = {"kind": "DataVisualizationNode", "source": hogql("select nope from events")}
    made = old.post("insights/", {"name": "bad", "query": query}).json()
    for step, mode in ((3, "force_blocking"), (4, "blocking")):
        wanted = recorded[f"flow.insight-broken.{step}"]
        answer = old.get(f"insights/{made['id']}/?refresh={mode}")
        assert (answer.status_code, answer.json()) == (wanted["status"], wanted["body"])
    _same_shape(recorded["flow.insight-broken.5"], old.get(f"insights/{made['id']}/?refresh=force_async"))


def test_export_flow(old: Client, recorded: dict[str, Any], posthog: EmulatorProcess) -> None:
    posthog.settings(export_seconds=1000)
    flow = {step: recorded[f"flow.export-hogql-csv.{step}"] for step in range(1, 6)}
    made = old.post("exports/", flow[1]["request"])
    _same_shape(flow[1], made)
    assert made.json()["filename"] == "my-file.csv"
    assert made.json()["export_context"] == flow[1]["request"]["export_context"]
    path = f"exports/{made.json()['id']}/"
    _same_shape(flow[2], old.get(path))
    assert old.get(path).json()["has_content"] is False
    posthog.advance(1000)
    wait_for(lambda: old.get(path).json()["has_content"])
    content = old.get(f"{path}content/?download=true")
    assert content.status_code == 200
    for name, value in flow[5]["headers"].items():
        assert content.headers[name] == value
    assert content.content.startswith(b"event,distinct_id,timestamp\r\n")
    assert len(content.content.split(b"\r\n")) == 7


def test_empty_and_special_exports(old: Client, recorded: dict[str, Any]) -> None:
    wanted = recorded["flow.export-hogql-csv-empty.4"]["text"]
    empty = recorded["flow.export-hogql-csv-empty.1"]["request"]["export_context"]["source"]
    assert old.content(old.export(empty)["id"]).text == wanted
    special = recorded["flow.export-hogql-csv-special.1"]["request"]["export_context"]["source"]
    text = old.content(old.export(special)["id"]).content.decode()
    wanted = recorded["flow.export-hogql-csv-special.4"]["text"]
    assert text.split("{")[0] == wanted.split("{")[0]


def test_broken_export_stays_silent_on_an_old_server(old: Client, posthog: EmulatorProcess) -> None:
    context = {"source": hogql("select nope from events")}
    made = old.post("exports/", {"export_format": "text/csv", "export_context": context}).json()
    wait_for(lambda: posthog.stats()["exports"]["failed"] == 1)
    found = old.get(f"exports/{made['id']}/").json()
    assert "exception" not in found
    assert found["has_content"] is False
    assert old.get(f"exports/{made['id']}/content/?download=true").status_code == 404


def test_rate_limit(old: Client, recorded: dict[str, Any], posthog: EmulatorProcess) -> None:
    posthog.settings(rate_limit_per_minute=2)
    old.get("exports/")
    old.get("exports/")
    posthog.advance(17)
    answer = old.get("exports/")
    wanted = recorded["ratelimit.burst_429"]
    assert answer.status_code == 429
    seconds = answer.headers["Retry-After"]
    assert 1 <= int(seconds) <= 43
    assert answer.json() == {**wanted["body"], "detail": wanted["body"]["detail"].replace("43", seconds)}
    assert old.get("insights/1/").status_code == 200, "other limits count on their own"
    assert old.get("/api/users/@me/").status_code == 200
    posthog.advance(int(seconds) + 1)
    assert old.get("exports/").status_code == 200
