"""Results as files: four formats, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError
from airflow_provider_posthog.results.files import (
    ResultFormat,
    compression_of,
    format_of,
    require_format,
    write_result,
)
from airflow_provider_posthog.results.insight_tables import Table
from airflow_provider_posthog.storage.atomic_file import AtomicFile

ROWS = Table(("event", "n", "ok"), [('a "quoted"\r\ntext, 💥', 2**53 + 1, True), (None, -1, False), ("", None, None)])
TYPED = [["event", "String"], ["n", "Nullable(Int64)"], ["ok", "Bool"]]
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
# Python 3.10 reads no NUL in CSV
plain = scalars.filter(lambda value: not isinstance(value, str) or "\0" not in value)


def write(folder: Path, name: str, table: Table, document: object = None) -> AtomicFile:
    with AtomicFile(LocalFileSystem(), f"{folder}/{name}", token="t", compression=compression_of(name)) as atomic:
        write_result(atomic, document, lambda: table, format_of(name))
        atomic.commit()
    return atomic


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.json", "json"),
        ("s3://bucket/2026-11-01/a.b.CSV", "csv"),
        ("a.csv.gz", "csv"),
        ("a.json.gz", "json"),
        ("file:///a/b.jsonl.gz", "jsonl"),
        ("a.jsonl", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.XLSX", "xlsx"),
    ],
)
def test_the_suffix_tells_the_format(path: str, expected: ResultFormat) -> None:
    assert format_of(path) == expected
    assert compression_of(path) == ("gzip" if path.endswith(".gz") else None)


@pytest.mark.parametrize("path", ["a", "a.txt", "a.gz", "folder.csv/a", "a.xls", ".csv", "a.parquet.gz", "folder/", ""])
def test_other_suffixes_are_refused(path: str) -> None:
    with pytest.raises(PostHogSettingsError, match=r"^out: .*\.parquet") as caught:
        format_of(path, field="out")
    assert caught.value.field == "out"


def test_json_is_the_document(tmp_path: Path) -> None:
    document = {"result": [{"label": "ü", "data": [1, None]}], "half": "\ud800"}
    written = write(tmp_path, "a.json", ROWS, document)
    data = (tmp_path / "a.json").read_bytes()
    assert json.loads(data) == document
    assert written.size == len(data)
    assert data.endswith(b"\n")
    write(tmp_path, "b.json", ROWS, "ü")
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '"ü"\n'


def test_json_needs_no_table(tmp_path: Path) -> None:
    def refuse() -> Table:
        raise PostHogSettingsError("result_path", "no table.", "Write JSON.")

    with AtomicFile(LocalFileSystem(), f"{tmp_path}/a.json", token="t") as atomic:
        write_result(atomic, [1], refuse, "json")
        atomic.commit()
    assert (tmp_path / "a.json").exists()
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        with (
            pytest.raises(PostHogSettingsError),
            AtomicFile(LocalFileSystem(), f"{tmp_path}/{name}", token="t") as atomic,
        ):
            write_result(atomic, [1], refuse, format_of(name))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"], "nothing is left of the others"


def test_csv(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", ROWS)
    data = (tmp_path / "a.csv").read_bytes()
    assert data.startswith(b"event,n,ok\r\n")
    read = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert read[1:] == [['a "quoted"\r\ntext, 💥', "9007199254740993", "true"], ["", "-1", "false"], ["", "", ""]]
    write(tmp_path, "b.csv", Table(("a", "b"), []))
    assert (tmp_path / "b.csv").read_bytes() == b"a,b\r\n", "a header always"


def test_csv_tells_nothing_from_an_empty_text(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", Table(("a", "b"), [(None, ""), ("a\0b", 1.5), ("\ud800", " x ")]))
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\r\n,""\r\na\0b,1.5\r\n?, x \r\n'
    write(tmp_path, "b.csv", Table(("a",), [(None,), ("",), (1,)]))
    assert (tmp_path / "b.csv").read_bytes() == b'a\r\n""\r\n""\r\n1\r\n', "readers skip empty lines"


def test_json_lines_compressed(tmp_path: Path) -> None:
    many = Table(("n", "text"), [(number, "é\n") for number in range(12_000)])
    written = write(tmp_path, "a.jsonl.gz", many)
    lines = gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(12_000))
    assert json.loads(lines[0]) == {"n": 0, "text": "é\n"}
    assert written.size == (tmp_path / "a.jsonl.gz").stat().st_size


def test_parquet_has_the_types_that_posthog_tells(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", Table(ROWS.columns, ROWS.rows, TYPED))
    found = pq.read_table(tmp_path / "a.parquet")
    assert [str(field.type) for field in found.schema] == ["string", "int64", "bool"]
    assert [tuple(row.values()) for row in found.to_pylist()] == ROWS.rows
    types = [["at", "DateTime64(6, 'Europe/Berlin')"], ["list", "Array(String)"]]
    write(tmp_path, "b.parquet", Table(("at", "list"), [("2026-11-01T01:00:00+01:00", '["a"]')], types))
    row = pq.read_table(tmp_path / "b.parquet").to_pylist()[0]
    assert (row["at"].isoformat(), row["list"]) == ("2026-11-01T00:00:00+00:00", '["a"]')
    write(tmp_path, "c.parquet", Table(ROWS.columns, [], TYPED))
    assert pq.read_table(tmp_path / "c.parquet").schema == found.schema, "no rows, the same schema"


def test_parquet_without_types(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(1, 2.5, "x", 2**70, None, True), (None, 1, 3, 1, None, 1)]
    write(tmp_path, "a.parquet", Table(tuple("abcdef"), rows))
    found = pq.read_table(tmp_path / "a.parquet")
    assert [str(field.type) for field in found.schema] == ["int64", "double", "string", "string", "string", "string"]
    assert found.to_pylist()[1] == {"a": None, "b": 1.0, "c": "3", "d": "1", "e": None, "f": "1"}
    write(tmp_path, "c.parquet", Table(("a",), [("\ud800",)]))
    assert pq.read_table(tmp_path / "c.parquet").to_pylist() == [{"a": "?"}]
    write(tmp_path, "b.parquet", Table(("a",), []))
    assert (pq.read_table(tmp_path / "b.parquet").num_rows, pq.read_schema(tmp_path / "b.parquet").names) == (0, ["a"])


def test_a_file_that_can_not_be_made_whole_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"yesterday's")
    with pytest.raises(PostHogTransportError, match="'n'"):
        write(tmp_path, "a.parquet", Table(("n",), [("no number",)], [["n", "Int64"]]))
    assert (tmp_path / "a.parquet").read_bytes() == b"yesterday's"
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for format in ("json", "csv", "jsonl"):
        require_format(format)
    with pytest.raises(PostHogSettingsError, match=r"^out: .*airflow-provider-posthog\[warehouse\]"):
        require_format("parquet", field="out")
    with pytest.raises(PostHogSettingsError, match="pyarrow"):
        write(tmp_path, "a.parquet", ROWS)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(plain, plain), max_size=5))
def test_any_scalars_land(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    table = Table(("a", "b"), rows)
    write(tmp_path, "a.jsonl", table)
    with (tmp_path / "a.jsonl").open(encoding="utf-8", newline="\n") as lines:
        assert [tuple(json.loads(line).values()) for line in lines] == rows
    write(tmp_path, "a.csv", table)
    text = (tmp_path / "a.csv").read_bytes().decode()
    read = list(csv.reader(io.StringIO(text, newline="")))[1:]
    spelled = [
        ["" if value is None else value if isinstance(value, str) else json.dumps(value) for value in row]
        for row in rows
    ]
    assert read == spelled
    write(tmp_path, "a.parquet", table)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == len(rows)
