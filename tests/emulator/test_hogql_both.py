"""Statements of every kind that HogQL and plain ClickHouse both have: the emulator's answers are ClickHouse's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_posthog.emulator.data.warehouse import Warehouse

_LINES = (Path(__file__).parent / "data" / "both.sql").read_text(encoding="utf-8").splitlines()
_TABLE = re.compile(r"\b(FROM|JOIN) t\b")
STATEMENTS = [line for line in _LINES if not line.startswith("--")]


@pytest.fixture(scope="module")
def house() -> Iterator[Warehouse]:
    made = Warehouse(seed=1, events=0)
    columns = {"a": "Int64", "b": "String", "c": "Array(Int64)", "d": "Date", "e": "Nullable(String)"}
    words = ("xx", "y", "zz", "x", "yy", "z")
    rows = [
        {"a": n, "b": word, "c": list(range(n % 3)), "d": f"2026-01-0{n}", "e": None if n % 2 else "e"}
        for n, word in enumerate(words, 1)
    ]
    made.own.add_table("t", columns, rows)
    yield made
    made.close()


@pytest.mark.parametrize("sql", STATEMENTS)
def test_the_answer_is_clickhouses(house: Warehouse, sql: str) -> None:
    theirs = _TABLE.sub(r"\1 {db}.t", sql)
    plain = house.execute(f"SELECT toJSONString(tuple(*)) AS line FROM ({theirs})")
    expected = [json.loads(each["line"]) for each in plain]
    answer = house.query(sql).rows
    assert _written(answer) == _written(expected)
    assert answer


def _written(rows: list[object]) -> list[str]:
    """Write rows in an order of their own, whatever their form: big numbers may be texts, and times have two forms."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return [plain(each) for each in value.values()]
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        if isinstance(value, (bool, int, float)) or str(value).lstrip("-").isdigit():
            return float(str(int(value)) if isinstance(value, bool) else str(value))
        return str(value)[:10]

    return sorted(json.dumps(plain(row)) for row in rows)
