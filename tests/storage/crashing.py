"""A file system in memory whose process dies at a chosen change."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fsspec.implementations.memory import MemoryFileSystem


class Crash(BaseException):
    """The process is gone."""


class CrashingFs:
    """Passes everything on, and dies before the change with the chosen number; what is done stays.

    :param fs: the file system.
    :param after: how many changes there are before.
    :param half: die in the middle of a file instead, whose beginning is then there.
    """

    protocol = "crashing"

    def __init__(self, fs: Any, after: int | None = None, *, half: bool = False) -> None:
        self._fs = fs
        self._left = after
        self._half = half

    def _change(self) -> None:
        if self._left is None:
            return
        if self._left <= 0:
            raise Crash
        self._left -= 1

    def open(self, path: str, mode: str) -> Any:
        if mode == "wb":
            try:
                self._change()
            except Crash:
                if self._half:
                    self._fs.pipe_file(path, b"half")
                raise
        return self._fs.open(path, mode)

    def mv(self, path1: str, path2: str) -> None:
        self._change()
        self._fs.mv(path1, path2)

    def rm_file(self, path: str) -> None:
        self._change()
        self._fs.rm_file(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)


class FlatFs(CrashingFs):
    """The same, without folders: a file is moved by copying it."""

    protocol = "memory"

    def cp_file(self, path1: str, path2: str) -> None:
        self._change()
        self._fs.cp_file(path1, path2)


def memory() -> tuple[MemoryFileSystem, str]:
    """Return a file system in memory, and a folder in it that nobody else has."""
    return MemoryFileSystem(skip_instance_cache=True), f"/lake-{uuid4().hex}"
