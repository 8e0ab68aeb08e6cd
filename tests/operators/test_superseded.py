"""A job that has used up its time is replaced, not waited for a second time; taken after all if it was only slow."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobError, PostHogJobFailed, PostHogJobTimeout
from tests.operators.support import (
    Store,
    context,
    created,
    export_operator,
    finish,
    in_threads,
    run_trigger,
    task_deferred,
)
from tests.operators.test_queries import query, scripted, started, status
from tests.support.scripted import ScriptedServer, error
from tests.support.waiting import wait_for

__all__ = ["scripted"]

MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
STORES = pytest.mark.parametrize("stored", [True, False], ids=["store", "no_store"])


def hangs(posthog: EmulatorProcess, store: Store | None, **options: Any) -> None:
    """Try 1 starts an export that does not end within its timeout."""
    posthog.next_exports("silent_failure")
    with pytest.raises(PostHogJobTimeout, match="starts another one"):
        finish(export_operator(timeout=0.4, **options), context(store=store))
    assert created(posthog) == 1


@MODES
@STORES
def test_a_retry_replaces_an_export_that_used_up_its_timeout(
    connected: EmulatorProcess,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    deferrable: bool,
    stored: bool,
) -> None:
    store = Store() if stored else None
    hangs(connected, store, deferrable=deferrable)
    done = finish(export_operator(timeout=0.4, deferrable=deferrable), context(try_number=2, store=store))
    assert (done["id"], created(connected)) == (2, 2)
    # Airflow 3.0 writes to both.
    told = (
        [line for line in text.splitlines() if "superseded" in line] for text in (caplog.text, capfd.readouterr().out)
    )
    (line,) = next(lines for lines in told if lines)
    assert "export 1 " in line


def test_an_export_with_time_left_is_taken_up_however_often_it_is_retried(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    for try_number in range(1, 6):
        with pytest.raises(task_deferred()):
            export_operator(deferrable=True, timeout=600).execute(context(try_number=try_number))
    assert created(connected) == 1


@MODES
@STORES
def test_what_was_only_slow_is_taken_without_a_second_export(
    connected: EmulatorProcess, deferrable: bool, stored: bool
) -> None:
    store = Store() if stored else None
    connected.next_exports("succeed", export_seconds=1.0)
    with pytest.raises(PostHogJobTimeout):
        finish(export_operator(timeout=0.3), context(store=store))
    wait_for(lambda: connected.stats()["exports"]["with_content"] == 1)
    assert finish(export_operator(timeout=0.3, deferrable=deferrable), context(try_number=2, store=store))["id"] == 1
    assert created(connected) == 1


@MODES
@STORES
@pytest.mark.parametrize("gone", [False, True], ids=["times_out", "fails"])
def test_a_superseded_export_is_taken_after_all_when_the_new_one_does_not_end_well(
    connected: EmulatorProcess, deferrable: bool, stored: bool, gone: bool
) -> None:
    store = Store() if stored else None
    connected.next_exports("slow")
    with pytest.raises(PostHogJobTimeout):
        finish(export_operator(timeout=1.2), context(store=store))
    connected.next_exports("silent_failure")

    def work(number: int) -> Any:
        if number == 0:
            return finish(export_operator(timeout=1.2, deferrable=deferrable), context(try_number=2, store=store))
        wait_for(lambda: created(connected) == 2)
        connected.advance(1300)  # export 1 gets its file
        wait_for(lambda: connected.stats()["exports"]["with_content"] == 1)
        return connected.faults(method="GET", path="*/exports/2/", status=404, count=-1) if gone else None

    assert in_threads(work, 2)[0]["id"] == 1
    assert created(connected) == 2
    assert store is None or store.kept == {}


def test_a_superseded_export_of_another_life_is_not_taken(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    with pytest.raises(PostHogJobTimeout):
        finish(export_operator(timeout=0.4), context())
    connected.next_exports("exception", exception_text="Unknown table 'x'")
    operator = export_operator(timeout=0.4, deferrable=True)
    cleared = context(try_number=2, max_tries=3)
    with pytest.raises(task_deferred()) as deferred:
        operator.execute(cleared)
    connected.advance(1300)
    event = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    with pytest.raises(PostHogJobFailed, match="export 2"):
        operator.execute_complete(cleared, event)


def test_a_retry_that_still_fails_looks_at_the_superseded_export_once(connected: EmulatorProcess) -> None:
    hangs(connected, None)
    connected.next_exports("silent_failure")
    with pytest.raises(PostHogJobTimeout, match="export 2"):
        finish(export_operator(timeout=0.4), context(try_number=2))
    before = len(connected.calls("/exports/1/"))
    connected.next_exports("silent_failure")
    with pytest.raises(PostHogJobTimeout, match="export 3"):
        finish(export_operator(timeout=0.4), context(try_number=3))
    assert len(connected.calls("/exports/1/")) == before + 1


@MODES
def test_a_query_that_used_up_its_timeout_is_cancelled_and_run_again(
    connected: EmulatorProcess, deferrable: bool
) -> None:
    """The first worker was killed, so that nobody cancelled it."""
    connected.settings(async_seconds=1000.0)
    with pytest.raises(task_deferred()):
        query(deferrable=True).execute(context())
    connected.settings(async_seconds=0.0)
    time.sleep(0.5)
    done = finish(query(deferrable=deferrable, timeout=0.4 if not deferrable else 0.5), context(try_number=2))
    assert len(started(connected)) == 2
    assert [call["path"].rstrip("/").rpartition("/")[2] for call in connected.calls("/query/", "DELETE")] != [
        done["query_id"]
    ]
    assert len(connected.calls("/query/", "DELETE")) == 1


def test_a_superseded_query_that_can_no_longer_be_cancelled_is_taken(scripted: ScriptedServer) -> None:
    old = {"start_time": "2026-11-22T00:00:00Z"}
    rows = {"results": [[1]], "columns": ["n"], "types": [["n", "UInt8"]], "is_cached": False}
    scripted.script(status(**old), error(403, "no"), *[status(**old, complete=True, results=rows)] * 2)
    assert query(timeout=5).execute(context(try_number=2))["rows"] == [[1]]
    assert [call.method for call in scripted.requests] == ["GET", "DELETE", "GET"]


def test_a_job_of_unknown_age_is_taken_up(scripted: ScriptedServer) -> None:
    rows = {"results": [[1]], "columns": ["n"], "types": [["n", "UInt8"]], "is_cached": False}
    scripted.script(status(), status(), status(complete=True, results=rows))
    assert query(timeout=5).execute(context(try_number=2))["rows"] == [[1]]
    assert {call.method for call in scripted.requests} == {"GET"}


@MODES
@STORES
def test_what_has_ended_meanwhile_is_not_waited_for_again(
    connected: EmulatorProcess, deferrable: bool, stored: bool
) -> None:
    """The answer to the first look is used: no deferral, and no second look."""
    store = Store() if stored else None
    connected.faults(method="GET", path="*/exports/1/", status=503, count=1)
    with pytest.raises(PostHogJobError):
        finish(export_operator(max_poll_failures=1), context(store=store))
    wait_for(lambda: connected.stats()["exports"]["with_content"] == 1)
    before = len(connected.calls())
    result = export_operator(deferrable=deferrable).execute(context(try_number=2, store=store))
    assert result["id"] == 1
    assert len(connected.calls()) == before + 1


def test_a_calculation_that_used_up_its_timeout_is_cancelled_and_another_started(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.api.freshness import Earlier, Target
    from airflow_provider_posthog.api.refresh import start
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.triggers.refresh import item_of, target_of

    connected.settings(async_seconds=1000.0)
    client = PostHogHook().client
    assert run(start(Target(1, "first")), client) == "first"
    later = Target(1, "second", earlier=(Earlier("first", True),), superseded_before=time.time() - 60)
    assert run(start(target_of(item_of(later, may_start=True))), client) == "first", "it has time left"
    late = target_of(item_of(replace(later, superseded_before=time.time() + 60), may_start=True))
    assert run(start(late), client) == "second"
    assert [call["path"].rstrip("/").rpartition("/")[2] for call in connected.calls("", "DELETE")] == ["first"]


def test_the_trigger_tells_of_superseded_jobs_and_of_nothing_else(connected: EmulatorProcess) -> None:
    hangs(connected, None)
    with pytest.raises(task_deferred()) as deferred:
        export_operator(timeout=0.4, deferrable=True).execute(context(try_number=2))
    _, kwargs = deferred.value.trigger.serialize()  # type: ignore[attr-defined]
    assert kwargs["superseded"] == ["1"]
    with pytest.raises(task_deferred()) as deferred:
        export_operator(timeout=0.4, deferrable=True).execute(context(run_id="other"))
    _, kwargs = deferred.value.trigger.serialize()  # type: ignore[attr-defined]
    assert "superseded" not in kwargs
