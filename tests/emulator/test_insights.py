"""Insights and dashboards: what ``refresh`` computes and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql, wait_for


@pytest.mark.parametrize("refresh", ["", "?refresh=force_cache", "?refresh=forceblocking", "?refresh=false"])
def test_a_plain_get_computes_nothing(api: Client, refresh: str) -> None:
    found = api.get(f"insights/1/{refresh}").json()
    assert (found["result"], found["last_refresh"], found["is_cached"]) == (None, None, False)
    assert found["query"]["source"]["kind"] == "HogQLQuery"


@pytest.mark.parametrize("refresh", ["force_blocking", "true", "1", ""])
def test_forced_modes_compute(api: Client, refresh: str) -> None:
    first = api.get(f"insights/1/?refresh={refresh}").json()
    second = api.get(f"insights/1/?refresh={refresh}").json()
    assert (first["is_cached"], second["is_cached"]) == (False, False)
    assert second["last_refresh"] > first["last_refresh"]
    assert (
        first["result"]
        == api.query("select event, count() as n from events group by event order by n desc").json()["results"]
    )
    assert api.get("insights/1/").json()["is_cached"] is True


def test_blocking_computes_when_stale(api: Client, posthog: EmulatorProcess) -> None:
    first = api.get("insights/1/?refresh=blocking").json()
    assert api.get("insights/1/?refresh=blocking").json()["last_refresh"] == first["last_refresh"]
    posthog.advance(16)
    assert api.get("insights/1/").json()["last_refresh"] == first["last_refresh"], "stale, but shown"
    assert api.get("insights/1/?refresh=blocking").json()["last_refresh"] > first["last_refresh"]
    posthog.settings(cache_seconds=100)
    newer = api.get("insights/1/?refresh=force_blocking").json()
    posthog.advance(60)
    assert api.get("insights/1/?refresh=blocking").json()["last_refresh"] == newer["last_refresh"]


def test_force_async_shows_its_status_on_later_gets(api: Client, posthog: EmulatorProcess) -> None:
    old = api.get("insights/1/?refresh=force_blocking").json()
    posthog.settings(async_seconds=1000)
    posthog.advance(1)
    pending = api.get("insights/1/?refresh=force_async").json()
    assert (pending["result"], pending["query_status"]["complete"]) == (None, False)
    plain = api.get("insights/1/").json()
    assert plain["result"] == old["result"]
    assert plain["query_status"]["id"] == pending["query_status"]["id"]
    posthog.advance(1000)
    done = _until_renewed(api, old["last_refresh"])
    assert done["result"] == old["result"]
    assert api.get(f"query/{pending['query_status']['id']}/").status_code == 200


def _until_renewed(api: Client, last_refresh: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get("insights/1/").json()
        # as at PostHog, the result is there before the status says so
        return found if found["last_refresh"] > last_refresh and found["query_status"] is None else None

    return wait_for(look)


def test_a_failed_status_sticks_unless_forced(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=0)
    made = api.post("insights/", {"query": hogql("select nope from events")}).json()
    path = f"insights/{made['id']}/"
    status_id = api.get(f"{path}?refresh=async").json()["query_status"]["id"]
    wait_for(lambda: api.get(f"query/{status_id}/").status_code == 400)
    stuck = api.get(f"{path}?refresh=async").json()["query_status"]
    assert (stuck["complete"], stuck["error"]) == (True, True)
    assert api.get(path).json()["query_status"] is None, "a plain GET does not see that it failed"
    assert api.get(f"{path}?refresh=force_async").json()["query_status"]["complete"] is False


def test_newer_servers_answer_200_to_a_broken_insight(api: Client) -> None:
    made = api.post("insights/", {"query": hogql("select nope from events")}).json()
    answer = api.get(f"insights/{made['id']}/?refresh=force_blocking")
    assert answer.status_code == 200
    status = answer.json()["query_status"]
    assert (status["error"], status["complete"], status["id"]) == (True, False, "")
    assert (status["error_message"], status["error_code"]) == ("Unable to resolve field: nope", "invalid_input")
    assert (answer.json()["result"], answer.json()["last_refresh"]) == (None, None)


def test_a_crowded_server_says_just_now(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(insight_outcome="concurrency")
    found = api.get("insights/1/?refresh=force_blocking").json()
    assert found["query_status"]["error_message"] == "concurrency_limit_exceeded"
    assert found["last_refresh"] is not None
    assert found["result"] is None


def test_a_tile_has_a_result_of_its_own(api: Client) -> None:
    api.get("insights/1/?refresh=force_blocking&from_dashboard=1")
    assert api.get("insights/1/").json()["result"] is None
    assert api.get("insights/1/?from_dashboard=1").json()["is_cached"] is True
    assert api.get("insights/1/?from_dashboard=77").json()["result"] is None, "unknown dashboards are ignored"
    assert api.get("dashboards/1/").json()["tiles"][0]["is_cached"] is True


def test_insight_and_query_share_the_cache(api: Client) -> None:
    api.get("insights/1/?refresh=force_blocking")
    source = api.get("insights/1/").json()["query"]["source"]
    assert api.post("query/", {"query": source}).json()["is_cached"] is True


def test_life_of_an_insight(api: Client) -> None:
    made = api.post("insights/", {"name": "x", "query": hogql("select 1"), "tags": ["a"], "saved": True})
    assert made.status_code == 201
    insight = made.json()
    assert insight["query"]["kind"] == "DataVisualizationNode"
    assert len(insight["short_id"]) == 8
    path = f"insights/{insight['short_id']}/"
    assert api.get(path).json()["id"] == insight["id"]
    assert api.get(f"insights/?short_id={insight['short_id']}").json()["count"] == 1
    assert api.get("insights/?search=latest").json()["results"][0]["name"] == "Latest events"
    assert api("PATCH", path, json={"name": "y", "favorited": True}).json()["name"] == "y"
    refused = api("DELETE", path)
    assert (refused.status_code, refused.content) == (405, b"")
    assert api("PATCH", path, json={"deleted": True}).json()["deleted"] is True
    assert api.get(path).status_code == 404
    assert api("PATCH", path, json={"name": "z"}).status_code == 404
    assert api.get("insights/").json()["count"] == 3
    assert api("PATCH", path, json={"deleted": False}).json()["name"] == "y"
    assert api.get(path).status_code == 200


def test_dashboard(api: Client) -> None:
    listed = api.get("dashboards/").json()
    assert (listed["count"], "tiles" in listed["results"][0]) == (1, False)
    tiles = api.get("dashboards/1/").json()["tiles"]
    assert [tile["insight"]["id"] for tile in tiles] == [1, 2, 3]
    assert [tile["last_refresh"] for tile in tiles] == [None] * 3
    refreshed = api.get("dashboards/1/?refresh=force_blocking").json()["tiles"]
    assert all(tile["last_refresh"] and tile["insight"]["result"] for tile in refreshed)
    assert api.get("dashboards/2/").status_code == 404


def _trend(api: Client, series: dict[str, object], **options: object) -> list[dict[str, Any]]:
    node = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", **series}], **options}
    answer = api.post("query/", {"query": node, "refresh": "force_blocking"})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("interval", ["hour", "day", "week", "month"])
def test_every_interval_counts_every_event_once(
    api: Client, posthog: EmulatorProcess, zone: str, interval: str
) -> None:
    posthog.settings(timezone=zone)
    span = {"date_from": "-4d" if interval == "hour" else "-3m"}
    item = _trend(api, {"event": "$pageview"}, dateRange=span, interval=interval)[0]
    sql = "select count() from events where event = '$pageview' and timestamp >= toDateTime({start})"
    start = item["action"]["days"][0] if interval == "hour" else "2026-01-01T00:00:00Z"
    where = sql if interval == "hour" else sql + " and timestamp < toDateTime('2030-01-01T00:00:00Z')"
    assert item["count"] == sum(item["data"]) == api.query(where, start=start).json()["results"][0][0]
    assert len(item["data"]) == len(item["days"]) == len(set(item["labels"]))
    assert item["count"] > 100


def test_maths_of_trends(api: Client) -> None:
    span = {"date_from": "-60d"}
    people = _trend(api, {"event": "$pageview", "math": "dau"}, dateRange=span, interval="month")[0]
    total = _trend(api, {"event": "$pageview"}, dateRange=span, trendsFilter={"display": "BoldNumber"})[0]
    assert 0 < people["count"] < total["aggregated_value"]
    assert total["data"] == []
    amount = {"event": "purchase", "math": "sum", "math_property": "amount"}
    paid = _trend(api, amount, dateRange=span, trendsFilter={"display": "BoldNumber"})[0]["aggregated_value"]
    sql = "select sum(toFloat(properties.amount)) from events where event = 'purchase'"
    assert paid == pytest.approx(api.query(sql).json()["results"][0][0])
    parts = _trend(api, {"event": "$pageview"}, dateRange=span, breakdownFilter={"breakdown": "$browser"})
    assert sum(part["count"] for part in parts) == total["aggregated_value"]
    assert "Chrome" in {part["breakdown_value"] for part in parts}
    lines = api.table(
        {
            "kind": "TrendsQuery",
            "series": [{"kind": "EventsNode", "event": "$pageview"}],
            "breakdownFilter": {"breakdown": "$browser"},
            "trendsFilter": {"display": "ActionsTable"},
        }
    )
    assert lines[0] == "series,$browser,Total Sum"
    assert any(line.startswith("Chrome,Chrome,") for line in lines)


def _of(api: Client, node: dict[str, Any]) -> Any:
    return api.post("query/", {"query": node, "refresh": "force_blocking"})


def test_a_formula_is_calculated_point_by_point(api: Client) -> None:
    series = [{"kind": "EventsNode", "event": name} for name in ("$pageview", "purchase", "never")]
    node = {"kind": "TrendsQuery", "series": series, "dateRange": {"date_from": "-14d"}}
    views, paid, _ = (item["data"] for item in _of(api, node).json()["results"])
    for field, formula in (("formula", "B / A * 100"), ("formulas", ["B / A * 100"]), ("formula", "A / C")):
        (item,) = _of(api, {**node, "trendsFilter": {field: formula}}).json()["results"]
        if "C" in formula:
            assert set(item["data"]) == {0}
        else:
            assert item["data"] == [b / a * 100 if a else 0 for a, b in zip(views, paid, strict=True)]
    named = {"formulaNodes": [{"formula": "A", "custom_name": "views"}, {"formula": "-B"}]}
    first, second = _of(api, {**node, "trendsFilter": named}).json()["results"]
    assert (first["label"], first["data"], second["data"]) == ("views", views, [-each for each in paid])


def test_the_period_before_is_as_long_and_ends_where_this_one_begins(api: Client) -> None:
    node = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
    span = {"date_from": "-7d", "date_to": "-1d"}
    whole = _of(api, {**node, "dateRange": {"date_from": "-14d", "date_to": "-1d"}}).json()["results"][0]
    compared = {**node, "dateRange": span, "compareFilter": {"compare": True}}
    now, before = _of(api, compared).json()["results"]
    assert (now["compare_label"], before["compare_label"]) == ("current", "previous")
    assert before["days"] + now["days"] == whole["days"]
    assert before["data"] + now["data"] == whole["data"]


def test_more_values_than_a_breakdown_shows_are_others(api: Client) -> None:
    node = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
    whole = _of(api, node).json()["results"][0]["count"]
    for limit, more in ((1, True), (25, False)):
        parted = {**node, "breakdownFilter": {"breakdown": "$browser", "breakdown_limit": limit}}
        answer = _of(api, parted).json()
        assert answer["hasMore"] is more
        assert sum(item["count"] for item in answer["results"]) == whole
        labels = [item["label"] for item in answer["results"]]
        assert ("Other (i.e. all remaining values)" in labels) is more
        assert len(labels) == 2 if more else len(labels) > 2


@pytest.mark.parametrize(
    "options",
    [
        {"compareFilter": {"compare": True, "compare_to": "-1y"}},
        {"formula": "A+B"},
        {"trendsFilter": {"formula": "A +"}},
        {"trendsFilter": {"formula": "__import__('os')"}},
        {"trendsFilter": {"formula": "A + Z"}},
        {"trendsFilter": {"display": "BoxPlot"}},
        {"trendsFilter": {"display": "ActionsLineGraphCumulative"}},
        {"trendsFilter": {"smoothingIntervals": 7}},
        {"breakdownFilter": {"breakdowns": [{"property": "a"}, {"property": "b"}]}},
        {"breakdownFilter": {"breakdown": [3], "breakdown_type": "cohort"}},
        {"interval": "minute"},
        {"dateRange": {"date_from": "whenever"}},
        {"series": [{"kind": "ActionsNode", "id": 1}]},
        {"series": [{"kind": "EventsNode", "math": "first_time_for_user"}]},
        {"series": [{"kind": "EventsNode", "math": "sum"}]},
        {"series": [{"kind": "EventsNode", "properties": [{"key": "plan", "value": "pro"}]}]},
        {"properties": [{"key": "plan", "value": "pro"}]},
        {"filterTestAccounts": True},
    ],
)
def test_trends_that_can_not_be_computed_are_refused(api: Client, options: dict[str, object]) -> None:
    node = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode"}], **options}
    answer = api.post("query/", {"query": node})
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


@pytest.mark.parametrize(
    "field",
    [
        {"variables": {"a": 1}},
        {"variables": ["a"]},
        {"filters": {"properties": [{"key": "plan", "value": "pro"}]}},
        {"filters": {"dateRange": {"date_from": "whenever"}}},
    ],
)
def test_what_would_change_a_hogql_query_is_refused(api: Client, field: dict[str, object]) -> None:
    node = {"kind": "HogQLQuery", "query": "SELECT 1", **field}
    answer = api.post("query/", {"query": node})
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


def test_trend_of_an_insight(api: Client) -> None:
    series = api.get("insights/2/?refresh=force_blocking").json()["result"]
    assert len(series) == 1
    assert len(series[0]["data"]) == len(series[0]["days"]) == len(series[0]["labels"]) == 8
    assert series[0]["count"] == sum(series[0]["data"]) > 100
