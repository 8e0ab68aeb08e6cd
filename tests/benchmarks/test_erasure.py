"""The benchmark of erasures, on a few persons."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import erasure, erasure_cost


def test_killed_three_times_everybody_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "")  # set by the benchmark; put back after the test
    found = erasure.erase(1500, tmp_path)
    assert (found.twice, found.proved) == (0, 1500)
    assert found.killed > 0
    assert found.calls["verify"] <= 28 * 2 + 12, "14 calls for each 1,000 persons in each of the two looks"
    assert found.calls["resolve"] <= 9 * 2 + 3
    assert set(found.costs) == set(found.calls) == set(erasure.TASKS)


def test_a_look_along_the_key_reads_less_than_before_and_finds_the_same() -> None:
    looks = erasure_cost.measured(20_000, (1, 20))
    for persons in (1, 20):
        now, before = looks[persons, "along the key"], looks[persons, "before"]
        assert now.found == before.found == looks[persons, "whole history"].found == persons * erasure_cost.EVENTS_EACH
        assert now.read < before.read
