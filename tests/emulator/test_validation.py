"""What is refused before anything is done, in the order and the words of the framework behind PostHog's API."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql

SOURCE = {"export_format": "text/csv", "export_context": {"source": hogql("SELECT 1 AS a")}}
LONG = "Ensure this field has no more than 400 characters."
NO_TIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)


@pytest.mark.parametrize(
    ("path", "body", "attr", "code", "detail"),
    [
        ("insights/", {"name": "x" * 401}, "name", "max_length", LONG),
        ("insights/", {"derived_name": "x" * 401}, "derived_name", "max_length", LONG),
        ("dashboards/", {"name": "ü" * 401}, "name", "max_length", LONG),
        ("exports/", {**SOURCE, "expires_after": "soon"}, "expires_after", "invalid_input", NO_TIME),
        (
            "exports/",
            {**SOURCE, "expires_after": "2999-01-01"},
            "expires_after",
            "date",
            "Expected a datetime but got a date.",
        ),
        # several are wrong: the first field is told
        ("exports/", {"dashboard": 99}, "dashboard", "does_not_exist", 'Invalid pk "99" - object does not exist.'),
        ("exports/", {"insight": 99, "export_format": "no"}, "insight", "does_not_exist", None),
        ("exports/", {"export_format": "no", "expires_after": "soon"}, "export_format", "invalid_choice", None),
        ("exports/", {"export_format": "image/png", "expires_after": "soon"}, "expires_after", "invalid_input", None),
    ],
)
def test_the_first_wrong_field_is_told(
    api: Client, posthog: EmulatorProcess, path: str, body: dict[str, object], attr: str, code: str, detail: str | None
) -> None:
    answer = api.post(path, body)
    told = answer.json()
    assert (answer.status_code, told["type"], told["attr"], told["code"]) == (400, "validation_error", attr, code)
    assert told["detail"] == (detail or told["detail"])


def test_names_of_just_the_right_length_are_taken(api: Client, posthog: EmulatorProcess) -> None:
    assert api.post("insights/", {"name": "x" * 400, "description": "x" * 4000}).status_code == 201
    assert api.post("dashboards/", {"name": "x" * 400}).status_code == 201


def test_an_export_expires_when_it_is_told_to(api: Client, posthog: EmulatorProcess) -> None:
    made = api.post("exports/", {**SOURCE, "expires_after": "2999-01-01T00:00:00Z"}).json()
    assert made["expires_after"] == "2999-01-01T00:00:00Z"
    posthog.advance(400 * 86_400)
    assert api.get(f"exports/{made['id']}/").status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/octet-stream", "application/jsonp"])
@pytest.mark.parametrize("path", ["exports/", "query/", "insights/"])
def test_a_body_of_another_kind_is_a_415(api: Client, posthog: EmulatorProcess, path: str, kind: str) -> None:
    answer = api("POST", path, data=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.json() == {
        "type": "invalid_request",
        "code": "unsupported_media_type",
        "detail": f'Unsupported media type "{kind}" in request.',
        "attr": None,
    }


def test_a_form_is_read_as_one(api: Client, posthog: EmulatorProcess) -> None:
    answer = api("POST", "insights/", data={"name": "from a form"})
    assert (answer.status_code, answer.json()["name"]) == (201, "from a form")
    json_too = {"Content-Type": "application/json; charset=utf-8"}
    assert api("POST", "insights/", data=b'{"name": "b"}', headers=json_too).status_code == 201


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer {token}", "authentication_failed"),
        ("Bearer phc_", "authentication_failed"),
        ("bearer {key}", None),
        ("Bearer    {key}", None),
        ("Basic {key}", "not_authenticated"),
        ("Bearer", "not_authenticated"),
        ("Bearer phs_unknown", "not_authenticated"),
    ],
)
def test_what_counts_as_a_key(posthog: EmulatorProcess, header: str, code: str | None) -> None:
    sent = header.format(token=posthog.project_token, key=posthog.api_key)
    answer = Client(posthog.url, None).get("exports/", headers={"Authorization": sent})
    assert answer.json().get("code") == code
    assert answer.status_code == (200 if code is None else 401)


def test_a_wrong_key_is_told_before_a_wrong_body(posthog: EmulatorProcess) -> None:
    headers = {"Authorization": "Bearer phx_nope", "Content-Type": "text/plain"}
    answer = Client(posthog.url, None)("POST", "exports/", data=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
    limited = Client(posthog.url, posthog.create_key(["query:read"]))
    answer = limited("POST", "insights/", data=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
