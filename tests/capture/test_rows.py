"""Rows of files: whatever a file holds, a row becomes an event, or is rejected; none is lost, and none changed."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.capture.events import Recipe
from airflow_provider_posthog.capture.rows import rows_of_files, text_rows
from airflow_provider_posthog.capture.values import RefusedError
from airflow_provider_posthog.exceptions import PostHogSettingsError

AT = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
RECIPE = Recipe(event="order", distinct_id="user", timestamp="at", key=["id"])
HEAD = "id,user,at,amount\n"
TIME = "2026-11-01T12:00:00Z"


def read(*paths: Path, format: str = "csv") -> list[Any]:
    """Return the properties of each event, or why there is none."""
    made: list[Any] = []
    with rows_of_files(fsspec.filesystem("file"), [str(path) for path in paths], format, RECIPE, AT) as (reader, rows):
        for row in rows:
            try:
                made.append(json.loads(reader.read(row, AT).body)["properties"])
            except RefusedError as refused:
                made.append(refused.reason)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes, name: str = "rows.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("7", 7), ("-7", -7), ("1.50", 1.5), ("0.5", 0.5), ("true", True), ("False", False), ("", None)),
        *(("007", "007"), ("00", "00"), ("+49", "+49"), ("1e5", "1e5"), ("NaN", "NaN"), ("inf", "inf"), ("1,5", "1,5")),
        ("123456789012345", 123456789012345),
        ("1234567890123456789", "1234567890123456789"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        *(("2026-11-01", "2026-11-01"), ("2026-11-01 10:00:00", "2026-11-01 10:00:00"), (" x ", " x ")),
        *(
            ('say "hi"', 'say "hi"'),
            ("two\nlines", "two\nlines"),
            ("\xf6", "\xf6"),
        ),
    ],
)
def test_a_value_of_csv_is_read_by_itself(file: Any, text: str, value: object) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    assert read(file(f"{HEAD}1,u,{TIME},{quoted}\n")) == [{"id": "1", "amount": value}]


def test_a_column_that_changes_its_kind_late_fails_no_load(file: Any) -> None:
    lines = "".join(f"{n},u{n},{TIME},{n}\n" for n in range(200_000 // 20))
    found = read(file(f"{HEAD}{lines}99999,u,{TIME},many\n"))
    assert (found[5], found[-1]) == ({"id": "5", "amount": 5}, {"id": "99999", "amount": "many"})


def test_a_row_of_csv_with_other_columns_is_rejected_and_the_next_one_read(file: Any) -> None:
    path = file(f"{HEAD}1,u,{TIME}\n\n2,u,{TIME},5,6\n3,u,{TIME},7\n")
    assert read(path) == ["wrong_columns", "wrong_columns", {"id": "3", "amount": 7}]


@pytest.mark.parametrize(
    "content",
    [
        (HEAD + f"1,u,{TIME},5\n").encode("utf-8-sig"),
        f"{HEAD}1,u,{TIME},5\n".replace("\n", "\r\n").encode(),
        f'"id","user","at","amount"\n"1","u","{TIME}",5'.encode(),
    ],
    ids=["BOM", "CRLF", "quotes"],
)
def test_csv_may_be_written_in_several_ways(file: Any, content: bytes) -> None:
    assert read(file(content)) == [{"id": "1", "amount": 5}]


def test_bytes_that_are_no_text_are_rejected_alone(file: Any) -> None:
    content = f"{HEAD}1,u,{TIME},".encode() + b"caf\xe9\n" + f"2,u,{TIME},5\n".encode()
    assert read(file(content)) == ["not_json", {"id": "2", "amount": 5}]


def test_empty_files_and_those_with_a_head_only_have_no_rows(file: Any) -> None:
    path = file(f"{HEAD}1,u,{TIME},5\n", "b.csv")
    assert read(file("", "a.csv"), path, file(HEAD, "c.csv")) == [{"id": "1", "amount": 5}]
    assert read(file("", "a.jsonl"), format="jsonl") == []


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, "gz"), (bz2.compress, "bz2")])
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_packed_files_are_unpacked(file: Any, pack: Callable[[bytes], bytes], ending: str, format: str) -> None:
    row = {"id": "1", "user": "u", "at": TIME, "amount": 5}
    content = f"{HEAD}1,u,{TIME},5\n" if format == "csv" else json.dumps(row)
    assert read(file(pack(content.encode()), f"rows.{format}.{ending}"), format=format) == [{"id": "1", "amount": 5}]


def test_lines_of_json_are_judged_one_by_one(file: Any) -> None:
    good = {"id": 1, "user": "u", "at": TIME}
    lines = [
        *(json.dumps({**good, "amount": value}) for value in (5, "half \ud83d", {"deep": [1, None]})),
        '{"id": 2, "user": "u", "at": "' + TIME + '", "amount": NaN}',
        *("[1]", "null", '"text"', "{nope", "[" * 100_000, "", "\N{NO-BREAK SPACE}"),
    ]
    bad = ["not_json"] * 6
    assert read(file("\ufeff" + "\n".join(lines), "rows.jsonl"), format="jsonl") == [
        {"id": 1, "amount": 5},
        "not_json",
        {"id": 1, "amount": {"deep": [1, None]}},
        {"id": 2, "amount": None},
        *bad,
    ]


def test_nested_types_of_parquet_are_json(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([1]),
        "user": pa.array([42.0]),
        "at": pa.array([AT], pa.timestamp("us", "Asia/Kathmandu")),
        "amount": pa.array([{"a": [1, 2], "b": None}]),
        "map": pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int64())),
        "kind": pa.array(["pro"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (found,) = read(tmp_path / "rows.parquet", format="parquet")
    assert found == {"id": 1, "amount": {"a": [1, 2], "b": None}, "map": [["x", 1]], "kind": "pro"}


def test_times_of_nanoseconds_are_cut_to_what_posthog_keeps(tmp_path: Path) -> None:
    fine = pa.array([1_793_534_400_123_456_789], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"id": [1], "user": ["u"], "at": fine, "amount": fine}), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet", format="parquet") == [
        {"id": 1, "amount": "2026-11-01T12:00:00.123456+00:00"}
    ]


def test_a_file_that_is_no_parquet_is_named_before_anything_is_read(file: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "user": ["u"], "at": [TIME]}), tmp_path / "a.parquet")
    with pytest.raises(PostHogSettingsError, match=r"path: has '_SUCCESS', which is no Parquet file\."):
        read(tmp_path / "a.parquet", file("", "_SUCCESS"), format="parquet")


@pytest.mark.parametrize(
    ("content", "format"),
    [("user\na\nb,c\n", "csv"), ('{"user": "a"}\n"b"\n', "jsonl"), ('{"user": "a"}\n{nope\n', "jsonl")],
)
def test_a_list_of_ids_with_a_row_that_cannot_be_read_is_refused_as_a_whole(
    file: Any, content: str, format: str
) -> None:
    path = file(content, f"ids.{format}")
    with (
        pytest.raises(PostHogSettingsError, match="path"),
        text_rows(fsspec.filesystem("file"), str(path), format) as (_, rows),
    ):
        list(rows)
