"""A request has a deadline: it is told, extended with a reason, warned of, and listed while it is open."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.audit.deadline import later
from airflow_provider_posthog.audit.ledger_check import verify_ledger
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.report import report, summary
from airflow_provider_posthog.audit.verify import Verdict, keys_of, verify_folder
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogError, PostHogSettingsError
from airflow_provider_posthog.operators.erasure import (
    PostHogDiscardErasureOperator,
    PostHogExtendErasureOperator,
    PostHogFinishErasureOperator,
)
from airflow_provider_posthog.sensors.erasures import PostHogErasuresDueSensor
from tests.erasure.support import DAY, Lab
from tests.operators.support import connect, context

SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"


@pytest.fixture
def lab(connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    connect(monkeypatch, connected, audit_secret=SALT)
    return Lab(connected, tmp_path)


def days_ago(count: int) -> date:
    return (datetime.now(timezone.utc) - timedelta(days=count)).date()


def certificates(lab: Lab) -> str:
    return f"file://{lab.folder}/certificates"


def resolved(lab: Lab, **given: Any) -> dict[str, Any]:
    return lab.resolve(**lab.asked, audit_path=certificates(lab), ticket="DSR-42", **given)


def verdict(lab: Lab, request_id: str) -> Verdict:
    folder = f"{lab.folder}/certificates/{request_id}"
    return verify_folder(folder, LocalFileSystem(), pseudonyms=Pseudonyms(SALT))


def due_within(lab: Lab, days: int) -> list[dict[str, Any]] | None:
    sensor = PostHogErasuresDueSensor(task_id="due", audit_path=certificates(lab), within=timedelta(days=days))
    found = sensor.poke(context())
    assert found.is_done is bool(found.xcom_value)
    return found.xcom_value  # type: ignore[no-any-return]


def extend(lab: Lab, request: Any, **given: Any) -> dict[str, Any]:
    options = {"task_id": "extend", "request": request, "reason": "The sweep failed", **given}
    return PostHogExtendErasureOperator(**options).execute(context())


def test_it_counts_from_the_receipt_and_every_task_knows_it(lab: Lab) -> None:
    received = days_ago(10)
    found = resolved(lab, received_at=received.isoformat())
    due = later(received, 1).isoformat()
    request = lab.delete(found)
    assert {(told["received_at"], told["due_at"]) for told in (found, request)} == {(received.isoformat(), due)}
    page = report(verdict(lab, found["request_id"]))
    assert f"It was received on {received}; it is due on {due}." in page


@pytest.mark.parametrize("given", [{}, {"received_at": ""}, {"received_at": "None"}])
def test_who_tells_no_receipt_gets_the_day_of_the_search(lab: Lab, given: dict[str, Any]) -> None:
    found = resolved(lab, due_in=45, **given)
    start = datetime.fromisoformat(found["resolved_at"]).date()
    assert (found["received_at"], found["due_at"]) == (None, (start + timedelta(days=45)).isoformat())


@pytest.mark.parametrize(
    ("name", "value"),
    [("received_at", "soon"), ("received_at", "2999-01-01"), ("due_in", 0), ("due_in", "year")],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(lab: Lab, name: str, value: Any) -> None:
    before = len(lab.posthog.calls())
    with pytest.raises(PostHogSettingsError) as refused:
        resolved(lab, **{name: value})
    assert refused.value.field == name
    assert len(lab.posthog.calls()) == before
    assert not (lab.folder / "certificates").exists()


@pytest.mark.parametrize(("age", "says"), [(27, "due"), (60, "overdue")])
def test_it_warns_in_the_log_and_in_the_certificate_once(
    lab: Lab, age: int, says: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    found = resolved(lab, received_at=days_ago(age))
    lab.delete(found)
    for _ in range(2):
        lab.sensor().look(context())
    logged = caplog.text + capfd.readouterr().out
    assert logged.count("The request is due on" if says == "due" else "The request was due on") >= 2
    story = verdict(lab, found["request_id"]).story
    assert [record.key for record in story.records if record.key in ("due", "overdue")] == [says]
    shown = summary(verdict(lab, found["request_id"]))
    assert ("The request is due on" if says == "due" else "The request was due on") in shown


def test_without_a_certificate_the_request_knows_its_deadline(
    lab: Lab, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    lab.delete(lab.resolve(**lab.asked, received_at=days_ago(60)))
    capfd.readouterr()
    caplog.clear()
    lab.sensor().look(context())
    assert "The request was due on" in caplog.text + capfd.readouterr().out


def test_there_is_time_and_nothing_is_said(
    lab: Lab, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    found = resolved(lab)
    lab.delete(found)
    lab.sensor().look(context())
    assert "The request is due" not in caplog.text + capfd.readouterr().out
    assert "The request is due" not in summary(verdict(lab, found["request_id"]))


def test_it_is_extended_with_a_reason(lab: Lab) -> None:
    found = resolved(lab, received_at=days_ago(27))
    lab.delete(found)
    assert due_within(lab, 7) is not None
    told = extend(lab, lab.request)
    due = later(later(days_ago(27), 1), 2).isoformat()
    assert told["due_at"] == due
    assert extend(lab, lab.request)["due_at"] == due, "a retry"
    assert due_within(lab, 7) is None
    page = report(verdict(lab, found["request_id"]))
    assert f"it is due on {due} (extended)." in page
    records = verdict(lab, found["request_id"]).story.records
    assert [record.facts["reason"] for record in records if record.key == "extension"] == ["The sweep failed"]
    with pytest.raises(PostHogSettingsError, match="extended already"):
        extend(lab, lab.request, until=later(days_ago(27), 2).isoformat())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"reason": " "}, PostHogSettingsError),
        ({"until": "2999-01-01"}, PostHogSettingsError),
        ({"until": "soon"}, PostHogSettingsError),
        ({"request": None}, PostHogSettingsError),
        ({"work_path": "file:///another.jsonl"}, PostHogSettingsError),
        ({"request": {"request_id": "another"}}, PostHogErasureError),
    ],
)
def test_nothing_else_extends_it(lab: Lab, given: dict[str, Any], error: type[PostHogError]) -> None:
    found = resolved(lab)
    records = len(verdict(lab, found["request_id"]).story.records)
    given = {"audit_path": certificates(lab), **given}
    request = given.pop("request", found)
    with pytest.raises(error):
        extend(lab, request, **given)
    assert len(verdict(lab, found["request_id"]).story.records) == records


def test_a_closed_one_has_no_more_time(lab: Lab) -> None:
    found = resolved(lab, received_at=days_ago(40))
    PostHogDiscardErasureOperator(task_id="discard", request=found).execute(context())
    with pytest.raises(PostHogErasureError, match="nothing to extend"):
        extend(lab, found)
    assert "days after it was due" in summary(verdict(lab, found["request_id"]))
    assert due_within(lab, 7) is None


def test_open_requests_are_listed_before_they_are_due(lab: Lab) -> None:
    assert due_within(lab, 7) is None, "without a ledger there is none"
    received = days_ago(25)
    found = resolved(lab, received_at=received)
    left = (later(received, 1) - datetime.now(timezone.utc).date()).days
    assert due_within(lab, left - 1) is None
    (told,) = due_within(lab, left + 1) or []
    assert (told["request_id"], told["ticket"]) == (found["request_id"], "DSR-42")
    assert told["due_at"] == later(received, 1).isoformat()
    lab.delete(found)
    lab.posthog.advance(8 * DAY)
    assert lab.sensor().execute({})["state"] == "VERIFIED"
    assert due_within(lab, 60) is None


def test_a_forged_ledger_is_an_error(lab: Lab) -> None:
    resolved(lab)
    (entry,) = (lab.folder / "certificates" / "_ledger").iterdir()
    entry.write_bytes(entry.read_bytes().replace(b"DSR-42", b"DSR-43"))
    with pytest.raises(PostHogError, match="does not have its hash"):
        due_within(lab, 7)


@pytest.mark.parametrize("within", ["a week", True, None, -1, timedelta(days=-1), float("nan")])
def test_a_wrong_length_of_time_is_refused(lab: Lab, within: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        PostHogErasuresDueSensor(task_id="due", audit_path=certificates(lab), within=within).poke(context())
    assert refused.value.field == "within"


def test_every_end_tells_the_ledger_and_returns_its_head(lab: Lab) -> None:
    first = resolved(lab)
    PostHogDiscardErasureOperator(task_id="discard", request=first).execute(context())
    found = resolved(lab)
    request = lab.delete(found)
    assert found["ledger_head"] == request["ledger_head"]
    lab.posthog.sweep()
    proof = lab.sensor(keep_work_file=True, close_certificate=False).execute({})
    finish = PostHogFinishErasureOperator(task_id="finish", request=request, proof=proof)
    told = finish.execute(context())
    again = finish.execute(context())
    assert told["ledger_head"] == again["ledger_head"]
    ledger = verify_ledger(
        f"{lab.folder}/certificates", LocalFileSystem(), keys_of(Pseudonyms(SALT)), told["ledger_head"]
    )
    assert ledger is not None
    assert (ledger.problems, ledger.entries, ledger.heads) == ([], 4, [told["ledger_head"]])
    assert [listed.outcome for listed in ledger.requests.values()] == ["NOT_VERIFIED", "VERIFIED"]


def test_a_task_that_was_killed_before_the_ledger_is_made_good(lab: Lab) -> None:
    """Nothing is deleted for a request that the ledger does not know."""
    found = resolved(lab)
    for path in (lab.folder / "certificates" / "_ledger").iterdir():
        path.unlink()
    (note,) = (lab.folder / "certificates" / found["request_id"]).glob("*-note-*")
    note.unlink()
    assert lab.delete(found)["ledger_head"]
    ledger = verify_ledger(f"{lab.folder}/certificates", LocalFileSystem(), keys_of(Pseudonyms(SALT)))
    assert ledger is not None
    assert [*ledger.requests] == [found["request_id"]]


def test_a_cleared_search_writes_its_file_and_its_certificate_anew(lab: Lab) -> None:
    first = resolved(lab)
    second = resolved(lab)
    assert first["request_id"] != second["request_id"]
    assert lab.delete(second)["accepted"] == 1
