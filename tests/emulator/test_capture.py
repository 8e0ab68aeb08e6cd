"""How the emulator takes events in: what PostHog's capture says of each, and what becomes of it afterwards."""

from __future__ import annotations

import gzip
import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client

NAMES = ("PostHog-Sdk-Info", "PostHog-Attempt", "PostHog-Request-Id", "PostHog-Request-Timestamp")
AT = "2026-11-01T12:00:00.123456Z"


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "event": "order",
        "uuid": str(uuid.UUID(int=number, version=4)),
        "distinct_id": f"buyer {number}",
        "timestamp": AT,
        "options": {"disable_skew_correction": True},
        "properties": {"n": number},
        **changes,
    }


class Capture:
    """Sends events as a client does that knows nothing of ours."""

    def __init__(self, posthog: EmulatorProcess) -> None:
        self.url, self.token = posthog.url, posthog.project_token
        self.api = Client(posthog.url, posthog.api_key)

    def v1(self, *events: Any, headers: dict[str, str] | None = None, **body: Any) -> requests.Response:
        now = datetime.now(timezone.utc).isoformat()
        sent = {"Authorization": f"Bearer {self.token}", **dict.fromkeys(NAMES, "1"), NAMES[3]: now, **(headers or {})}
        whole = json.dumps({"created_at": now, "batch": list(events), **body}).encode()
        packed = {"Content-Type": "application/json", "Content-Encoding": "gzip", **sent}
        return requests.post(f"{self.url}/i/v1/analytics/events", gzip.compress(whole), headers=packed, timeout=30)

    def results(self, *events: Any, headers: dict[str, str] | None = None, **body: Any) -> list[tuple[str, str]]:
        answer = self.v1(*events, headers=headers, **body)
        assert answer.status_code == 200, answer.text
        found = answer.json()["results"]
        return [(found[each["uuid"]]["result"], found[each["uuid"]].get("details", "")) for each in events]

    def batch(self, *events: Any, token: str | None = None) -> requests.Response:
        return requests.post(f"{self.url}/batch/", json={"api_key": token or self.token, "batch": events}, timeout=30)

    def rows(self, what: str = "count()", where: str = "1 = 1") -> list[list[Any]]:
        sql = f"SELECT {what} FROM events WHERE event IN ('order', '$set') AND {where} LIMIT 100"
        return self.api.query(sql).json()["results"]  # type: ignore[no-any-return]


@pytest.fixture
def capture(posthog: EmulatorProcess) -> Capture:
    return Capture(posthog)


def test_an_event_that_was_taken_can_be_queried(capture: Capture) -> None:
    assert capture.results(event()) == [("ok", "")]
    ((found, at, who, n),) = capture.rows("toString(uuid), timestamp, distinct_id, properties.n")
    assert (found, who, n) == (event()["uuid"], "buyer 1", "1")
    assert at.startswith("2026-11-01T12:00:00.123456")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"event": ""}, "missing_event_name"),
        ({"event": "x" * 201}, "event_name_too_long"),
        ({"event": "$performance_event"}, "dropped_performance_event"),
        ({"distinct_id": " "}, "missing_distinct_id"),
        ({"distinct_id": "x" * 201}, "distinct_id_too_large"),
        ({"distinct_id": " NULL "}, "malformed_distinct_id"),
        ({"timestamp": "2026-11-01T12:00:00"}, "invalid_event_timestamp"),
        ({"properties": "{}"}, "malformed_event_properties"),
        ({"options": {"process_person_profile": "no"}}, "invalid_options"),
    ],
)
def test_what_is_wrong_with_one_event_drops_it_or_fails_its_batch(
    posthog: EmulatorProcess, capture: Capture, changes: dict[str, Any], word: str
) -> None:
    assert capture.results(event(1, **changes), event(2)) == [("drop", word), ("ok", "")]
    posthog.settings(capture_refusals="batch")
    answer = capture.v1(event(3, **changes), event(4))
    assert (answer.status_code, answer.json()["error"]) == (400, word)
    assert capture.rows() == [[1]]


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([], "empty_batch"),
        ([event(1), event(1, distinct_id="other")], "duplicate_event_uuid"),
        ([event(1, uuid="")], "missing_event_uuid"),
        ([event(1, uuid="seven")], "invalid_event_uuid"),
    ],
)
def test_some_mistakes_always_fail_a_batch(capture: Capture, events: list[Any], word: str) -> None:
    answer = capture.v1(*events)
    assert (answer.status_code, answer.json()["error"]) == (400, word)


def test_headers_token_and_content_type_are_needed(capture: Capture) -> None:
    assert capture.v1(event(), headers={"Authorization": "Bearer phc_other"}).status_code == 401
    assert capture.v1(event(), headers={NAMES[1]: ""}).json()["error"] == "missing_required_headers"
    assert capture.v1(event(), headers={"Content-Type": "text/plain"}).status_code == 415
    assert capture.batch(event(), token="phc_other").status_code == 401
    large = event(properties={"x": "y" * 20_000_000})
    assert (capture.v1(large).status_code, capture.batch(large).status_code) == (413, 413)


def test_each_verdict_can_be_had(posthog: EmulatorProcess, capture: Capture) -> None:
    posthog.settings(restricted_events=["secret"], capture_burst=1)
    same = {"distinct_id": "busy"}
    said = capture.results(event(1, event="secret"), event(2, **same), event(3, **same))
    assert said == [("drop", "event_restriction_drop"), ("ok", ""), ("warning", "person_processing_disabled")]
    posthog.settings(restricted_events=[], capture_burst=None, historical_only=True)
    assert capture.results(event(4)) == [("drop", "non_historical_import_drop")]
    assert capture.results(event(4), historical_migration=True) == [("ok", "")]
    posthog.settings(historical_only=False, capture_retries=1)
    answer = capture.v1(event(5))
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["results"][event(5)["uuid"]] == {"result": "retry", "details": "not_persisted"}
    assert capture.results(event(5)) == [("ok", "")]
    posthog.settings(capture_retries=0, capture_quota=5)
    assert capture.results(event(6), event(7)) == [("ok", ""), ("ok", "")]
    assert capture.results(event(8)) == [("drop", "billing_limit_exceeded")]


def test_batch_answers_200_whatever_becomes_of_an_event(posthog: EmulatorProcess, capture: Capture) -> None:
    posthog.settings(capture_quota=1)
    for sent in (event(1), event(2), event(3, distinct_id=""), event(4, distinct_id="null")):
        assert capture.batch(sent).json() == {"status": "Ok"}
    assert capture.rows() == [[1]]


def test_an_older_server_has_batch_alone(posthog: EmulatorProcess, capture: Capture) -> None:
    posthog.settings(capture_v1=False)
    assert capture.v1(event()).status_code == 404
    assert capture.batch(event()).status_code == 200
    assert capture.rows() == [[1]]


def test_ingestion_takes_its_time(posthog: EmulatorProcess, capture: Capture) -> None:
    posthog.settings(ingestion_seconds=120)
    capture.results(event())
    assert capture.rows() == [[0]]
    posthog.advance(121)
    assert capture.rows() == [[1]]


def test_rows_of_the_same_key_become_one_and_the_newest_stays(posthog: EmulatorProcess, capture: Capture) -> None:
    posthog.settings(merge_seconds=60)
    capture.results(event(1))
    capture.results(event(1, properties={"n": 9}))
    assert capture.rows("count(), count(DISTINCT uuid)") == [[2, 1]]
    posthog.advance(61)
    assert capture.rows("properties.n") == [["9"]]
    capture.results(event(1, timestamp="2026-11-02T12:00:00Z"))
    posthog.advance(61)
    assert capture.rows("count(), count(DISTINCT uuid)") == [[2, 1]], "of another day it is another row"


def test_a_server_can_take_everything_and_keep_nothing_or_lose_some(posthog: EmulatorProcess, capture: Capture) -> None:
    posthog.settings(capture="lost")
    assert capture.results(event(1)) == [("ok", "")]
    posthog.settings(capture="stored", lost_uuids=[event(2)["uuid"]])
    assert capture.results(event(2), event(3)) == [("ok", ""), ("ok", "")]
    assert capture.rows("toString(uuid)") == [[event(3)["uuid"]]]
    posthog.settings(capture="refused")
    assert capture.v1(event(4)).status_code == 503
    assert capture.batch(event(4)).status_code == 500


def test_a_sender_s_clock_moves_times_unless_it_is_told_not_to(posthog: EmulatorProcess, capture: Capture) -> None:
    ahead = (datetime.now(timezone.utc) + timedelta(hours=2)).isoformat()
    capture.results(event(1), event(2, options={}), headers={NAMES[3]: ahead})
    hours = capture.rows("toHour(timestamp)", "1 = 1 ORDER BY distinct_id")
    assert hours[0] == [12]
    assert hours[1][0] in (9, 10)


def test_persons_and_groups_change(capture: Capture) -> None:
    set_ = {"event": "$set", "distinct_id": "ann"}
    capture.results(event(1, **set_, properties={"$set": {"plan": "a", "old": 1}, "$set_once": {"first": 1}}))
    capture.results(event(2, **set_, properties={"$set": {"plan": "b"}, "$set_once": {"first": 2}, "$unset": ["old"]}))
    (person,) = capture.api.get("persons/?distinct_id=ann").json()["results"]
    assert person["properties"] == {"plan": "b", "first": 1}
    group = {"$group_type": "company", "$group_key": "new", "$group_set": {"size": 3}}
    capture.results(event(3, event="$groupidentify", distinct_id="company_new", properties=group))
    found = capture.api.get("groups/find/?group_type_index=0&group_key=new").json()
    assert found["group_properties"] == {"size": 3}


def test_two_ids_become_one_person(capture: Capture) -> None:
    capture.results(event(1, distinct_id="ann"), event(2, distinct_id="guest-7"))
    capture.results(event(3, event="$merge_dangerously", distinct_id="ann", properties={"alias": "guest-7"}))
    (person,) = capture.api.get("persons/?distinct_id=guest-7").json()["results"]
    assert person["distinct_ids"] == ["ann", "guest-7"]


def test_an_event_without_a_person_makes_none(capture: Capture) -> None:
    options = {"disable_skew_correction": True, "process_person_profile": False}
    capture.results(event(1, distinct_id="nobody", options=options))
    assert capture.api.get("persons/?distinct_id=nobody").json()["results"] == []
    assert capture.rows() == [[1]]
