"""A key that is replaced while a task goes on: the connection is read again, once, and nobody is shown a key."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.compat import BaseHook
from airflow_provider_posthog.download.http import download
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogAuthenticationError, PostHogError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.tasks.certificate import open_certificate
from tests.download.conftest import Sink
from tests.support.checks import use
from tests.support.fixtures import server
from tests.support.scripted import Reply, ScriptedServer, error, ok
from tests.support.waiting import wait_for

__all__ = ["server"]


def _replace_key(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, key: str = "phx_new", **more: object) -> None:
    connection = {"conn_type": "posthog", "host": server.url, "password": key, "extra": {"project_id": 1}, **more}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))


def _keys(server: ScriptedServer) -> list[str]:
    return [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]


@pytest.mark.parametrize("status", [401, 403])
def test_a_task_goes_on_with_the_connections_new_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    use(monkeypatch, server)
    server.script(ok({"id": 1}), error(status), ok({"id": 2}), ok({"id": 3}))
    hook = PostHogHook()
    with caplog.at_level(logging.DEBUG):
        hook.send(exports.retrieve(1))
        _replace_key(monkeypatch, server)
        assert [hook.send(exports.retrieve(number))["id"] for number in (2, 3)] == [2, 3]
    assert _keys(server) == ["phx_key", "phx_key", "phx_new", "phx_new"]
    assert hook.settings().api_key == "phx_new"
    assert hook.keys_replaced == 1
    assert "the connection has another one" in caplog.text
    assert "phx_" not in caplog.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_download_goes_on_with_the_connections_new_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    use(monkeypatch, server)
    server.script(ok({"id": 1}), error(status), Reply(headers={"Content-Type": "text/csv"}, body=b"a,b\n1,2\n"))
    hook, sink = PostHogHook(), Sink()
    with caplog.at_level(logging.DEBUG):
        hook.send(exports.retrieve(1))
        _replace_key(monkeypatch, server)
        assert download(hook.client, exports.content(1), sink, base_wait=0.01).size == 8
    assert sink.data == b"a,b\n1,2\n"
    assert _keys(server) == ["phx_key", "phx_key", "phx_new"]
    assert "phx_" not in caplog.text


@pytest.mark.parametrize("other", [{}, {"host": "http://127.0.0.1:9"}, {"extra": {"project_id": 2}}])
def test_another_connection_or_the_same_key_is_no_new_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, other: dict[str, object]
) -> None:
    use(monkeypatch, server)
    server.script(error(401))
    hook = PostHogHook()
    hook.settings()
    _replace_key(monkeypatch, server, "phx_new" if other else "phx_key", **other)
    with pytest.raises(PostHogAuthenticationError):
        hook.send(exports.retrieve(1))
    assert _keys(server) == ["phx_key"]


def test_a_new_key_that_is_refused_as_well_is_the_end(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server)
    server.script(error(401))
    hook = PostHogHook()
    hook.settings()
    _replace_key(monkeypatch, server)
    with pytest.raises(PostHogAuthenticationError):
        hook.send(exports.retrieve(1))
    assert _keys(server) == ["phx_key", "phx_new"]


def test_a_connection_that_cannot_be_read_again_leaves_posthogs_error(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, server)
    server.script(error(401))
    hook = PostHogHook()
    hook.settings()
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "{phx_broken")
    with pytest.raises(PostHogAuthenticationError):
        hook.send(exports.retrieve(1))
    assert "the connection cannot be read" in caplog.text
    assert "phx_broken" not in caplog.text


def test_threads_with_clients_of_their_own_read_the_connection_once(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    gate = threading.Event()
    server.script(*[replace(error(401), gate=gate)] * 8, ok({"id": 1}))
    hook = PostHogHook()
    patient = replace(hook.settings(), max_rate_limit_wait=1.0)
    read, reads = BaseHook.get_connection.__func__, []  # type: ignore[attr-defined]
    monkeypatch.setattr(
        PostHogHook, "get_connection", classmethod(lambda cls, name: reads.append(name) or read(cls, name))
    )
    _replace_key(monkeypatch, server)
    clients = [Client(patient) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.send, exports.retrieve(1)) for client in clients]
        wait_for(lambda: len(server.requests) == 8, what="each client's first request")
        gate.set()
        found = [answer.result()["id"] for answer in asked]
    assert found == [1] * 8
    assert len(reads) == 1
    assert {client.settings.max_rate_limit_wait for client in clients} == {1.0}, "what the task has set stays"


def test_the_certificate_tells_once_that_the_key_was_replaced_and_shows_neither(
    posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = posthog.create_key(), posthog.create_key()
    salt = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", _with_key(posthog, old, salt))
    hook = PostHogHook()
    certificate = open_certificate(hook, f"file://{tmp_path}", None, {}, "request-1", None)
    assert certificate is not None
    certificate.noted("before", "nothing has happened")
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", _with_key(posthog, new, salt))
    posthog.control("DELETE", "keys", {"api_key": old})
    hook.send(exports.list())
    certificate.failed("delete", PostHogError("something else"), {})
    certificate.noted("after", "it went on")
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert written.count("replaced meanwhile") == 1
    assert old not in written
    assert new not in written


def _with_key(posthog: EmulatorProcess, key: str, salt: str) -> str:
    return json.dumps({**json.loads(posthog.airflow_connection_json(audit_secret=salt)), "password": key})
