"""What a PostHog server of October 2024 did, beyond the single answers that ``tests/contract`` replays."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.emulator.settings import OCTOBER_2024
from tests.contract.replay import FLOWS, RECORDINGS
from tests.emulator.client import Client, hogql, wait_for


@pytest.fixture
def old(api: Client, posthog: EmulatorProcess) -> Client:
    posthog.settings(**OCTOBER_2024)
    return api


@pytest.mark.parametrize("header", [None, "Basic cGg6eA==", "Bearer ", "Bearer"])
def test_no_key(old: Client, header: str | None) -> None:
    caller = Client(old.url, None)
    answer = caller.get("insights/", headers={"Authorization": header} if header else {})
    wanted = RECORDINGS["auth.basic_scheme"]
    assert (answer.status_code, answer.json()) == (wanted.status, wanted.body)


def test_query_answers(old: Client) -> None:
    found = old.post("query/", RECORDINGS["query.hogql"].request).json()
    assert found["types"] == [["event", "String"], ["count()", "UInt64"]]
    assert found["columns"] == ["event", "count()"]
    assert [found["hasMore"], found["limit"], found["offset"]] == [False, 100, 0]


@pytest.mark.parametrize("name", ["export-hogql-csv-empty", "export-hogql-csv-special"])
def test_texts_of_exports(old: Client, name: str) -> None:
    first, *_, last = FLOWS[name]
    found = old.content(old.export(first.request["export_context"]["source"])["id"]).text
    # the last cell holds the properties of an event, which are other ones here; if there are none, without quotes
    assert found.split("{")[0].rstrip('"') == last.body.split("{")[0].rstrip('"')


def test_broken_export_stays_silent_on_an_old_server(old: Client, posthog: EmulatorProcess) -> None:
    context = {"source": hogql("select nope from events")}
    made = old.post("exports/", {"export_format": "text/csv", "export_context": context}).json()
    wait_for(lambda: posthog.stats()["exports"]["failed"] == 1)
    found = old.get(f"exports/{made['id']}/").json()
    assert "exception" not in found
    assert found["has_content"] is False
    assert old.get(f"exports/{made['id']}/content/?download=true").status_code == 404


def test_rate_limit(old: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(rate_limit_per_minute=2)
    old.get("exports/")
    old.get("exports/")
    posthog.advance(17)
    answer = old.get("exports/")
    wanted = RECORDINGS["ratelimit.burst_429"].body
    assert answer.status_code == 429
    seconds = answer.headers["Retry-After"]
    assert 1 <= int(seconds) <= 43
    assert answer.json() == {**wanted, "detail": wanted["detail"].replace("43", seconds)}
    assert old.get("insights/1/").status_code == 200, "other limits count on their own"
    assert old.get("/api/users/@me/").status_code == 200
    posthog.advance(int(seconds) + 1)
    assert old.get("exports/").status_code == 200
