"""An hour of 429 in the middle of a task: it fails cleanly, nothing is half-written, and its retry goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogRateLimitError
from airflow_provider_posthog.operators.access import PostHogExportPersonDataOperator
from airflow_provider_posthog.operators.erasure import PostHogSuppressPersonsOperator
from tests.erasure.support import DAY, HOUR, Lab, new_lab
from tests.operators.support import connect, context

SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"
BUSY = {
    "status": 429,
    "headers": {"Retry-After": str(HOUR)},
    "body": {
        "type": "throttled_error",
        "code": "throttled",
        "detail": f"Request was throttled. Expected available in {HOUR} seconds.",
        "attr": None,
    },
}


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    made = new_lab(tidied, monkeypatch, tmp_path)
    connect(monkeypatch, tidied, audit_secret=SALT)
    return made


def busy(lab: Lab, path: str, skip: int) -> None:
    """From the call after so many on, PostHog answers 429 for an hour."""
    lab.posthog.faults(path=path, skip=skip, count=-1, **BUSY)


def calls_of(lab: Lab, work: Any, path: str) -> int:
    """How many calls a task makes."""
    lab.posthog.control("DELETE", "calls")
    work()
    return len(lab.posthog.calls(path))


def test_access_is_refused_at_any_query_and_goes_on_in_its_retry(lab: Lab) -> None:
    lab.recording()
    persons = lab.resolve()

    def export(name: str) -> dict[str, Any]:
        path = f"file://{lab.folder}/access/{name}"
        operator = PostHogExportPersonDataOperator(task_id="access", persons=persons, path=path)
        return operator.execute(context())

    whole: dict[str, Any] = {}
    queries = calls_of(lab, lambda: whole.update(export("whole")), "query")
    assert queries > 5
    for skip in sorted({*range(0, queries, 4), queries - 1}):
        busy(lab, "*/query/", skip)
        with pytest.raises(PostHogRateLimitError, match=r"3,?600") as refused:
            export(f"half-{skip}")
        lab.posthog.clear_faults()
        assert lab.name not in str(refused.value)
        assert not (lab.folder / "access" / f"half-{skip}").exists(), "no folder has its name before it is whole"
        again = export(f"half-{skip}")
        assert again["counts"] == whole["counts"]
        assert not list((lab.folder / "access").glob(".*")), "nor is a part of it left"


def test_the_list_of_those_who_must_not_come_again_is_written_whole_or_not_at_all(lab: Lab) -> None:
    request = lab.delete()
    folder = lab.folder / "erased"

    def suppress() -> dict[str, Any]:
        operator = PostHogSuppressPersonsOperator(task_id="suppress", request=request, suppress_path=f"file://{folder}")
        return operator.execute(context())

    busy(lab, "*/query/", 0)
    with pytest.raises(PostHogRateLimitError):
        suppress()
    assert not folder.exists()
    lab.posthog.clear_faults()
    done = suppress()
    assert done["persons"] == 1
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert suppress() == done
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("path", ["*/hog_functions/", "*/external_data_destinations/", "*/exports/", "*/query/"])
def test_the_look_at_recipients_is_refused_and_the_next_one_proves(lab: Lab, path: str) -> None:
    certificates = lab.folder / "certificates"
    lab.delete(lab.resolve(emails=[lab.email], audit_path=f"file://{certificates}"))
    lab.posthog.advance(8 * DAY)
    sensor = lab.sensor(keep_work_file=True, poke_interval=HOUR)
    assert sensor.look({}).verdict.state == "pending"
    lab.posthog.advance(HOUR + 1)
    busy(lab, path, 0)
    records = sorted(file.name for file in certificates.rglob("*.json"))
    for _ in range(3):
        with pytest.raises(PostHogRateLimitError):
            lab.sensor(keep_work_file=True, poke_interval=HOUR).look({})
    lab.posthog.clear_faults()
    assert sorted(file.name for file in certificates.rglob("*.json")) == records, "nothing was told"
    found = lab.sensor(keep_work_file=True, poke_interval=HOUR).look({})
    assert found.verdict.state == "succeeded", "it is not waited for another sweep"
    told = [json.loads(file.read_text()) for file in certificates.rglob("*.json")]
    (residue,) = [record["facts"]["cannot_erase"] for record in told if record["kind"] == "residue"]
    assert isinstance(residue["hog_functions"], list)
    assert not any("429" in why for why in residue["not_looked_at"].values())
