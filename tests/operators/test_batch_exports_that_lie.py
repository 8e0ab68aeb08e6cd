"""What a server leaves out of its answers about batch exports is not taken for a zero, nor silence for success."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.operators.batch_exports import PostHogRetryBatchExportRunOperator
from airflow_provider_posthog.operators.warehouse import PostHogSyncSourceOperator
from airflow_provider_posthog.sensors.batch_exports import PostHogBatchExportRunSensor
from tests.emulator.client import Client
from tests.operators.support import connected, context, finish
from tests.operators.test_batch_exports import FIRST, days_ago, make, operator
from tests.support.forwarding import connection_through, forward
from tests.support.scripted import Received, Reply, ScriptedServer

__all__ = ["connected"]

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_poll, "_missing", {})


@pytest.fixture
def lie(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Change], None]]:
    """Have each object about a batch export, a run or a backfill changed on its way from the emulator."""
    connected.settings(batch_run_seconds=0.1, backfill_hidden_seconds=0, batch_jitter_seconds=0)
    changes: list[Change] = []

    def changed(found: dict[str, Any]) -> dict[str, Any]:
        for change in changes:
            change(found)
        return found

    def between(received: Received) -> Reply:
        reply = forward(connected, received)
        if "/batch_exports/" not in received.path and "/external_data" not in received.path:
            return reply
        body = json.dumps(json.loads(reply.body, object_hook=changed)).encode() if reply.body else b""
        return replace(reply, body=body)

    with ScriptedServer(Reply(by=between)) as server:
        monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", connection_through(server, connected))
        yield changes.append


def null(*names: str) -> Change:
    return lambda found: found.update({name: None for name in names if name in found})


def sensor(**options: Any) -> PostHogBatchExportRunSensor:
    given = {"task_id": "task", "batch_export": FIRST, "poke_interval": 0.1, "timeout": 10, "deferrable": False}
    return PostHogBatchExportRunSensor(**{**given, "start": days_ago(3), "end": days_ago(2), **options})


def test_a_count_that_is_not_told_is_no_zero(lie: Callable[[Change], None]) -> None:
    lie(null("records_completed", "bytes_exported"))
    result = finish(operator())
    assert [result["rows"], result["bytes"], result["run_count"]] == [None, None, 2]
    seen = finish(sensor())
    assert [seen["rows"], seen["bytes"]] == [None, None]
    with pytest.raises(PostHogJobFailed, match="does not tell how many records"):
        finish(sensor(min_records=1))


def test_nor_is_that_of_a_sync(lie: Callable[[Change], None], connected: EmulatorProcess) -> None:
    connected.settings(generation="A", warehouse_job_seconds=0.1)
    lie(null("rows_synced"))
    task = PostHogSyncSourceOperator(task_id="task", source="Postgres", poll_interval=0.1, deferrable=False)
    result = finish(task)
    assert [result["rows"], *(sync["rows"] for sync in result["syncs"])] == [None, None, None]


def test_what_is_not_told_cannot_be_compared_with_the_destination(
    lie: Callable[[Change], None], connected: EmulatorProcess, tmp_path: Path
) -> None:
    connected.settings(batch_destination=str(tmp_path))
    lie(null("records_completed"))
    with pytest.raises(PostHogIncompleteError, match="does not tell how many it has written"):
        finish(operator(check_path=f"file://{tmp_path}"))


@pytest.mark.parametrize("total", [None, 5])
def test_a_backfill_without_runs_is_good_only_if_posthog_says_that_there_was_nothing(
    lie: Callable[[Change], None], total: int | None
) -> None:
    lie(lambda found: found.update({"total_records_count": total}) if "total_records_count" in found else None)
    with pytest.raises(PostHogJobFailed, match="has no run"):
        finish(operator(start=days_ago(400), end=days_ago(399)))


def test_data_that_begin_after_the_range_are_no_reason_to_have_no_run(lie: Callable[[Change], None]) -> None:
    after = {"adjusted_start_at": f"{days_ago(1):%Y-%m-%d}T00:00:00Z", "total_records_count": 5}
    lie(lambda found: found.update(after) if "total_records_count" in found else None)
    with pytest.raises(PostHogJobFailed, match=r"1 of 1 intervals .* has no run"):
        finish(operator(start=days_ago(400), end=days_ago(399)))


def test_runs_that_do_not_tell_their_backfill_prove_nothing(lie: Callable[[Change], None]) -> None:
    lie(lambda found: found.pop("backfill", None))
    with pytest.raises(PostHogJobFailed, match="has no run"):
        finish(operator())


@pytest.mark.parametrize("hour", [24, -1])
def test_an_hour_that_no_day_has_is_an_error_of_the_server(lie: Callable[[Change], None], hour: int) -> None:
    lie(lambda found: found.update({"offset_hour": hour}) if "offset_hour" in found else None)
    with pytest.raises(PostHogTransportError, match="does not know: day in UTC"):
        finish(operator())


@pytest.mark.parametrize("wanted", ["Cafe\u0301 \u2192 lake", " Caf\u00e9 \u2192 lake", "Caf\u00e9 \u2192 lake"])
def test_a_name_is_found_however_its_accents_are_written(connected: EmulatorProcess, wanted: str) -> None:
    api = Client(connected.url, connected.api_key)
    export = make(api, name="Caf\u00e9 \u2192 lake ")
    connected.settings(batch_run_seconds=0.1, backfill_hidden_seconds=0)
    assert finish(operator(batch_export=wanted))["batch_export_id"] == export


def test_only_events_are_counted_as_events(connected: EmulatorProcess, tmp_path: Path) -> None:
    export = make(Client(connected.url, connected.api_key), model="persons")
    with pytest.raises(PostHogSettingsError, match="check_path: counts events, and the batch export is of persons"):
        operator(batch_export=export, check_path=f"file://{tmp_path}").execute(context())
    assert not connected.calls("/backfills/", "POST")


@pytest.mark.parametrize("least", [1.5, True, "many", -1, None])
def test_a_number_of_records_is_one(connected: EmulatorProcess, least: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="min_records: is not a number of records"):
        finish(sensor(min_records=least))


def test_a_run_that_is_not_there_is_named(connected: EmulatorProcess) -> None:
    task = PostHogRetryBatchExportRunOperator(
        task_id="task", batch_export=FIRST, run_id="01a200ca-b698-0000-24c1-84e2ab7ef77e", deferrable=False
    )
    with pytest.raises(PostHogSettingsError, match="run_id: the batch export has no run 01a200ca"):
        task.execute(context())


def test_an_edge_within_a_second_is_shown_as_it_is(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match=r"is \S+T00:00:00\.000005Z, which is not an edge"):
        operator(start=days_ago(4) + timedelta(microseconds=5)).execute(context())
