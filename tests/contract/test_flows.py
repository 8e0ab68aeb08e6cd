"""Every recorded flow, step by step: insights, exports from creation to content, and the erasure of a person."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.contract.replay import FLOWS, RECORDINGS, Recording, Replay
from tests.contract.test_recordings_people import LIMITED, PEOPLE
from tests.contract.test_recordings_rest import CASES, EARLY
from tests.emulator.client import Client, wait_for

# how long the worker takes; the clock is moved on where the recorded export was ready
WORK = 1000.0
ERASED = "01a20104-0ea3-0000-377d-bff1b95c70a4"
SECOND = "01a20104-0f66-0000-50c0-e557f31fbb8d"


class Flow:
    """A flow on its way through an emulator of the age of the recordings."""

    def __init__(self, posthog: EmulatorProcess, replay: Replay) -> None:
        self.posthog, self.replay = posthog, replay
        self.api = Client(posthog.url, posthog.api_key)
        # the recorded server's own worker came to its queries after the flow
        posthog.settings(export_seconds=WORK, async_seconds=WORK)

    def step(self, recording: Recording) -> requests.Response:
        """Send one step, once the emulator has come as far as the recorded server had."""
        if isinstance(recording.body, dict) and recording.body.get("has_content"):
            self._finish(recording)
        answer = self.replay.send(recording)
        self.replay.check(recording, answer)
        self.replay.learn(recording, answer)
        return answer

    def _finish(self, recording: Recording) -> None:
        self.posthog.advance(WORK)
        path = self.replay.path(recording.path).removeprefix("/api/projects/1/")
        wait_for(lambda: self.api.get(path).json()["has_content"])

    def run(self, name: str) -> dict[str, requests.Response]:
        """Send all steps of a flow and return the answers by the name of the step."""
        return {each.case.rpartition(".")[2]: self.step(each) for each in FLOWS[name]}


@pytest.fixture
def flow(old_posthog: EmulatorProcess, replay: Replay) -> Flow:
    return Flow(old_posthog, replay)


def _wanted(name: str, step: str) -> Recording:
    return next(each for each in FLOWS[name] if each.case == f"{name}.{step}")


def test_a_refreshed_insight(flow: Flow) -> None:
    answers = flow.run("insight-hogql")
    for step in ("2", "3", "8", "25"):
        assert (answers[step].json()["result"] is None) is (_wanted("insight-hogql", step).body["result"] is None), step
    for step in ("4", "5", "6", "12", "25"):
        assert answers[step].json()["types"] == _wanted("insight-hogql", step).body["types"], step
        assert answers[step].json()["hogql"] == _wanted("insight-hogql", step).body["hogql"], step
    # the misspelled forceblocking renewed nothing, true did
    refreshed = [answers[step].json()["last_refresh"] for step in ("6", "12", "16", "20", "24", "25")]
    assert refreshed[0] == refreshed[1] == refreshed[2] == refreshed[3] < refreshed[4] == refreshed[5]


def test_a_broken_insight(flow: Flow) -> None:
    answers = flow.run("insight-broken")
    assert answers["3"].json() == _wanted("insight-broken", "3").body
    assert answers["9"].json()["query_status"]["id"] == answers["5"].json()["query_status"]["id"]


EXPORTS = [each for each in FLOWS if each.startswith("export-") and each != "export-list"]


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export(flow: Flow, name: str) -> None:
    answers = flow.run(name)
    for each in FLOWS[name]:
        step = each.case.rpartition(".")[2]
        if isinstance(each.body, dict) and "has_content" in each.body:
            assert answers[step].json()["has_content"] is each.body["has_content"], step
        elif isinstance(each.body, str) and "csv" in name:
            # the rows are each server's own, the columns and how they are written are not
            ours, theirs = answers[step].content.decode().split("\r\n"), each.body.split("\r\n")
            assert (ours[0], len(ours)) == (theirs[0], len(theirs))


def test_the_text_of_an_empty_export(flow: Flow) -> None:
    name = "export-hogql-csv-empty"
    assert flow.run(name)["4"].content.decode() == _wanted(name, "4").body


def test_an_export_without_limit_is_cut(flow: Flow) -> None:
    answers = flow.run("export-hogql-nolimit")
    rows = answers["4"].content.decode().split("\r\n")
    assert (rows[0], rows[1], rows[-2], len(rows)) == ("number", "0", "49999", 50_002)


def test_a_list_of_exports(flow: Flow) -> None:
    for _ in range(12):
        assert flow.api.post("exports/", {"export_format": "image/png", "dashboard": 1}).status_code == 201
    found = flow.run("export-list")["1"].json()
    assert found["next"] == f"{flow.posthog.url}/api/projects/1/exports/?limit=3&offset=3"
    assert [found["count"], len(found["results"])] == [12, 3]


def _persons(flow: Flow) -> None:
    """Let two of the emulator's persons stand for two of the recorded server's."""
    found = [each for each in flow.api.get("persons/?limit=200").json()["results"] if each["properties"].get("email")]
    events = "select count() from events where distinct_id in {ids}"
    active = [each for each in found if flow.api.query(events, ids=each["distinct_ids"]).json()["results"][0][0]]
    for uuid, person in zip((ERASED, SECOND), active, strict=False):
        flow.replay.ids[uuid] = person["uuid"]
    flow.replay.ids |= {
        "user-4": active[0]["distinct_ids"][0],
        "user@example.invalid": active[0]["properties"]["email"],
    }
    flow.replay.ids["user-1"] = active[1]["distinct_ids"][0]


def test_an_erased_person(flow: Flow) -> None:
    _persons(flow)
    answers = flow.run("erase-with-events")
    name = "erase-with-events"
    for step in ("2", "5", "11"):
        found, wanted = (each["results"] for each in (answers[step].json(), _wanted(name, step).body))
        assert len(found) == len(wanted), step
    # a misspelled filter lists everybody
    assert len(answers["3"].json()["results"]) > 1
    for step in ("8", "12"):
        assert len(answers[step].json()["results"]) == len(_wanted(name, step).body["results"]), step
    # the events are still counted
    counts = [answers[step].json()["results"][0][0] for step in ("7", "14")]
    assert counts[0] == counts[1] > 0


def test_flags_as_text_and_what_generation_a_has_not(flow: Flow) -> None:
    _persons(flow)
    assert flow.run("flags-as-text")["1"].content == b""
    flow.run("deletion-status")


def test_the_activity_of_persons(flow: Flow) -> None:
    _persons(flow)
    uuid = flow.replay.ids[SECOND]
    changed = flow.api.post(f"persons/{uuid}/delete_property/", {"$unset": "email"})
    assert changed.status_code == 201
    results = flow.run("activity")["1"].json()["results"]
    assert results[0]["activity"] == _wanted("activity", "1").body["results"][0]["activity"]


TESTED = {
    *EXPORTS,
    "insight-hogql",
    "insight-broken",
    "export-list",
    "erase-with-events",
    "flags-as-text",
    "deletion-status",
    "activity",
}


def test_nothing_that_was_recorded_is_left_out() -> None:
    assert set(FLOWS) == TESTED
    assert {*CASES, *EARLY, *PEOPLE, *LIMITED} == set(RECORDINGS)
