"""Files without the rows of some persons: all of these, no others, and nothing half, wherever it is killed."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.erasure.files.file import UnreadableError, Wanted, look, rewrite
from airflow_provider_posthog.erasure.files.folder import Erased, FolderErasure, check_root
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.extract.layout import SUFFIXES, Layout
from airflow_provider_posthog.extract.writers import TableFiles
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.manifest import Interval
from airflow_provider_posthog.storage.staged_file import StagedFile
from airflow_provider_posthog.storage.staging import Owner, Staging
from tests.storage.crashing import Crash, CrashingFs, FlatFs, memory

START = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
REQUEST = "0123456789abcdef0123456789abcdef"
ANN = 'ann "o\'hara", of\nDüsseldorf'
UUIDS = [str(uuid.UUID(int=n)) for n in range(1, 8)]
SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("distinct_id", pa.string()),
        ("person_id", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("properties", pa.string()),
    ],
    metadata={"made": "by hand"},
)


def rows(*names: str | None, first: int = 0) -> pa.Table:
    """Rows of some distinct ids; each second one is under the second UUID."""
    numbers = range(first, first + len(names))
    columns = [
        list(numbers),
        list(names),
        [UUIDS[n % 2] for n in numbers],
        [START + timedelta(hours=6 * n) for n in numbers],
        [json.dumps({"n": n, "of": name}) for n, name in zip(numbers, names, strict=True)],
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def write(fs: Any, root: str, layout: Layout, *tables: pa.Table, day: int = 0, name: str = "events") -> dict[str, Any]:
    """Write an interval as the transfers do; return its manifest."""
    interval = Interval(name, START + day * DAY, START + (day + 1) * DAY)
    staging = Staging.open(fs, root, interval, Owner("me", "r"), lambda: 0.0)
    with TableFiles(staging, SCHEMA, layout) as files:
        for each in tables:
            files.add(each)
        staging.record(files.finish())
    return staging.publish({"format": layout.format})


def wanted(*names: str, uuids: tuple[str, ...] = ()) -> list[Wanted]:
    found = [Wanted.of("distinct_id", iter(names))]
    return [*found, Wanted.of("person_id", iter(uuids), any_case=True)] if uuids else found


def erase(fs: Any, root: str, whose: list[Wanted], name: str | None = None) -> Erased:
    job = FolderErasure(fs, root, whose, REQUEST, name)
    done = job.run()
    job.finish()
    return done


def all_rows(fs: Any, root: str, suffix: str = "") -> list[int]:
    """The numbers of the rows in all files, read by Arrow and Python's json, not by what is tested."""
    found: list[int] = []
    for path in fs.find(root):
        if "/_manifests/" in path or not path.endswith(suffix) or "/." in path:
            continue
        content = fs.cat_file(path)
        if not content:
            continue
        for end, packing in ((".gz", "gzip"), (".zst", "zstd")):
            if path.endswith(end):
                content = pa.input_stream(pa.BufferReader(content), compression=packing).read()
        if ".parquet" in path:
            found += pq.read_table(io.BytesIO(content)).column("n").to_pylist()
        elif ".jsonl" in path:
            found += [json.loads(line)["n"] for line in content.decode().splitlines()]
        else:
            options = pa_csv.ParseOptions(newlines_in_values=True)
            found += pa_csv.read_csv(io.BytesIO(content), parse_options=options).column("n").to_pylist()
    return sorted(found)


def check_manifests(fs: Any, root: str) -> None:
    """Each manifest lists files that are there, with their size, checksum and rows; and each file is in one."""
    listed = set()
    for path in fs.find(f"{root}/_manifests"):
        manifest = json.loads(fs.cat_file(path))
        for file in manifest["files"]:
            content = fs.cat_file(f"{root}/{file['path']}")
            listed.add(f"{root}/{file['path']}")
            assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert manifest["rows"] == sum(file["rows"] for file in manifest["files"])
        assert manifest["bytes"] == sum(file["bytes"] for file in manifest["files"])
    assert listed == {path for path in fs.find(root) if "/_manifests/" not in path}


LAYOUTS = [(f, c, by) for f, known in SUFFIXES.items() for c in known for by in (None, "day")]


@pytest.mark.parametrize(("format", "compression", "by"), LAYOUTS)
def test_rows_of_these_go_and_all_others_stay(format: str, compression: str | None, by: str | None) -> None:
    fs, root = memory()
    layout = Layout(format=format, compression=compression, partition_by=by, partition_time="at", max_rows=3)
    write(fs, root, layout, rows("bob", ANN, None, "eve", ANN, "ann", "", "zoe"))
    write(fs, root, layout, rows("bob", "eve", first=8), day=1)
    before = {path: fs.cat_file(path) for path in fs.find(root)}
    done = erase(fs, root, wanted(ANN, "nobody", uuids=(UUIDS[1].upper(),)))
    assert (done.rows, done.deleted, dict(done.by)) == (10, 6, {"distinct_id": 2, "person_id": 4})
    assert all_rows(fs, root) == [0, 2, 6, 8]
    check_manifests(fs, root)
    untouched = [path for path, content in before.items() if fs.exists(path) and fs.cat_file(path) == content]
    data = [path for path in before if "/_manifests/" not in path]
    assert done.files == len(data) == done.rewritten + len([path for path in untouched if path in data])
    again = erase(fs, root, wanted(ANN, "nobody", uuids=(UUIDS[1],)))
    assert (again.deleted, again.rows) == (0, 4)


def test_parquet_keeps_types_metadata_and_compression() -> None:
    fs, root = memory()
    write(fs, root, Layout(compression="snappy"), rows("bob", ANN))
    (path,) = fs.find(root, maxdepth=1)
    before = pq.ParquetFile(io.BytesIO(fs.cat_file(path)))
    erase(fs, root, wanted(ANN))
    after = pq.ParquetFile(io.BytesIO(fs.cat_file(path)))
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.metadata.row_group(0).column(0).compression == "SNAPPY"
    assert ANN.encode() not in fs.cat_file(path), "nor in the statistics of a column"


@pytest.mark.parametrize("kind", ["dictionary", "uuid", "binary", "large", "int"])
def test_identifiers_of_any_type_are_found(kind: str) -> None:
    if kind == "uuid" and not hasattr(pa, "uuid"):
        pytest.skip("Arrow has no such type before version 18")
    fs, root = memory()
    value: Any = UUIDS[0]
    column = {
        "dictionary": lambda: pa.array([value, UUIDS[1]]).dictionary_encode(),
        "uuid": lambda: pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([uuid.UUID(one).bytes for one in UUIDS[:2]], pa.binary(16))
        ),
        "binary": lambda: pa.array([uuid.UUID(one).bytes for one in UUIDS[:2]], pa.binary(16)),
        "large": lambda: pa.array([value, UUIDS[1]], pa.large_string()),
        "int": lambda: pa.array([42, 43]),
    }[kind]()
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": column, "n": [0, 1]}), sink)
    fs.pipe_file(f"{root}/a/b.parquet", sink.getvalue())
    who = "42" if kind == "int" else value
    assert erase(fs, root, [Wanted.of("id", iter([who]), any_case=True)]).deleted == 1
    assert all_rows(fs, root) == [1]


def test_a_partition_of_one_of_these_goes_with_its_folder() -> None:
    """Its name says who it was, also where it is too long for a name."""
    fs, root = memory()
    long = "ann" * 200
    layout = Layout(format="jsonl", compression=None, partition_by="distinct_id")
    write(fs, root, layout, rows("bob", ANN, long, "eve", ANN))
    done = erase(fs, root, wanted(ANN, long, uuids=(UUIDS[3],)))
    assert (done.deleted, done.removed, done.rewritten) == (3, 2, 0)
    assert all_rows(fs, root) == [0, 3]
    assert not [path for path in fs.find(root, withdirs=True) if "D%C3%BCsseldorf" in path or "annann" in path]
    check_manifests(fs, root)


def test_files_without_a_manifest_and_in_other_folders_are_read_too() -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows(ANN, "bob"))
    fs.pipe_file(
        f"{root}/exports/one.csv", f'n,distinct_id\r\n3,"{ANN.replace(chr(34), chr(34) * 2)}"\r\n4,bob\r\n'.encode()
    )
    fs.pipe_file(f"{root}/distinct_id=a%2Fb/two.jsonl", b'{"n": 5}\n')
    fs.pipe_file(f"{root}/_SUCCESS", b"")
    done = erase(fs, root, wanted(ANN, "a/b"))
    assert (done.deleted, done.removed, all_rows(fs, root)) == (3, 1, [1, 4])
    assert fs.cat_file(f"{root}/exports/one.csv") == b"n,distinct_id\r\n4,bob\r\n"


def test_one_table_of_several_in_a_folder() -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows(ANN, "bob"))
    write(fs, root, Layout(), rows(ANN, "bob", first=2), name="events_archive")
    fs.pipe_file(f"{root}/notes.txt", b"not rows")
    with pytest.raises(PostHogIncompleteError, match=r"notes\.txt is neither"):
        erase(fs, root, wanted(ANN))
    assert erase(fs, root, wanted(ANN), "events").deleted == 1
    fs.rm_file(f"{root}/notes.txt")
    assert all_rows(fs, root) == [1, 2, 3]


def damaged(fs: Any, root: str, how: str) -> str:
    """Put something into the folder that nobody can erase from; return what is said of it."""
    path = f"{root}/extra"
    parquet = next(one for one in fs.find(root) if one.endswith(".parquet"))
    content = fs.cat_file(parquet)
    if how == "manifest":
        stem = next(iter(fs.find(f"{root}/_manifests")))
        manifest = json.loads(fs.cat_file(stem))
        manifest["files"][0]["rows"] += 1
        fs.pipe_file(stem, json.dumps(manifest).encode())
        return "its manifest says 3"
    name, data, said = {
        "cut parquet": (".parquet", content[: len(content) // 2], "is damaged"),
        "cut gzip": (".jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc", "is damaged"),
        "cut zstd": (".csv.zst", b"\x28\xb5\x2f\xfd\x04", "is damaged"),
        "not gzip": (".csv.gz", b"n,distinct_id\n", "is damaged"),
        "no column": (".csv", b"n,id\n1,secret\n", "has no column 'distinct_id'"),
        "column twice": (".csv", b"distinct_id,distinct_id\n1,secret\n", "has no column 'distinct_id'"),
        "no key": (".jsonl", b'{"distinct_id": "a"}\n{"id": "secret"}\n', "line 2 has no 'distinct_id'"),
        "no json": (".jsonl", b"secret\n", "line 1 is not JSON"),
        "no object": (".jsonl", b'["distinct_id"]\n', "line 1 has no 'distinct_id'"),
        "open quote": (".csv", b'distinct_id\n"secret\n', "never closed"),
        "cells": (".csv", b"n,distinct_id\n1,secret,x\n", "row 2 has 3 cells"),
        "not utf-8": (".csv", b"distinct_id\n\xff\n", "not text in UTF-8"),
        "another kind": (".xlsx", b"secret", "is neither Parquet nor"),
        "orc": (".orc", b"secret", "is neither Parquet nor"),
    }[how]
    fs.pipe_file(path + name, data)
    return said


DAMAGES = [
    "manifest", "cut parquet", "cut gzip", "cut zstd", "not gzip", "no column", "column twice", "no key", "no json",
    "no object", "open quote", "cells", "not utf-8", "another kind", "orc",
]  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_what_cannot_be_read_is_an_error_before_anything_is_changed(how: str) -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows(ANN, "bob"))
    said = damaged(fs, root, how)
    before = {path: fs.cat_file(path) for path in fs.find(root)}
    with pytest.raises(PostHogIncompleteError, match=said) as error:
        erase(fs, root, wanted(ANN))
    assert "No file was changed" in str(error.value)
    assert "secret" not in str(error.value)
    assert before == {path: fs.cat_file(path) for path in fs.find(root) if "/.posthog/" not in path}


@pytest.mark.parametrize("path", [".posthog/events_20261101T000000Z_20261102T000000Z/00000.x.part", ".a.csv.x.part"])
def test_unfinished_files_of_others_are_said(path: str) -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows(ANN, "bob"))
    fs.pipe_file(f"{root}/{path}", b"secret")
    with pytest.raises(PostHogIncompleteError, match="1 unfinished files of other tasks"):
        erase(fs, root, wanted(ANN))


def test_two_erasures_do_not_write_the_same_files_at_once() -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows(ANN, "bob"))
    other = FolderErasure(fs, root, wanted("bob"), "f" * 32)
    other.run()
    with pytest.raises(PostHogIncompleteError, match="Another erasure"):
        erase(fs, root, wanted(ANN))
    other.finish()
    assert (erase(fs, root, wanted(ANN)).deleted, all_rows(fs, root)) == (1, [])


@pytest.mark.parametrize("kind", [CrashingFs, FlatFs])
@pytest.mark.parametrize("by", [None, "distinct_id"])
def test_a_kill_at_any_point_leaves_nothing_half_and_loses_no_count(kind: Any, by: str | None) -> None:
    layout = Layout(format="jsonl", compression=None, partition_by=by, max_rows=2)
    for after in range(200):
        fs, root = memory()
        write(fs, root, layout, rows("bob", ANN, ANN, "eve", ANN, "zoe"))
        write(fs, root, layout, rows(ANN, "bob", first=6), day=1)
        killed = False
        for half in (False, True):
            try:
                erase(kind(fs, after, half=half), root, wanted(ANN))
            except Crash:
                killed = True
                seen = all_rows(fs, root, ".jsonl")
                assert {0, 3, 5, 7} <= set(seen) <= set(range(8))
                assert len(seen) == len(set(seen)), "no row is there twice"
        done = erase(fs, root, wanted(ANN))
        assert all_rows(fs, root) == [0, 3, 5, 7]
        check_manifests(fs, root)
        if not killed:
            break
        assert (done.deleted, done.rows) in {(4, 8), (0, 4)}, "the second, if all was done before the kill"
    else:
        raise AssertionError("it never got to its end")


def test_a_retry_for_more_persons_looks_at_all_files_again() -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows("bob", "eve"))
    FolderErasure(fs, root, wanted(ANN), REQUEST).run()
    assert erase(fs, root, wanted(ANN, "bob")).deleted == 1


def test_a_folder_inside_one_with_manifests_is_refused() -> None:
    fs, root = memory()
    write(fs, root, Layout(partition_by="day", partition_time="at"), rows("bob"))
    with pytest.raises(PostHogSettingsError, match="inside a folder with manifests"):
        check_root(fs, f"{root}/date=2026-11-01")
    with pytest.raises(PostHogSettingsError, match="is not a folder"):
        check_root(fs, f"{root}/nowhere")
    check_root(fs, root)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(TEXTS, min_size=1, max_size=8), whose=TEXTS, kind=st.sampled_from(["jsonl", "csv", "parquet"]))
def test_any_text_is_found_and_no_other(names: list[str], whose: str, kind: str) -> None:
    fs, root = memory()
    write(fs, root, Layout(format=kind, compression=None), rows(*names))
    done = erase(fs, root, wanted(whose))
    kept = [n for n, name in enumerate(names) if name != whose]
    assert (done.deleted, all_rows(fs, root)) == (len(names) - len(kept), kept)


def test_memory_does_not_grow_with_a_file() -> None:
    """One row group of another writer, far larger than what may be in memory."""
    fs, root = memory()
    sink = io.BytesIO()
    texts = pa.array([f"id-{n % 1000}" for n in range(400_000)])
    table = pa.table({"distinct_id": texts, "n": range(400_000), "properties": pa.array(["x" * 400] * 400_000)})
    pq.write_table(table, sink, row_group_size=400_000, compression="zstd")
    fs.pipe_file(f"{root}/a.parquet", sink.getvalue())
    size = table.nbytes
    del table, texts
    before = pa.total_allocated_bytes()
    peak = 0

    class Watching(StagedFile):
        def write(self, chunk: bytes) -> int:
            nonlocal peak
            peak = max(peak, pa.total_allocated_bytes() - before)
            return super().write(chunk)

    rewrite(fs, f"{root}/a.parquet", wanted("id-1"), Watching(fs, f"{root}/b.part"))
    assert 0 < peak < size / 2
    with fs.open(f"{root}/b.part", "rb") as file:
        assert pq.ParquetFile(file).metadata.num_rows == 399_600


def test_a_row_group_is_read_in_pieces() -> None:
    """pyarrow's own choice (pre_buffer) is to have all of it in memory before the first row."""
    fs, root = memory()
    sink = io.BytesIO()
    texts = [f"{n * 2_654_435_761 % 2**32:0200d}" for n in range(60_000)]
    table = pa.table({"distinct_id": texts, "properties": texts})
    pq.write_table(table, sink, row_group_size=60_000, compression=None, use_dictionary=False)
    largest = 0

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal largest
            piece = super().read(size)
            largest = max(largest, len(piece))
            return piece

    class WatchedFs(FlatFs):
        def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            return Watched(sink.getvalue()) if mode == "rb" else super().open(path, mode, **options)

    found = look(WatchedFs(fs), f"{root}/a.parquet", wanted(texts[7]))
    assert (found.rows, found.hits) == (60_000, 1)
    assert 0 < largest < len(sink.getvalue()) / 10


def test_a_file_of_another_kind_is_not_read() -> None:
    fs, root = memory()
    fs.pipe_file(f"{root}/a.txt", b"x")
    with pytest.raises(UnreadableError):
        look(fs, f"{root}/a.txt", wanted("x"))


def test_manifests_are_found_by_their_names() -> None:
    fs, root = memory()
    write(fs, root, Layout(), rows("bob"))
    assert manifests.written(fs, root, "events")


@pytest.mark.parametrize("value", [[ANN], {"id": ANN}, [], [[ANN]]])
def test_lists_and_objects_are_not_one_identifier(value: Any) -> None:
    """Compared as texts they would be nobody's, and the row would stay unsaid."""
    fs, root = memory()
    fs.pipe_file(f"{root}/a.jsonl", json.dumps({"distinct_id": "bob"}).encode() + b"\n")
    fs.pipe_file(f"{root}/b.jsonl", json.dumps({"distinct_id": value}).encode() + b"\n")
    with pytest.raises(PostHogIncompleteError, match=r"b\.jsonl has lists or objects") as error:
        erase(fs, root, wanted(ANN))
    assert "hara" not in str(error.value)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_addresses_have_no_case_and_no_blanks_around_them(suffix: str) -> None:
    fs, root = memory()
    texts = ["JÖRG@example.org", " jörg@example.org ", "joerg@example.org"]
    table, sink = pa.table({"email": texts}), io.BytesIO()
    if suffix == "parquet":
        pq.write_table(table, sink)
    elif suffix == "csv":
        pa_csv.write_csv(table, sink)
    else:
        sink.writelines(json.dumps(row).encode() + b"\n" for row in table.to_pylist())
    fs.pipe_file(f"{root}/a.{suffix}", sink.getvalue())
    done = FolderErasure(fs, root, [Wanted.of("email", iter(["Jörg@example.org"]), any_case=True)], REQUEST).run()
    assert (done.rows, done.deleted) == (3, 2)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o444])
def test_a_file_on_a_disk_is_readable_by_nobody_else_afterwards(tmp_path: Path, mode: int) -> None:
    """It has the rows of others, who were promised the same."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"distinct_id": "ann"}\n{"distinct_id": "bob"}\n')
    path.chmod(mode)
    fs: Any = fsspec.filesystem("file")
    done = FolderErasure(fs, str(tmp_path), wanted("ann"), REQUEST).run()
    assert (done.deleted, path.read_text()) == (1, '{"distinct_id": "bob"}\n')
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_to_a_file_elsewhere_is_not_replaced_by_a_copy(tmp_path: Path) -> None:
    """Its rows would stay where the file is."""
    file, lake = tmp_path / "elsewhere.jsonl", tmp_path / "lake"
    file.write_text('{"distinct_id": "ann"}\n')
    lake.mkdir()
    (lake / "a.jsonl").symlink_to(file)
    with pytest.raises(PostHogIncompleteError, match=r"a\.jsonl is a link"):
        FolderErasure(fsspec.filesystem("file"), str(lake), wanted("ann"), REQUEST).run()
    assert (lake / "a.jsonl").is_symlink()
