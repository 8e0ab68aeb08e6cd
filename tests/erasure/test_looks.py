"""When an erasure is looked at, what a look costs, and how often nothing has to be found before it is proved."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.erasure.counts import _spans
from airflow_provider_posthog.erasure.schedule import Looks, after_sweep
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogError
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor
from tests.erasure.support import DAY, HOUR, Lab, ago

pytestmark = pytest.mark.reliability

START = datetime(2026, 6, 3, 11, 30, tzinfo=timezone.utc)  # a Wednesday
NOTHING = {"results": [], "columns": [], "types": [], "hasMore": False, "is_cached": False}


def queries(lab: Lab) -> list[str]:
    return [call["body"]["query"]["query"] for call in lab.posthog.calls("query")]


def of_events(lab: Lab) -> list[str]:
    return [sql for sql in queries(lab) if "FROM events" in sql]


# -- two clean looks -----------------------------------------------------------------------------------------------


def test_one_clean_look_is_no_proof(lab: Lab) -> None:
    lab.delete()
    lab.posthog.advance(8 * DAY)
    sensor = lab.sensor(poke_interval=HOUR)
    first = sensor.look({})
    assert (first.verdict.state, dict(first.facts["states"])) == ("pending", {"VERIFIED": 1})
    assert "second look" in first.verdict.reason
    assert lab.sensor(poke_interval=HOUR).look({}).verdict.state == "pending", "not an interval later"
    lab.posthog.advance(HOUR + 1)
    assert lab.sensor(poke_interval=HOUR).look({}).verdict.state == "succeeded"


def test_a_replica_that_shows_nothing_once_proves_nothing(lab: Lab) -> None:
    lab.posthog.settings(generation="B")
    lab.delete()
    lab.posthog.faults(path="*/query/", status=200, body=NOTHING, count=-1)
    sensor = lab.sensor()
    assert sensor.look({}).verdict.state == "pending"
    lab.posthog.clear_faults()
    found = sensor.look({})
    assert (found.verdict.state, dict(found.facts["states"])) == ("pending", {"EVENTS_PENDING": 1})
    lab.posthog.advance(8 * DAY)
    assert sensor.look({}).verdict.state == "pending", "the look before was not clean, so this is the first"
    assert sensor.look({}).verdict.state == "succeeded"


def test_a_look_that_failed_in_between_makes_the_next_clean_one_the_first(lab: Lab) -> None:
    """A cleared task begins anew: what a replica shows after that is no second witness."""
    lab.delete()
    lab.posthog.advance(8 * DAY)
    assert lab.sensor().look({}).verdict.state == "pending"
    lab.old_event(lab.person, lab.name)
    assert lab.sensor().look({}).verdict.state == "failed"
    lab.posthog.faults(path="*/query/", status=200, body=NOTHING, count=-1)
    assert lab.sensor().look({}).verdict.state == "pending"
    lab.posthog.clear_faults()


def test_uuids_alone_are_looked_at_twice_in_one_poke(lab: Lab) -> None:
    lab.delete()
    lab.posthog.advance(8 * DAY)
    lab.posthog.control("DELETE", "calls")
    assert lab.sensor(request=[lab.person]).look({}).verdict.state == "succeeded"
    assert len(of_events(lab)) == 2


# -- keep_person ---------------------------------------------------------------------------------------------------


def test_a_profile_that_was_to_be_kept_is_looked_for(lab: Lab) -> None:
    lab.wish = {"keep_person": True}
    lab.delete()
    lab.posthog.advance(8 * DAY)
    assert lab.look() == "VERIFIED"
    assert lab.raw.post("persons/bulk_delete/", {"ids": [lab.person]}).status_code == 202
    lab.posthog.advance(HOUR)
    assert lab.look() == "PARTIAL"
    with pytest.raises(PostHogErasureError, match="was to be kept, and is gone"):
        lab.sensor().execute({})


# -- what a look reads ---------------------------------------------------------------------------------------------


def test_a_look_counts_along_posthogs_key_and_the_proof_in_the_whole_history(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(PostHogPersonsErasedSensor, "log", logging.getLogger("looks"))
    lab.delete()
    lab.posthog.control("DELETE", "calls")
    assert lab.look() == "EVENTS_PENDING"
    for sql in of_events(lab):
        assert "cityHash64(distinct_id) IN" in sql
        assert "timestamp >= toDateTime({s0})" in sql
        assert "person_id" not in sql
    lab.posthog.advance(8 * DAY)
    lab.posthog.control("DELETE", "calls")
    assert lab.look() == "VERIFIED"
    assert sum("toString(person_id) IN" in sql for sql in of_events(lab)) == 2, "in both looks of the proof"
    assert sum("{s0}" in sql for sql in of_events(lab)) == 1, "the second look needs none along the key"
    told = caplog.text
    assert [told.count(f"{what} of events was looked at; ClickHouse read") for what in ("part", "history")] == [1, 2]


def test_a_profile_that_is_still_there_is_reason_enough_to_count_no_events(lab: Lab) -> None:
    lab.posthog.settings(generation="C", persons_queued=True, person_deletion_seconds=300)
    lab.delete()
    lab.posthog.control("DELETE", "calls")
    assert lab.look() == "REQUESTED"
    assert of_events(lab) == []


def test_events_under_another_distinct_id_are_found_by_the_proof(lab: Lab) -> None:
    """Along the key nobody sees them: they carry the person's UUID, and a distinct id that nobody knew."""
    lab.delete()
    lab.posthog.advance(8 * DAY)
    lab.old_event(lab.person, f"unknown-{uuid.uuid4()}")
    assert lab.look() == "SURVIVORS"


def test_events_far_apart_are_counted_where_they_were(lab: Lab) -> None:
    lab.event(timestamp=ago(days=300), created_at=ago(days=300))
    lab.event(timestamp=ago(days=200), created_at=ago(days=200))
    lab.delete()
    assert lab.look() == "EVENTS_PENDING"
    found = lab.sensor().look({})
    assert found.facts["events"] == 3


@pytest.mark.parametrize("status", [504, 512])
def test_a_count_that_is_too_much_at_once_is_split(lab: Lab, status: int) -> None:
    lab.event(timestamp=ago(days=400), created_at=ago(days=400))
    found = lab.resolve()
    assert found["events"] == 2
    lab.posthog.control("DELETE", "calls")
    lab.resolve()
    body = {"type": "server_error", "code": "error", "detail": "too large", "attr": None}
    place = next(number for number, sql in enumerate(queries(lab)) if "toString(person_id) IN {uuids}" in sql)
    lab.posthog.control("DELETE", "calls")
    lab.posthog.faults(path="*/query/", status=status, body=body, skip=place, count=1)
    again = lab.resolve()
    lab.posthog.clear_faults()
    assert (again["events"], again["newest_event"]) == (found["events"], found["newest_event"])
    parts = [sql for sql in of_events(lab) if "toString(person_id) IN {uuids}" in sql]
    assert [("{s0}" in sql, "{e0}" in sql) for sql in parts] == [
        (False, False),
        (False, True),
        (True, True),
        (True, False),
    ]


TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(timezone.utc))


@given(st.lists(st.tuples(TIMES, TIMES).map(sorted), max_size=60), TIMES)
def test_spans_hold_every_event_and_are_few(had: list[list[datetime]], since: datetime) -> None:
    people = [Person("u", ("x",), oldest_event=first.isoformat(), newest_event=last.isoformat()) for first, last in had]
    spans = _spans(people, since)
    assert len(spans) <= 25
    assert spans[-1][1] is None
    assert all(end is not None and end < spans[place + 1][0] for place, (_, end) in enumerate(spans[:-1]))
    for moment in [since, *(each for both in had for each in both)]:
        assert any(start <= moment and (end is None or moment < end) for start, end in spans)  # type: ignore[operator]


@pytest.mark.parametrize("place", range(12))
def test_any_search_in_events_may_be_split_once(lab: Lab, place: int) -> None:
    """Whichever of the queries is too much for the server: the same persons and events are found, or it is an error."""
    lab.names.append(lab.email.upper())
    lab.event(lab.email.upper(), properties={"$process_person_profile": False})
    whole = lab.resolve()
    body = {"type": "server_error", "code": "error", "detail": "too large", "attr": None}
    lab.posthog.control("DELETE", "calls")
    lab.posthog.faults(path="*/query/", status=512, body=body, skip=place, count=1)
    try:
        again = lab.resolve()
    except PostHogError:
        failed = [
            sql for call, sql in zip(lab.posthog.calls("query"), queries(lab), strict=True) if call["status"] == 512
        ]
        assert "FROM events" not in failed[0]
        return
    finally:
        lab.posthog.clear_faults()
    names = ("persons", "profiles", "personless", "events", "distinct_ids")
    assert {name: again[name] for name in names} == {name: whole[name] for name in names}


# -- when ----------------------------------------------------------------------------------------------------------


def simulated(
    days: int, interval: timedelta, changes: dict[timedelta, tuple[int, ...]], clean: timedelta
) -> list[timedelta]:
    """When looks count events; from a moment on nothing is left, and the second look that finds nothing ends it."""
    looks, at = Looks(), []
    now, picture = START, (1000, 0)
    waiting = sorted(changes.items())
    while now - START < timedelta(days=days):
        while waiting and now - START >= waiting[0][0]:
            picture = waiting.pop(0)[1]
        if looks.is_due(now, picture, interval):
            at.append(now - START)
            if looks.clean_at:
                break
            looks = Looks.of(looks.looked(now, picture, clean=now - START >= clean).as_json())
        now += interval
    return at


NEVER = timedelta(days=999)


@pytest.mark.parametrize("minutes", [1, 10, 60, 360, 1440])
def test_a_month_of_waiting_takes_at_most_twelve_counts(minutes: int) -> None:
    interval = timedelta(minutes=minutes)
    completed = after_sweep(START + timedelta(days=21)) - START - timedelta(hours=20)
    changes = {timedelta(minutes=20): (0, 0), completed: (0, 20)}
    assert len(simulated(30, interval, changes, completed)) + 1 <= 12, "the first clean one looks twice"
    at = simulated(30, interval, changes, NEVER)
    assert len(at) <= 12, "even if PostHog calls it complete, and leaves all events"
    assert min(after - timedelta(minutes=20) for after in at if after >= timedelta(minutes=20)) < interval


@settings(max_examples=25, deadline=None)
@given(
    st.integers(20, 3000).map(lambda minutes: timedelta(minutes=minutes)),
    st.dictionaries(st.integers(0, 30 * 1440).map(lambda at: timedelta(minutes=at)), st.tuples(st.integers(0, 3))),
    st.integers(0, 40).map(lambda days: timedelta(days=days)),
)
def test_whatever_changes_and_however_often_it_is_asked_a_month_takes_twelve_counts(
    interval: timedelta, changes: dict[timedelta, tuple[int, ...]], clean: timedelta
) -> None:
    at = simulated(30, interval, changes, clean)
    assert len(at) + 1 <= 12
    if clean > timedelta(days=30):  # nothing ends it: then there is one after each sweep
        sweep = after_sweep(START)
        while sweep + interval < START + timedelta(days=30):
            assert any(sweep <= START + one < sweep + timedelta(days=7) + interval for one in at)
            sweep += timedelta(days=7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=60, max_size=60))
def test_looks_that_find_now_nothing_and_now_something_are_no_more(clean: list[bool]) -> None:
    """A replica that lags now and then: each clean look wants a second one."""
    looks, now, counted = Looks(), START, 0
    for _ in range(30 * 24 * 2):
        if looks.is_due(now, (0, 0), timedelta(minutes=30)):
            looks = Looks.of(looks.looked(now, (0, 0), clean=clean[counted % 60]).as_json())
            counted += 1
        now += timedelta(minutes=30)
    assert counted <= 12


def test_profiles_that_go_one_by_one_are_no_reason_for_a_count_each() -> None:
    """And they are not waited for until the next sweep, either: of somebody without events all is gone in minutes."""
    going = {timedelta(minutes=10 * number): (1000 - 100 * number, 0) for number in range(1, 11)}
    at = simulated(30, timedelta(minutes=10), going, timedelta(hours=2))
    assert len(at) <= 6
    assert at[-1] < timedelta(hours=9)


def test_the_next_count_is_after_the_sweep() -> None:
    at = simulated(30, timedelta(hours=1), {}, NEVER)
    assert len(at) <= 10
    mondays = [START + after for after in at][-3:]
    assert [(each.weekday(), each.hour) for each in mondays] == [(0, 7)] * 3
    assert after_sweep(datetime(2026, 6, 8, 7, tzinfo=timezone.utc)) == datetime(2026, 6, 15, 7, tzinfo=timezone.utc)


def test_nothing_is_counted_while_nothing_can_have_changed(lab: Lab) -> None:
    lab.posthog.settings(sweep_outcome="skip")  # an hour may hold a Sunday's morning
    lab.delete()
    assert lab.look(poke_interval=HOUR) == "EVENTS_PENDING"
    lab.posthog.control("DELETE", "calls")
    assert lab.look(poke_interval=HOUR) == "EVENTS_PENDING"
    assert queries(lab) == [], "profiles and deletions only"
    lab.posthog.advance(HOUR + 1)
    assert lab.look(poke_interval=HOUR) == "EVENTS_PENDING"
    assert of_events(lab) != []


def test_a_completed_deletion_is_seen_at_once(lab: Lab) -> None:
    lab.delete()
    assert lab.look(poke_interval=HOUR) == "EVENTS_PENDING"
    lab.posthog.advance(2)
    lab.posthog.sweep()
    found = lab.sensor(poke_interval=HOUR).look({})
    assert dict(found.facts["states"]) == {"VERIFIED": 1}


# -- per person ----------------------------------------------------------------------------------------------------


def test_one_survivor_does_not_hold_up_the_others(lab: Lab, tmp_path: Path) -> None:
    names = [f"{lab.name}-{number}" for number in range(2)]
    for name in names:
        lab.add(name)
        lab.event(name)
    lab.event(names[0], timestamp="2100-01-01T00:00:00Z")
    request = lab.delete()
    lab.posthog.advance(8 * DAY)
    options: dict[str, Any] = {"request": request, "on_survivors": "go_on"}
    proof = lab.sensor(**options).execute({})
    assert (proof["state"], proof["states"]) == ("PARTIAL", {"VERIFIED": 2, "SURVIVORS": 1})
    assert (tmp_path / "work.jsonl").exists(), "the survivor needs it"
    with pytest.raises(PostHogErasureError, match="SURVIVORS 1, VERIFIED 2"):
        lab.sensor(request=request).execute({})


def test_those_who_are_still_waited_for_hold_up_the_end(lab: Lab) -> None:
    name = f"{lab.name}-future"
    lab.add(name)
    lab.event(name, timestamp="2100-01-01T00:00:00Z")
    lab.delete()
    found = lab.sensor(on_survivors="go_on").look({})
    assert (found.verdict.state, dict(found.facts["states"])) == ("pending", {"EVENTS_PENDING": 1, "SURVIVORS": 1})
