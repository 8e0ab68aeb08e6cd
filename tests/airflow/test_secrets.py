"""Keys, passwords, signatures and personal data stay out of logs, XComs, errors, templates, triggers and events."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.airflow.secrets_flow import CANARY, EMAIL

WRONG_KEY = "phx_wrongW4LZpAcXqQkC1dQ9vRkTn"
PROXY_PASSWORD = "proxy!Secret7"
AUDIT_SALT = "c157a79031e1c40f85931829bc5fc5528f3c1e0a7d24b6a90e5f4d3b2a1c0987"
SIGNATURE = r"X-Amz-Signature=[0-9a-f]{8}"
EXPECTED = {
    "lost_answer": "success",
    "failing": "failed",
    "failing_deferred": "failed",
    "good": "success",
    "fetched": "success",
    "missing_file": "failed",
    "proxied": "success",
    "proxied_deferred": "success",
    "wrong_key": "failed",
    "unknown": "failed",
    "waited": "success",
    "canary": "success",
}


@pytest.fixture(scope="module")
def traces(posthog_emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All that Airflow has written while many tasks ran: what was printed, its database, and its log files."""
    posthog_emulator.reset()
    home = tmp_path_factory.mktemp("airflow_home")
    conn = json.loads(posthog_emulator.airflow_connection_json(audit_secret=AUDIT_SALT))
    # The emulator reads a proxy's requests as its own. The password is percent-encoded in the proxy's address.
    proxy = f"http://user:proxy%21Secret7@{urlsplit(posthog_emulator.url).netloc}"
    proxied = {**conn, "extra": {**conn["extra"], "proxy": proxy}}
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{home}/logs",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW_CONN_POSTHOG_DEFAULT": json.dumps(conn),
        "AIRFLOW_CONN_POSTHOG_WRONG": json.dumps({**conn, "password": WRONG_KEY}),
        "AIRFLOW_CONN_POSTHOG_PROXIED": json.dumps(proxied),
        "POSTHOG_URL": posthog_emulator.url,
        "THE_KEY": posthog_emulator.api_key,
    }
    folder = str(tmp_path_factory.mktemp("landing"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.airflow.secrets_flow", folder],
        env=environment,
        capture_output=True,
        timeout=200,
    )
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, output[-3000:]
    (states,) = re.findall(r"^STATES (.*)$", output, re.MULTILINE)
    assert json.loads(states) == EXPECTED
    # dag.test() of Airflow 3 shows at DEBUG what it is told to mask, in a line of its own.
    lines = [line for line in output.splitlines() if "msg=MaskSecret(" not in line]
    found = {"output": "\n".join(lines)}
    for path in home.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(home))] = path.read_bytes().decode("latin-1")
    return found


def _where(traces: dict[str, str], pattern: str) -> list[str]:
    """Where a pattern stands, with what stands round it."""
    found = []
    for name, text in traces.items():
        for match in list(re.finditer(pattern, text))[:3]:
            found.append(f"{name}: ...{text[max(0, match.start() - 150) : match.end() + 30]}...")
    return found


def test_a_canary_would_be_found(traces: dict[str, str]) -> None:
    places = {place.split(":")[0] for place in _where(traces, CANARY)}
    assert {"output", "airflow.db"} <= places
    assert "DEBUG" in traces["output"].upper(), "nothing was logged at DEBUG"
    assert re.search(SIGNATURE, "/storage/x?X-Amz-Signature=0123456789abcdef")


@pytest.mark.parametrize(
    "secret", ["key", "wrong key", "proxy password", "quoted proxy password", "salt", "e-mail", "signature"]
)
def test_no_secret_is_left_anywhere(traces: dict[str, str], posthog_emulator: EmulatorProcess, secret: str) -> None:
    pattern = {
        "key": re.escape(posthog_emulator.api_key),
        "wrong key": re.escape(WRONG_KEY),
        "proxy password": re.escape(PROXY_PASSWORD),
        "quoted proxy password": "proxy%21Secret7",
        "salt": AUDIT_SALT,
        "e-mail": re.escape(EMAIL) + r"|user\d+@example\.invalid",
        "signature": SIGNATURE,
    }[secret]
    assert _where(traces, pattern) == []


def test_the_tasks_did_tell_why_they_failed(traces: dict[str, str]) -> None:
    for text in ("Unknown table of <e-mail>, key <key>", "answered 401", "9999", "never was", "/storage/"):
        assert _where({"output": traces["output"]}, re.escape(text)), text


def test_lines_of_polls_do_not_flood_the_log(traces: dict[str, str]) -> None:
    lines = [line for line in traces["output"].splitlines() if "HTTP Request:" in line and "INFO" in line.upper()]
    # Airflow 3.0 tells so of its own requests, which dag.test() sends to itself.
    assert [line for line in lines if "//in-process.invalid" not in line] == [], "httpx tells each poll at INFO"
