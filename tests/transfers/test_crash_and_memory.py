"""What a killed process leaves behind, and how much memory a large file takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted import Reply, ScriptedServer, ok
from tests.support.waiting import wait_for

pytestmark = pytest.mark.reliability

EXPORT = {"id": 5, "export_format": "text/csv", "has_content": True, "filename": "x.csv", "export_context": None}

_TASK = """
import json, sys, threading
from types import SimpleNamespace
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator as Operator
from airflow_provider_posthog.download import csv_rows
from airflow_provider_posthog.download import http as download
from airflow_provider_posthog.storage import atomic_file as atomic

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, max_tries=1,
                     xcom_push=lambda **_: None)
operator = Operator(task_id="t", export_id=5, path=sys.argv[1], on_truncation="ignore")
operator.hook.settings()
before = peak()
found = operator.execute({"ti": ti})
print(json.dumps({**found, "grown_kib": peak() - before}))
"""


def start(url: str, path: Path) -> subprocess.Popen[bytes]:
    connection = {"conn_type": "posthog", "host": url, "password": "phx_0123456789", "extra": {"project_id": 1}}
    environment = {
        **os.environ,
        "AIRFLOW_CONN_POSTHOG_DEFAULT": json.dumps(connection),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(
        [sys.executable, "-c", _TASK, str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def answer_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_killed_in_the_middle(server: ScriptedServer, tmp_path: Path) -> None:
    data = b"a,b\r\n" + b"1,2\r\n" * 200_000
    target = tmp_path / "a.csv"
    with Stalling(data, len(data) // 2) as (url, release):
        server.script(ok(EXPORT), Reply(302, {"Location": url}))
        process = start(server.url, target)
        try:
            part_is_there = lambda: any(path.stat().st_size > 60_000 for path in tmp_path.glob(".a.csv.*.part"))  # noqa: E731
            wait_for(part_is_there, seconds=40, what="the part file")
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=10)
        assert not target.exists()
        (left,) = tmp_path.iterdir()
        assert left.name.endswith(".part")

        release.set()
        server.script(ok(EXPORT), Reply(302, {"Location": url}))
        assert answer_of(start(server.url, target))["rows"] == 200_000
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert target.read_bytes() == data


class Stalling:
    """A storage that stops in the middle of its file until it is released."""

    def __init__(self, data: bytes, at: int) -> None:
        release = self.release = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its head

            def do_GET(self) -> None:
                self.send_response_only(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:at])
                release.wait(60)
                self.wfile.write(data[at:])

            def log_message(self, format: str, *args: Any) -> None:
                """Stay silent."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Stay silent: the client was killed."""

        self.server = Server(("127.0.0.1", 0), Handler)

    def __enter__(self) -> tuple[str, threading.Event]:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}/file", self.release

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_memory_stays_flat(server: ScriptedServer, tmp_path: Path) -> None:
    """200 MB. The peak is that of the process itself: ``ru_maxrss`` would begin with what its parent has."""
    row = b'12345,"{""key"": ""value, and more of it"", ""other"": ""line\nend""}"\r\n'
    data = b"a,b\r\n" + row * (200_000_000 // len(row))
    server.script(ok(EXPORT), Reply(200, {"Content-Type": "text/csv"}, data))
    found = answer_of(start(server.url, tmp_path / "a.csv"))
    assert found["bytes"] == len(data)
    assert found["rows"] == 200_000_000 // len(row)
    assert found["grown_kib"] < 64 * 1024
