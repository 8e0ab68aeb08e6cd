"""Funnels and retention, computed of events that a test has made."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client

ANN, BEN, CAT = (str(uuid.UUID(int=number, version=4)) for number in (1, 2, 3))
# person, event, time on one of the first days of 2020, browser
EVENTS = [
    (ANN, "f sign up", "01T10:00:00", "Chrome"),
    (ANN, "f buy", "01T10:00:20", None),
    (ANN, "f buy", "01T11:00:00", None),
    (ANN, "f return", "03T09:00:00", None),
    (BEN, "f buy", "01T08:00:00", "Safari"),
    (BEN, "f sign up", "01T09:00:00", "Safari"),
    (BEN, "f buy", "01T09:00:40", "Safari"),
    (BEN, "f sign up", "02T09:00:00", "Safari"),
    (BEN, "f return", "02T10:00:00", None),
    (CAT, "f sign up", "01T12:00:00", None),
    (CAT, "f buy", "04T12:00:00", None),
    (CAT, "f return", "01T13:00:00", None),
]
SPAN = {"date_from": "2020-01-01", "date_to": "2020-01-05"}
STEPS = [{"kind": "EventsNode", "event": "f sign up"}, {"kind": "EventsNode", "event": "f buy", "custom_name": "Paid"}]
ENTITIES = {
    "targetEntity": {"id": "f sign up", "type": "events"},
    "returningEntity": {"id": "f return", "type": "events"},
}


@pytest.fixture(scope="module")
def made() -> Iterator[Client]:
    with EmulatorProcess(events=2000, days=3, export_seconds=0.1) as posthog:
        events = [
            {
                "uuid": str(uuid.uuid4()),
                "event": event,
                "distinct_id": person,
                "person_id": person,
                "timestamp": f"2020-01-{at}Z",
                "created_at": f"2020-01-{at}Z",
                "properties": {"$browser": browser} if browser else {},
            }
            for person, event, at, browser in EVENTS
        ]
        posthog.add_events(events)
        yield Client(posthog.url, posthog.api_key)


def run(api: Client, kind: str, **options: Any) -> Any:
    answer = api.post("query/", {"query": {"kind": kind, "dateRange": SPAN, **options}, "refresh": "force_blocking"})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def counts(steps: list[dict[str, Any]]) -> list[int]:
    return [step["count"] for step in steps]


def test_an_ordered_funnel(made: Client) -> None:
    first, second = run(made, "FunnelsQuery", series=STEPS)
    assert (first["count"], first["action_id"], first["order"], first["average_conversion_time"]) == (
        3,
        "f sign up",
        0,
        None,
    )
    # Ann 20 s, Ben 40 s (what he bought before does not count), Cat 3 days
    assert (second["count"], second["name"], second["custom_name"]) == (3, "f buy", "Paid")
    assert second["average_conversion_time"] == pytest.approx((20 + 40 + 3 * 86400) / 3)
    assert second["median_conversion_time"] == 40


def test_the_window_of_a_funnel(made: Client) -> None:
    day = run(made, "FunnelsQuery", series=STEPS, funnelsFilter={"funnelWindowInterval": 1})
    assert counts(day) == [3, 2]
    half_minute = {"funnelWindowInterval": 30, "funnelWindowIntervalUnit": "second"}
    assert counts(run(made, "FunnelsQuery", series=STEPS, funnelsFilter=half_minute)) == [3, 1]


def test_steps_are_not_shared_and_any_event_is_a_step(made: Client) -> None:
    buy, sign_up, anything = STEPS[1], STEPS[0], {"kind": "EventsNode", "event": None}
    assert counts(run(made, "FunnelsQuery", series=[buy, buy])) == [3, 2], "one event is not two steps"
    assert counts(run(made, "FunnelsQuery", series=[sign_up, anything])) == [3, 3]
    nobody = {"kind": "EventsNode", "event": "never"}
    steps = run(made, "FunnelsQuery", series=[nobody, buy])
    assert counts(steps) == [0, 0]
    assert steps[1]["average_conversion_time"] is None


def test_a_funnel_by_breakdown(made: Client) -> None:
    found = run(made, "FunnelsQuery", series=STEPS, breakdownFilter={"breakdown": "$browser"})
    assert {group[0]["breakdown_value"][0]: counts(group) for group in found} == {
        "Chrome": [1, 1],
        "Safari": [1, 1],
        "": [1, 1],
    }
    assert all(step["breakdown"] == step["breakdown_value"] for group in found for step in group)
    short = {
        "breakdownFilter": {"breakdowns": [{"property": "$browser"}]},
        "funnelsFilter": {"funnelWindowInterval": 1},
    }
    assert counts(run(made, "FunnelsQuery", series=STEPS, **short)[-1]) == [1, 0]
    assert run(made, "FunnelsQuery", series=[{"kind": "EventsNode", "event": "never"}] * 2, **short) == []


def test_retention_by_day(made: Client) -> None:
    found = run(made, "RetentionQuery", retentionFilter={**ENTITIES, "totalIntervals": 3})
    assert [item["date"] for item in found] == [f"2020-01-0{day}T00:00:00Z" for day in range(1, 6)]
    assert [[value["count"] for value in item["values"]] for item in found] == [
        [3, 1, 1],
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert (found[1]["label"], found[1]["values"][2]["label"]) == ("Day 1", "Day 2")
    once = {**ENTITIES, "totalIntervals": 3, "retentionType": "retention_first_time"}
    first_time = run(made, "RetentionQuery", retentionFilter=once)
    assert [item["values"][0]["count"] for item in first_time] == [3, 0, 0, 0, 0]
    later = {"date_from": "2020-01-02", "date_to": "2020-01-05"}
    assert run(made, "RetentionQuery", retentionFilter=once, dateRange=later)[0]["values"][0]["count"] == 0, (
        "no newcomer"
    )


@pytest.mark.parametrize(("period", "rows"), [("Hour", 24), ("Week", 1), ("Month", 1)])
def test_other_periods(made: Client, period: str, rows: int) -> None:
    span = {"date_from": "2020-01-01", "date_to": "2020-01-01"}
    options = {"retentionFilter": {**ENTITIES, "period": period, "totalIntervals": 5}, "dateRange": span}
    found = run(made, "RetentionQuery", **options)
    assert len(found) == rows
    assert sum(item["values"][0]["count"] for item in found) == 3
    back = [value["count"] for item in found for value in item["values"][1:]]
    # Cat came back within the hour after hers
    assert sum(back) == (1 if period == "Hour" else 0)


def test_defaults_end_now(api: Client) -> None:
    answer = api.post("query/", {"query": {"kind": "RetentionQuery", "retentionFilter": {}}}).json()["results"]
    assert len(answer) == len(answer[0]["values"]) == 7
    assert answer[0]["values"][0]["count"] > 100
    assert answer[0]["values"][1]["count"] > 10


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_periods_are_the_projects(api: Client, posthog: EmulatorProcess, zone: str) -> None:
    posthog.settings(timezone=zone)
    answer = api.post("query/", {"query": {"kind": "RetentionQuery", "retentionFilter": {"totalIntervals": 4}}}).json()
    item = answer["results"][0]
    assert item["date"][11:19] == "00:00:00"
    sql = (
        "select count(distinct person_id) from events where event = '$pageview' and timestamp >= toDateTime({d}) "
        "and timestamp < toDateTime({d}) + toIntervalDay(1)"
    )
    assert api.query(sql, d=item["date"]).json()["results"] == [[item["values"][0]["count"]]]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("FunnelsQuery", {"series": STEPS[:1]}),
        ("FunnelsQuery", {"series": STEPS, "funnelsFilter": {"funnelOrderType": "unordered"}}),
        ("FunnelsQuery", {"series": STEPS, "funnelsFilter": {"funnelVizType": "trends"}}),
        ("FunnelsQuery", {"series": STEPS, "funnelsFilter": {"exclusions": [{"event": "x"}]}}),
        ("FunnelsQuery", {"series": STEPS, "funnelsFilter": {"funnelWindowIntervalUnit": "year"}}),
        ("FunnelsQuery", {"series": STEPS, "breakdownFilter": {"breakdown": 3, "breakdown_type": "cohort"}}),
        ("FunnelsQuery", {"series": STEPS, "breakdownFilter": {"breakdown": ["a", "b"]}}),
        ("FunnelsQuery", {"series": STEPS, "properties": [{"key": "x"}]}),
        ("FunnelsQuery", {"series": [*STEPS, {"kind": "ActionsNode", "id": 1}]}),
        ("RetentionQuery", {"retentionFilter": {"period": "Year"}}),
        ("RetentionQuery", {"retentionFilter": {"totalIntervals": 0.5}}),
        ("RetentionQuery", {"retentionFilter": {"retentionCustomBrackets": [1, 2]}}),
        ("RetentionQuery", {"retentionFilter": {"retentionType": "retention_first_ever_occurrence"}}),
        ("RetentionQuery", {"retentionFilter": {"targetEntity": {"id": 1, "type": "actions"}}}),
        ("RetentionQuery", {"dateRange": {"date_from": "whenever"}}),
        ("RetentionQuery", {"breakdownFilter": {"breakdown": "$browser"}}),
        ("LifecycleQuery", {"series": STEPS}),
        ("StickinessQuery", {"series": STEPS}),
    ],
)
def test_what_can_not_be_computed_is_refused(api: Client, kind: str, options: dict[str, Any]) -> None:
    answer = api.post("query/", {"query": {"kind": kind, **options}})
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


def test_exports(made: Client) -> None:
    lines = made.table(
        {"kind": "FunnelsQuery", "series": STEPS, "dateRange": SPAN, "breakdownFilter": {"breakdown": "$os"}}
    )
    assert lines[0] == (
        "name,breakdown_value,action_id,count,median_conversion_time (seconds),average_conversion_time (seconds)"
    )
    assert lines[1].startswith("f sign up,,f sign up,3,")
    options = {"retentionFilter": {**ENTITIES, "totalIntervals": 2}, "dateRange": SPAN}
    lines = made.table({"kind": "RetentionQuery", **options})
    assert lines[:2] == ["cohort,cohort size,Day 0,Day 1", "2020-01-01 00:00:00+00:00,3,3,1"]


def test_insights_of_the_first_years(made: Client) -> None:
    events = [{"id": "f buy", "order": 1}, {"id": "f sign up", "order": 0}]
    funnel = {"insight": "FUNNELS", "events": events, **SPAN, "funnel_window_interval": 1}
    retention = {"insight": "RETENTION", "target_entity": ENTITIES["targetEntity"], "total_intervals": 2, **SPAN}
    ids = [made.post("insights/", {"filters": filters}).json()["id"] for filters in (funnel, retention)]
    steps, cohorts = (made.get(f"insights/{number}/?refresh=force_blocking").json()["result"] for number in ids)
    assert counts(steps) == [3, 2]
    assert cohorts[0]["values"][0]["count"] == 3
