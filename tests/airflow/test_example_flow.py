"""The example DAG on real Airflow: what lands in the warehouse is what PostHog holds, whatever goes wrong."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.operators.support import EXPORTS, SUMMARY, created, posts, task_states, when, xcoms

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
ALL_GREEN = {"create_export": "success", "fetch": "success", "load": "success"}


class Flow:
    """The example DAG with a landing place and a warehouse of its own."""

    def __init__(self, posthog: EmulatorProcess, run_dag: Callable[..., Any], folder: Path, module: Any) -> None:
        self.posthog, self._run_dag, self.folder, self._module = posthog, run_dag, folder, module
        self.warehouse = folder / "landing" / "warehouse.duckdb"
        self.create = module.dag.get_task("create_export")
        for task in module.dag.tasks:
            task.retries = 0
        self.create.poll_interval, self.create.failure_grace, self.create.timeout = 0.2, 0.3, 60

    def run(self, days_ago: int = 3) -> Any:
        """Run it for the day so many days ago."""
        return self._run_dag(self._module.dag, **when(TODAY - timedelta(days=days_ago - 1)))

    def rows(self, days_ago: int = 3) -> list[tuple[str, str]]:
        """The warehouse's rows of a day."""
        if not self.warehouse.exists():
            return []
        start, end = self._day(days_ago)
        sql = 'SELECT uuid::TEXT, event FROM events WHERE "timestamp" >= ? AND "timestamp" < ? ORDER BY uuid'
        with duckdb.connect(str(self.warehouse), read_only=True) as warehouse:
            return warehouse.execute(sql, [start, end]).fetchall()

    def truth(self, days_ago: int = 3) -> int:
        """How many events PostHog has of a day."""
        return self.posthog.count_events(*self._day(days_ago))

    def landed(self) -> list[str]:
        """All files in the landing place."""
        return sorted(path.name for path in (self.folder / "landing").rglob("*.csv") if path.is_file())

    def _day(self, days_ago: int) -> tuple[str, str]:
        start = TODAY - timedelta(days=days_ago)
        return start.isoformat(), (start + timedelta(days=1)).isoformat()


@pytest.fixture
def flow(
    connected: EmulatorProcess, run_dag: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Flow:
    (tmp_path / "landing").mkdir()
    monkeypatch.setenv("POSTHOG_EXAMPLE_FILES", f"file://{tmp_path}/landing")
    from dags_examples import export_to_warehouse

    return Flow(connected, run_dag, tmp_path, importlib.reload(export_to_warehouse))


def _assert_equal(flow: Flow, days_ago: int = 3) -> None:
    rows = flow.rows(days_ago)
    assert len(rows) == len(set(rows)) == flow.truth(days_ago) > 100


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_the_warehouse_equals_posthog_also_after_a_rerun(flow: Flow, deferrable: bool) -> None:
    flow.create.deferrable = deferrable
    run = flow.run()
    assert task_states(run) == ALL_GREEN
    _assert_equal(flow)
    handed_on = xcoms(run)
    assert list(handed_on["create_export", -1, "return_value"]) == SUMMARY
    link = f"{flow.posthog.url}/project/{flow.posthog.project_id}/exports"
    assert handed_on["create_export", -1, "_link_PostHogLink"] == link
    assert handed_on["load", -1, "return_value"] == flow.truth()
    assert task_states(flow.run(days_ago=4)) == ALL_GREEN
    before = flow.rows()
    assert task_states(flow.run()) == ALL_GREEN
    assert flow.rows() == before
    _assert_equal(flow, days_ago=4)
    assert created(flow.posthog) == 3
    assert len(flow.landed()) == 2


def test_a_slow_export_an_exception_first_and_a_cut_download(flow: Flow) -> None:
    flow.create.failure_grace = 20
    flow.posthog.settings(retry_seconds=1.0)
    flow.posthog.next_exports("exception_then_success", export_seconds=1.0)
    flow.posthog.faults(path="/storage/*", cut="middle", cut_bytes=2000)
    assert task_states(flow.run()) == ALL_GREEN
    _assert_equal(flow)
    assert created(flow.posthog) == 1
    assert len(flow.posthog.calls("/storage/")) >= 2


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_lost_answer_makes_no_second_export(flow: Flow, deferrable: bool) -> None:
    flow.create.deferrable = deferrable
    flow.posthog.faults(method="POST", path=EXPORTS, cut="after")
    assert task_states(flow.run()) == ALL_GREEN
    _assert_equal(flow)
    assert created(flow.posthog) == len(posts(flow.posthog)) == 1


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_failing_export_fails_the_task_and_keeps_the_rows(flow: Flow, deferrable: bool) -> None:
    flow.create.deferrable = deferrable
    flow.posthog.next_exports("exception", exception_text="Unknown table 'x'")
    run = flow.run()
    failed = {"create_export": "failed", **dict.fromkeys(("fetch", "load"), "upstream_failed")}
    assert task_states(run) == failed
    assert (flow.rows(), flow.landed()) == ([], [])
    assert xcoms(run)["create_export", -1, "_link_PostHogLink"], "the link is there on a failed task too"
    assert task_states(flow.run()) == ALL_GREEN
    before = flow.rows()
    flow.posthog.next_exports("exception", exception_text="Unknown table 'x'")
    assert task_states(flow.run()) == failed
    assert flow.rows() == before
    _assert_equal(flow)


def test_a_download_that_never_ends_well_keeps_the_rows(flow: Flow) -> None:
    assert task_states(flow.run()) == ALL_GREEN
    before, files = flow.rows(), flow.landed()
    flow.posthog.faults(path="/storage/*", status=404, count=-1)
    assert task_states(flow.run())["fetch"] == "failed"
    assert (flow.rows(), flow.landed()) == (before, files)
