"""What the tests of operators, sensors, triggers and whole DAGs share."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess

SUMMARY = ["id", "filename", "export_format", "created_at", "expires_after", "has_content", "project_id", "host"]
ALL_EVENTS = "SELECT uuid, event, timestamp FROM events ORDER BY uuid LIMIT 500"
EXPORTS = "*/exports/"


@pytest.fixture
def connected(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    """The emulator, and an Airflow connection ``posthog_default`` to it."""
    connect(monkeypatch, posthog)
    return posthog


def connect(monkeypatch: pytest.MonkeyPatch, posthog: EmulatorProcess, **extra: object) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", posthog.airflow_connection_json(**extra))


class Store:
    """Airflow 3.3's task state store, without Airflow; it takes JSON only."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get(self, key: str) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else None

    def set(self, key: str, value: Any) -> None:
        assert value is not None
        self.kept[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


def context(
    *,
    try_number: int = 1,
    retries: int = 2,
    max_tries: int | None = None,
    run_id: str = "manual__1",
    map_index: int = -1,
    store: Store | None = None,
    began: datetime | None = None,
) -> dict[str, Any]:
    """A task's context as far as this provider reads it; pushed XComs are in ``context["ti"].pushed``."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="dag",
        run_id=run_id,
        task_id="task",
        map_index=map_index,
        try_number=try_number,
        max_tries=retries if max_tries is None else max_tries,
        task=SimpleNamespace(retries=retries),
        pushed=pushed,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    made: dict[str, Any] = {"ti": ti, "dag_run": SimpleNamespace(start_date=began)}
    if store is not None:
        made["task_state_store"] = store
    return made


def task_deferred() -> type[BaseException]:
    try:
        from airflow.sdk.exceptions import TaskDeferred
    except ImportError:
        from airflow.exceptions import TaskDeferred
    return TaskDeferred


def outcome_errors() -> SimpleNamespace:
    """Airflow's own exceptions, by the names that compat gives them."""
    from airflow_provider_posthog import compat

    return SimpleNamespace(
        skip=compat.AirflowSkipException, timeout=compat.AirflowSensorTimeout, task_timeout=compat.AirflowTaskTimeout
    )


@contextmanager
def airflows_timer(seconds: float) -> Iterator[None]:
    """What Airflow does in a worker: it raises in the main thread by a signal, whatever that does."""

    def ring(*_: object) -> None:
        raise outcome_errors().task_timeout("Timeout, PID: 1")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_trigger(trigger: Any, seconds: float = 30.0) -> dict[str, Any]:
    """Send a trigger to a triggerer (as JSON) and return its only event's payload."""
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    assert module.startswith("airflow_provider_posthog.triggers.")
    there = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))

    async def all_events() -> list[Any]:
        return [event.payload async for event in there.run()]

    async def limited() -> list[Any]:
        return await asyncio.wait_for(all_events(), seconds)

    events = asyncio.run(limited())
    assert len(events) == 1
    payload: dict[str, Any] = json.loads(json.dumps(events[0]))
    return payload


def finish(operator: Any, ctx: Mapping[str, Any] | None = None) -> Any:
    """Execute a task, and where it defers, run its trigger and go on as Airflow's task runner does."""
    ctx = {} if ctx is None else ctx
    try:
        return operator.execute(ctx)
    except task_deferred() as deferred:
        event = run_trigger(deferred.trigger)  # type: ignore[attr-defined]
        kwargs = {**(deferred.kwargs or {}), "event": event}  # type: ignore[attr-defined]
        return operator.resume_execution(deferred.method_name, kwargs, ctx)  # type: ignore[attr-defined]


def export_operator(**options: Any) -> Any:
    """An export of some events that polls quickly."""
    from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator

    given = {"task_id": "task", "poll_interval": 0.1, "timeout": 20, "failure_grace": 0.3, "deferrable": False}
    given["on_retention"] = "ignore"  # which is asked for by a call of its own
    if not {"query", "insight", "dashboard", "export_context"} & set(options):
        given["query"] = ALL_EVENTS
    return PostHogCreateExportOperator(**{**given, **options})


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """Do something several times at once; returns what came of each."""

    def allow() -> None:  # Airflow 2.11's guard of execute() knows the main thread only
        with suppress(ImportError):
            from airflow.models.baseoperator import ExecutorSafeguard

            ExecutorSafeguard._sentinel.callers = {}

    with ThreadPoolExecutor(count, initializer=allow) as threads:
        return list(threads.map(work, range(count)))


def created(posthog: EmulatorProcess) -> int:
    """How many exports there are."""
    return int(posthog.stats()["exports"]["created"])


def posts(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    """The POSTs that asked for exports."""
    return [call for call in posthog.calls("/exports/", "POST") if call["path"].endswith("/exports/")]


def when(moment: datetime) -> dict[str, Any]:
    """The argument of ``dag.test()`` that names the logical date."""
    from airflow.models.dag import DAG

    names = inspect.signature(DAG.test).parameters
    return {"execution_date" if "execution_date" in names else "logical_date": moment}


def rows_of_database(sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Read Airflow's metadata database."""
    from airflow.configuration import conf

    path = conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///")
    assert os.path.exists(path)
    for tries_left in reversed(range(50)):
        try:
            with closing(sqlite3.connect(path)) as database:
                return database.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:  # Airflow is just closing its own last connection
            with suppress(Exception):
                return _rows_by_airflow(sql, values)
            if not tries_left:
                name = getattr(error, "sqlite_errorname", error)
                raise AssertionError(f"{name}: {sorted(os.listdir(os.path.dirname(path)))}") from error
            time.sleep(0.2)
    raise AssertionError


def _rows_by_airflow(sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    """Read through a connection that Airflow has: it can still read when the log it shares is gone from the disk."""
    from airflow import settings

    with settings.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql, values).fetchall()]


def task_states(run: Any) -> dict[str, str]:
    found = rows_of_database(
        "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ? AND run_id = ?", run.dag_id, run.run_id
    )
    return {name if index < 0 else f"{name}[{index}]": str(state) for name, index, state in found}


def xcoms(run: Any) -> dict[tuple[str, int, str], Any]:
    """All XComs of a run by task, map index and key."""
    found = rows_of_database(
        "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ? AND run_id = ?", run.dag_id, run.run_id
    )
    return {(task, index, key): _value(value) for task, index, key, value in found}


def _value(value: Any) -> Any:
    value = json.loads(value) if isinstance(value, (str, bytes)) else value
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def make_dag(dag_id: str, fill: Callable[[], object], **options: Any) -> Any:
    """A DAG without a schedule; ``fill`` makes its tasks."""
    try:
        from airflow.sdk import DAG
    except ImportError:
        from airflow.models.dag import DAG
    with DAG(dag_id, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None, **options) as dag:
        fill()
    return dag
