"""A load that PostHog's limits stop goes on where it stopped; a kill costs what was on its way, and nothing is left."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.load.parts import Parts
from airflow_provider_posthog.tasks import deferring, spool
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
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
    database = (
        DuckDB(tmp_path / "lake.duckdb", held=True) if request.param == "duckdb" else SQLite(tmp_path / "lake.sqlite")
    )
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    yield database


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb", held=True)
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


def test_an_earlier_interval_that_is_loaded_again_goes_on_where_a_wait_has_stopped_it(
    connection: EmulatorProcess, lake: DuckDB
) -> None:
    def load() -> PostHogToSqlOperator:
        return sql(start=day(4), end=day(3), verify_back=timedelta(days=1), max_in_flight=1)

    lost = f"DELETE FROM events WHERE uuid = (SELECT min(uuid) FROM events WHERE created_at < '{day(4)}')"
    sql(start=day(5), end=day(4)).execute(context(run_id="before"))
    lake.run(lost)
    asked = len(connection.calls("/query/", "POST"))
    assert len(load().execute(context(run_id="as it is"))["reloaded"]) == 1
    needed = len(connection.calls("/query/", "POST")) - asked
    lake.run(lost)
    asked += needed
    limited(connection, skip=needed - 3, wait=0.5)
    found, deferred = run(load, context(run_id="stopped"))
    assert len(deferred) == 1
    assert len(found["reloaded"]) == 1
    of_reload = [page for page in pages(connection, asked) if f"{day(5):.10}" in page]
    assert len(of_reload) >= 4
    assert len({*of_reload}) >= len(of_reload) - 3, "the first look, what was refused, and what was on its way"
    assert lake.count() == len(set(lake.uuids())) == connection.count_events(day(5), day(3), "created_at")
    assert tables(lake) == ["events"]


@pytest.mark.reliability
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


# What nobody goes on with.


def left(database: Database, name: str, *notes: dict[str, Any]) -> None:
    kind = "bytea" if type(database).__name__ == "Postgres" else "BLOB"
    database.run(f'CREATE TABLE "{name}" (part BIGINT, piece BIGINT, note TEXT, data {kind})')
    for number, note in enumerate(notes):
        database.run(f"INSERT INTO \"{name}\" VALUES ({number}, 0, '{json.dumps(note)}', NULL)")


def noted(days: float, **changes: Any) -> dict[str, Any]:
    began = datetime.now(timezone.utc) - timedelta(days=days)
    return {"version": 1, "owner": {"task": "t", "request": "r"}, "load": "1", "began": began.timestamp(), **changes}


def name_of(days: int, tag: str, stem: str = "events") -> str:
    made = datetime.now(timezone.utc) - timedelta(days=days)
    return f"{stem}__loading_posthog_{made:%Y%m%d}_{tag}"


def test_what_nobody_goes_on_with_is_removed_by_a_later_load_of_the_table(
    connection: EmulatorProcess, warehouse: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gone = [name_of(30, "a1"), name_of(9, "a2")]
    left(warehouse, gone[0], noted(30), noted(29))
    left(warehouse, gone[1])  # its first part was never kept
    stays = {
        name_of(30, "b1"): [noted(30), noted(1)],  # goes on
        name_of(3, "b2"): [noted(3)],
        name_of(0, "b3"): [],
        name_of(30, "b4"): [{"began": 0}],  # somebody else's
        name_of(30, "b5", "orders"): [noted(30)],
        "events__loading_posthog_notes": [noted(30)],
    }
    for name, notes in stays.items():
        left(warehouse, name, *notes)
    sql().execute(context())
    assert tables(warehouse) == sorted(["events", *stays])
    assert all(name in caplog.text for name in gone)


def test_a_table_of_other_columns_stays(connection: EmulatorProcess, lake: DuckDB) -> None:
    lake.run(f'CREATE TABLE "{name_of(30, "c1")}" (id BIGINT)')
    sql().execute(context())
    assert tables(lake) == sorted(["events", name_of(30, "c1")])


def test_what_cannot_be_read_of_an_earlier_try_is_read_again_and_told(
    connection: EmulatorProcess, lake: DuckDB, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(connection, ctx := context())
    (name,) = (name for name in tables(lake) if "__loading_" in name)
    lake.run(f"UPDATE \"{name}\" SET note = 'no JSON'")
    found = sql(max_in_flight=1).execute(ctx)
    assert "cannot be read, so that it is read from PostHog again. It is not what this package writes." in caplog.text
    assert found["rows"] == lake.count() == connection.count_events(day(5), day(3), "created_at")
    assert tables(lake) == ["events"]
