"""Persons, events, elements and groups: each recorded answer against the emulator at that age."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.contract.replay import RECORDINGS, Replay, cases

# of the recorded server, when it answered
THEN = datetime(2026, 11, 22, 1, 8, 35, tzinfo=timezone.utc)
PEOPLE = cases("persons.*", "events.*", "elements.*", "groups.*", "groups_types.*", "pages.events.*", "extra.persons_*")
PEOPLE += ["scope.ro_key_get_persons", "scope.ro_key_delete_person"]
LIMITED = cases("ratelimit.burst_429", "ratelimit.after_burst /api/projects/1/persons/")
# what had been done before, by the names of other recordings
BEFORE = {
    "persons.activity": ["persons.update_property"],
    "persons.delete_by_uuid_again": ["persons.delete_by_uuid"],
    "persons.delete_by_id_again": ["persons.delete_by_id"],
    "persons.list_after_delete": ["persons.delete_by_uuid", "persons.delete_by_id", "persons.bulk_delete_uuid_ids"],
}


@pytest.fixture(scope="module")
def empty_posthog() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(events=0, generation="A") as process:
        yield process


def _people() -> list[dict[str, Any]]:
    rows = sorted(RECORDINGS["persons.list"].body["results"], key=lambda row: row["created_at"])
    names = ("uuid", "created_at", "distinct_ids", "properties", "is_identified")
    return [{name: row[name] for name in names} for row in rows]


def _events(shift: timedelta) -> list[dict[str, Any]]:
    names = {"id": "uuid", "event": "event", "distinct_id": "distinct_id", "properties": "properties"}
    names["elements_chain"] = "elements_chain"
    return [
        {
            **{ours: row[name] for name, ours in names.items()},
            "timestamp": (datetime.fromisoformat(row["timestamp"]) + shift).isoformat(),
        }
        for row in RECORDINGS["events.list"].body["results"]
    ]


@pytest.fixture
def people(empty_posthog: EmulatorProcess) -> Replay:
    """Fill the emulator with the persons and events of the recorded server, which are as old as they were then."""
    empty_posthog.reset()
    shift = datetime.now(timezone.utc) - THEN
    empty_posthog.control("POST", "persons", {"persons": _people()})
    empty_posthog.control("POST", "capture", {"events": _events(shift)})
    keys = {"bearer": empty_posthog.api_key, "key_ro": empty_posthog.create_key(["insight:read", "dashboard:read"])}
    replay = Replay(empty_posthog.url, keys)
    for case in cases("pages.events.*"):
        before = RECORDINGS[case].path.partition("before=")[2].replace("%2B", "+").replace("%3A", ":")
        replay.ids[before] = (datetime.fromisoformat(before) + shift).isoformat()
    return replay


@pytest.mark.parametrize("case", PEOPLE)
def test_recorded_answer(people: Replay, case: str) -> None:
    for earlier in BEFORE.get(case, []):
        people.check(RECORDINGS[earlier], people.send(RECORDINGS[earlier]))
    recording = RECORDINGS[case]
    people.check(recording, people.send(recording))


SAME_VALUES = [
    "persons.list",
    "persons.list_limit2",
    "persons.list_next",
    "persons.list_limit0",
    "persons.list_search",
    "persons.list_distinct_id",
    "persons.list_email",
    "persons.retrieve_by_uuid",
    "persons.values",
    "events.values",
    "groups_types.list",
]


@pytest.mark.parametrize("case", SAME_VALUES)
def test_recorded_values(people: Replay, case: str) -> None:
    """With the same persons, the answers are the same down to their values."""
    text = people.send(RECORDINGS[case]).text.replace(people.url, "http://127.0.0.1:8010")
    wanted, found = RECORDINGS[case].body, json.loads(text)
    if case in ("events.values", "persons.values"):
        # values that are equally frequent come in any order
        wanted, found = [sorted(answer, key=lambda each: str(each["name"])) for answer in (wanted, found)]
    assert found == wanted


def test_recorded_csv(people: Replay) -> None:
    recording = RECORDINGS["persons.list_csv"]
    found = people.send(recording).text
    assert found.splitlines()[0] == recording.body.splitlines()[0]
    assert found == recording.body


@pytest.mark.parametrize("case", LIMITED)
def test_recorded_rate_limit(people: Replay, empty_posthog: EmulatorProcess, case: str) -> None:
    """Persons are counted on their own: they still answer when the calls of other lists are used up."""
    empty_posthog.settings(rate_limit_per_minute=1)
    people.send(RECORDINGS["groups_types.list"])
    people.check(RECORDINGS[case], people.send(RECORDINGS[case]))
