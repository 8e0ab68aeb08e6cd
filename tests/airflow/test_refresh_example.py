"""The refresh example on real Airflow: green only with fresh numbers, and then files and an asset event."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import task_states, xcoms

BROKEN = {"kind": "HogQLQuery", "query": "select nope from events"}
TREND = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview", "math": "total"}]}


def post(path: str, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = PostHogHook().send(Call("make", "POST", path, json_object, json=body))
    return made


@pytest.fixture
def example(
    connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, int]]:
    def make(*queries: dict[str, Any]) -> tuple[Any, int]:
        dashboard = int(post("dashboards/", name="Nightly")["id"])
        insights = [post("insights/", query=query, name="Tile", dashboards=[dashboard]) for query in (TREND, *queries)]
        monkeypatch.setenv("POSTHOG_EXAMPLE_DASHBOARD", str(dashboard))
        monkeypatch.setenv("POSTHOG_EXAMPLE_GATE", insights[0]["short_id"])
        monkeypatch.setenv("POSTHOG_EXAMPLE_FILES", f"file://{tmp_path}")
        from dags_examples import refresh_insights

        dag = importlib.reload(refresh_insights).dag
        for task in dag.tasks:
            task.retries = 0
        dag.get_task("refresh").poll_interval = 0.1
        dag.get_task("gate").mode = "poke"
        return dag, dashboard

    return make


def test_it_is_green_with_files_and_fresh_numbers(
    example: Callable[..., tuple[Any, int]], run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    dag, dashboard = example({"kind": "HogQLQuery", "query": "select event, count() as n from events group by event"})
    run = run_dag(dag)
    assert set(task_states(run).values()) == {"success"}
    handed_on = xcoms(run)
    told = handed_on["refresh", -1, "return_value"]
    assert (told["dashboard_id"], told["refreshed"], told["hidden_tiles"]) == (dashboard, 2, 0)
    assert handed_on["refresh", -1, "_link_PostHogLink"].endswith(f"/dashboard/{dashboard}")
    assert handed_on["gate", -1, "return_value"]["value"] > 0
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert all(path.read_text().count("\n") > 1 for path in files)
    assert "phx_" not in json.dumps(list(handed_on.values()))


def test_a_tile_that_fails_stops_all_behind_it(
    example: Callable[..., tuple[Any, int]], run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    dag, _ = example(BROKEN)
    states = task_states(run_dag(dag))
    assert states["check_events"] == "success"
    assert states["refresh"] == "failed"
    assert states["gate"] == "upstream_failed"
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(files) == 1, "what one tile lacks is not lost to the others"
