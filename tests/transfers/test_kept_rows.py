"""A load that PostHog's limits stop goes on where it stopped; a kill costs what was on its way, and nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.load.parts import Parts
from airflow_provider_posthog.tasks import deferring, spool
from tests.load.databases import Database, DuckDB, SQLite, postgres_database
from tests.operators.support import connect, context, run_trigger, task_deferred
from tests.transfers.test_deferring import QUERY, limited, run, sql
from tests.transfers.test_posthog_to_sql import day

TABLES = {
    "postgres": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    "duckdb": "SELECT table_name FROM duckdb_tables()",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker waits itself: a moment, rather than a minute."""
    monkeypatch.setattr(deferring, "WORTH", 0.2)


@pytest.fixture(params=["postgres", "duckdb", "sqlite"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    if request.param == "postgres":
        with postgres_database() as found:
            monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", found.airflow_connection())
            yield found
        return
    database = DuckDB(tmp_path / "lake.duckdb") if request.param == "duckdb" else SQLite(tmp_path / "lake.sqlite")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    yield database


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def tables(database: Database) -> list[str]:
    kind = {"Postgres": "postgres", "DuckDB": "duckdb"}.get(type(database).__name__, "sqlite")
    return sorted(row[0] for row in database.rows(TABLES[kind]))


def pages(connection: EmulatorProcess, since: int = 0) -> list[str]:
    """The pages that were asked for, each as text: neither counts nor the first look."""
    calls = connection.calls("/query/", "POST")[since:]
    texts = [json.dumps(call["body"]["query"], sort_keys=True) for call in calls]
    return [text for text in texts if "properties" in text and "count(" not in text]


def stopped(connection: EmulatorProcess, ctx: Any, *, skip: int = 8) -> dict[str, Any]:
    """Run a load until PostHog asks to wait; returns the event that it goes on with."""
    limited(connection, skip=skip)
    with pytest.raises(task_deferred()) as deferred:
        sql(max_in_flight=1).execute(ctx)
    told: dict[str, Any] = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    return told


def test_only_what_is_missing_is_read_after_the_wait(connection: EmulatorProcess, warehouse: Database) -> None:
    ctx = context()
    told = stopped(connection, ctx)
    asked = len(connection.calls("/query/", "POST"))
    before = pages(connection)[:-1]  # the last one was refused
    assert [name for name in tables(warehouse) if "__loading_" in name], "what was read is kept"
    assert told["lost"] == 0
    found = sql(max_in_flight=1).execute_complete(ctx, event=told)
    after = pages(connection, asked)
    assert len(before) >= 2
    assert len(after) >= 2
    assert len({*before} & {*after}) <= 1, "the first look is a page, too"
    there = connection.count_events(day(5), day(3), "created_at")
    assert found["rows"] == found["inserted"] == warehouse.count() == len(set(warehouse.uuids())) == there
    assert tables(warehouse) == ["events"]


def test_nothing_is_open_and_nothing_is_in_the_table_during_the_wait(connection: EmulatorProcess) -> None:
    with postgres_database() as warehouse, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse.airflow_connection())
        stopped(connection, context())
        others = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        assert warehouse.rows(others)[0][0] == 0
        assert warehouse.count() == 0


def test_many_waits_end_with_every_row_once(connection: EmulatorProcess, lake: DuckDB) -> None:
    for skip in (7, 9, 12, 14):
        limited(connection, skip=skip, wait=0.5)
    found, deferred = run(lambda: sql(max_in_flight=1))
    assert len(deferred) >= 2
    assert found["rows"] == lake.count() == len(set(lake.uuids()))
    assert found["rows"] == connection.count_events(day(5), day(3), "created_at")
    assert tables(lake) == ["events"]


def test_a_load_of_few_rows_keeps_nothing(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parts, "add", lambda *_: pytest.fail("something was kept"))
    assert sql().execute(context())["rows"] == lake.count() > 1000


def test_a_killed_try_costs_what_was_on_its_way(
    connection: EmulatorProcess, warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "PART_BYTES", 1)
    monkeypatch.setattr("airflow_provider_posthog.tasks.spooling.SpoolingOperator.give_up", lambda self: None)
    ctx = context()
    connection.faults(method="POST", path=QUERY, status=400, body={"detail": "no"}, skip=8, count=-1)
    with pytest.raises(PostHogError):  # as a kill would end it: nothing is tidied up
        sql(max_in_flight=1).execute(ctx)
    connection.clear_faults()
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse.airflow_connection())  # type: ignore[attr-defined]
    connect(monkeypatch, connection)
    asked, before = len(connection.calls("/query/", "POST")), pages(connection)
    found = sql(max_in_flight=1).execute(context(try_number=2))
    assert len({*before[:-1]} & {*pages(connection, asked)}) <= 1
    assert found["rows"] == warehouse.count() == connection.count_events(day(5), day(3), "created_at")
    assert tables(warehouse) == ["events"]


def test_what_another_load_has_left_is_removed_and_not_taken_up(connection: EmulatorProcess, lake: DuckDB) -> None:
    stopped(connection, context())
    found = sql(where="event != 'purchase'", replaces="all").execute(context())
    there = connection.count_events(day(5), day(3), "created_at")
    assert 0 < found["rows"] == lake.count() < there
    assert tables(lake) == ["events"]


@pytest.mark.parametrize("end", ["failure", "kill", "no more waits"])
def test_nothing_is_left_behind_by_a_load_that_ends_otherwise(
    connection: EmulatorProcess, warehouse: Database, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    ctx = context()
    told = stopped(connection, ctx)
    task = sql(max_in_flight=1, deferrable=True)
    if end == "kill":
        keep = Parts.add

        def killed(parts: Parts, *given: Any) -> None:
            keep(parts, *given)
            task.on_kill()

        monkeypatch.setattr(spool, "PART_BYTES", 1)
        monkeypatch.setattr(Parts, "add", killed)
        expected: type[BaseException] = Stopped
    else:
        status = 400 if end == "failure" else 429
        connection.faults(method="POST", path=QUERY, status=status, body={"detail": "no"}, skip=3, count=-1)
        connect(monkeypatch, connection, max_rate_limit_wait=0)
        expected = PostHogError
    with pytest.raises(expected):
        task.execute_complete(ctx, event=told)
    connection.clear_faults()
    assert {*tables(warehouse)} <= {"events"}, "some databases undo that it was made, too"
    assert tables(warehouse) == [] or warehouse.count() == 0


def test_a_role_that_may_make_no_table_loads_as_before(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "PART_BYTES", 1)
    monkeypatch.setattr(Parts, "_name", property(lambda self: '"nowhere"."x"', lambda self, name: None), raising=False)
    found = sql().execute(context())
    assert found["rows"] == lake.count() == connection.count_events(day(5), day(3), "created_at")
    assert found["windows"] > 3


def test_a_table_that_does_not_fit_is_refused_before_the_rows_are_read(
    connection: EmulatorProcess, lake: DuckDB
) -> None:
    lake.run("CREATE TABLE events (uuid BIGINT, created_at BIGINT)")
    with pytest.raises(PostHogSettingsError):
        sql(max_in_flight=1).execute(context())
    assert len(pages(connection)) <= 1
    assert tables(lake) == ["events"]
