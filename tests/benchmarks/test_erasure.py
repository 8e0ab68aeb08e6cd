"""The benchmark of erasures, on a few persons."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import erasure


def test_killed_three_times_everybody_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "")  # set by the benchmark; put back after the test
    found = erasure.erase(2500, tmp_path)
    assert (found.twice, found.proved) == (0, 2500)
    assert found.killed > 0
    assert set(found.costs) == set(found.calls) == set(erasure.TASKS)
