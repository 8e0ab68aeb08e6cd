"""A dashboard of 300 tiles whose workers and triggerers are killed: what was proved is not calculated again."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import insights, queries
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobFailed
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.tasks.result_file import MAX_XCOM_BYTES
from tests.operators.support import Store, connected, context, run_trigger, task_deferred
from tests.transfers.killing import Tries, Triggerers

pytestmark = pytest.mark.reliability

__all__ = ["connected"]


def board(tiles: int, broken: bool = False) -> int:
    hook = PostHogHook()
    made: dict[str, Any] = hook.send(Call("make", "POST", "dashboards/", json_object, json={"name": "Nightly"}))
    for number in range(tiles):
        query = queries.hogql(f"select {number} as n")
        hook.send(insights.create(query=query, name=f"The number of the tile {number}", dashboards=[made["id"]]))
    if broken:
        hook.send(insights.create(query=queries.hogql("select nope from events"), dashboards=[made["id"]]))
    return int(made["id"])


def calculations(posthog: EmulatorProcess) -> dict[str, int]:
    found: dict[str, int] = posthog.stats()["calculations"]
    return found


def begun(posthog: EmulatorProcess, count: int) -> Callable[[], bool]:
    return lambda: calculations(posthog)["begun"] >= count


def test_three_hundred_tiles_and_two_killed_workers(connected: EmulatorProcess, tmp_path: Path) -> None:
    """Airflow before 3.3 keeps nothing between tries: PostHog knows when the first one began."""
    dashboard = board(300)
    connected.settings(query_seconds=0.02, async_seconds=0.0)
    options = {"dashboard": dashboard, "deferrable": False, "poll_interval": 0.05, "timeout": 300, "values": True}
    with Tries(PostHogRefreshDashboardOperator, connected.airflow_connection_json(), tmp_path) as tries:
        assert tries.run(options, kill_when=begun(connected, 90), try_number=1) is None
        assert tries.run(options, kill_when=begun(connected, 200), try_number=2) is None
        done = tries.run(options, try_number=3)
    assert done is not None
    assert done["refreshed"] == 300
    assert len({each["id"] for each in done["insights"]}) == 300
    assert len(json.dumps(done).encode()) < MAX_XCOM_BYTES
    now = calculations(connected)
    assert 300 <= now["begun"] <= 300 + 2 * 3, "only what was in flight at a kill is calculated again"
    assert now["most_at_once"] <= 3
    assert now["running"] == 0


def test_two_killed_triggerers(connected: EmulatorProcess) -> None:
    dashboard = board(12)
    connected.settings(query_seconds=0.3, async_seconds=0.0)
    operator = PostHogRefreshDashboardOperator(
        task_id="task", dashboard=dashboard, deferrable=True, poll_interval=0.1, timeout=120
    )
    with pytest.raises(task_deferred()) as deferred:
        operator.execute(context())
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    with Triggerers() as triggerers:
        for count in (4, 8):
            triggerers.kill_when(trigger, begun(connected, count))
    done = operator.execute_complete(context(), run_trigger(trigger))
    assert done["refreshed"] == 12
    now = calculations(connected)
    assert (now["begun"], now["most_at_once"]) == (12, 3)


def run(dashboard: int, **ctx: Any) -> dict[str, Any]:
    operator = PostHogRefreshDashboardOperator(task_id="task", dashboard=dashboard, deferrable=False, timeout=60)
    done: dict[str, Any] = operator.execute(context(**ctx))
    return done


def test_a_retry_calculates_what_failed_and_nothing_else(connected: EmulatorProcess) -> None:
    """Airflow 3.3 keeps when the first try began."""
    dashboard, store = board(4, broken=True), Store()
    for number in (1, 2):
        with pytest.raises(PostHogJobFailed, match="nope"):
            run(dashboard, try_number=number, store=store)
    assert len(forced(connected)) == 4 + 1 + 1
    with pytest.raises(PostHogJobFailed, match="nope"):  # a user's "clear" asks for new numbers
        run(dashboard, try_number=3, max_tries=4, store=store)
    assert len(forced(connected)) == 6 + 5
    with pytest.raises(PostHogJobFailed, match="nope"):
        run(dashboard, try_number=4, max_tries=4, store=store)
    assert len(forced(connected)) == 11 + 1
    connected.advance(3600)  # longer ago than the task may take
    with pytest.raises(PostHogJobFailed, match="nope"):
        run(dashboard, try_number=5, max_tries=4, store=store)
    assert len(forced(connected)) == 12 + 5


def test_after_a_success_nothing_is_kept(connected: EmulatorProcess) -> None:
    dashboard, store = board(2), Store()
    run(dashboard, store=store)
    assert store.kept == {}


def test_numbers_from_before_the_first_try_are_calculated(connected: EmulatorProcess) -> None:
    """Somebody had looked at the dashboard after the run had begun, and before its events were loaded."""
    dashboard, store = board(4, broken=True), Store()
    PostHogHook().send(Call("look", "GET", f"dashboards/{dashboard}/?refresh=force_blocking", json_object))
    connected.advance(10)
    started = datetime.now(timezone.utc) - timedelta(hours=1)
    for number in (1, 2):
        with pytest.raises(PostHogJobFailed, match="nope"):
            run(dashboard, try_number=number, store=store, began=started)
    assert len(forced(connected)) == 5 + 1


@pytest.mark.parametrize("overrides", [{}, {"filters_override": {"date_from": "-3d"}}])
def test_numbers_of_the_moment_before_the_first_try_are_calculated(
    connected: EmulatorProcess, overrides: dict[str, Any]
) -> None:
    """Another run ended just before; clocks that differ get some slack, which must not reach back to it."""
    dashboard, store = board(2), Store()
    operator = PostHogRefreshDashboardOperator(task_id="task", dashboard=dashboard, deferrable=False, **overrides)
    operator.execute(context(run_id="before"))
    connected.faults(method="GET", path="*/insights/*", status=400, count=2)
    with pytest.raises(PostHogJobFailed):
        operator.execute(context(try_number=1, store=store))
    operator.execute(context(try_number=2, store=store))
    assert len(forced(connected)) == 3 * 2


def test_so_they_are_where_posthog_has_to_remember_when_the_first_try_began(connected: EmulatorProcess) -> None:
    """Without Airflow's store, a calculation in the background tells it."""
    dashboard = board(13)
    operator = PostHogRefreshDashboardOperator(task_id="task", dashboard=dashboard, deferrable=False, poll_interval=0.1)
    done = operator.execute(context(run_id="before"))
    anchor = min(insight["id"] for insight in done["insights"])
    before = len(forced(connected))
    connected.faults(method="GET", path=rf"^/api/projects/\d+/insights/(?!{anchor}/)", status=400, count=12)
    with pytest.raises(PostHogJobFailed):
        operator.execute(context(try_number=1))
    operator.execute(context(try_number=2))
    assert [call["path"].endswith(f"/insights/{anchor}/") for call in forced(connected)[before:]].count(False) == 2 * 12


def forced(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    return [call for call in posthog.calls("/insights/", "GET") if "force_" in json.dumps(call["query"])]
