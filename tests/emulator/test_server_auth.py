"""Keys, scopes, projects and the addresses that there are not."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql


def test_no_key_today(api: Client) -> None:
    answer = Client(api.url, None).get("exports/")
    assert answer.status_code == 401
    assert answer.json()["code"] == "not_authenticated"
    assert answer.json()["detail"] == "Authentication credentials were not provided."
    challenge = f'Bearer resource_metadata="{api.url}/.well-known/oauth-protected-resource"'
    assert answer.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("status", [401, 403])
def test_invalid_key_is_always_401(api: Client, posthog: EmulatorProcess, status: int) -> None:
    posthog.settings(unauthenticated_status=status)
    for key in ("phx_wrong", posthog.project_token):
        answer = Client(api.url, key).get("exports/")
        assert answer.status_code == 401
        assert answer.json() == {
            "type": "authentication_error",
            "code": "authentication_failed",
            "detail": "Personal API key found in request Authorization header is invalid.",
            "attr": None,
        }


def test_key_in_body_or_query(api: Client, posthog: EmulatorProcess) -> None:
    nobody = Client(api.url, None)
    body = {"name": "x", "personal_api_key": posthog.api_key}
    assert nobody.post("insights/", body).status_code == 201
    listed = nobody.get(f"exports/?limit=1&personal_api_key={posthog.api_key}")
    assert listed.status_code == 200
    assert posthog.api_key not in str(posthog.calls())


@pytest.mark.parametrize(
    ("scopes", "method", "path", "body", "missing"),
    [
        (["export:write"], "GET", "exports/", None, None),
        (["insight:read"], "GET", "exports/", None, "export:read"),
        (["export:read"], "POST", "exports/", {"export_format": "text/csv"}, "export:write"),
        (["export:write"], "POST", "exports/", {"insight": 1, "export_format": "image/png"}, "insight:read"),
        (["export:write"], "POST", "exports/", {"dashboard": 1, "export_format": "image/png"}, "dashboard:read"),
        (
            ["export:write", "insight:read"],
            "POST",
            "exports/",
            {"export_format": "text/csv", "insight": 1, "export_context": {"source": hogql("select 1")}},
            "query:read",
        ),
        (
            ["export:write", "query:read"],
            "POST",
            "exports/",
            {"export_format": "text/csv", "export_context": {"source": hogql("select 1")}},
            None,
        ),
        (["insight:read"], "POST", "query/", {"query": hogql("select 1")}, "query:read"),
        (["insight:read"], "PATCH", "insights/1/", {}, "insight:write"),
        (["insight:read"], "GET", "/api/projects/1/", None, "project:read"),
        (["insight:read"], "GET", "/api/users/@me/", None, "user:read"),
        (["user:read"], "GET", "/api/users/@me/", None, None),
    ],
)
def test_scopes(
    posthog: EmulatorProcess, scopes: list[str], method: str, path: str, body: object, missing: str | None
) -> None:
    caller = Client(posthog.url, posthog.create_key(scopes))
    answer = caller(method, path, json=body)
    if missing is None:
        assert answer.status_code in (200, 201), answer.text
        return
    assert answer.status_code == 403
    assert answer.json() == {
        "type": "authentication_error",
        "code": "permission_denied",
        "detail": f"API key missing required scope '{missing}'",
        "attr": None,
    }


def test_key_of_another_project(posthog: EmulatorProcess) -> None:
    caller = Client(posthog.url, posthog.create_key(projects=[2]))
    answer = caller.get("exports/")
    assert answer.status_code == 403
    assert answer.json()["detail"] == "API key does not have access to the requested project: ID 1."
    assert caller.get("/api/users/@me/").status_code == 200
    assert Client(posthog.url, posthog.create_key(projects=[1, 2])).get("exports/").status_code == 200


def test_users_see_their_own_exports_only(api: Client, posthog: EmulatorProcess) -> None:
    mine = api.post("exports/", {"export_format": "image/png", "insight": 1}).json()
    api.ended(mine["id"])
    second_key = Client(posthog.url, posthog.create_key(user=1))
    teammate = Client(posthog.url, posthog.create_key(user=2))
    assert second_key.get(f"exports/{mine['id']}/").status_code == 200
    assert teammate.get("exports/").json()["count"] == 0
    for path in ("", "content/"):
        assert teammate.get(f"exports/{mine['id']}/{path}").status_code == 404
    theirs = teammate.post("exports/", {"export_format": "image/png", "insight": 1}).json()
    assert [each["id"] for each in api.get("exports/").json()["results"]] == [mine["id"]]
    assert [each["id"] for each in teammate.get("exports/").json()["results"]] == [theirs["id"]]
    assert teammate.get("/api/users/@me/").json()["email"] != api.get("/api/users/@me/").json()["email"]


def test_environments_alias(api: Client, posthog: EmulatorProcess) -> None:
    path = "/api/environments/1/exports/?limit=1"
    assert api.get(path).status_code == 404
    posthog.settings(environments_alias=True)
    for _ in range(2):
        assert api.post("/api/environments/1/exports", {"export_format": "image/png", "insight": 1}).status_code == 201
    assert api.get(path).json()["next"] == f"{api.url}/api/environments/1/exports/?limit=1&offset=1"


def test_slash_is_optional_and_current_works(api: Client) -> None:
    for path in ("/api/projects/1/exports", "/api/projects/@current/exports/", "/api/projects/1", "/api/users/@me"):
        assert api.get(path).status_code == 200


def test_unknown_endpoint(api: Client) -> None:
    answer = api.get("nothing/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_headers(api: Client) -> None:
    answer = api.get("exports/")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert api.get("insights/", headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in api.get("insights/", headers={"Accept-Encoding": "identity"}).headers


def test_broken_json(api: Client) -> None:
    answer = api("POST", "exports/", data=b"{no", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")
