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
from tests.extract.crashing import memory
from tests.operators.support import connect, context

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
    connect(monkeypatch, tidied, audit_salt=SALT)
    return made


def erased(lab: Lab, after: Any = 0) -> dict[str, Any]:
    """Erase the person, prove it, and seal what is needed; the work file is removed."""
    lab.delete()
    lab.posthog.sweep()
    assert lab.look() == "VERIFIED"
    sealed = PostHogSealErasureOperator(
        task_id="seal", request=lab.request, sealed_path=f"file://{lab.folder}/sealed", look_again_after=after
    ).execute(context())
    (lab.folder / "work.jsonl").unlink()
    return sealed


def look_again(lab: Lab, **given: Any) -> dict[str, Any]:
    options = {"sealed_path": f"file://{lab.folder}/sealed", **given}
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
    connect(monkeypatch, lab.posthog, audit_salt=OTHER_SALT)
    with pytest.raises(PostHogSettingsError, match="another audit_salt"):
        look_again(lab)
    connect(monkeypatch, lab.posthog, audit_salt=SALT)
    with pytest.raises(PostHogSettingsError, match="another PostHog"):
        look_again(lab, project_id=77)
    assert len(files(lab)) == 1


@pytest.mark.parametrize("given", [{"look_again_after": "soon"}, {"look_again_after": -1}, {"request": {}}])
def test_wrong_arguments_seal_nothing(lab: Lab, given: dict[str, Any]) -> None:
    options = {"request": {"accepted_at": "x"}, "sealed_path": f"file://{lab.folder}/sealed", **given}
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
