"""One deployment and one emulator for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment


@pytest.fixture(scope="session")
def posthog_alone() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(events=1000) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def airflow(posthog_alone: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("e2e")
    env = {
        "AIRFLOW_CONN_POSTHOG_DEFAULT": posthog_alone.airflow_connection_json(
            audit_secret="5b0e7c41a9d84f2e86c3b7f0d1a2e394"
        )
    }
    with Deployment(home, Path(__file__).parent / "dags", env) as deployment:
        deployment.wait_for_dags("in_worker", "deferred", "bad_minute", "mapped", "calculations", "watching")
        deployment.wait_for_dags("erasure", "waiting")
        yield deployment
