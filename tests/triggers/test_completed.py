"""Watchers of what PostHog has completed: each job fires once, and a restart misses none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.triggers import completed
from airflow_provider_posthog.triggers.completed import (
    PostHogBatchExportRunTrigger,
    PostHogCompletedTrigger,
    PostHogSourceSyncTrigger,
    PostHogViewRunTrigger,
)
from tests.emulator.client import Client, wait_for

UTC = timezone.utc
TABLES = ("system.batch_export_runs", "system.source_sync_jobs", "system.data_modeling_jobs")
NOBODY = "01a200ca-b698-0000-24c1-84e2ab7ef77e"


class AssetStore:
    """Airflow 3.3's state store of an asset, without Airflow; it takes JSON only."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def aget(self, key: str) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else None

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> AssetStore:
    monkeypatch.setattr(system_poll, "_missing", {})
    made = AssetStore()
    monkeypatch.setattr(completed, "asset_stores", lambda trigger: [made])
    return made


@pytest.fixture(params=["C", "A"], ids=["with system tables", "without"])
def api(connected: EmulatorProcess, request: pytest.FixtureRequest) -> Client:
    connected.settings(generation=request.param, batch_jitter_seconds=0, warehouse_job_seconds=0.1)
    connected.settings(batch_run_seconds=0.1, backfill_hidden_seconds=0)
    return Client(connected.url, connected.api_key)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - no event tells of a look that found nothing
        await asyncio.sleep(0.02)


def watch(
    trigger: PostHogCompletedTrigger, count: int, then: Callable[[], object] = lambda: None
) -> list[dict[str, Any]]:
    """Run a watcher until it has fired so often; ``then`` happens once it has looked for the first time."""

    async def fired() -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []

        async def follow() -> None:
            async for event in trigger.run():
                events.append(dict(event.payload))

        task = asyncio.ensure_future(follow())
        await until(lambda: not trigger._first or task.done())
        await asyncio.to_thread(then)
        await until(lambda: len(events) >= count or task.done())
        known = {str(event.get("run_id") or event.get("sync_id")) for event in events} - {"None"}
        await until(lambda: known <= trigger._seen or task.done())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return events

    return asyncio.run(asyncio.wait_for(fired(), 30))


def backfill(api: Client, export: str, days: int) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    edges = [f"{today - timedelta(days=number):%Y-%m-%d}" for number in (days, days - 1)]
    answer = api.post(f"batch_exports/{export}/backfills/", {"start_at": edges[0], "end_at": edges[1]})
    assert answer.status_code == 201, answer.text


def export_of(api: Client) -> str:
    return str(api.get("batch_exports/").json()["results"][0]["id"])


def test_a_completed_run_fires_once_with_its_interval_and_rows(api: Client) -> None:
    export = export_of(api)
    trigger = PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.1)
    (event,) = watch(trigger, 1, lambda: backfill(api, export, 3))
    run = api.get(f"batch_exports/{export}/runs/{event['run_id']}/").json()
    assert event["rows"] == run["records_completed"]
    assert moment(event["start"]) == moment(run["data_interval_start"])
    assert moment(event["end"]) == moment(run["data_interval_end"])
    assert event["backfill_id"] == run["backfill"]


def test_a_restart_misses_nothing_and_fires_nothing_twice(api: Client, store: AssetStore) -> None:
    export = export_of(api)
    first = PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.1)
    (before,) = watch(first, 1, lambda: backfill(api, export, 3))
    backfill(api, export, 4)  # while no triggerer runs
    again = PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.1)
    events = watch(again, 2, lambda: backfill(api, export, 5))
    ids = [event["run_id"] for event in (before, *events)]
    assert len(set(ids)) == 3
    assert len(store.kept) == 1


def test_syncs_and_views_fire_with_their_rows(api: Client, connected: EmulatorProcess) -> None:
    source = api.get("external_data_sources/").json()["results"][0]
    view = api.get("warehouse_saved_queries/").json()["results"][0]["id"]
    syncs = PostHogSourceSyncTrigger(source=source["id"], poll_interval=0.1)
    events = watch(syncs, 2, lambda: api.post(f"external_data_sources/{source['id']}/reload/"))
    enabled = {one["id"] for one in source["schemas"] if one["should_sync"]}
    assert {(event["schema_id"], event["rows"]) for event in events} == {(one, 100) for one in enabled}
    views = PostHogViewRunTrigger(view=view, poll_interval=0.1)
    (event,) = watch(views, 1, lambda: api.post(f"warehouse_saved_queries/{view}/run/", {}))
    assert event["view_id"] == view
    assert event["rows"] in (100, None)


def test_a_failed_run_fires_nothing(api: Client, connected: EmulatorProcess) -> None:
    export = export_of(api)

    def fail_and_succeed() -> None:
        connected.settings(batch_outcome="Failed")
        backfill(api, export, 3)
        connected.settings(batch_outcome="Completed")
        backfill(api, export, 4)

    (event,) = watch(PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.1), 1, fail_and_succeed)
    assert api.get(f"batch_exports/{export}/runs/{event['run_id']}/").json()["status"] == "Completed"


def test_watchers_share_one_query(connected: EmulatorProcess) -> None:
    api = Client(connected.url, connected.api_key)
    export, view = export_of(api), api.get("warehouse_saved_queries/").json()["results"][0]["id"]
    source = api.get("external_data_sources/").json()["results"][0]["id"]
    triggers: list[PostHogCompletedTrigger] = [
        PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.3),
        PostHogSourceSyncTrigger(source=source, poll_interval=0.3),
        PostHogViewRunTrigger(view=view, poll_interval=0.3),
    ]

    async def all_of_them() -> None:
        async def follow(trigger: PostHogCompletedTrigger) -> None:
            async for _ in trigger.run():
                pass

        tasks = [asyncio.ensure_future(follow(each)) for each in triggers]
        await until(lambda: not any(each._first for each in triggers))
        await asyncio.to_thread(lambda: wait_for(lambda: asked_together() >= 3))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def asked_together() -> int:
        bodies = [json.dumps(call["body"]) for call in connected.calls("/query/", "POST")]
        return sum(all(f"'{table}'" in body for table in TABLES) for body in bodies)

    asyncio.run(asyncio.wait_for(all_of_them(), 30))


def test_more_runs_than_a_page_of_posthog_s_all_fire(api: Client, connected: EmulatorProcess) -> None:
    """As after a day without a triggerer."""
    body = {"name": "often", "interval": "every 5 minutes", "destination": {"type": "NoOp", "config": {}}}
    export = api.post("batch_exports/", body).json()["id"]
    trigger = PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.1)
    events = watch(trigger, 144, lambda: connected.advance(12 * 3600))
    assert len({event["start"] for event in events}) == len(events) == 144


def test_posthog_s_clock_may_be_behind(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    export, hour_ahead = export_of(api), time.time() + 3600
    with monkeypatch.context() as patch:
        patch.setattr(completed.time, "time", lambda: hour_ahead)
        trigger = PostHogBatchExportRunTrigger(batch_export=export, poll_interval=0.1)
    (event,) = watch(trigger, 1, lambda: backfill(api, export, 3))
    assert event["batch_export_id"] == export


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PostHogBatchExportRunTrigger(batch_export="Events to the lake"), "batch_export: is not a UUID"),
        (lambda: PostHogSourceSyncTrigger(source=""), "source: is not a UUID"),
        (lambda: PostHogViewRunTrigger(view=NOBODY, poll_interval=0), "poll_interval: is not a length of time"),
    ],
)
def test_bad_arguments_are_refused_where_the_dag_is_written(make: Callable[[], object], text: str) -> None:
    with pytest.raises(PostHogSettingsError, match=text):
        make()


def test_arguments_survive_the_way_to_the_triggerer() -> None:
    trigger = PostHogBatchExportRunTrigger(batch_export=NOBODY, poll_interval=timedelta(minutes=2))
    path, kwargs = trigger.serialize()
    assert path.endswith("triggers.completed.PostHogBatchExportRunTrigger")
    assert PostHogBatchExportRunTrigger(**json.loads(json.dumps(kwargs)), newer=1).serialize() == (path, kwargs)
