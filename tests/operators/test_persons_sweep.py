"""Work files are for their owner only, and none is left: not of killed tries, not of runs that were given up."""

from __future__ import annotations

import os
import stat
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import pytest

from airflow_provider_posthog.erasure.access_folder import AccessFolder
from airflow_provider_posthog.erasure.progress import Progress
from airflow_provider_posthog.erasure.sweep import sweep
from airflow_provider_posthog.erasure.work_file import Header, Person, WorkFile, WorkFileWriter, is_part_of
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.operators.erasure import PostHogDiscardErasureOperator
from airflow_provider_posthog.operators.persons import PostHogSweepErasureFilesOperator
from tests.erasure.support import Lab, lab, tidied

__all__ = ["lab", "tidied"]

HEADER = Header("0123456789abcdef", "2026-01-01T00:00:00+00:00", "B", "a" * 32, "https://posthog.example", "1")
LOCAL = fsspec.filesystem("file")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def written(path: Path, *, whole: bool = True) -> WorkFile:
    writer = WorkFileWriter(LOCAL, str(path), HEADER)
    writer.__enter__()
    writer.add([Person("u", ("ann",))])
    if whole:
        writer.commit()
        writer.__exit__(None, None, None)
    else:
        writer._atomic._close()  # as a kill leaves it
    return WorkFile(LOCAL, str(path))


def test_a_work_file_is_its_owners_from_its_first_byte_on(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        written(tmp_path / "new" / "work.jsonl", whole=False)
        (part,) = (tmp_path / "new").iterdir()
        assert mode_of(part) == 0o600
        os.chmod(part, 0o644)  # of an older release
        written(tmp_path / "new" / "work.jsonl")
    finally:
        os.umask(old)
    assert mode_of(tmp_path / "new" / "work.jsonl") == 0o600


def test_the_end_of_an_erasure_removes_what_killed_tries_have_left(lab: Lab) -> None:
    found = lab.resolve()
    left = [lab.folder / ".work.jsonl.0123456789ab.part", lab.folder / ".work.jsonl.ffffffffffff.part"]
    others = [
        lab.folder / name for name in (".work.jsonl.x.0123456789ab.part", ".other.jsonl.0123456789ab.part", "mine")
    ]
    for path in (*left, *others):
        path.write_text(lab.name)
    PostHogDiscardErasureOperator(task_id="d", request=found).execute({})
    assert not any(path.exists() for path in [*left, lab.folder / "work.jsonl"])
    assert all(path.exists() for path in others), "those of other files"


def test_old_files_are_swept(tmp_path: Path) -> None:
    work, part = written(tmp_path / "a.jsonl"), tmp_path / ".b.jsonl.0123456789ab.part"
    part.write_text("ann")
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / "folder").mkdir()
    task = PostHogSweepErasureFilesOperator(task_id="s", folder=f"file://{tmp_path}")
    assert task.execute({}) == {"parts": 0, "work_files": 0, "kept": 2, "needed": 0, "unknown": 0}
    long_ago = time.time() - 50 * 86_400
    for path in (Path(work.path), part, tmp_path / "notes.txt"):
        os.utime(path, (long_ago, long_ago))
    assert task.execute({}) == {"parts": 1, "work_files": 1, "kept": 0, "needed": 0, "unknown": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.txt"]


def test_a_file_that_is_needed_for_a_proof_stays_and_is_named(lab: Lab) -> None:
    lab.delete()
    later = datetime.now(timezone.utc) + timedelta(days=400)
    swept = sweep(LOCAL, str(lab.folder), timedelta(days=45), later)
    assert (swept.counts["needed"], swept.needed) == (1, [str(lab.folder / "work.jsonl")])
    assert (lab.folder / "work.jsonl").exists()


def test_notes_of_the_progress_are_their_owners_and_go_with_the_work_file(lab: Lab) -> None:
    old = os.umask(0)
    try:
        lab.posthog.settings(generation="B")
        lab.posthog.fail_deletions([lab.person])  # whoever failed is named there
        with pytest.raises(PostHogErasureError):
            lab.delete()
    finally:
        os.umask(old)
    work = WorkFile(LOCAL, str(lab.folder / "work.jsonl"))
    notes = [path for path in (lab.folder / "work.jsonl.progress").rglob("*") if path.is_file()]
    assert any(lab.person in path.read_text() for path in notes)
    assert {mode_of(path) for path in notes} == {0o600}
    (notes[0].parent / ".00000000-0.done.json.progress.part").write_text(lab.person)  # of a try that was killed
    Progress(LOCAL, f"{work.path}.progress", work.header().request_id).verified = {"state": "VERIFIED"}
    later = datetime.now(timezone.utc) + timedelta(days=400)
    assert sweep(LOCAL, str(lab.folder), timedelta(days=45), later).counts["work_files"] == 1
    assert not [path for path in lab.folder.rglob("*") if path.is_file() and lab.person in path.read_text()]


@pytest.mark.parametrize("given", [{"folder": "file:///nowhere/at/all"}, {"folder": ""}, {"max_age": 0}])
def test_wrong_arguments_of_a_sweep(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError):
        PostHogSweepErasureFilesOperator(task_id="s", **{"folder": f"file://{tmp_path}", **given}).execute({})


def test_part_files_of_long_names_are_known() -> None:
    name = "x" * 230 + ".jsonl"
    part = WorkFileWriter(LOCAL, f"/tmp/{name}", HEADER)._atomic.part
    assert is_part_of(part, name)
    assert not is_part_of(part, "y" + name)


@pytest.mark.parametrize("fs", [LOCAL, fsspec.filesystem("memory")])
def test_what_is_left_of_an_export_of_a_persons_data_is_swept(fs: Any, tmp_path: Path) -> None:
    begun = [AccessFolder(fs, f"{tmp_path}/{name}") for name in ("ann", "ben")]
    for folder in begun:
        folder.begin("request", {"until": "2026-01-01T00:00:00+00:00"})
        folder.lines("profiles", [{"email": "ann@example.org"}])
    begun[1].finish({})
    begun[1].publish()
    now = datetime.now(timezone.utc)
    assert sweep(fs, str(tmp_path), timedelta(days=45), now).counts["kept"] == 1
    swept = sweep(fs, str(tmp_path), timedelta(days=45), now + timedelta(days=2))
    assert (swept.counts["parts"], swept.counts["kept"]) == (1, 0)
    assert not fs.exists(begun[0].work)
    assert fs.exists(f"{begun[1].path}/profiles.jsonl"), "a complete one stays"
