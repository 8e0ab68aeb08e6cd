"""An erasure that cannot be proved is ended by somebody's decision, and its certificate says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.audit.__main__ import OPEN, SALT_VARIABLE
from airflow_provider_posthog.audit.__main__ import main as audit
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.report import report, summary
from airflow_provider_posthog.audit.verify import Verdict, verify_folder
from airflow_provider_posthog.compat import AirflowException, AirflowSkipException
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure import verify
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.operators.erasure import PostHogCloseErasureOperator, PostHogFinishErasureOperator
from tests.erasure.support import DAY, Lab
from tests.operators.support import connect, context

SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
WHY = {"reason": "PostHog's support cannot delete future events", "decision": "The officer accepts it, 2026-12-01"}


@pytest.fixture
def lab(connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    connect(monkeypatch, connected, audit_secret=SALT)
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    return Lab(connected, tmp_path)


def folder(lab: Lab) -> str:
    return str(lab.folder / "certificates" / lab.request["request_id"])


def checked(lab: Lab) -> Verdict:
    return verify_folder(folder(lab), LocalFileSystem(), pseudonyms=Pseudonyms(SALT))


def survivor(lab: Lab) -> str:
    """Two persons, of whom one has an event that PostHog leaves; return the other one's UUID."""
    other = lab.add(f"{lab.name}-other")
    lab.event(timestamp="2040-01-01T00:00:00Z")
    lab.delete(lab.resolve(**lab.asked, audit_path=f"file://{lab.folder}/certificates"))
    lab.posthog.advance(8 * DAY)
    with pytest.raises(PostHogErasureError, match="SURVIVORS"):
        lab.sensor().execute({})
    return other


def close(lab: Lab, **given: Any) -> Any:
    options = {"task_id": "close", "request": lab.request, "poll_interval": 0, **WHY, **given}
    return PostHogCloseErasureOperator(**options).execute(context())


def private(lab: Lab) -> list[str]:
    files = [path for path in lab.folder.rglob("*") if path.is_file() and "certificates" not in str(path)]
    return [path.name for path in files if path.name != "verified.json"]


def test_it_says_why_and_how_each_person_was_and_removes_what_is_private(lab: Lab) -> None:
    other = survivor(lab)
    extra = lab.folder / "requests.csv"
    extra.write_text(lab.email)
    assert audit(["verify", folder(lab)]) == OPEN
    told = close(lab, also_remove=[f"file://{extra}"])
    assert (told["state"], told["states"]) == ("NOT_VERIFIED", {"SURVIVORS": 1, "VERIFIED": 1})
    assert audit(["verify", folder(lab)]) == 0
    assert private(lab) == []
    verdict = checked(lab)
    states = {
        Pseudonyms(SALT).of("uuid", uuid)["hmac"]: state
        for uuid, state in ((lab.person, "SURVIVORS"), (other, "VERIFIED"))
    }
    assert verdict.story.states == states
    assert "The request was closed as NOT_VERIFIED." in verdict.doubts
    for shown in (summary(verdict), report(verdict).replace("&#x27;", "'")):
        assert "NOT VERIFIED" in shown
        assert f"Ended without proof, because: {WHY['reason']}" in shown
        assert f"Decision: {WHY['decision']}" in shown


def test_a_retry_ends_it_once(lab: Lab) -> None:
    survivor(lab)
    work = (lab.folder / "work.jsonl").read_text()
    first = close(lab)
    records = sorted(Path(folder(lab)).iterdir())
    (lab.folder / "work.jsonl").write_text(work)  # killed before it was removed
    assert close(lab) == first
    assert sorted(Path(folder(lab)).iterdir()) == records
    assert not (lab.folder / "work.jsonl").exists()


def test_where_posthog_cannot_be_asked_the_last_states_count(lab: Lab) -> None:
    survivor(lab)
    lab.posthog.faults(path="*/query/", status=401, count=-1)
    assert close(lab)["states"] == {"SURVIVORS": 1, "REQUESTED": 1}
    assert checked(lab).state == "closed"
    assert private(lab) == []


def test_without_the_work_file_the_last_states_count(lab: Lab) -> None:
    survivor(lab)
    (lab.folder / "work.jsonl").unlink()
    assert close(lab)["states"] == {"SURVIVORS": 1, "REQUESTED": 1}
    assert checked(lab).state == "closed"


def test_one_look_that_sees_nobody_is_not_believed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    survivor(lab)
    lab.posthog.clear_faults()
    lab.posthog.settings(sweep_outcome="verify_only")
    looked: list[dict[str, int]] = []
    real = verify.verify

    def watched(*given: Any, **options: Any) -> Any:
        found = real(*given, **options)
        looked.append(dict(found.states))
        lab.event(f"{lab.name}-other")  # what the first look could not see
        return found

    monkeypatch.setattr(verify, "verify", watched)
    operator = PostHogCloseErasureOperator(task_id="close", request=lab.request, poll_interval=0, **WHY)
    assert "VERIFIED" not in operator.execute(context())["states"]
    assert [look.get("VERIFIED") for look in looked] == [1, None]


@pytest.mark.parametrize("name", ["reason", "decision"])
@pytest.mark.parametrize("value", ["", "  ", None, "x" * 501])
def test_nothing_is_ended_without_a_reason_and_a_decision(lab: Lab, name: str, value: Any) -> None:
    lab.delete()
    with pytest.raises(PostHogSettingsError) as refused:
        close(lab, **{name: value})
    assert refused.value.field == name
    assert (lab.folder / "work.jsonl").exists()


def test_what_is_proved_is_not_ended_as_something_else(lab: Lab) -> None:
    lab.delete(lab.resolve(**lab.asked, audit_path=f"file://{lab.folder}/certificates"))
    lab.posthog.sweep()
    proof = lab.sensor(keep_work_file=True, close_certificate=False).execute({})
    PostHogFinishErasureOperator(task_id="finish", request=lab.request, proof=proof).execute(context())
    with pytest.raises(PostHogErasureError, match="closed already, as VERIFIED"):
        close(lab)


def test_no_identifier_in_the_reason_gets_into_the_certificate(lab: Lab) -> None:
    survivor(lab)
    close(lab, reason=f"of {lab.email}, {lab.person}")
    text = "".join(path.read_text() for path in Path(folder(lab)).iterdir())
    assert lab.email not in text
    assert lab.person not in text


@pytest.mark.parametrize("mode", ["poke", "deferrable", "soft_fail"])
def test_a_timeout_is_told(lab: Lab, mode: str) -> None:
    lab.delete(lab.resolve(**lab.asked, audit_path=f"file://{lab.folder}/certificates"))
    options: dict[str, Any] = {"timeout": 0.05, "poke_interval": 0.01, "mode": "poke"}
    sensor = lab.sensor(**options, soft_fail=mode == "soft_fail")
    if mode == "deferrable":
        event: Any = {"version": 1, "deadline": 0.0, "limit": "timeout", "bad_looks": 0}
        with pytest.raises(AirflowException):
            sensor.execute_complete({}, event)
    else:
        with pytest.raises((AirflowException, AirflowSkipException)):
            sensor.execute({})
    (record,) = (json.loads(path.read_text()) for path in Path(folder(lab)).glob("*-failed-*"))
    assert record["facts"]["error"].startswith("The time is over: EVENTS_PENDING 1")
    assert record["facts"]["states"] == {"EVENTS_PENDING": 1}
    assert checked(lab).state == "open"
