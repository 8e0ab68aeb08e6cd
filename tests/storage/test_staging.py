"""Files of an interval appear together, whatever is killed whenever."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.manifest import Interval
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from airflow_provider_posthog.storage.staging import Owner, Staging
from tests.storage.crashing import Crash, CrashingFs, FlatFs, memory

ONE = Interval("events", datetime(2026, 11, 1, tzinfo=timezone.utc), datetime(2026, 11, 2, tzinfo=timezone.utc))
TWO = Interval("events", datetime(2026, 11, 2, tzinfo=timezone.utc), datetime(2026, 11, 3, tzinfo=timezone.utc))
ME = Owner("me.0", "request", 1000.0)


def open_(fs: Any, root: str, owner: Owner = ME, interval: Interval = ONE, now: float = 2000.0) -> Staging:
    return Staging.open(fs, root, interval, owner, lambda: now)


def write(staging: Staging, *contents: bytes, partition: dict[str, str | None] | None = None) -> None:
    for content in contents:
        file = staging.new_file()
        file.write(content)
        file.finish()
        staging.record([staging.describe(file, ".txt", rows=len(content), partition=partition)], last=content.decode())


def seen(fs: Any, root: str, interval: Interval = ONE) -> list[bytes]:
    """What a reader that follows the manifest gets."""
    found = manifests.read(fs, root, interval)
    contents = [fs.cat_file(f"{root}/{file['path']}") for file in found["files"]] if found else []
    for content, file in zip(contents, found["files"] if found else [], strict=True):
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert len(content) == file["bytes"]
    return contents


def names(fs: Any, root: str) -> list[str]:
    return sorted(path.removeprefix(root) for path in fs.find(root))


@pytest.mark.parametrize("kind", [CrashingFs, FlatFs])
@pytest.mark.parametrize("half", [False, True])
def test_a_crash_at_any_point(kind: Any, half: bool) -> None:
    """Readers see all old or all new files; the next try ends well, and leaves nothing over."""
    for after in range(100):
        fs, root = memory()
        first = open_(fs, root)
        write(first, b"old one", b"old two")
        first.publish({})
        other = open_(fs, root, interval=TWO)
        write(other, b"others")
        other.publish({})
        crashing = kind(fs, after, half=half)
        new = [b"new one", b"new two", b"new three"]
        try:
            run(crashing, root, new)
            crashed = False
        except Crash:
            crashed = True
        assert seen(fs, root) in ([b"old one", b"old two"], new)
        assert seen(fs, root, TWO) == [b"others"]
        if crashed:
            run(kind(fs), root, new)
        assert seen(fs, root) == new
        assert len(names(fs, root)) == 3 + 1 + 2, names(fs, root)
        if not crashed:
            assert after > 10
            return
    raise AssertionError("it never ended")


def run(fs: Any, root: str, contents: list[bytes]) -> None:
    """What a task does: it goes on where the last try was."""
    staging = open_(fs, root, Owner("other.0", "request"))
    if not staging.publishing:
        write(staging, *contents[len(staging.files) :])
    assert staging.publish({"more": 1})["more"] == 1


@pytest.mark.parametrize("owner", [Owner("me.1", "request"), Owner("me.0", "else"), Owner("me.0", "request", 3000.0)])
@pytest.mark.parametrize("kind", [CrashingFs, FlatFs])
def test_others_leftovers_go(owner: Owner, kind: Any) -> None:
    """A task that was killed for good leaves files at any point; whoever writes the interval next removes them."""
    for after in range(100):
        fs, root = memory()
        crashing = kind(fs, after)
        try:
            staging = open_(crashing, root)
            write(staging, b"a", b"b")
            staging.publish({})
            crashed = False
        except Crash:
            crashed = True
        later = open_(kind(fs), root, owner)
        assert (list(later.files), dict(later.note)) == ([], {})
        write(later, b"mine")
        later.publish({})
        assert seen(fs, root) == [b"mine"]
        assert len(names(fs, root)) == 2
        if not crashed:
            return


@pytest.mark.parametrize("kind", [CrashingFs, FlatFs])
@pytest.mark.parametrize("half", [False, True])
def test_a_crash_at_any_point_where_too_few_rows_are_refused(kind: Any, half: bool) -> None:
    """The old files and their manifest stay, and the try that is not killed leaves nothing over."""
    for after in range(100):
        fs, root = memory()
        first = open_(fs, root)
        write(first, b"old one", b"old two")
        first.publish({})
        before = names(fs, root)
        try:
            refused(kind(fs, after, half=half), root)
            crashed = False
        except Crash:
            crashed = True
        assert seen(fs, root) == [b"old one", b"old two"]
        if crashed:
            refused(kind(fs), root)
        assert seen(fs, root) == [b"old one", b"old two"]
        assert names(fs, root) == before
        if not crashed:
            assert after > 3
            return
    raise AssertionError("it never ended")


def refused(fs: Any, root: str) -> None:
    """What a task does that PostHog shows nothing."""
    staging = open_(fs, root, Owner("other.0", "request"))
    write(staging, *[b""][len(staging.files) :])
    with pytest.raises(PostHogIncompleteError, match="14 rows are there, and PostHog shows 0"):
        staging.publish({}, ShrinkGuard())


def test_a_zombie_whose_rows_are_too_few_takes_nothing_from_its_heir() -> None:
    fs, root = memory()
    first = open_(fs, root)
    write(first, b"old")
    first.publish({})
    zombie = open_(fs, root, Owner("other.0", "request"))
    heir = open_(fs, root, Owner("other.0", "request"))
    write(heir, b"new")
    with pytest.raises(PostHogError, match="taken over"):
        zombie.publish({}, ShrinkGuard())
    heir.publish({}, ShrinkGuard())
    assert seen(fs, root) == [b"new"]


def test_what_is_recorded_is_taken_up() -> None:
    fs, root = memory()
    write(open_(fs, root), b"one", b"two")
    unrecorded = open_(fs, root)
    unrecorded.new_file().write(b"lost")
    again = open_(fs, root)
    assert [file["rows"] for file in again.files] == [3, 3]
    assert again.note == {"last": "two"}
    again.record(last=None)
    again.drop(lambda file: file["path"].endswith("00000.txt"))
    write(again, b"three")
    manifest = again.publish({"source": "x"})
    assert seen(fs, root) == [b"two", b"three"]
    assert (manifest["rows"], manifest["bytes"], manifest["source"]) == (8, 8, "x")
    assert manifest["interval"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"}


def test_a_zombie_changes_nothing() -> None:
    fs, root = memory()
    zombie = open_(fs, root)
    write(zombie, b"a")
    heir = open_(fs, root)
    with pytest.raises(PostHogError, match="taken over"):
        write(zombie, b"b")
    with pytest.raises(PostHogError, match="taken over"):
        zombie.publish({})
    write(heir, b"c")
    heir.publish({})
    with pytest.raises(PostHogError, match="taken over"):
        zombie.record()
    assert seen(fs, root) == [b"a", b"c"]


def test_a_file_that_is_gone() -> None:
    fs, root = memory()
    staging = open_(fs, root)
    write(staging, b"a")
    fs.rm_file(next(path for path in fs.find(root) if path.endswith(".part")))
    with pytest.raises(PostHogIncompleteError, match="is gone"):
        staging.publish({})


def test_a_file_that_is_cut_at_its_place() -> None:
    """Moved by a try that was killed while it published, and damaged since."""
    fs, root = memory()
    crashing = CrashingFs(fs)
    staging = open_(crashing, root)
    write(staging, b"whole")
    crashing._left = 2  # the note that it publishes is written and moved
    with pytest.raises(Crash):
        staging.publish({})
    (part,) = [path for path in fs.find(root) if path.endswith("00000." + path.split(".")[-2] + ".part")]
    (name,) = [file["path"] for file in staging.files]
    fs.mv(part, f"{root}/{name}")
    fs.pipe_file(f"{root}/{name}", b"who")
    with pytest.raises(PostHogIncompleteError, match="is gone"):
        open_(fs, root).publish({})


def test_what_stands_there_stays_when_another_task_takes_over() -> None:
    """A task is killed for good while it publishes; the next one has only begun."""
    for after in range(100):
        fs, root = memory()
        first = open_(fs, root)
        write(first, b"old")
        first.publish({})
        crashing = CrashingFs(fs, after)
        try:
            run(crashing, root, [b"new"])
            crashed = False
        except Crash:
            crashed = True
        open_(fs, root, Owner("a third", "request"))
        assert seen(fs, root) in ([b"old"], [b"new"])
        assert len([name for name in names(fs, root) if name.endswith(".txt")]) == 1
        if not crashed:
            return


def test_progress_that_can_not_be_read() -> None:
    fs, root = memory()
    write(open_(fs, root), b"a")
    (progress,) = [path for path in fs.find(root) if path.endswith("progress.json")]
    fs.pipe_file(progress, b"{")
    assert open_(fs, root).files == []


def test_a_storage_that_loses_bytes() -> None:
    fs, root = memory()
    file = open_(fs, root).new_file()
    file.write(b"four")
    file.close()
    fs.pipe_file(file.path, b"two")
    with pytest.raises(OSError, match="wrote 4 bytes"):
        file.finish()


def test_partitions_and_folders(tmp_path: Path) -> None:
    fs, root = LocalFileSystem(), str(tmp_path)
    staging = open_(fs, root)
    write(staging, b"a", partition={"date": "2026-11-01", "event": "a/b=c %"})
    write(staging, b"b", partition={"date": "2026-11-01", "event": None})
    manifest = staging.publish({})
    folders = {file["path"].rpartition("/")[0] for file in manifest["files"]}
    assert folders == {
        "date=2026-11-01/event=a%2Fb%3Dc %25",
        "date=2026-11-01/event=__HIVE_DEFAULT_PARTITION__",
    }
    assert seen(fs, root) == [b"a", b"b"]
    later = open_(fs, root, Owner("later", ""))
    write(later, b"c", partition={"date": "2026-11-02"})
    later.publish({})
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [".posthog", "_manifests", "date=2026-11-02"], "no empty folder of a partition is left"
    assert list((tmp_path / ".posthog").iterdir()) == []


def test_tasks_of_other_intervals_at_the_same_time(tmp_path: Path) -> None:
    """They make and remove the same folders of partitions."""
    fs, root = LocalFileSystem(), str(tmp_path)

    def many(number: int) -> None:
        interval = Interval("x", ONE.start + timedelta(days=number), ONE.end + timedelta(days=number))
        for turn in range(25):
            staging = open_(fs, root, Owner(f"{number} {turn}", ""), interval)
            write(staging, b"a", partition={"date": f"2026-11-0{turn % 2}"})
            staging.publish({})
            assert seen(fs, root, interval) == [b"a"]

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(many, range(3)))


class Contested(LocalFileSystem):
    """Another task removes a folder at the worst moments: after Python has found it, and after it was made."""

    cachable = False

    def __init__(self, folder: str, *errors: type[OSError] | None) -> None:
        super().__init__()
        self._contested = folder
        self._errors = list(errors)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not path.endswith(self._contested) or not self._errors:
            return super().makedirs(path, exist_ok=exist_ok)
        error = self._errors.pop(0)
        if error:  # as os.makedirs(exist_ok=True) does, if the folder goes between its two looks
            raise error(17 if error is FileExistsError else 2, "gone", path)


@pytest.mark.parametrize("times", [1, 10])
@pytest.mark.parametrize("error", [FileExistsError, FileNotFoundError, None])
def test_a_folder_that_others_remove_meanwhile(tmp_path: Path, error: Any, times: int) -> None:
    fs = Contested("/date=2026-11-01", *[error] * times)
    staging = open_(fs, str(tmp_path))
    write(staging, b"a", partition={"date": "2026-11-01"})
    staging.publish({})
    assert seen(fs, str(tmp_path)) == [b"a"]
    assert not fs._errors


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    fs = LocalFileSystem(skip_instance_cache=True)
    staging = open_(fs, str(tmp_path))
    write(staging, b"a", partition={"date": "2026-11-01"})
    (tmp_path / "date=2026-11-01").write_text("not ours")
    with pytest.raises(FileExistsError, match="date=2026-11-01"):
        staging.publish({})
    assert (tmp_path / "date=2026-11-01").read_text() == "not ours"
