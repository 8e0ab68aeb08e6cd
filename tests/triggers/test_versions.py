"""Triggers and events of another version of the provider: while it is upgraded, both run side by side."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger, check_event
from airflow_provider_posthog.triggers.jobs import JobEvent, PostHogJobTrigger
from airflow_provider_posthog.triggers.refresh import PostHogRefreshTrigger
from tests.operators.support import export_operator, run_trigger

#: What 0.1 has stored in Airflow's database; never written anew.
STORED: dict[str, Any] = json.loads((Path(__file__).parent / "stored_0_1.json").read_text(encoding="utf-8"))
EVENTS = hasattr(importlib.import_module("airflow.triggers.base"), "BaseEventTrigger")
TRIGGERS = [each for each in STORED["triggers"] if EVENTS or "triggers.events" not in each[0]]


def _revive(path: str, arguments: dict[str, Any]) -> BaseTrigger:
    module, _, name = path.rpartition(".")
    made: BaseTrigger = getattr(importlib.import_module(module), name)(**arguments)
    return made


@pytest.mark.parametrize(("path", "arguments"), TRIGGERS)
def test_what_0_1_has_stored_still_means_the_same(path: str, arguments: dict[str, Any]) -> None:
    found, now = _revive(path, arguments).serialize()
    assert found == path
    assert {name: now[name] for name in arguments} == arguments


@pytest.mark.parametrize(("path", "arguments"), TRIGGERS)
def test_arguments_of_a_newer_version_are_ignored(path: str, arguments: dict[str, Any]) -> None:
    revived = _revive(path, {**arguments, "of_tomorrow": {"a": 1}, "another": None})
    assert revived.serialize() == _revive(path, arguments).serialize()


@pytest.mark.parametrize(("path", "arguments"), TRIGGERS)
def test_arguments_that_are_missing_have_defaults(path: str, arguments: dict[str, Any]) -> None:
    for name in arguments:
        _revive(path, {key: value for key, value in arguments.items() if key != name})
    _revive(path, {})


def test_a_newer_workers_trigger_runs_in_an_older_triggerer(connected: EmulatorProcess) -> None:
    export_operator(wait_for_completion=False).execute({})
    arguments = {"kind": "export", "job_id": "1", "poll_interval": 0.1, "of_tomorrow": 1}
    assert run_trigger(PostHogJobTrigger(**arguments))["outcome"] == "succeeded"


@pytest.mark.parametrize(
    "trigger",
    [
        PostHogJobTrigger(kind="of_tomorrow", job_id="1", deadline=time.time() + 20),
        PostHogJobTrigger(deadline=time.time() + 20),
        PostHogCheckTrigger(deadline=time.time() + 20),
        PostHogCheckTrigger(check="of_tomorrow", deadline=time.time() + 20),
    ],
)
def test_what_this_version_cannot_watch_ends_with_an_event_that_says_so(
    connected: EmulatorProcess, trigger: PostHogJobTrigger
) -> None:
    event = run_trigger(trigger)
    assert event["outcome"] == "refused"
    assert "Restart the triggerer and the workers" in event["reason"]
    assert connected.calls() == []


def test_a_refresh_of_nothing_is_no_success() -> None:
    assert PostHogRefreshTrigger().items == []


def test_the_events_of_0_1_are_read_and_so_are_those_with_more_fields() -> None:
    plain, superseded, check = STORED["events"]
    for event in (plain, {**plain, "of_tomorrow": [1], "facts": "not of this version"}):
        told = JobEvent.parse(event, "export", "42")
        assert (told.ended.outcome, told.facts, told.try_number) == ("succeeded", {}, 2)
    assert JobEvent.parse(superseded, "export").superseded == ["41"]
    assert check_event({**check, "of_tomorrow": 1}, "insight_fresh").facts["id"] == 5


@pytest.mark.parametrize("facts", [{"id": 43, "has_content": True}, [], None, {}, {"has_content": True}])
def test_facts_of_another_job_are_not_believed(connected: EmulatorProcess, facts: object) -> None:
    event = {**STORED["events"][0], "facts": facts}
    assert JobEvent.parse(event, "export", "42").facts == {}


def test_facts_of_a_job_that_did_not_succeed_are_not_believed() -> None:
    event = {**STORED["events"][1], "facts": {"id": 42, "has_content": True}}
    assert JobEvent.parse(event, "export", "42").facts == {}
