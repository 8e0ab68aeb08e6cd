"""What else there is of insights: their history, analysis and suggestions, cancelled queries, filters of old times."""

from __future__ import annotations

import json

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql


def test_the_history_of_one_and_of_all(api: Client) -> None:
    first = api.post("insights/", {"name": "one", "query": hogql("select 1")}).json()
    second = api.post("insights/", {"name": "two"}).json()
    api("PATCH", f"insights/{first['id']}/", json={"name": "uno", "favorited": True})
    api("PATCH", f"insights/{first['id']}/", json={"name": "uno"})
    found = api.get(f"insights/{first['id']}/activity/").json()
    assert [each["activity"] for each in found["results"]] == ["updated", "created"], "nothing changed the second time"
    changed = found["results"][0]
    assert changed["detail"]["short_id"] == first["short_id"]
    assert {each["field"]: each["after"] for each in changed["detail"]["changes"]} == {"name": "uno", "favorited": True}
    assert changed["item_id"] == str(first["id"])
    everything = api.get("insights/activity/").json()
    assert [each["item_id"] for each in everything["results"]] == [str(each["id"]) for each in (first, second, first)]
    assert everything["total_count"] == 3


def test_the_history_comes_in_short_pages(api: Client, posthog: EmulatorProcess) -> None:
    for number in range(12):
        api("PATCH", "insights/1/", json={"name": f"name {number}"})
    first = api.get("insights/1/activity/").json()
    assert (len(first["results"]), first["total_count"], first["previous"]) == (10, 12, None)
    second = api.get(first["next"].removeprefix(posthog.url)).json()
    assert (len(second["results"]), second["next"]) == (2, None)
    names = [each["detail"]["name"] for each in first["results"] + second["results"]]
    assert names == [f"name {number}" for number in reversed(range(12))]
    assert api.get(second["previous"].removeprefix(posthog.url)).json() == first
    assert len(api.get("insights/activity/?limit=3&page=2").json()["results"]) == 3
    assert api.get("insights/99/activity/").status_code == 404


def test_the_history_needs_its_scope(posthog: EmulatorProcess) -> None:
    reader = Client(posthog.url, posthog.create_key(["insight:read"]))
    assert reader.get("insights/activity/").json()["detail"] == "API key missing required scope 'activity_log:read'"
    posthog.settings(generation="A")
    assert reader.get("insights/activity/").status_code == 200


def test_analyze_and_suggest_look_into_the_cache_only(api: Client, posthog: EmulatorProcess) -> None:
    assert api.get("insights/1/analyze/").json() == {"result": "No data available to analyze."}
    assert api.get("insights/1/suggestions/").json() == []
    rows = len(api.get("insights/1/?refresh=force_blocking").json()["result"])
    assert api.get("insights/1/analyze/").json() == {"result": f"Events by name has {rows} rows."}
    for method in ("GET", "POST"):
        suggested = api(method, "insights/1/suggestions/", json={}).json()
        assert suggested[0]["targetQuery"] == api.get("insights/1/").json()["query"]
    posthog.settings(ai_approved=False)
    for path in ("analyze", "suggestions"):
        refused = api.get(f"insights/1/{path}/")
        assert refused.status_code == 403
        assert refused.json()["detail"] == "AI data processing must be approved by your organization"


def test_a_query_of_an_insight_is_cancelled(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=1000)
    status = api.get("insights/1/?refresh=force_async&client_query_id=mine").json()["query_status"]
    assert status["id"] == "mine"
    assert api.get("query/mine/").status_code == 202
    assert api.post("insights/cancel/", {"client_query_id": "mine"}).status_code == 201
    assert api.get("query/mine/").status_code == 404
    refused = api.post("insights/cancel/", {})
    assert (refused.status_code, refused.json()["attr"]) == (400, "client_query_id")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_legacy_trend(api: Client, method: str) -> None:
    filters = {"events": [{"id": "$pageview"}, {"id": "purchase", "math": "dau"}], "date_from": "-5d"}
    sent = {**filters, "events": json.dumps(filters["events"])} if method == "GET" else filters
    options = {"params": sent} if method == "GET" else {"json": sent}
    answer = api(method, "insights/trend/", **options)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [each["action"]["id"] for each in body["result"]] == ["$pageview", "purchase"]
    series = [{"kind": "EventsNode", "event": "$pageview"}]
    query = {"kind": "TrendsQuery", "series": series, "dateRange": {"date_from": "-5d"}}
    wanted = api.post("query/", {"query": query}).json()["results"][0]
    assert body["result"][0]["data"] == wanted["data"]
    assert body["result"][0]["days"] == wanted["days"]
    assert len(body["result"][0]["persons_urls"]) == 6
    assert body["is_cached"] is False
    assert api(method, "insights/trend/", **options).json()["is_cached"] is True


def test_filters_of_old_insights_are_run_until_they_are_not(api: Client, posthog: EmulatorProcess) -> None:
    filters = {"insight": "TRENDS", "events": [{"id": "$pageview"}], "date_from": "-5d"}
    made = api.post("insights/", {"name": "old", "filters": filters}).json()
    assert (made["query"], made["filters"]) == (None, filters)
    found = api.get(f"insights/{made['id']}/?refresh=force_blocking").json()
    assert found["result"][0]["count"] > 0
    posthog.settings(legacy_insights=False)
    for refused in (api.get("insights/trend/"), api.post("insights/", {"filters": filters})):
        assert refused.status_code == 403
        assert "not available for this user" in refused.json()["detail"]
    assert api.post("insights/", {"query": hogql("select 1")}).status_code == 201


def test_filters_of_the_list(api: Client, posthog: EmulatorProcess) -> None:
    guest = Client(posthog.url, posthog.create_key(["*"], user=2))
    mine = guest.post("insights/", {"name": "guest's", "tags": ["etl"], "favorited": True}).json()["id"]

    def listed(query: str, client: Client = api) -> list[int]:
        return [each["id"] for each in client.get(f"insights/?{query}").json()["results"]]

    assert listed("") == [1, 2, 3, mine]
    assert listed("created_by=[2]") == listed("user=true", guest) == [mine]
    assert listed('tags=["etl"]') == listed("favorited=true") == [mine]
    assert listed("dashboards=[1]") == [1, 2, 3]
    assert listed("dashboards=[1,9]") == []


def test_a_wrong_field_changes_nothing(api: Client) -> None:
    before = api.get("insights/1/").json()
    for body in (
        {"name": "x", "saved": "maybe"},
        {"name": "x", "query": {"kind": "Nope"}},
        {"name": "x", "order": "y"},
    ):
        assert api("PATCH", "insights/1/", json=body).status_code == 400
    assert api.get("insights/1/").json() == before


@pytest.mark.parametrize(
    "path",
    [
        "actions",
        "feature_flags",
        "property_definitions",
        "experiments",
        "session_recordings",
        "surveys",
        "hog_functions",
        "subscriptions",
    ],
)
def test_lists_of_what_there_is_none_of(api: Client, posthog: EmulatorProcess, path: str) -> None:
    assert api.get(f"{path}/").json()["results"] == []
    assert Client(posthog.url, posthog.create_key(["insight:read"])).get(f"{path}/").status_code == 403


def test_the_progress_of_a_query_is_shown_on_request(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=1000)
    body = {"query": hogql("select 1"), "refresh": "force_async", "client_query_id": "watched"}
    assert api.post("query/", body).status_code == 202
    assert api.get("query/watched/").json()["query_status"]["query_progress"] is None
    posthog.advance(10)
    progress = api.get("query/watched/?show_progress=true").json()["query_status"]["query_progress"]
    assert progress["time_elapsed"] >= 10
    assert set(progress) == {"bytes_read", "rows_read", "estimated_rows_total", "time_elapsed", "active_cpu_time"}
