"""Loads at the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.capture import read_back, sender
from airflow_provider_posthog.capture.events import Recipe
from airflow_provider_posthog.capture.ledger import Ledger
from airflow_provider_posthog.capture.load import Load
from airflow_provider_posthog.capture.sender import Sender
from airflow_provider_posthog.emulator.process import EmulatorProcess

AT = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
COLUMNS = ["id", "user", "at", "amount"]
ORDERS = Recipe(event="order", distinct_id="user", timestamp="at", key=["id"])


def rows(count: int, first: int = 0) -> list[list[Any]]:
    """Orders a minute apart."""
    return [
        [number, f"buyer {number}", AT + timedelta(minutes=number), number] for number in range(first, first + count)
    ]


class Lab:
    """One load after the other into the emulator."""

    def __init__(self, posthog: EmulatorProcess, path: Path) -> None:
        self.posthog = posthog
        self.settings = ClientSettings(posthog.url, posthog.api_key, int(posthog.project_id), max_rate_limit_wait=5)
        self.token = posthog.project_token
        self.path = path
        self.stack = ExitStack()
        self.client = self.stack.enter_context(Client(self.settings))
        self.ledger = self.stack.enter_context(Ledger(path / "load.ledger"))
        self.loading = Load(self.ledger)

    def sender(self, **options: Any) -> Sender:
        return self.stack.enter_context(Sender(self.settings, self.token, **options))

    def load(self, some: list[list[Any]], recipe: Recipe = ORDERS, **options: Any) -> dict[str, Any]:
        """Send rows, and look for them once."""
        self.loading.send(recipe.reader(COLUMNS, AT), some, self.sender(**options))
        read_back.look(self.client, self.ledger)
        return self.loading.summary()

    def resend(self, some: list[list[Any]]) -> int:
        return self.loading.send_missing(ORDERS.reader(COLUMNS, AT), some, self.sender())

    def there(self, what: str = "count(), count(DISTINCT uuid)") -> list[Any]:
        """Ask the emulator itself what it has."""
        answer = self.client.send(_query(f"SELECT {what} FROM events WHERE event = 'order' LIMIT 50000"))
        return answer["results"][0]  # type: ignore[no-any-return, typeddict-item]

    def sent(self) -> int:
        """Count the requests that brought events."""
        return len(self.posthog.calls("/i/v1/")) + len(self.posthog.calls("/batch/"))


def _query(sql: str) -> Any:
    from airflow_provider_posthog.api import queries

    return queries.start(queries.hogql(sql))


@pytest.fixture
def lab(posthog: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.01)
    made = Lab(posthog, tmp_path)
    with made.stack:
        yield made
