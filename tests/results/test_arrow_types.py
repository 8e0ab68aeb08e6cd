from __future__ import annotations

import json
import struct
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.results.arrow_types import TIMESTAMP, batch_of, schema_of, type_of
from airflow_provider_posthog.results.clickhouse_values import moment_of

UTC = timezone.utc
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
#: Offsets that time zones have or have had.
OFFSETS = st.sampled_from([0, 60, -300, 330, 345, -210, 840, -720])


def column(kind: str, values: list[Any]) -> list[Any]:
    schema = schema_of(["x"], [["x", kind]])
    rows = [[value] for value in values]
    batch = batch_of(rows, schema)
    assert batch.schema == schema
    batch.validate(full=True)
    pandas = sys.modules.pop("pandas", None)
    try:  # where it is loaded, texts go another way
        other = batch_of(rows, schema)
    finally:
        if pandas is not None:
            sys.modules["pandas"] = pandas
    other.validate(full=True)
    assert str(other.to_pylist()) == str(batch.to_pylist())
    found: list[Any] = batch.column(0).to_pylist()
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("UUID", pa.string()),
        ("LowCardinality(Nullable(String))", pa.string()),
        ("FixedString(3)", pa.string()),
        ("Enum8('full' = 0, 'propertyless' = 1)", pa.string()),
        ("Nullable(DateTime64(6, 'America/New_York'))", TIMESTAMP),
        ("DateTime", TIMESTAMP),
        ("DateTime('UTC')", TIMESTAMP),
        ("Nullable(Date)", pa.date32()),
        ("UInt8", pa.uint8()),
        ("Nullable(UInt64)", pa.uint64()),
        ("Int64", pa.int64()),
        ("Bool", pa.bool_()),
        ("Float64", pa.float64()),
        ("Nullable(Decimal(18, 4))", pa.decimal128(18, 4)),
        ("Decimal(76, 10)", pa.decimal256(76, 10)),
        ("Array(Nullable(Int64))", pa.string()),
        ("Map(String, Int64)", pa.string()),
        ("Tuple(a Int64, b String)", pa.string()),
        ("Int256", pa.string()),
        ("Nullable(Nothing)", pa.string()),
        ("SomethingNew(7)", pa.string()),
    ],
)
def test_types(kind: str, expected: pa.DataType) -> None:
    assert type_of(kind) == expected
    assert column(kind, [None, None]) == [None, None]
    assert column(kind, []) == []


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.tuples(st.datetimes(datetime(1925, 1, 2), datetime(2262, 1, 1)), OFFSETS),
        )
    )
)
def test_times_keep_their_microseconds_whatever_their_offset(moments: list[tuple[datetime, int] | None]) -> None:
    aware = [m and m[0].replace(tzinfo=timezone(timedelta(minutes=m[1]))) for m in moments]
    read = column("Nullable(DateTime64(6, 'Asia/Kathmandu'))", [each and each.isoformat() for each in aware])
    assert read == aware
    assert all(each is None or each.utcoffset() == timedelta(0) for each in read)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T05:00:00", datetime(2026, 11, 21, 5, tzinfo=UTC)),  # a DateTime is UTC without saying so
        ("2026-11-21 05:00:00.5", datetime(2026, 11, 21, 5, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-21T05:00:00.123456000Z", datetime(2026, 11, 21, 5, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-11-21T05:00:00.7-05:30", datetime(2026, 11, 21, 10, 30, 0, 700_000, tzinfo=UTC)),
        ("1890-01-01T00:00:00-04:56:02", datetime(1890, 1, 1, 4, 56, 2, tzinfo=UTC)),
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("2299-12-31T23:59:59.999999Z", datetime(2299, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_spellings_of_time(text: str, expected: datetime) -> None:
    assert column("DateTime64(6)", [text]) == [expected]
    assert column("DateTime64(6)", ["2026-01-01T00:00:00Z", text, "2026-01-01T00:00:00"])[1] == expected
    assert moment_of(text) == expected


@given(st.lists(st.one_of(st.none(), TEXTS)))
def test_text_is_kept(values: list[str | None]) -> None:
    assert column("Nullable(String)", values) == values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "\ud800b"], ["a", "?b"]),  # half of a surrogate pair, which JSON can hold
        (["a", {"b": [1, None, "ü"]}, 3], ["a", '{"b":[1,null,"ü"]}', "3"]),
    ],
)
def test_what_is_no_text_becomes_one(values: list[Any], expected: list[str]) -> None:
    assert column("String", values) == expected


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(), TEXTS)))))
def test_arrays_become_json(values: list[Any]) -> None:
    read = column("Array(String)", values)
    assert [None if each is None else json.loads(each) for each in read] == values


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**64 - 1))))
def test_no_integer_goes_through_a_float(values: list[int | None]) -> None:
    assert column("Nullable(UInt64)", values) == values
    assert column("UInt64", [None if each is None else str(each) for each in values]) == values


def test_other_values() -> None:
    assert column("Nullable(Decimal(10, 2))", ["1.5", 2, None, "-0.25"]) == [
        Decimal("1.50"),
        Decimal(2),
        None,
        Decimal("-0.25"),
    ]
    assert column("Float64", [1, 2.5, None, 2**60, "inf"]) == [1.0, 2.5, None, float(2**60), float("inf")]
    assert column("Bool", [1, 0, True, None]) == [True, False, True, None]
    assert column("Date", ["2026-11-21", None, "1969-12-31"]) == [date(2026, 11, 21), None, date(1969, 12, 31)]
    assert column("UInt256", [2**200]) == [str(2**200)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Int64", "x"),
        ("Int64", [1]),
        ("UInt8", 256),
        ("UInt8", -1),
        ("DateTime", "yesterday"),
        ("DateTime", 5),
        ("Date", 5),
        ("Bool", 2),
        ("Decimal(3, 1)", "x"),
        ("Int64", 1.5),
        ("Int64", 2.999),
        ("Int64", 1.0),
        ("Nullable(Int64)", 1e15 + 0.5),
        ("Int64", " 1_000 "),
        ("Int64", "1_000"),
        ("Int64", "+1"),
        ("Int64", "1.0"),
        ("UInt64", 2**64),
        ("Int64", -(2**63) - 1),
        ("UInt8", "256"),
        ("Float64", "1_0.5"),
        ("Float64", " 1"),
        ("Float64", "Infinity"),
        ("Float64", 2**53 + 1),
        ("Float64", 10**400),
        ("Float32", 1e300),
        ("Float64", [1]),
        ("Bool", "yes"),
        ("Bool", [True]),
        ("Bool", 0.5),
        ("Decimal(10, 2)", "1.555"),
        ("Decimal(10, 2)", "1_0"),
        ("Decimal(10, 2)", "NaN"),
        ("Decimal(10, 2)", True),
        ("Decimal(3, 2)", "100"),
        ("Decimal(38, 10)", 12345678901234567.1234),
        ("DateTime64(9)", "2026-11-21T05:00:00.123456789Z"),
        ("DateTime64(6)", "0000-01-01T00:00:00"),
        ("DateTime64(6)", "0001-01-01T00:00:00+05:00"),
        ("DateTime64(6)", "9999-12-31T23:00:00-05:00"),
        ("DateTime64(6)", "2026-02-30T00:00:00Z"),
        ("Date", "2026-11-21T05:00:00"),
        ("Date", "2026-02-30"),
        ("Date", "20261121"),
        ("Date32", "0000-01-01"),
        ("LowCardinality(Nullable(Int32))", 2**31),
        ("Date", ["2026-11-21"]),
    ],
)
def test_what_does_not_fit_is_refused_without_showing_it(kind: str, value: object) -> None:
    with pytest.raises(PostHogTransportError, match="column 'x'") as raised:
        column(kind, [value])
    assert "yesterday" not in str(raised.value)


@pytest.mark.parametrize("rows", [[["a", 1], ["b"]], [["a"]], [["a", 1, 2]], [5], [[]]])
def test_rows_of_other_lengths_are_refused(rows: list[Any]) -> None:
    schema = schema_of(["a", "b"], [["a", "String"], ["b", "Int64"]])
    with pytest.raises(PostHogTransportError, match="other lengths than its 2 columns"):
        batch_of(rows, schema)


@pytest.mark.parametrize("rows", [["ab"], [{"a": 1, "b": 2}], [None], [["a", 1], "ab"], [5.5]])
def test_rows_that_are_no_lists_are_refused(rows: list[Any]) -> None:
    schema = schema_of(["a", "b"], [["a", "String"], ["b", "String"]])
    with pytest.raises(PostHogTransportError, match="other lengths than its 2 columns"):
        batch_of(rows, schema)


@pytest.mark.parametrize(
    ("columns", "types"),
    [
        (["a"], [5]),
        (["a"], ["ab"]),
        (["a"], [None]),
        (["a"], [["a"]]),
        (["a"], [["a", None]]),
        (["a"], [["a", ["String"]]]),
        (["a"], [{"name": "a", "type": "String"}]),
        (["a"], "ab"),
        (["a"], None),
        (["a"], 7),
        ([5], [["a", "String"]]),
        ([["a"]], [["a", "String"]]),
        ([{}], [["a", "String"]]),
        (None, []),
        ("a", [["a", "String"]]),
        (["a"], [["a", "Decimal(999, 5)"]]),
        (["a"], [["a", "Decimal(0, 0)"]]),
        (["a"], [["a", "Nullable(Decimal(5, 9))"]]),
        (["a"], [["a", f"Decimal({'9' * 5000}, 2)"]]),
    ],
)
def test_columns_and_types_of_another_shape_are_refused(columns: Any, types: Any) -> None:
    with pytest.raises(PostHogTransportError):
        schema_of(columns, types)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "1.5", "-0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.integers() | st.floats() | st.decimals(allow_nan=False).map(str) | st.integers().map(str) | st.text()
WHOLE = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
KINDS = [*WHOLE, "Bool", "Float32", "Float64", "Decimal(10, 2)", "Decimal(60, 20)", "Date", "DateTime64(9)", "UUID"]


@given(kind=st.sampled_from([*WHOLE, "Float64", "Decimal(10, 2)", "Decimal(60, 20)"]), values=st.lists(NUMBERS))
def test_a_number_comes_back_equal_or_is_refused(kind: str, values: list[Any]) -> None:
    for each in (*([value] for value in values), values):
        try:
            found = column(kind, each)
        except PostHogTransportError:
            continue
        for sent, got in zip(each, found, strict=True):
            same = Decimal(str(sent)) == Decimal(str(got)) or (kind == "Float64" and float(sent) == got)
            assert same or str(sent).strip("+-") == "nan"


@given(kind=st.sampled_from(KINDS), rows=st.lists(st.lists(JSON, max_size=2) | JSON, max_size=3))
def test_an_answer_of_any_shape_is_rows_or_an_error_of_ours(kind: str, rows: list[Any]) -> None:
    schema = schema_of(["a"], [["a", kind]])
    try:
        found = batch_of(rows, schema)
    except PostHogTransportError:
        return
    assert found.num_rows == len(rows)
    found.to_pylist()


@given(columns=JSON, types=JSON)
def test_columns_of_any_shape_are_a_schema_or_an_error_of_ours(columns: Any, types: Any) -> None:
    try:
        schema = schema_of(columns, types)
    except PostHogTransportError:
        return
    assert schema.names == list(columns)


@given(st.floats(width=32) | st.floats())
def test_a_short_float_is_the_nearest_there_is_or_refused(value: float) -> None:
    try:
        (found,) = column("Float32", [value])
    except PostHogTransportError:
        assert abs(value) > 3.4e38
        return
    assert str(found) == str(struct.unpack("<f", struct.pack("<f", value))[0])


def test_schemas_that_can_not_be() -> None:
    with pytest.raises(PostHogTransportError, match="2 columns and 1 types"):
        schema_of(["a", "b"], [["a", "String"]])
    with pytest.raises(PostHogTransportError, match="one name"):
        schema_of(["a", "a"], [["a", "String"], ["a", "String"]])


def test_events_are_converted_without_pandas() -> None:
    """It would be 50 MB and most of a second for each task."""
    script = """
import sys
from airflow_provider_posthog.results.arrow_types import batch_of, schema_of
kinds = ["UUID", "Nullable(String)", "DateTime64(6, 'UTC')"]
schema = schema_of(["a", "b", "c"], [[kind, kind] for kind in kinds])
batch = batch_of([["a", None, "2026-01-01T00:00:00.000001-05:00"], ["ä", "x", "2026-01-01T00:00:00Z"]], schema)
assert batch.num_rows == 2
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
