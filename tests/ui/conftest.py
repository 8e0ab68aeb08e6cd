"""Two playgrounds, of Airflow 3 and of Airflow 2.11, and a browser for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.matrix import python_of
from tests.ui.pages import Playground, browser, browser_path


@pytest.fixture(scope="session")
def playgrounds() -> Iterator[dict[str, Playground]]:
    """Both, started at once: most of their start is waiting."""
    browser_path()  # fails at once where there is none
    given = os.environ.get("POSTHOG_UI_PYTHON_2")
    made = {
        "3": Playground(Path(sys.executable), is_2=False),
        "2": Playground(Path(given) if given else python_of("2.11"), is_2=True),
    }
    try:
        for each in made.values():
            each.start()
        yield made
    finally:
        for each in made.values():
            each.kill()


def _ready(playground: Playground, *dags: str) -> Playground:
    playground.ready()
    playground.wait_for_dags(*dags)
    for dag in dags:
        playground.call("PATCH", f"dags/{dag}?update_mask=is_paused", {"is_paused": False})
    return playground


@pytest.fixture(scope="session")
def three(playgrounds: dict[str, Playground]) -> Playground:
    return _ready(playgrounds["3"], "good", "bad", "erasing")


@pytest.fixture(scope="session")
def two(playgrounds: dict[str, Playground]) -> Playground:
    return _ready(playgrounds["2"], "good", "bad")


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser() as made:
        yield made
