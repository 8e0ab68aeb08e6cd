"""File systems with room for certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from tests.erasure.support import lab, tidied
from tests.operators.support import connected

__all__ = ["connected", "lab", "place", "tidied"]


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """A file system and a folder in it that is not there yet."""
    if request.param == "file":
        yield LocalFileSystem(), f"{tmp_path.as_posix()}/certificates"
    else:
        yield MemoryFileSystem(skip_instance_cache=True), "/bucket/certificates"
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
