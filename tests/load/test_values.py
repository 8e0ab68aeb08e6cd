"""Every value arrives as it was."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load.copy_binary import HEADER, TRAILER, encode
from tests.load.databases import START, Database, DuckDB, Postgres, SQLite, appending, events, merging, replacing

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("large", pa.large_string()),
        ("word", pa.dictionary(pa.int32(), pa.string())),
        ("small", pa.int16()),
        ("integer", pa.int64()),
        ("unsigned", pa.uint64()),
        ("decimal", pa.decimal128(38, 9)),
        ("float", pa.float64()),
        ("boolean", pa.bool_()),
        ("date", pa.date32()),
        ("time", pa.timestamp("us", "UTC")),
        ("naive", pa.timestamp("ms")),
        ("empty", pa.null()),
    ]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "",
        "\\N",
        "\\.",
        "NULL",
        '"',
        "'",
        "a,b\r\n\t",
        "\0",
        "a\0b\0",
        "💥" * 3,
        "{}",
        '{"a": "\\u0000"}',
        "%s",
        "x" * 9000,
    ]
)
# ClickHouse's own range.
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=timezone.utc)
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "large": TEXT,
    "word": st.sampled_from(["", "click", "$pageview\0"]),
    "small": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "unsigned": st.integers(0, 2**63 - 1),
    "decimal": st.decimals(min_value=-(10**28), max_value=10**28, places=9, allow_nan=False, allow_infinity=False),
    "float": st.floats(),
    "boolean": st.booleans(),
    "date": st.dates(date(1900, 1, 1), date(2299, 12, 31)),
    "time": TIMES,
    "naive": st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31)).map(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    ),
    "empty": st.none(),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=8)
#: Many rows of few examples: each example asks the database several times.
COMMON = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    numbered = [{"id": at, **row} for at, row in enumerate(rows)]
    return pa.table([pa.array([row[field.name] for row in numbered], field.type) for field in SCHEMA], SCHEMA)


def loaded(database: Database, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Load rows in place of the last example's; return what the database holds of them."""
    database.run("DROP TABLE IF EXISTS everything")
    table = table_of(rows)
    # A slice in front: buffers of slices do not begin at their start.
    database.load(merging("everything", ("id",)), table.slice(0, 1), table.slice(1))
    names = SCHEMA.names
    found = database.rows(f"SELECT {', '.join(names)} FROM everything ORDER BY id")
    return [dict(zip(names[1:], row[1:], strict=True)) for row in found]


def same(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or (type(one) is type(other) and one == other)


def differences(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    assert len(found) == len(expected)
    return [
        (name, row[name], other[name])
        for row, other in zip(found, expected, strict=True)
        for name in row
        if not same(row[name], other[name])
    ]


@COMMON
@given(rows=ROWS)
@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_postgres_holds_every_value(postgres: Postgres, driver: str, rows: list[dict[str, Any]]) -> None:
    def as_there(name: str, value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("\0", "\ufffd")
        return value

    expected = [{name: as_there(name, value) for name, value in row.items()} for row in rows]
    found = loaded(postgres.through(driver), rows)
    for row in found:
        row["time"] = row["time"] and row["time"].astimezone(timezone.utc)
    assert differences(found, expected) == []


@COMMON
@given(rows=ROWS)
def test_duckdb_holds_every_value(duck: DuckDB, rows: list[dict[str, Any]]) -> None:
    found = loaded(duck, rows)
    assert differences(found, rows) == []


@COMMON
@given(rows=ROWS)
def test_sqlite_holds_every_value(sqlite: SQLite, rows: list[dict[str, Any]]) -> None:
    def as_there(name: str, value: Any) -> Any:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None  # SQLite has no NaN
        if name in ("time", "naive"):
            return f"{value.replace(tzinfo=None).isoformat(' ', 'microseconds')}+00:00"
        if name == "decimal":
            return value
        return {"date": str, "boolean": int}.get(name, lambda same: same)(value)

    expected = [{name: as_there(name, value) for name, value in row.items()} for row in rows]
    found = loaded(sqlite, rows)
    for row in found:
        row["decimal"] = row["decimal"] and Decimal(row["decimal"])
    assert differences(found, expected) == []


@given(rows=ROWS)
@settings(max_examples=25)
def test_pieces_of_a_copy_make_up_the_same_bytes(rows: list[dict[str, Any]]) -> None:
    whole = b"".join(encode(table_of(rows)))
    assert whole.startswith(HEADER)
    assert whole.endswith(TRAILER)
    parts = [b"".join(encode(table_of(rows).slice(at, 1)))[len(HEADER) : -len(TRAILER)] for at in range(len(rows))]
    assert whole == HEADER + b"".join(parts) + TRAILER


def test_a_big_table_is_encoded_in_pieces_of_bounded_size() -> None:
    table = pa.table({"text": ["x" * 1_000_000] * 60})
    sizes = [len(piece) for piece in encode(table)]
    assert len(sizes) > 4
    assert max(sizes) < 20_000_000
    assert sum(sizes) == 60 * (2 + 4 + 1_000_000) + len(HEADER) + len(TRAILER)


def test_a_character_0_is_found_in_any_piece_and_slice() -> None:
    texts = pa.array(["x" * 1_000_000] * 9 + ["a\0b"] + ["y"] * 5)
    data = b"".join(encode(pa.table({"text": texts})))
    assert "a\ufffdb".encode() in data
    assert b"".join(encode(pa.table({"text": texts.slice(9, 1)}))) in HEADER + b"\0\1\0\0\0\5a\xef\xbf\xbdb" + TRAILER
    assert b"".join(encode(pa.table({"text": texts.slice(10)}))).count(b"\0\1\0\0\0\1y") == 5


def test_loading_does_not_import_pandas(postgres: Postgres) -> None:
    """It would take half a second and 50 MB. Arrow imports it whenever it looks at values of Python."""
    code = """
import pickle, sys
from array import array
import pyarrow as pa
from tests.load.databases import SCHEMA, merging, replacing
database = pickle.load(sys.stdin.buffer)
number = pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(array("q", [1793491200000000]))])
text = number.cast(pa.string())
columns = [text, text, number.cast(pa.timestamp("us", "UTC")), pa.nulls(1, pa.string())]
table = pa.Table.from_arrays(columns, schema=SCHEMA)
for write in (replacing, merging):
    database.load(write(write.__name__), table)
sys.exit("pandas was imported" if "pandas" in sys.modules else 0)
"""
    run = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(postgres), capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    assert postgres.count("replacing") == postgres.count("merging") == 1


def test_text_of_many_megabytes(database: Database) -> None:
    long = events(2).set_column(3, "properties", pa.array(["é" * 3_000_000, "x"]))
    database.load(appending(), long)
    assert sorted(len(row[0]) for row in database.rows("SELECT properties FROM events")) == [1, 3_000_000]


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("place", [0, 59])
def test_a_time_that_postgres_does_not_keep_is_refused_without_showing_it(
    postgres: Postgres, driver: str, place: int
) -> None:
    """Also behind rows that were sent already."""
    database = postgres.through(driver)
    long = events(60).set_column(3, "properties", pa.array(["x" * 100_000] * 60))
    until = [-(2**63) if number == place else 0 for number in range(60)]
    beyond = long.append_column("until", pa.array(until, pa.int64()).cast(pa.timestamp("us", "UTC")))
    for _ in range(2):
        with pytest.raises(PostHogLoadError, match="cannot store some value"):
            database.load(replacing(), beyond)
    assert postgres.count() == 0


def test_times_go_into_columns_of_other_kinds(known: Database) -> None:
    """A user's own table may keep times without a zone: they are UTC there, whatever the session's zone is."""
    known.run("CREATE TABLE events (uuid varchar(40), event varchar(20), created_at timestamp, properties text)")
    known.load(replacing(), events(2))
    known.load(replacing(), events(2))
    found = known.rows("SELECT created_at FROM events ORDER BY created_at")
    first = found[0][0]
    moment = datetime.fromisoformat(first) if isinstance(first, str) else first
    assert moment.replace(tzinfo=timezone.utc) == START
    assert len(found) == 2
