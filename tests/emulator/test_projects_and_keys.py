"""A second project in one server, the secret keys of projects, and what today's servers do that older ones did not."""

from __future__ import annotations

import json

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from airflow_provider_posthog.emulator.project import EmulatorProject
from tests.emulator.client import Client, hogql


class Other(Client):
    """A client of another project than the first."""

    def __init__(self, project: EmulatorProject, key: str | None = None) -> None:
        super().__init__(project.url, key or project.api_key)
        self.project = project.project_id

    def __call__(self, method: str, path: str, **options: object) -> requests.Response:
        full = path if path.startswith("/") else f"/api/projects/{self.project}/{path}"
        return super().__call__(method, full, **options)


# -- a second project -------------------------------------------------------------------------------------------------


def test_a_second_project_has_events_persons_and_settings_of_its_own(api: Client, posthog: EmulatorProcess) -> None:
    project = EmulatorProject(posthog, events=50, days=2, timezone="America/New_York", name="Shop two")
    other = Other(project)
    project.capture([{"event": "only here", "distinct_id": "ada", "timestamp": "2026-11-20T10:00:00Z"}])
    sql = "SELECT count(), any(team_id), any(timestamp) FROM events WHERE event = 'only here'"
    assert other.query(sql).json()["results"] == [[1, project.project_id, "2026-11-20T05:00:00-05:00"]]
    assert api.query("SELECT count() FROM events WHERE event = 'only here'").json()["results"] == [[0]]
    assert other.query("SELECT count() FROM events").json()["results"] == [[51]]
    shown = other.get("").json()
    assert (shown["id"], shown["name"], shown["timezone"]) == (project.project_id, "Shop two", "America/New_York")
    assert shown["api_token"] == project.project_token != posthog.project_token
    assert other.get("persons/?search=ada").json()["results"][0]["distinct_ids"] == ["ada"]
    listed = api.get("/api/organizations/@current/").json()["projects"]
    assert [each["id"] for each in listed] == [1, project.project_id]


def test_exports_and_settings_of_one_project_are_not_those_of_another(api: Client, posthog: EmulatorProcess) -> None:
    project = EmulatorProject(posthog)
    other = Other(project)
    project.settings(generation="A")
    made = other.export(hogql("SELECT count() AS n FROM events"))
    assert other.content(made["id"]).text == "n\r\n0\r\n"
    assert api.get("exports/").json()["count"] == 0
    assert other.query("SELECT 1;").status_code == 400
    assert api.query("SELECT 1;").status_code == 200


def test_a_key_of_one_project_does_not_open_another(posthog: EmulatorProcess) -> None:
    project = EmulatorProject(posthog)
    key = posthog.create_key(projects=[1])
    assert Client(posthog.url, key).query("SELECT 1").status_code == 200
    assert Other(project, key).query("SELECT 1").status_code == 403


def test_a_reset_takes_further_projects_away(api: Client, posthog: EmulatorProcess) -> None:
    project = EmulatorProject(posthog)
    posthog.reset()
    assert Other(project).get("").status_code == 404
    with pytest.raises(EmulatorError, match="Project not found"):
        project.settings()
    again = EmulatorProject(posthog)
    assert (again.project_id, again.project_token) == (project.project_id, project.project_token)


def test_a_project_that_makes_no_sense_is_refused(posthog: EmulatorProcess) -> None:
    for options in ({"timezone": "Mars"}, {"start": "soon"}, {"events": "many"}, {"evnts": 3}):
        with pytest.raises(EmulatorError, match=": 400 "):
            EmulatorProject(posthog, **options)


# -- secret keys ------------------------------------------------------------------------------------------------------


def test_a_secret_key_reads_queries_and_knows_no_user(posthog: EmulatorProcess) -> None:
    key = posthog.create_secret_key()
    client = Client(posthog.url, key)
    assert key.startswith("phs_")
    assert client.query("SELECT 1").json()["results"] == [[1]]
    assert client.post("/api/projects/@current/query/", {"query": hogql("SELECT 2")}).json()["results"] == [[2]]
    # what does not opt in for such keys sees no key at all
    for path in ("/api/users/@me/", "exports/", "persons/", "insights/", "", "/api/organizations/@current/"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), path


def test_a_secret_key_has_scopes_of_its_own(posthog: EmulatorProcess) -> None:
    experiments = Client(posthog.url, posthog.create_secret_key(["experiment:read"]))
    assert experiments.get("experiments/").status_code == 200
    answer = experiments.query("SELECT 1")
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    with pytest.raises(EmulatorError, match="has no scope 'export:read'"):
        posthog.create_secret_key(["export:read"])


def test_a_secret_key_is_of_one_project_and_ends_with_its_revocation(posthog: EmulatorProcess) -> None:
    project = EmulatorProject(posthog)
    key = project.create_secret_key()
    mine, foreign = Other(project, key), Client(posthog.url, key)
    assert (mine.query("SELECT 1").status_code, foreign.query("SELECT 1").status_code) == (200, 403)
    project.control("DELETE", "keys", {"api_key": key})
    assert mine.query("SELECT 1").json()["code"] == "not_authenticated"


def test_the_limits_of_personal_keys_are_not_those_of_secret_ones(posthog: EmulatorProcess) -> None:
    posthog.settings(rate_limit_per_minute=1)
    personal, secret = Client(posthog.url, posthog.api_key), Client(posthog.url, posthog.create_secret_key())
    assert [personal.query("SELECT 1").status_code for _ in range(2)] == [200, 429]
    assert [secret.query("SELECT 1").status_code for _ in range(3)] == [200, 200, 200]


# -- both limits ------------------------------------------------------------------------------------------------------


def test_calls_and_bytes_are_limited_side_by_side(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(rate_limit_per_minute=3, query_bytes_per_hour=3600, query_budget_hours=1)
    first = api.query("SELECT count() FROM events WHERE properties.x = 'y'")
    assert first.status_code == 200
    second = api.query("SELECT 1")
    assert (second.status_code, second.json()["code"]) == (429, "api_queries_budget_exceeded")
    # a refused query is a call all the same
    assert api.query("SELECT 1").json()["code"] == "api_queries_budget_exceeded"
    fourth = api.query("SELECT 1")
    assert (fourth.status_code, fourth.json()["code"]) == (429, "throttled")
    assert int(fourth.headers["Retry-After"]) <= 60 < int(second.headers["Retry-After"])
    posthog.advance(61)
    assert api.query("SELECT 1").json()["code"] == "api_queries_budget_exceeded"


# -- deletions that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "failing", "status"), [("C", 2, 500), ("C", 1, 202), ("C", 0, 202), ("B", 2, 202)]
)
def test_a_bulk_deletion_that_fails_for_everybody_is_an_error_with_its_summary(
    api: Client, posthog: EmulatorProcess, generation: str, failing: int, status: int
) -> None:
    posthog.settings(generation=generation, persons_queued=False, bulk_failure_status=500)
    uuids = posthog.add_persons(2)
    posthog.fail_deletions(uuids[:failing])
    answer = api.post("persons/bulk_delete/", {"ids": uuids})
    assert answer.status_code == status
    summary = answer.json()
    assert (summary["persons_found"], summary["persons_deleted"]) == (2, 2 - failing)
    assert [each["person_uuid"] for each in summary["deletion_errors"]] == uuids[:failing]


def test_a_bulk_deletion_of_nobody_is_no_error(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(persons_queued=False)
    answer = api.post("persons/bulk_delete/", {"ids": ["018f8a88-0000-0000-0000-000000000000"]})
    assert (answer.status_code, answer.json()["persons_found"]) == (202, 0)


def test_content_that_is_not_ready_yet_may_be_a_425(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(not_ready=425, export_seconds=60)
    body = {"export_format": "text/csv", "export_context": {"source": hogql("SELECT 1 AS a")}}
    made = api.post("exports/", body).json()
    assert api.get(f"exports/{made['id']}/content/").status_code == 425
    assert json.loads(api.get(f"exports/{made['id']}/").text)["has_content"] is False
