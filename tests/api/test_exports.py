"""Calls about exports."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.queries import hogql
from airflow_provider_posthog.api.settings import ClientSettings
from tests.api.test_states import JSON


def test_create_is_sent_once_and_says_what_it_needs() -> None:
    source = hogql("SELECT {a}", {"a": 1})
    call = exports.create(export_format=exports.CSV, export_context={"source": source, exports.MARKER_KEY: "m"})
    assert (call.method, call.path, call.repeatable) == ("POST", "exports/", False)
    assert call.json == {
        "export_format": "text/csv",
        "export_context": {
            "source": {"kind": "HogQLQuery", "query": "SELECT {a}", "values": {"a": 1}},
            "airflow_marker": "m",
        },
    }
    assert call.scopes == ("export:write", "query:read")


@pytest.mark.parametrize(
    ("given_", "body", "scopes"),
    [
        ({"insight": 3}, {"insight": 3}, ("export:write", "insight:read")),
        ({"dashboard": 4}, {"dashboard": 4}, ("export:write", "dashboard:read")),
        ({"export_context": {}}, {}, ("export:write",)),
        (
            {"insight": 0, "export_context": {"filename": "x"}},
            {"insight": 0, "export_context": {"filename": "x"}},
            ("export:write", "insight:read"),
        ),
    ],
)
def test_create_bodies(given_: dict[str, Any], body: dict[str, Any], scopes: tuple[str, ...]) -> None:
    call = exports.create(export_format=exports.PNG, **given_)
    assert call.json == {"export_format": "image/png", **body}
    assert call.scopes == scopes


def test_the_caller_s_context_is_copied() -> None:
    context = {"filename": "x"}
    call = exports.create(export_format=exports.CSV, export_context=context)
    context["filename"] = "y"
    assert call.json is not None
    assert call.json["export_context"] == {"filename": "x"}


def test_list() -> None:
    assert exports.list().query_string() == "limit=100"
    call = exports.list(export_format=exports.CSV, limit=5, offset=10)
    assert call.query_string() == "export_format=text%2Fcsv&limit=5&offset=10"
    assert call.repeatable


def test_content_asks_for_a_download() -> None:
    call = exports.content(5)
    assert (call.path, call.query_string()) == ("exports/5/content/", "download=true")


def test_summary_holds_no_query() -> None:
    export: exports.Export = {
        "id": 5,
        "export_format": "text/csv",
        "created_at": "2026-11-22T00:00:00Z",
        "has_content": True,
        "filename": "export.csv",
        "export_context": {"source": hogql("SELECT 'secret'")},
        "exception": None,
    }
    found = exports.summary(export, ClientSettings(project_id=7, api_key="phx_secretsecret"))
    assert found == {
        "id": 5,
        "filename": "export.csv",
        "export_format": "text/csv",
        "created_at": "2026-11-22T00:00:00Z",
        "expires_after": None,
        "has_content": True,
        "project_id": 7,
        "host": "https://us.posthog.com",
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, 300_000),
        (hogql("SELECT event FROM events"), 50_000),
        (hogql("SELECT event FROM events LIMIT 10"), 10),
        (hogql("SELECT event FROM events LIMIT {n}", {"n": 20}), 20),
        (hogql("SELECT event FROM events LIMIT 300000"), 300_000),
        (hogql("SELECT event FROM events LIMIT 900000"), 300_000),
        (hogql("(SELECT event FROM events LIMIT 300000)"), 300_000),
        (hogql("SELECT event FROM events LIMIT (300000)"), 300_000),
        (hogql("SELECT event FROM events LIMIT 1000*300"), 300_000),
        (hogql("SELECT event FROM events LIMIT {n} * 2", {"n": 20}), 40),
        ({**hogql("SELECT 1 LIMIT {variables.n}"), "variables": {"x": {"code_name": "n", "value": 9}}}, 9),
        (hogql("SELECT event AS union FROM events LIMIT 300000"), 300_000),
        (hogql("SELECT event FROM events LIMIT 300000 // LIMIT 1000"), 300_000),
        (hogql("SELECT event FROM events # LIMIT 5"), 50_000),
        (hogql("SELECT event FROM events LIMIT 1 WITH TIES"), 300_000),
        (hogql("SELECT event FROM events LIMIT 0, 300000"), 1),
        (hogql("SELECT 1 LIMIT 1000 UNION ALL SELECT 2 LIMIT 2000"), 1_000),
        (hogql("(SELECT 1 LIMIT 300000) UNION ALL (SELECT 2 LIMIT 300000)"), 300_000),
        (hogql("SELECT 1 LIMIT 300000 UNION ALL SELECT 2"), 50_000),
        (hogql("SELECT 1 LIMIT 300000 UNION SELECT 2 LIMIT 300000"), 0),
        (hogql("SELECT 1 EXCEPT SELECT 2 LIMIT 300000"), 0),
        (hogql("SELECT 1 LIMIT 5 INTERSECT SELECT 2 LIMIT 300000"), 0),
        (hogql("(SELECT 1 LIMIT 5) UNION ALL (SELECT 2 LIMIT 5) LIMIT 300000"), 0),
        (hogql("SELECT event FROM events LIMIT {n}"), 0),
        (hogql("SELECT * FROM (SELECT 1 EXCEPT SELECT 2) LIMIT 300000"), 300_000),
        ({"kind": "EventsQuery"}, 300_000),
        ({"kind": "EventsQuery", "limit": 10}, 10),
        ({"kind": "EventsQuery", "limit": True}, 300_000),
        ({"kind": "EventsQuery", "limit": "10"}, 300_000),
    ],
)
def test_row_limit(source: dict[str, Any] | None, expected: int) -> None:
    limit, why = exports.row_limit({"export_context": {"source": source}})
    assert limit == expected
    assert "limit" in why or limit == 0


@given(st.dictionaries(st.sampled_from(["export_context", "id", "has_content"]), JSON))
def test_whatever_posthog_says(export: Any) -> None:
    assert exports.row_limit(export)[0] <= 300_000
    assert set(exports.summary(export, ClientSettings())) >= {"id", "has_content", "host"}


@given(JSON)
def test_whatever_source_posthog_says(source: Any) -> None:
    assert exports.row_limit({"export_context": {"source": source}})[0] <= 300_000
    assert exports.row_limit({"export_context": {"source": {"kind": "HogQLQuery", "query": source, "values": source}}})
