"""The examples that load into PostHog, on real Airflow."""

from __future__ import annotations

import importlib
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import task_states, when, xcoms

HOUR = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "warehouse.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER, customer TEXT, placed_at TEXT, total REAL)")
        moments = [(HOUR + timedelta(minutes=20 * n)).isoformat(sep=" ") for n in range(9)]
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, 1)", [(n, f"c{n}", at) for n, at in enumerate(moments)]
        )
        connection.execute("CREATE TABLE churn_scores (customer TEXT, score REAL)")
        connection.executemany("INSERT INTO churn_scores VALUES (?, ?)", [("c1", 0.9), ("c2", 0.1), ("nobody", 0.95)])
        connection.execute("CREATE TABLE accounts (account_id TEXT, name TEXT, plan TEXT, seats INTEGER)")
        connection.execute("INSERT INTO accounts VALUES ('acme', 'Acme', 'pro', 7)")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))


@pytest.fixture
def run_example(connected: EmulatorProcess, warehouse: None, run_dag: Callable[..., Any]) -> Callable[..., Any]:
    def run(name: str, at: datetime = HOUR, **changes: Any) -> Any:
        dag = importlib.reload(importlib.import_module(f"dags_examples.{name}")).dag
        for task in dag.tasks:
            task.retries = 0
            for field, value in changes.items():
                if hasattr(task, field):
                    setattr(task, field, value)
        return run_dag(dag, **when(at))

    return run


def test_orders_of_an_hour_are_in_posthog(run_example: Callable[..., Any]) -> None:
    run = run_example("orders_to_posthog", HOUR + timedelta(hours=1), quiet_period=0)
    assert set(task_states(run).values()) == {"success"}
    assert xcoms(run)["orders", -1, "return_value"]["kept"] == 3
    sql = "SELECT count(), count(DISTINCT uuid), max(properties.id) FROM events WHERE event = 'order placed'"
    assert PostHogHook().get_records(sql) == [[3, 3, "2"]]


def test_an_audience_becomes_a_cohort(connected: EmulatorProcess, run_example: Callable[..., Any]) -> None:
    connected.add_persons([{"distinct_ids": [f"c{n}"]} for n in range(3)])
    run = run_example("audience_to_cohort", mode="poke", poke_interval=0.1, timeout=20)
    assert set(task_states(run).values()) == {"success"}
    found = xcoms(run)["fill", -1, "return_value"]
    assert (found["members"], found["rejected"]) == (1, 1)


def test_a_rollout_goes_back_when_its_gate_stays_shut(
    connected: EmulatorProcess, run_example: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [{"properties": [], "rollout_percentage": 10}]
    connected.add_records("feature_flags", [{"key": "new-checkout", "active": False, "filters": {"groups": groups}}])
    insight = PostHogHook().client.send(_insights())["results"][0]["short_id"]
    monkeypatch.setenv("AIRFLOW_VAR_CHECKOUT_ERRORS_INSIGHT", insight)
    run = run_example("rollout_with_gate", poke_interval=0.1, timeout=0.3)
    assert task_states(run) == {"ramp": "success", "few_errors": "failed", "back": "success"}
    assert xcoms(run)["ramp", -1, "return_value"]["rollout_percentage"] == 50
    back = xcoms(run)["back", -1, "return_value"]
    assert (back["rollout_percentage"], back["active"]) == (10, False)


def _insights() -> Any:
    from airflow_provider_posthog.api import insights

    return insights.list(limit=1)


def test_companies_become_groups(run_example: Callable[..., Any]) -> None:
    run = run_example("crm_to_groups", quiet_period=0)
    assert set(task_states(run).values()) == {"success"}
    (found,) = PostHogHook().get_records("SELECT properties FROM groups WHERE key = 'acme' AND index = 0 LIMIT 2")
    assert json.loads(found[0]) == {"name": "Acme", "plan": "pro", "seats": 7}
