"""Arrow tables into files: sizes, partitions, what is recorded."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.layout import SUFFIXES, Layout
from airflow_provider_posthog.extract.writers import MAX_OPEN, TableFiles
from airflow_provider_posthog.storage.manifest import Interval
from airflow_provider_posthog.storage.staging import Owner, Staging
from tests.storage.crashing import CrashingFs, memory

START = datetime(2026, 11, 1, 22, tzinfo=timezone.utc)
SCHEMA = pa.schema([("n", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("kind", pa.string()), ("p", pa.string())])


def table(first: int, rows: int, minutes: int = 1) -> Any:
    numbers = list(range(first, first + rows))
    columns = [
        numbers,
        [START + timedelta(minutes=minutes * n) for n in numbers],
        [None if n % 5 == 4 else f"k{n % 5}" for n in numbers],
        [json.dumps({"n": n}) for n in numbers],
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def staged() -> tuple[Any, str, Staging]:
    fs, root = memory()
    interval = Interval("x", START, START + timedelta(days=1))
    return fs, root, Staging.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)


def written(layout: Layout, *tables: Any) -> list[tuple[dict[str, Any], bytes]]:
    """Write tables; return the files with what the manifest says of each."""
    fs, root, staging = staged()
    files = TableFiles(staging, SCHEMA, layout)
    for each in tables:
        files.add(each)
    staging.record(files.finish())
    return [(file, fs.cat_file(f"{root}/{file['path']}")) for file in staging.publish({})["files"]]


def read(layout: Layout, content: bytes) -> Any:
    if layout.format == "parquet":
        return pq.read_table(io.BytesIO(content))
    if layout.compression:
        content = pa.input_stream(pa.BufferReader(content), compression=layout.compression).read()
    if layout.format == "jsonl":
        return pa.Table.from_pylist([json.loads(line) for line in content.decode().splitlines()])
    return pa_csv.read_csv(io.BytesIO(content))


@pytest.mark.parametrize(("format", "compression"), [(f, c) for f, known in SUFFIXES.items() for c in known])
def test_formats(format: str, compression: str | None) -> None:
    layout = Layout(format, compression, json_columns=())
    ((file, content),) = written(layout, table(0, 30), table(30, 30))
    assert file["path"].endswith(SUFFIXES[format][compression])
    assert file["rows"] == 60
    found = read(layout, content)
    assert found["n"].to_pylist() == list(range(60))
    assert [json.loads(text)["n"] for text in found["p"].to_pylist()] == list(range(60))
    assert found["kind"].to_pylist()[:5] == ["k0", "k1", "k2", "k3", None if format != "csv" else ""]


def test_the_same_rows_make_the_same_bytes() -> None:
    for layout in (Layout(), Layout("jsonl", "gzip"), Layout("csv", "zstd")):
        assert written(layout, table(0, 100))[0][1] == written(layout, table(0, 100))[0][1]


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 50),
    st.sampled_from([None, "day", "hour", "kind"]),
    st.sampled_from([1, 600, 10**9]),
)
def test_every_row_is_in_one_file(sizes: list[int], most: int, by: str | None, size: int) -> None:
    layout = Layout(max_rows=most, max_bytes=size, partition_by=by, partition_time="at")
    tables, first = [], 0
    for rows in sizes:
        tables.append(table(first, rows, minutes=17))
        first += rows
    whole = {row["n"]: row for each in tables for row in each.to_pylist()}
    seen: list[int] = []
    for file, content in written(layout, *tables):
        found = read(layout, content)
        assert 0 < found.num_rows == file["rows"] <= 1.5 * most + 1
        assert (by in found.column_names) is False
        seen += found["n"].to_pylist()
        for n in found["n"].to_pylist():
            at = whole[n]["at"]
            expected = {None: {}, "kind": {"kind": whole[n]["kind"]}, "day": {"date": f"{at:%F}"}}
            expected["hour"] = {"date": f"{at:%F}", "hour": f"{at:%H}"}
            assert file["partition"] == expected[by]
        assert found["n"].to_pylist() == sorted(found["n"].to_pylist()), "rows stay in the order of time"
    assert sorted(seen) == list(range(first))


@settings(max_examples=60)
@given(
    st.lists(
        st.none()
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('",\r\n;\t'))
        | st.sampled_from(['a","b', "a\r\nb,c", '"', '""', ",", "\n", " a "]),
        max_size=6,
    )
)
def test_any_text_in_csv_is_read_back_and_forges_nothing(values: list[str | None]) -> None:
    rows = table(0, len(values)).set_column(3, "p", pa.array(values, pa.string()))
    for _, content in written(Layout("csv", None), rows):
        found = list(csv.reader(io.StringIO(content.decode(), newline="")))
        assert found[0] == SCHEMA.names
        assert [row[3] for row in found[1:]] == [value or "" for value in values]
        assert [row[0] for row in found[1:]] == [str(n) for n in range(len(values))]


def test_it_is_due_when_a_file_is_full() -> None:
    _, _, staging = staged()
    files = TableFiles(staging, SCHEMA, Layout(max_rows=10))
    files.add(table(0, 9))
    assert not files.is_due
    files.add(table(9, 3))
    assert files.is_due
    assert [file["rows"] for file in files.finish()] == [12]
    files.add(table(12, 31))
    assert [file["rows"] for file in files.finish()] == [11, 11, 9]
    assert not files.is_due
    assert files.finish() == []


class Handles(CrashingFs):
    """A file system that keeps what it has opened."""

    def __init__(self, fs: Any) -> None:
        super().__init__(fs)
        self.files: list[Any] = []

    def open(self, path: str, mode: str) -> Any:
        self.files.append(super().open(path, mode))
        return self.files[-1]


def parts(fs: Any, root: str) -> list[str]:
    return [path for path in fs.find(root) if path.endswith(".part")]


@pytest.mark.parametrize(("by", "minutes", "folders"), [("day", 24 * 60, 1100), ("hour", 60, 1501), ("n", 1, 1001)])
def test_rows_go_to_as_many_folders_as_they_have_days_hours_or_values(by: str, minutes: int, folders: int) -> None:
    """An import of history, a sparse project, names that people made up: no number of them stops the task."""
    found = written(Layout("jsonl", None, partition_by=by, partition_time="at"), table(0, folders, minutes))
    assert len({file["path"].rpartition("/")[0] for file, _ in found}) == folders
    assert sum(file["rows"] for file, _ in found) == folders


def test_a_column_of_which_each_row_has_another_value_is_refused_and_leaves_nothing() -> None:
    fs, root, staging = staged()
    with (
        pytest.raises(PostHogSettingsError, match=r"10,001 folders"),
        TableFiles(staging, SCHEMA, Layout(partition_by="n", max_rows=100)) as files,
    ):
        files.add(table(0, 10_001))
    assert parts(fs, root) == []


@pytest.mark.parametrize("value", ["页" * 200, "Пользователь " * 40, "x" * 300, "%" * 100, "\n" * 90, ". " * 200])
def test_an_odd_value_does_not_stop_the_others(tmp_path: Path, value: str) -> None:
    fs, root = LocalFileSystem(), str(tmp_path)
    interval = Interval("x", START, START + timedelta(days=1))
    staging = Staging.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)
    with TableFiles(staging, SCHEMA, Layout(partition_by="kind")) as files:
        for _ in range(2):
            files.add(table(0, 3).set_column(2, "kind", pa.array([value, "fine", value + "b"])))
            staging.record(files.finish())
    rows: dict[str, int] = {}
    for file in staging.publish({})["files"]:
        kind = file["partition"]["kind"]
        rows[kind] = rows.get(kind, 0) + pq.read_metadata(f"{root}/{file['path']}").num_rows
    assert rows == {value: 2, "fine": 2, value + "b": 2}
    assert len(list(tmp_path.glob("kind=*"))) == 3


def test_rows_with_a_null_time_are_in_the_manifest_as_such() -> None:
    rows = table(0, 4)
    times = pa.array([None, *rows["at"].to_pylist()[1:]], SCHEMA.field("at").type)
    found = written(Layout(partition_by="hour", partition_time="at"), rows.set_column(1, "at", times))
    assert next((file["partition"], file["rows"]) for file, _ in found) == ({"date": None, "hour": None}, 1)
    assert sum(file["rows"] for file, _ in found) == 4


def brought(staging: Staging, layout: Layout) -> None:
    with TableFiles(staging, SCHEMA, layout) as files:
        files.add(table(0, 50))
        staging.record(files.finish())


class Refusing(Staging):
    """A staging of which one step fails, as where the storage does, or another run has taken over."""

    step = ""

    def describe(self, *args: Any, **options: Any) -> dict[str, Any]:
        if self.step == "describe":
            raise OSError("no")
        return super().describe(*args, **options)

    def _save(self) -> None:
        if self.step == "save":
            raise OSError("no")
        super()._save()


@pytest.mark.parametrize("step", ["describe", "save", "finish"])
def test_an_error_at_any_step_leaves_no_part_file(tmp_path: Path, step: str) -> None:
    root = str(tmp_path)
    interval = Interval("x", START, START + timedelta(days=1))
    for _ in range(3):  # tries
        fs = LocalFileSystem(skip_instance_cache=True)
        staging = Refusing.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)
        staging.step = step  # type: ignore[attr-defined]
        if step == "finish":
            fs.size = lambda path: 0
        with pytest.raises(OSError, match=r"no|wrote"):
            brought(staging, Layout(partition_by="kind"))
        assert parts(fs, root) == []
        assert staging.files == []


def test_files_that_were_recorded_after_all_stay(tmp_path: Path) -> None:
    """A storage may do what it is asked for, and say that it could not."""
    fs, root = LocalFileSystem(), str(tmp_path)
    interval = Interval("x", START, START + timedelta(days=1))

    class Lying(Staging):
        def _save(self) -> None:
            super()._save()
            raise OSError("no")

    staging = Lying.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)
    with pytest.raises(OSError, match="no"):
        brought(staging, Layout())
    again = Staging.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)
    assert again.publish({})["rows"] == 50


def test_many_partitions_do_not_stay_open(tmp_path: Path) -> None:
    found = written(Layout(partition_by="n"), table(0, 200), table(100, 100))
    assert sum(file["rows"] for file, _ in found) == 300
    fs = Handles(LocalFileSystem())
    interval = Interval("x", START, START + timedelta(days=1))
    files = TableFiles(
        Staging.open(fs, str(tmp_path), interval, Owner("me", "r"), lambda: 0.0),
        SCHEMA,
        Layout(partition_by="n", max_rows=150),
    )
    files.add(table(0, 150))
    assert sum(not file.closed for file in fs.files) == MAX_OPEN
    files.finish()
    assert sum(not file.closed for file in fs.files) == 0


class FullFile:
    closed = False

    def write(self, chunk: bytes) -> int:
        if len(chunk) > 10:  # what is more than the head
            raise OSError(28, "No space left on device")
        return len(chunk)

    def close(self) -> None:
        self.closed = True


def test_a_full_disk_leaves_no_file_open() -> None:
    _, _, staging = staged()
    full = FullFile()
    files = TableFiles(staging, SCHEMA, Layout("jsonl", "gzip", max_rows=3))
    staging._fs = SimpleNamespace(open=lambda *_: full)
    with pytest.raises(OSError, match="No space left"):
        files.add(table(0, 3))
    assert full.closed


def test_a_disk_that_refuses_the_first_bytes_keeps_no_file() -> None:
    _, _, staging = staged()
    full, removed = FullFile(), []
    full.write = lambda chunk: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # type: ignore[method-assign]
    files = TableFiles(staging, SCHEMA, Layout("jsonl", "gzip", max_rows=3))
    staging._fs = SimpleNamespace(open=lambda *_: full, rm_file=removed.append)
    with pytest.raises(OSError, match="No space left"), files:
        files.add(table(0, 3))
    assert full.closed
    assert len(removed) == 1


LAYOUTS = [
    Layout("parquet"),
    Layout("jsonl", "gzip", json_columns=()),
    Layout("csv", None, partition_by="kind"),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.format)
def test_an_error_leaves_only_what_was_recorded(tmp_path: Path, layout: Layout) -> None:
    fs, root = Handles(LocalFileSystem()), str(tmp_path)
    interval = Interval("x", START, START + timedelta(days=1))
    staging = Staging.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)

    def write() -> None:
        with TableFiles(staging, SCHEMA, layout) as files:
            files.add(table(0, 50))
            staging.record(files.finish())
            files.add(table(50, 60_000))
            assert any(path.endswith(".part") and not fs.isdir(path) for path in unrecorded())
            raise ZeroDivisionError

    def unrecorded() -> list[str]:
        known = {file["staged"] for file in staging.files} | {"progress.json"}
        return [path for path in fs.find(root) if path.rpartition("/")[2] not in known]

    with pytest.raises(ZeroDivisionError):
        write()
    assert unrecorded() == []
    assert sum(file["rows"] for file in staging.publish({})["files"]) == 50
    assert all(file.closed for file in fs.files)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.format)
def test_an_error_leaves_no_upload_begun(s3: tuple[Any, Any], layout: Layout) -> None:
    """S3 keeps the parts of an upload that nobody ends, unseen, and sends a bill for them."""
    fs, client = s3
    interval = Interval("x", START, START + timedelta(days=1))
    staging = Staging.open(fs, "lake/events", interval, Owner("me", "r"), lambda: 0.0)
    chance = random.Random(7)
    long = [chance.randbytes(500).hex() for _ in range(20_000)]

    def write() -> None:
        with TableFiles(staging, SCHEMA, layout) as files:
            files.add(table(0, 20_000).set_column(3, "p", pa.array(long)))
            uploads = client.list_multipart_uploads(Bucket="lake").get("Uploads")
            assert uploads or layout.partition_by, "nothing was sent yet: the test is of no use"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert not client.list_multipart_uploads(Bucket="lake").get("Uploads")
    keys = [found["Key"] for found in client.list_objects_v2(Bucket="lake")["Contents"]]
    assert [key.rpartition("/")[2] for key in keys] == ["progress.json"]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(partition_by="nope"),
        Layout(partition_by="day"),
        Layout(partition_by="day", partition_time="kind"),
        Layout(partition_by="hour", partition_time="nope"),
        Layout(partition_by="ё" * 30),
    ],
)
def test_what_is_refused(layout: Layout) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        TableFiles(staged()[2], SCHEMA.append(pa.field("ё" * 30, pa.string())), layout)
    assert refused.value.field == "partition_by"


def test_columns_of_the_partitions_names_are_refused() -> None:
    schema = pa.schema([("date", pa.string()), ("at", pa.timestamp("us", "UTC"))])
    with pytest.raises(PostHogSettingsError, match="'date'"):
        TableFiles(staged()[2], schema, Layout(partition_by="day", partition_time="at"))


def test_gzip_has_no_time_in_it() -> None:
    ((_, content),) = written(Layout("jsonl", "gzip", json_columns=("p",)), table(0, 3))
    assert content[4:8] == b"\x00" * 4
    assert json.loads(gzip.decompress(content).splitlines()[2])["p"] == {"n": 2}
