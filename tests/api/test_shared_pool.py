"""What thousands of triggers in one process share, and what must not be logged of them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import httpx
import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.async_clients import AsyncClient, tls_context
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.support.fixtures import Certificates
from tests.support.scripted import ScriptedServer, ok
from tests.support.waiting import wait_for

KEY = "phx_shared_pool_key"
EXPORT = {"id": 1, "has_content": False}


def settings_for(server: ScriptedServer, **more: object) -> ClientSettings:
    return ClientSettings(base_url=server.url, api_key=KEY, project_id=1, **more)  # type: ignore[arg-type]


def test_clients_with_equal_settings_share_their_connections(server: ScriptedServer) -> None:
    server.script(ok(EXPORT))

    async def run() -> int:
        clients = [AsyncClient(settings_for(server)) for _ in range(100)]
        await asyncio.gather(*(client.send(exports.retrieve(1)) for client in clients))
        at_most = server.open_connections
        for client in clients[1:]:
            await client.aclose()
        await clients[0].send(exports.retrieve(1))  # the others' end is not this one's
        await clients[0].aclose()
        await asyncio.to_thread(wait_for, lambda: server.open_connections == 0, what="all connections closed")
        return at_most

    assert 1 <= asyncio.run(run()) <= 16
    assert len(server.requests) == 101


def test_other_keys_share_nothing(server: ScriptedServer) -> None:
    server.script(ok(EXPORT))

    async def run() -> None:
        other = ClientSettings(base_url=server.url, api_key="phx_another_key", project_id=1)
        async with AsyncClient(settings_for(server)) as one, AsyncClient(other) as two:
            await one.send(exports.retrieve(1))
            await two.send(exports.retrieve(1))

    asyncio.run(run())
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {KEY}", "Bearer phx_another_key"]


def test_every_event_loop_has_its_own_connections(server: ScriptedServer) -> None:
    server.script(ok(EXPORT))

    async def run() -> None:
        async with AsyncClient(settings_for(server)) as client:
            await client.send(exports.retrieve(1))

    asyncio.run(run())
    asyncio.run(run())
    assert len(server.requests) == 2


def test_addresses_of_posthog_are_not_logged_and_others_are(
    server: ScriptedServer, make_server: object, caplog: pytest.LogCaptureFixture
) -> None:
    other: ScriptedServer = make_server(ok({}))  # type: ignore[operator]
    server.script(ok({"results": []}))

    async def run() -> None:
        async with AsyncClient(settings_for(server)) as client:
            await client.send(exports.list(export_format="someone@example.com"))
        async with httpx.AsyncClient() as plain:
            await plain.get(f"{other.url}/not-ours")

    with caplog.at_level(logging.INFO, logger="httpx"):
        asyncio.run(run())
    assert "someone" not in caplog.text
    assert server.url not in caplog.text
    assert "/not-ours" in caplog.text


def test_the_triggerer_trusts_what_the_worker_trusts(
    make_server: object, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests reads REQUESTS_CA_BUNDLE, httpx by itself does not."""
    server: ScriptedServer = make_server(ok(EXPORT), tls=certificates.context)  # type: ignore[operator]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca_file)

    async def run() -> object:
        async with AsyncClient(settings_for(server)) as client:
            return await client.send(exports.retrieve(1))

    assert asyncio.run(run()) == EXPORT


def test_a_ca_file_is_read_once_and_again_when_it_has_changed(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(Path(certificates.ca_file).read_bytes())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for verify in (str(bundle), True):
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        first = tls_context(verify)
        assert tls_context(verify) is first
        bundle.write_bytes(bundle.read_bytes() + b"\n")
        assert tls_context(verify) is not first
    bundle.write_text("no certificate")
    with pytest.raises(PostHogSettingsError, match="CA file"):
        tls_context(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    assert isinstance(tls_context(True), ssl.SSLContext)
    assert tls_context(True) is tls_context(True)
    assert tls_context(False) is False
