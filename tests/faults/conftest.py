"""One small emulator for the tests of a module, and the weather over it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.faults.cases import Weather
from tests.faults.kinds import NOWHERE


@pytest.fixture(scope="module")
def small_emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(events=300) as process:
        yield process


@pytest.fixture
def weather(small_emulator: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weather:
    asked = socket.getaddrinfo

    def answer(host: Any, *args: Any, **options: Any) -> Any:
        if host == NOWHERE:
            raise socket.gaierror(-2, "Name or service not known")
        return asked(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return Weather(small_emulator, tmp_path)
