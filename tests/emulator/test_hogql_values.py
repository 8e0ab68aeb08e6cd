"""Whatever is sent as a value comes back as it was, and takes part in a query as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.data.warehouse import HogQLError, Warehouse

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
ONCE = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(alphabet=st.characters(codec="utf-8"))


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(seed=11, events=1500, start=START, days=5)
    yield house
    house.close()


@ONCE
@given(text=TEXT)
@example(text="it's \\ \" {y} 💥")
@example(text="\0\a\b\f\n\r\t\v\\0\\'")
@example(text="%(hogql_val_0)s")
@example(text="\u2028\u2029\x85\x1c")
@example(text="\ufeff")
def test_text(warehouse: Warehouse, text: str) -> None:
    result = warehouse.query("select {x} as x, length({x}) as n, {x} = {x} as same", {"x": text})
    assert result.rows == [[text, len(text.encode()), 1]]


@ONCE
@given(text=TEXT)
def test_text_in_the_query(warehouse: Warehouse, text: str) -> None:
    # a NUL cannot be written in HogQL: its parser lets it fall
    text = text.replace("\0", "")
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert warehouse.query(f"select {quoted} as x").rows == [[text]]


@ONCE
@given(texts=st.lists(TEXT, max_size=5), number=st.integers(-(2**63), 2**64 - 1), flag=st.booleans())
def test_lists_and_numbers(warehouse: Warehouse, texts: list[str], number: int, flag: bool) -> None:
    values = {"l": texts, "n": number, "b": flag, "z": None}
    result = warehouse.query("select {l} as l, {n} as n, {b} as b, {z} as z, {n} in [{n}] as i", values)
    assert result.rows == [[texts, number, int(flag), None, 1]]


@ONCE
@given(number=st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_floats(warehouse: Warehouse, number: float) -> None:
    found = warehouse.query("select {x} as x", {"x": number}).rows[0][0]
    assert isinstance(found, float)
    assert found == number


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_floats_that_json_lacks(warehouse: Warehouse, number: float) -> None:
    assert warehouse.query("select {x} as x", {"x": number}).rows == [[None]]


@ONCE
@given(
    moment=st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)),
    hours=st.integers(-12, 13),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
@example(moment=datetime(2026, 11, 1, 1, 30), hours=-4, zone="America/New_York")  # the hour that comes twice
@example(moment=datetime(2026, 11, 1, 1, 30), hours=-5, zone="America/New_York")
def test_times(warehouse: Warehouse, moment: datetime, hours: int, zone: str) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    warehouse.timezone = zone
    result = warehouse.query("select toDateTime({t}) as t, toDateTime({t}) = toDateTime({u}) as same",
        {"t": aware.isoformat(), "u": aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")},
    )  # fmt: skip
    warehouse.timezone = "UTC"
    assert datetime.fromisoformat(str(result.rows[0][0]).replace("Z", "+00:00")) == aware
    assert result.rows[0][1] == 1


@pytest.mark.parametrize("value", [{"a": 1}, object(), "\ud800", [["\ud800"]], b"bytes"])
def test_values_that_json_can_not_carry(warehouse: Warehouse, value: object) -> None:
    with pytest.raises(HogQLError):
        warehouse.query("select {x} as x", {"x": value})


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(40, 700),
    column=st.sampled_from(["timestamp", "created_at"]),
    zone=st.sampled_from(["UTC", "Asia/Tokyo"]),
)
def test_keyset_pages_hold_every_event_once(warehouse: Warehouse, size: int, column: str, zone: str) -> None:
    warehouse.timezone = zone
    last, key, seen = "1970-01-01T00:00:00Z", "", []
    while True:
        page = warehouse.query(
            f"select {column}, toString(uuid) from events "
            f"where ({column}, toString(uuid)) > (toDateTime({{t}}), {{u}}) "
            f"order by {column}, toString(uuid) limit {size}",
            {"t": last, "u": key},
        ).rows
        seen += [str(row[1]) for row in page]
        if len(page) < size:
            break
        last, key = str(page[-1][0]), str(page[-1][1])
    warehouse.timezone = "UTC"
    assert len(seen) == len(set(seen)) == 1500


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.integers(-86_400, 6 * 86_400),
    length=st.integers(0, 6 * 86_400),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"]),
    column=st.sampled_from(["timestamp", "created_at"]),
)
def test_windows_count_what_is_there(warehouse: Warehouse, first: int, length: int, zone: str, column: str) -> None:
    start = START + timedelta(seconds=first)
    end = start + timedelta(seconds=length)
    warehouse.timezone = zone
    query = f"select count() from events where {column} >= toDateTime({{a}}) and {column} < toDateTime({{b}})"
    counted = warehouse.query(query, {"a": start.isoformat(), "b": end.isoformat()}).rows[0][0]
    warehouse.timezone = "UTC"
    assert counted == warehouse.count_events(start, end, column)
