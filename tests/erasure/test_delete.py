"""Asking for deletions: what is sent, in which order, and what becomes of failures and lost answers."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import detect
from airflow_provider_posthog.exceptions import (
    PostHogErasureError,
    PostHogPermissionError,
    PostHogServerError,
    PostHogSettingsError,
)
from tests.erasure.support import DAY, Lab, client_of
from tests.operators.support import context

BULK = "*/persons/bulk_delete/"
GENERATIONS = pytest.mark.parametrize("generation", "ABC")


def asked(lab: Lab) -> list[dict[str, Any]]:
    return [call["body"] for call in lab.posthog.calls("bulk_delete") if call["status"] == 202]


@GENERATIONS
def test_the_generation_is_known_before_anything_is_deleted(connected: EmulatorProcess, generation: str) -> None:
    connected.settings(generation=generation)
    with client_of(connected) as client:
        found = detect(ErasureClient(client))
    assert found.generation == {"A": "A"}.get(generation, "B")
    assert found.can_keep_persons == (generation != "A")
    assert not [call for call in connected.calls("bulk_delete")]


def test_a_key_without_the_scope_is_no_old_server(connected: EmulatorProcess) -> None:
    connected.settings(generation="A")
    with client_of(connected) as client:
        connected.faults(path="*/batch_by_distinct_ids/", status=403, body=_missing_scope())
        with pytest.raises(PostHogPermissionError, match="person:read"):
            detect(ErasureClient(client))


def _missing_scope() -> dict[str, Any]:
    detail = "API key missing required scope 'person:read'"
    return {"type": "authentication_error", "code": "permission_denied", "detail": detail, "attr": None}


def test_a_server_like_none_that_is_known_deletes_nothing(lab: Lab) -> None:
    lab.posthog.faults(path="*/deletion_status/", status=404, body={"detail": "Not found."})
    with pytest.raises(PostHogErasureError, match="no known version"):
        lab.delete(lab.resolve())
    assert asked(lab) == []


def test_events_and_recordings_go_before_the_profile(lab: Lab) -> None:
    lab.recording()
    found = lab.delete()
    ids = [lab.person]
    assert asked(lab) == [
        {"ids": ids, "delete_events": True, "delete_recordings": True, "keep_person": True},
        {"ids": ids, "delete_events": True},
    ]
    assert (found["generation"], found["accepted"], found["recordings"]) == ("C", 1, 1)


def test_the_oldest_servers_get_one_call_and_no_flag_that_they_ignore(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    assert lab.delete()["generation"] == "A"
    assert asked(lab) == [{"ids": [lab.person], "delete_events": True}]


def test_only_what_was_asked_for_is_sent(lab: Lab) -> None:
    lab.delete(delete_events=False, delete_recordings=False)
    assert asked(lab) == [{"ids": [lab.person]}]


@pytest.mark.parametrize("generation", "BC")
def test_a_person_is_kept(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    lab.wish = {"keep_person": True}
    lab.delete()
    assert [body["keep_person"] for body in asked(lab)] == [True]
    assert lab.look() == "EVENTS_PENDING"
    lab.posthog.advance(7 * DAY)
    assert lab.look() == "VERIFIED"
    assert lab.raw.get(f"persons/{lab.person}/").status_code == 200


def test_a_server_that_would_delete_a_kept_person_is_not_asked(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    with pytest.raises(PostHogSettingsError, match="keep_person"):
        lab.delete(keep_person=True)
    assert asked(lab) == []


def test_a_server_that_would_leave_recordings_is_not_asked(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    lab.recording()
    with pytest.raises(PostHogSettingsError, match=r"delete_recordings.* 1 recordings"):
        lab.delete()
    assert asked(lab) == []
    assert lab.delete(lab.resolve(), delete_recordings=False)["accepted"] == 1


def test_keeping_everything_is_no_deletion(lab: Lab) -> None:
    with pytest.raises(PostHogSettingsError, match="keep_person"):
        lab.delete(keep_person=True, delete_events=False, delete_recordings=False)


def test_who_could_not_be_deleted_is_named_and_asked_for_again(lab: Lab) -> None:
    lab.posthog.settings(generation="C", persons_queued=False)  # as B, but it also tells the step
    other = lab.add(f"{lab.name}-other")
    lab.posthog.fail_deletions([lab.person], "tombstone_clickhouse")
    found = lab.resolve()
    place = lab.named().index(lab.person) + 1
    with pytest.raises(PostHogErasureError, match=f"PARTIAL: 1 of 2 .* person {place} of the work file") as failure:
        lab.delete(found)
    assert not {other, lab.person} & {*str(failure.value).split()}, "a UUID gives away the distinct id"
    assert failure.value.states == {"PARTIAL": 1, "REQUESTED": 1}
    lab.posthog.fail_deletions([])
    before = len(asked(lab))
    assert lab.delete(found)["accepted"] == 2
    assert [body["ids"] for body in asked(lab)[before:]] == [[lab.person]], "nobody else is asked for twice"
    lab.posthog.advance(7 * DAY)
    assert lab.look() == "VERIFIED"


def test_a_500_of_the_oldest_servers_orphans_events_and_is_told(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    others = [lab.add(f"{lab.name}-{number}") for number in range(2)]
    found = lab.resolve()
    order = lab.named()
    lab.posthog.fail_deletions([order[1]])
    with pytest.raises(PostHogErasureError, match="PARTIAL: 2 of 3") as failure:
        lab.delete(found)
    assert sorted(order) == sorted([*others, lab.person])
    assert "person 1 of the work file: the profile is gone" in str(failure.value)
    assert "person 2 of the work file: PostHog answered 500" in str(failure.value)
    assert "person 3" not in str(failure.value), "asked for alone, after the failure"
    lab.posthog.fail_deletions([])
    with pytest.raises(PostHogErasureError, match="PARTIAL: 1 of 3"):  # what is orphaned stays so
        lab.delete(found)


@pytest.mark.parametrize(
    ("generation", "fault"),
    [
        ("A", {"cut": "after"}),
        ("A", {"status": 502, "work": True, "body": "<html>"}),
        ("A", {"cut": "before"}),
        ("B", {"cut": "after"}),
        ("C", {"cut": "after"}),
        ("C", {"cut": "before"}),
    ],
)
def test_a_lost_answer_is_no_failure_and_no_success(lab: Lab, generation: str, fault: dict[str, Any]) -> None:
    lab.posthog.settings(generation=generation)
    found = lab.resolve()
    lab.posthog.faults(method="POST", path=BULK, skip=0 if generation == "A" else 1, **fault)
    assert lab.delete(found)["accepted"] == 1
    assert lab.look() == "EVENTS_PENDING"
    lab.posthog.advance(7 * DAY)
    assert lab.look() == "VERIFIED"


def test_a_server_that_stays_away_fails_the_task_and_the_retry_goes_on(lab: Lab) -> None:
    found = lab.resolve()
    lab.posthog.faults(
        method="POST", path=BULK, status=500, skip=1, count=-1, body={"detail": "A server error occurred."}
    )
    with pytest.raises(PostHogServerError):
        lab.delete(found)
    lab.posthog.clear_faults()
    first = len(asked(lab))
    assert lab.delete(found)["accepted"] == 1
    assert [body.get("keep_person") for body in asked(lab)[first:]] == [None], "the events were asked for already"


def test_a_smaller_limit_is_learned(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    lab.posthog.add_persons(240)
    found = lab.resolve(query="SELECT id FROM persons WHERE properties.email LIKE 'made-%' LIMIT 1000")
    told = lab.delete(found, delete_recordings=False)
    sizes = [(call["status"], len(call["body"]["ids"])) for call in lab.posthog.calls("bulk_delete")]
    assert told["accepted"] == found["persons"] >= 240
    assert sizes[0] == (400, found["persons"])
    assert {size for _, size in sizes[1:-1]} == {100}
    before = len(lab.posthog.calls("bulk_delete"))
    assert lab.delete(found, delete_recordings=False)["accepted"] == told["accepted"]
    assert len(lab.posthog.calls("bulk_delete")) == before


def test_somebody_who_was_gone_before_is_counted(lab: Lab) -> None:
    other = lab.add(f"{lab.name}-other")
    found = lab.resolve()
    assert lab.raw.post("persons/bulk_delete/", {"ids": [other]}).status_code == 202
    told = lab.delete(found)
    assert (told["accepted"], told["missing"]) == (1, 1)


def test_swallowed_requests_are_told_before_and_after(lab: Lab) -> None:
    lab.raw.post("persons/bulk_delete/", {"ids": [lab.person], "delete_events": True, "keep_person": True})
    lab.posthog.advance(DAY)
    found = lab.resolve()
    plan = lab.delete(found, preview=True)
    assert plan["asked_before"] == 1
    told = lab.delete(found)
    assert (told["asked_before"], told["swallowed"]) == (1, 1)


def test_swallowed_requests_are_found_among_many(lab: Lab) -> None:
    uuids = lab.posthog.add_persons(60)
    lab.raw.post("persons/bulk_delete/", {"ids": uuids[:7], "delete_events": True, "keep_person": True})
    lab.posthog.advance(DAY)
    told = lab.delete(lab.resolve(uuids=uuids))
    assert (told["accepted"], told["swallowed"], told["asked_before"]) == (60, 7, None)


def test_a_preview_deletes_nothing_and_says_what_would_be(lab: Lab) -> None:
    lab.recording()
    plan = lab.delete(preview="True")
    assert asked(lab) == []
    shown = {name: plan[name] for name in ("preview", "persons", "events", "recordings", "calls", "accepted")}
    assert shown == {"preview": True, "persons": 1, "events": 1, "recordings": 1, "calls": 2, "accepted": 0}
    with pytest.raises(PostHogSettingsError, match="preview"):
        lab.delete(preview="perhaps")


def test_plain_uuids_need_a_work_file_and_are_resolved(lab: Lab) -> None:
    with pytest.raises(PostHogSettingsError, match="work_path"):
        lab.delete([lab.person])
    assert lab.delete([lab.person.upper()], context(), work_path=lab.work_path)["distinct_ids"] == 2
    assert lab.delete([lab.person], context(try_number=2), work_path=lab.work_path)["accepted"] == 1
    assert len(asked(lab)) == 2, "a retry finds its file"
    with pytest.raises(PostHogSettingsError, match="not proved yet"):
        lab.delete([lab.person], context(run_id="another"), work_path=lab.work_path)
    with pytest.raises(PostHogSettingsError, match="not proved yet"):
        lab.delete([str(uuid.uuid4())], work_path=lab.work_path)


def test_unknown_uuids_are_an_error(lab: Lab) -> None:
    with pytest.raises(PostHogErasureError, match="NOT_FOUND"):
        lab.delete([lab.person, str(uuid.uuid4())], work_path=lab.work_path)
    assert asked(lab) == []


def test_more_persons_than_allowed_are_an_error(lab: Lab) -> None:
    lab.add(f"{lab.name}-other")
    with pytest.raises(PostHogErasureError, match="max_persons is 1"):
        lab.delete(max_persons=1)
    assert asked(lab) == []


def test_another_requests_file_is_refused(lab: Lab) -> None:
    found = lab.resolve()
    lab.resolve()
    with pytest.raises(PostHogSettingsError, match="another request"):
        lab.delete(found)
    assert asked(lab) == []


@pytest.mark.parametrize("generation", ["A", "B"])
def test_a_person_who_was_split_since_is_resolved_again(lab: Lab, generation: str) -> None:
    """A distinct id is a stranger's by now, whose rows would go from warehouses with those of the person."""
    lab.posthog.settings(generation=generation)
    found = lab.resolve()
    lab.split_off()
    with pytest.raises(PostHogErasureError, match=r"split .* since they were resolved"):
        lab.delete(found)
    assert lab.raw.get(f"persons/{lab.person}/").status_code == 200
