"""``filters_override`` and ``variables_override`` of insights, and the variables of SQL."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql

VARIABLE = {"code_name": "least", "variableId": "v1", "value": 2}
SQL = "select number from numbers(5) where number >= {variables.least}"


def _saved(api: Client, text: str = SQL, **more: Any) -> str:
    query = {**hogql(text), **more}
    made = api.post("insights/", {"query": query})
    assert made.status_code == 201, made.text
    return f"insights/{made.json()['id']}/"


def _run(api: Client, path: str, refresh: str = "force_blocking", **overrides: object) -> dict[str, Any]:
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in overrides.items()}
    answer = api.get(path, params={"refresh": refresh, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_variables_fill_sql_and_are_overridden(api: Client) -> None:
    path = _saved(api, variables={"v1": VARIABLE})
    assert _run(api, path)["result"] == [[2], [3], [4]]
    four = {"v1": {**VARIABLE, "value": 4}}
    assert _run(api, path, "force_cache", variables_override=four)["result"] is None, "a cache entry of its own"
    assert _run(api, path, variables_override=four)["result"] == [[4]]
    assert _run(api, path, "force_cache", variables_override=four)["is_cached"] is True
    assert _run(api, path, "force_cache")["result"] == [[2], [3], [4]]
    other = {"v9": {"code_name": "least", "variableId": "v9", "value": 4}}
    assert _run(api, path, variables_override=other)["result"] == [[2], [3], [4]], "not a variable of this query"


def test_variables_of_a_dashboard(api: Client) -> None:
    path = _saved(api, variables={"v1": VARIABLE})
    body = {"name": "d", "variables": {"v1": {**VARIABLE, "value": 3}}}
    dashboard = api.post("dashboards/", body).json()["id"]
    api("PATCH", path, json={"dashboards": [dashboard]})
    assert _run(api, path, from_dashboard=str(dashboard))["result"] == [[3], [4]]
    override = {"v1": {**VARIABLE, "value": 4}}
    assert _run(api, path, from_dashboard=str(dashboard), variables_override=override)["result"] == [[4]]
    tile = api.get(f"dashboards/{dashboard}/?refresh=force_blocking").json()["tiles"][0]
    assert tile["insight"]["result"] == [[3], [4]]


def test_a_missing_variable(api: Client) -> None:
    found = _run(api, _saved(api))
    assert found["query_status"]["error_message"] == "Variable least is missing from query"
    null = _saved(api, "select {variables.least} is null", variables={"v1": {**VARIABLE, "isNull": True}})
    assert _run(api, null)["result"] == [[1]]
    answer = api.post("query/", {"query": {**hogql(SQL), "variables": {"v1": VARIABLE}}})
    assert answer.json()["results"] == [[2], [3], [4]]


def test_filters_of_dates(api: Client) -> None:
    assert len(_run(api, "insights/2/", filters_override={"date_from": "-2d"})["result"][0]["days"]) == 3
    assert _run(api, "insights/2/", "force_cache")["result"] is None, "a cache entry of its own"
    path = _saved(api, "select count() from events where {filters}")
    everything = _run(api, path)["result"][0][0]
    week = _run(api, path, filters_override={"date_from": "-7d", "date_to": "-1d"})["result"][0][0]
    assert 0 < week < everything
    counted = api.query(
        "select count() from events where timestamp >= toStartOfDay(now()) - toIntervalDay(7) "
        "and timestamp < toStartOfDay(now()) - toIntervalDay(1)"
    )
    assert counted.json()["results"] == [[week]]
    table = {"kind": "EventsQuery", "select": ["timestamp"], "orderBy": ["timestamp"], "after": "-20d"}
    made = api.post("insights/", {"query": table}).json()
    first = _run(api, f"insights/{made['id']}/", filters_override={"date_from": "-3d"})["result"][0][0]
    assert first > _run(api, f"insights/{made['id']}/")["result"][0][0]


def test_filters_that_can_not_be_computed_fail_the_insight(api: Client) -> None:
    wish = {"properties": [{"key": "$browser", "value": "Chrome", "type": "event"}]}
    for path in ("insights/1/", "insights/2/"):
        found = _run(api, path, filters_override=wish)
        assert (found["result"], found["query_status"]["error"]) == (None, True)


@pytest.mark.parametrize("name", ["filters_override", "variables_override", "tile_filters_override"])
@pytest.mark.parametrize("value", ["{", "[1]", "text", "7"])
@pytest.mark.parametrize("path", ["insights/1/", "dashboards/1/"])
def test_what_is_no_json_object(api: Client, posthog: EmulatorProcess, path: str, name: str, value: str) -> None:
    answer = api.get(path, params={name: value})
    assert (answer.status_code, answer.json()["attr"]) == (400, name)
    assert answer.json()["detail"] == f"Invalid JSON passed in {name} parameter"
