"""Defects, put in one by one: each turns a test red. One that stays green shows that a test is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.defects.switches import DEFECTS

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).parents[2]
#: pytest's exit code where a test failed; 0 is all green, and anything else is no run at all.
RED = 1


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.defects.switches"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, tuple[int, str]] = json.loads(done.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_turns_something_red(found: dict[str, tuple[int, str]], name: str) -> None:
    code, said = found[name]
    assert code == RED, f"pytest ended with {code}: no test has noticed\n{said}"
    assert " failed" in said, said
