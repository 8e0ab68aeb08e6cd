"""Looking again weeks after the proof, by what was kept sealed until then."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure.sealed import Sealed
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.operators.erasure import PostHogLookAgainOperator, PostHogSealErasureOperator
from tests.erasure.support import Lab, new_lab
from tests.operators.support import connect, context
from tests.storage.crashing import memory

pytestmark = pytest.mark.reliability

SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"
OTHER_SALT = "0a1c9a7e5b2d8046af91c3e7d5b20899"
MONTH = timedelta(days=30)


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    made = new_lab(tidied, monkeypatch, tmp_path)
    connect(monkeypatch, tidied, audit_secret=SALT)
    return made


def proved(lab: Lab, **given: Any) -> dict[str, Any]:
    """Erase the person, and prove it."""
    lab.delete()
    lab.posthog.sweep()
    proof: dict[str, Any] = lab.sensor(keep_work_file=True, **given).execute({})
    return proof


def seal(lab: Lab, proof: Any, **given: Any) -> dict[str, Any]:
    options = {"request": lab.request, "proof": proof, "sealed_path": f"file://{lab.folder}/sealed", **given}
    return PostHogSealErasureOperator(task_id="seal", **options).execute(context())


def erased(lab: Lab, after: Any = 0) -> dict[str, Any]:
    """Erase the person, prove it, and seal what is needed; the work file is removed."""
    sealed = seal(lab, proved(lab), look_again_after=after)
    (lab.folder / "work.jsonl").unlink()
    return sealed


def look_again(lab: Lab, **given: Any) -> dict[str, Any]:
    options = {"sealed_path": f"file://{lab.folder}/sealed", "poll_interval": 0, **given}
    return PostHogLookAgainOperator(task_id="again", **options).execute(context())


def files(lab: Lab) -> list[Path]:
    return list((lab.folder / "sealed").iterdir())


def test_who_is_still_gone_is_forgotten(lab: Lab) -> None:
    done = erased(lab)
    assert done["persons"] == 1
    (path,) = files(lab)
    for secret in (*lab.names, lab.email, lab.person, SALT):
        assert secret not in path.read_text()
        assert secret not in json.dumps(done)
    assert look_again(lab) == {"looked_at": 1, "waiting": 0, "states": {"VERIFIED": 1}, "expired": 0}
    assert files(lab) == []
    assert look_again(lab)["looked_at"] == 0


def test_who_came_back_is_an_error_until_it_is_kept_no_longer(lab: Lab) -> None:
    erased(lab)
    now = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()
    lab.event(timestamp=now, created_at=now)
    for keep_for, left in ((MONTH, 1), (0, 0)):
        with pytest.raises(PostHogErasureError, match="can be read again") as error:
            look_again(lab, keep_for=keep_for)
        assert error.value.states
        assert lab.name not in str(error.value)
        assert len(files(lab)) == left


def test_nobody_looks_before_its_time(lab: Lab) -> None:
    erased(lab, MONTH)
    assert look_again(lab) == {"looked_at": 0, "waiting": 1, "states": {}, "expired": 0}
    assert len(files(lab)) == 1


def test_another_posthog_or_another_salt_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    erased(lab)
    connect(monkeypatch, lab.posthog, audit_secret=OTHER_SALT)
    with pytest.raises(PostHogSettingsError, match="another audit_secret"):
        look_again(lab)
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    with pytest.raises(PostHogSettingsError, match="is about project"):
        look_again(lab, project_id=77)
    assert len(files(lab)) == 1


def test_after_a_partial_proof_the_verified_only_are_sealed(lab: Lab) -> None:
    survivor = f"{lab.name}-future"
    lab.add(survivor)
    lab.event(survivor, timestamp="2100-01-01T00:00:00Z")
    proof = proved(lab, on_survivors="go_on")
    assert proof["state"] == "PARTIAL"
    done = seal(lab, proof, look_again_after=0)
    assert (done["persons"], done["left_out"]) == (1, 1)
    assert look_again(lab)["states"] == {"VERIFIED": 1}


@pytest.mark.parametrize("wrong", [{}, {"request_id": "another"}, {"states": {"SURVIVORS": 1}}, {"project_id": 77}])
def test_a_proof_of_something_else_seals_nobody(lab: Lab, wrong: dict[str, Any]) -> None:
    proof = proved(lab)
    with pytest.raises(PostHogSettingsError) as refused:
        seal(lab, {**proof, **wrong} if wrong else None)
    assert refused.value.field == "proof"
    assert not (lab.folder / "sealed").exists()


def test_a_replica_that_shows_nothing_once_unseals_nothing(lab: Lab) -> None:
    """The first of the two looks meets one that lags."""
    erased(lab)
    now = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()
    lab.event(timestamp=now, created_at=now)
    nothing = {"results": [], "columns": [], "types": [], "hasMore": False, "is_cached": False}
    people = {"results": {}}
    lab.posthog.control("DELETE", "calls")
    with pytest.raises(PostHogErasureError, match="can be read again"):
        look_again(lab)
    queries = len(lab.posthog.calls("query"))
    lookups = len(lab.posthog.calls("batch_by"))
    lab.posthog.faults(path="*/query/", status=200, body=nothing, count=queries)
    lab.posthog.faults(path="*/batch_by_*", status=200, body=people, count=lookups)
    with pytest.raises(PostHogErasureError, match="can be read again"):
        look_again(lab)
    assert len(files(lab)) == 1


def test_a_new_address_of_the_same_posthog_has_to_be_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    erased(lab)
    before = lab.posthog.url
    after = (
        before.replace("127.0.0.1", "localhost") if "127.0.0.1" in before else before.replace("localhost", "127.0.0.1")
    )
    monkeypatch.setattr(lab.posthog, "url", after)
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    lab.posthog.control("DELETE", "calls")
    with pytest.raises(PostHogSettingsError, match="moved_from"):
        look_again(lab)
    assert lab.posthog.calls() == []
    assert look_again(lab, moved_from=before)["looked_at"] == 1


@pytest.mark.parametrize("given", [{"look_again_after": "soon"}, {"look_again_after": -1}, {"request": {}}])
def test_wrong_arguments_seal_nothing(lab: Lab, given: dict[str, Any]) -> None:
    options = {"request": {"accepted_at": "x"}, "proof": {}, "sealed_path": f"file://{lab.folder}/sealed", **given}
    with pytest.raises(PostHogSettingsError):
        PostHogSealErasureOperator(task_id="seal", **options).execute(context())
    assert not (lab.folder / "sealed").exists()


def test_no_line_can_be_left_out_added_or_moved() -> None:
    fs, root = memory()
    sealed = Sealed(fs, f"{root}/a.sealed", SALT)
    persons = [Person(f"{number:032x}", (f"id-{number}",)) for number in range(1200)]
    sealed.write({"request_id": "a"}, persons, datetime.now(timezone.utc))
    assert list(sealed.persons()) == persons
    assert sealed.request() == {"request_id": "a"}
    whole = fs.cat_file(sealed.path).splitlines(keepends=True)
    for number in range(len(whole)):
        for changed in (whole[:number] + whole[number + 1 :], [*whole[:number], whole[-1], *whole[number + 1 :]]):
            if changed == whole:
                continue
            fs.pipe_file(sealed.path, b"".join(changed))
            with pytest.raises(PostHogSettingsError, match="is damaged"):
                _ = sealed.head(), sealed.request(), list(sealed.persons())
