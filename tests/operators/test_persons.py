"""Finding persons: who is behind identifiers, what is checked, and what is told of it."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from airflow_provider_posthog.audit.report import report, summary
from airflow_provider_posthog.audit.verify import verify_folder
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure.identifiers import from_file
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.operators.groups import PostHogClearGroupPropertiesOperator
from airflow_provider_posthog.operators.persons import (
    PostHogDeletePersonPropertyOperator,
    PostHogDeletePersonsOperator,
    PostHogResolvePersonsOperator,
    PostHogUpdatePersonPropertiesOperator,
)
from tests.erasure.support import DAY, Lab, ago, new_lab
from tests.operators.support import connect, context

GENERATIONS = pytest.mark.parametrize("generation", "ABC")
NOBODY_LISTENS = (
    '{"conn_type": "posthog", "host": "http://127.0.0.1:9", "password": "phx_x", "extra": {"project_id": 1}}'
)
SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    return new_lab(tidied, monkeypatch, tmp_path)


def lines(lab: Lab) -> list[dict[str, Any]]:
    """The persons of the work file."""
    text = (lab.folder / "work.jsonl").read_text().splitlines()
    return [json.loads(line) for line in text[1:]]


@GENERATIONS
def test_one_person_by_any_identifier(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    ways: list[dict[str, Any]] = [
        {"emails": [lab.email]},
        {"emails": [lab.email.upper()]},
        {"distinct_ids": [lab.names[1]]},
        {"uuids": [lab.person]},
        {"properties": [{"key": "email", "value": lab.email, "type": "person"}]},
        {"query": f"SELECT id FROM persons WHERE properties.email = '{lab.email}' LIMIT 10"},
    ]
    wanted = {"persons": 1, "profiles": 1, "personless": 0, "distinct_ids": 2, "events": 1}
    for way in ways:
        found = lab.resolve(**way)
        assert {name: found[name] for name in wanted} == wanted
        assert found["others"] == (1 if "distinct_ids" in way else 0)
        assert found["not_found"]["count"] == 0
        assert lab.named() == [lab.person]
        assert [line["distinct_ids"] for line in lines(lab)] == [sorted(lab.names)]


@GENERATIONS
def test_events_without_a_profile_are_found(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    name = f"{lab.name}-anonymous"
    lab.event(name, properties={"$process_person_profile": False})
    found = lab.resolve(distinct_ids=[name, lab.name])
    assert (found["persons"], found["profiles"], found["personless"], found["events"]) == (2, 1, 1, 2)
    lab.names.append(name)
    lab.delete(found)
    assert lab.look() == "SURVIVORS", "PostHog cannot be asked to delete them"


@GENERATIONS
def test_a_person_with_many_distinct_ids_has_all_of_them(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation, person_lag_seconds=0)
    names = [f"{lab.name}-{number:03}" for number in range(25)]
    uuid = lab.add(*names, properties={})
    found = lab.resolve(distinct_ids=[names[7]])
    assert (found["distinct_ids"], found["others"], lab.named()) == (25, 24, [uuid])


def test_ids_that_lists_do_not_show_yet_are_found(lab: Lab) -> None:
    lab.posthog.settings(person_lag_seconds=600)
    names = [f"{lab.name}-{number:03}" for number in range(25)]
    lab.add(*names, properties={})
    assert lab.resolve(distinct_ids=names[:1])["distinct_ids"] == 25


def test_several_persons_of_one_address(lab: Lab) -> None:
    other = lab.add(f"{lab.name}-other")
    lab.resolve()
    assert sorted(lab.named()) == sorted([lab.person, other])


def test_identifiers_that_lead_to_nobody_are_told_by_their_place(lab: Lab) -> None:
    found = lab.resolve(emails=[lab.email, "nobody@example.org"], distinct_ids=["no such id"])
    told = found["not_found"]
    assert (told["count"], told["kinds"]) == (2, {"distinct_id": 1, "email": 1})
    assert told["places"] == ["distinct_id number 1", "email number 2"]
    with pytest.raises(PostHogErasureError, match="NOT_FOUND: 1 identifiers"):
        lab.resolve(emails=[lab.email, "nobody@example.org"], must_find_all=True)


def test_nobody_is_an_error_and_leaves_no_file(lab: Lab) -> None:
    with pytest.raises(PostHogErasureError, match="NOT_FOUND: none of 1 identifiers"):
        lab.resolve(emails=["nobody@example.org"])
    assert list(lab.folder.iterdir()) == []


def test_too_many_are_an_error_and_leave_no_file(lab: Lab) -> None:
    lab.add(f"{lab.name}-other")
    with pytest.raises(PostHogErasureError, match="more than 1 persons"):
        lab.resolve(emails=[lab.email], max_persons=1)
    assert list(lab.folder.iterdir()) == []


def test_a_hit_that_does_not_fit_is_an_error(lab: Lab) -> None:
    """A filter that PostHog does not know lists everybody."""
    everybody = {"results": [{"uuid": lab.person, "properties": {"email": "somebody@example.org"}}], "next": None}
    lab.posthog.faults(method="GET", path="*/persons/", status=200, body=everybody)
    with pytest.raises(PostHogErasureError, match="does not fit"):
        lab.resolve(properties=[{"key": "email", "value": lab.email}])
    person = {"uuid": lab.person, "distinct_ids": [lab.name], "properties": {"email": "other@example.org"}}
    lab.posthog.faults(path="*/batch_by_uuids/", status=200, body={"results": {lab.person: person}})
    with pytest.raises(PostHogErasureError, match="Unexpected match"):
        lab.resolve(emails=[lab.email])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "emails"),
        ({"emails": "a@example.org"}, "emails"),
        ({"emails": [""]}, "emails"),
        ({"emails": ["not an address"]}, "emails"),
        ({"uuids": ["not a uuid"]}, "uuids"),
        ({"properties": [{"value": 1}]}, "properties"),
        ({"properties": [{"key": "age", "operator": "gt", "value": 1}]}, "properties"),
        ({"properties": [{"key": "email", "operator": "icontains", "value": ""}]}, "properties"),
        ({"properties": [{"key": "email", "operator": "icontains", "value": ["ann", " "]}]}, "properties"),
        ({"properties": [{"key": "email", "value": None}]}, "properties"),
        ({"properties": [{"key": "email", "value": []}]}, "properties"),
        ({"properties": [{"key": "email"}]}, "properties"),
        ({"identifiers_path": "file:///nowhere/at/all.csv"}, "identifiers_path"),
        ({"emails": ["a@example.org"], "verify_by": "name"}, "verify_by"),
        ({"emails": ["a@example.org"], "work_path": ""}, "work_path"),
        ({"emails": ["a@example.org"], "work_path": "file:///tmp/"}, "work_path"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], field: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", NOBODY_LISTENS)
    options = {"work_path": f"file://{tmp_path}/work.jsonl", **given}
    with pytest.raises(PostHogSettingsError) as error:
        PostHogResolvePersonsOperator(task_id="task", **options).execute({})
    assert error.value.field == field
    assert "not an address" not in str(error.value)


def test_a_wrong_line_of_a_file_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", NOBODY_LISTENS)
    path = tmp_path / "request.csv"
    path.write_text("email\nann@example.org\nmailto:ben@example.org\n")
    given = {"work_path": f"file://{tmp_path}/work.jsonl", "identifiers_path": f"file://{path}"}
    with pytest.raises(PostHogSettingsError, match="line 3"):
        PostHogResolvePersonsOperator(task_id="task", **given).execute({})


@pytest.mark.parametrize(
    ("given", "field"),
    [({"chunk_size": 0}, "chunk_size"), ({"chunk_size": 1001}, "chunk_size"), ({"preview": "maybe"}, "preview")],
)
def test_wrong_arguments_of_a_deletion(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], field: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", NOBODY_LISTENS)
    with pytest.raises(PostHogSettingsError) as error:
        PostHogDeletePersonsOperator(task_id="task", persons=[], work_path="file:///x", **given).execute({})
    assert error.value.field == field


@pytest.mark.parametrize("select", ["distinct_id", "null", "1", "toString(person_id) || 'x'"])
def test_a_query_of_something_else_than_uuids_is_named(lab: Lab, select: str) -> None:
    with pytest.raises(
        PostHogSettingsError, match=r"query: has no person's UUID in the first column of row 1"
    ) as error:
        lab.resolve(query=f"SELECT {select} FROM events LIMIT 50000")
    assert lab.name not in str(error.value)


def test_identifiers_come_from_a_file(lab: Lab) -> None:
    for name, text in (
        ("a.csv", "email,name\n{email},Ann\n,nobody\n"),
        ("b.csv", "\ufeffdistinct_id;email\n{name};\n"),
        ("c.tsv", "E-Mail\n{email}\n"),
        ("e.jsonl", '{{"email": "{email}", "email": "another@example.invalid"}}\n'),
        ("d.jsonl", '{{"email": "{email}"}}\n\n{{"uuid": "{uuid}", "distinct_id": null}}\n'),
    ):
        path = lab.folder / name
        path.write_text(text.format(email=lab.email, name=lab.name, uuid=lab.person), encoding="utf-8")
        lab.resolve(identifiers_path=f"file://{path}")
        assert lab.named() == [lab.person]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "name\nAnn\n", "no column"),
        ("a.csv", "email\n", "no identifier"),
        ("a.jsonl", "{}\n", "line 1"),
        ("a.jsonl", "[1]\n", "line 1"),
        ("a.csv", "uuid\nnot-one\n", "line 2 that is not a UUID"),
        ("a.csv", 'email\na@b.c\n\n"x@y.z\n', "quote in line 4"),
        ("a.csv", 'email\n"x"@y.z\n', "quote in line 2"),
        ("a.csv", b"email\na@b.c\n\xff\n", "UTF-8 text in line 3"),
        ("a.jsonl", b'{"email": "a@b.c"}\n{"email": "\xe4@b.c"}\n', "UTF-8 text in line 2"),
        ("a.csv", "distinct_id\n" + "x" * 70_000 + "\n", "line 2 of more than"),
        ("a.csv", b"\x1f\x8b\x08\x00abc", "gzip"),
        ("a.csv", b"PK\x03\x04abc", "Excel workbook"),
        ("a.csv", "email\na@b.c\n".encode("utf-16"), "UTF-16"),
        ("a.csv", "email\na@b.c\n".encode("utf-16-le"), "UTF-16"),
        ("a.csv", "sep=;\nemail;x\na@b.c;\n", "sep="),
        ("a.jsonl", '{"distinct_id": "\\ud800"}\n', "line 1 with a lone surrogate"),
        ("a.csv", None, "no file"),
    ],
)
def test_files_that_can_not_be_read_are_refused(tmp_path: Path, name: str, text: Any, problem: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PostHogSettingsError, match=problem):
        [*from_file(fsspec.filesystem("file"), str(path))]


def test_no_personal_data_is_shown(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    resolve = PostHogResolvePersonsOperator(task_id="a", emails=[lab.email], work_path=lab.work_path)
    found = resolve.execute({})
    delete = PostHogDeletePersonsOperator(task_id="b", persons=found)
    request = lab.request = delete.execute({})
    lab.look()
    shown = [getattr(one, name, None) for one in (resolve, delete) for name in one.template_fields]
    for text in (json.dumps(found), json.dumps(request), caplog.text, str(shown)):
        assert lab.email not in text
        assert lab.name not in text
    assert lab.name in (lab.folder / "work.jsonl").read_text()


def test_templates_of_personal_data_are_rendered_out_of_sight(lab: Lab) -> None:
    operator = PostHogResolvePersonsOperator(task_id="task", emails=["{{ params.email }}"], work_path=lab.work_path)
    operator.execute({**context(), "params": {"email": lab.email}})
    assert lab.named() == [lab.person]
    assert operator.emails == ["{{ params.email }}"]
    assert not {"emails", "distinct_ids", "properties", "query", "values"} & set(operator.template_fields)


def test_a_file_without_distinct_ids_holds_no_personal_data(lab: Lab) -> None:
    found = lab.resolve(emails=[lab.email], verify_by="uuid")
    assert lab.name not in (lab.folder / "work.jsonl").read_text()
    lab.delete(found)
    lab.posthog.advance(8 * DAY)
    sensor = lab.sensor()
    assert sensor.execute({})["verified_by"] == "uuid"


# -- certificates ------------------------------------------------------------------------------------------------


def test_the_certificate_of_an_erasure(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    folder = lab.folder / "certificates"
    ctx: Any = context()
    found = PostHogResolvePersonsOperator(
        task_id="a", emails=[lab.email], work_path=lab.work_path, audit_path=f"file://{folder}", ticket="DSR-42"
    ).execute(ctx)
    lab.request = PostHogDeletePersonsOperator(task_id="b", persons=found).execute(ctx)
    again = PostHogDeletePersonsOperator(task_id="b", persons=found).execute(ctx)
    assert {**again, "asked_before": None} == {**lab.request, "asked_before": None}
    assert lab.sensor().poke(ctx).is_done is False
    lab.posthog.advance(8 * DAY)
    assert lab.sensor().execute(ctx)["state"] == "VERIFIED"
    (request,) = folder.glob("[!_]*")
    verdict = verify_folder(str(request), fsspec.filesystem("file"))
    assert verdict.problems == []
    text = "".join(path.read_text() for path in request.iterdir())
    assert lab.email not in text
    assert lab.name not in text
    kinds = [path.name.split("-")[1] for path in sorted(request.iterdir())]
    assert kinds[0] == "requested"
    assert kinds[-1] == "closed"
    assert {"accepted", "state_changed", "residue", "verified"} <= set(kinds)
    assert "DSR-42" in text


@pytest.mark.parametrize("enforced", [True, False])
def test_the_certificate_tells_which_events_nobody_could_see(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, enforced: bool
) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    lab.posthog.settings(event_retention_months=2, events_retention_enforced=enforced)
    folder = lab.folder / "certificates"
    lab.event(timestamp=ago(days=100))
    found = lab.resolve(**lab.asked, audit_path=f"file://{folder}")
    assert found["events"] == (1 if enforced else 2), "PostHog shows one of two"
    lab.request = PostHogDeletePersonsOperator(task_id="b", persons=found).execute({})
    lab.posthog.advance(8 * DAY)
    proof = lab.sensor().execute({})
    (request,) = folder.glob("[!_]*")
    verdict = verify_folder(str(request), fsspec.filesystem("file"))
    told = [record.facts["retention"] for record in verdict.story.records if "retention" in record.facts]
    assert [record.kind for record in verdict.story.records if "retention" in record.facts] == ["requested", "verified"]
    for each in (*told, found["retention"], proof["retention"]):
        assert (each["event_retention_months"], each["events_retention_enforced"]) == (2, enforced)
    noted, proved = (
        datetime.fromisoformat(each["floor"].replace("Z", "+00:00")) for each in (told[-1], proof["retention"])
    )
    assert abs(proved - noted) < timedelta(minutes=1)
    sentence = f"Events older than {told[-1]['floor']} are hidden by PostHog"
    assert (sentence in report(verdict)) is (sentence in summary(verdict)) is enforced


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 409}, {"status": 200, "body": {"id": 1}}])
def test_an_erasure_goes_on_where_the_retention_is_not_known(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    lab.posthog.faults(method="GET", path="/api/projects/1/", count=-1, **fault)
    folder = lab.folder / "certificates"
    found = lab.resolve(**lab.asked, audit_path=f"file://{folder}")
    lab.request = PostHogDeletePersonsOperator(task_id="b", persons=found).execute({})
    lab.posthog.advance(8 * DAY)
    unknown = {"event_retention_months": None, "events_retention_enforced": None, "floor": None}
    assert found["retention"] == lab.sensor().execute({})["retention"] == unknown
    (request,) = folder.glob("[!_]*")
    verdict = verify_folder(str(request), fsspec.filesystem("file"))
    assert (verdict.problems, verdict.story.last("retention")) == ([], unknown)
    assert "hidden by PostHog" not in report(verdict)


def test_the_certificate_names_a_survivor(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    folder = lab.folder / "certificates"
    lab.event(timestamp="2040-01-01T00:00:00Z")
    found = PostHogResolvePersonsOperator(
        task_id="a", emails=[lab.email], work_path=lab.work_path, audit_path=f"file://{folder}"
    ).execute({})
    lab.request = PostHogDeletePersonsOperator(task_id="b", persons=found).execute({})
    with pytest.raises(PostHogErasureError, match="SURVIVORS"):
        lab.sensor().execute({})
    (request,) = folder.glob("[!_]*")
    text = "".join(path.read_text() for path in request.iterdir())
    assert '"state":"SURVIVORS"' in text
    assert '"outcome":"VERIFIED"' not in text


def test_a_certificate_without_a_salt_deletes_nothing(lab: Lab) -> None:
    with pytest.raises(PostHogSettingsError, match="audit_secret"):
        lab.resolve(emails=[lab.email], audit_path=f"file://{lab.folder}/certificates")
    found = lab.resolve()
    with pytest.raises(PostHogSettingsError, match="audit_secret"):
        lab.delete(found, audit_path=f"file://{lab.folder}/certificates")
    assert not lab.posthog.calls("bulk_delete")


# -- properties and groups ---------------------------------------------------------------------------------------


@GENERATIONS
def test_properties_are_removed_and_read_back(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    operator = PostHogDeletePersonPropertyOperator(task_id="task", persons=[lab.person], properties=["email", "gone"])
    assert operator.execute({}) == {"persons": 1, "properties": ["email", "gone"]}
    assert lab.raw.get(f"persons/{lab.person}/").json()["properties"] == {}
    assert len(lab.posthog.calls("delete_property")) == 1
    assert operator.execute({})["persons"] == 1


def test_a_property_that_posthog_only_says_it_removed_fails(lab: Lab) -> None:
    lab.posthog.settings(capture="lost")
    operator = PostHogDeletePersonPropertyOperator(
        task_id="task", persons=[lab.person], properties="email", timeout=0.2
    )
    with pytest.raises(PostHogJobFailed, match=f"1 of 1 persons were not removed.*{lab.person}"):
        operator.execute({})


@GENERATIONS
def test_properties_are_set_and_read_back(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    found = lab.resolve()
    options = {"task_id": "task", "persons": found, "properties": {"plan": "none", "age": 3}}
    assert PostHogUpdatePersonPropertiesOperator(**options).execute({}) == {"persons": 1, "properties": ["age", "plan"]}
    held = lab.raw.get(f"persons/{lab.person}/").json()["properties"]
    assert held == {"email": lab.email, "plan": "none", "age": 3}
    before = len(lab.posthog.calls(lab.person, "PATCH"))
    PostHogUpdatePersonPropertiesOperator(**options).execute({})
    assert len(lab.posthog.calls(lab.person, "PATCH")) == before == 1


@pytest.mark.parametrize("capture", ["lost", "refused"])
def test_a_value_that_posthog_loses_fails(lab: Lab, capture: str) -> None:
    lab.posthog.settings(capture=capture)
    operator = PostHogUpdatePersonPropertiesOperator(
        task_id="task", persons=[lab.person], properties={"plan": "none"}, timeout=0.2
    )
    with pytest.raises(PostHogJobFailed, match="were not set"):
        operator.execute({})


def _group(lab: Lab, **properties: Any) -> str:
    body = {"group_type_index": 0, "group_key": lab.name, "group_properties": properties}
    assert lab.raw.post("groups/", body).status_code == 201
    return lab.name


def test_groups_are_cleared_and_read_back(lab: Lab) -> None:
    key = _group(lab, name="Ann", plan="x")
    operator = PostHogClearGroupPropertiesOperator(task_id="task", group_type="company", group_keys=[key, "nobody"])
    assert operator.execute({}) == {"groups": 1, "not_found": 1, "properties": 2}
    assert operator.execute({}) == {"groups": 1, "not_found": 1, "properties": 0}
    query = {"group_type_index": 0, "group_key": key, "skip_create_notebook": "true"}
    assert lab.raw.get("groups/find/", params=query).json()["group_properties"] == {}
    assert "group_keys" not in operator.template_fields


def test_only_some_properties_of_a_group(lab: Lab) -> None:
    key = _group(lab, name="Ann", plan="x")
    operator = PostHogClearGroupPropertiesOperator(
        task_id="task", group_type=0, group_keys=key, properties=["name", "never"]
    )
    assert operator.execute({})["properties"] == 1


def test_groups_of_old_servers_and_unknown_ones_are_refused(lab: Lab) -> None:
    with pytest.raises(PostHogSettingsError, match="group_type"):
        PostHogClearGroupPropertiesOperator(task_id="task", group_type="planet", group_keys=["x"]).execute({})
    with pytest.raises(PostHogJobFailed, match="1 do not exist"):
        PostHogClearGroupPropertiesOperator(task_id="task", group_type="company", group_keys=["nobody"]).execute({})
    lab.posthog.settings(generation="A")
    with pytest.raises(PostHogSettingsError, match="December 2025"):
        PostHogClearGroupPropertiesOperator(task_id="task", group_type="company", group_keys=["x"]).execute({})


def test_the_task_is_named_in_the_certificate_as_it_ran(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    folder = lab.folder / "certificates"
    ti = SimpleNamespace(dag_id="gdpr", run_id="manual__7", task_id="resolve", map_index=2, try_number=3)
    operator = PostHogResolvePersonsOperator(
        task_id="resolve", emails=[lab.email], work_path=lab.work_path, audit_path=f"file://{folder}"
    )
    operator.execute({"ti": ti})  # type: ignore[arg-type]
    (record,) = (json.loads(path.read_text()) for path in folder.glob("[!_]*/*-requested-*"))
    who = record["who"]
    assert (who["dag_id"], who["run_id"], who["try_number"], who["map_index"]) == ("gdpr", "manual__7", 3, 2)
