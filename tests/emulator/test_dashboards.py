"""Dashboards: tiles, templates, running all insights, soft deletion, collaborators and public links."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql

TEMPLATE = {
    "template_name": "From a template",
    "dashboard_description": "Made of JSON.",
    "dashboard_filters": {"date_from": "-7d"},
    "tags": ["etl"],
    "tiles": [
        {"type": "TEXT", "body": "Hello", "layouts": {"sm": {"x": 0, "y": 9}}},
        {"type": "INSIGHT", "name": "Counted", "query": hogql("select 1"), "layouts": {"sm": {"x": 0, "y": 0}}},
    ],
}


def _made(api: Client, **body: object) -> dict[str, Any]:
    answer = api.post("dashboards/", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _patch(api: Client, path: str, **body: object) -> Any:
    return api("PATCH", path, json=body)


def test_the_list_shows_pinned_ones_first_and_no_tiles(api: Client) -> None:
    _made(api, name="b", tags=["etl"])
    _made(api, name="a")
    _made(api, name="z", pinned=True)
    listed = api.get("dashboards/").json()["results"]
    assert [each["name"] for each in listed] == ["My App Dashboard", "z", "a", "b"]
    assert all("tiles" not in each for each in listed)
    assert [each["name"] for each in api.get("dashboards/?tags=etl").json()["results"]] == ["b"]
    assert [each["name"] for each in api.get("dashboards/?limit=1&offset=3").json()["results"]] == ["b"]


def test_a_change_is_kept_and_a_wrong_one_changes_nothing(api: Client) -> None:
    made = _made(api, name="d", filters={"date_from": "-1d"})
    path = f"dashboards/{made['id']}/"
    changed = _patch(api, path, name="e", description="x", pinned=True, tags=["b", "a"], filters={})
    assert changed.status_code == 200
    found = api.get(path).json()
    assert [found["name"], found["description"], found["pinned"], found["tags"]] == ["e", "x", True, ["a", "b"]]
    assert found["filters"] == {"date_from": "-1d"}, "an empty object changes nothing"
    refused = _patch(api, path, name="f", pinned="maybe")
    assert (refused.status_code, refused.json()["attr"]) == (400, "pinned")
    assert api.get(path).json()["name"] == "e"


def test_deleted_softly_and_restored(api: Client) -> None:
    assert (api("DELETE", "dashboards/1/").status_code, api("DELETE", "dashboards/1/").content) == (405, b"")
    assert _patch(api, "dashboards/1/", deleted=True).status_code == 200
    assert api.get("dashboards/1/").status_code == 404
    assert api.get("insights/1/").json()["dashboards"] == []
    assert api.get("/api/projects/1/").json()["primary_dashboard"] is None
    assert _patch(api, "dashboards/1/", name="x").status_code == 404
    assert _patch(api, "dashboards/1/", deleted="false").status_code == 404, "only JSON's false restores"
    restored = _patch(api, "dashboards/1/", deleted=False)
    assert [tile["insight"]["id"] for tile in restored.json()["tiles"]] == [1, 2, 3]
    assert api.get("dashboards/1/").status_code == 200


def test_insights_go_with_their_only_dashboard(api: Client) -> None:
    other = _made(api, name="other")
    assert _patch(api, "insights/2/", dashboards=[1, other["id"]]).json()["dashboards"] == [1, other["id"]]
    _patch(api, "dashboards/1/", deleted=True, delete_insights=True)
    assert [api.get(f"insights/{number}/").status_code for number in (1, 2, 3)] == [404, 200, 404]
    _patch(api, "dashboards/1/", deleted=False)
    assert [api.get(f"insights/{number}/").status_code for number in (1, 2, 3)] == [200, 200, 200]


def test_an_insight_is_put_on_dashboards_and_taken_off(api: Client) -> None:
    target = _made(api, name="target")["id"]
    assert _patch(api, "insights/1/", dashboards=[target]).json()["dashboards"] == [target]
    assert [tile["insight"]["id"] for tile in api.get("dashboards/1/").json()["tiles"]] == [2, 3]
    assert [tile["insight"]["id"] for tile in api.get(f"dashboards/{target}/").json()["tiles"]] == [1]
    refused = _patch(api, "insights/1/", dashboards=[99])
    assert (refused.status_code, refused.json()["code"]) == (400, "does_not_exist")


def test_a_tile_moves(api: Client) -> None:
    target = _made(api, name="target")["id"]
    tile = api.get("dashboards/1/").json()["tiles"][0]
    moved = _patch(api, "dashboards/1/move_tile/", toDashboard=target, tile={"id": tile["id"]})
    assert moved.status_code == 200
    assert moved.json()["id"] == 1, "the answer is the dashboard that the tile has left"
    assert tile["id"] not in [each["id"] for each in moved.json()["tiles"]]
    found = api.get(f"dashboards/{target}/").json()["tiles"]
    assert [(each["id"], each["insight"]["id"]) for each in found] == [(tile["id"], tile["insight"]["id"])]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"to_dashboard": 1, "tile": {"id": 1}}, 500),
        ({"toDashboard": 1}, 500),
        ({"toDashboard": 1, "tile": 1}, 400),
        ({"toDashboard": 1, "tile": {"id": "one"}}, 400),
        ({"toDashboard": 99, "tile": {"id": 1}}, 404),
        ({"toDashboard": 1, "tile": {"id": 99}}, 404),
    ],
)
def test_tiles_that_do_not_move(api: Client, body: dict[str, object], status: int) -> None:
    assert _patch(api, "dashboards/1/move_tile/", **body).status_code == status
    assert len(api.get("dashboards/1/").json()["tiles"]) == 3


def test_a_dashboard_of_a_template(api: Client) -> None:
    made = api.post("dashboards/create_from_template_json/", {"template": TEMPLATE, "creation_context": "onboarding"})
    assert made.status_code == 200, "not 201"
    body = made.json()
    assert [body["name"], body["tags"], body["creation_mode"]] == ["From a template", ["etl"], "template"]
    assert [tile["insight"] and tile["insight"]["name"] for tile in body["tiles"]] == ["Counted", None]
    assert body["tiles"][1]["text"] == {"body": "Hello"}
    assert api.get(f"dashboards/{body['id']}/").json()["tiles"][0]["id"] == body["tiles"][0]["id"]


@pytest.mark.parametrize("tile", [{"type": "VIDEO"}, "text", {"type": "INSIGHT", "query": {"kind": "Nope"}}])
def test_nothing_is_left_of_a_broken_template(api: Client, tile: object) -> None:
    answer = api.post("dashboards/create_from_template_json/", {"template": {**TEMPLATE, "tiles": [tile]}})
    assert answer.status_code == 400
    assert api.get("dashboards/").json()["count"] == 1


def test_a_copy_shows_the_same_insights(api: Client) -> None:
    copy = _made(api, name="copy", use_dashboard=1)
    assert [tile["insight"]["id"] for tile in copy["tiles"]] == [1, 2, 3]
    for body, attr in (
        ({"use_dashboard": 1, "use_template": "x"}, None),
        ({"use_dashboard": 99}, "use_dashboard"),
        ({"use_template": "x"}, "use_template"),
    ):
        refused = api.post("dashboards/", body)
        assert (refused.status_code, refused.json()["attr"]) == (400, attr)


def test_run_insights(api: Client) -> None:
    _made(api, name="empty")
    results = api.get("dashboards/1/run_insights/?output_format=json").json()["results"]
    assert [each["insight"]["id"] for each in results] == [1, 2, 3]
    assert all(set(each["insight"]) == {"id", "short_id", "name", "derived_name", "result"} for each in results)
    assert results[0]["insight"]["result"] == api.get("dashboards/1/").json()["tiles"][0]["insight"]["result"]
    text = api.get("dashboards/1/run_insights/").json()["results"][0]["insight"]["result"]
    assert text.startswith("event|n\n")
    assert api.get("dashboards/2/run_insights/").json() == {"results": []}


def test_run_insights_needs_two_scopes(api: Client, posthog: EmulatorProcess) -> None:
    for scopes, missing in ((["dashboard:read"], "query:read"), (["query:read"], "dashboard:read")):
        refused = Client(posthog.url, posthog.create_key(scopes)).get("dashboards/1/run_insights/")
        assert (refused.status_code, refused.json()["detail"]) == (403, f"API key missing required scope '{missing}'")
    both = Client(posthog.url, posthog.create_key(["dashboard:read", "query:read"]))
    assert both.get("dashboards/1/run_insights/").status_code == 200


def test_collaborators(api: Client, posthog: EmulatorProcess) -> None:
    guest = Client(posthog.url, posthog.create_key(["*"], user=2))
    uuid = guest.get("/api/users/@me/").json()["uuid"]
    refused = api.post("dashboards/1/collaborators/", {"user_uuid": uuid, "level": 37})
    assert (refused.status_code, "lowest restriction level" in refused.json()["detail"]) == (400, True)
    assert _patch(api, "dashboards/1/", restriction_level=37).json()["restriction_level"] == 37
    assert _patch(guest, "dashboards/1/", name="mine").status_code == 403
    assert api.post("dashboards/1/collaborators/", {"user_uuid": uuid, "level": 37}).status_code == 201
    assert api.post("dashboards/1/collaborators/", {"user_uuid": uuid, "level": 37}).status_code == 400
    assert [each["user"]["uuid"] for each in api.get("dashboards/1/collaborators/").json()] == [uuid]
    assert _patch(guest, "dashboards/1/", name="mine").status_code == 200
    removed = api("DELETE", f"dashboards/1/collaborators/{uuid}/")
    assert (removed.status_code, removed.content) == (204, b"")
    assert api("DELETE", f"dashboards/1/collaborators/{uuid}/").status_code == 404
    assert _patch(guest, "dashboards/1/", name="yours").status_code == 403


@pytest.mark.parametrize("kind", ["insights", "dashboards"])
def test_sharing(api: Client, posthog: EmulatorProcess, kind: str) -> None:
    path = f"{kind}/1/sharing/"
    first, second = (api.get(path).json() for _ in range(2))
    assert [first["enabled"], first["created_at"]] == [False, None]
    assert first["access_token"] != second["access_token"], "nothing is stored before it is set"
    shared = _patch(api, path, enabled=True).json()
    assert api.get(path).json() == shared
    assert [shared["enabled"], shared["password_required"]] == [True, False]
    if kind == "dashboards":
        assert api.get("dashboards/1/").json()["is_shared"] is True
    assert _patch(api, path, enabled=False).json()["access_token"] == shared["access_token"]
    assert api.get(f"{kind}/99/sharing/").status_code == 404
    reader = Client(posthog.url, posthog.create_key(["sharing_configuration:read"]))
    assert reader.get(path).status_code == 200
    assert _patch(reader, path, enabled=True).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "dashboards/1/move_tile/"),
        ("POST", "dashboards/create_from_template_json/"),
        ("GET", "insights/1/analyze/"),
        ("GET", "insights/1/suggestions/"),
        ("POST", "insights/1/suggestions/"),
        ("POST", "insights/cancel/"),
    ],
)
def test_old_servers_close_actions_without_scope_to_keys(
    api: Client, posthog: EmulatorProcess, method: str, path: str
) -> None:
    posthog.settings(generation="A")
    refused = api(method, path, json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert refused.json()["detail"] == "This action does not support Personal API Key access"
