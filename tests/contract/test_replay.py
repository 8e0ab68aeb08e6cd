"""The comparison itself: it must see what it is there to see, and nothing recorded may be left out."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import requests

from tests.contract.accepted import ACCEPTED
from tests.contract.replay import HERE, RECORDINGS, Recording, Replay
from tests.contract.test_recordings_people import LIMITED, PEOPLE
from tests.contract.test_recordings_rest import CASES

REPLAY = Replay("http://127.0.0.1:8010", {})
# key, project token, person's key, JSON web token
SECRETS = r"ph[cxs]_\w{8,}|sk-\w{8,}|eyJ[\w-]{20,}|AKIA\w{12,}|(?<![\w-])[A-Za-z0-9]{43}(?![\w-])"


def answer(status: int, headers: dict[str, str], body: object) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made.headers.update(headers)
    made._content = (body if isinstance(body, str) else json.dumps(body)).encode()
    return made


def same(recording: Recording) -> requests.Response:
    return answer(recording.status, dict(recording.headers), recording.body)


@pytest.mark.parametrize("case", RECORDINGS)
def test_a_recording_is_like_itself(case: str) -> None:
    assert REPLAY.differences(RECORDINGS[case], same(RECORDINGS[case])) == []


def changed(case: str, path: str, value: object) -> list[str]:
    """Compare a recording with itself but for one value of its body; ``...`` takes a key away."""
    recording = RECORDINGS[case]
    body: Any = copy.deepcopy(recording.body)
    *way, last = [int(each) if each.isdigit() else each for each in path.split(".")]
    place = body
    for each in way:
        place = place[each]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return REPLAY.differences(recording, answer(recording.status, dict(recording.headers), body))


@pytest.mark.parametrize(
    ("case", "path", "value", "difference"),
    [
        ("persons.list", "results.3.uuid", ..., "body.results[].uuid: missing"),
        ("persons.list", "results.3.age", 7, "body.results[].age: not recorded"),
        ("persons.list", "results.3.is_identified", 1, "body.results[].is_identified: number instead of boolean"),
        ("persons.list", "results.3.distinct_ids", None, "body.results[].distinct_ids: null instead of list"),
        ("persons.list", "results.3.distinct_ids", [], "body.results[].distinct_ids: empty"),
        ("persons.list", "results.3.distinct_ids", [1], "body.results[].distinct_ids[]: number instead of text"),
        ("persons.list", "results", [], "body.results: empty"),
        ("persons.list_limit2", "next", None, "body.next: None instead of"),
        ("persons.list_limit2", "next", "http://127.0.0.1:8010/x/", "body.next: 'http://127.0.0.1:8010/x/' instead"),
        ("persons.list_limit2", "next", "http://127.0.0.1:8010/api/projects/1/persons/?offset=2", "body.next: param"),
        ("persons.post", "code", "other", "body.code: 'other' instead of"),
        ("persons.post", "attr", "x", "body.attr: 'x' instead of None"),
        ("persons.post", "detail", "No.", "body.detail: 'No.' instead of"),
        ("persons.post", "type", ..., "body: {"),
        ("insights.retrieve", "created_by.id", "1", "body.created_by.id: text instead of number"),
    ],
)
def test_a_difference_is_seen(case: str, path: str, value: object, difference: str) -> None:
    found = changed(case, path, value)
    assert len(found) == 1
    assert found[0].startswith(difference)


@pytest.mark.parametrize("name", ["Content-Type", "Allow"])
def test_headers_are_seen(name: str) -> None:
    recording = RECORDINGS["persons.list"]
    other = answer(200, {**recording.headers, name: "other"}, recording.body)
    assert [each.split(":")[0] for each in REPLAY.differences(recording, other)] == [f"header {name}"]


def test_the_wait_after_a_429_is_seen() -> None:
    recording = RECORDINGS["ratelimit.burst_429"]
    headers = {name: value for name, value in recording.headers.items() if name != "Retry-After"}
    assert len(REPLAY.differences(recording, answer(429, headers, recording.body))) == 1


def test_other_statuses_and_bodies_are_seen() -> None:
    recording = RECORDINGS["persons.delete_by_uuid"]
    other = answer(204, dict(recording.headers), {"persons_found": 1})
    assert REPLAY.differences(recording, other) == ["status: 204", "body: empty on one side only"]
    listed = RECORDINGS["persons.list"]
    assert REPLAY.differences(listed, answer(200, dict(listed.headers), "<html>"))[0].startswith("body: no JSON")


def test_every_recording_is_replayed() -> None:
    assert len(RECORDINGS) == 162
    assert {*PEOPLE, *LIMITED, *CASES} == set(RECORDINGS)


def test_few_differences_are_accepted() -> None:
    assert len(ACCEPTED) < 10
    assert all(each.reason for each in ACCEPTED)


def test_the_data_is_small_and_holds_no_secrets() -> None:
    files = sorted(HERE.glob("posthog_2024_10*.json"))
    assert len(files) == 2
    assert sum(each.stat().st_size for each in files) < 400_000
    for each in files:
        assert re.findall(SECRETS, each.read_text(encoding="utf-8")) == []
