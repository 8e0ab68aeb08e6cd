"""The budget of bytes that ClickHouse reads for queries, as PostHog has it since September 2026."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from tests.emulator.client import Client, hogql, wait_for

READ, LEFT = "X-PostHog-Query-Bytes-Read", "X-PostHog-Query-Budget-Remaining-Bytes"
SCAN = "select count() from events where properties like '%no such text%'"
PAID_DAY = 24 * 200 * 10**9


def metered(answer: requests.Response) -> tuple[int, int]:
    return int(answer.headers[READ]), int(answer.headers[LEFT])


def test_each_answer_tells_what_clickhouse_read_and_what_is_left(api: Client, posthog: EmulatorProcess) -> None:
    read, left = metered(api.query(SCAN))
    assert read > 1_000_000, "the uncompressed properties of 20,000 events"
    assert PAID_DAY - read <= left <= PAID_DAY
    one, _ = metered(api.query("select 1"))
    assert one < 100


def test_what_is_read_is_what_the_tables_gave_and_not_what_was_answered(api: Client, posthog: EmulatorProcess) -> None:
    narrow, _ = metered(api.query("select count() from events where event = 'nope'"))
    wide, _ = metered(api.query(SCAN))
    assert wide > 10 * narrow


def test_nothing_is_refused_unless_it_is_asked_for(api: Client, posthog: EmulatorProcess) -> None:
    posthog.query_budget(-(10**9))
    answer = api.query(SCAN)
    assert (answer.status_code, metered(answer)[1]) == (200, 0)


def test_the_query_that_goes_below_zero_runs_in_full_and_the_next_is_refused(
    api: Client, posthog: EmulatorProcess
) -> None:
    posthog.settings(query_bytes_per_hour=3_600_000)
    posthog.query_budget(1000)
    read, left = metered(api.query(SCAN))
    assert read > 1000
    assert left == 0
    refused = api.query("select 1")
    assert refused.status_code == 429
    assert refused.json()["code"] == "api_queries_budget_exceeded"
    assert refused.json()["type"] == "throttled_error"
    assert refused.headers[LEFT] == "0"
    wait = int(refused.headers["Retry-After"])
    assert 0 < wait <= 3600
    assert api.query("select 1", refresh="force_async").status_code == 429
    posthog.advance(wait)
    assert api.query("select 1").status_code == 200


def test_a_bucket_never_owes_more_than_an_hour(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(query_bytes_per_hour=1000)
    assert -1000 <= posthog.query_budget(-(10**12)) <= -990
    assert 3500 <= int(api.query("select 1").headers["Retry-After"]) <= 3600
    posthog.advance(3601)
    assert api.query("select 1").status_code == 200


def test_a_bucket_holds_so_many_hours(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(query_bytes_per_hour=1000, query_budget_hours=2)
    posthog.advance(86_400)
    assert posthog.query_budget() == 2000
    posthog.query_budget(0)
    posthog.advance(1800)
    assert 500 <= posthog.query_budget() <= 510


def test_an_asynchronous_query_tells_with_its_result(api: Client, posthog: EmulatorProcess) -> None:
    started = api.query(SCAN, refresh="force_async")
    assert metered(started)[0] == 0
    path = f"query/{started.json()['query_status']['id']}/"
    wait_for(lambda: api.get(path).status_code == 200)
    read, left = metered(api.get(path))
    assert read > 1_000_000
    assert left <= PAID_DAY
    assert LEFT in api.get("query/nope/").headers


def test_the_cache_costs_nothing_and_answers_all_the_same(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(query_bytes_per_hour=1000, cache_seconds=3600)
    api.query(SCAN)
    assert api.query("select 2").status_code == 429
    cached = api.query(SCAN, refresh="blocking")
    assert (cached.status_code, metered(cached)) == (200, (0, 0))


def test_refused_statements_tell_what_is_left(api: Client, posthog: EmulatorProcess) -> None:
    refused = api.query("select nope from events")
    assert (refused.status_code, refused.headers[READ]) == (400, "0")


def test_insights_draw_on_nothing(api: Client, posthog: EmulatorProcess) -> None:
    before = posthog.query_budget()
    query = {"kind": "DataVisualizationNode", "source": hogql(SCAN)}
    made = api.post("insights/", {"query": query}).json()
    assert LEFT not in api.get(f"insights/{made['id']}/?refresh=force_blocking").headers
    assert posthog.query_budget() == before


@pytest.mark.parametrize("changes", [{"generation": "A"}, {"generation": "B"}, {"query_budget_headers": False}])
def test_servers_that_know_no_budget_say_nothing_of_it(
    api: Client, posthog: EmulatorProcess, changes: dict[str, object]
) -> None:
    posthog.settings(query_bytes_per_hour=1, **changes)
    for _ in range(2):
        answer = api.query(SCAN)
        assert answer.status_code == 200
        assert not {READ, LEFT} & set(answer.headers)


def test_orders_that_make_no_sense_are_refused(posthog: EmulatorProcess) -> None:
    for remaining in (1.5, True, "1"):
        with pytest.raises(EmulatorError, match="a whole number of bytes"):
            posthog.control("POST", "query_budget", {"remaining": remaining})
    for changes in ({"query_budget_hours": 0}, {"query_bytes_per_hour": 0}):
        with pytest.raises(EmulatorError, match="400"):
            posthog.settings(**changes)


def test_a_reset_fills_it(posthog: EmulatorProcess) -> None:
    posthog.settings(query_bytes_per_hour=1000)
    posthog.query_budget(5)
    posthog.reset()
    assert posthog.query_budget() == PAID_DAY
