"""Fixtures with an emulator: ``pytest_plugins = ["airflow_provider_posthog.emulator.pytest_plugin"]``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess


@pytest.fixture(scope="session")
def posthog_emulator() -> Iterator[EmulatorProcess]:
    """Run one emulator for the whole test session: 20,000 events, exports that take a tenth of a second."""
    with EmulatorProcess(export_seconds=0.1) as process:
        yield process


@pytest.fixture
def posthog(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    """Reset the session's emulator: no faults, calls, exports or changed settings are left of earlier tests."""
    posthog_emulator.reset()
    return posthog_emulator
