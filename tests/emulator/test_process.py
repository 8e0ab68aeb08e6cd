"""The command line and the process that Python starts."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from tests.emulator.client import Client, hogql, wait_for

COMMAND = [sys.executable, "-m", "airflow_provider_posthog.emulator"]


def test_ready_line_and_stop() -> None:
    process = EmulatorProcess(events=500, seed=3, start="2026-01-01", days=2, export_seconds=0, timezone="Asia/Tokyo")
    with process:
        api = Client(process.url, process.api_key)
        assert (process.project_id, process.api_key[:4], process.project_token[:4]) == (1, "phx_", "phc_")
        assert process.url.startswith("http://127.0.0.1:")
        assert process.count_events("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z") == 500
        assert api.get("/api/projects/1/").json()["api_token"] == process.project_token
        assert api.get("/api/projects/1/").json()["timezone"] == "Asia/Tokyo"
        connection = json.loads(process.airflow_connection_json(read_timeout=5))
        assert connection == {
            "conn_type": "posthog",
            "host": process.url,
            "password": process.api_key,
            "extra": {"project_id": 1, "read_timeout": 5},
        }
    assert process.returncode == 0
    assert process.stderr() == ""


def test_equal_seeds_are_equal() -> None:
    found = []
    for _ in range(2):
        with EmulatorProcess(events=200, seed=11, start="2026-01-01", days=2) as process:
            api = Client(process.url, process.api_key)
            rows = api.query("select uuid, event, timestamp, properties from events order by toString(uuid)").json()
            insights = [each["short_id"] for each in api.get("insights/").json()["results"]]
            found.append((process.api_key, process.project_token, rows["results"], insights))
    assert found[0] == found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_at_once_even_with_work_to_do(number: int) -> None:
    process = EmulatorProcess(events=100)
    process.start()
    api = Client(process.url, process.api_key)
    process.settings(create_blocks=True, export_seconds=1000)
    body = {"export_format": "text/csv", "export_context": {"source": hogql("select 1")}}

    outcome: list[object] = []

    def create() -> None:
        try:
            outcome.append(api.post("exports/", body).status_code)
        except requests.ConnectionError as error:
            outcome.append(type(error))

    waiting = threading.Thread(target=create)
    waiting.start()
    wait_for(lambda: process.stats()["exports"]["running"] == 1)
    began = time.monotonic()
    assert process._process is not None
    process._process.send_signal(number)
    assert process._process.wait(10) == 0
    assert time.monotonic() - began < 8
    waiting.join(10)
    process.stop()
    assert outcome == [requests.ConnectionError], "whoever waits is cut off, not answered"


def test_a_killed_one_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what TMPDIR was is kept there
    process = EmulatorProcess(events=10)
    process.start()
    assert list(tmp_path.rglob("clickhouse-embedded-*"))
    assert process._process is not None
    process._process.kill()
    process._process.wait(10)
    process.stop()
    assert not list(tmp_path.iterdir())


def test_it_does_not_outlive_the_process_that_started_it() -> None:
    code = (
        "import os; from airflow_provider_posthog.emulator.process import EmulatorProcess;"
        "p = EmulatorProcess(events=10); p.start(); print(p.url, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 9
    port = int(done.stdout.strip().rpartition(":")[2])

    def gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    assert wait_for(gone)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "99999"], "'99999' is not a port"),
        (["--events", "many"], "'many' is not a number"),
        (["--days", "0"], "not a number of days"),
        (["--start", "1.1.2026"], "write YYYY-MM-DD"),
        (["--timezone", "Mars"], "not an IANA time zone"),
        (["--export-seconds", "-1"], "write seconds, 0 or more"),
        (["--nothing"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments(arguments: list[str], text: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stdout == ""


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = EmulatorProcess(events=10, port=taken.getsockname()[1])
        with pytest.raises(EmulatorError, match="cannot listen"):
            process.start()


def test_starts_with_little_work() -> None:
    """Under 3 s of the processor: on a busy machine the clock tells nothing."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    with EmulatorProcess():
        pass
    assert spent() - before < 3


def test_importing_it_costs_little() -> None:
    code = (
        "import sys, airflow_provider_posthog.emulator.process, airflow_provider_posthog.emulator.pytest_plugin;"
        "heavy = {'airflow', 'aiohttp', 'chdb', 'sqlglot', 'openpyxl', 'pandas', 'requests', 'httpx'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_server_knows_nothing_of_the_rest() -> None:
    code = (
        "import sys, airflow_provider_posthog.emulator.http.server, airflow_provider_posthog.emulator.__main__;"
        "ours = [m for m in sys.modules if m.startswith('airflow_provider_posthog')];"
        "print([m for m in ours if '.' in m and not m.startswith('airflow_provider_posthog.emulator')],"
        "'airflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[] False", done.stderr
