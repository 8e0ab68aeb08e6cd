"""What the tests of the emulator's server share: a client that knows nothing of the provider's own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client

RECORDED = Path(__file__).parent / "posthog_2024_10.json"


@pytest.fixture
def api(posthog: EmulatorProcess) -> Client:
    """Call the emulator with its default key, which may do everything."""
    return Client(posthog.url, posthog.api_key)


@pytest.fixture(scope="session")
def recorded() -> dict[str, Any]:
    """Answers measured on a PostHog server of October 2024, by case: error bodies whole, others as shapes."""
    read: dict[str, Any] = json.loads(RECORDED.read_text())
    return read
