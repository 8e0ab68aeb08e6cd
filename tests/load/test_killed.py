"""A load that is killed with -9 leaves what was there, and the next one is whole."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.load.databases import Database, DuckDB, events, merging, replacing

pytestmark = pytest.mark.reliability

#: Loads for ever, and says at each point how far it is.
_CHILD = """
import pickle, sys
from tests.load.databases import SCHEMA, events

database, target = pickle.load(sys.stdin.buffer)
with database.loader(target) as loader:
    loader.open(SCHEMA)
    print("open", flush=True)
    for number in range(3):
        loader.write(events(2_000, first=10_000 + 2_000 * number))
        print("write", flush=True)
    finish = loader._finish
    def stop():
        loaded = finish()
        print("finish", flush=True)
        sys.stdin.buffer.read()
        sys.exit("was not killed")
    loader._finish = stop
    loader.commit()
"""


@pytest.fixture
def file(tmp_path: Path) -> DuckDB:
    """A file of DuckDB that the child can open."""
    return DuckDB(tmp_path / "warehouse.duckdb")


@pytest.mark.parametrize(
    ("name", "write", "points", "last"),
    [
        ("postgres", replacing, 5, "finish"),
        ("postgres", merging, 2, "write"),
        ("file", replacing, 2, "write"),
        ("file", merging, 5, "finish"),
        ("sqlite", replacing, 5, "finish"),
    ],
)
def test_a_killed_load_changes_nothing(
    name: str, write: Any, points: int, last: str, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(name)
    database.load(write(), events(100))
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(pickle.dumps((database, write())))
        child.stdin.flush()
        said = [child.stdout.readline().decode().strip() for _ in range(points)]
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert said[-1] == last
    assert database.uuids() == events(100).column("uuid").to_pylist()
    loaded = database.load(write(), events(60))
    assert loaded.rows == 60
    assert database.count() == (60 if write is replacing else 100)
