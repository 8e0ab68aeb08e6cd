"""File downloads: from the request over the worker to real files behind signed addresses."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, bare, hogql, wait_for

ALL = "file_download_batch_exports/"


def _moment(days: float) -> str:
    midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wish(file: object = None, **more: object) -> dict[str, object]:
    interval = {"data_interval_start": _moment(3), "data_interval_end": _moment(2)}
    return {"model": "events", **interval, **({} if file is None else {"file": file}), **more}


def _start(api: Client, file: object = None, **more: object) -> str:
    answer = api.post(ALL, _wish(file, **more))
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"id"}
    return f"{ALL}{answer.json()['id']}/"


def _done(api: Client, path: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(path).json()
        return None if found["status"] in ("Starting", "Running") else found

    return wait_for(look)


def _contents(api: Client, path: str) -> list[bytes]:
    found = []
    for name in _done(api, path)["files"]:
        answer = api.get(f"{path}download/{name}/")
        assert answer.status_code == 302, answer.text
        file = bare(answer.headers["Location"])
        assert file.status_code == 200
        found.append(file.content)
    return found


def _lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().splitlines()]


@pytest.fixture
def quick(posthog: EmulatorProcess) -> EmulatorProcess:
    posthog.settings(file_download_seconds=0, file_listing_seconds=0)
    return posthog


def _read_parquet(content: bytes, tmp_path: Path) -> dict[str, Any]:
    """Read a file with ClickHouse in a process of its own: each process has room for one."""
    file = tmp_path / "read.parquet"
    file.write_bytes(content)
    sql = (
        f"SELECT count() AS n, uniqExact(uuid) AS uuids, toString(min(created_at)) AS first, "
        f"toTypeName(any(timestamp)) AS kind, any(properties) AS properties FROM file('{file}', Parquet)"
    )
    code = f"import chdb; print(chdb.query({sql!r}, 'JSONEachRow').bytes().decode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True, text=True)
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.parametrize("compression", ["zstd", "snappy", None])
def test_parquet(api: Client, quick: EmulatorProcess, tmp_path: Path, compression: str | None) -> None:
    path = _start(api, {"format": "Parquet", "compression": compression})
    contents = _contents(api, path)
    assert len(contents) == 1
    assert contents[0][:4] == contents[0][-4:] == b"PAR1"
    expected = quick.count_events(_moment(3), _moment(2), "created_at")
    read = _read_parquet(contents[0], tmp_path)
    assert int(read["n"]) == int(read["uuids"]) == expected == _done(api, path)["records_completed"] > 100
    assert read["first"] >= _moment(3)[:10]
    assert "DateTime64(6, 'UTC')" in read["kind"]
    assert isinstance(json.loads(read["properties"]), dict)


def test_json_lines(api: Client, quick: EmulatorProcess) -> None:
    plain = _contents(api, _start(api, {"format": "JSONLines"}))[0]
    packed = _contents(api, _start(api, {"format": "JSONLines", "compression": "gzip"}))[0]
    assert gzip.decompress(packed) == plain
    rows = _lines(plain)
    assert len(rows) == quick.count_events(_moment(3), _moment(2), "created_at")
    sql = "select uuid, event, distinct_id, properties, timestamp, person_id from events where uuid = {uuid}"
    known = api.query(sql, uuid=rows[7]["uuid"]).json()["results"][0]
    names = ("uuid", "event", "distinct_id")
    assert [rows[7][name] for name in names] == known[:3]
    assert rows[7]["properties"] == json.loads(known[3])
    assert datetime.fromisoformat(rows[7]["timestamp"]) == datetime.fromisoformat(known[4].replace("Z", "+00:00"))
    assert rows[7]["person_id"] == known[5]
    assert isinstance(rows[7]["person_properties"], dict)


def test_events_are_chosen_by_when_they_came(api: Client, quick: EmulatorProcess) -> None:
    came = _moment(2.5)
    late: dict[str, object] = {
        "uuid": "01a20000-0000-7000-8000-00000000abcd",
        "event": "late",
        "distinct_id": "user-1",
        "person_id": "01a20000-0000-7000-8000-00000000aaaa",
        "timestamp": _moment(20),
        "created_at": came,
        "properties": {"text": 'quoted "x" \\ ü\n', "nested": {"list": [1, None]}},
    }
    quick.add_events([late])
    rows = _lines(_contents(api, _start(api, {"format": "JSONLines"}, include=["late"]))[0])
    found = [row for row in rows if row["uuid"] == late["uuid"]]
    assert len(found) == 1
    assert found[0]["properties"] == late["properties"]
    day = {"data_interval_start": _moment(20), "data_interval_end": _moment(19)}
    assert _done(api, _start(api, include=["late"], **day))["files"] == []


def test_include_and_exclude(api: Client, quick: EmulatorProcess) -> None:
    everything = {row["event"] for row in _lines(_contents(api, _start(api, {"format": "JSONLines"}))[0])}
    assert len(everything) > 2
    some = _lines(_contents(api, _start(api, {"format": "JSONLines"}, include=["$pageview", "purchase"]))[0])
    assert {row["event"] for row in some} == {"$pageview", "purchase"}
    others = _lines(_contents(api, _start(api, {"format": "JSONLines"}, exclude=["$pageview"]))[0])
    assert {row["event"] for row in others} == everything - {"$pageview"}


@pytest.mark.parametrize("model", ["persons", "sessions"])
def test_other_models(api: Client, quick: EmulatorProcess, model: str) -> None:
    span = {"data_interval_start": _moment(6), "data_interval_end": _moment(0)}
    if model == "persons":
        first = api.query("select min(created_at) from persons").json()["results"][0][0]
        start = datetime.fromisoformat(first.replace("Z", "+00:00"))
        span = {"data_interval_start": start.isoformat(), "data_interval_end": (start + timedelta(days=7)).isoformat()}
    rows = _lines(_contents(api, _start(api, {"format": "JSONLines"}, model=model, **span))[0])
    assert rows
    assert set(rows[0]) >= ({"person_id", "properties"} if model == "persons" else {"session_id", "start_timestamp"})


def test_many_files_together_have_every_row_once(api: Client, quick: EmulatorProcess) -> None:
    whole = _lines(_contents(api, _start(api, {"format": "JSONLines"}))[0])
    quick.settings(rows_per_file=100)
    path = _start(api, {"format": "JSONLines"})
    parts = [_lines(content) for content in _contents(api, path)]
    assert len(parts) == -(-len(whole) // 100)
    assert [row for part in parts for row in part] == whole
    last = len(parts) - 1
    by_number = api.get(f"{path}download/{last}/").headers["Location"]
    assert _lines(bare(by_number).content) == parts[last]
    assert _lines(bare(api.get(f"{path}download/").headers["Location"]).content) == parts[0]
    for unknown in (last + 1, "not-a-file"):
        assert api.get(f"{path}download/{unknown}/").status_code == 404


def test_files_have_a_largest_size(api: Client, quick: EmulatorProcess) -> None:
    week = {"data_interval_start": _moment(7), "data_interval_end": _moment(0)}
    many = _done(api, _start(api, {"format": "JSONLines", "max_size_mb": 1}, **week))["files"]
    one = _done(api, _start(api, {"format": "JSONLines", "max_size_mb": 0}, **week))["files"]
    assert (len(many) > 1, len(one)) == (True, 1)


def test_done_shows_as_running_until_the_files_are_listed(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(file_download_seconds=100, file_listing_seconds=50)
    path = _start(api)
    assert api.get(path).json() == {
        "id": path.split("/")[1],
        "status": "Starting",
        "files": [],
        "error": None,
        "records_completed": None,
    }
    assert api.get(f"{path}download/").status_code == 400
    posthog.advance(30)
    assert api.get(path).json()["status"] == "Running"
    posthog.advance(71)
    assert api.get(path).json()["status"] == "Running"

    def look() -> list[str] | None:
        posthog.advance(10)
        found: list[str] = api.get(path).json()["files"]
        return found or None

    assert len(wait_for(look)) == 1


def test_no_data_is_no_file(api: Client, quick: EmulatorProcess) -> None:
    path = _start(api, data_interval_start="2001-01-01T00:00:00Z", data_interval_end="2001-01-02T00:00:00Z")
    done = _done(api, path)
    assert [done["status"], done["files"], done["records_completed"]] == ["Completed", [], 0]
    assert api.get(f"{path}download/").status_code == 404


@pytest.mark.parametrize("outcome", ["Failed", "FailedRetryable", "FailedBilling", "Terminated", "TimedOut"])
def test_failures(api: Client, quick: EmulatorProcess, outcome: str) -> None:
    quick.settings(file_download_outcome=outcome)
    path = _start(api)
    done = _done(api, path)
    assert (done["status"], done["files"]) == (outcome, [])
    assert done["error"]
    assert api.get(f"{path}download/0/").status_code == 400


def test_cancelled(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(file_download_seconds=1000)
    path = _start(api)
    assert api.post(f"{path}cancel/").json() == {"status": "Cancelled"}
    posthog.advance(2000)
    assert api.get(path).json()["status"] == "Cancelled"
    assert api.get(f"{path}download/").status_code == 400
    posthog.settings(file_download_seconds=0, file_listing_seconds=0)
    finished = _start(api)
    _done(api, finished)
    assert api.post(f"{finished}cancel/").json() == {"status": "Completed"}


def test_too_many_at_once(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(file_download_seconds=1000, max_file_downloads=2)
    first, _ = _start(api), _start(api)
    refused = api.post(ALL, _wish())
    assert (refused.status_code, refused.json()["type"]) == (429, "server_error")
    assert refused.json()["code"] == "too_many_concurrent_file_downloads"
    assert "Retry-After" not in refused.headers
    api.post(f"{first}cancel/")
    _start(api)
    assert [each["status"] for each in api.get(ALL).json()["results"]] == ["Starting", "Starting", "Cancelled"]


def test_files_and_their_addresses_expire(api: Client, quick: EmulatorProcess) -> None:
    path = _start(api)
    _done(api, path)
    address = api.get(f"{path}download/0/").headers["Location"]
    assert address.startswith(quick.storage_url)
    assert bare(address, headers={"Authorization": "Bearer x"}).status_code == 400, "two ways to authenticate"
    quick.advance(3601)
    assert bare(address).status_code == 403
    assert bare(api.get(f"{path}download/0/").headers["Location"]).status_code == 200
    quick.advance(7 * 24 * 3600)
    refused = api.get(f"{path}download/0/")
    assert (refused.status_code, "expired" in refused.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("change", "attr"),
    [
        ({"model": "groups"}, "model"),
        ({"file": {"format": "CSV"}}, "file__format"),
        ({"file": {"format": "JSONLines", "compression": "zstd"}}, "file__compression"),
        ({"file": {"max_size_mb": "big"}}, "max_size_mb"),
        ({"data_interval_start": None}, "data_interval_start"),
        ({"data_interval_end": "whenever"}, "data_interval_end"),
        ({"data_interval_end": "2999-01-01T00:00:00Z"}, "data_interval_end"),
        ({"data_interval_start": _moment(30)}, "data_interval_end"),
        ({"data_interval_start": _moment(1)}, "data_interval_start"),
        ({"include": "$pageview"}, "include"),
    ],
)
def test_what_is_refused(api: Client, change: dict[str, object], attr: str) -> None:
    refused = api.post(ALL, {**_wish(), **change})
    assert (refused.status_code, refused.json()["attr"]) == (400, attr)
    assert api.get(ALL).json()["count"] == 0


def test_scopes_and_old_servers(api: Client, quick: EmulatorProcess) -> None:
    path = _start(api)
    reader = Client(quick.url, quick.create_key(["batch_export:read"]))
    assert reader.get(path).status_code == 200
    assert reader.post(ALL, _wish()).status_code == 403
    assert reader.post(f"{path}cancel/").status_code == 403
    assert api.get(f"{ALL}unknown/").status_code == 404
    quick.settings(generation="A")
    assert api.post(ALL, _wish()).status_code == 404, "newer than that"


def test_the_rows_are_those_that_hogql_counts(api: Client, quick: EmulatorProcess) -> None:
    source = hogql(
        "select count() from events where created_at >= toDateTime({a}) and created_at < toDateTime({b})",
        a=_moment(3),
        b=_moment(2),
    )
    counted = api.post("query/", {"query": source}).json()["results"][0][0]
    assert _done(api, _start(api))["records_completed"] == counted
