"""Exports at the emulator, and file systems to put them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.support.waiting import wait_for


@pytest.fixture
def connection(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", posthog.airflow_connection_json(read_timeout=10))
    return posthog


@pytest.fixture
def make_export(connection: EmulatorProcess) -> Callable[..., int]:
    """Make an export at the emulator, wait for its file, and return its id."""

    def make(query: str | dict[str, Any], export_format: str = exports.CSV, **context: Any) -> int:
        settings = ClientSettings(connection.url, connection.api_key, int(connection.project_id))
        source = {"kind": "HogQLQuery", "query": query} if isinstance(query, str) else query
        with Client(settings) as client:
            made = client.send(
                exports.create(export_format=export_format, export_context={"source": source, **context})
            )
            wait_for(
                lambda: client.send(exports.retrieve(made["id"])).get("has_content") is True, what="the export's file"
            )
        return made["id"]

    return make
