"""Groups, their types, and elements."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client

ACME = "group_type_index=0&group_key=acme:3"


def pages(api: Client, path: str) -> list[list[dict[str, Any]]]:
    found = []
    while path:
        answer = api("GET", path.replace(api.url, "")).json()
        found.append(answer["results"])
        path = answer["next"] or ""
        assert answer["previous"] is None
    return found


def make(api: Client, count: int) -> None:
    for number in range(count):
        body = {"group_type_index": 0, "group_key": f"new:{number:03}", "group_properties": {"size": number}}
        assert api.post("groups/", body).status_code == 201


def test_pages_of_a_hundred(api: Client) -> None:
    make(api, 90)
    found = pages(api, "/api/projects/1/groups/?group_type_index=0")
    assert [len(page) for page in found] == [100, 15]
    assert len({row["group_key"] for page in found for row in page}) == 115
    assert set(found[0][0]) == {"group_type_index", "group_key", "group_properties", "created_at"}


def test_a_broken_cursor_starts_again(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(max_page=10)
    first = api.get("groups/?group_type_index=0").json()
    assert "cursor=" in first["next"]
    assert api.get("groups/?group_type_index=0&cursor=broken").json()["results"] == first["results"]


def test_filters_of_groups(api: Client) -> None:
    assert len(api.get("groups/?group_type_index=0&group_key=ACME:1").json()["results"]) == 11
    assert len(api.get("groups/?group_type_index=0&search=acme 7 ").json()["results"]) == 1
    assert api.get("groups/?group_type_index=1").json()["results"] == []
    missing = api.get("groups/").json()
    assert missing["attr"] == "group_type_index"
    assert missing["detail"].startswith("You must pass ?group_type_index= in this URL.")
    assert api.get("groups/?group_type_index=x").json()["detail"] == "A valid integer is required."
    assert api.get("groups/find/?group_key=x").json()["detail"] == "This query parameter is required."


def test_types(api: Client, posthog: EmulatorProcess) -> None:
    row = api.get("groups_types/").json()[0]
    assert (row["group_type"], row["group_type_index"], len(row)) == ("company", 0, 7)
    posthog.settings(generation="A")
    assert len(api.get("groups_types/").json()[0]) == 4


def test_a_group_is_found_changed_and_never_deleted(api: Client) -> None:
    found = api.get(f"groups/find/?{ACME}").json()
    assert found["group_properties"]["employees"] == 21
    changed = api.post(f"groups/update_property/?{ACME}", {"key": "plan", "value": "pro"})
    assert (changed.status_code, changed.json()["group_properties"]["plan"]) == (200, "pro")
    assert api.post(f"groups/update_property/?{ACME}", {"key": "plan", "value": None}).json()["attr"] == "value"
    assert api.post(f"groups/delete_property/?{ACME}", {"$unset": "plan"}).status_code == 200
    again = api.post(f"groups/delete_property/?{ACME}", {"$unset": "plan"})
    assert (again.status_code, again.json()["detail"]) == (400, "Property 'plan' does not exist on this group.")
    assert api.get("groups/find/?group_type_index=0&group_key=nobody").status_code == 404
    assert [row["activity"] for row in api.get(f"groups/activity/?{ACME}").json()["results"]] == [
        "delete_property",
        "update_property",
    ]
    assert api.post("groups/", {"group_type_index": 0, "group_key": "acme:3"}).json()["attr"] == "detail"


def test_lists_can_be_behind(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(person_lag_seconds=60)
    make(api, 1)
    assert api.get("groups/find/?group_type_index=0&group_key=new:000").status_code == 200
    assert api.get("groups/?group_type_index=0&group_key=new").json()["results"] == []
    assert api.query("select key from groups where key = 'new:000'").json()["results"] == []
    posthog.advance(61)
    assert len(api.get("groups/?group_type_index=0&group_key=new").json()["results"]) == 1
    assert api.query("select key from groups where key = 'new:000'").json()["results"] == [["new:000"]]


def test_properties_of_groups(api: Client, posthog: EmulatorProcess) -> None:
    values = api.get("groups/property_values/?group_type_index=0&key=employees&value=16").json()
    assert {each["name"] for each in values["results"]} == {"161", "168"}
    assert api.get("groups/property_definitions/").status_code == 404, "today's PostHog has it no more"
    posthog.settings(generation="B")
    definitions = api.get("groups/property_definitions/").json()
    assert definitions == {"0": [{"name": "name", "count": 25}, {"name": "employees", "count": 25}]}


def test_related(api: Client) -> None:
    text = "select person_id, $group_0 from events where $group_0 != '' and person_mode = 'full' limit 1"
    person, key = api.query(text).json()["results"][0]
    persons = api.get(f"groups/related/?group_type_index=0&id={key}").json()
    assert person in {each["uuid"] for each in persons}
    assert key in {each["id"] for each in api.get(f"groups/related/?id={person}").json()}


# -- elements ----------------------------------------------------------------------------------------------------


def test_elements_are_kept(api: Client) -> None:
    assert api.get("elements/").json() == {"count": 0, "next": None, "previous": None, "results": []}
    made = api.post("elements/", {"text": "hi", "tag_name": "a", "order": 0})
    assert (made.status_code, made.json()["text"], "id" in made.json()) == (201, "hi", False)
    assert api("PATCH", "elements/1/", json={"text": "new"}).json()["text"] == "new"
    assert api.get("elements/1/").json() == api.get("elements/").json()["results"][0]
    assert api.post("elements/", {"order": "x"}).json()["attr"] == "order"
    assert api("DELETE", "elements/1/").status_code == 204
    assert api.get("elements/1/").status_code == 404


def test_clicks_are_counted(api: Client) -> None:
    found = api.get("elements/stats/?date_from=-40d&limit=3")
    assert found.headers["Cache-Control"] == "public, max-age=30"
    body = found.json()
    assert len(body["results"]) == 3
    assert body["results"][0]["elements"][0]["tag_name"] == "a"
    assert body["results"][0]["type"] == "$autocapture"
    second = api("GET", body["next"].replace(api.url, "")).json()
    assert {each["hash"] for each in body["results"]}.isdisjoint(each["hash"] for each in second["results"])
    every = api.get('elements/stats/?date_from=-40d&include=["$autocapture"]').json()["results"]
    text = "select count() from events where event = '$autocapture'"
    assert sum(each["count"] for each in every) == api.query(text).json()["results"][0][0]


@pytest.mark.parametrize("query", ["include=$pageview", "limit=0", "offset=-1", "date_from=soon"])
def test_what_stats_refuse(api: Client, query: str) -> None:
    answer = api.get(f"elements/stats/?{query}")
    assert (answer.status_code, answer.json()["code"], answer.json()["attr"]) == (400, "invalid_input", None)


def test_values_of_elements(api: Client) -> None:
    assert api.get("elements/values/?key=tag_name").json() == [{"name": "a"}]
    assert api.get("elements/values/?key=href&value=pric").json() == [{"name": "/pricing"}]
    assert api.get("elements/values/?key=selector").json() == []
    assert api.get("elements/values/").json()["detail"] == "key must be one of attr_id, href, tag_name, text"
