"""What is refused without a database, and names and types as they are read."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.load.columns import Existing, added_columns, fits, sql_family
from airflow_provider_posthog.load.duckdb import DIALECT as DUCKDB
from airflow_provider_posthog.load.errors import translate_errors
from airflow_provider_posthog.load.generic import MYSQL, SQLITE
from airflow_provider_posthog.load.names import parse_table, quote
from airflow_provider_posthog.load.postgres import DIALECT
from airflow_provider_posthog.load.target import Target
from tests.load.databases import END, SCHEMA, START, replacing


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"write_disposition": "truncate"}, "write_disposition"),
        ({"by": None}, "by"),
        ({"start": None}, "start"),
        ({"end": END.replace(tzinfo=None)}, "end"),
        ({"start": END, "end": END}, "end"),
        ({"write_disposition": "merge"}, "key"),
        ({"write_disposition": "append"}, "key"),
        ({"column_types": {"a": "text, b text"}}, "column_types"),
        ({"column_types": {"a": "text -- x"}}, "column_types"),
        ({"column_types": {"a": ""}}, "column_types"),
    ],
)
def test_targets_that_do_not_go_together(options: dict[str, Any], field: str) -> None:
    given = {"table": "events", "by": "created_at", "start": START, "end": END}
    with pytest.raises(PostHogSettingsError) as refused:
        Target(**{**given, **options})
    assert refused.value.field == field


@pytest.mark.parametrize("sql_type", ["jsonb", "varchar(40)", "numeric(10, 2)", "timestamp(6) with time zone", "int4"])
def test_types_that_are_types(sql_type: str) -> None:
    assert replacing(column_types={"a": sql_type}).column_types == {"a": sql_type}


def test_an_interval_is_kept_in_utc() -> None:
    start = datetime.fromisoformat("2026-11-01T00:00:00+05:30")
    assert replacing(start=start).interval[0] == start
    assert replacing(start=start).interval[0].tzinfo is timezone.utc


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=3))
def test_a_quoted_name_is_read_back(parts: list[str]) -> None:
    text = ".".join(quote(part) for part in parts)
    assert parse_table(text, parts=3, fold=str.lower) == tuple(parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("Events", ("events",)), ('a."B c"', ("a", "B c")), ("a$1.ключ", ("a$1", "ключ")), ('"a""b".C', ('a"b', "c"))],
)
def test_names_without_quotes_are_folded(text: str, parts: tuple[str, ...]) -> None:
    assert parse_table(text, parts=2, fold=str.lower) == parts


@pytest.mark.parametrize(
    ("sql_type", "family"),
    [
        ("character varying(20)", "text"), ("nvarchar(255)", "text"), ("longtext", "text"), ("VARCHAR", "text"),
        ("jsonb", "text"), ("ENUM('a', 'b')", "text"), ("bigint unsigned", "integer"), ("tinyint(1)", "boolean"),
        ("UBIGINT", "integer"), ("HUGEINT", "integer"), ("int4", "integer"), ("double precision", "float"),
        ("DECIMAL(38,9)", "decimal"), ("timestamp(3) with time zone", "time"), ("TIMESTAMP WITH TIME ZONE", "time"),
        ("datetime(6)", "time"), ("TIMESTAMP_NS", "time"), ("time without time zone", "clock"), ("interval", "clock"),
        ("text[]", "nested"), ("VARCHAR[3]", "nested"), ("STRUCT(a INTEGER)", "nested"), ("point", None), ("", None),
        ("name", "cut"), ('"char"', "cut"), ("float(7,4)", "float"), ("double unsigned", "float"),
    ],
)  # fmt: skip
def test_types_of_databases_are_known(sql_type: str, family: str | None) -> None:
    assert sql_family(sql_type) == family


@pytest.mark.parametrize(
    ("unit", "sql_type", "dialect", "whole"),
    [
        ("us", "datetime", MYSQL.dialect, False),
        ("us", "datetime(3)", MYSQL.dialect, False),
        ("us", "timestamp(6)", MYSQL.dialect, True),
        ("s", "datetime", MYSQL.dialect, True),
        ("us", "timestamp without time zone", DIALECT, True),
        ("us", "timestamp(5) with time zone", DIALECT, False),
        ("us", "TIMESTAMP_S", DUCKDB, False),
        ("us", "TIMESTAMP_MS", DUCKDB, False),
        ("ms", "TIMESTAMP_MS", DUCKDB, True),
        ("us", "TIMESTAMP_NS", DUCKDB, True),
        ("us", "DATETIME", SQLITE.dialect, True),
    ],
)
def test_times_that_would_be_rounded_do_not_fit(unit: str, sql_type: str, dialect: Any, whole: bool) -> None:
    """23:59:59.9 would be in the next day."""
    assert fits(pa.field("at", pa.timestamp(unit, "UTC")), sql_type, dialect) is whole


@pytest.mark.parametrize(
    ("kind", "sql_type", "dialect", "whole"),
    [
        (pa.int32(), "double precision", DIALECT, True),
        (pa.uint32(), "DOUBLE", DUCKDB, True),
        (pa.int64(), "double precision", DIALECT, False),
        (pa.int16(), "real", DIALECT, False),
        (pa.int16(), "real", SQLITE.dialect, True),
        (pa.float32(), "real", DIALECT, True),
        (pa.float64(), "real", DIALECT, False),
        (pa.float64(), "FLOAT", DUCKDB, False),
        (pa.float64(), "float", MYSQL.dialect, False),
        (pa.float64(), "REAL", SQLITE.dialect, True),
        (pa.float64(), "numeric(12,2)", DIALECT, True),
        (pa.decimal128(12, 2), "numeric", DIALECT, True),
        (pa.decimal128(12, 2), "DECIMAL(30,2)", DUCKDB, True),
        (pa.decimal128(12, 2), "decimal(30,1)", MYSQL.dialect, False),
    ],
)
def test_numbers_that_would_be_rounded_do_not_fit(kind: Any, sql_type: str, dialect: Any, whole: bool) -> None:
    assert fits(pa.field("n", kind), sql_type, dialect) is whole


@pytest.mark.parametrize("dialect", [DIALECT, DUCKDB, SQLITE.dialect, MYSQL.dialect])
def test_a_table_fits_the_schema_that_it_was_made_from(dialect: Any) -> None:
    kinds = [
        pa.string(), pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.bool_(), pa.date32(),
        pa.timestamp("us", "UTC"), pa.timestamp("s"), pa.decimal128(20, 4), pa.large_string(), pa.binary(),
    ]  # fmt: skip
    schema = pa.schema([(f"c{at}", kind) for at, kind in enumerate(kinds)])
    made = [
        Existing(field.name.upper() if dialect.fold("A") == "a" else field.name, dialect.type_of(field))
        for field in schema
    ]
    assert added_columns(schema, made, dialect) == []
    assert added_columns(schema, made[:-2], dialect) == [schema.field(11), schema.field(12)]


@pytest.mark.parametrize(
    "message", ["value 'jane d'oe' is bad", 'no "jane"', "bad `jane`", "first\njane", "jane@example.com"]
)
def test_what_a_driver_quotes_is_not_told(message: str) -> None:
    with pytest.raises(PostHogLoadError) as told_error, translate_errors(object(), "trying"):
        raise RuntimeError(message)
    assert "jane" not in str(told_error.value)
    assert "doing nothing" not in str(told_error.value)
    copied = pickle.loads(pickle.dumps(told_error.value))
    assert str(copied) == str(told_error.value)


def test_errors_of_our_own_pass() -> None:
    with pytest.raises(PostHogSettingsError, match="a: b c"), translate_errors(object(), "trying"):
        raise PostHogSettingsError("a", "b", "c")


def test_columns_that_are_missing_are_added_in_their_order() -> None:
    there = [Existing("uuid", "text"), Existing("created_at", "timestamp with time zone")]
    assert [field.name for field in added_columns(SCHEMA, there, DIALECT)] == ["event", "properties"]
