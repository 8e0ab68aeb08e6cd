"""The timer, which waits in the triggerer for what needs no looking at."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from airflow_provider_posthog.triggers.timer import EVENT_VERSION, PostHogTimerTrigger
from tests.operators.support import run_trigger


def test_it_fires_at_its_moment_and_hands_back_what_it_was_told() -> None:
    until = time.time() + 0.3
    event = run_trigger(PostHogTimerTrigger(until=until, payload={"began": 1.5, "lost": 3}))
    assert time.time() >= until
    assert event == {"version": EVENT_VERSION, "began": 1.5, "lost": 3}


def test_a_moment_that_has_passed_while_no_triggerer_ran_fires_at_once() -> None:
    began = time.monotonic()
    run_trigger(PostHogTimerTrigger(until=time.time() - 3600))
    assert time.monotonic() - began < 1


def test_what_a_newer_version_hands_on_is_left_out() -> None:
    made = PostHogTimerTrigger(until=5.0, payload={}, later="unknown")
    assert made.serialize()[1] == {"until": 5.0, "payload": {}}


def test_it_is_small_and_needs_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT", raising=False)
    path, kwargs = PostHogTimerTrigger(until=time.time(), payload={"began": time.time(), "lost": 10**9}).serialize()
    assert path == "airflow_provider_posthog.triggers.timer.PostHogTimerTrigger"
    assert len(json.dumps(kwargs)) < 200
    assert "conn" not in json.dumps(kwargs)


def test_it_ends_when_it_is_cancelled() -> None:
    async def cancelled() -> bool:
        trigger = PostHogTimerTrigger(until=time.time() + 3600)
        task = asyncio.ensure_future(anext(trigger.run()))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        task.cancel()
        return isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)

    assert asyncio.run(cancelled())
