"""The transfer, against the emulator: from an export's file to a file in a file system."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogRateLimitError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator
from tests.support.scripted import Reply, ScriptedServer, ok

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

MakeExport = Callable[..., int]
TEN = "SELECT number, 'a \"quoted\" line\nand another' AS text FROM numbers(10) LIMIT 100"
EMPTY = "SELECT event FROM events WHERE event = 'never' LIMIT 100"


def context(try_number: int = 1) -> dict[str, Any]:
    """The little of a task's context that the operator reads."""
    ti = SimpleNamespace(
        dag_id="d",
        run_id="r",
        task_id="t",
        map_index=-1,
        try_number=try_number,
        max_tries=2,
        xcom_push=lambda **_: None,
    )
    return {"ti": ti}


def fetch(export_id: int, path: Any, try_number: int = 1, **arguments: Any) -> dict[str, Any]:
    operator = PostHogExportToObjectStorageOperator(task_id="fetch", export_id=export_id, path=path, **arguments)
    return operator.execute(context(try_number))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_lands(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    export_id = make_export(TEN)
    found = fetch(export_id, f"file://{tmp_path}/deep/a.csv")
    data = (tmp_path / "deep/a.csv").read_bytes()
    assert found == {
        "path": f"file://{tmp_path}/deep/a.csv",
        "bytes": len(data),
        "rows": 10,
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_type": "text/csv",
        "export_id": export_id,
    }
    assert json.loads(json.dumps(found)) == found
    with (tmp_path / "deep/a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 11
    assert rows[1] == ["0", 'a "quoted" line\nand another']
    assert names(tmp_path) == ["deep/a.csv"]
    assert connection.calls("/storage/")  # it did go there, and the storage refuses a request that brings the key


def test_without_object_storage_behind_posthog(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path
) -> None:
    connection.settings(content_mode="direct")
    assert fetch(make_export(TEN), f"{tmp_path}/a.csv")["rows"] == 10
    assert not connection.calls("/storage/")


def test_outside_the_task_runner(make_export: MakeExport, tmp_path: Path) -> None:
    made = {"id": make_export(TEN), "filename": "x.csv"}
    operator = PostHogExportToObjectStorageOperator(task_id="fetch", export_id=made, path=f"{tmp_path}/a.csv")
    assert operator.execute({})["rows"] == 10
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_an_empty_result_is_an_empty_file(make_export: MakeExport, tmp_path: Path, compression: Any) -> None:
    found = fetch(make_export(EMPTY), f"{tmp_path}/a.csv", compression=compression)
    data = (tmp_path / "a.csv").read_bytes()
    assert found["rows"] == 0
    assert (gzip.decompress(data) if compression else data) == b""
    assert (found["bytes"], found["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_an_empty_result_with_columns(make_export: MakeExport, tmp_path: Path) -> None:
    found = fetch(make_export(EMPTY, columns=["event", "uuid"]), f"{tmp_path}/a.csv")
    assert found["rows"] == 0
    assert (tmp_path / "a.csv").read_bytes().startswith(b"event,uuid\r\n")


READY = {"id": 1, "export_format": exports.CSV, "has_content": True, "export_context": {}}


def file(data: bytes, kind: str = exports.CSV) -> Reply:
    return Reply(200, {"Content-Type": kind}, data)


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_0123456789", "extra": {"project_id": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


@pytest.mark.parametrize("kind", [exports.CSV, exports.XLSX, exports.PNG, "video/mp4"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_of_0_bytes_is_asked_for_once_more_and_is_no_empty_result(
    scripted: ScriptedServer, tmp_path: Path, kind: str, compression: Any
) -> None:
    (tmp_path / "a.csv").write_text("of yesterday")
    scripted.script(ok({**READY, "export_format": kind}), file(b"", kind))
    with pytest.raises(PostHogIncompleteError, match="0 bytes twice"):
        fetch(1, f"{tmp_path}/a.csv", compression=compression, overwrite=True)
    assert [call.path.partition("?")[0].rpartition("exports/")[2] for call in scripted.requests] == [
        "1/",
        "1/content/",
        "1/content/",
    ]
    assert names(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "of yesterday"


def test_a_file_of_0_bytes_that_is_there_the_second_time_is_whole(scripted: ScriptedServer, tmp_path: Path) -> None:
    scripted.script(ok(READY), file(b""), file(b"a,b\r\n1,2\r\n"))
    assert fetch(1, f"{tmp_path}/a.csv")["rows"] == 1
    assert (tmp_path / "a.csv").read_bytes() == b"a,b\r\n1,2\r\n"


@pytest.mark.parametrize("data", [b"\r\n", b"\n", b"\xef\xbb\xbf", b" "])
def test_a_csv_without_a_header_is_no_empty_result(scripted: ScriptedServer, tmp_path: Path, data: bytes) -> None:
    scripted.script(ok(READY), file(data))
    with pytest.raises(PostHogIncompleteError, match="header"):
        fetch(1, f"{tmp_path}/a.csv")
    assert names(tmp_path) == []


def test_an_export_that_posthog_lost_fails_the_task(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path
) -> None:
    connection.next_exports("succeed", content="")
    with pytest.raises(PostHogIncompleteError, match="0 bytes"):
        fetch(make_export(TEN), f"{tmp_path}/a.csv")
    assert names(tmp_path) == []


def test_the_api_operator_takes_no_file_of_0_bytes_either(scripted: ScriptedServer, tmp_path: Path) -> None:
    from airflow_provider_posthog.operators.api import PostHogApiOperator

    scripted.script(file(b""))
    operator = PostHogApiOperator(
        task_id="task", call="exports.content", arguments={"export_id": 1}, path=f"file://{tmp_path}/a.csv"
    )
    with pytest.raises(PostHogIncompleteError, match="0 bytes"):
        operator.execute({})
    assert names(tmp_path) == []


def test_gzip(make_export: MakeExport, tmp_path: Path) -> None:
    export_id = make_export(TEN)
    plain, packed = fetch(export_id, f"{tmp_path}/a.csv"), fetch(export_id, f"{tmp_path}/a.gz", compression="gzip")
    again = fetch(export_id, f"{tmp_path}/b.gz", compression="gzip")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    assert packed["rows"] == plain["rows"] == 10
    assert packed["sha256"] == again["sha256"] != plain["sha256"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_xlsx(make_export: MakeExport, tmp_path: Path, compression: Any) -> None:
    found = fetch(make_export(TEN, exports.XLSX), f"{tmp_path}/a.xlsx", compression=compression)
    assert found["rows"] == 10
    assert found["content_type"] == exports.XLSX
    assert fetch(make_export(EMPTY, exports.XLSX), f"{tmp_path}/b.xlsx", compression=compression)["rows"] == 0


def test_a_picture_has_no_rows(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    found = fetch(make_export(TEN, exports.PNG), f"{tmp_path}/a.png")
    assert found["rows"] is None
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# ---- cut by a limit


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("SELECT number FROM numbers(10) LIMIT 10", "own limit of 10"),
        (
            {
                "kind": "DataVisualizationNode",
                "source": {"kind": "HogQLQuery", "query": "SELECT number FROM numbers(10) LIMIT 10"},
            },
            "own limit of 10",
        ),
        ("SELECT number FROM numbers(60000)", "query without LIMIT"),
    ],
)
def test_as_long_as_a_limit(make_export: MakeExport, tmp_path: Path, source: Any, reason: str) -> None:
    export_id = make_export(source)
    with pytest.raises(PostHogIncompleteError, match=reason):
        fetch(export_id, f"{tmp_path}/a.csv")
    assert names(tmp_path) == []
    for choice in ("warn", "ignore"):
        assert fetch(export_id, f"{tmp_path}/{choice}.csv", on_truncation=choice)["rows"] in (10, 50_000)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_workbook_as_long_as_a_limit(make_export: MakeExport, tmp_path: Path, compression: Any) -> None:
    export_id = make_export("SELECT number FROM numbers(10) LIMIT 10", exports.XLSX)
    with pytest.raises(PostHogIncompleteError, match="own limit of 10"):
        fetch(export_id, f"{tmp_path}/a.xlsx", compression=compression)
    assert names(tmp_path) == []


def test_a_limit_that_is_a_page_size_cuts_nothing(make_export: MakeExport, tmp_path: Path) -> None:
    """PostHog fetches an EventsQuery page by page, whatever its ``limit``: more rows than that are no sign of a cut."""
    found = fetch(
        make_export({"kind": "EventsQuery", "select": ["event"], "limit": 10, "after": "-7d"}), f"{tmp_path}/a.csv"
    )
    assert found["rows"] > 10
    assert exports.row_limit({"export_context": {"source": {"kind": "EventsQuery", "limit": 10}}}, 10)[0] == 10


def test_posthogs_300_000_rows(make_export: MakeExport, tmp_path: Path) -> None:
    export_id = make_export("SELECT 1 AS one FROM numbers(310000) LIMIT 310000")
    with pytest.raises(PostHogIncompleteError, match="300,000 rows, as many as PostHog's limit"):
        fetch(export_id, f"{tmp_path}/a.csv")


def test_a_warning_names_the_limit(
    make_export: MakeExport, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(make_export("SELECT number FROM numbers(10) LIMIT 10"), f"{tmp_path}/a.csv", on_truncation="warn")
    assert "own limit of 10" in caplog.text + capsys.readouterr().out  # Airflow 3 logs past Python's logging


@pytest.mark.parametrize("rows", [4, 0])
def test_what_hides_a_cut_is_refused_and_says_what_to_write(
    connection: EmulatorProcess, make_export: MakeExport, tmp_path: Path, rows: int
) -> None:
    """Made by somebody else: this package's own operator refuses to make it."""
    export_id = make_export(f"SELECT number FROM numbers({rows}) LIMIT 10")
    node = {"kind": "HogQLQuery", "query": "SELECT 1 LIMIT 10 EXCEPT SELECT 2 LIMIT 10"}
    body = {"id": export_id, "has_content": True, "export_format": exports.CSV, "export_context": {"source": node}}
    connection.faults(method="GET", path=f"*/exports/{export_id}/", status=200, body=body, count=-1)
    with pytest.raises(PostHogIncompleteError, match=r"SELECT \* FROM \(\.\.\.\) LIMIT n"):
        fetch(export_id, f"{tmp_path}/a.csv")
    assert fetch(export_id, f"{tmp_path}/a.csv", on_truncation="ignore")["rows"] == rows


@pytest.mark.parametrize(("first", "whole"), [(11, True), (10, False)])
def test_each_select_has_a_limit_that_the_rows_must_stay_below(
    make_export: MakeExport, tmp_path: Path, first: int, whole: bool
) -> None:
    many = "SELECT number FROM numbers(5)"
    export_id = make_export(f"{many} LIMIT {first} UNION ALL {many} LIMIT 2000")
    if whole:
        assert fetch(export_id, f"{tmp_path}/a.csv")["rows"] == 10
    else:
        with pytest.raises(PostHogIncompleteError, match="limit of one of the SELECTs that it joins of 10"):
            fetch(export_id, f"{tmp_path}/a.csv")


def test_one_row_below_the_limit(make_export: MakeExport, tmp_path: Path) -> None:
    assert fetch(make_export("SELECT number FROM numbers(9) LIMIT 10"), f"{tmp_path}/a.csv")["rows"] == 9


# ---- trouble on the way


@pytest.mark.parametrize("path", ["*/content/", "*/storage/*"])
@pytest.mark.parametrize("where", ["before", "after", "middle"])
def test_cuts(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, path: str, where: str) -> None:
    export_id = make_export("SELECT number, repeat('x', 100) AS text FROM numbers(5000) LIMIT 6000")
    connection.faults(path=path, cut=where, cut_bytes=300_000 if "storage" in path else 0)
    found = fetch(export_id, f"{tmp_path}/a.csv")
    assert found["rows"] == 5000
    assert found["bytes"] == (tmp_path / "a.csv").stat().st_size
    assert len(connection.calls("/content/")) == (1 if (where, path) == ("middle", "*/content/") else 2)
    if (where, path) == ("middle", "*/storage/*"):
        assert len(connection.calls("/storage/")) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_posthog_asks_to_wait(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, status: int
) -> None:
    export_id = make_export(TEN)
    connection.faults(path="*/content/", status=status, headers={"Retry-After": "1"})
    assert fetch(export_id, f"{tmp_path}/a.csv")["rows"] == 10


def test_posthog_asks_for_too_long(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    export_id = make_export(TEN)
    connection.faults(path="*/content/", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(PostHogRateLimitError):
        fetch(export_id, f"{tmp_path}/a.csv")
    assert names(tmp_path) == []


def test_an_expired_address(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    export_id = make_export(TEN)
    connection.faults(path="*/storage/*", status=403)
    assert fetch(export_id, f"{tmp_path}/a.csv")["rows"] == 10
    assert len(connection.calls("/content/")) == 2


def test_gone_from_the_storage(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    export_id = make_export(TEN)
    connection.faults(path="*/storage/*", status=404, count=-1)
    with pytest.raises(PostHogNotFoundError):
        fetch(export_id, f"{tmp_path}/a.csv")
    assert names(tmp_path) == []


@pytest.mark.parametrize("path", ["*/content/", "*/storage/*"])
def test_a_login_page(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, path: str) -> None:
    export_id = make_export(TEN)
    connection.faults(path=path, status=200, body="<html>Log in</html>", count=-1)
    (tmp_path / "a.csv").write_bytes(b"old")
    with pytest.raises(PostHogTransportError, match="text/html"):
        fetch(export_id, f"{tmp_path}/a.csv", overwrite=True)
    assert names(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_bytes() == b"old"


@pytest.mark.parametrize("content", ['a,b\r\n1,"cut', '"a\r\n'])
def test_a_csv_that_ends_inside_quotes(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, content: str
) -> None:
    connection.next_exports("succeed", content=content)
    with pytest.raises(PostHogIncompleteError, match="quoted"):
        fetch(make_export(TEN), f"{tmp_path}/a.csv")
    assert names(tmp_path) == []


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_workbook_that_is_none(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, compression: Any
) -> None:
    connection.next_exports("succeed", content="PK but no more")
    with pytest.raises(PostHogIncompleteError, match="workbook"):
        fetch(make_export(TEN, exports.XLSX), f"{tmp_path}/a.xlsx", compression=compression)
    assert names(tmp_path) == []


# ---- exports without a file


def test_an_unknown_export(connection: EmulatorProcess, tmp_path: Path) -> None:
    with pytest.raises(PostHogJobFailed, match="another user's key"):
        fetch(999_999, f"{tmp_path}/a.csv")


def test_a_failed_export(connection: EmulatorProcess, tmp_path: Path) -> None:
    hook = PostHogExportToObjectStorageOperator(task_id="fetch", export_id=1, path="x").hook
    made = hook.send(exports.create(export_format="application/pdf", export_context={"source": {"kind": "HogQLQuery"}}))
    connection.advance(1000)
    with pytest.raises(PostHogJobFailed, match="failed"):
        fetch(made["id"], f"{tmp_path}/a.pdf")


def test_an_export_still_running(connection: EmulatorProcess, tmp_path: Path) -> None:
    connection.next_exports("slow")
    hook = PostHogExportToObjectStorageOperator(task_id="fetch", export_id=1, path="x").hook
    source = {"kind": "HogQLQuery", "query": TEN}
    made = hook.send(exports.create(export_format=exports.CSV, export_context={"source": source}))
    with pytest.raises(PostHogSettingsError, match="no file yet"):
        fetch(made["id"], f"{tmp_path}/a.csv")


@pytest.mark.parametrize(
    "wrong", [{"on_truncation": "maybe"}, {"compression": "zip"}, {"path": " "}, {"export_id": "None"}]
)
def test_arguments(connection: EmulatorProcess, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError, match=next(iter(wrong))):
        fetch(**{"export_id": 1, "path": f"{tmp_path}/a", **wrong})
    assert connection.calls() == []


# ---- a file of that name


def test_another_file_is_in_the_way(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    export_id = make_export(TEN)
    (tmp_path / "a.csv").write_bytes(b"old")
    for try_number in (1, 2):
        with pytest.raises(PostHogSettingsError, match="already exists"):
            fetch(export_id, f"{tmp_path}/a.csv", try_number)
        assert bool(connection.calls("/content/")) == (try_number > 1)
    assert (tmp_path / "a.csv").read_bytes() == b"old"
    assert names(tmp_path) == ["a.csv"]
    assert fetch(export_id, f"{tmp_path}/a.csv", overwrite=True)["rows"] == 10
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_retry_finds_its_own_file(make_export: MakeExport, tmp_path: Path, compression: Any) -> None:
    """The first try was killed after the file had landed, and before Airflow heard of it."""
    export_id = make_export(TEN)
    first = fetch(export_id, f"{tmp_path}/a.csv", 1, compression=compression)
    changed = (tmp_path / "a.csv").stat().st_mtime_ns
    assert fetch(export_id, f"{tmp_path}/a.csv", 2, compression=compression) == first
    assert (tmp_path / "a.csv").stat().st_mtime_ns == changed
    assert names(tmp_path) == ["a.csv"]


def test_a_folder_is_in_the_way(make_export: MakeExport, tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        fetch(make_export(TEN), f"{tmp_path}/a.csv", overwrite=True)
    assert names(tmp_path) == []


# ---- folders and the server's names


@pytest.mark.parametrize("filename", ["../../etc/passwd", "a/b", "..", "", "x" * 300, "🦔", "/etc/passwd", "..\\..\\x"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_name_from_the_server(
    make_export: MakeExport,
    connection: EmulatorProcess,
    tmp_path: Path,
    filename: str,
    compression: Any,
) -> None:
    export_id = make_export(TEN)
    there = PostHogExportToObjectStorageOperator(task_id="fetch", export_id=1, path="x").hook.send(
        exports.retrieve(export_id)
    )
    connection.faults(path=f"*/exports/{export_id}/", status=200, body={**there, "filename": filename})
    found = fetch(export_id, f"file://{tmp_path}/in/", compression=compression)
    (name,) = names(tmp_path)
    assert Path(name).parent == Path("in")
    assert found["path"] == f"file://{tmp_path}/{name}"
    assert name.endswith(".gz") == bool(compression)
    assert found["rows"] == 10


def test_posthogs_own_name(make_export: MakeExport, tmp_path: Path) -> None:
    fetch(make_export(TEN, filename="Ten Rows"), f"{tmp_path}/")
    (name,) = names(tmp_path)
    assert name.startswith("ten-rows-")
    assert name.endswith(".csv")


# ---- file systems


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = MemoryFileSystem()
    MemoryFileSystem.store.clear()  # it is one for all tests of the process
    attach("memory", fs=fs)
    yield fs
    MemoryFileSystem.store.clear()


def test_memory(make_export: MakeExport, memory: Any) -> None:
    export_id = make_export(TEN)
    found = fetch(export_id, ObjectStoragePath("memory://lake/a.csv"))
    assert [len(memory.cat_file(path)) for path in memory.find("/")] == [found["bytes"]]
    with pytest.raises(PostHogSettingsError, match="already exists"):
        fetch(export_id, "memory://lake/a.csv")


def test_s3(make_export: MakeExport, connection: EmulatorProcess, s3: tuple[Any, Any]) -> None:
    """Through ObjectStoragePath, as users have it, with the connection's id in three places."""
    fs, client = s3
    attach("s3", conn_id="lake_conn", fs=fs)
    store = attach("s3", conn_id="lake_conn")
    store.fs = fs  # an earlier test may have attached another one
    export_id = make_export("SELECT number, repeat('x', 100) AS text FROM numbers(9000) LIMIT 10000")
    one = fetch(export_id, "s3://lake/a.csv", object_storage_conn_id="lake_conn")
    two = fetch(export_id, "s3://lake_conn@lake/b[1].csv")
    three = fetch(export_id, ObjectStoragePath("s3://lake/c.gz", conn_id="lake_conn"), compression="gzip")
    four = fetch(export_id, "s3://lake_conn@lake/in/")
    stored = {each["Key"]: each["Size"] for each in client.list_objects_v2(Bucket="lake")["Contents"]}
    key = four["path"].split("@lake/")[1]
    assert stored == {"a.csv": one["bytes"], "b[1].csv": two["bytes"], "c.gz": three["bytes"], key: four["bytes"]}
    body = client.get_object(Bucket="lake", Key="a.csv")["Body"].read()
    assert one["sha256"] == two["sha256"] == four["sha256"] == hashlib.sha256(body).hexdigest()
    assert one["rows"] == three["rows"] == 9000
    assert fetch(export_id, "s3://lake_conn@lake/a.csv", 2) == {**one, "path": "s3://lake_conn@lake/a.csv"}
    with pytest.raises(PostHogSettingsError, match="already exists"):
        fetch(export_id, "s3://lake_conn@lake/a.csv", 1)
    with pytest.raises(PostHogIncompleteError):
        fetch(make_export("SELECT 1 AS x LIMIT 1"), "s3://lake_conn@lake/a.csv", overwrite=True)
    assert client.get_object(Bucket="lake", Key="a.csv")["Body"].read() == body
    assert {each["Key"] for each in client.list_objects_v2(Bucket="lake")["Contents"]} == set(stored)


def test_s3_in_parts(s3: tuple[Any, Any]) -> None:
    """A file of several parts that fails leaves neither objects nor uploads behind; one that succeeds is whole."""
    from airflow_provider_posthog.storage.atomic_file import AtomicFile

    fs, client = s3
    block = bytes(range(256)) * 4096
    with suppress(KeyboardInterrupt), AtomicFile(fs, "lake/big", token="t") as atomic:
        for _ in range(12):
            atomic.write(block)
        raise KeyboardInterrupt
    assert "Contents" not in client.list_objects_v2(Bucket="lake")
    assert not client.list_multipart_uploads(Bucket="lake").get("Uploads")
    with AtomicFile(fs, "lake/big", token="t") as atomic:
        for _ in range(12):
            atomic.write(block)
        atomic.finish()
        assert [each["Key"] for each in client.list_objects_v2(Bucket="lake")["Contents"]] == [".big.t.part"]
        atomic.commit()
    assert [each["Key"] for each in client.list_objects_v2(Bucket="lake")["Contents"]] == ["big"]
    assert client.get_object(Bucket="lake", Key="big")["Body"].read() == block * 12


@pytest.mark.parametrize("broken", ["upload_part", "complete_multipart_upload"])
def test_s3_fails_at_the_end(s3: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """An upload that is neither ended nor given up is kept, unseen, and S3 sends a bill for it."""
    from airflow_provider_posthog.storage.atomic_file import AtomicFile

    fs, client = s3
    ask = fs.call_s3

    def failing(method: str, *args: Any, **options: Any) -> Any:
        if method == broken and options.get("PartNumber", 2) > 1:
            raise OSError("the storage is away")
        return ask(method, *args, **options)

    def write() -> None:
        with AtomicFile(fs, "lake/big", token="t") as atomic:
            for _ in range(12):
                atomic.write(bytes(1024 * 1024))
            atomic.finish()

    monkeypatch.setattr(fs, "call_s3", failing)
    with pytest.raises(OSError, match="away"):
        write()
    assert "Contents" not in client.list_objects_v2(Bucket="lake")
    assert not client.list_multipart_uploads(Bucket="lake").get("Uploads")


# What PostHog writes where there are no rows, and what is not a file of PostHog's.

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.mark.parametrize("columns", [["event"], ["event", "uuid"], None])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_an_empty_export_keeps_no_row_of_nothing(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, columns: Any, compression: Any
) -> None:
    export_id = make_export(EMPTY, columns=columns)
    found = fetch(export_id, f"{tmp_path}/a.csv", compression=compression)
    data = (tmp_path / "a.csv").read_bytes()
    data = gzip.decompress(data) if compression else data
    assert found["rows"] == 0
    assert data == (",".join(columns).encode() + b"\r\n" if columns else b"")


@pytest.mark.parametrize("columns", [["event", "uuid"], None])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_an_empty_workbook_keeps_no_row_of_nothing(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, columns: Any, compression: Any
) -> None:
    import io

    import openpyxl

    found = fetch(make_export(EMPTY, columns=columns, export_format=XLSX), f"{tmp_path}/a", compression=compression)
    data = (tmp_path / "a").read_bytes()
    book = openpyxl.load_workbook(io.BytesIO(gzip.decompress(data) if compression else data))
    assert found["rows"] == 0
    assert [row for row in book.worksheets[0].iter_rows(values_only=True) if any(row)] == (
        [tuple(columns)] if columns else []
    )


def test_a_workbook_of_one_row_keeps_it(make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path) -> None:
    export_id = make_export("SELECT 1 AS n, 'x' AS s LIMIT 5", columns=["n", "s"], export_format=XLSX)
    assert fetch(export_id, f"{tmp_path}/a.xlsx")["rows"] == 1


WRONG = {
    "XML": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    "bare XML": b"<Error><Code>NoSuchKey</Code></Error>",
    "a page": b"  <!DOCTYPE html><html></html>",
    "JSON": b'{"detail": "no"}',
    "a list": b'[{"a": 1}]',
}


@pytest.mark.parametrize("kind", ["text/csv", XLSX, "image/png", "image/gif", "video/mp4", "video/webm"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_of_the_storage_becomes_no_file(kind: str, wrong: str) -> None:
    from airflow_provider_posthog.download.file_kinds import check_kind

    with pytest.raises(PostHogTransportError, match="first bytes"):
        check_kind(kind, WRONG[wrong], "the content of export 7")


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("text/csv", b"a,b\r\n<Error>,1"),
        ("text/csv", b'"{""a"": 1}",b'),
        ("text/csv", b"error\r\nNo data"),
        (XLSX, b"PK\x03\x04.."),
        ("image/png", b"\x89PNG\r\n\x1a\n..."),
        ("video/mp4", b"\x00\x00\x00\x20ftypisom"),
        ("video/webm", b"\x1a\x45\xdf\xa3.."),
        ("image/gif", b"GIF89a"),
        ("something/new", b"<Error>"),
    ],
)
def test_files_of_their_kinds_are_let_through(kind: str, head: bytes) -> None:
    from airflow_provider_posthog.download.file_kinds import check_kind

    check_kind(kind, head, "the content of export 7")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_storage_that_answers_200_with_an_error_leaves_nothing(
    make_export: MakeExport, connection: EmulatorProcess, tmp_path: Path, wrong: str
) -> None:
    export_id = make_export(TEN)
    headers = {"Content-Type": "application/octet-stream"}
    connection.faults(path="*/content/", status=200, body=WRONG[wrong].decode(), headers=headers, count=-1)
    with pytest.raises(PostHogTransportError):
        fetch(export_id, f"{tmp_path}/a.csv")
    assert names(tmp_path) == []
