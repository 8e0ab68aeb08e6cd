"""Files that appear under their name only when they are whole, and names that stay in their folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_posthog.storage.atomic_file import AtomicFile, safe_name


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """A file system and an empty folder in it."""
    if request.param == "file":
        yield LocalFileSystem(), tmp_path.as_posix()
    else:
        fs = MemoryFileSystem(skip_instance_cache=True)
        yield fs, "/bucket"
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]


def files(fs: Any, folder: str) -> dict[str, bytes]:
    return {PurePosixPath(path).name: fs.cat_file(path) for path in fs.find(folder)}


def land(fs: Any, path: str, *chunks: bytes, **options: Any) -> AtomicFile:
    with AtomicFile(fs, path, **{"token": "t", **options}) as atomic:
        for chunk in chunks:
            atomic.write(chunk)
        atomic.finish()
        atomic.commit()
    return atomic


def test_lands(place: tuple[Any, str]) -> None:
    fs, folder = place
    atomic = land(fs, f"{folder}/deep/er/a.csv", b"one,", b"two")
    assert files(fs, folder) == {"a.csv": b"one,two"}
    assert (atomic.size, atomic.sha256) == (7, hashlib.sha256(b"one,two").hexdigest())


def test_nothing_under_the_name_before_the_end(place: tuple[Any, str]) -> None:
    fs, folder = place
    with AtomicFile(fs, f"{folder}/a.csv", token="tok") as atomic:
        atomic.write(b"one")
        atomic.finish()
        assert files(fs, folder) == {".a.csv.tok.part": b"one"}
        atomic.commit()
        assert files(fs, folder) == {"a.csv": b"one"}
    assert files(fs, folder) == {"a.csv": b"one"}


@pytest.mark.parametrize("when", ["at once", "open", "finished"])
def test_a_failure_leaves_what_was_there(place: tuple[Any, str], when: str) -> None:
    fs, folder = place
    land(fs, f"{folder}/a.csv", b"old")
    with suppress(KeyboardInterrupt), AtomicFile(fs, f"{folder}/a.csv", token="t") as atomic:
        if when != "at once":
            atomic.write(b"new")
        if when == "finished":
            atomic.finish()
        raise KeyboardInterrupt
    assert files(fs, folder) == {"a.csv": b"old"}


def test_replaces(place: tuple[Any, str]) -> None:
    fs, folder = place
    land(fs, f"{folder}/a.csv", b"old and longer")
    land(fs, f"{folder}/a.csv", b"new")
    assert files(fs, folder) == {"a.csv": b"new"}


def test_takes_over_the_part_file_of_a_crash(place: tuple[Any, str]) -> None:
    fs, folder = place
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(f"{folder}/.a.csv.t.part", b"left over and longer")
    land(fs, f"{folder}/a.csv", b"new")
    assert files(fs, folder) == {"a.csv": b"new"}


def test_starts_again(place: tuple[Any, str]) -> None:
    fs, folder = place
    watched: list[bytes] = []
    with AtomicFile(fs, f"{folder}/a", token="t", watch=watched.append, reset=watched.clear) as atomic:
        atomic.write(b"wrong and long")
        atomic.restart()
        atomic.write(b"right")
        atomic.finish()
        atomic.commit()
    assert files(fs, folder) == {"a": b"right"}
    assert watched == [b"right"]
    assert atomic.size == 5


def test_gzip_is_the_same_every_time(place: tuple[Any, str]) -> None:
    fs, folder = place
    one = land(fs, f"{folder}/a.gz", b"x" * 9999, b"y", compression="gzip")
    two = land(fs, f"{folder}/other name.gz", b"x" * 9999, b"y", token="u", compression="gzip")
    assert one.sha256 == two.sha256
    stored = files(fs, folder)["a.gz"]
    assert gzip.decompress(stored) == b"x" * 9999 + b"y"
    assert (one.size, one.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())


@pytest.mark.parametrize("size", [1, 256 * 1024 - 1, 256 * 1024, 1024 * 1024])
def test_checksums_of_large_blocks(tmp_path: Path, size: int) -> None:
    """They are reckoned in a thread, in order, and nothing of that stays."""
    before = set(threading.enumerate())
    blocks = [bytes([number]) * (size if number % 3 else 7) for number in range(9)]
    atomic = land(LocalFileSystem(), f"{tmp_path}/a", *blocks)
    assert atomic.sha256 == hashlib.sha256(b"".join(blocks)).hexdigest()
    assert set(threading.enumerate()) == before


def test_a_buffer_that_is_used_again(tmp_path: Path) -> None:
    buffer = bytearray(b"a" * 1024 * 1024)
    with AtomicFile(LocalFileSystem(), f"{tmp_path}/a", token="t") as atomic:
        for letter in (b"b", b"c"):
            atomic.write(memoryview(buffer))  # type: ignore[arg-type]
            buffer[:] = letter * len(buffer)
        atomic.finish()
        atomic.commit()
    assert atomic.sha256 == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


@pytest.mark.parametrize("room", [0, 4, 10])
def test_a_full_disk_leaves_no_file_open(tmp_path: Path, room: int) -> None:
    """gzip writes a header at once, and what it still holds at the end."""
    opened = []

    class Full(LocalFileSystem):
        def open(self, path: str, mode: str) -> Any:  # type: ignore[override]
            opened.append(FullFile(path, mode))
            return opened[-1]

    class FullFile(FileIO):
        def write(self, chunk: Any) -> int:
            if self.tell() >= room:
                raise OSError(28, "No space left on device")
            return super().write(chunk)

    with pytest.raises(OSError, match="No space"):
        land(Full(), f"{tmp_path}/a.gz", b"x" * 1000, compression="gzip")
    assert opened[0].closed
    assert list(tmp_path.iterdir()) == []


def test_the_same_there(place: tuple[Any, str]) -> None:
    fs, folder = place
    land(fs, f"{folder}/a.csv", b"one")
    for data, same in ((b"one", True), (b"two", False), (b"more", False), (b"", False)):
        with AtomicFile(fs, f"{folder}/a.csv", token="t") as atomic:
            atomic.write(data)
            atomic.finish()
            assert atomic.same_as_there() is same


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_system_that_has_another_number_of_bytes(tmp_path: Path, more: int) -> None:
    class Wrong(LocalFileSystem):
        def size(self, path: str) -> int:
            return int(super().size(path)) + more

    with pytest.raises(OSError, match="wrote 3 bytes"):
        land(Wrong(), f"{tmp_path}/a.csv", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_clean_up_that_fails_does_not_hide_the_failure(tmp_path: Path) -> None:
    class Stubborn(LocalFileSystem):
        def rm_file(self, path: str) -> None:
            raise PermissionError(path)

    with pytest.raises(KeyboardInterrupt), AtomicFile(Stubborn(), f"{tmp_path}/a.csv", token="t"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["data[1].csv", "what*.csv", "who?.csv", "a b.csv", "ä🦔.csv", "x" * 255])
def test_any_name(place: tuple[Any, str], name: str) -> None:
    """Names are no patterns, and the part file's name is not longer than file systems allow."""
    fs, folder = place
    land(fs, f"{folder}/{name}", b"one")
    assert files(fs, folder) == {name: b"one"}


def test_an_older_fsspec_does_not_copy_to_the_final_name_either(tmp_path: Path) -> None:
    class Older(LocalFileSystem):
        """Before 2024 its `mv` was everybody's."""

        mv = AbstractFileSystem.mv

        def mv_file(self, path1: str, path2: str, **options: Any) -> None:
            os.rename(path1, path2)

        def copy(self, *paths: Any, **options: Any) -> None:
            raise AssertionError("a copy can be read when half of it is there")

    for content in (b"one", b"two"):
        land(Older(), f"{tmp_path}/a.csv", content)
        assert files(Older(), str(tmp_path)) == {"a.csv": content}


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    """Moving a file onto a folder would put it inside, under the part file's name."""
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(IsADirectoryError, match="end the path with /"):
        land(LocalFileSystem(), f"{tmp_path}/a.csv", b"one")
    assert os.listdir(tmp_path / "a.csv") == []


def test_an_object_beside_a_prefix_of_its_name() -> None:
    """In a flat store ``a`` and ``a/b`` live side by side."""
    fs = MemoryFileSystem(skip_instance_cache=True)
    land(fs, "/flat/a/b", b"one")
    land(fs, "/flat/a", b"two")
    assert (fs.cat_file("/flat/a"), fs.cat_file("/flat/a/b")) == (b"two", b"one")
    MemoryFileSystem.store.clear()


def test_the_part_file_is_beside_the_file_also_at_the_root() -> None:
    for path, part in (("/a.csv", "/.a.csv.t.part"), ("a.csv", ".a.csv.t.part"), ("b/a.csv", "b/.a.csv.t.part")):
        assert AtomicFile(LocalFileSystem(), path, token="t").part == part


# ---- names from a server

ANY = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(["..", ".", "/", "\\", "a", " ", "\0", "🦔", "é", "-", "_", "csv", "%2e"]), max_size=40
    ).map("".join),
    st.tuples(st.text(min_size=60, max_size=300), st.sampled_from([".csv", ".xlsx", "." + "é" * 30])).map("".join),
)


@given(ANY)
@example("../../etc/passwd")
@example("a/b")
@example("..")
@example("")
@example("x" * 300)
@example("🦔" * 300 + ".csv")
@example("ß" * 300 + ".csv")
@example("中" * 300)
@example("a" * 199 + " " * 9 + "b")
def test_a_safe_name(text: str) -> None:
    name = safe_name(text, "export-1")
    assert PurePosixPath(f"/folder/{name}").parent == PurePosixPath("/folder")
    assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"
    assert 0 < len(name.encode()) <= 200
    assert name == name.strip(" .")
    assert not set(name) & set('/\\\0\n\r:*?"<>|[]{}#%')
    assert safe_name(name, "export-1") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("export-2026-11-22.csv", "export-2026-11-22.csv"),
        ("../../etc/passwd", "passwd"),
        ("a/b", "b"),
        ("C:\\temp\\x.csv", "x.csv"),
        ("..", "export-1"),
        ("", "export-1"),
        ("/", "export-1"),
        ("🦔", "export-1"),
        (None, "export-1"),
        (7, "export-1"),
        (".hidden.csv", "hidden.csv"),
        ("über die Maßen.csv", "über die Maßen.csv"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
        ("ß" * 300 + ".csv", "ß" * 98 + ".csv"),
    ],
)
def test_names(text: object, name: str) -> None:
    assert safe_name(text, "export-1") == name
