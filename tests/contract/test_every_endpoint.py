"""The emulator of today has every endpoint of the table, each behind the scope that the table says."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client

TABLE = Path(__file__).parent / "endpoints.tsv"
ROWS = [row[:4] for row in csv.reader(TABLE.read_text(encoding="utf-8").splitlines()[1:], delimiter="\t")]


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 74


@pytest.mark.parametrize(("area", "method", "path", "scope"), ROWS, ids=[f"{row[1]} {row[2]}" for row in ROWS])
def test_a_key_without_the_scope_is_told_its_name(
    posthog: EmulatorProcess, area: str, method: str, path: str, scope: str
) -> None:
    caller = Client(posthog.url, posthog.create_key(["annotation:read"]))
    filled = re.sub(r"\{\w+\}", "1", path.replace("{project_id}", "1"))
    answer = caller(method, filled, json={} if method in ("POST", "PATCH") else None)
    needed = scope.split(" ")[0]
    assert (answer.status_code, answer.json()["detail"]) == (403, f"API key missing required scope '{needed}'")
