"""Scenarios: a YAML file fills the emulator, again after each reset, and what is wrong in it is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_posthog.emulator.__main__ import parser
from airflow_provider_posthog.emulator.control.scenario import ScenarioError, read_scenario
from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from tests.emulator.client import Client

SHOP = """
projects:
  - name: First
    timezone: Europe/Berlin
    data: {events: 40, seed: 3, start: 2026-11-01, days: 2}
    settings:
      export_seconds: 0
    keys:
      - {name: reader, scopes: ["query:read"]}
      - {name: endpoints, secret: true}
    persons:
      - {distinct_ids: [ada], properties: {email: ada@example.invalid}}
    events:
      - {event: joined, distinct_id: ada, timestamp: 2026-11-20T10:00:00Z, properties: {plan: pro}}
    cohorts:
      - {name: Beta, is_static: true, distinct_ids: [ada]}
      - {name: Of contacts, query: "SELECT id FROM persons WHERE properties.email IN (SELECT email FROM crm.contacts)"}
    actions:
      - {name: Signed up, steps: [{event: joined}]}
    tables:
      - name: crm.contacts
        columns: {email: String, owner: Nullable(String)}
        rows:
          - {email: ada@example.invalid, owner: Grace}
    views:
      - {name: owned, query: "SELECT email FROM crm.contacts WHERE owner != ''"}
    rows:
      - {table: system.source_sync_jobs, rows: [{id: job, status: Failed}]}
  - name: Second
    events:
      - {event: only here, distinct_id: bob}
faults:
  - {method: GET, path: "*/exports/", status: 503, count: 1}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_scenario_fills_the_emulator_and_fills_it_again_after_a_reset(tmp_path: Path) -> None:
    with EmulatorProcess(scenario=str(write(tmp_path, SHOP))) as posthog:
        api = Client(posthog.url, posthog.api_key)
        for _ in range(2):
            reader, secret = (str(key["api_key"]) for key in posthog.keys)
            assert api.query("SELECT count() FROM events").json()["results"] == [[41]]
            assert api.query("SELECT timestamp FROM events WHERE event = 'joined'").json()["results"] == [
                ["2026-11-20T11:00:00+01:00"]
            ]
            joined = (
                "SELECT count() FROM events e JOIN owned o ON o.email = e.person.properties.email "
                "WHERE matchesAction('Signed up') AND person_id IN COHORT 'Beta' AND person_id IN COHORT 'Of contacts'"
            )
            assert api.query(joined).json()["results"] == [[1]]
            assert api.query("SELECT status FROM system.source_sync_jobs").json()["results"] == [["Failed"]]
            assert Client(posthog.url, reader).get("exports/").status_code == 503
            assert Client(posthog.url, reader).get("exports/").status_code == 403
            assert Client(posthog.url, secret).query("SELECT 1").status_code == 200
            second = api.post(
                "/api/projects/3/query/", {"query": {"kind": "HogQLQuery", "query": "SELECT 1 FROM events"}}
            )
            assert second.json()["results"] == [[1]]
            assert api.get("").json()["name"] == "First"
            api.query("SELECT 1")
            posthog.capture([{"event": "more", "distinct_id": "ada"}])
            posthog.settings(export_seconds=9, timezone="UTC")
            posthog.reset()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("evnts: []", "line 1: `evnts`: there is no such key. There are: name, timezone, data"),
        ("settings: 3", "line 1: `settings`: takes a mapping."),
        ("data: {events: many}", "line 1: `data.events`: takes a whole number, 0 or more, not 'many'."),
        ("data:\n  evnts: 3", "line 2: `data.evnts`: there is no such key. There are: events, seed, start, days."),
        ("events:\n  - event: x\n  - 3", "line 3: `events[1]`: takes a mapping, not 3."),
        ("keys: {}", "line 1: `keys`: takes a list."),
        ("projects: []", "line 1: `projects`: takes a list of projects, at least one."),
        ("projects:\n  - 3", "line 2: `projects[0]`: takes a mapping, such as `events: [...]`."),
        (
            "projects:\n  - events: []\nevents: []",
            "line 3: `events`: there is no such key. There are: projects, faults.",
        ),
        ("events: []\ntables: []\nevents:\n  - {event: x}", "line 3: `events`: stands here twice."),
        ("rows:\n  - table: logs\n    rows: []\n    table: x", "line 4: `rows[0].table`: stands here twice."),
        ("data: {days: 0}", "line 1: `data.days`: takes a whole number, 1 or more, not 0."),
        ("keys: [!!binary aGVsbG8=]", "line 1: `keys[0]`: takes a mapping, not"),
        ("projects:\n  - x: 1", "line 2: `projects[0].x`: there is no such key."),
        ("events: [", "line 1: is not YAML"),
        ("- 3", "line 1: a scenario is a mapping"),
        ("", "line 1: a scenario is a mapping"),
    ],
)
def test_a_scenario_of_the_wrong_shape_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_scenario(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'scenario.yaml'}, {says}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([f"--scenario={tmp_path / 'nope.yaml'}"])
    assert "nope.yaml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("settings:\n  export_outcome: maybe", "line 1: `settings`: Setting 'export_outcome' takes one of"),
        ("data: {events: 0, start: soon}", "line 1: `data.start`: 'soon' is not a date: write YYYY-MM-DD"),
        ("keys:\n\n  - scopes: all", "line 3: `keys[0]`: 'scopes' takes a list of texts, not 'all'."),
        ("timezone: Mars", "line 1: `timezone`: Setting 'timezone' takes an IANA time zone, not 'Mars'."),
    ],
)
def test_what_the_emulator_refuses_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(EmulatorError) as caught, EmulatorProcess(events=0, scenario=str(write(tmp_path, text))):
        pass
    assert f"scenario.yaml, {says}" in str(caught.value)
