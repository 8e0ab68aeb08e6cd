"""What the tests of the emulator's server share: a client that knows nothing of the provider's own code."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client


@pytest.fixture
def api(posthog: EmulatorProcess) -> Client:
    """Call the emulator with its default key, which may do everything."""
    return Client(posthog.url, posthog.api_key)
