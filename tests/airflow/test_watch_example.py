"""The example that starts a DAG when events arrive."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from contextlib import aclosing
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers import base

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.support.waiting import wait_for


def example() -> Any:
    return importlib.reload(importlib.import_module("dags_examples.watch_events"))


def test_airflow_2_finds_no_dag_and_no_error_in_it() -> None:
    assert hasattr(example(), "dag") is hasattr(base, "BaseEventTrigger")


class Triggering:
    """What Airflow hands to a task; an asset of 3.0 cannot be a dictionary's key."""

    def __init__(self, asset: Any, events: list[Any]) -> None:
        self.asset = asset
        self.events = events

    def __getitem__(self, asset: Any) -> list[Any]:
        return self.events if asset == self.asset else []


@pytest.mark.skipif(not hasattr(base, "BaseEventTrigger"), reason="Airflow 3 brought watchers")
def test_the_run_finds_the_events_that_started_it(connected: EmulatorProcess) -> None:
    made = example()
    (watcher,) = made.SIGN_UPS.watchers
    _, kwargs = watcher.trigger.serialize()
    trigger = type(watcher.trigger)(**{**kwargs, "poll_interval": 0.1})
    now = datetime.now(timezone.utc).isoformat()
    # Other tests may have signed people up within the hour that a look goes back.
    (before,) = PostHogHook().get_first("SELECT count() FROM events WHERE event = 'sign_up'") or [0]
    sign_up = {"event": "sign_up", "distinct_id": "a", "properties": {}, "timestamp": now, "created_at": now}

    async def first() -> dict[str, Any]:
        async with aclosing(trigger.run()) as running:
            news = asyncio.create_task(anext(running))
            await asyncio.to_thread(wait_for, lambda: len(connected.calls("/api/projects/1/query/")) > 3, what="a look")
            people = [{"uuid": str(uuid.uuid4()), "person_id": str(uuid.uuid4())} for _ in range(2)]
            connected.add_events([{**sign_up, **person} for person in people])
            payload: dict[str, Any] = (await news).payload
            return payload

    event = SimpleNamespace(extra={"from_trigger": True, "payload": asyncio.run(first())})
    (counted,) = made.greet.function(triggering_asset_events=Triggering(made.SIGN_UPS, [event]))
    assert 2 <= counted <= 2 + before
    assert made.dag.task_ids == ["greet"]
