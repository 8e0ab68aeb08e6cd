"""The invented data: the same for a seed, quick to make, and as unpleasant as real events."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from airflow_provider_posthog.emulator.data import web_shop
from airflow_provider_posthog.emulator.data.warehouse import Warehouse
from airflow_provider_posthog.emulator.data.web_shop import default_start
from airflow_provider_posthog.emulator.state import State

START = datetime(2026, 5, 4, tzinfo=timezone.utc)
DAYS = 7
EVENTS = 6000


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(seed=5, events=EVENTS, start=START, days=DAYS)
    yield house
    house.close()


def rows(warehouse: Warehouse, query: str) -> list[list[Any]]:
    return warehouse.query(query, limit_context="export").rows


def everything(warehouse: Warehouse) -> list[list[list[Any]]]:
    tables = {
        "events": "toString(uuid)",
        "persons": "toString(id)",
        "person_distinct_ids": "distinct_id",
        "groups": "key",
    }
    extra = {"events": ", person_id"}
    return [
        rows(warehouse, f"select *{extra.get(table, '')} from {table} order by {key} limit 300000")
        for table, key in tables.items()
    ]


def test_a_seed_gives_the_same_data_to_the_byte(warehouse: Warehouse) -> None:
    again = Warehouse(seed=5, events=EVENTS, start=START, days=DAYS)
    other = Warehouse(seed=6, events=EVENTS, start=START, days=DAYS)
    try:
        assert everything(again) == everything(warehouse)
        ours, theirs = (
            {row[0] for row in rows(house, "select toString(uuid) from events limit 300000")}
            for house in (warehouse, other)
        )
        assert len(ours) == len(theirs) == EVENTS
        assert ours.isdisjoint(theirs)
    finally:
        again.close()
        other.close()


def test_all_events_lie_in_the_window(warehouse: Warehouse) -> None:
    end = START + timedelta(days=DAYS)
    assert warehouse.count_events(START, end) == EVENTS
    days = rows(warehouse, "select toDate(timestamp) as d, count() from events group by d order by d")
    assert [day for day, _ in days] == [(START + timedelta(days=number)).date().isoformat() for number in range(DAYS)]
    assert max(count for _, count in days) - min(count for _, count in days) <= EVENTS / DAYS / 10
    hours = dict(rows(warehouse, "select toHour(timestamp) as h, count() from events group by h"))
    assert hours[13] > 2 * hours[1]


def test_events_arrive_later_than_they_happen(warehouse: Warehouse) -> None:
    delayed = "countIf(created_at > timestamp + toIntervalHour(1))"
    query = f"select {delayed}, countIf(created_at <= timestamp), max(created_at) from events"
    late, early, latest = rows(warehouse, query)[0]
    assert 5 <= late <= 60
    assert early == 0
    assert datetime.fromisoformat(latest.replace("Z", "+00:00")) <= START + timedelta(days=DAYS)


def test_some_events_share_a_microsecond(warehouse: Warehouse) -> None:
    for column in ("timestamp", "created_at"):
        crowds = rows(warehouse, f"select {column}, count() as n from events group by {column} having n > 1 limit 9999")
        assert EVENTS / 200 < sum(count for _, count in crowds) < EVENTS / 5
    fractions = rows(warehouse, "select uniq(toUnixTimestamp64Milli(timestamp)), uniq(timestamp) from events")[0]
    assert fractions[1] > EVENTS * 0.9


def test_properties_are_json_with_everything_that_breaks_writers(warehouse: Warehouse) -> None:
    found = [json.loads(text) for (text,) in rows(warehouse, "select properties from events limit 300000")]
    assert len(found) == EVENTS
    for properties in found:
        assert {"$browser", "$os", "$current_url", "$lib", "$session_id", "note"} <= properties.keys()
    notes = {properties["note"] for properties in found}
    for sign in ('"', "'", ",", "\n", "\r", "\t", "\\", "💥", "%", "{", "="):
        assert any(sign in note for note in notes), sign
    bought = [properties for properties in found if "amount" in properties]
    assert bought[0]["shipping"]["address"] == {"city": "Zürich", "lines": [1, None]}
    assert isinstance(bought[0]["items"], list)
    assert {type(properties["amount"]) for properties in bought} <= {int, float}
    assert {properties.get("plan") for properties in found} == {None, "free", "pro", "enterprise"}


def test_event_names(warehouse: Warehouse) -> None:
    names = dict(rows(warehouse, "select event, count() from events group by event"))
    expected = {"$pageview", "$pageleave", "$autocapture", "$identify", "sign_up", "purchase", "Größe geändert"}
    assert expected <= names.keys()
    assert names["$pageview"] > names["$autocapture"] > names["purchase"] > 0
    assert sum(names.values()) == EVENTS


def test_persons(warehouse: Warehouse) -> None:
    people = {row[0]: row for row in rows(warehouse, "select id, properties, is_identified from persons limit 300000")}
    known = rows(warehouse, "select distinct_id, person_id from person_distinct_ids limit 300000")
    assert len(people) == EVENTS // 20
    assert {person for _, person in known} == people.keys()
    assert len({distinct_id for distinct_id, _ in known}) == len(known)
    per_person = Counter(person for _, person in known)
    assert set(per_person.values()) == {1, 2, 3}
    for _, text, identified in people.values():
        email = json.loads(text).get("email", "")
        assert email.endswith("@example.invalid") if identified else not email
    assert {row[2] for row in people.values()} == {0, 1}


def test_events_belong_to_persons_through_their_distinct_ids(warehouse: Warehouse) -> None:
    known = dict(rows(warehouse, "select distinct_id, person_id from person_distinct_ids limit 300000"))
    events = rows(warehouse, "select distinct_id, person_id, person_mode, person.id from events limit 300000")
    personless = [row for row in events if row[0].startswith("anon-")]
    assert EVENTS / 20 < len(personless) < EVENTS / 5
    for distinct_id, person, mode, joined in events:
        if distinct_id.startswith("anon-"):
            assert (mode, joined) == ("propertyless", "00000000-0000-0000-0000-000000000000")
            assert person not in known.values()
        else:
            assert known[distinct_id] == person == joined
    assert any(distinct_id.startswith("device-") for distinct_id, *_ in events)


def test_uuids_of_events_begin_with_their_milliseconds(warehouse: Warehouse) -> None:
    for text, millis in rows(
        warehouse, "select toString(uuid), toUnixTimestamp64Milli(timestamp) from events limit 500"
    ):
        assert int(text[:8] + text[9:13], 16) == millis
        assert text[14] == "7"


def test_sessions_hold_events_of_one_person(warehouse: Warehouse) -> None:
    mixed = "select $session_id, uniq(person_id) as n from events group by $session_id having n > 1"
    assert rows(warehouse, mixed) == []
    assert (
        rows(warehouse, "select sum($pageview_count) from sessions")[0]
        == rows(warehouse, "select countIf(event = '$pageview') from events")[0]
    )


def test_the_default_window_ends_with_yesterday() -> None:
    house = Warehouse(events=300, days=3)
    try:
        start = default_start(3)
        assert start.tzinfo is not None
        assert start + timedelta(days=3) <= datetime.now(timezone.utc) < start + timedelta(days=4, minutes=1)
        assert house.count_events(start, start + timedelta(days=3)) == 300
    finally:
        house.close()


@pytest.mark.parametrize("start", [None, START])
def test_a_reset_after_midnight_makes_data_that_end_yesterday_again(
    monkeypatch: pytest.MonkeyPatch, start: datetime | None
) -> None:
    today, day = default_start(0), timedelta(days=1)
    monkeypatch.setattr(web_shop, "default_start", lambda days: today - (days + 1) * day)  # before midnight
    house = Warehouse(events=300, days=3, start=start)
    try:
        state = State(house, 7)
        monkeypatch.setattr(web_shop, "default_start", lambda days: today - days * day)  # and after it
        _leave_something(state, today)
        state.people.restore()
        state.reset()
        first = start or today - 3 * day
        assert house.count_events(first, first + 3 * day) == 300
        assert house.count_events(first + 2 * day, first + 3 * day) > 0
        assert rows(house, "select count() from events") == [[300]]
        assert len(state.people.tables.persons()) == 15
        _leave_something(state, today)
        state.people.restore()
        assert rows(house, "select count() from events") == [[300]]
    finally:
        house.close()


def _leave_something(state: State, at: datetime) -> None:
    event = {"event": "mine", "distinct_id": "a", "person_id": UUID(int=1), "properties": {}}
    state.warehouse.insert_events([{"uuid": UUID(int=2), "timestamp": at, "created_at": at, **event}])


@pytest.mark.parametrize("events", [0, 1, 7])
def test_small_projects(events: int) -> None:
    house = Warehouse(events=events, start=START, days=1)
    try:
        assert rows(house, "select count() from events") == [[events]]
        assert rows(house, "select count() from persons") == [[min(events, 1)]]
    finally:
        house.close()


def test_twenty_thousand_events_take_little_work() -> None:
    Warehouse(events=0).close()  # ClickHouse itself is there
    began = time.process_time()
    house = Warehouse()
    took = time.process_time() - began
    assert rows(house, "select count() from events") == [[20_000]]
    house.close()
    assert took < 3, f"{took:.1f} s"  # 0.2 s on a quiet machine
