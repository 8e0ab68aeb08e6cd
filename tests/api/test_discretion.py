"""What the HTTP libraries write into a log that somebody has set to DEBUG, each client in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.api.cases import KEY
from tests.support.scripted import ScriptedServer, ok

_LIST = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.settings import ClientSettings
settings = ClientSettings(base_url=sys.argv[1], api_key=sys.argv[2], project_id=7)
call = persons.list(
    email="jane@example.com", search="Jane Doe", distinct_id="jane-1", limit=5,
    properties=[{"key": "email", "value": "doe@example.com", "type": "person"}],
)
"""
_WORKER = (
    _LIST
    + """
from airflow_provider_posthog.api.clients import Client
with Client(settings) as client:
    client.send(call)
"""
)
_TRIGGERER = (
    _LIST
    + """
import asyncio
from airflow_provider_posthog.api.async_clients import AsyncClient
async def main():
    async with AsyncClient(settings) as client:
        await client.send(call)
asyncio.run(main())
"""
)


@pytest.mark.parametrize("program", [_WORKER, _TRIGGERER], ids=["worker", "triggerer"])
def test_no_address_with_personal_data_is_logged(server: ScriptedServer, program: str) -> None:
    server.script(ok({"results": [], "next": None, "previous": None, "count": 0}))
    done = subprocess.run(
        [sys.executable, "-c", program, server.url, KEY],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (request,) = server.requests
    assert "jane" in request.path
    said = (done.stdout + done.stderr).lower()
    assert "debug" in said
    assert [private for private in ("jane", "doe", KEY.lower()) if private in said] == []
    if program is _WORKER:  # what urllib3 does say
        assert "limit=5" in said
