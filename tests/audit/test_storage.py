"""Object storage: write-once buckets, listings that a cache holds, and Airflow's own paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_posthog.audit.verify import verify_folder
from airflow_provider_posthog.compat import ObjectStoragePath
from tests.audit.support import PSEUDONYMS, fill, stored, trail_in


def test_nothing_is_ever_changed_or_removed() -> None:
    class WriteOnce(MemoryFileSystem):
        def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
            assert not self.exists(path)
            super().pipe_file(path, value, **options)

        def _refuse(self, *args: Any, **options: Any) -> Any:
            raise PermissionError("write once")

        rm = rm_file = _rm = mv = cp_file = copy = _refuse

    fs = WriteOnce(skip_instance_cache=True)
    fs.store.clear()
    for _ in range(2):
        trail = fill(trail_in(fs, "/once"))
    assert len(stored(fs, trail)) == 5
    assert verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS).proves_erasure
    fs.store.clear()


def test_s3(s3: tuple[Any, Any]) -> None:
    import s3fs

    fs, client = s3
    other = s3fs.S3FileSystem(**{**fs.storage_options, "skip_instance_cache": True})
    one, two = trail_in(fs, "lake/certificates"), trail_in(other, "lake/certificates")
    one.append("note", notes=["first"])
    assert len(list(two.records())) == 1, "this listing is in a cache now"
    fill(one, close=False)
    assert len(list(two.records())) == 5
    two.append("note", notes=["by another task"])
    one.close("VERIFIED", states={"VERIFIED": 2})
    assert two.is_closed
    keys = [found["Key"] for found in client.list_objects_v2(Bucket="lake")["Contents"]]
    assert sorted(keys) == [f"certificates/DSR-42/{name}" for name in stored(fs, one)]
    verdict = verify_folder("lake/certificates/DSR-42", other, pseudonyms=PSEUDONYMS)
    assert verdict.proves_erasure
    assert len(verdict.story.records) == 7


@pytest.mark.parametrize("slash", ["", "/"])
def test_airflows_own_paths(tmp_path: Path, slash: str) -> None:
    path = ObjectStoragePath(f"file://{tmp_path}/certificates{slash}")
    trail = fill(trail_in(path.fs, path.path))
    assert (tmp_path / "certificates" / "DSR-42").is_dir()
    assert verify_folder(trail.folder, path.fs, pseudonyms=PSEUDONYMS).proves_erasure
