"""An emulator of the age of the recordings, with as few events as the recorded server had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.contract.replay import Replay


@pytest.fixture(scope="session")
def old_posthog_process() -> Iterator[EmulatorProcess]:
    """Run one emulator of generation A for all recordings."""
    with EmulatorProcess(events=240, days=2, export_seconds=0.1, generation="A") as process:
        yield process


@pytest.fixture
def old_posthog(old_posthog_process: EmulatorProcess) -> EmulatorProcess:
    """Reset that emulator: nothing is left of earlier tests."""
    old_posthog_process.reset()
    return old_posthog_process


@pytest.fixture
def replay(old_posthog: EmulatorProcess) -> Replay:
    """Send recordings to that emulator, with the three kinds of keys of the recorded server."""
    return Replay(old_posthog.url, recorded_keys(old_posthog))


def recorded_keys(posthog: EmulatorProcess) -> dict[str, str]:
    """Make the keys of the recorded server: one that may do everything and two that may do less."""
    return {
        "bearer": posthog.api_key,
        "key_ro": posthog.create_key(["insight:read", "dashboard:read"]),
        "key_scoped_team": posthog.create_key(["*"], projects=[2]),
    }
