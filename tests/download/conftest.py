"""A storage that PostHog redirects to, and a sink that keeps what comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.download.http import Received, download
from tests.download.storage import Storage, Turn, storage_of
from tests.support.scripted import Reply, ScriptedServer

KEY = "phx_0123456789abcdef"


class Sink:
    """Keeps the bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.restarts = 0
        self.largest = 0
        self.writes = 0

    def write(self, chunk: bytes) -> None:
        self.data += chunk
        self.largest = max(self.largest, len(chunk))
        self.writes += 1

    def restart(self) -> None:
        self.data = b""
        self.restarts += 1


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def make_storage() -> Iterator[Callable[..., Storage]]:
    with ExitStack() as stack:
        yield lambda *turns: stack.enter_context(storage_of(*turns))


def redirect(url: str, status: int = 302) -> Reply:
    return Reply(status, {"Location": url})


def settings_of(server: ScriptedServer, **changes: object) -> ClientSettings:
    given = {"base_url": server.url, "api_key": KEY, "project_id": 1, "read_timeout": 5.0, **changes}
    return ClientSettings(**given)  # type: ignore[arg-type]


@pytest.fixture
def fetch(server: ScriptedServer, sink: Sink) -> Callable[..., Received]:
    """Download export 5 of the scripted server, to the fixture's sink or another."""

    def run(sink: Any = sink, **changes: object) -> Received:
        with Client(settings_of(server, **changes)) as client:
            return download(client, exports.content(5), sink, base_wait=0.01)

    return run


@pytest.fixture
def stored(server: ScriptedServer, make_storage: Callable[..., Storage]) -> Callable[..., Storage]:
    """Make a storage that PostHog redirects to."""

    def make(*turns: Turn) -> Storage:
        storage = make_storage(*turns)
        server.script(redirect(storage.url))
        return storage

    return make
