"""The examples of PostHog's own engines on real Airflow."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers import base

from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import task_states, xcoms


def example(name: str) -> Any:
    return importlib.reload(importlib.import_module(f"dags_examples.{name}"))


def test_days_are_backfilled_each_once(
    connected: EmulatorProcess, run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.settings(batch_run_seconds=0.1, backfill_hidden_seconds=0.1)
    monkeypatch.setenv("POSTHOG_EXAMPLE_DAYS", "3")
    dag = example("batch_export_backfill").dag
    run = run_dag(dag)
    assert set(task_states(run).values()) == {"success"}
    told = [xcoms(run)["backfill", index, "return_value"] for index in range(3)]
    assert [one["run_count"] for one in told] == [1, 1, 1]
    assert len({one["backfill_id"] for one in told}) == 3


def test_files_become_a_table_a_view_and_fresh_numbers(
    connected: EmulatorProcess, run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.settings(warehouse_job_seconds=0.1)
    send: Any = PostHogHook().send
    dashboard = int(send(Call("make", "POST", "dashboards/", json_object, json={"name": "Orders"}))["id"])
    trend = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview", "math": "total"}]}
    body = {"query": trend, "name": "Views", "dashboards": [dashboard]}
    send(Call("make", "POST", "insights/", json_object, json=body))
    monkeypatch.setenv("POSTHOG_EXAMPLE_DASHBOARD", str(dashboard))
    reader = {"conn_type": "aws", "login": "AKIA", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_READER", json.dumps(reader))
    dag = example("refresh_warehouse").dag
    run = run_dag(dag)
    assert task_states(run) == {"link": "success", "view": "success", "refresh": "success"}
    assert xcoms(run)["view", -1, "return_value"]["rows"] == 100


@pytest.mark.skipif(not hasattr(base, "BaseEventTrigger"), reason="Airflow 3 brought watchers")
def test_the_run_finds_the_intervals_that_started_it() -> None:
    made = example("on_batch_export")
    (watcher,) = made.RUNS.watchers
    path, _ = watcher.trigger.serialize()
    assert path.endswith("PostHogBatchExportRunTrigger")
    interval = {"start": "2026-11-01T00:00:00+00:00", "end": "2026-11-02T00:00:00+00:00"}
    event = SimpleNamespace(extra={"payload": {**interval, "rows": 3}})

    class Triggering:
        def __getitem__(self, asset: object) -> list[Any]:
            return [event]

    task = made.dag.get_task("intervals")
    assert task.python_callable(triggering_asset_events=Triggering()) == [interval]
