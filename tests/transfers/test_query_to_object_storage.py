"""Every row of an interval into files, once, whatever happens on the way."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from airflow_provider_posthog.compat import Asset
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.operators.support import context, make_dag, rows_of_database, task_states, when, xcoms
from tests.transfers.choosing import source_in

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach


MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def day(ago: float) -> str:
    return (MIDNIGHT - timedelta(days=ago)).isoformat()


def operator(path: Path | str, **options: Any) -> Any:
    given = {"start": day(5), "end": day(2), "page_rows": 500, "settle": timedelta(0)}
    return PostHogQueryToObjectStorageOperator(
        task_id="task", path=str(path), **{**source_in(options), **given, **options}
    )


def table_of(folder: Path) -> Any:
    """All rows of the files that the manifests list."""
    tables = []
    for manifest in sorted((folder / "_manifests").glob("*.json")):
        for file in json.loads(manifest.read_text())["files"]:
            tables.append(parquet.ParquetFile(folder / file["path"]).read())
            assert tables[-1].num_rows == file["rows"]
    return pa.concat_tables(tables)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_events(connection: EmulatorProcess, tmp_path: Path) -> None:
    found = operator(tmp_path).execute(context())
    assert json.loads(json.dumps(found)) == found
    table = table_of(tmp_path)
    assert found["rows"] == table.num_rows == connection.count_events(day(5), day(2), "created_at") > 1000
    assert len(set(table["uuid"].to_pylist())) == table.num_rows
    assert len(everything(tmp_path)) == 2


def rows_of(found: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder of JSON lines or CSV."""
    rows: list[dict[str, Any]] = []
    for file in json.loads(Path(found["manifest"]).read_text())["files"]:
        path = folder / file["path"]
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if path.suffix == ".zst":
            content = pa.input_stream(pa.BufferReader(content), compression="zstd").read()
        if ".jsonl" in path.name:
            rows += [json.loads(line) for line in content.decode().splitlines()]
        else:
            rows += csv.DictReader(io.StringIO(content.decode(), newline=""))
    return rows


@pytest.mark.parametrize(
    ("format", "compression", "suffix"),
    [("jsonl", None, ".jsonl.gz"), ("jsonl", "none", ".jsonl"), ("csv", "zstd", ".csv.zst"), ("csv", "none", ".csv")],
)
def test_formats(connection: EmulatorProcess, tmp_path: Path, format: Any, compression: Any, suffix: str) -> None:
    span = {"start": day(3), "end": day(2), "columns": ["uuid", "timestamp", "properties", "event"]}
    operator(tmp_path / "a", **span).execute(context())
    found = operator(tmp_path / "b", format=format, compression=compression, **span).execute(context())
    assert [name.endswith((suffix, ".json")) for name in everything(tmp_path / "b")] == [True, True]
    rows = rows_of(found, tmp_path / "b")
    expected = table_of(tmp_path / "a").to_pylist()
    assert len(rows) == found["rows"] == len(expected) > 100
    for row, wanted in zip(rows, expected, strict=True):
        assert list(row) == list(wanted)
        assert (row["uuid"], row["event"]) == (wanted["uuid"], wanted["event"])
        assert datetime.fromisoformat(row["timestamp"].replace("Z", "+00:00")) == wanted["timestamp"]
        properties = row["properties"] if format == "jsonl" else json.loads(row["properties"])
        assert properties == json.loads(wanted["properties"])


def test_text_stays_text_on_request(connection: EmulatorProcess, tmp_path: Path) -> None:
    span = {"start": day(3), "end": day(2), "format": "jsonl", "json_columns": []}
    rows = rows_of(operator(tmp_path, **span).execute(context()), tmp_path)
    assert all(isinstance(json.loads(row["properties"]), dict) for row in rows)


@pytest.mark.parametrize("by", ["day", "hour", "event"])
def test_partitions(connection: EmulatorProcess, tmp_path: Path, by: str) -> None:
    operator(tmp_path / "whole").execute(context())
    options = {"partition_by": by, "partition_time": "timestamp"}
    operator(tmp_path / "parts", **options).execute(context())
    expected = {row["uuid"]: row for row in table_of(tmp_path / "whole").to_pylist()}
    (manifest,) = (tmp_path / "parts" / "_manifests").glob("*.json")
    seen = set()
    for file in json.loads(manifest.read_text())["files"]:
        rows = parquet.ParquetFile(tmp_path / "parts" / file["path"]).read().to_pylist()
        for row in rows:
            whole = expected[row["uuid"]]
            seen.add(row["uuid"])
            if by == "event":
                assert "event" not in row
                assert file["partition"] == {"event": whole["event"]}
            else:
                names = {"date": f"{whole['timestamp']:%Y-%m-%d}", "hour": f"{whole['timestamp']:%H}"}
                assert file["partition"] == {name: names[name] for name in file["partition"]}
                assert file["path"].startswith("".join(f"{k}={v}/" for k, v in file["partition"].items()))
    assert seen == set(expected)
    import pyarrow.dataset as ds

    read = ds.dataset(tmp_path / "parts", format="parquet", partitioning="hive").to_table()
    assert read.num_rows == len(expected), "readers that glob see the rows, and not the manifests"


def test_sizes(connection: EmulatorProcess, tmp_path: Path) -> None:
    found = operator(tmp_path, max_file_rows=700).execute(context())
    counts = [file["rows"] for file in json.loads(Path(found["manifest"]).read_text())["files"]]
    assert len(counts) == found["files"] > 1
    assert all(700 <= count <= 1050 for count in counts[:-1])
    assert len(set(table_of(tmp_path)["uuid"].to_pylist())) == found["rows"]


def test_again_replaces_its_own_interval_only(connection: EmulatorProcess, tmp_path: Path) -> None:
    uuid = "01a20000-0000-7000-8000-0000000fe001"
    operator(tmp_path, start=day(2), end=day(1)).execute(context(run_id="b"))
    before = everything(tmp_path)
    operator(tmp_path, max_file_rows=500).execute(context())
    connection.add_events([event(uuid, day(4), day(3.5))])
    again = operator(tmp_path).execute(context(run_id="again"))
    after = everything(tmp_path)
    assert set(before) < set(after)
    assert len(after) == len(before) + 2
    assert uuid in table_of(tmp_path)["uuid"].to_pylist()
    assert again["rows"] == connection.count_events(day(5), day(2), "created_at")


def event(uuid: str, happened: str, came: str) -> dict[str, object]:
    return {
        "uuid": uuid,
        "event": "late",
        "distinct_id": "user-1",
        "person_id": "01a20000-0000-7000-8000-00000000aaaa",
        "timestamp": happened,
        "created_at": came,
        "properties": {"a": '\u2028\n"é', "b": [1, None]},
    }


def test_look_back(connection: EmulatorProcess, tmp_path: Path) -> None:
    """Late events of intervals that were read are found again."""
    for ago in (5, 4, 3):
        operator(tmp_path, time_column="timestamp", start=day(ago), end=day(ago - 1)).execute(context(run_id=str(ago)))
    late = [event(f"01a20000-0000-7000-8000-0000000ff00{ago}", day(ago - 0.5), day(1)) for ago in (5, 4, 3)]
    connection.add_events(late)
    span = {"time_column": "timestamp", "start": day(2), "end": day(1)}
    found = operator(tmp_path, look_back=timedelta(days=2), **span).execute(context())
    assert (found["again"], found["rows"]) == (2, connection.count_events(day(2), day(1)))
    uuids = table_of(tmp_path)["uuid"].to_pylist()
    assert [one["uuid"] in uuids for one in late] == [False, True, True]
    assert len(set(uuids)) == len(uuids) == connection.count_events(day(5), day(1)) - 1


def test_look_back_completes_a_session_over_the_edge_of_its_interval(
    connection: EmulatorProcess, tmp_path: Path
) -> None:
    """A session that still went on when its interval was read is read again by the next run, as a whole."""
    session, uuids = str(uuid4()), iter(range(100))

    def page(ago: float) -> dict[str, object]:
        made = event(f"01a20000-0000-7000-8000-0000000fb0{next(uuids):02}", day(ago), day(ago))
        return {**made, "event": "$pageview", "properties": {"$session_id": session}}

    def seen() -> list[tuple[Any, ...]]:
        rows = table_of(tmp_path).to_pylist()
        return [(row["$pageview_count"], row["$session_duration"]) for row in rows if row["session_id"] == session]

    minute = 1 / 24 / 60
    connection.add_events([page(3 + 10 * minute), page(3 + 2 * minute)])
    options = {
        "source": "sessions",
        "columns": ["session_id", "$start_timestamp", "$pageview_count", "$session_duration"],
    }
    operator(tmp_path, start=day(4), end=day(3), **options).execute(context(run_id="first"))
    assert seen() == [(2, 480)]
    connection.add_events([page(3 - 30 * minute)])
    span = {"start": day(3), "end": day(2), "look_back": timedelta(days=1)}
    found = operator(tmp_path, **span, **options).execute(context(run_id="second"))
    assert found["again"] == 1
    assert seen() == [(3, 2400)], "once, with all of its pages"


def test_nothing_there(connection: EmulatorProcess, tmp_path: Path) -> None:
    found = operator(tmp_path, start="2001-01-01T00:00:00Z", end="2001-01-02T00:00:00Z").execute(context())
    assert (found["rows"], found["files"], found["bytes"]) == (0, 0, 0)
    (manifest,) = (tmp_path / "_manifests").glob("*.json")
    assert ["uuid", "string"] in json.loads(manifest.read_text())["schema"]
    assert len(everything(tmp_path)) == 1


@pytest.mark.parametrize(
    ("options", "sql"),
    [
        ({"source": "persons"}, "SELECT count() FROM persons"),
        ({"source": "sessions", "start": day(40), "end": day(0)}, "SELECT count() FROM sessions"),
        ({"source": "groups"}, "SELECT count() FROM groups"),
        (
            {"query": "SELECT event, uuid AS id, timestamp AS at FROM events WHERE event = {e}", "key": "id",
             "time_column": "at", "values": {"e": "$pageview"}, "start": day(40), "end": day(0)},
            "SELECT count() FROM events WHERE event = '$pageview' AND timestamp < today()",
        ),
    ],
)  # fmt: skip
def test_other_tables(connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any], sql: str) -> None:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    found = operator(tmp_path, **options).execute(context())
    counted = PostHogHook().get_first(sql)
    assert counted is not None
    assert found["rows"] == table_of(tmp_path).num_rows == counted[0] > 0


def test_a_retry_goes_on_behind_the_finished_files(connection: EmulatorProcess, tmp_path: Path) -> None:
    options = {"max_file_rows": 300, "max_in_flight": 1, "page_rows": 100}
    connection.faults(method="POST", path="*/query/", status=400, body={"detail": "no"}, skip=18, count=-1)
    with pytest.raises(Exception, match="400"):
        operator(tmp_path, **options).execute(context())
    staged = [name for name in everything(tmp_path) if name.endswith(".part")]
    assert len(staged) > 1
    assert not (tmp_path / "_manifests").exists()
    connection.clear_faults()
    asked = len(connection.calls("/query/", "POST"))
    found = operator(tmp_path, **options).execute(context(try_number=2))
    resumed = len(connection.calls("/query/", "POST")) - asked
    assert found["rows"] == len(set(table_of(tmp_path)["uuid"].to_pylist()))
    assert found["rows"] == connection.count_events(day(5), day(2), "created_at")
    assert len(everything(tmp_path)) == found["files"] + 1
    operator(tmp_path / "other", **options).execute(context())
    assert resumed < len(connection.calls("/query/", "POST")) - asked - resumed


def test_told_to_stop(connection: EmulatorProcess, tmp_path: Path) -> None:
    task: Any = operator(tmp_path, max_in_flight=1, page_rows=50)
    stopper = threading.Timer(0.5, task.on_kill)
    connection.faults(method="POST", path="*/query/", delay=0.1, count=-1)
    stopper.start()
    with pytest.raises(Stopped):
        task.execute(context())
    stopper.join()


def test_s3(connection: EmulatorProcess, s3: tuple[Any, Any]) -> None:
    fs, client = s3
    attach("s3", conn_id="lake_conn", fs=fs)
    for run_id in ("one", "two"):
        task = operator("s3://lake/events/", object_storage_conn_id="lake_conn", partition_by="day", max_file_rows=900)
        found = task.execute(context(run_id=run_id))
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="lake")["Contents"]]
    assert len(keys) == found["files"] + 1
    manifest = json.loads(
        client.get_object(Bucket="lake", Key="events/" + found["manifest"].split("/events/")[1])["Body"].read()
    )
    for file in manifest["files"]:
        content = client.get_object(Bucket="lake", Key=f"events/{file['path']}")["Body"].read()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert parquet.read_metadata(io.BytesIO(content)).num_rows == file["rows"]
    assert found["rows"] == connection.count_events(day(5), day(2), "created_at")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"source": "people"}, "source"),
        ({"source": "query"}, "source"),
        ({"source": "events", "query": "SELECT 1", "key": "a"}, "source"),
        ({"query": "SELECT 1"}, "key"),
        ({"query": "SELECT 1; SELECT 2", "key": "a"}, "query"),
        ({"source": "persons", "events": "x"}, "events"),
        ({"source": "sessions", "time_column": "timestamp"}, "time_column"),
        ({"time_column": "uuid"}, "time_column"),
        ({"source": "cohort_members", "cohort_id": "x"}, "cohort_id"),
        ({"cohort_id": 1}, "cohort_id"),
        ({"path": ""}, "path"),
        ({"format": "orc"}, "format"),
        ({"compression": "lzma"}, "compression"),
        ({"format": "csv", "compression": "brotli"}, "compression"),
        ({"max_file_rows": 0}, "max_file_rows"),
        ({"settle": 5}, "settle"),
        ({"look_back": timedelta(-1)}, "look_back"),
        ({"source": "persons", "look_back": timedelta(1)}, "look_back"),
        ({"page_rows": 0}, "page_rows"),
        ({"end": day(-1)}, "end"),
        ({"start": "1960-01-01T00:00:00Z"}, "start"),
        ({"scan_back": timedelta.max}, "scan_back"),
        ({"query": "SELECT 1 AS a", "key": 5}, "key"),
        ({"name": "a/b"}, "name"),
        ({"partition_by": ["day", 5]}, "partition_by"),
        ({"partition_by": []}, "partition_by"),
        ({"partition_zone": "Mars"}, "partition_zone"),
        ({"partition_zone": 5}, "partition_zone"),
        ({"row_group_rows": 0}, "row_group_rows"),
        ({"partition_by": {"day": 1}}, "partition_by"),
        ({"partition_by": 5}, "partition_by"),
        ({"partition_by": " "}, "partition_by"),
        ({"json_columns": "properties"}, "json_columns"),
    ],
)
def test_what_is_refused(connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any], field: str) -> None:
    given = {"path": tmp_path, **options}
    with pytest.raises(PostHogSettingsError) as refused:
        operator(given.pop("path"), **given).execute(context())
    assert refused.value.field == field
    assert connection.calls("/query/", "POST") == []


def test_days_and_events_are_folders_in_folders(connection: EmulatorProcess, tmp_path: Path) -> None:
    import duckdb

    task = operator(
        tmp_path, partition_by=["day", "event"], partition_zone="Asia/Kathmandu", row_group_rows=10, max_file_rows=1_000
    )
    found = task.execute(context())
    rows = f"read_parquet('{tmp_path}/date=*/event=*/*.parquet', hive_partitioning = true)"
    sql = f"""SELECT count(*), count(DISTINCT event) > 3,
        bool_and(strftime(created_at + INTERVAL 345 MINUTE, '%Y-%m-%d') = date::VARCHAR) FROM {rows}"""
    with duckdb.connect() as lake:
        lake.execute("SET TimeZone = 'UTC'")
        assert lake.execute(sql).fetchone() == (found["rows"], True, True)


@pytest.mark.parametrize(
    "options",
    [
        {"partition_by": "nope"},
        {"partition_by": ["day", "nope"]},
        {"partition_by": "snapshot"},
        {"partition_by": "day", "partition_time": "event"},
    ],
)
def test_partitions_that_can_not_be(connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        operator(tmp_path, **options).execute(context())
    assert refused.value.field == "partition_by"


def test_the_data_interval_and_assets(connection: EmulatorProcess, tmp_path: Path) -> None:
    told = SimpleNamespace(extra={})
    task: Any = operator(tmp_path, start=None, end=None)
    task.outlets = [SimpleNamespace(uri="s3://lake/events")]
    span = {"data_interval_start": MIDNIGHT - timedelta(days=3), "data_interval_end": MIDNIGHT - timedelta(days=2)}

    class Events:
        def __getitem__(self, asset: object) -> SimpleNamespace:
            return told

    ctx = {**context(), **span, "outlet_events": Events()}
    found = task.execute(ctx)
    assert told.extra["rows"] == found["rows"] == connection.count_events(day(3), day(2), "created_at")
    assert ctx["ti"].pushed["_link_PostHogLink"].endswith("/sql")


def test_both_ways_in_a_dag(connection: EmulatorProcess, tmp_path: Path, run_dag: Any) -> None:
    """Templates, assets and deferring as Airflow does them; both ways find the same rows."""
    connection.settings(file_download_seconds=0, file_listing_seconds=0)
    span: dict[str, Any] = {"start": "{{ params.start }}", "end": "{{ params.end }}"}

    def fill() -> None:
        PostHogQueryToObjectStorageOperator(
            task_id="query",
            path=f"{tmp_path}/{{{{ params.source }}}}",
            source="{{ params.source }}",
            outlets=[Asset("s3://lake/events")],
            **span,
        )
        PostHogFileDownloadOperator(
            task_id="download", path=f"{tmp_path}/files", deferrable=True, poll_interval=0.1, **span
        )

    params = {"start": day(5), "end": day(2), "source": "events"}
    run = run_dag(make_dag("both_ways", fill, params=params), **when(MIDNIGHT))
    assert task_states(run) == {"query": "success", "download": "success"}
    found = xcoms(run)
    rows = found["query", -1, "return_value"]["rows"]
    assert rows == found["download", -1, "return_value"]["rows"] == table_of(tmp_path / "events").num_rows > 1000
    if rows_of_database("SELECT name FROM sqlite_master WHERE name = 'asset_event'"):  # 2.11's test() keeps no events
        ((extra,),) = rows_of_database("SELECT extra FROM asset_event WHERE source_dag_id = 'both_ways'")
        assert (json.loads(extra)["rows"], json.loads(extra)["files"]) == (rows, 1)
    (downloaded,) = (tmp_path / "files").glob("*.parquet")
    uuids = [
        sorted(table["uuid"].to_pylist()) for table in (table_of(tmp_path / "events"), parquet.read_table(downloaded))
    ]
    assert uuids[0] == uuids[1]
