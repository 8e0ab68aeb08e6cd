"""Rows into files by tries that are killed and killed again: exact rows, and nothing left over."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.transfers.killing import Tries
from tests.transfers.test_query_to_object_storage import day, everything, table_of

pytestmark = pytest.mark.reliability


def kill_often(tries: Tries, options: dict[str, Any], kills: int, table: Callable[[], pa.Table]) -> dict[str, Any]:
    """Kill tries of a task whose interval was written before; who reads by manifest always sees all of it."""
    given = {
        "source": "events", "start": day(3), "end": day(2), "page_rows": 100, "max_file_rows": 100,
        "partition_time": "timestamp", **options
    }  # fmt: skip
    began = time.monotonic()
    before = tries.run(given, run_id="before")
    took = time.monotonic() - began
    assert before is not None
    assert before["rows"] > 600

    def check() -> None:
        seen = table()
        assert seen.num_rows == len(set(seen["uuid"].to_pylist())) == before["rows"], "half of it is seen"

    again = tries.kill_often(given, took, kills, check)
    check()
    assert again["rows"] == before["rows"]
    return again


@pytest.mark.parametrize(("partition_by", "kills"), [(None, 20), ("hour", 10)])
def test_many_times_at_any_moment(
    connection: EmulatorProcess, tmp_path: Path, partition_by: str | None, kills: int
) -> None:
    lake = tmp_path / "lake"
    with Tries(PostHogQueryToObjectStorageOperator, connection.airflow_connection_json(), tmp_path) as tries:
        found = kill_often(tries, {"path": str(lake), "partition_by": partition_by}, kills, lambda: table_of(lake))
    assert len(everything(lake)) == found["files"] + 1


def test_on_s3(
    connection: EmulatorProcess, s3: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.transfers.on_s3 import ADDRESS, OnS3  # slow to import

    _, client = s3
    monkeypatch.setenv(ADDRESS, client.meta.endpoint_url)

    def content(key: str) -> bytes:
        body: bytes = client.get_object(Bucket="lake", Key=f"events/{key}")["Body"].read()
        return body

    def keys() -> list[str]:
        found = client.list_objects_v2(Bucket="lake")["Contents"]
        return [one["Key"].removeprefix("events/") for one in found]

    def table() -> pa.Table:
        (manifest,) = [json.loads(content(key)) for key in keys() if key.startswith("_manifests/")]
        return pa.concat_tables([parquet.read_table(io.BytesIO(content(one["path"]))) for one in manifest["files"]])

    options = {
        "path": "s3://lake/events", "object_storage_conn_id": "lake_conn", "page_rows": 250, "max_file_rows": 200
    }  # fmt: skip
    with Tries(OnS3, connection.airflow_connection_json(), tmp_path) as tries:
        found = kill_often(tries, options, 4, table)
    assert len(keys()) == found["files"] + 1
