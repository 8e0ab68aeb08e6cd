"""A retry takes up what an earlier try has started, and nothing that was there before."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobTimeout, PostHogValidationError
from airflow_provider_posthog.operators.batch_exports import (
    PostHogBackfillBatchExportOperator,
    PostHogRetryBatchExportRunOperator,
)
from airflow_provider_posthog.operators.experiments import PostHogExperimentResultsOperator
from airflow_provider_posthog.operators.warehouse import PostHogRunViewOperator, PostHogSyncSourceOperator
from airflow_provider_posthog.tasks import job, job_start, known_before, watched_job
from tests.emulator.client import Client
from tests.operators.support import Store, context, finish, task_deferred
from tests.operators.test_batch_exports import FIRST, days_ago
from tests.operators.test_experiments import experiment
from tests.support.forwarding import connection_through, forward
from tests.support.scripted import Received, Reply, ScriptedServer


class Killed(BaseException):
    """The worker is killed."""


class Deadly(Store):
    """Kills the worker before or after something is kept."""

    def __init__(self, key: str, *, kept: bool, times: int = 1) -> None:
        super().__init__()
        self.key, self.is_kept, self.left = key, kept, times

    def set(self, key: str, value: Any) -> None:
        self.left -= key == self.key
        if key != self.key or self.left or self.is_kept:
            super().set(key, value)
        if key == self.key and not self.left:
            self.key = ""
            raise Killed


class Kind:
    """A kind of job: a task of it, and how often one was asked for."""

    def __init__(self, make: Callable[[], Any], posts: Callable[[], int], job_id: str) -> None:
        self.make, self.posts, self.job_id = make, posts, job_id


@pytest.fixture
def kind(request: pytest.FixtureRequest, connected: EmulatorProcess, tmp_path: Path, monkeypatch: Any) -> Kind:
    monkeypatch.setattr(system_poll, "_missing", {})
    connected.settings(batch_run_seconds=0.1, backfill_hidden_seconds=0, batch_jitter_seconds=0)
    # One that goes on is not shown: whether it ends between a look and a request would be up to the machine.
    connected.settings(recalculation_seconds=0.0, warehouse_job_seconds=0.1)
    waits: dict[str, Any] = {"task_id": "task", "poll_interval": 0.1, "deferrable": False, "timeout": 30}

    def asked(path: str, status: int = 201) -> Callable[[], int]:
        return lambda: sum(
            call["path"].endswith(path) and call["status"] == status for call in connected.calls("", "POST")
        )

    def failed_run() -> str:
        connected.settings(batch_outcome="Failed")
        export = Client(connected.url, connected.api_key).get("batch_exports/").json()["results"][0]
        connected.settings(batch_outcome="Completed")
        return str(export["latest_runs"][0]["id"])

    if request.param == "backfill":
        window = {"batch_export": FIRST, "start": days_ago(4), "end": days_ago(2)}
        return Kind(lambda: PostHogBackfillBatchExportOperator(**window, **waits), asked("/backfills/"), "backfill_id")
    if request.param == "retry":
        run = {"batch_export": FIRST, "run_id": failed_run()}
        return Kind(lambda: PostHogRetryBatchExportRunOperator(**run, **waits), asked("/retry/"), "id")
    if request.param == "sync":
        table = {"source": "Postgres", "schema": "orders"}
        return Kind(lambda: PostHogSyncSourceOperator(**table, **waits), asked("/reload/", 200), "source_id")
    if request.param == "view":
        return Kind(lambda: PostHogRunViewOperator(view="daily_orders", **waits), asked("/run/", 200), "run_id")
    rows = {"experiment_id": experiment(connected), "path": str(tmp_path / "rows.jsonl"), "overwrite": True}
    results = lambda: PostHogExperimentResultsOperator(**rows, **waits)  # noqa: E731
    return Kind(results, asked("/metrics_recalculation/"), "recalculation_id")


def long_ago() -> datetime:
    return datetime.now(timezone.utc) - timedelta(seconds=30)


#: The retry of a run is over when its interval has a good run, whoever's.
starting = pytest.mark.parametrize("kind", ["backfill", "experiment"], indirect=True)


@starting
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "refused"])
def test_what_another_run_has_ended_before_is_not_taken_up(
    kind: Kind, connected: EmulatorProcess, killed: bool
) -> None:
    began = long_ago()
    before = finish(kind.make(), context(run_id="before", began=began))
    store = Deadly(known_before.STORE_KEY, kept=False) if killed else Store()
    if not killed:
        connected.faults(method="POST", path="*/batch_exports/*", status=400)
        connected.faults(method="POST", path="*/metrics_recalculation/", status=400)
    with pytest.raises((Killed, PostHogValidationError)):
        kind.make().execute(context(store=store, began=began))
    after = finish(kind.make(), context(try_number=2, store=store, began=began))
    assert kind.posts() == 2
    assert after[kind.job_id] != before[kind.job_id]


@starting
def test_what_the_same_operator_has_seen_in_another_run_is_forgotten(kind: Kind) -> None:
    """As where a test, or Airflow's ``dag.test()``, uses one object for several runs."""
    task, began = kind.make(), long_ago()
    before = finish(task, context(run_id="before", began=began))
    after = finish(task, context(try_number=2, store=Store(), began=began))
    assert after[kind.job_id] != before[kind.job_id]


@starting
def test_what_ended_before_is_not_taken_up_though_the_first_try_was_killed_as_it_asked(
    kind: Kind, connected: EmulatorProcess
) -> None:
    """It had kept what there was, but not yet asked."""
    began = long_ago()
    before = finish(kind.make(), context(run_id="before", began=began))
    store = Deadly(known_before.STORE_KEY, kept=True)
    with pytest.raises(Killed):
        kind.make().execute(context(store=store, began=began))
    after = finish(kind.make(), context(try_number=2, store=store, began=began))
    assert kind.posts() == 2
    assert after[kind.job_id] != before[kind.job_id]


@pytest.mark.parametrize("kind", ["backfill", "retry", "experiment"], indirect=True)
@pytest.mark.parametrize("seconds", [0, 3600])
def test_what_the_killed_try_has_started_is_taken_up_though_it_could_not_keep_it(
    kind: Kind, connected: EmulatorProcess, seconds: int
) -> None:
    store, began = Deadly(job_start.STORE_KEY, kept=False), long_ago()
    with pytest.raises(Killed):
        kind.make().execute(context(store=store, began=began))
    connected.advance(seconds)
    finish(kind.make(), context(try_number=2, store=store, began=began))
    assert kind.posts() == 1
    assert store.kept == {}


@starting
@pytest.mark.parametrize("ahead", [0, 3600])
def test_where_nothing_is_kept_the_beginning_of_the_run_decides(
    kind: Kind, connected: EmulatorProcess, ahead: int
) -> None:
    before = finish(kind.make(), context(run_id="before", began=long_ago()))
    connected.advance(ahead)
    began = datetime.now(timezone.utc)
    first = finish(kind.make(), context(try_number=2, began=began))
    assert first[kind.job_id] != before[kind.job_id]
    again = finish(kind.make(), context(try_number=2, began=began))
    assert again[kind.job_id] == first[kind.job_id]
    assert kind.posts() == 2


@starting
@pytest.mark.parametrize("kept", [True, False], ids=["with Airflow's store", "without"])
def test_posthog_s_clock_may_be_behind(kind: Kind, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Ours is an hour ahead, in the worker and for the scheduler who wrote down when the run began."""
    store = Deadly(job_start.STORE_KEY, kept=False) if kept else None
    for module in (known_before, watched_job, job_start, job):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() + 3600, sleep=time.sleep))
    began = long_ago() + timedelta(hours=1)
    if kept:
        with pytest.raises(Killed):
            kind.make().execute(context(store=store, began=began))
    else:
        finish(kind.make(), context(began=began))
    finish(kind.make(), context(try_number=2, store=store, began=began))
    assert kind.posts() == 1


@pytest.mark.parametrize("kind", ["sync", "view"], indirect=True)
@pytest.mark.parametrize("times", [1, 2], ids=["before it asked", "before it heard"])
def test_what_the_killed_try_was_about_to_ask_for_is_asked_for_once(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(watched_job, "UNANSWERED_SECONDS", 0.5)
    store = Deadly(job_start.STORE_KEY, kept=times == 1, times=times)
    with pytest.raises(Killed):
        kind.make().execute(context(store=store))
    assert kind.posts() == times - 1
    assert finish(kind.make(), context(try_number=2, store=store))[kind.job_id]
    assert kind.posts() == 1


@pytest.mark.parametrize("kind", ["backfill", "retry", "sync", "view"], indirect=True)
def test_what_is_just_being_asked_for_is_cancelled_by_a_kill(
    kind: Kind, connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Airflow kills: its handler of SIGTERM calls ``on_kill()`` while the request is open."""
    connected.settings(batch_run_seconds=600, warehouse_job_seconds=600)
    task, asked, main = kind.make(), threading.Event(), threading.main_thread()

    def between(received: Received) -> Reply:
        if received.path.endswith(("/backfills/", "/retry/", "/reload/", "/run/")) and received.method == "POST":
            signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
            asked.wait(10)
        return forward(connected, received)

    def killed(*_: object) -> None:
        asked.set()
        task.on_kill()
        raise Killed

    before = signal.signal(signal.SIGUSR1, killed)
    try:
        with ScriptedServer(Reply(by=between)) as server:
            monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", connection_through(server, connected))
            with pytest.raises(Killed):
                task.execute(context())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert kind.posts() == 1
    assert any(call["status"] == 200 for call in connected.calls("/cancel/", "POST"))


def test_a_backfill_that_somebody_has_started_is_not_cancelled(connected: EmulatorProcess) -> None:
    """Neither by the trigger, nor by the worker that goes on after it, nor by a retry."""
    connected.settings(batch_run_seconds=600, backfill_hidden_seconds=0)
    api, store = Client(connected.url, connected.api_key), Store()
    export = api.get("batch_exports/").json()["results"][0]["id"]
    window = {"start": days_ago(4), "end": days_ago(2)}
    body = {"start_at": f"{days_ago(4):%Y-%m-%d}", "end_at": f"{days_ago(2):%Y-%m-%d}"}
    theirs = api.post(f"batch_exports/{export}/backfills/", body).json()["backfill_id"]

    def task(**options: Any) -> Any:
        given = {"task_id": "task", "batch_export": FIRST, "poll_interval": 0.1, "timeout": 0.5, **window}
        return PostHogBackfillBatchExportOperator(**{**given, **options})

    for number, deferrable in enumerate((True, False, True), start=1):
        with pytest.raises((PostHogJobTimeout, TimeoutError), match="went on before this task"):
            finish(task(deferrable=deferrable), context(try_number=number, store=store, began=long_ago()))
    killed = task(deferrable=True)
    with pytest.raises(task_deferred()):
        killed.execute(context(try_number=4, store=store, began=long_ago()))
    killed.on_kill()
    assert api.get(f"batch_exports/{export}/backfills/{theirs}/").json()["status"] == "Running"
    assert not connected.calls("/cancel/", "POST")
