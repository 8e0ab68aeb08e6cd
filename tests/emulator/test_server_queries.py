"""``/query/``: the cache, the queue, the limit of simultaneous queries and the errors."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql, wait_for

COUNT = hogql("select count() from events")


def test_cache_is_on_unless_forced(api: Client, posthog: EmulatorProcess) -> None:
    first = api.post("query/", {"query": COUNT}).json()
    second = api.post("query/", {"query": COUNT, "refresh": "blocking"}).json()
    assert (first["is_cached"], second["is_cached"]) == (False, True)
    assert second["last_refresh"] == first["last_refresh"]
    assert api.post("query/", {"query": COUNT, "refresh": "force_cache"}).json()["is_cached"] is True
    forced = api.post("query/", {"query": COUNT, "refresh": "force_blocking"}).json()
    assert forced["is_cached"] is False
    assert forced["last_refresh"] > first["last_refresh"]
    posthog.advance(16)
    assert api.post("query/", {"query": COUNT}).json()["is_cached"] is False


def test_cached_rows_are_old_rows(api: Client, posthog: EmulatorProcess) -> None:
    before = api.post("query/", {"query": COUNT}).json()["results"][0][0]
    _add_event(posthog, "01900000-0000-7000-8000-00000000cace")
    assert api.post("query/", {"query": COUNT}).json()["results"][0][0] == before
    assert api.post("query/", {"query": COUNT, "refresh": "force_blocking"}).json()["results"][0][0] == before + 1


def _add_event(posthog: EmulatorProcess, uuid: str, timestamp: str = "2031-05-05T10:00:00.000001Z") -> None:
    event = {
        "uuid": uuid,
        "event": "late",
        "distinct_id": "d",
        "person_id": "01900000-0000-7000-8000-0000000000ff",
        "timestamp": timestamp,
        "created_at": timestamp,
        "properties": {"a": {"b": "ü"}},
    }
    posthog.add_events([event])


def test_added_events_are_found(api: Client, posthog: EmulatorProcess) -> None:
    _add_event(posthog, "01900000-0000-7000-8000-00000000beef", "2032-05-05T10:00:00.123456Z")
    sql = "select event, timestamp, properties.a.b from events where toString(uuid) = {uuid}"
    rows = api.query(sql, uuid="01900000-0000-7000-8000-00000000beef").json()["results"]
    assert rows == [["late", "2032-05-05T10:00:00.123456Z", "ü"]]
    assert posthog.count_events("2032-05-05T10:00:00.123456Z", "2032-05-06T00:00:00Z") == 1
    assert posthog.count_events("2032-05-05T10:00:00.123457Z", "2032-05-06T00:00:00Z", "created_at") == 0


def test_errors(api: Client) -> None:
    answer = api.query("select nope from events")
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "validation_error",
        "code": "invalid_input",
        "detail": "Unable to resolve field: nope",
        "attr": None,
    }
    mismatch = api.query("select uuid from events where timestamp > '2026-11-21T23:09:32.667117Z'")
    assert (mismatch.status_code, mismatch.json()["code"]) == (400, "type_mismatch")
    offset = api.query("select 1 limit 1 offset 2")
    assert offset.status_code == 400
    assert offset.json()["detail"].startswith("OFFSET is not supported on queries made with a personal API key.")
    unknown = api.post("query/", {"query": {"kind": "PathsQuery"}})
    assert (unknown.status_code, "PathsQuery" in unknown.json()["detail"]) == (400, True)
    mode = api.post("query/", {"query": COUNT, "refresh": "forceblocking"})
    assert (mode.status_code, mode.json()["code"]) == (400, "parse_error")


def test_async_life(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=1000)
    made = api.post("query/", {"query": COUNT, "refresh": "force_async", "client_query_id": "my id/1"})
    assert made.status_code == 202
    status = made.json()["query_status"]
    assert (status["id"], status["complete"], status["team_id"]) == ("my id/1", False, 1)
    path = "query/my%20id%2F1/"
    assert api.get(path).status_code == 202
    posthog.advance(1000)
    done = wait_for(lambda: next((a for a in [api.get(path)] if a.status_code != 202), None))
    assert done.status_code == 200
    status = done.json()["query_status"]
    assert (status["complete"], status["error"]) == (True, False)
    assert status["results"]["results"] == api.query("select count() from events").json()["results"]
    assert api.delete_(path) == (200, {"message": "Query already complete"})
    gone = api.get(path)
    assert (gone.status_code, gone.json()["detail"]) == (404, "Query my id/1 not found for team 1")


def test_async_status_expires(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=0)
    status = api.post("query/", {"query": COUNT, "refresh": "force_async"}).json()["query_status"]
    wait_for(lambda: api.get(f"query/{status['id']}/").status_code == 200)
    posthog.advance(1190)
    assert api.get(f"query/{status['id']}/").status_code == 200
    posthog.advance(11)
    assert api.get(f"query/{status['id']}/").status_code == 404


@pytest.mark.parametrize(("hidden", "code"), [(False, 400), (True, 500)])
def test_async_errors(api: Client, posthog: EmulatorProcess, hidden: bool, code: int) -> None:
    posthog.settings(async_seconds=0, hide_query_errors=hidden)
    body = {"query": hogql("select nope from events"), "refresh": "force_async"}
    path = f"query/{api.post('query/', body).json()['query_status']['id']}/"
    ended = wait_for(lambda: next((a for a in [api.get(path)] if a.status_code != 202), None))
    assert ended.status_code == code
    status = ended.json()["query_status"]
    assert (status["complete"], status["error"]) == (True, True)
    assert status["error_message"] == (None if hidden else "Unable to resolve field: nope")


def test_same_client_query_id(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=0)
    sent = {"query": hogql("select now()"), "client_query_id": "same"}
    first = api.post("query/", {**sent, "refresh": "force_async"}).json()["query_status"]
    wait_for(lambda: api.get("query/same/").status_code == 200)
    posthog.advance(60)
    again = api.post("query/", {**sent, "refresh": "async"})
    assert (again.status_code, again.json()["query_status"]["task_id"]) == (200, first["task_id"])
    forced = api.post("query/", {**sent, "refresh": "force_async"})
    assert (forced.status_code, forced.json()["query_status"]["task_id"] != first["task_id"]) == (202, True)


def test_async_uses_a_fresh_cache(api: Client) -> None:
    api.query("select count() from events")
    answer = api.post("query/", {"query": COUNT, "refresh": "async"})
    assert (answer.status_code, answer.json()["is_cached"]) == (200, True)


def test_cancel_while_running(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(async_seconds=1000)
    for query, message in (
        ("", "Cancelled query on clickhouse"),
        ("?dequeue_only=true", "Only tried to dequeue, not cancelling query on clickhouse"),
    ):
        status = api.post("query/", {"query": COUNT, "refresh": "force_async"}).json()["query_status"]
        assert api.delete_(f"query/{status['id']}/{query}") == (200, {"message": message})
        assert api.get(f"query/{status['id']}/").status_code == 404


def test_three_at_a_time(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(query_seconds=1000, concurrency_wait_seconds=0)
    statuses: list[int] = []

    def run(number: int) -> None:
        statuses.append(Client(posthog.url, posthog.api_key).query(f"select {number}").status_code)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(posthog.calls("/query/")) == 3)
    refused = api.query("select 4")
    assert refused.status_code == 429
    assert "Retry-After" not in refused.headers
    assert refused.json()["type"] == "throttled_error"
    assert refused.json()["detail"].startswith("Exceeded maximum concurrency limit: 3")
    posthog.advance(1000)
    for thread in threads:
        thread.join(20)
    assert statuses == [200, 200, 200]
    posthog.settings(query_seconds=0)
    assert api.query("select 5").status_code == 200


def test_queue_for_a_place(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(query_seconds=0.05, concurrency=1)
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: statuses.append(Client(posthog.url, posthog.api_key).query(f"select {n}").status_code)
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 4


def test_check_auth(api: Client, posthog: EmulatorProcess) -> None:
    assert api.post("query/check_auth_for_async/").json() == {"user": "ok"}
    poor = Client(posthog.url, posthog.create_key(["insight:read"]))
    assert poor.post("query/check_auth_for_async/").status_code == 403


def test_big_numbers_stay_whole(api: Client) -> None:
    text = api.query("select 18446744073709551615 as n").text
    assert '"results":[[18446744073709551615]]' in text


@pytest.mark.parametrize("refresh", ["blocking", "force_async"])
def test_a_query_of_another_shape_is_refused_before_it_runs(api: Client, refresh: str) -> None:
    wrong: list[tuple[dict[str, object], str]] = [
        ({"query": None}, "query.HogQLQuery.query\n  Field required"),
        ({"query": 5}, "query.HogQLQuery.query\n  Input should be a valid string"),
        ({"values": [1]}, "query.HogQLQuery.values\n  Input should be a valid dictionary"),
        ({"filters": ["a"]}, "query.HogQLQuery.filters\n"),
        ({"filters": {"dateRange": "-7d"}}, "query.HogQLQuery.filters.dateRange\n"),
    ]
    for changes, says in wrong:
        node = {name: value for name, value in {**COUNT, **changes}.items() if value is not None}
        for query in (node, {"kind": "DataVisualizationNode", "source": node}):
            answer = api.post("query/", {"query": query, "refresh": refresh})
            assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")
            assert says in answer.json()["detail"]
