"""The three ages of PostHog."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.emulator.settings import OCTOBER_2024
from tests.emulator.client import Client


@pytest.mark.parametrize("generation", ["A", "B", "C"])
def test_a_process_keeps_its_age(generation: str) -> None:
    with EmulatorProcess(events=20, days=1, generation=generation) as posthog:
        posthog.settings(generation="B")
        posthog.reset()
        api = Client(posthog.url, posthog.api_key)
        statuses = [api.get(path).status_code for path in ("persons/deletion_status/", "elements/")]
        assert statuses == ([400, 403] if generation == "A" else [200, 200])
        assert Client(posthog.url, None).get("persons/").status_code == (403 if generation == "A" else 401)
        made = api.post("exports/", {"export_format": "text/csv", "export_context": {"path": "/x"}}).json()
        assert ("exception" in made) is (generation != "A")


def test_an_age_is_a_setting_with_what_belongs_to_it(api: Client, posthog: EmulatorProcess) -> None:
    old = posthog.settings(generation="A")
    assert {name: old[name] for name in OCTOBER_2024} == OCTOBER_2024
    assert posthog.settings(generation="A", exceptions_reported=True)["exceptions_reported"] is True
    new = posthog.settings(generation="C")
    posthog.reset()
    assert new == posthog.settings()


def test_closed_to_keys_and_not_there(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(generation="A")
    for path in ("elements/stats/", "elements/values/", "groups/find/", "groups/property_values/", "groups/related/"):
        answer = api.get(path)
        assert answer.json()["detail"] == "This action does not support Personal API Key access"
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert api.post("persons/batch_by_uuids/", {"uuids": []}).status_code == 403
    assert api.get("groups/").headers["Allow"] == "GET, HEAD, OPTIONS"
    posthog.settings(generation="C")
    assert api.get("groups/").headers["Allow"] == "GET, POST, HEAD, OPTIONS"
