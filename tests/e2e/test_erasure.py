"""A person answers Airflow's question, by the REST API as the page does: the erasure goes on, or nothing is deleted."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_provider_posthog.audit.__main__ import SALT_VARIABLE
from airflow_provider_posthog.audit.__main__ import main as audit
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, wait_for
from tests.erasure.support import Lab

#: The connection's, in ``conftest.py``.
SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
APPROVE = "erase_persons.approve"
WAITING = (None, "scheduled", "queued", "running")


class Request:
    """A run of the erasure of one person."""

    def __init__(self, airflow: Deployment, posthog: EmulatorProcess, folder: Path) -> None:
        folder.mkdir()
        self.airflow, self.folder = airflow, folder
        self.person = Lab(posthog, folder)
        (folder / "requests.csv").write_text(f"email\n{self.person.email}\n")
        self.run_id = airflow.trigger("erasure", {"folder": f"file://{folder}"})

    def answer(self, option: str) -> str:
        """Choose an option; return the question."""
        path = f"dags/erasure/dagRuns/{quote(self.run_id, safe='')}"
        wait_for("the end of the search", lambda: self.states()[APPROVE] not in WAITING)
        assert self.states()[APPROVE] in ("deferred", "awaiting_input"), self.logs()
        # Nobody answers at once. Airflow fails a task that goes on before the scheduler has heard that it had paused.
        time.sleep(5)
        path += f"/taskInstances/{APPROVE}/-1/hitlDetails"
        question = self.airflow.call("GET", path)
        self.airflow.call("PATCH", path, {"chosen_options": [option], "params_input": {}})
        return f"{question['subject']} {question['body']}"

    def states(self) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.tasks("erasure", self.run_id)}

    def logs(self) -> str:
        return "".join(self.airflow.log("erasure", self.run_id, name, 1) for name in self.states())


def test_a_person_decides(
    airflow: Deployment, posthog_alone: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    approved, rejected = (Request(airflow, posthog_alone, tmp_path / name) for name in ("approved", "rejected"))
    question = approved.answer("Approve")
    assert question.startswith("Erase persons from PostHog (DSR-42)?")
    assert "- Deleted there: 1 person, 1 event, 0 recordings" in question
    rejected.answer("Reject")

    assert airflow.wait_for_run("erasure", rejected.run_id) == "failed"
    ends = {name.removeprefix("erase_persons."): state for name, state in rejected.states().items()}
    assert (ends["approve"], ends["delete"], ends["discard"]) == ("failed", "upstream_failed", "success")
    assert rejected.person.readable() != []

    wait_for("the deletion", lambda: approved.states()["erase_persons.delete"] not in WAITING)
    assert approved.states()["erase_persons.delete"] == "success", approved.states()
    posthog_alone.sweep()
    assert airflow.wait_for_run("erasure", approved.run_id) == "success", approved.logs()
    assert approved.person.readable() == []
    assert rejected.person.readable() != []

    for request in (approved, rejected):
        # Neither whom to erase nor who was found is kept; UUIDs are, for a task that is cleared.
        assert {one.name for one in request.folder.iterdir()} <= {"certificates", "work.jsonl.progress"}
        files = (one for one in request.folder.rglob("*") if one.is_file())
        said = request.logs() + question + "".join(one.read_text() for one in files)
        assert not [private for private in (request.person.email, *request.person.names) if private in said]
        (certificate,) = (request.folder / "certificates").glob("[!_]*")
        assert audit(["verify", str(certificate)]) == 0
        told = "".join(record.read_text() for record in certificate.iterdir())
        assert ("approved by Airflow's user " in told) is (request is approved)
