"""What the tests of the emulator's server share: a client that knows nothing of the provider's own code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_posthog.emulator.data.warehouse import Warehouse
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client


@pytest.fixture
def api(posthog: EmulatorProcess) -> Client:
    """Call the emulator with its default key, which may do everything."""
    return Client(posthog.url, posthog.api_key)


@pytest.fixture
def old(warehouse: Warehouse) -> Iterator[Warehouse]:
    """The module's warehouse, read as a server before 2025 does."""
    warehouse.newer_functions = False
    yield warehouse
    warehouse.newer_functions = True
