"""Long waits of loads are left to the triggerer, and the load goes on behind them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.compat import AirflowTaskTimeout
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogRateLimitError
from airflow_provider_posthog.tasks import deferring
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB
from tests.operators.support import connect, context, make_dag, run_trigger, task_deferred, task_states, xcoms
from tests.transfers.choosing import source_in
from tests.transfers.test_posthog_to_sql import day
from tests.transfers.test_query_to_object_storage import everything, table_of

RunDag = Callable[..., Any]
QUERY = "*/query/"
SETTLED = timedelta(0)
#: What is read as a whole has no place to go on from.
WHOLE = {"source": "persons", "table": "persons", "page_rows": 100, "max_in_flight": 1}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker waits itself: a moment, rather than a minute."""
    monkeypatch.setattr(deferring, "WORTH", 0.2)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def sql(**options: Any) -> PostHogToSqlOperator:
    given = {"sql_conn_id": "warehouse", "table": "events", "start": day(5), "end": day(3), "page_rows": 200}
    return PostHogToSqlOperator(
        task_id="task", **{**source_in(options), "deferrable": True, "settle": SETTLED, **given, **options}
    )


def files(folder: Path, **options: Any) -> PostHogQueryToObjectStorageOperator:
    given = {"path": str(folder), "start": day(5), "end": day(3), "page_rows": 200, "max_in_flight": 1}
    return PostHogQueryToObjectStorageOperator(
        task_id="task", **{**source_in(options), "deferrable": True, "settle": SETTLED, **given, **options}
    )


def run(make: Callable[[], Any], ctx: Mapping[str, Any] | None = None) -> tuple[Any, list[Any]]:
    """Run a task as Airflow does, each part of it by an operator of its own; return its result and its deferrals."""
    ctx = context() if ctx is None else ctx
    deferred: list[Any] = []
    while True:
        operator = make()
        try:
            if not deferred:
                return operator.execute(ctx), deferred
            last = deferred[-1]
            event = run_trigger(last.trigger)
            return operator.resume_execution(last.method_name, {**(last.kwargs or {}), "event": event}, ctx), deferred
        except task_deferred() as error:
            deferred.append(error)
            assert len(deferred) < 9


def limited(connection: EmulatorProcess, *, skip: int, wait: float = 1.0, count: int = 1) -> None:
    connection.faults(
        method="POST", path=QUERY, status=429, headers={"Retry-After": f"{wait:g}"}, skip=skip, count=count
    )


def event(moment: datetime, name: str) -> dict[str, Any]:
    made = {"uuid": str(uuid4()), "event": name, "distinct_id": "jane", "person_id": str(uuid4())}
    return {**made, "timestamp": moment.isoformat(), "created_at": moment.isoformat(), "properties": {}}


# Until rows have settled.


def test_a_load_defers_until_its_rows_have_settled_and_opens_nothing_before(
    connection: EmulatorProcess, lake: DuckDB
) -> None:
    end = datetime.now(timezone.utc)
    settle = timedelta(seconds=1.5)
    made = {"start": day(2), "end": end.isoformat(), "settle": settle}
    with pytest.raises(task_deferred()):
        sql(**made).execute(context())
    assert not lake.path.exists()
    found, deferred = run(lambda: sql(**made))
    assert datetime.now(timezone.utc) >= end + settle
    assert len(deferred) <= 1
    assert found["rows"] == lake.count() == connection.count_events(day(2), end.isoformat(), "created_at")


def test_files_hold_what_has_settled_and_the_rest_comes_after_the_wait(
    connection: EmulatorProcess, tmp_path: Path
) -> None:
    name, end = f"late {uuid4()}", datetime.now(timezone.utc)
    connection.add_events([event(end - timedelta(seconds=each), name) for each in (0.5, 1, 3000)])
    made = {"start": day(2), "end": end.isoformat(), "settle": timedelta(seconds=5)}
    ctx = context()
    with pytest.raises(task_deferred()) as deferred:
        files(tmp_path, **made).execute(ctx)
    (progress,) = tmp_path.rglob("progress.json")
    kept = json.loads(progress.read_text())
    assert sum(file["rows"] for file in kept["files"]) == kept["note"]["rows"] > 0
    before = len(connection.calls("/query/"))
    told = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    found = files(tmp_path, **made).execute_complete(ctx, event=told)
    table = table_of(tmp_path)
    assert found["rows"] == table.num_rows == connection.count_events(day(2), end.isoformat(), "created_at")
    assert table["event"].to_pylist().count(name) == 3
    assert found["rows"] > kept["note"]["rows"], "what had not settled comes after the wait"
    assert len(connection.calls("/query/")) - before <= 6, "what was read is not read again"


def test_a_short_wait_stays_in_the_worker(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferring, "WORTH", 60.0)
    found, deferred = run(lambda: sql(end=datetime.now(timezone.utc), settle=timedelta(seconds=1)))
    assert (deferred, found["rows"]) == ([], lake.count())


def test_without_deferrable_the_worker_waits(connection: EmulatorProcess, lake: DuckDB) -> None:
    end = datetime.now(timezone.utc)
    found = sql(end=end, settle=timedelta(seconds=1), deferrable=False).execute(context())
    assert datetime.now(timezone.utc) >= end + timedelta(seconds=1)
    assert found["rows"] == lake.count()


def test_airflows_default_decides_whether_it_is_deferrable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sql(deferrable=None).deferrable is False
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert sql(deferrable=None).deferrable is True


@pytest.mark.parametrize("kind", ["sql", "files"])
def test_a_wait_behind_the_execution_timeout_ends_at_once(
    connection: EmulatorProcess, lake: DuckDB, tmp_path: Path, kind: str
) -> None:
    options: dict[str, Any] = {
        "end": datetime.now(timezone.utc),
        "settle": timedelta(minutes=10),
        "execution_timeout": timedelta(minutes=5),
    }
    task: Any = sql(**options) if kind == "sql" else files(tmp_path / "files", **options)
    began = time.monotonic()
    with pytest.raises(AirflowTaskTimeout, match="settle"):
        task.execute(context())
    assert time.monotonic() - began < 10


# When PostHog asks to wait.


def test_files_go_on_where_a_long_429_stopped_them(connection: EmulatorProcess, tmp_path: Path) -> None:
    limited(connection, skip=6)
    found, deferred = run(lambda: files(tmp_path))
    assert len(deferred) == 1
    table = table_of(tmp_path)
    assert found["rows"] == table.num_rows == connection.count_events(day(5), day(3), "created_at") > 1000
    assert len(set(table["uuid"].to_pylist())) == table.num_rows
    assert len(everything(tmp_path)) == found["files"] + 1
    assert found["files"] > 1, "what was read before is kept in a file of its own"


def test_files_end_exact_through_many_waits(connection: EmulatorProcess, tmp_path: Path) -> None:
    for skip in (3, 2, 4, 1, 5):
        limited(connection, skip=skip, wait=0.5)
    found, deferred = run(lambda: files(tmp_path))
    assert len(deferred) >= 2
    assert found["rows"] == table_of(tmp_path).num_rows == connection.count_events(day(5), day(3), "created_at")


def test_a_load_that_the_limits_stop_at_the_same_place_again_fails_instead_of_going_round(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, connection, max_rate_limit_wait=0)
    limited(connection, skip=4)
    ctx = context()
    with pytest.raises(task_deferred()) as deferred:
        sql(**WHOLE).execute(ctx)
    told = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    assert told["lost"] > 0
    limited(connection, skip=4, count=-1)
    with pytest.raises(PostHogRateLimitError):
        sql(**WHOLE).execute_complete(ctx, event={**told, "lost": 10**9})
    connection.clear_faults()


def test_whose_rows_were_lost_to_a_wait_waits_as_long_as_the_connection_lets_it(
    connection: EmulatorProcess, lake: DuckDB
) -> None:
    """The connection's max_rate_limit_wait is 60 s; a second wait in the midst of a load would lose it again."""
    limited(connection, skip=4)
    limited(connection, skip=8)
    found, deferred = run(lambda: sql(**WHOLE))
    assert len(deferred) == 1
    assert found["rows"] == lake.count("persons") > 0


def test_a_429_before_anything_was_read_may_come_again(connection: EmulatorProcess, lake: DuckDB) -> None:
    limited(connection, skip=0, wait=0.5, count=6)
    found, deferred = run(sql)
    assert 1 <= len(deferred) <= 6
    assert found["rows"] == lake.count() > 0


def test_a_429_without_a_time_to_wait_is_an_error(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, connection, max_rate_limit_wait=0)
    connection.faults(method="POST", path=QUERY, status=429, skip=3, count=-1)
    with pytest.raises(PostHogRateLimitError):
        sql().execute(context())
    connection.clear_faults()


@pytest.mark.parametrize(("asked", "waits"), [(120, 120), (1e7, 3600)])
def test_a_wait_is_what_posthog_asks_for_and_an_hour_at_most(
    connection: EmulatorProcess, lake: DuckDB, asked: float, waits: float
) -> None:
    connection.faults(method="POST", path=QUERY, status=429, headers={"Retry-After": f"{asked:.0f}"}, count=-1)
    with pytest.raises(task_deferred()) as deferred:
        sql().execute(context())
    connection.clear_faults()
    until = deferred.value.trigger.until  # type: ignore[attr-defined]
    assert until - time.time() == pytest.approx(waits, abs=10)


@pytest.mark.parametrize(
    "options", [{"deferrable": False}, {"execution_timeout": timedelta(seconds=90)}], ids=["worker", "no time"]
)
def test_where_it_cannot_be_waited_for_the_429_is_the_error(
    connection: EmulatorProcess, lake: DuckDB, options: dict[str, Any]
) -> None:
    connection.faults(method="POST", path=QUERY, status=429, headers={"Retry-After": "120"}, count=-1)
    with pytest.raises(PostHogRateLimitError) as error:
        sql(**options).execute(context())
    connection.clear_faults()
    assert error.value.retry_after == 120


def test_the_time_of_all_waits_together_is_bounded(connection: EmulatorProcess, lake: DuckDB) -> None:
    limited(connection, skip=0, wait=30, count=-1)
    yesterday = time.time() - deferring.IN_ALL
    with pytest.raises(PostHogRateLimitError):
        sql().execute_complete(context(), event={"version": 1, "began": yesterday, "lost": 0, "try_number": 1})
    connection.clear_faults()


@pytest.mark.parametrize("told", [None, {}, {"version": 99}, {"version": 1, "began": "yesterday", "lost": None}])
def test_an_event_that_cannot_be_read_costs_no_load(
    connection: EmulatorProcess, lake: DuckDB, told: dict[str, Any] | None
) -> None:
    found = sql().execute_complete(context(), event=told)
    assert found["rows"] == lake.count() > 0


def test_what_is_deferred_is_small_and_tells_nothing(connection: EmulatorProcess, lake: DuckDB) -> None:
    limited(connection, skip=0, wait=30, count=-1)
    with pytest.raises(task_deferred()) as deferred:
        sql(where="distinct_id = {who}", values={"who": "jane@example.com"}, write_disposition="merge").execute(
            context()
        )
    connection.clear_faults()
    text = json.dumps(deferred.value.trigger.serialize())  # type: ignore[attr-defined]
    assert len(text) < 400
    assert not [secret for secret in (connection.api_key, "jane", "@") if secret in text]
    assert not deferred.value.kwargs  # type: ignore[attr-defined]


# On real Airflow.


def test_dag_test_runs_both_waits_to_their_end(
    connection: EmulatorProcess, lake: DuckDB, tmp_path: Path, run_dag: RunDag
) -> None:
    end = datetime.now(timezone.utc) - timedelta(seconds=1)
    limited(connection, skip=12)

    def fill() -> None:
        span: Any = {
            "source": "events",
            "start": day(2),
            "end": end.isoformat(),
            "settle": timedelta(seconds=15),
            "deferrable": True,
        }
        one = PostHogQueryToObjectStorageOperator(task_id="files", path=str(tmp_path / "files"), page_rows=100, **span)
        one >> PostHogToSqlOperator(task_id="sql", sql_conn_id="warehouse", table="events", **span)

    done = run_dag(make_dag("deferring", fill))
    assert task_states(done) == {"files": "success", "sql": "success"}
    there = connection.count_events(day(2), end.isoformat(), "created_at")
    found = xcoms(done)
    assert found["files", -1, "return_value"]["rows"] == found["sql", -1, "return_value"]["rows"] == there
    assert table_of(tmp_path / "files").num_rows == lake.count() == there
