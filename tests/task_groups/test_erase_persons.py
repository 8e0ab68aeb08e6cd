"""The group of an erasure: what is in it, in which order, who may let it pass, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.audit.__main__ import OPEN, SALT_VARIABLE
from airflow_provider_posthog.audit.__main__ import main as audit
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.report import summary
from airflow_provider_posthog.audit.verify import verify_folder
from airflow_provider_posthog.compat import AirflowException, AirflowSkipException, BaseOperator, approval_operator
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.operators.erasure import (
    PostHogDiscardErasureOperator,
    PostHogEraseFromSqlOperator,
    PostHogErasureGateOperator,
    PostHogFinishErasureOperator,
)
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor
from airflow_provider_posthog.task_groups.erase_persons import erase_persons
from tests.erasure.support import Lab, timeless
from tests.load.databases import DuckDB
from tests.operators.support import connect, context, make_dag, task_states, xcoms

SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
HITL = approval_operator()


class _Own(BaseOperator):
    """A user's own task."""

    template_fields = ("request", "proof")

    def __init__(self, *, request: Any, proof: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.proof = proof

    def execute(self, context: Any) -> None: ...


@pytest.fixture
def lab(connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    connect(monkeypatch, connected, audit_secret=SALT)
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    return Lab(connected, tmp_path)


@pytest.fixture
def warehouse(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    database.run(
        "CREATE TABLE events (distinct_id TEXT, person_id TEXT)", f"INSERT INTO events VALUES ('{lab.name}', 'x')"
    )
    return database


def group(dag_id: str, **options: Any) -> Any:
    given = {"identifiers_path": "file:///x.csv", "work_path": "file:///work.jsonl", **options}
    return make_dag(dag_id, lambda: erase_persons(**given))


def after(dag: Any, name: str) -> set[str]:
    return {one.removeprefix("erase_persons.") for one in dag.get_task(f"erase_persons.{name}").downstream_task_ids}


def look(lab: Lab) -> dict[str, Any]:
    """Prove the erasure as the group's sensor does."""
    sensor: PostHogPersonsErasedSensor = lab.sensor(keep_work_file=True, close_certificate=False)
    proof: dict[str, Any] = sensor.execute(context())
    return proof


def deleted(lab: Lab) -> dict[str, Any]:
    lab.delete(audit_path=f"file://{lab.folder}/certificates", ticket="DSR-42")
    lab.posthog.sweep()
    return lab.request


def certificate(lab: Lab) -> str:
    return str(lab.folder / "certificates" / lab.request["request_id"])


def notes(lab: Lab) -> list[str]:
    """Return what the certificate's notes tell."""
    records = [json.loads(path.read_text()) for path in sorted(Path(certificate(lab)).iterdir())]
    return [note for record in records for note in record["facts"].get("notes", ())]


# What is in the group.


def test_its_tasks_and_their_order() -> None:
    table = {"sql_conn_id": "warehouse", "table": "analytics.events", "distinct_id_column": "distinct_id"}
    own: list[Any] = [lambda request, proof: _Own(task_id="own", request=request, proof=proof)]
    dag = group("order", approval="params", warehouse=[table, table, *own])
    erasing = {"erase_analytics_events", "erase_analytics_events_too", "own"}
    assert after(dag, "resolve") == {"approve", "delete", "discard"}
    assert after(dag, "approve") == {"delete", "discard"}
    assert after(dag, "delete") == {"verify", "finish", *erasing}
    assert after(dag, "verify") == {"finish", *erasing}
    for name in erasing:
        assert after(dag, name) == {"finish"}
    sensor = dag.get_task("erase_persons.verify")
    assert (sensor.keep_work_file, sensor.close_certificate) == (True, False)
    assert (sensor.timeout, sensor.mode) == (30 * 86_400, "reschedule")


@pytest.mark.parametrize("options", [{"identifiers_path": None}, {"approval": "yes"}])
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError):
        group("wrong", **options)


def test_a_person_is_asked_where_airflow_can() -> None:
    approve = group("asked", ticket="DSR-42").get_task("erase_persons.approve")
    if HITL is None:
        assert isinstance(approve, PostHogErasureGateOperator)
        with pytest.raises(PostHogSettingsError, match=r"3\.1"):
            group("refused", approval="hitl")
        return
    assert isinstance(approve, HITL)
    resolved = {"persons": 2, "events": 7, "recordings": 1, "others": 1, "distinct_ids": 4, "project_id": 3}
    resolved |= {"host": "https://posthog.example", "not_found": {"count": 3, "places": ["line 4"]}}
    resolved |= {"future_events": 0, "personless": 2}
    resolved |= {"received_at": None, "due_at": "2026-12-29"}
    given: Any = {
        "ti": type("TI", (), {"xcom_pull": lambda self, task_ids: {"erase_persons.resolve": resolved}[task_ids]})()
    }
    approve.render_template_fields(given)
    assert (approve.subject, approve.retries) == ("Erase persons from PostHog (DSR-42)?", 0)  # type: ignore[attr-defined]
    for line in (
        "- PostHog: project 3 on https://posthog.example ([its persons](https://posthog.example/project/3/persons))",
        "- Deleted there: 2 persons, 7 events, 1 recording",
        "- Their distinct ids: 4, of which 1 was not asked for, and belongs to the same persons",
        "- Identifiers that match no person: 3 (line 4)",
        "- Without a profile, and so not deleted: 2",
        "- Received: not known; due: 2026-12-29",
    ):
        assert line in approve.body.splitlines()  # type: ignore[attr-defined]
    rejected = {"chosen_options": ["Reject"], "params_input": {}, "responded_at": None, "responded_by_user": None}
    from datetime import datetime

    with pytest.raises(AirflowException, match="Reject"):
        approve.execute_complete({}, {**rejected, "responded_at": datetime(2026, 1, 1)})  # type: ignore[attr-defined]


@pytest.mark.parametrize("approval", ["params", *(["hitl"] if HITL else [])])
@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"delete_options": {"delete_events": False}}, ["the events were left (delete_events=False)"]),
        ({"delete_options": {"keep_person": True}}, ["the profile was kept (keep_person=True)"]),
        ({"resolve_options": {"verify_by": "uuid"}}, ["only the person's UUID was looked for"]),
        ({}, []),
    ],
)
def test_who_approves_is_told_what_is_left_on_purpose(approval: str, options: dict[str, Any], left: list[str]) -> None:
    dag = group(f"left_{len(str(options))}_{approval}", approval=approval, **options)
    approve = dag.get_task("erase_persons.approve")
    if approval == "hitl":
        shown = approve.body
    else:
        approve.persons = {"persons": 2, "events": 7, "recordings": 0}
        with pytest.raises(PostHogErasureError) as refused:
            approve.execute({"params": {}})
        shown = str(refused.value)
    assert [text for text in left if f"Left on purpose: {text}" not in shown] == []
    assert ("Left on purpose" in shown) is bool(left)


def test_the_log_and_the_end_say_what_was_left(
    lab: Lab, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    lab.delete(audit_path=f"file://{lab.folder}/certificates", delete_events=False)
    text = "the events were left (delete_events=False)"
    assert f"Left on purpose: {text}" in caplog.text + capfd.readouterr().out
    proof = look(lab)
    told = PostHogFinishErasureOperator(task_id="finish", request=lab.request, proof=proof).execute(context())
    assert told["left_on_purpose"] == [text]
    verdict = verify_folder(certificate(lab), LocalFileSystem(), pseudonyms=Pseudonyms(SALT))
    assert f"left on purpose: {text}" in summary(verdict)
    assert "erasure: VERIFIED, BUT NOT ALL WAS ERASED. Of the person PostHog shows no profile" in summary(verdict)


@pytest.mark.parametrize("value", [None, False, "true", 1])
def test_only_true_is_an_approval(value: Any) -> None:
    gate = PostHogErasureGateOperator(task_id="gate", persons={"persons": 2, "events": 7, "recordings": 0})
    with pytest.raises(PostHogErasureError, match="2 persons with 7 events"):
        gate.execute({"params": {"approved": value}})  # type: ignore[typeddict-item]
    gate.execute({"params": {"approved": True}})  # type: ignore[typeddict-item]


def test_a_preview_ends_green_and_tidies_up(lab: Lab, warehouse: DuckDB, run_dag: Callable[..., Any]) -> None:
    def fill() -> None:
        erase_persons(
            work_path=lab.work_path,
            audit_path=f"file://{lab.folder}/certificates",
            approval="params",
            resolve_options={"emails": [lab.email]},
            delete_options={"preview": True},
            warehouse=[{"sql_conn_id": "warehouse", "table": "events", "distinct_id_column": "distinct_id"}],
        )

    run = run_dag(make_dag("dry", fill, params={"approved": True}))
    states = {name.removeprefix("erase_persons."): state for name, state in task_states(run).items()}
    assert (states["delete"], states["verify"], states["erase_events"]) == ("success", "skipped", "skipped")
    assert (states["finish"], str(run.state)) == ("success", "success")
    told = xcoms(run)["erase_persons.finish", -1, "return_value"]
    lab.request = {"request_id": told["request_id"]}
    assert told["state"] == "DRY_RUN"
    assert not (lab.folder / "work.jsonl").exists()
    assert (lab.readable() != [], warehouse.count()) == (True, 1)
    assert audit(["verify", certificate(lab)]) == 0
    assert any("approved by the run's parameter 'approved'; the run was started by" in note for note in notes(lab))


# How it ends.


def test_the_end_closes_the_certificate_once_and_removes_what_is_private(lab: Lab, warehouse: DuckDB) -> None:
    request, extra = deleted(lab), lab.folder / "requests.csv"
    extra.write_text(lab.email)
    proof = look(lab)
    assert audit(["verify", certificate(lab)]) == OPEN
    assert timeless(look(lab)) == timeless(proof)
    assert (lab.folder / "work.jsonl").exists(), "a retry of the sensor keeps the file, too"
    erase = PostHogEraseFromSqlOperator(
        task_id="erase", request=request, sql_conn_id="warehouse", table="events", distinct_id_column="distinct_id"
    )
    told = [erase.execute(context())["deleted"] for _ in range(2)]
    assert (told, warehouse.count()) == ([1, 0], 0)
    finish = PostHogFinishErasureOperator(
        task_id="finish", request=request, proof=proof, also_remove=[f"file://{extra}"]
    )
    first = finish.execute(context())
    assert (first["state"], first["states"]) == ("VERIFIED", {"VERIFIED": 1})
    assert timeless(finish.execute(context())) == timeless(first)
    assert not extra.exists()
    assert not (lab.folder / "work.jsonl").exists()
    assert audit(["verify", certificate(lab)]) == 0
    records = [path.read_text() for path in Path(certificate(lab)).iterdir()]
    assert sum('"kind":"closed"' in record for record in records) == 1
    assert lab.name not in "".join(records)
    with pytest.raises(PostHogSettingsError, match="there is no file"):
        erase.execute(context())


def test_one_survivor_leaves_the_warehouse_of_the_others_to_be_erased(lab: Lab, warehouse: DuckDB) -> None:
    survivor = f"{lab.name}-survivor"
    lab.add(survivor)
    lab.event(survivor, timestamp="2100-01-01T00:00:00Z")
    warehouse.run(f"INSERT INTO events VALUES ('{survivor}', 'x')")
    request = deleted(lab)
    proof = lab.sensor(keep_work_file=True, on_survivors="go_on").execute(context())
    assert (proof["state"], proof["states"]) == ("PARTIAL", {"VERIFIED": 1, "SURVIVORS": 1})
    table = {"sql_conn_id": "warehouse", "table": "events", "distinct_id_column": "distinct_id"}
    told = PostHogEraseFromSqlOperator(task_id="erase", request=request, proof=proof, **table).execute(context())
    assert (told["persons"], told["deleted"], warehouse.count()) == (1, 1, 1), "the survivor's row stays"
    with pytest.raises(PostHogErasureError, match=r"proved for 1 persons, and not for 1 \(SURVIVORS 1\)"):
        PostHogFinishErasureOperator(task_id="finish", request=request, proof=proof).execute(context())
    assert (lab.folder / "work.jsonl").exists()
    another = {**proof, "states": {"VERIFIED": 2}}
    with pytest.raises(PostHogSettingsError, match="not the last one"):
        PostHogEraseFromSqlOperator(task_id="erase", request=request, proof=another, **table).execute(context())


@pytest.mark.parametrize("proof", [None, {}, {"state": "VERIFIED", "request_id": "another", "states": {"VERIFIED": 1}}])
def test_no_proof_no_end(lab: Lab, proof: Any) -> None:
    request = deleted(lab)
    with pytest.raises(PostHogErasureError, match="is not proved"):
        PostHogFinishErasureOperator(task_id="finish", request=request, proof=proof).execute(context())
    assert (lab.folder / "work.jsonl").exists()
    assert not list(Path(certificate(lab)).glob("*-closed-*"))


def test_what_has_begun_can_not_be_discarded(lab: Lab) -> None:
    request = deleted(lab)
    with pytest.raises(PostHogErasureError, match="has begun"):
        PostHogDiscardErasureOperator(task_id="discard", request=request).execute(context())
    assert (lab.folder / "work.jsonl").exists()


def test_a_work_file_of_another_request_stays(lab: Lab) -> None:
    request = lab.resolve()
    lab.resolve(uuids=[lab.person])
    with pytest.raises(PostHogSettingsError, match="another request"):
        PostHogDiscardErasureOperator(task_id="discard", request=request).execute(context())
    assert (lab.folder / "work.jsonl").exists()


def test_without_an_erasure_there_is_nothing_to_end() -> None:
    nothing: Any = None
    with pytest.raises(AirflowSkipException):
        PostHogDiscardErasureOperator(task_id="discard", request=nothing).execute(context())


@pytest.mark.parametrize(
    ("approval", "told"),
    [
        (
            {"responded_by_user": {"id": "7", "name": "Ann Approver"}, "responded_at": "2026-11-22T10:00:00+00:00"},
            ["approved by Airflow's user 7 at 2026-11-22T10:00:00+00:00"],
        ),
        (
            {"responded_by_user": None, "responded_at": "2026-11-22T10:00:00+00:00"},
            ["approved by no person: its time was over, and approval the answer for that case"],
        ),
        (
            {"param": "approved", "responded_by_user": {"id": "kim"}},
            ["approved by the run's parameter 'approved'; the run was started by Airflow's user kim"],
        ),
        (
            {"param": "approved", "responded_by_user": None},
            ["approved by the run's parameter 'approved'; the run was started by nobody"],
        ),
        (None, []),
    ],
)
def test_the_certificate_tells_who_approved(lab: Lab, approval: Any, told: list[str]) -> None:
    lab.delete(audit_path=f"file://{lab.folder}/certificates", approval=approval)
    assert [note for note in notes(lab) if "approved" in note] == told
    assert "Ann Approver" not in "".join(path.read_text() for path in Path(certificate(lab)).iterdir())


# The warehouse.


@pytest.mark.parametrize(
    ("columns", "problem"),
    [({}, "is empty"), ({"distinct_id_column": "distinct_id"}, "verify_by='uuid'")],
)
def test_columns_that_can_not_be_compared_are_refused(
    lab: Lab, warehouse: DuckDB, columns: dict[str, str], problem: str
) -> None:
    request = lab.resolve(uuids=[lab.person], verify_by="uuid")
    with pytest.raises(PostHogSettingsError, match=problem):
        PostHogEraseFromSqlOperator(
            task_id="erase", request=request, sql_conn_id="warehouse", table="events", **columns
        ).execute(context())
    assert warehouse.count() == 1


def test_a_database_that_is_not_known_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "vertica", "host": "x"}))
    with pytest.raises(PostHogSettingsError, match="of type vertica"):
        PostHogEraseFromSqlOperator(
            task_id="erase", request=lab.resolve(), sql_conn_id="other", table="t", person_id_column="id"
        ).execute(context())


@pytest.mark.parametrize("params", [{}, {"approved": "yes"}, {"approved": False}, {"other": True}])
def test_the_gate_lets_nothing_pass_that_is_not_true(params: dict[str, Any]) -> None:
    from airflow_provider_posthog.operators.erasure import PostHogErasureGateOperator

    gate = PostHogErasureGateOperator(task_id="gate", persons={"persons": 2, "events": 9, "recordings": 0})
    with pytest.raises(PostHogErasureError, match="Not approved: the run's parameter 'approved' is not true"):
        gate.execute({"params": params})
    gate.execute({"params": {"approved": True}})


def test_an_editor_sees_every_field() -> None:
    from dataclasses import fields

    from airflow_provider_posthog.task_groups.erase_persons import Erasure, ErasureOptions

    assert list(ErasureOptions.__annotations__) == [field.name for field in fields(Erasure)]
