"""Gates that are killed: no calculation runs on behind one, and none beside that of the try that follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import insights, queries
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.insights import PostHogInsightCheckOperator
from airflow_provider_posthog.sensors.insights import PostHogInsightThresholdSensor
from tests.operators.support import connected, context, finish, outcome_errors, run_trigger, task_deferred
from tests.transfers.killing import Tries, Triggerers

pytestmark = pytest.mark.reliability

__all__ = ["connected"]

HOW = {"task_id": "task", "condition": "= 5", "poke_interval": 0.1, "timeout": 30}


def calculations(posthog: EmulatorProcess) -> dict[str, int]:
    found: dict[str, int] = posthog.stats()["calculations"]
    return found


def is_running(posthog: EmulatorProcess) -> Callable[[], bool]:
    return lambda: calculations(posthog)["running"] == 1


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def slow(connected: EmulatorProcess) -> int:
    """An insight that takes a minute to calculate."""
    made = PostHogHook().send(insights.create(query=queries.hogql("select 5 as n"), name="Five"))
    connected.settings(query_seconds=60.0)
    return int(made["id"])


def deferred(insight: int, **ctx: Any) -> Any:
    """The trigger of a gate whose first look, in the worker, found nothing yet."""
    with pytest.raises(task_deferred()) as caught:
        PostHogInsightThresholdSensor(insight=insight, deferrable=True, **{**HOW, "condition": "= 6"}).execute(
            context(**ctx)
        )
    return caught.value.trigger  # type: ignore[attr-defined]


def deferred_while_slow(posthog: EmulatorProcess, insight: int) -> Any:
    posthog.settings(query_seconds=0.0)
    trigger = deferred(insight)
    posthog.settings(query_seconds=60.0)
    trigger.arguments["refresh"] = "force_blocking"
    trigger.deferred_at -= 60
    return trigger


@pytest.mark.parametrize("kind", [PostHogInsightThresholdSensor, PostHogInsightCheckOperator])
def test_a_try_that_was_killed_leaves_no_calculation_beside_the_next(
    connected: EmulatorProcess, slow: int, kind: type, tmp_path: Path
) -> None:
    options = {"insight": slow, "condition": "= 5", "timeout": 30}
    if kind is PostHogInsightThresholdSensor:
        options |= {"deferrable": False, "poke_interval": 0.1}
    with Tries(kind, connected.airflow_connection_json(), tmp_path) as tries:
        for number in (1, 2):
            begun = calculations(connected)["begun"]

            def is_its_own(begun: int = begun) -> bool:
                now = calculations(connected)
                return now["begun"] > begun and now["running"] == 1

            assert tries.run(options, kill_when=is_its_own, try_number=number) is None
            assert calculations(connected)["running"] == 1  # nobody waits for it any more
        connected.settings(query_seconds=0.0)
        found = tries.run(options, try_number=3)
    assert found is not None
    assert found["value"] == 5
    until(lambda: calculations(connected)["running"] == 0)
    assert calculations(connected)["most_at_once"] == 1


def test_a_triggerer_that_was_killed_leaves_no_calculation_beside_the_next(
    connected: EmulatorProcess, slow: int
) -> None:
    trigger = deferred_while_slow(connected, slow)
    trigger.arguments["condition"] = "= 5"
    begun = calculations(connected)["begun"]
    with Triggerers() as triggerers:
        triggerers.kill_when(trigger, lambda: calculations(connected)["begun"] > begun)
    assert calculations(connected)["running"] == 1
    connected.settings(query_seconds=0.0)
    assert run_trigger(trigger)["facts"]["value"] == 5
    assert (calculations(connected)["running"], calculations(connected)["most_at_once"]) == (0, 1)


def test_a_deferred_gate_that_a_user_ends_cancels_what_is_calculated(connected: EmulatorProcess, slow: int) -> None:
    trigger = deferred_while_slow(connected, slow)

    async def kill() -> None:
        async def drain() -> None:
            async for _ in trigger.run():
                raise AssertionError

        running = asyncio.ensure_future(drain())
        await asyncio.to_thread(until, is_running(connected))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await trigger.on_kill()

    asyncio.run(asyncio.wait_for(kill(), 30))
    assert calculations(connected)["running"] == 0


@pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
def test_a_gate_out_of_time_leaves_nothing_running(
    connected: EmulatorProcess, slow: int, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostHogInsightThresholdSensor, "last_poll", 0.5)
    monkeypatch.setattr("airflow_provider_posthog.triggers.checks.PostHogCheckTrigger.last_poll", 0.5)
    monkeypatch.setattr("airflow_provider_posthog.triggers.watching.LONGEST_OVERRUN", 0.0)
    options = {**HOW, "insight": slow, "deferrable": deferrable, "timeout": 1.0}
    with pytest.raises((outcome_errors().timeout, PostHogError)):
        finish(PostHogInsightThresholdSensor(**options), context())
    until(lambda: calculations(connected)["running"] == 0)
    assert calculations(connected)["begun"] >= 1


def test_all_looks_of_a_task_instance_have_one_name_and_others_have_others(connected: EmulatorProcess) -> None:
    made = PostHogHook().send(insights.create(query=queries.hogql("select 5 as n"), name="Five"))["id"]
    names = [
        deferred(made, **ctx).arguments["query_id"]
        for ctx in ({}, {"try_number": 2}, {"map_index": 1}, {"run_id": "other"})
    ]
    asked = [call["query"].get("client_query_id") for call in connected.calls("/insights/", "GET")]
    assert names[0] == names[1] == asked[-4]
    assert len(set(names)) == 3
    frozen = PostHogInsightThresholdSensor(insight=made, refresh="force_cache", **{**HOW, "deferrable": True})
    assert "query_id" not in frozen.check_arguments(context())
