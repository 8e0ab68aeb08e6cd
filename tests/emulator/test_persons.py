"""Persons: lists, lookups and changes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client


@pytest.fixture
def ada(posthog: EmulatorProcess) -> str:
    """Make a person with three distinct ids and return its uuid."""
    person = {"distinct_ids": ["ada", "ada-phone", "ada-tablet"], "properties": {"email": "ada@example.invalid"}}
    return posthog.add_persons([person])[0]


def results(api: Client, path: str) -> list[dict[str, Any]]:
    answer = api.get(path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def test_a_list_and_an_object_have_different_ids(api: Client, ada: str) -> None:
    row = results(api, "persons/?distinct_id=ada-phone")[0]
    assert row["id"] == row["uuid"] == ada
    assert row["type"] == "person"
    person = api.get(f"persons/{ada}/").json()
    assert isinstance(person["id"], int)
    assert person == api.get(f"persons/{person['id']}/").json()
    assert set(person["distinct_ids"]) == {"ada", "ada-phone", "ada-tablet"}
    assert person["name"] == row["name"] == "ada@example.invalid"
    assert "last_seen_at" in person
    assert "last_seen_at" in row


def test_pages_are_linked_until_one_is_not_full(api: Client) -> None:
    every = [row["uuid"] for row in results(api, "persons/?limit=5000")]
    assert len(every) == len(set(every)) == 1000
    path, pages = f"{api.url}/api/projects/1/persons/?limit=300", []
    while path:
        answer = api(method="GET", path=path.replace(api.url, "")).json()
        pages.append([row["uuid"] for row in answer["results"]])
        assert "count" not in answer
        path = answer["next"]
    assert [len(page) for page in pages] == [300, 300, 300, 100]
    assert [uuid for page in pages for uuid in page] == every


def test_a_full_last_page_is_followed_by_an_empty_one(api: Client) -> None:
    last = api.get("persons/?limit=500&offset=500").json()
    assert len(last["results"]) == 500
    assert last["next"] == f"{api.url}/api/projects/1/persons/?limit=500&offset=1000"
    after = api.get("persons/?limit=500&offset=1000").json()
    assert (after["results"], after["next"]) == ([], None)
    assert after["previous"] == f"{api.url}/api/projects/1/persons/?limit=500&offset=500"


def test_a_page_is_shorter_when_clickhouse_is_behind(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(person_lag_seconds=60, person_deletion_seconds=0)
    first = results(api, "persons/?limit=10")
    api.post("persons/bulk_delete/", {"ids": [row["uuid"] for row in first[:4]]})
    page = api.get("persons/?limit=10").json()
    assert [row["uuid"] for row in page["results"]] == [row["uuid"] for row in first[4:]]
    assert page["next"]
    assert api.get(f"persons/{first[0]['uuid']}/").status_code == 404
    assert api.query("select count() from persons").json()["results"] == [[1000]]
    posthog.advance(61)
    assert api.query("select count() from persons").json()["results"] == [[996]]
    assert len(results(api, "persons/?limit=10")) == 10


def test_deleting_between_pages_skips_persons(api: Client) -> None:
    every = [row["uuid"] for row in results(api, "persons/?limit=1000")]
    first = results(api, "persons/?limit=100")
    api.post("persons/bulk_delete/", {"ids": [row["uuid"] for row in first]})
    second = results(api, "persons/?limit=100&offset=100")
    assert [row["uuid"] for row in second] == every[200:300]


def test_the_total_is_told_when_asked(api: Client) -> None:
    assert api.get("persons/?limit=1&include_total").json()["count"] == 1000


@pytest.mark.parametrize("query", ["limit=abc", "limit=-1", "offset=x", 'properties={"type":"AND","values":[]}'])
def test_what_is_not_checked_fails(api: Client, query: str) -> None:
    answer = api.get(f"persons/?{query}")
    assert (answer.status_code, answer.json()["code"]) == (500, "error")


def test_filters(api: Client, ada: str) -> None:
    def found(**query: str) -> list[str]:
        answer = api.get("persons/", params=query)
        return [row["uuid"] for row in answer.json()["results"]]

    assert found(email="ada@example.invalid") == [ada]
    assert found(email="ADA@example.invalid") == []
    assert found(search="da-tabl") == [ada]
    assert found(search=ada[:20]) == [ada]
    assert found(distinct_id="ada-") == []
    exact = {"key": "email", "value": ["ada@example.invalid"], "type": "person"}
    assert found(properties=json.dumps([exact])) == [ada]
    assert found(properties=json.dumps([{**exact, "operator": "is_not"}, {"key": "seats", "operator": "is_set"}])) != []
    assert found(properties=json.dumps([{"key": "seats", "value": 49, "operator": "gt"}])) != []
    assert ada not in found(properties=json.dumps([{"key": "seats", "value": 0, "operator": "gt"}]), limit="2000")


def test_an_unknown_filter_lists_everybody(api: Client, ada: str) -> None:
    assert len(results(api, "persons/?emial=ada@example.invalid&limit=2000")) == 1001


def test_the_oldest_servers_take_groups_of_filters(api: Client, posthog: EmulatorProcess, ada: str) -> None:
    wish = {"type": "OR", "values": [{"key": "email", "value": "ada@example.invalid"}, {"key": "x", "value": 1}]}
    posthog.settings(generation="A")
    found = api.get("persons/", params={"properties": json.dumps(wish)}).json()["results"]
    assert [row["uuid"] for row in found] == [ada]
    assert "last_seen_at" not in found[0]


def test_long_lists_of_distinct_ids_are_cut(api: Client, posthog: EmulatorProcess) -> None:
    names = [f"many-{number}" for number in range(1200)]
    uuid = posthog.add_persons([{"distinct_ids": names}])[0]
    assert len(results(api, "persons/?distinct_id=many-7")[0]["distinct_ids"]) == 1000
    assert len(api.get(f"persons/{uuid}/").json()["distinct_ids"]) == 1200
    batch = api.post("persons/batch_by_uuids/", {"uuids": [uuid]}).json()["results"]
    assert len(batch[uuid]["distinct_ids"]) == 10


def test_batches(api: Client, ada: str) -> None:
    wish = ["ada", "nobody", *(f"user-{number}" for number in range(300))]
    found = api.post("persons/batch_by_distinct_ids/", {"distinct_ids": wish}).json()["results"]
    assert found["ada"]["uuid"] == ada
    assert "nobody" not in found
    assert len(found) == 199, "what comes after the 200th is cut off"
    bodies: list[dict[str, object]] = [{}, {"distinct_ids": "ada"}, {"distinct_ids": []}]
    for body in bodies:
        assert api.post("persons/batch_by_distinct_ids/", body).json() == {"results": {}}
    assert api.post("persons/batch_by_uuids/", {"uuids": [ada, "x"]}).json()["detail"] == (
        "One or more UUIDs are invalid."
    )


def test_properties_are_merged_and_removed(api: Client, ada: str) -> None:
    answer = api("PATCH", f"persons/{ada}/", json={"properties": {"plan": "pro"}, "name": "ignored"})
    assert (answer.status_code, answer.content) == (202, b"")
    assert api.get(f"persons/{ada}/").json()["properties"] == {"email": "ada@example.invalid", "plan": "pro"}
    assert api.post(f"persons/{ada}/update_property/", {"key": "plan", "value": None}).status_code == 202
    assert api.get(f"persons/{ada}/").json()["properties"]["plan"] is None
    removed = api.post(f"persons/{ada}/delete_property/", {"$unset": "plan"})
    assert (removed.status_code, removed.json()) == (201, {"success": True})
    assert results(api, "persons/?distinct_id=ada")[0]["properties"] == {"email": "ada@example.invalid"}
    text = "select event from events where distinct_id = 'ada' order by event"
    assert {row[0] for row in api.query(text).json()["results"]} >= {"$set", "$delete_person_property"}
    log = results(api, f"persons/{ada}/activity/")
    assert [entry["activity"] for entry in log] == ["delete_property", "updated", "updated"]


@pytest.mark.parametrize("days", [-40, 1])
def test_a_person_is_as_old_as_its_first_event_says(api: Client, posthog: EmulatorProcess, days: int) -> None:
    """Whenever it arrived: of a phone that was offline, of an import, or of a clock that is ahead."""
    first = datetime.now(timezone.utc) + timedelta(days=days)
    name = f"offline {days}"
    events = [{"event": "e", "distinct_id": name, "timestamp": at.isoformat()} for at in (first, first - timedelta(1))]
    (person,) = set(posthog.capture(events))
    text = "select toUnixTimestamp(created_at) from persons where id = {p}"
    assert api.query(text, p=person).json()["results"] == [[int(first.timestamp())]]


@pytest.mark.parametrize(("capture", "status"), [("lost", 201), ("refused", 502)])
def test_a_lost_capture_shows_nowhere(
    api: Client, posthog: EmulatorProcess, ada: str, capture: str, status: int
) -> None:
    posthog.settings(capture=capture)
    assert api("PATCH", f"persons/{ada}/", json={"properties": {"plan": "pro"}}).status_code == 202
    assert api.post(f"persons/{ada}/delete_property/", {"$unset": "email"}).status_code == status
    assert api.get(f"persons/{ada}/").json()["properties"] == {"email": "ada@example.invalid"}


def test_what_changing_refuses(api: Client, ada: str) -> None:
    swapped = {"type": "validation_error", "code": "This field is required.", "detail": "required"}
    assert api("PATCH", f"persons/{ada}/", json={}).json() == {**swapped, "attr": "properties"}
    assert api.post(f"persons/{ada}/update_property/", {"key": "x"}).json() == {**swapped, "attr": "value"}
    assert api.post(f"persons/{ada}/delete_property/", {}).status_code == 500
    assert api.post("persons/999999/delete_property/", {"$unset": "x"}).status_code == 500
    assert api.post("persons/", {"properties": {}}).status_code == 405
    assert api.get("persons/ada/").json()["detail"].startswith("The ID provided does not look like a personID.")
    assert api.get("persons/999999/").status_code == 404


def test_split(api: Client, ada: str) -> None:
    assert api.post(f"persons/{ada}/split/", {}).status_code == 400
    assert api.post(f"persons/{ada}/split/", {"main_distinct_id": "bob"}).status_code == 400
    assert api.post(f"persons/{ada}/split/", {"distinct_ids_to_split": ["ada-phone"]}).status_code == 201
    assert set(api.get(f"persons/{ada}/").json()["distinct_ids"]) == {"ada", "ada-tablet"}
    moved = results(api, "persons/?distinct_id=ada-phone")[0]
    assert (moved["properties"], moved["uuid"] == ada) == ({}, False)


def test_values(api: Client, ada: str) -> None:
    found = api.get("persons/values/?key=plan").json()
    assert {each["name"] for each in found["results"]} == {"free", "pro", "enterprise"}
    assert sum(each["count"] for each in found["results"]) == 1000
    assert api.get("persons/values/?key=plan&value=enter").json()["results"][0]["name"] == "enterprise"


def test_actions_without_a_scope_are_closed_to_keys(api: Client, posthog: EmulatorProcess, ada: str) -> None:
    for path in ("persons/funnel/", f"persons/{ada}/properties_timeline/"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    posthog.settings(withdrawn="answer")
    timeline = api.get(f"persons/{ada}/properties_timeline/").json()
    assert timeline["crystallized_properties"] == {"email": "ada@example.invalid"}


def test_scopes(api: Client, posthog: EmulatorProcess, ada: str) -> None:
    reader = Client(posthog.url, posthog.create_key(["person:read"]))
    assert reader.get(f"persons/{ada}/").status_code == 200
    for method, path in (("DELETE", f"persons/{ada}/"), ("POST", "persons/bulk_delete/"), ("PATCH", f"persons/{ada}/")):
        answer = reader(method, path, json={"ids": [ada]})
        assert answer.json()["detail"] == "API key missing required scope 'person:write'"
    assert reader.get("persons/activity/").json()["detail"].endswith("'activity_log:read'")


def test_links_can_lead_elsewhere(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(links_host="http://internal.invalid:8000")
    assert api.get("persons/?limit=2").json()["next"].startswith("http://internal.invalid:8000/api/projects/1/persons/")
    assert api.get("persons/deletion_status/?limit=1").json()["next"] is None


def test_a_reset_brings_everybody_back(api: Client, posthog: EmulatorProcess, ada: str) -> None:
    api.post("persons/bulk_delete/", {"distinct_ids": ["user-1", "user-2"]})
    assert len(results(api, "persons/?limit=2000")) == 999
    posthog.reset()
    assert len(results(api, "persons/?limit=2000")) == 1000
    assert results(api, "persons/?distinct_id=ada") == []
