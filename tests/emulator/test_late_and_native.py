"""Events that are seen late, and properties that are stored as text."""

from __future__ import annotations

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client


def test_captured_events_are_seen_late_if_one_asks_for_it(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(event_lag_seconds=60)
    posthog.capture([{"event": "late", "distinct_id": "ada", "timestamp": "2026-11-20T10:00:00Z"}])
    seen = "SELECT count(), min(created_at) < now() FROM events WHERE event = 'late'"
    assert api.query(seen).json()["results"][0][0] == 0
    # the person is there at once
    assert api.query("SELECT count() FROM persons WHERE pdi.distinct_id = 'ada'").json()["results"] == [[1]]
    posthog.advance(59)
    assert api.query(seen).json()["results"][0][0] == 0
    before = posthog.control("GET", "clock")["now"]
    posthog.advance(2)
    answer = api.query("SELECT toString(created_at) < {now} FROM events WHERE event = 'late'", now=before)
    assert answer.json()["results"] == [[1]], "it arrived when it was sent"


def test_what_is_still_to_be_seen_is_gone_after_a_reset(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(event_lag_seconds=60)
    posthog.capture([{"event": "late", "distinct_id": "ada"}])
    posthog.reset()
    posthog.advance(120)
    assert api.query("SELECT count() FROM events WHERE event = 'late'").json()["results"] == [[0]]


def test_native_json_makes_text_of_common_names(api: Client, posthog: EmulatorProcess) -> None:
    properties = {"context": {"x": [1, None]}, "revenue": 5, "query": "as it was", "id": None, "other": {"x": 1}}
    read = (
        "SELECT JSONExtractRaw(properties, 'context'), JSONExtractRaw(properties, 'revenue'), "
        "JSONExtractRaw(properties, 'query'), JSONExtractRaw(properties, 'id'), JSONExtractRaw(properties, 'other') "
        "FROM events WHERE event = 'nested'"
    )
    for native, context, revenue in ((False, '{"x":[1,null]}', "5"), (True, '"{\\"x\\": [1, null]}"', '"5"')):
        posthog.settings(native_json=native)
        posthog.capture([{"event": "nested", "distinct_id": "ada", "properties": properties}])
        rest = ['"as it was"', "null", '{"x":1}']
        rows = api.query(read).json()["results"]
        assert [context, revenue, *rest] in [[str(value).replace(": 1}", ":1}") for value in row] for row in rows]
        posthog.reset()
