"""Calculations of insights: every ``refresh`` by every state of the cache, limits, cancelling, clients that go away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql, wait_for

LONG = 1000.0
MODES = (
    "force_cache",
    "typo",
    "blocking",
    "async",
    "async_except_on_cache_miss",
    "lazy_async",
    "force_blocking",
    "force_async",
)
# what each mode does with a fresh, a stale and no result: shows the cached one, computes, or shows no result;
# + it also starts a calculation in the background
TABLE = {
    "force_cache": ("cached", "cached", "nothing"),
    "typo": ("cached", "cached", "nothing"),
    "blocking": ("cached", "computed", "computed"),
    "async": ("cached", "cached+", "nothing+"),
    "async_except_on_cache_miss": ("cached", "cached+", "computed"),
    "lazy_async": ("cached", "cached", "nothing+"),
    "force_blocking": ("computed", "computed", "computed"),
    "force_async": ("nothing+", "nothing+", "nothing+"),
}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def calculations(posthog: EmulatorProcess) -> dict[str, int]:
    found: dict[str, int] = posthog.stats()["calculations"]
    return found


def begin(
    pool: ThreadPoolExecutor, posthog: EmulatorProcess, path: str, key: str | None = None
) -> Future[requests.Response]:
    """Start a GET that takes long, and return when it is being calculated."""
    before = calculations(posthog)["begun"]
    future = pool.submit(Client(posthog.url, key or posthog.api_key).get, path)
    wait_for(lambda: calculations(posthog)["begun"] > before)
    return future


@pytest.mark.parametrize("state", ["fresh", "stale", "miss"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_in_every_state_of_the_cache(api: Client, posthog: EmulatorProcess, mode: str, state: str) -> None:
    posthog.settings(async_seconds=LONG, cache_seconds=60)
    old = None if state == "miss" else api.get("insights/1/?refresh=force_blocking").json()
    posthog.advance(61 if state == "stale" else 1)
    found = api.get(f"insights/1/?refresh={mode}").json()
    expected = TABLE[mode][("fresh", "stale", "miss").index(state)]
    if expected.startswith("cached"):
        assert old is not None
        assert (found["result"], found["last_refresh"]) == (old["result"], old["last_refresh"])
        assert found["is_cached"] is True
    elif expected == "computed":
        assert found["result"]
        assert found["is_cached"] is False
        assert old is None or found["last_refresh"] > old["last_refresh"]
    else:
        assert [found[name] for name in ("result", "last_refresh", "is_cached", "cache_target_age", "types")] == [
            None,
            None,
            False,
            None,
            None,
        ]
    status = found["query_status"]
    assert (status is not None) is expected.endswith("+")
    assert status is None or (status["complete"], status["error"]) == (False, False)


def test_lazy_async_renews_what_is_older_than_a_day(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=LONG)
    api.get("insights/1/?refresh=force_blocking")
    posthog.advance(24 * 3600 + 1)
    found = api.get("insights/1/?refresh=lazy_async").json()
    assert found["is_cached"] is True
    assert found["query_status"]["complete"] is False


@pytest.mark.parametrize("mode", ["async", "lazy_async", "force_async", "async_except_on_cache_miss"])
def test_a_failure_sticks_in_modes_that_do_not_force(api: Client, posthog: EmulatorProcess, mode: str) -> None:
    posthog.settings(async_seconds=0)
    made = api.post("insights/", {"query": hogql("select nope from events")}).json()
    path = f"insights/{made['id']}/"
    status_id = api.get(f"{path}?refresh=async").json()["query_status"]["id"]
    failed = wait_for(lambda: next((x for x in [api.get(f"query/{status_id}/")] if x.status_code == 400), None))
    again = api.get(f"{path}?refresh={mode}").json()["query_status"]
    if mode == "async_except_on_cache_miss":
        assert (again["error"], again["id"]) == (True, ""), "it has tried again, at once"
        return
    assert again["error"] is (mode != "force_async")
    renewed = again["task_id"] != failed.json()["query_status"]["task_id"]
    assert renewed is (mode == "force_async"), "only force_async runs it again"


def test_the_limit_of_calculations_at_once(api: Client, posthog: EmulatorProcess, pool: ThreadPoolExecutor) -> None:
    old = api.get("insights/3/?refresh=force_blocking").json()
    posthog.settings(insight_concurrency=2, query_seconds=LONG)
    running = [begin(pool, posthog, f"insights/{number}/?refresh=force_blocking") for number in (1, 2)]
    refused = api.get("insights/3/?refresh=force_blocking").json()
    assert (refused["result"], refused["query_status"]["error"]) == (None, True)
    assert refused["query_status"]["error_code"] == "concurrency_limit_exceeded"
    assert refused["last_refresh"] > old["last_refresh"], "a lie: nothing was computed"
    assert api.get("insights/3/").json()["last_refresh"] == old["last_refresh"]
    posthog.advance(LONG)
    assert all(each.result().json()["result"] for each in running)
    assert calculations(posthog) == {"running": 0, "most_at_once": 2, "begun": 3, "cancelled": 0}
    posthog.settings(query_seconds=0)
    assert api.get("insights/3/?refresh=force_blocking").json()["result"]


def test_an_older_server_says_429_to_too_many(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(generation="A", insight_outcome="concurrency")
    answer = api.get("insights/1/?refresh=force_blocking")
    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")


@pytest.mark.parametrize("refresh", ["blocking", "force_blocking"])
def test_an_older_server_says_400_to_a_broken_insight(api: Client, posthog: EmulatorProcess, refresh: str) -> None:
    posthog.settings(generation="A")
    made = api.post("insights/", {"query": hogql("select nope from events")}).json()
    answer = api.get(f"insights/{made['id']}/?refresh={refresh}")
    assert (answer.status_code, answer.json()["detail"]) == (400, "Unable to resolve field: nope")


def test_insights_and_queries_count_together(api: Client, posthog: EmulatorProcess, pool: ThreadPoolExecutor) -> None:
    posthog.settings(query_seconds=LONG)
    insight = begin(pool, posthog, "insights/1/?refresh=force_blocking")
    query = pool.submit(Client(posthog.url, posthog.api_key).query, "select 1")
    wait_for(lambda: calculations(posthog)["running"] == 2)
    posthog.advance(LONG)
    assert (insight.result().status_code, query.result().status_code) == (200, 200)
    assert calculations(posthog)["most_at_once"] == 2
    posthog.reset()
    assert calculations(posthog) == {"running": 0, "most_at_once": 0, "begun": 0, "cancelled": 0}


def test_waiting_for_a_turn_is_not_running(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(query_seconds=10, async_seconds=0, concurrency=2)
    ids = [api.post("query/", {"query": hogql(f"select {n}"), "refresh": "force_async"}).json() for n in range(5)]
    wait_for(lambda: calculations(posthog)["running"] == 2)
    last = ids[-1]["query_status"]["id"]

    def finished() -> bool:
        posthog.advance(10)
        return api.get(f"query/{last}/").status_code == 200

    wait_for(finished)
    assert (calculations(posthog)["most_at_once"], calculations(posthog)["begun"]) == (2, 5)


@pytest.mark.parametrize("how", ["insights", "query"])
def test_cancelling_a_calculation_that_somebody_waits_for(
    api: Client, posthog: EmulatorProcess, pool: ThreadPoolExecutor, how: str
) -> None:
    posthog.settings(query_seconds=LONG)
    waiting = begin(pool, posthog, "insights/1/?refresh=force_blocking&client_query_id=mine")
    assert calculations(posthog)["running"] == 1
    if how == "insights":
        assert api.post("insights/cancel/", {"client_query_id": "mine"}).status_code == 201
    else:
        assert api.delete_("query/mine/") == (200, {"message": "Cancelled query on clickhouse"})
    assert calculations(posthog) == {"running": 0, "most_at_once": 1, "begun": 1, "cancelled": 1}
    found = waiting.result().json()
    assert (found["result"], found["query_status"]["error"]) == (None, True)
    assert (found["query_status"]["id"], found["query_status"]["error_code"]) == ("mine", "query_was_cancelled")
    assert api.get("insights/1/").json()["result"] is None, "nothing was kept"


def test_cancelling_by_another_id_stops_nothing(
    api: Client, posthog: EmulatorProcess, pool: ThreadPoolExecutor
) -> None:
    posthog.settings(query_seconds=LONG)
    waiting = begin(pool, posthog, "insights/1/?refresh=force_blocking&client_query_id=mine")
    api.post("insights/cancel/", {"client_query_id": "yours"})
    api.delete_("query/mine/?dequeue_only=true")
    assert calculations(posthog)["running"] == 1
    posthog.advance(LONG)
    assert waiting.result().json()["result"]


@pytest.mark.parametrize("when", ["queued", "running"])
def test_cancelling_in_the_background(api: Client, posthog: EmulatorProcess, when: str) -> None:
    posthog.settings(query_seconds=LONG, async_seconds=LONG if when == "queued" else 0)
    status = api.get("insights/1/?refresh=force_async&client_query_id=mine").json()["query_status"]
    assert (status["id"], status["insight_id"]) == ("mine", 1)
    if when == "running":
        wait_for(lambda: calculations(posthog)["running"] == 1)
    assert api.get("query/mine/").status_code == 202
    assert api.delete_("query/mine/")[0] == 200
    assert api.get("query/mine/").status_code == 404
    posthog.advance(3 * LONG)
    assert calculations(posthog)["running"] == 0
    assert calculations(posthog)["begun"] == (when == "running")
    assert api.get("insights/1/").json()["result"] is None
    assert api.get("insights/1/").json()["query_status"] is None


@pytest.mark.parametrize("end", ["done", "cancelled"])
def test_a_calculation_outlives_the_client_that_waited_for_it(api: Client, posthog: EmulatorProcess, end: str) -> None:
    posthog.settings(query_seconds=LONG)
    url = f"{api.url}/api/projects/1/insights/1/?refresh=force_blocking&client_query_id=gone"
    with requests.Session() as gone:
        gone.trust_env = False
        with pytest.raises(requests.ReadTimeout):
            gone.get(url, headers={"Authorization": f"Bearer {posthog.api_key}"}, timeout=0.3)
    assert calculations(posthog)["running"] == 1
    if end == "cancelled":
        api.post("insights/cancel/", {"client_query_id": "gone"})
    else:
        posthog.advance(LONG)
    wait_for(lambda: calculations(posthog)["running"] == 0)
    done = api.get("insights/1/").json()["result"] is not None
    assert done is (end == "done")


def test_a_key_without_the_scope_of_queries(api: Client, posthog: EmulatorProcess) -> None:
    weak = Client(posthog.url, posthog.create_key(["insight:read"]))
    assert weak.get("insights/1/?refresh=force_blocking").json()["result"]
    status = weak.get("insights/1/?refresh=force_async").json()["query_status"]
    refused = weak.get(f"query/{status['id']}/")
    assert (refused.status_code, refused.json()["detail"]) == (403, "API key missing required scope 'query:read'")
    assert api.get(f"query/{status['id']}/").status_code in (200, 202)


def _dashboard(api: Client, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.post("dashboards/", body).json()
    return made


def test_tiles_of_all_kinds(api: Client, posthog: EmulatorProcess) -> None:
    tiles = [
        {"type": "TEXT", "body": "Hello"},
        *({"type": "INSIGHT", "name": f"Number {n}", "query": hogql(f"select {n}")} for n in range(3)),
    ]
    made = api.post(
        "dashboards/create_from_template_json/", {"template": {"template_name": "t", "tiles": tiles}}
    ).json()
    path, ids = f"dashboards/{made['id']}/", [tile["insight"]["id"] for tile in made["tiles"] if tile["insight"]]
    posthog.settings(hidden_insights=[ids[0]])
    api("PATCH", f"insights/{ids[1]}/", json={"deleted": True})
    text, hidden, shown = api.get(f"{path}?refresh=force_blocking").json()["tiles"]
    assert (text["insight"], text["text"], text["last_refresh"]) == (None, {"body": "Hello"}, None)
    assert set(hidden["insight"]) == {"id", "short_id", "user_access_level"}, "no result, not even null"
    assert (hidden["last_refresh"], hidden["is_cached"]) == (None, False)
    assert shown["insight"]["result"] == [[2]]
    results = api.get(f"{path}run_insights/?output_format=json").json()["results"]
    assert [each["insight"]["id"] for each in results] == [ids[2]]
    assert api.get(f"insights/{ids[0]}/").status_code == 403
    assert ids[0] not in [each["id"] for each in api.get("insights/?limit=100").json()["results"]]
    posthog.settings(hidden_insights=[])
    assert api.get(f"insights/{ids[0]}/").status_code == 200


def test_a_tile_is_calculated_with_the_filters_of_its_dashboard(api: Client) -> None:
    dashboard = _dashboard(api, name="d", use_dashboard=1, filters={"date_from": "-2d"})
    path = f"insights/2/?refresh=force_blocking&from_dashboard={dashboard['id']}"
    assert len(api.get(path).json()["result"][0]["days"]) == 3
    assert len(api.get("insights/2/?refresh=force_blocking").json()["result"][0]["days"]) == 8
    assert api.get(path.replace("force_blocking", "force_cache")).json()["is_cached"] is True
    api("PATCH", f"dashboards/{dashboard['id']}/", json={"filters": {"date_from": "-3d"}})
    assert api.get(path.replace("force_blocking", "force_cache")).json()["result"] is None, "other filters"
