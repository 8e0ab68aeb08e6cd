"""One person gets what the certificate says of this person, and nothing of anybody else."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.audit.__main__ import SALT_VARIABLE, main
from airflow_provider_posthog.audit.chain import AuditTrail
from tests.audit.support import AFTER, ANN, BEN, SALT, name_of, trail_in

NAMES = {ANN: "user-of-ann-1", BEN: "user-of-ben-1"}


def written(tmp_path: Path, states: dict[str, str], *, close: bool = True, **options: Any) -> AuditTrail:
    """A certificate of Ann and Ben, asked for by their addresses."""
    trail = trail_in(LocalFileSystem(), str(tmp_path))
    persons: Any = [
        {"uuid": uuid, "before": {"events": 3 + number}, "identifiers": [("distinct_id", NAMES[uuid])]}
        for number, uuid in enumerate(states)
    ]
    asked = [("email", f"{NAMES[uuid]}@example.org") for uuid in states]
    server: Any = {"host": "http://127.0.0.1:1", "project_id": 1, "generation": "B"}
    trail.append("requested", identifiers=asked, persons=persons, server=server)
    trail.append("note", options=options)
    trail.append("residue", cannot_erase={"exports": [{"id": 5}], "batch_exports": None})
    told: Any = [{"uuid": uuid, "state": state} for uuid, state in states.items()]
    trail.append("state_changed", persons=told, after=AFTER)
    if close:
        trail.close("NOT_VERIFIED", states={state: list(states.values()).count(state) for state in states.values()})
    return trail


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, SALT)


def extracted(
    trail: AuditTrail, out: Path, value: str, monkeypatch: pytest.MonkeyPatch, kind: str = "any"
) -> dict[str, Any] | int:
    """Run the command; return what it wrote, or its exit status."""
    monkeypatch.setattr("sys.stdin", StringIO(f"{value}\n"))
    status = main(["extract", trail.folder, str(out), "--kind", kind])
    assert out.exists() is (status == 0)
    return json.loads(out.read_text()) if status == 0 else status


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("any", NAMES[ANN]),
        ("distinct_id", NAMES[ANN]),
        ("uuid", ANN.upper()),
        ("any", ANN),
        ("person", name_of(ANN)),
        ("person", name_of(ANN)[:16]),
    ],
)
def test_it_is_of_one_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, value: str) -> None:
    """Though another one survived, and the request as a whole is not verified."""
    trail = written(tmp_path, {ANN: "VERIFIED", BEN: "SURVIVORS"}, delete_recordings=False)
    told = extracted(trail, tmp_path / "out.json", value, monkeypatch, kind)
    assert isinstance(told, dict)
    assert (told["person"], told["state"], told["request_id"]) == (name_of(ANN), "VERIFIED", "DSR-42")
    assert told["before"] == {"events": 3}
    assert told["claim"].startswith("Of the person PostHog shows no profile and no events up to the request any more.")
    assert told["left_on_purpose"] == ["the session recordings were left (delete_recordings=False)"]
    assert told["cannot_erase"] == {"exports": 1, "batch_exports": "not looked at"}
    records = {record.name: record.hash for record in trail.records()}
    assert {one["name"]: one["hash"] for one in told["records"]}.items() <= records.items()
    assert told["closing_hash"] in records.values()
    assert told["checked"] == "seals"
    text = json.dumps(told)
    assert name_of(BEN) not in text
    assert NAMES[ANN] not in text
    assert ANN not in text


def test_the_page_is_well_formed_and_names_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = written(tmp_path, {ANN: "VERIFIED", BEN: "SURVIVORS"}, close=False)
    monkeypatch.setattr("sys.stdin", StringIO(f"{NAMES[ANN]}\n"))
    assert main(["extract", trail.folder, str(tmp_path / "out.html")]) == 0
    page = (tmp_path / "out.html").read_text()
    shown = " ".join(ET.fromstring(page.split("\n", 1)[1].replace('<meta charset="utf-8"/>', "")).itertext())
    assert "The person was erased: PostHog shows no profile" in shown
    assert "none yet: others of the request are not proved" in shown
    assert name_of(BEN)[:16] not in page


@pytest.mark.parametrize(
    ("states", "value", "says"),
    [
        ({ANN: "SURVIVORS", BEN: "VERIFIED"}, NAMES[ANN], "in the state SURVIVORS"),
        ({ANN: "EVENTS_PENDING", BEN: "VERIFIED"}, ANN, "in the state EVENTS_PENDING"),
        ({ANN: "VERIFIED", BEN: "VERIFIED"}, "user-of-carl", "names 0 persons"),
        ({ANN: "VERIFIED", BEN: "VERIFIED"}, f"{NAMES[ANN]}@example.org", "does not say whose it was"),
        ({ANN: "VERIFIED", BEN: "VERIFIED"}, "", "names 0 persons"),
    ],
)
def test_nobody_else_gets_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    states: dict[str, str],
    value: str,
    says: str,
) -> None:
    assert extracted(written(tmp_path, states), tmp_path / "out.json", value, monkeypatch) == 1
    assert says in capsys.readouterr().err


def test_an_address_leads_to_the_only_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = written(tmp_path, {ANN: "VERIFIED"})
    told = extracted(trail, tmp_path / "out.json", f"{NAMES[ANN].upper()}@EXAMPLE.org", monkeypatch, "email")
    assert isinstance(told, dict)
    assert told["person"] == name_of(ANN)


@pytest.mark.parametrize("damage", ["altered", "no salt", "another salt"])
def test_there_is_none_of_what_cannot_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    trail = written(tmp_path, {ANN: "VERIFIED", BEN: "SURVIVORS"})
    if damage == "altered":
        path = max(Path(trail.folder).iterdir())
        path.write_bytes(path.read_bytes().replace(b"SURVIVORS", b"VERIFIED"))
    elif damage == "no salt":
        monkeypatch.delenv(SALT_VARIABLE)
    else:
        monkeypatch.setenv(SALT_VARIABLE, SALT[::-1])
    assert extracted(trail, tmp_path / "out.json", NAMES[ANN], monkeypatch) == 1
