"""The tasks that meet the faults: those of the table of scopes, and what that has stand-ins for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow_provider_posthog.notifications.posthog import PostHogNotifier
from airflow_provider_posthog.operators.api import PostHogApiOperator
from airflow_provider_posthog.operators.cohorts import PostHogStaticCohortOperator
from airflow_provider_posthog.transfers.object_storage_to_posthog import PostHogFromObjectStorageOperator
from tests.operators.test_scopes import MADE, Place


class _Notified:
    """A notifier, run as a task."""

    template_fields = PostHogNotifier.template_fields

    def __init__(self) -> None:
        self.notifier = PostHogNotifier(content="Loaded")
        self.__dict__.update({name: getattr(self.notifier, name) for name in self.template_fields})

    def execute(self, context: Any) -> None:
        self.notifier.notify(context)


def _from_file(place: Place) -> PostHogFromObjectStorageOperator:
    path = Path(place.path(".jsonl").removeprefix("file://"))
    path.write_text('{"id": 1, "customer": "c", "placed_at": "2026-11-01T00:00:00Z"}\n', encoding="utf-8")
    return PostHogFromObjectStorageOperator(
        task_id="task",
        path=f"file://{path}",
        format="jsonl",
        **{"event": "order", "distinct_id": "customer", "timestamp": "placed_at", "key": ["id"]},
        **{"quiet_period": 0, "poll_interval": 0.1, "timeout": 0},
    )


def _cohort(place: Place) -> PostHogStaticCohortOperator:
    """Make a cohort of somebody whom no argument names."""
    with closing(sqlite3.connect(place.folder / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE audience (id TEXT)")
        shop.execute("INSERT INTO audience VALUES (?)", [place.person()[1]])
    return PostHogStaticCohortOperator(
        task_id="task", name="Audience", sql_conn_id="shop", sql="SELECT id FROM audience", poll_interval=0.05
    )


TASKS: dict[str, Callable[[Place], Any]] = {
    **{kind.__name__: make for kind, make in MADE.items()},
    "PostHogStaticCohortOperator": _cohort,
    "PostHogFromObjectStorageOperator": _from_file,
    "PostHogNotifier": lambda place: _Notified(),
    "PostHogApiOperator": lambda place: PostHogApiOperator(
        task_id="task", call="insights.list", path=place.path(".jsonl"), overwrite=True
    ),
}
