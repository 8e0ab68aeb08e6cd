"""An emulator behind a middleman."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.extract import reading
from tests.extract.reading import Middleman, middleman_to

_days = count()


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorProcess]:
    """An emulator without events."""
    with EmulatorProcess(events=0) as process:
        yield process


@pytest.fixture
def rows(running: EmulatorProcess) -> EmulatorProcess:
    """The emulator, without what the last test has set."""
    running.reset()
    return running


@pytest.fixture
def day() -> datetime:
    """A day that is this test's own: what is added to the emulator stays in it."""
    return datetime(2012, 1, 1, tzinfo=reading.UTC) + timedelta(days=3 * next(_days))


@pytest.fixture
def man(rows: EmulatorProcess) -> Iterator[Middleman]:
    """Who stands in front of the emulator."""
    with middleman_to(rows.url) as man:
        yield man


@pytest.fixture
def settings(man: Middleman, rows: EmulatorProcess) -> ClientSettings:
    """Where the middleman is."""
    return reading.settings_of(man.url, rows)
