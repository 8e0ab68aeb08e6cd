"""The erasure example on real Airflow: green only when nothing is left, here or there, and with a certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.audit.__main__ import OPEN, SALT_VARIABLE
from airflow_provider_posthog.audit.__main__ import main as audit
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.emulator.process import EmulatorProcess

SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
ALL = {"events": 5, "persons": 2}
ERASED = {"events": 1, "persons": 1}
ERASING = ("erase_events", "erase_persons")


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever checks has the salt."""
    monkeypatch.setenv(SALT_VARIABLE, SALT)


@dataclass
class Stories:
    """What became of some runs of the example, and all that Airflow has written meanwhile."""

    folder: Path
    found: dict[str, dict[str, Any]]
    traces: dict[str, str]

    def certificate(self, name: str) -> Path:
        (folder,) = (self.folder / name / "certificates").glob("[!_]*")
        return folder


@pytest.fixture(scope="module")
def stories(posthog_emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Stories:
    home, folder = tmp_path_factory.mktemp("airflow_home"), tmp_path_factory.mktemp("erasures")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{home}/logs",
        "AIRFLOW_CONN_POSTHOG_DEFAULT": posthog_emulator.airflow_connection_json(audit_secret=SALT),
    }
    command = [sys.executable, "-m", "tests.airflow.erase_flow", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, output[-3000:]
    traces = {"output": output}
    for path in home.rglob("*"):
        if path.is_file():
            traces[str(path.relative_to(home))] = path.read_bytes().decode("latin-1")
    return Stories(folder, json.loads((folder / "found.json").read_text()), traces)


def test_from_a_request_to_the_certificate(
    stories: Stories, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stories.found["file"]
    tasks = ("resolve", "approve", "delete", "weekend", "verify", *ERASING, "finish")
    assert found["states"] == {**dict.fromkeys(tasks, "success"), "discard": "skipped"}
    assert (found["readable"], found["left"], found["private"]) == ([], ERASED, [])
    erased = found["erased"]
    assert (erased["deleted"], erased["deleted_by"], erased["left"]) == (
        4,
        {"distinct_id": 2, "person_id": 2},
        0,
    )
    monkeypatch.setenv("POSTHOG_AUDIT_SALT", SALT)
    assert audit(["verify", str(stories.certificate("file"))]) == 0
    said = capsys.readouterr().out
    assert "erasure: VERIFIED" in said
    assert "seals checked" in said
    records = "".join(path.read_text() for path in stories.certificate("file").iterdir())
    assert (
        "erased 4 rows (2 by distinct_id, 2 by person_id) of 1 person from the table events (warehouse); 0 are left"
        in (records)
    )
    assert '"ticket":"DSR-42"' in records


def test_a_survivor_ends_red_and_the_certificate_says_so(stories: Stories, capsys: pytest.CaptureFixture[str]) -> None:
    found = stories.found["survivor"]
    states = found["states"]
    assert (found["state"], states["delete"], states["verify"]) == ("failed", "success", "failed")
    assert {states[name] for name in (*ERASING, "finish")} == {"upstream_failed"}
    assert found["left"] == ALL
    assert found["private"], "whoever clears the task needs the work file"
    page = stories.folder / "report.html"
    assert audit(["verify", str(stories.certificate("survivor")), "--report", str(page)]) == OPEN
    said = capsys.readouterr().out
    for line in ("erasure: NOT VERIFIED", "1 person is in the state SURVIVORS", "1 events were still readable"):
        assert line in said
    assert "NOT VERIFIED" in page.read_text()
    assert Pseudonyms(SALT).of("uuid", found["person"])["hmac"][:16] in page.read_text()
    assert found["person"] not in page.read_text()
    assert found["secret"] not in said + page.read_text()


def test_a_changed_byte_in_the_certificate_is_found(stories: Stories, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stories.certificate("file")
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        at = whole.index(b'"at":"2') + 6
        path.write_bytes(whole[:at] + b"3" + whole[at + 1 :])
        assert audit(["verify", str(folder)]) == 1
        said = capsys.readouterr().out
        for text in (path.name, "ALTERED OR INCOMPLETE", "erasure: NOT VERIFIED"):
            assert text in said
        path.write_bytes(whole)
    assert audit(["verify", str(folder)]) == 0


def test_without_approval_nothing_is_deleted(stories: Stories, capsys: pytest.CaptureFixture[str]) -> None:
    found = stories.found["unapproved"]
    states = found["states"]
    assert found["state"] == "failed"
    assert (states["resolve"], states["approve"], states["discard"]) == ("success", "failed", "success")
    assert {states[name] for name in ("delete", "verify", *ERASING, "finish")} == {"upstream_failed"}
    assert (found["deleting"], found["left"]) == (0, ALL)
    assert found["readable"]
    assert found["private"] == [], "nobody needs to know any more whom it was about"
    folder = stories.certificate("unapproved")
    assert audit(["verify", str(folder)]) == 0
    assert "erasure: NOT VERIFIED" in capsys.readouterr().out
    notes = [json.loads(path.read_text())["facts"].get("notes") for path in folder.glob("*-closed-*")]
    assert notes == [["not approved: nothing was deleted"]]


def test_a_warehouse_that_refuses_leaves_the_certificate_open(
    stories: Stories, capsys: pytest.CaptureFixture[str]
) -> None:
    found = stories.found["refused"]
    states = found["states"]
    assert found["state"] == "failed"
    assert (states["verify"], states["erase_events"], states["finish"]) == ("success", "failed", "upstream_failed")
    assert found["private"], "whoever clears the task needs the work file"
    assert audit(["verify", str(stories.certificate("refused"))]) == OPEN
    assert "The request is not closed" in capsys.readouterr().out


def test_no_identifier_is_left_anywhere(stories: Stories) -> None:
    output, database = stories.traces["output"], stories.traces["airflow.db"]
    assert "Erased 4 rows" in output, "the tasks' logs are not there"
    assert {"work_path", "DSR-42"} <= {text for text in ("work_path", "DSR-42") if text in database}
    records = {str(path): path.read_text() for path in stories.folder.rglob("*.json") if "/certificates/" in str(path)}
    assert len(records) > 20
    for found in stories.found.values():
        assert found["rendered"] > 0
        places = [name for name, text in {**stories.traces, **records}.items() if found["secret"] in text]
        assert places == []
        # But for the addresses of calls, which urllib3 logs for who debugs: PostHog takes a UUID in them.
        shown = "\n".join(line for line in output.splitlines() if '"GET /api/' not in line)
        traces = {**stories.traces, "output": shown, **records}
        places = [name for name, text in traces.items() if found["person"] in text]
        assert places == [], "whoever knows a distinct id can calculate the UUID"
