"""Deleting persons and their events: what PostHog says, what it does, and when."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest

from airflow_provider_posthog.emulator.people.person_deletion import next_sweep
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client

WEEK = 7 * 86_400


@pytest.fixture
def bob(posthog: EmulatorProcess) -> str:
    """Make a person with one event of an hour ago and return its uuid; the distinct id is new in every test."""
    name = str(uuid.uuid4())
    uuids = posthog.add_persons([{"distinct_ids": [name], "properties": {"email": "bob@example.invalid"}}])
    hour_ago = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    posthog.capture([{"event": "bought", "distinct_id": name, "timestamp": hour_ago, "created_at": hour_ago}])
    return uuids[0]


def name_of(api: Client, person: str) -> str:
    return str(api.get(f"persons/{person}/").json()["distinct_ids"][0])


def events(api: Client, person: str) -> int:
    found = api.query("select count() from events where person_id = {person}", person=person).json()
    return int(found["results"][0][0])


def status(api: Client, person: str) -> list[str]:
    rows = api.get(f"persons/deletion_status/?person_uuid={person}").json()["results"]
    return [row["status"] for row in rows]


def bulk(api: Client, **body: object) -> dict[str, object]:
    answer = api.post("persons/bulk_delete/", body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_todays_cloud_queues(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    posthog.settings(person_deletion_seconds=120)
    assert bulk(api, ids=[bob, str(uuid.uuid4())], delete_events=True) == {
        "persons_found": 1,
        "persons_deleted": 0,
        "persons_queued_for_deletion": 1,
        "events_queued_for_deletion": True,
        "recordings_queued_for_deletion": False,
        "deletion_errors": [],
    }
    assert api.get(f"persons/{bob}/").status_code == 200
    posthog.advance(121)
    assert api.get(f"persons/{bob}/").status_code == 404
    assert api.query("select id from persons where id = {u}", u=bob).json()["results"] == []
    assert events(api, bob) == 1, "events stay for days"
    assert status(api, bob) == ["pending"]
    log = api.get("persons/activity/").json()["results"][0]
    assert (log["activity"], log["detail"]["name"]) == ("deleted", bob)


def test_the_generation_between_deletes_in_the_request(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    posthog.settings(generation="B")
    assert bulk(api, ids=[bob]) == {
        "persons_found": 1,
        "persons_deleted": 1,
        "events_queued_for_deletion": False,
        "recordings_queued_for_deletion": False,
        "deletion_errors": [],
    }
    assert api.get(f"persons/{bob}/").status_code == 404
    assert status(api, bob) == []
    again = bulk(api, ids=[bob], delete_events=True)
    assert (again["persons_found"], again["events_queued_for_deletion"]) == (0, False)


def test_the_oldest_servers(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    posthog.settings(generation="A")
    name = name_of(api, bob)
    answer = api.post("persons/bulk_delete/", {"ids": [str(uuid.uuid4())], "distinct_ids": [name], "keep_person": True})
    assert (answer.status_code, answer.content) == (202, b"")
    assert api.get(f"persons/{bob}/").status_code == 404, "keep_person is not known"
    assert api.get("persons/deletion_status/").status_code == 400
    assert api.post("persons/batch_by_distinct_ids/", {"distinct_ids": [name]}).status_code == 403
    assert api.post("persons/bulk_delete/", {"ids": ["x"]}).status_code == 500


@pytest.mark.parametrize(("flag", "events_too"), [("", []), ("?delete_events=false", ["pending"])])
def test_flags_of_the_query_count_by_being_there(api: Client, bob: str, flag: str, events_too: list[str]) -> None:
    answer = api("DELETE", f"persons/{bob}/{flag}")
    assert (answer.status_code, answer.content) == (202, b"")
    assert status(api, bob) == events_too
    assert api("DELETE", f"persons/{bob}/{flag}").status_code == 404


@pytest.mark.parametrize(("sent", "wanted"), [(False, []), ("false", ["pending"]), (True, ["pending"])])
def test_flags_of_the_body_count_by_being_true(api: Client, bob: str, sent: object, wanted: list[str]) -> None:
    bulk(api, ids=[bob], delete_events=sent)
    assert status(api, bob) == wanted


def test_a_person_can_be_kept(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    name = name_of(api, bob)
    posthog.add_recordings([{"session_id": name, "distinct_id": name, "timestamp": "2026-01-01T00:00:00Z"}])
    answer = bulk(api, ids=[bob], delete_events=True, delete_recordings=True, keep_person=True)
    assert answer["persons_queued_for_deletion"] == 0
    assert answer["recordings_queued_for_deletion"] is True
    text = "select is_deleted from raw_session_replay_events where distinct_id = {name}"
    assert api.query(text, name=name).json()["results"] == [[1]]
    assert api("DELETE", f"persons/{bob}/?keep_person=false").status_code == 202
    assert api.get(f"persons/{bob}/").status_code == 200


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "You need to specify either distinct_ids or ids"),
        ({"ids": []}, "You need to specify either distinct_ids or ids"),
        ({"ids": ["x"], "distinct_ids": ["y"]}, "You can only pass either distinct_ids or ids, not both"),
        ({"ids": ["x"] * 1001}, "You can only pass 1000 ids in one call"),
        ({"distinct_ids": ["x"] * 1001}, "You can only pass 1000 distinct_ids in one call"),
    ],
)
def test_what_bulk_deletion_refuses(api: Client, body: dict[str, object], detail: str) -> None:
    answer = api.post("persons/bulk_delete/", body)
    expected = {"type": "validation_error", "code": "invalid_input", "detail": detail, "attr": None}
    assert (answer.status_code, answer.json()) == (400, expected)


def test_a_failure_shows_differently_in_every_generation(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    posthog.fail_deletions([bob], "tombstone_clickhouse")
    assert bulk(api, ids=[bob])["deletion_errors"] == [], "a queued deletion fails silently"
    assert api("DELETE", f"persons/{bob}/").status_code == 202
    posthog.settings(persons_queued=False)
    posthog.fail_deletions([bob], "tombstone_clickhouse")
    partial = bulk(api, distinct_ids=[name_of(api, bob), "user-5"])
    assert partial["deletion_errors"] == [{"person_uuid": bob, "step": "tombstone_clickhouse"}]
    assert (partial["persons_found"], partial["persons_deleted"]) == (2, 1)
    single = api("DELETE", f"persons/{bob}/")
    assert (single.status_code, single.json()["code"]) == (503, "person_deletion_failed")
    posthog.settings(generation="B")
    assert bulk(api, ids=[bob])["deletion_errors"] == [{"person_uuid": bob}]
    assert api("DELETE", f"persons/{bob}/").status_code == 202, "the failure is lost"
    posthog.settings(generation="A")
    assert api.post("persons/bulk_delete/", {"ids": [bob]}).status_code == 500
    assert api("DELETE", f"persons/{bob}/").status_code == 500
    posthog.fail_deletions([])
    assert api("DELETE", f"persons/{bob}/").status_code == 202
    assert api.get(f"persons/{bob}/").status_code == 404


# -- events ------------------------------------------------------------------------------------------------------


def test_sweeps_are_on_sundays() -> None:
    friday = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    sunday = datetime(2026, 11, 22, 5, tzinfo=timezone.utc)
    assert next_sweep(friday) == sunday
    assert next_sweep(sunday - timedelta(seconds=1)) == sunday
    assert next_sweep(sunday) == sunday + timedelta(days=7)


def test_the_clock_drives_the_sweep(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    bulk(api, ids=[bob], delete_events=True)
    assert events(api, bob) == 1
    posthog.advance(WEEK)
    assert events(api, bob) == 0
    row = api.get("persons/deletion_status/?status=completed").json()
    assert row["count"] == 1
    verified = datetime.fromisoformat(row["results"][0]["delete_verified_at"].replace("Z", "+00:00"))
    assert (verified.weekday(), verified.hour, verified.minute) == (6, 5, 0)


def test_a_reset_brings_events_back(api: Client, posthog: EmulatorProcess) -> None:
    person = str(api.get("persons/?distinct_id=user-3").json()["results"][0]["uuid"])
    before = events(api, person)
    bulk(api, ids=[person], delete_events=True)
    assert posthog.sweep()["events"] == before > 0
    assert events(api, person) == 0
    posthog.reset()
    assert events(api, person) == before


def test_a_sweep_can_miss_young_requests(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    posthog.settings(sweep_age_seconds=WEEK)
    bulk(api, ids=[bob], delete_events=True)
    posthog.advance(WEEK)
    assert status(api, bob) == ["pending"]
    posthog.advance(WEEK)
    assert (status(api, bob), events(api, bob)) == (["completed"], 0)


@pytest.mark.parametrize(("outcome", "told"), [("verify_only", "completed"), ("skip", "pending")])
def test_a_sweep_can_leave_events(api: Client, posthog: EmulatorProcess, bob: str, outcome: str, told: str) -> None:
    posthog.settings(sweep_outcome=outcome)
    bulk(api, ids=[bob], delete_events=True)
    posthog.sweep()
    assert (status(api, bob), events(api, bob)) == ([told], 1)


def test_late_and_future_events_survive(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    name, now = name_of(api, bob), datetime.now(timezone.utc)
    bulk(api, ids=[bob], delete_events=True, keep_person=True)
    future = (now + timedelta(days=1)).isoformat()
    posthog.capture([{"event": "from the future", "distinct_id": name, "timestamp": future}])
    late = (now - timedelta(days=1)).isoformat()
    posthog.capture([{"event": "late", "distinct_id": name, "timestamp": late}])
    assert posthog.sweep() == {"completed": 1, "events": 1}
    left = api.query("select event from events where person_id = {p} order by event", p=bob).json()["results"]
    assert left == [["from the future"], ["late"]]


@pytest.mark.parametrize(("swallowed", "left"), [(True, 1), (False, 0)])
def test_a_second_request_is_swallowed(
    api: Client, posthog: EmulatorProcess, bob: str, swallowed: bool, left: int
) -> None:
    posthog.settings(swallow_duplicates=swallowed)
    name = name_of(api, bob)
    bulk(api, ids=[bob], delete_events=True, keep_person=True)
    posthog.sweep()
    posthog.advance(60)
    posthog.capture([{"event": "again", "distinct_id": name}])
    posthog.advance(60)
    assert bulk(api, ids=[bob], delete_events=True)["events_queued_for_deletion"] is True
    posthog.sweep()
    assert events(api, bob) == left
    assert status(api, bob) == ["completed"]


def test_somebody_who_comes_back_is_invisible(api: Client, posthog: EmulatorProcess, bob: str) -> None:
    name = name_of(api, bob)
    bulk(api, ids=[bob])
    assert posthog.capture([{"event": "back", "distinct_id": name}]) == [bob], "the uuid follows from the distinct id"
    assert api.get(f"persons/{bob}/").status_code == 200
    assert list(api.post("persons/batch_by_distinct_ids/", {"distinct_ids": [name]}).json()["results"]) == [name]
    assert api.get(f"persons/?distinct_id={name}").json()["results"] == []
    assert api.query("select id from persons where id = {u}", u=bob).json()["results"] == []
    assert api.post("persons/reset_person_distinct_id/", {"distinct_id": name}).status_code == 202
    assert [row["uuid"] for row in api.get(f"persons/?distinct_id={name}").json()["results"]] == [bob]
    assert api.post("persons/reset_person_distinct_id/", {"distinct_id": "nobody"}).status_code == 202
    assert api.post("persons/reset_person_distinct_id/", {}).status_code == 400


def test_personless_events_can_not_be_erased(api: Client, posthog: EmulatorProcess) -> None:
    name = str(uuid.uuid4())
    event = {"event": "seen", "distinct_id": name, "properties": {"$process_person_profile": False}}
    person = posthog.capture([event])[0]
    assert bulk(api, distinct_ids=[name], delete_events=True)["persons_found"] == 0
    assert status(api, person) == []
    text = "select person_id, person_mode from events where distinct_id = {name}"
    assert api.query(text, name=name).json()["results"] == [[person, "propertyless"]]


def test_deletion_status(api: Client) -> None:
    names = [f"user-{number}" for number in range(5)]
    bulk(api, distinct_ids=names, delete_events=True)
    page = api.get("persons/deletion_status/?limit=2&offset=2").json()
    assert (page["count"], len(page["results"])) == (5, 2)
    assert page["next"].endswith("?limit=2&offset=4")
    row = page["results"][0]
    assert set(row) == {"person_uuid", "created_at", "status", "delete_verified_at"}
    assert api.get("persons/deletion_status/?status=completed").json()["count"] == 0
    for query, attr in (("status=done", "status"), ("person_uuid=x", "person_uuid")):
        answer = api.get(f"persons/deletion_status/?{query}")
        assert (answer.status_code, answer.json()["attr"]) == (400, attr)


def test_answers_carry_the_time_of_the_servers_clock(api: Client, posthog: EmulatorProcess) -> None:
    posthog.advance(30 * 86_400)
    at = parsedate_to_datetime(api.get("persons/?limit=1").headers["Date"])
    assert abs((at - datetime.now(timezone.utc)) - timedelta(days=30)) < timedelta(minutes=1)


def test_a_sweep_deletes_the_events_of_many_each_up_to_their_own_request(api: Client, posthog: EmulatorProcess) -> None:
    names = [str(uuid.uuid4()) for _ in range(5)]
    persons = posthog.add_persons([{"distinct_ids": [name]} for name in names])
    posthog.capture([{"event": "before", "distinct_id": name} for name in names])
    posthog.advance(10)
    bulk(api, ids=persons[:2], delete_events=True, keep_person=True)
    posthog.advance(10)
    posthog.capture([{"event": "after", "distinct_id": name} for name in names])
    posthog.advance(10)
    bulk(api, ids=persons[2:4], delete_events=True, keep_person=True)
    posthog.advance(10)
    assert posthog.sweep() == {"completed": 4, "events": 6}
    assert [events(api, person) for person in persons] == [1, 1, 0, 0, 2]


# -- what the deletion of a person leaves ----------------------------------------------------------------------------


def rows_of(client: Client, table: str, name: str) -> int:
    found = client.query(f"select count() from {table} where distinct_id = {{v}}", v=name).json()
    return int(found["results"][0][0])


def test_sessions_and_heatmaps_stay_and_evaluations_of_flags_go(posthog: EmulatorProcess) -> None:
    client, name = Client(posthog.url, posthog.api_key), f"visitor-{uuid.uuid4()}"
    (person,) = posthog.add_persons([{"distinct_ids": [name]}])
    at = "2026-01-01T00:00:00Z"
    visit = {"event": "$pageview", "distinct_id": name, "timestamp": at, "properties": {"$session_id": name}}
    posthog.capture([visit, visit])
    posthog.add_rows("heatmaps", [{"distinct_id": name, "timestamp": at}])
    posthog.add_rows(
        "flag_evaluations", [{"distinct_id": name, "person_id": person, "timestamp": at, "created_at": at}]
    )
    tables = ("events", "sessions", "heatmaps", "flag_evaluations")
    assert [rows_of(client, table, name) for table in tables] == [2, 1, 1, 1]
    client.post("persons/bulk_delete/", {"ids": [person], "delete_events": True, "delete_recordings": True})
    posthog.advance(2)
    posthog.sweep()
    assert [rows_of(client, table, name) for table in tables] == [0, 1, 1, 0]
    posthog.reset()
    assert [rows_of(client, table, name) for table in tables] == [0, 0, 0, 0]


def test_newer_servers_tell_their_tables(posthog: EmulatorProcess) -> None:
    client = Client(posthog.url, posthog.api_key)
    sql = "select distinct table_name from system.information_schema.columns where column_name = 'distinct_id'"
    told = {row[0] for row in client.query(sql).json()["results"]}
    assert {"events", "sessions", "heatmaps", "flag_evaluations", "raw_session_replay_events"} <= told
    posthog.settings(generation="A")
    answers = [client.query(each) for each in (sql, "select count() from flag_evaluations")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert all("Unknown table" in answer.json()["detail"] for answer in answers)
