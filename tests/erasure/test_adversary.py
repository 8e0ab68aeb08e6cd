"""What happens between the steps of an erasure, and files that are not what they seem: nobody slips through."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.counts import Events
from airflow_provider_posthog.erasure.delete import DeleteOptions
from airflow_provider_posthog.erasure.generation import detect
from airflow_provider_posthog.erasure.identifiers import from_file
from airflow_provider_posthog.erasure.judge import Remains, Request, judge
from airflow_provider_posthog.erasure.work_file import Person, WorkFile
from airflow_provider_posthog.exceptions import (
    PostHogErasureError,
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogPermissionError,
    PostHogSettingsError,
    PostHogValidationError,
)
from tests.erasure.support import DAY, HOUR, Lab
from tests.operators.support import context
from tests.support.scripted import ScriptedServer, ok

pytestmark = pytest.mark.reliability

#: B reads and deletes as C does.
OLD_AND_NEW = pytest.mark.parametrize("generation", "AC")


def gone(lab: Lab, *uuids: str) -> None:
    """Somebody else deletes profiles."""
    assert lab.raw.post("persons/bulk_delete/", {"ids": [*uuids]}).status_code == 202


def asked(lab: Lab) -> list[Any]:
    return [call["body"] for call in lab.posthog.calls("bulk_delete") if call["status"] == 202]


# -- between resolving, approving and deleting ---------------------------------------------------------------------


@OLD_AND_NEW
@pytest.mark.parametrize("verify_by", ["distinct_id", "uuid"])
def test_somebody_who_was_merged_meanwhile_stops_the_deletion(lab: Lab, generation: str, verify_by: str) -> None:
    lab.posthog.settings(generation=generation)
    found = lab.resolve(**lab.asked, verify_by=verify_by)
    gone(lab, lab.person)
    lab.add(*lab.names, uuid=str(uuid.uuid4()))
    before = len(asked(lab))
    with pytest.raises(PostHogErasureError, match="1 persons were merged"):
        lab.delete(found)
    assert len(asked(lab)) == before


def test_two_who_are_both_asked_for_may_be_merged(lab: Lab) -> None:
    other = lab.add(f"{lab.name}-other")
    found = lab.resolve()
    gone(lab, lab.person, other)
    lab.add(*lab.names, f"{lab.name}-other", uuid=other)
    lab.raw.post("persons/reset_person_distinct_id/", {"distinct_id": lab.name})
    assert (lab.delete(found)["accepted"], lab.request["distinct_ids"]) == (1, 5)
    lab.posthog.advance(8 * DAY)
    assert lab.look() != "VERIFIED", "the events of the one who was merged were not asked for"


@OLD_AND_NEW
def test_a_distinct_id_that_came_meanwhile_is_looked_for_too(lab: Lab, generation: str) -> None:
    found = lab.resolve()
    gone(lab, lab.person)
    new = f"{lab.name}-new"
    lab.add(*lab.names, new, uuid=lab.person)
    lab.raw.post("persons/reset_person_distinct_id/", {"distinct_id": new})
    lab.posthog.settings(generation=generation)
    lab.names.append(new)
    told = lab.delete(found)
    assert (told["distinct_ids"], told["accepted"]) == (3, 1)
    lab.posthog.advance(8 * DAY)
    when = datetime.now(timezone.utc).isoformat()
    lab.posthog.add_recordings([{"session_id": str(uuid.uuid4()), "distinct_id": new, "timestamp": when}])
    assert lab.look() == "PARTIAL", "its recordings"


def test_recordings_that_came_meanwhile_are_not_left_by_old_servers(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    found = lab.resolve()
    lab.recording()
    with pytest.raises(PostHogSettingsError, match=r"delete_recordings.* 1 recordings"):
        lab.delete(found)
    assert asked(lab) == []


@OLD_AND_NEW
def test_an_event_that_comes_between_the_count_and_the_deletion_goes_too(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    lab.posthog.advance(3 * DAY)  # and the server's clock is not ours
    found = lab.resolve()
    lab.posthog.capture([{"event": "late", "distinct_id": lab.names[1]}])
    lab.posthog.advance(2)
    lab.delete(found)
    assert lab.look() == "EVENTS_PENDING"
    lab.posthog.advance(8 * DAY)
    assert lab.look() == "VERIFIED"


def test_an_old_server_does_not_hide_a_profile_that_came_back(lab: Lab) -> None:
    """Its lists do not show it, and its events may stay."""
    lab.posthog.settings(generation="A")
    lab.delete(delete_events=False, delete_recordings=False)
    lab.posthog.advance(60)
    lab.posthog.capture([{"event": "back", "distinct_id": lab.name}])
    lab.posthog.advance(2 * HOUR)
    assert lab.raw.get(f"persons/{lab.person}/").status_code == 200
    assert lab.look() == "RECREATED"


def test_an_old_server_that_has_kept_a_hidden_profile(lab: Lab) -> None:
    """Lists do not show it, and it has events, which may stay: only its own address shows it."""
    lab.posthog.settings(generation="A")
    gone(lab, lab.person)
    lab.posthog.advance(60)
    lab.posthog.capture([{"event": "back", "distinct_id": lab.name}])
    lab.posthog.advance(60)
    lab.posthog.faults(path="*/bulk_delete/", status=202)  # and nothing is done
    lab.delete(lab.resolve(distinct_ids=[lab.name]), delete_events=False, delete_recordings=False)
    assert lab.look() == "REQUESTED"


@OLD_AND_NEW
def test_two_runs_for_the_same_person_at_once(lab: Lab, tmp_path: Path, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    other = Lab(lab.posthog, tmp_path, events=False)
    other.folder = tmp_path / "other"
    other.folder.mkdir()
    other.asked, other.persons, other.names = lab.asked, lab.persons, lab.names
    first, second = lab.resolve(), other.resolve()
    lab.delete(first)
    other.delete(second)
    assert (lab.look(), other.look()) == ("EVENTS_PENDING", "EVENTS_PENDING")
    lab.posthog.advance(8 * DAY)
    assert (lab.look(), other.look()) == ("VERIFIED", "VERIFIED")


def test_nothing_counts_before_it_has_stood_for_a_while(lab: Lab) -> None:
    """An event that was on its way when PostHog was asked is counted after the first look."""
    quiet = Lab(lab.posthog, lab.folder, events=False)
    quiet.delete()
    assert quiet.look(quiet_period=HOUR) == "PROFILE_GONE"
    assert quiet.look(quiet_period=timedelta(0)) == "VERIFIED"
    quiet.old_event(quiet.person, quiet.name)
    lab.posthog.advance(2 * HOUR)
    assert quiet.look(quiet_period=HOUR) != "VERIFIED"
    assert quiet.sensor().quiet_period == 0.0
    assert type(quiet.sensor())(task_id="x", request=[quiet.person]).quiet_period == HOUR


# -- retries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", "AC")
def test_a_task_may_fail_at_any_call_and_its_retry_goes_on(lab: Lab, generation: str) -> None:
    """PostHog refuses one call after the other, quoting a name, before it has done its work or after."""
    lab.posthog.settings(generation=generation)
    labs: list[Lab] = []
    for work, path in ((False, "*/persons/*"), (True, "*/bulk_delete/")):
        for number in range(30):
            one = Lab(lab.posthog, lab.folder / f"{work}-{number}")
            one.folder.mkdir()
            found = one.resolve()
            fault = {"status": 418, "body": {"detail": f"no {one.email} {one.name}"}, "work": work}
            lab.posthog.faults(path=path, skip=number, count=1, **fault)
            with suppress(PostHogError):
                one.delete(found)
                lab.posthog.clear_faults()
                break
            one.delete(found)
            labs.append(one)
    assert len(labs) >= {"A": 4, "C": 7}[generation]
    lab.posthog.advance(8 * DAY)
    assert [one.look() for one in labs] == ["VERIFIED"] * len(labs)


# -- identifiers ---------------------------------------------------------------------------------------------------


@OLD_AND_NEW
def test_addresses_are_found_however_they_are_spelt(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    tail = f"{uuid.uuid4()}@example.org"
    as_property = lab.add(f"{lab.name}-1", properties={"$email": f" JÖRG-{tail} "})
    as_id = lab.add(f"Jörg-{tail}", properties={})
    lab.event(f"jörg-{tail}", properties={"$process_person_profile": False})
    other = lab.add(f"{lab.name}-2", properties={"email": f"strasse-{tail}"})
    lab.resolve(emails=[f"jÖrg-{tail}"])
    assert {as_property, as_id} <= {*lab.named()}
    assert lab.resolve(emails=[f"JÖRG-{tail}"])["profiles"] == 2
    lab.resolve(emails=[lab.email, f"straße-{tail}"])
    assert lab.named() == [lab.person], f"{other} is somebody else"


def test_an_address_that_is_a_distinct_id_of_events_only_is_found(lab: Lab) -> None:
    lab.event(lab.email, properties={"$process_person_profile": False})
    found = lab.resolve(emails=[lab.email.replace("id-", "ID-"), f"nobody-{lab.email}"], uuids=[lab.person])
    assert found["not_found"]["places"] == ["email number 2"]
    alone = f"alone-{lab.email}"
    lab.event(alone, properties={"$process_person_profile": False})
    assert lab.resolve(emails=[alone.upper()])["personless"] == 1


def test_ids_are_whole_where_the_two_stores_disagree(lab: Lab) -> None:
    """The look-up of many shows ten ids, and queries those of yesterday: eleven."""
    names = [f"{lab.name}-{number:03}" for number in range(25)]
    person = lab.add(*names[:11], properties={})
    lab.posthog.settings(person_lag_seconds=600)
    gone(lab, person)
    lab.add(*names, uuid=person, properties={})
    assert lab.resolve(distinct_ids=names[:1])["distinct_ids"] == 25


def test_a_page_that_is_cut_and_called_the_last_is_not_believed(lab: Lab) -> None:
    others = [lab.add(f"{lab.name}-{number}", created_at=f"2030-01-0{number + 1}T00:00:00Z") for number in range(3)]
    first = {"uuid": others[2], "properties": {"email": lab.email}}
    lab.posthog.faults(method="GET", path="*/persons/", status=200, body={"results": [first], "next": None})
    lab.resolve(properties=[{"key": "email", "value": lab.email, "type": "person"}])
    assert sorted(lab.named()) == sorted([lab.person, *others])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"results": [["x"]], "is_cached": True}, PostHogJobFailed),
        ({"results": [["x"]], "hasMore": True}, PostHogIncompleteError),
        ({"results": [["x"]] * 50_000}, PostHogIncompleteError),
        ({"results": [], "error": "no such name: ann@example.org"}, PostHogJobFailed),
    ],
)
def test_a_statement_that_was_cut_or_cached_finds_nobody(lab: Lab, answer: Any, error: type[Exception]) -> None:
    lab.posthog.faults(path="*/query/", status=200, body=answer)
    with pytest.raises(error) as told:
        lab.resolve(query="SELECT id FROM persons LIMIT 50000")
    assert "ann@" not in str(told.value)


@pytest.mark.parametrize(
    "hogql",
    [
        "SELECT id FROM persons WHERE is_identified = 1 UNION ALL SELECT id FROM persons LIMIT 5000",
        "(SELECT id FROM persons) UNION DISTINCT (SELECT id FROM persons)",
        "SELECT id FROM persons LIMIT 5000 EXCEPT SELECT id FROM persons LIMIT 5000",
        "SELECT id FROM persons LIMIT toInt(5000)",
        "SELECT id FROM persons LIMIT 5; SELECT 1",
    ],
)
def test_a_statement_that_could_leave_somebody_out_unseen_is_never_sent(lab: Lab, hogql: str) -> None:
    with pytest.raises(PostHogSettingsError, match="query"):
        lab.resolve(emails=[lab.email], query=hogql)
    assert lab.posthog.calls() == []


@pytest.mark.parametrize("limits", [(2,), (2, 50), (50, 2)])
def test_a_limit_that_is_reached_may_leave_somebody_out(lab: Lab, limits: tuple[int, ...]) -> None:
    for number in range(2):
        lab.add(f"{lab.name}-{number}")
    select = f"SELECT id FROM persons WHERE properties.email = '{lab.email}' LIMIT "
    with pytest.raises(PostHogIncompleteError, match=r"SELECT \* FROM \(\.\.\.\) LIMIT n"):
        lab.resolve(query=" UNION ALL ".join(f"{select}{limit}" for limit in limits))
    assert lab.resolve(query=f"{select} 50;")["persons"] == 3
    assert lab.resolve(query=f"SELECT * FROM ({select} 2) LIMIT 50")["persons"] == 2, "so many are meant"


def test_a_key_that_may_not_query_erases_and_proves_nothing(lab: Lab) -> None:
    detail = "API key missing required scope 'query:read'"
    refusal = {"type": "authentication_error", "code": "permission_denied", "detail": detail}
    lab.posthog.faults(path="*/query/", status=403, body=refusal, count=-1)
    with pytest.raises(PostHogPermissionError, match="query:read"):
        lab.resolve()
    lab.posthog.clear_faults()
    lab.delete()
    lab.posthog.advance(8 * DAY)
    lab.posthog.faults(path="*/query/", status=403, body=refusal, count=-1)
    with pytest.raises(PostHogPermissionError, match="query:read"):
        lab.sensor().execute(context())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('distinct_id\n"a,b"\n"c ""d"""\n"e\nf"\n\'g\'\n', ["a,b", 'c "d"', "e\nf", "'g'"]),
        ("Distinct IDs;E-Mails\na;\n", ["a"]),
        ("person_uuid,distinct-id\n,x\n", ["x"]),
    ],
)
def test_cells_are_read_whole(tmp_path: Path, text: str, values: Sequence[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert [one.value for one in from_file(fsspec.filesystem("file"), str(path))] == values


@pytest.mark.parametrize("text", ["distinct_id\nsmith, john\n", "distinct_id,email\nsmith, john,a@b.c\n"])
def test_a_cell_that_would_be_cut_to_somebody_elses_id_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(PostHogSettingsError, match="more cells in line 2") as error:
        [*from_file(fsspec.filesystem("file"), str(path))]
    assert "smith" not in str(error.value)


def test_odd_distinct_ids_are_erased_like_others(lab: Lab) -> None:
    names = [f"{lab.name} {odd}" for odd in ("it's", '"q"', "a,b;c", "l1\nl2", "{x}", "\\", "💥", "%_")]
    lab.persons = [lab.add(*names, properties={})]
    lab.names = names
    for name in names:
        lab.event(name)
    assert lab.delete(lab.resolve(distinct_ids=names[:1]))["events"] == len(names)
    lab.posthog.advance(8 * DAY)
    assert lab.look() == "VERIFIED"


# -- the work file and the request ---------------------------------------------------------------------------------


def test_a_work_file_of_another_request_is_not_read_on(lab: Lab) -> None:
    """Two runs write one path: what was checked was the first one's, what is there now nobody has approved."""
    lab.resolve()
    work = WorkFile(fsspec.filesystem("file"), str(lab.folder / "work.jsonl"))
    work.header()
    lab.resolve()
    with pytest.raises(PostHogSettingsError, match="another request"):
        [*work.persons()]


def test_somebody_missing_from_the_work_file_is_missed(lab: Lab) -> None:
    lab.add(f"{lab.name}-other")
    path = lab.folder / "work.jsonl"
    found = lab.resolve()
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:-1]))
    with pytest.raises(PostHogSettingsError, match="names 2 persons, and its work file 1"):
        lab.delete(found)
    assert asked(lab) == []
    path.write_text("".join(whole))
    lab.delete(found)
    lab.posthog.advance(8 * DAY)
    path.write_text("".join(whole[:-1]))
    with pytest.raises(PostHogSettingsError, match="is about 2 persons"):
        lab.look()
    path.write_text("".join(whole)[:-20])
    with pytest.raises(PostHogSettingsError, match="damaged"):
        lab.look()


@pytest.mark.parametrize("flag", ["delete_events", "delete_recordings", "keep_person"])
def test_a_request_has_to_say_what_was_deleted(lab: Lab, flag: str) -> None:
    lab.delete()
    for wrong in ({name: value for name, value in lab.request.items() if name != flag}, {**lab.request, flag: "False"}):
        with pytest.raises(PostHogSettingsError, match="what was deleted"):
            lab.sensor(request=wrong).look({})


def test_recordings_nobody_can_look_for_are_not_called_none(lab: Lab) -> None:
    lab.delete(lab.resolve(emails=[lab.email], verify_by="uuid"))
    lab.posthog.advance(8 * DAY)
    assert lab.sensor(keep_work_file=True).look({}).facts["recordings"] is None


def test_a_server_without_a_clock_is_not_asked(server: ScriptedServer) -> None:
    server.script(ok({"results": []}))
    client = Client(ClientSettings(server.url, "phx_0123456789abcdef", 1))
    with client, pytest.raises(PostHogErasureError, match="no Date"):
        detect(ErasureClient(client))


# -- the judgement itself ------------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
COUNTS = st.sampled_from([0, 0, 3])
TIMES = st.integers(-60, 60).map(lambda days: NOW + timedelta(days=days))
SOME_EVENTS = st.builds(Events, COUNTS, COUNTS, COUNTS, TIMES, TIMES, TIMES)
STAMPS = TIMES.map(datetime.isoformat)
ROWS = st.none() | st.fixed_dictionaries(
    {"created_at": STAMPS, "status": st.sampled_from(["pending", "completed"]), "delete_verified_at": STAMPS}
)
PROFILES = st.none() | st.fixed_dictionaries({"uuid": st.sampled_from(["a", "b"]), "created_at": STAMPS | st.none()})
LOOKS = st.builds(Remains, TIMES, PROFILES, st.booleans(), SOME_EVENTS, COUNTS, ROWS, st.booleans())
WISHES = st.builds(DeleteOptions, st.booleans(), st.booleans(), st.booleans())
REQUESTS = st.builds(Request, WISHES, st.sampled_from("ABC"), TIMES, TIMES, st.booleans())


@settings(max_examples=400)
@given(LOOKS, REQUESTS, st.booleans())
def test_nobody_is_verified_of_whom_something_is_left(seen: Remains, request: Request, profile: bool) -> None:
    found = judge(Person("a", ("x",), profile), seen, request)
    if found.state != "VERIFIED":
        assert found.reason
        return
    wish = request.options
    assert wish.keep_person or (seen.profile is None and not seen.listed)
    assert not wish.events or not (seen.events.before or seen.events.future)
    assert not (wish.events and seen.events.later) or wish.keep_person
    assert not wish.recordings or not seen.recordings
    assert request.proven is False or seen.now - request.accepted_at >= request.quiet_period
    kept = {"uuid": "a", "created_at": None} if wish.keep_person else None
    assert not (wish.keep_person and profile and request.proven) or (seen.profile or {}).get("uuid") == "a"
    quiet = replace(seen, profile=kept, listed=False, events=Events(), recordings=0, now=NOW + timedelta(days=99))
    assert judge(Person("a"), quiet, request).state == "VERIFIED"


def test_errors_keep_what_the_key_lacks_and_lose_the_rest(lab: Lab) -> None:
    told = {"type": "validation_error", "code": lab.name, "detail": f"Illegal value '{lab.name}'", "attr": lab.email}
    lab.posthog.faults(path="*/query/", status=400, body=told)
    with pytest.raises(PostHogValidationError, match="could name a person") as error:
        lab.resolve(distinct_ids=[lab.name])
    assert lab.name not in f"{error.value!r} {vars(error.value)}"
