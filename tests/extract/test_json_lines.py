"""Arrow tables as JSON lines."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.extract import json_lines
from airflow_provider_posthog.extract.json_lines import lines_of

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\\"\n\r\t\x00\x1f\x7f\x85\u2028\u2029'))
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(timezone.utc))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
KINDS: dict[str, tuple[Any, Any]] = {
    "text": (pa.string(), texts),
    "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "big": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float64(), st.floats()),
    "yes": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.dates(date(1, 1, 1))),
    "time": (pa.timestamp("us", "UTC"), moments),
    "exact": (pa.decimal128(20, 3), st.integers(-(10**15), 10**15).map(lambda n: Decimal(n) / 1000)),
    'odd "name"\n': (pa.string(), texts),
}


@settings(max_examples=60)
@given(st.lists(st.fixed_dictionaries({name: st.none() | kind for name, (_, kind) in KINDS.items()}), max_size=5))
def test_every_value_is_read_back(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, kind) for name, (kind, _) in KINDS.items()]))
    found = lines(table, [])
    assert [list(row) for row in found] == [list(KINDS)] * len(rows)
    for row, wanted in zip(found, rows, strict=True):
        for name, value in wanted.items():
            assert same(row[name], value), (name, row[name], value)


def same(read: Any, value: Any) -> bool:
    if isinstance(value, float):
        return read is None if not math.isfinite(value) else bool(float(read) == value)
    if isinstance(value, datetime):
        # Python before 3.11 reads no Z
        return bool(datetime.fromisoformat(read.replace("Z", "+00:00")) == value)
    if isinstance(value, date):
        return bool(date.fromisoformat(read) == value)
    if isinstance(value, Decimal):
        return abs(Decimal(str(read)) - value) < Decimal("0.0005") or abs(float(read) - float(value)) < 1e-3
    return bool(read == value and type(read) is type(value))


def lines(table: Any, nested: list[str]) -> list[dict[str, Any]]:
    text = bytes(lines_of(table, nested)).decode()
    assert text == "" or text.endswith("\n")
    found = text.splitlines()  # splits at more signs than \n
    assert len(found) == table.num_rows
    return [json.loads(line) for line in found]


@settings(max_examples=60)
@given(
    st.lists(st.dictionaries(texts, json_values, max_size=4) | st.lists(json_values, max_size=3), min_size=1),
    st.booleans(),
)
def test_json_text_becomes_json(values: list[Any], indented: bool) -> None:
    written = [json.dumps(value, ensure_ascii=False, indent=1 if indented else None) for value in values]
    table = pa.table({"uuid": ["x"] * len(values), "properties": written})
    assert [row["properties"] for row in lines(table, ["properties"])] == values
    assert [row["properties"] for row in lines(table, [])] == written


def test_what_is_no_json_stays_text() -> None:
    values = ["", " ", None, "x", '"a"', "12", "{", '{"a": 1', "\n{}\n", "[1,\r\n2]", "[sic]", "{x}"]
    table = pa.table({"p": pa.array(values, pa.string())})
    found = [row["p"] for row in lines(table, ["p"])]
    assert found == [None, None, None, "x", '"a"', "12", "{", '{"a": 1', {}, [1, 2], "[sic]", "{x}"]


#: Texts that look like JSON, or go on as if they were the line that they are in.
forged = st.sampled_from(
    [
        '{"a":1},"distinct_id":"FORGED","x":{"y":1}', "{bad}", '{"a":1} {"b":2}', '{"a":"\t"}', '{"a":"x\ny"}', "[1]]",
        '{"a":1}}\n{"distinct_id":"FORGED"}', "{'a':1}", '{"a":NaN}', '{"a":1,}', "[1,2", '{"a":"\ud800"}'.encode(
            "ascii", "backslashreplace").decode(),
    ]
)  # fmt: skip


@pytest.mark.parametrize("name", ["properties", "other"])
@settings(max_examples=150)
@given(st.lists(texts | forged | st.builds("".join, st.lists(forged | texts | st.sampled_from("{}[]"), max_size=4))))
def test_any_text_in_a_json_column_is_read_back_and_forges_nothing(name: str, values: list[str]) -> None:
    """Also in a column that is called ``properties``, of which anybody may be the author."""
    table = pa.table({name: pa.array(values, pa.string()), "distinct_id": ["true"] * len(values)})
    for row, value in zip(lines(table, [name]), values, strict=True):
        assert list(row) == [name, "distinct_id"]
        assert row["distinct_id"] == "true"
        if isinstance(row[name], (dict, list)):
            assert row[name] == json.loads(value)
        else:
            assert row[name] == value or (row[name] is None and not value.strip())


def test_what_posthog_has_written_itself_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines.orjson, "loads", None)  # it would fail
    table = pa.table({"properties": ['{"a": 1}']})
    assert bytes(lines_of(table, ["properties"], ["properties"])) == b'{"properties":{"a": 1}}\n'


def test_slices_and_chunks() -> None:
    table = pa.concat_tables([pa.table({"a": ["0", "1", "2"]}), pa.table({"a": ["3", "4"]})]).slice(1, 3)
    assert [row["a"] for row in lines(table, [])] == ["1", "2", "3"]
    assert bytes(lines_of(table.slice(0, 0), [])) == b""
    assert bytes(lines_of(pa.table({"t": pa.array([], pa.timestamp("us", "UTC"))}), [])) == b""


def test_times() -> None:
    zone = timezone(timedelta(hours=5))
    table = pa.table(
        {"t": pa.array([datetime(2026, 11, 1, 5, 0, 0, 7, tzinfo=zone)], pa.timestamp("us", "Asia/Tashkent"))}
    )
    assert bytes(lines_of(table, [])) == b'{"t":"2026-11-01T00:00:00.000007Z"}\n'
