"""A year of daily backfills: each day once, whatever happens to the triggerer meanwhile."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.operators.batch_exports import PostHogBackfillBatchExportOperator
from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger
from tests.emulator.client import Client
from tests.operators.support import connect, context, task_deferred

pytestmark = pytest.mark.reliability

DAYS = 365


class Triggerer:
    """Runs triggers as Airflow's triggerer does, from what its database holds, and can be killed."""

    def __init__(self, stored: dict[int, str]) -> None:
        self.stored = stored
        self.fired: dict[int, dict[str, Any]] = {}

    async def run(self) -> None:
        async def one(day: int, kwargs: dict[str, Any]) -> None:
            async for event in PostHogJobTrigger(**kwargs).run():
                self.fired[day] = dict(event.payload)

        left = {day: json.loads(text) for day, text in self.stored.items() if day not in self.fired}
        await asyncio.gather(*(one(day, kwargs) for day, kwargs in left.items()))

    async def killed_after_a_look(self, posthog: EmulatorProcess) -> None:
        before = len(posthog.calls("/query/", "POST"))
        task = asyncio.ensure_future(self.run())
        while len(await asyncio.to_thread(posthog.calls, "/query/", "POST")) <= before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def year(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    monkeypatch.setattr(system_poll, "_missing", {})
    connect(monkeypatch, posthog)
    posthog.settings(max_backfills=DAYS, batch_run_seconds=3600, backfill_hidden_seconds=0, batch_jitter_seconds=0)
    return posthog


# Half a minute: 365 tasks really ask PostHog, which nothing smaller can stand for.
def test_365_days_end_completed_each_started_once_through_two_kills(year: EmulatorProcess) -> None:
    api = Client(year.url, year.api_key)
    export = api.get("batch_exports/").json()["results"][0]["id"]
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    tasks: dict[int, PostHogBackfillBatchExportOperator] = {}
    stored: dict[int, str] = {}
    for day in range(DAYS):
        start = today - timedelta(days=day + 1)
        tasks[day] = PostHogBackfillBatchExportOperator(
            task_id="task",
            batch_export=export,
            start=start,
            end=start + timedelta(days=1),
            deferrable=True,
            poll_interval=0.5,
        )
        with pytest.raises(task_deferred()) as deferred:
            tasks[day].execute(context(map_index=day))
        stored[day] = json.dumps(deferred.value.trigger.serialize()[1])  # type: ignore[attr-defined]
    triggerer = Triggerer(stored)

    async def survive() -> None:
        await triggerer.killed_after_a_look(year)
        await triggerer.killed_after_a_look(year)
        year.advance(2 * 3600)
        await triggerer.run()

    asyncio.run(asyncio.wait_for(survive(), 300))
    results = [tasks[day].execute_complete(context(map_index=day), triggerer.fired[day]) for day in range(DAYS)]
    assert len({one["backfill_id"] for one in results}) == DAYS
    posts = [call for call in year.calls("/backfills/", "POST") if call["path"].endswith("/backfills/")]
    assert len(posts) == DAYS, "none was started twice"
    with_data = [one for one in results if one["run_count"]]
    assert len(with_data) >= 25
    assert {run["status"] for one in with_data for run in one["runs"]} == {"Completed"}
