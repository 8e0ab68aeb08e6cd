"""A server between a task and the emulator, for tests that watch or change what passes."""

from __future__ import annotations

import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.support.scripted import Received, Reply, ScriptedServer


def forward(posthog: EmulatorProcess, received: Received) -> Reply:
    """Ask the emulator the same, and answer the same."""
    kept = {name: received.headers[name] for name in ("authorization", "content-type") if name in received.headers}
    url = posthog.url + received.path
    answer = requests.request(received.method, url, data=received.body, headers=kept, timeout=30)
    headers = {"Content-Type": "application/json", "Date": answer.headers["Date"]}
    return Reply(answer.status_code, headers, answer.content)


def connection_through(server: ScriptedServer, posthog: EmulatorProcess) -> str:
    """Return an Airflow connection to the emulator by way of the server."""
    return posthog.airflow_connection_json().replace(posthog.url.rpartition(":")[2], str(server.port))
