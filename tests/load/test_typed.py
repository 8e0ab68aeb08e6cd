"""Texts read as values of an SQL type: equal, or counted as a misfit."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.load.typed import kind_of, read

BAD = object()


def values(sql_type: str, *texts: str | None, raw: bool = False) -> list[Any]:
    kind = kind_of(sql_type)
    assert kind is not None
    found, misfits = read(pa.chunked_array([pa.array(texts, pa.string())]), kind, raw=raw)
    return [BAD if bad else value for value, bad in zip(found.to_pylist(), misfits.to_pylist(), strict=True)]


@pytest.mark.parametrize(
    ("sql_type", "text", "value"),
    [
        ("decimal(12,2)", "12.5", Decimal("12.50")),
        ("decimal(12,2)", "1e3", Decimal("1000.00")),
        ("decimal(12,2)", "-0.010", Decimal("-0.01")),
        ("decimal(12,2)", "12,50", BAD),
        ("decimal(12,2)", "12.505", BAD),
        ("decimal(12,2)", "9999999999.99", Decimal("9999999999.99")),
        ("decimal(12,2)", "10000000000", BAD),
        ("decimal(12,2)", "", BAD),
        ("decimal(12,2)", "NaN", BAD),
        ("decimal(38,2)", "123456789012345678901234567890.125", BAD),
        ("decimal(38,2)", "123456789012345678901234567890.1200", Decimal("123456789012345678901234567890.12")),
        ("numeric(3,3)", "0.125", Decimal("0.125")),
        ("numeric(3,3)", "1", BAD),
        ("integer", "2147483647", 2**31 - 1),
        ("integer", "2147483648", BAD),
        ("integer", "12.0", 12),
        ("integer", "12.5", BAD),
        ("smallint", "-32769", BAD),
        ("bigint", "9223372036854775807", 2**63 - 1),
        ("bigint", "9223372036854775808", BAD),
        ("bigint", "1_000", BAD),
        ("bigint", " 1", BAD),
        ("bigint", "\u0661", BAD),
        ("double precision", "1.5e300", 1.5e300),
        ("double", "inf", BAD),
        ("double", "1e999", BAD),
        ("real", "1e-999", BAD),
        ("double", "0e0", 0.0),
        ("utinyint", "256", BAD),
        ("uinteger", "-1", BAD),
        ("int unsigned", "4294967295", 2**32 - 1),
        ("int unsigned", "4294967296", BAD),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("boolean", "1", True),
        ("boolean", "yes", BAD),
        ("boolean", "2", BAD),
        ("date", "2026-02-28", date(2026, 2, 28)),
        ("date", "2026-02-30", BAD),
        ("date", "2026-02-28T01:00:00Z", BAD),
        ("timestamp", "2026-02-28T01:00:00+01:00", datetime(2026, 2, 28, tzinfo=timezone.utc)),
        ("timestamptz", "2026-02-28 01:00", datetime(2026, 2, 28, 1, tzinfo=timezone.utc)),
        ("timestamp", "2026-02-28T01:00:00.1234567Z", BAD),
        ("timestamp", "1772236800", BAD),
        ("uuid", "018F1234-0000-0000-0000-000000000000", "018f1234-0000-0000-0000-000000000000"),
        ("uuid", "jane", BAD),
        ("uuid", "018f1234000000000000000000000000", "018f1234-0000-0000-0000-000000000000"),
        ("uuid", "{018f1234-0000-0000-0000-000000000000}", "018f1234-0000-0000-0000-000000000000"),
        ("uuid", "+18f1234-0000-0000-0000-000000000000", BAD),
        ("uuid", "0x8f1234-0000-0000-0000-000000000000", BAD),
        ("uuid", "0_8f1234-0000-0000-0000-000000000000", BAD),
        ("uuid", "{18f1234-0000-0000-0000-000000000000", BAD),
        ("uuid", "----018f1234000000000000000000000000", BAD),
        ("jsonb", "[NaN]", BAD),
        ("json", "-Infinity", BAD),
        ("jsonb", "[" * 100_000, BAD),
        ("jsonb", '{"a": 1}', '{"a": 1}'),
        ("jsonb", "{a", BAD),
        ("varchar(3)", "abc", "abc"),
        ("varchar(3)", "abcd", BAD),
        ("text", "anything", "anything"),
    ],
)
def test_a_text_is_read_as_its_type_or_does_not_fit(sql_type: str, text: str, value: Any) -> None:
    assert values(sql_type, None, text, text) == [None, value, value]


@pytest.mark.parametrize(
    ("sql_type", "text", "value"),
    [
        ("decimal(12,2)", '"12.50"', Decimal("12.50")),
        ("decimal(12,2)", '"12,50"', BAD),
        ("decimal(12,2)", "12.5", Decimal("12.50")),
        ("decimal(12,2)", "null", None),
        ("decimal(12,2)", "", None),
        ("decimal(12,2)", '""', BAD),
        ("boolean", "true", True),
        ("text", '"a\\"b"', 'a"b'),
        ("text", r'"\ud83d!"', "\ufffd!"),
        ("varchar(1)", r'"\ud83d\ude00"', "\U0001f600"),
        ("text", "7", "7"),
        ("jsonb", '"a"', '"a"'),
        ("jsonb", "[1, 2]", "[1, 2]"),
    ],
)
def test_json_is_read_by_what_it_holds(sql_type: str, text: str, value: Any) -> None:
    assert values(sql_type, text, raw=True) == [value]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9))
def test_a_decimal_comes_back_equal(number: Decimal) -> None:
    assert values("decimal(12,2)", str(number)) == [number]


@given(st.integers(-(2**70), 2**70))
def test_an_integer_comes_back_equal_or_not_at_all(number: int) -> None:
    assert values("bigint", str(number)) == [number if -(2**63) <= number < 2**63 else BAD]


def test_a_type_that_is_not_known_has_no_kind() -> None:
    assert kind_of("money") is None
    assert kind_of("geography(point)") is None


@pytest.mark.parametrize("size", ["39,0", "1000,2", "5,7", "0,0", "12,-2", "12 , 2", ""])
def test_a_decimal_that_no_number_can_be_read_as_has_no_kind(size: str) -> None:
    assert kind_of(f"decimal({size})") is None
