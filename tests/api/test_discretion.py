"""What the HTTP libraries write into a log that somebody has set to DEBUG, each client in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.api.cases import KEY
from tests.support.scripted import Reply, ScriptedServer, ok

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


_ANSWERED = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.api.settings import ClientSettings
settings = ClientSettings(base_url=sys.argv[1], api_key=sys.argv[2], project_id=7)
call = exports.content(5)
"""
_READ = {
    "worker": _ANSWERED
    + """
from airflow_provider_posthog.api.clients import Client
with Client(settings) as client:
    client.send(call, policy=ONCE)
""",
    "triggerer": _ANSWERED
    + """
import asyncio
from airflow_provider_posthog.api.async_clients import AsyncClient
async def main():
    async with AsyncClient(settings) as client:
        await client.send(call, policy=ONCE)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("where", _READ)
@pytest.mark.parametrize("status", [200, 302])
def test_no_cookie_and_no_presigned_address_of_an_answer_is_logged(
    server: ScriptedServer, where: str, status: int
) -> None:
    """Neither at DEBUG nor, with headers that cannot be read, at WARNING."""
    secret = {
        "Set-Cookie": 'sessionid="s3cret-cook\'ie"; Path=/',
        "Location": "https://b.s3.amazonaws.com/x?X-Amz-Signature=s3cret-sig",
        "X-Shown": "shown",
    }
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n" + "".join(f"{k}: {v}\r\n" for k, v in secret.items())
    broken = "no header at all s3cret-line\r\nX-Later: s3cret-later\r\n" if where == "worker" else ""
    server.script(Reply(raw=f"{answer}{broken}\r\n{{}}".encode()))
    done = subprocess.run(
        [sys.executable, "-c", _READ[where], server.url, KEY],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert "DEBUG" in said
    assert "s3cret" not in said, said
    if where == "triggerer":
        assert "shown" in said, "what is no secret is still there"
