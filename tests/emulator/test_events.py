"""The deprecated list of events, with what makes it unfit for exports."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client


def ago(seconds: float) -> datetime:
    """A moment before now: a moment before the import of this module may be a quarter of an hour older."""
    return datetime.now(timezone.utc) - timedelta(seconds=seconds)


def add(posthog: EmulatorProcess, ages: list[float], now: datetime | None = None, **parts: object) -> str:
    """Add events of given ages in seconds and return the distinct id that only they have."""
    now = now or ago(0)
    name = str(uuid.uuid4())
    times = [(now - timedelta(seconds=age)).isoformat() for age in ages]
    posthog.capture(
        [
            {"event": "e", "distinct_id": name, "timestamp": at, "properties": {"n": n}, **parts}
            for n, at in enumerate(times)
        ]
    )
    return name


def listed(api: Client, name: str, **query: object) -> dict[str, Any]:
    answer = api.get("events/", params={"distinct_id": name, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def numbers(answer: dict[str, Any]) -> list[int]:
    return [row["properties"]["n"] for row in answer["results"]]


def test_rows(api: Client, posthog: EmulatorProcess) -> None:
    chain = 'a.nav.big:attr__href="/x"href="/x"nth-child="2"text="Say \\"go\\""; div'.replace("; ", ";")
    name = add(posthog, [60], elements_chain=chain)
    row = listed(api, name)["results"][0]
    assert set(row) == {
        *("id", "distinct_id", "properties", "event", "timestamp", "person", "elements", "elements_chain")
    }
    assert row["timestamp"].endswith("+00:00")
    link, div = row["elements"]
    assert (link["tag_name"], link["attr_class"], link["href"], link["nth_child"]) == ("a", ["nav", "big"], "/x", 2)
    assert (link["text"], link["attributes"], link["order"]) == ('Say "go"', {"attr__href": "/x"}, 0)
    assert (div["tag_name"], div["order"], div["text"]) == ("div", 1, None)
    assert row["person"] is None
    assert listed(api, name, include_person="true")["results"][0]["person"]["distinct_ids"] == [name]
    assert api.get(f"events/{row['id']}/").json() == row


def test_oldest_first_pages_to_the_end_but_for_ties(api: Client, posthog: EmulatorProcess) -> None:
    now = ago(0)
    name = add(posthog, [50, 40, 30, 30, 20], now)
    bounds = {"after": (now - timedelta(seconds=60)).isoformat(), "before": now.isoformat()}
    first = listed(api, name, orderBy='["timestamp"]', limit=3, **bounds)
    second = api("GET", first["next"].replace(api.url, "")).json()
    assert (len(first["results"]), numbers(second), second["next"]) == (3, [4], None), "one of the tie is never read"


def test_newest_first_ends_early(api: Client, posthog: EmulatorProcess) -> None:
    name = add(posthog, [*range(1, 7), 7200, 7300])
    found = listed(api, name, limit=10)
    assert (numbers(found), found["next"]) == ([0, 1, 2, 3, 4, 5], None), "six of ten in a minute are enough"
    assert len(listed(api, name, limit=13)["results"]) == 8
    assert len(listed(api, name, limit=10, orderBy='["timestamp"]')["results"]) == 8
    posthog.settings(events_limited=False)
    assert len(listed(api, name, limit=10)["results"]) == 8


def test_bounds_are_strict_and_a_day_is_the_default(api: Client, posthog: EmulatorProcess) -> None:
    now = ago(0)
    name = add(posthog, [10, 20, 30, 90_000], now)
    after, before = ((now - timedelta(seconds=age)).isoformat() for age in (30, 10))
    assert numbers(listed(api, name, after=after, before=before)) == [1]
    assert numbers(listed(api, name)) == [0, 1, 2]
    assert numbers(listed(api, name, after="2000-01-01", before="2000-06-01")) == []
    too_long = api.get("events/", params={"after": "2000-01-01"})
    assert (too_long.status_code, too_long.json()["code"]) == (500, "error")


def test_limits_and_offsets(api: Client, posthog: EmulatorProcess) -> None:
    start = ago(20 * 86_400).isoformat()
    found = api.get("events/", params={"limit": 5000, "after": start, "orderBy": '["timestamp"]'}).json()
    assert len(found["results"]) == 1000, "cut silently"
    posthog.settings(offset_seconds=0)
    name = add(posthog, [10, 20, 30, 40])
    second = listed(api, name, limit=2, offset=1, orderBy='["timestamp"]')
    assert numbers(second) == [2, 1]
    assert "offset=1" in second["next"], "and so the next page skips one, too"
    answer = api.get("events/?offset=50001")
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "Offset is deprecated. Max supported offset value is 50000",
    )
    assert api.get("events/?limit=x").status_code == 500
    posthog.settings(generation="A")
    old = api.get("events/", params={"limit": 5000, "after": start}).json()
    assert len(old["results"]) == 5000


def test_filters(api: Client, posthog: EmulatorProcess) -> None:
    name = add(posthog, [10, 20])
    wish = json.dumps([{"key": "n", "value": 1, "type": "event"}])
    assert numbers(listed(api, name, properties=wish)) == [1]
    assert listed(api, name, event="other")["results"] == []
    person = api.get(f"persons/?distinct_id={name}").json()["results"][0]["uuid"]
    assert len(api.get(f"events/?person_id={person}").json()["results"]) == 2
    text = api.get("events/", params={"distinct_id": name, "format": "csv"}).text
    assert text.splitlines()[0].startswith("distinct_id,elements_chain,event,id,")
    assert len(text.splitlines()) == 3


def test_one_event_and_values(api: Client, posthog: EmulatorProcess) -> None:
    assert api.get("events/x/").json() == {
        "detail": "Invalid UUID",
        "code": "invalid",
        "type": "validation_error",
    }
    unknown = str(uuid.uuid4())
    answer = api.get(f"events/{unknown}/")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"No events exist for event UUID {unknown}")
    assert api.get("events/values/").json()["detail"] == "You must provide a key"
    assert api.get("events/values/?key=plan").status_code == 400
    found = api.get("events/values/?key=currency&event_name=purchase").json()
    assert found == {"results": [{"name": "EUR"}], "refreshing": False}


@pytest.mark.parametrize(("method", "path"), [("POST", "events/"), ("DELETE", "events/x/")])
def test_nothing_can_be_changed(api: Client, method: str, path: str) -> None:
    assert api(method, path).status_code == 403


def test_rate_limits_of_events_are_their_own(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(rate_limit_per_minute=1, retry_after=False)
    assert [api.get("events/").status_code for _ in range(2)] == [200, 429]
    refused = api.get("events/")
    assert "Retry-After" not in refused.headers
    assert refused.json()["detail"].startswith("Request was throttled. Expected available in ")
    assert api.get("groups_types/").status_code == 200
