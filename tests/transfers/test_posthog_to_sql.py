"""Every row of an interval into a table, once, whatever happens on the way."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from tests.load.databases import Database, DuckDB, SQLite, postgres_database
from tests.operators.support import context, make_dag, when
from tests.transfers.choosing import source_in

MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def day(ago: float) -> str:
    return (MIDNIGHT - timedelta(days=ago)).isoformat()


@pytest.fixture(params=["postgres", "duckdb", "sqlite"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Each database in turn, behind the Airflow connection ``warehouse``."""
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
    """The database that is made fastest."""
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


#: All events, also those that other tests have made.
EVER = ("1970-01-01", "2106-01-01")


def operator(**options: Any) -> PostHogToSqlOperator:
    given = {"sql_conn_id": "warehouse", "table": "events", "start": day(5), "end": day(3), "page_rows": 500}
    return PostHogToSqlOperator(task_id="task", **{**source_in(options), **given, "settle": timedelta(0), **options})


def load(**options: Any) -> dict[str, Any]:
    found = operator(**options).execute(context())
    assert json.loads(json.dumps(found)) == found
    return found


def event(moment: str, **parts: Any) -> dict[str, Any]:
    made = {"uuid": str(uuid4()), "event": "into sql", "distinct_id": "jane@example.com", "person_id": str(uuid4())}
    return {**made, "timestamp": moment, "created_at": moment, "properties": {"n": 1}, **parts}


def test_events_are_loaded_and_loaded_again(connection: EmulatorProcess, warehouse: Database) -> None:
    there = connection.count_events(day(5), day(3), "created_at")
    found = load()
    assert found["rows"] == found["inserted"] == warehouse.count() == there > 1000
    assert len(set(warehouse.uuids())) == there
    assert found["windows"] >= 2
    assert found["start"] == day(5).replace("+00:00", "Z")
    before = sorted(warehouse.rows("SELECT * FROM events"))
    again = load()
    assert (again["rows"], again["deleted"]) == (there, there)
    assert sorted(warehouse.rows("SELECT * FROM events")) == before
    next_day = load(start=day(3), end=day(2))
    assert next_day["deleted"] == 0
    assert warehouse.count() == connection.count_events(day(5), day(2), "created_at")


def test_the_interval_of_the_run_is_the_default(connection: EmulatorProcess, lake: DuckDB) -> None:
    run = {"data_interval_start": MIDNIGHT - timedelta(days=4), "data_interval_end": MIDNIGHT - timedelta(days=3)}
    found = operator(start=None, end=None).execute({**context(), **run})
    assert found["rows"] == connection.count_events(day(4), day(3), "created_at") == lake.count()


def test_late_events_come_with_a_look_back(connection: EmulatorProcess, lake: DuckDB) -> None:
    load(time_column="timestamp")
    name = f"late {uuid4()}"  # which no other test has made
    connection.add_events([event(day(3.5), created_at=day(1), event=name), event(day(2.5), event=name)])
    found = load(time_column="timestamp", start=day(3), end=day(2), look_back=timedelta(days=2))
    assert found["start"] == day(5).replace("+00:00", "Z")
    assert lake.count(where=f"event = '{name}'") == 2
    assert lake.count() == connection.count_events(day(5), day(2)) == found["rows"]


def test_persons_as_a_snapshot(connection: EmulatorProcess, warehouse: Database) -> None:
    first = load(source="persons", table="persons", write_disposition="merge")
    assert first["rows"] == warehouse.count("persons") > 500
    assert (first["start"], first["end"]) == (None, None)
    connection.add_persons([{"distinct_ids": ["new"], "created_at": day(1)}])
    second = load(source="persons", table="persons", write_disposition="merge")
    assert second["rows"] == warehouse.count("persons") == first["rows"] + 1


def test_new_persons_of_an_interval(connection: EmulatorProcess, lake: DuckDB) -> None:
    connection.add_persons(
        [{"distinct_ids": ["in"], "created_at": day(4)}, {"distinct_ids": ["out"], "created_at": day(3)}]
    )
    for _ in range(2):
        load(source="persons", table="persons", time_column="created_at")
    assert lake.count("persons", f"created_at = '{day(4)}'") == 1
    assert lake.count("persons", f"created_at >= '{day(3)}'") == 0


@pytest.mark.parametrize("write", ["replace_interval", "merge", "append"])
def test_sessions(connection: EmulatorProcess, lake: DuckDB, write: Any) -> None:
    for _ in range(2):
        found = load(source="sessions", table="sessions", write_disposition=write)
    assert found["rows"] == lake.count("sessions") > 100


def test_a_query_with_a_key_of_two_columns(connection: EmulatorProcess, warehouse: Database) -> None:
    sql = "SELECT event, toDate(timestamp) AS day, count() AS events FROM events GROUP BY event, day"
    for _ in range(2):
        found = load(query=sql, table="daily", write_disposition="merge", key=["event", "day"])
    assert found["rows"] == warehouse.count("daily") > 10
    assert int(warehouse.rows("SELECT sum(events) FROM daily")[0][0]) == connection.count_events(
        "1970-01-01", "2106-01-01"
    )


def test_a_query_by_its_own_time(connection: EmulatorProcess, lake: DuckDB) -> None:
    sql = "SELECT uuid, timestamp AS moment, {word} AS word FROM events"
    options = {"values": {"word": "it's"}, "time_column": "moment", "key": "uuid"}
    found = load(query=sql, table="moments", **options)
    assert found["rows"] == lake.count("moments", "word = 'it''s'") == connection.count_events(day(5), day(3))


def test_a_source_in_full(connection: EmulatorProcess, lake: DuckDB) -> None:
    found = load(source="persons", time_column="created_at", columns=["id", "created_at"], table="persons")
    assert found["start"] is not None
    query = "SELECT toString(uuid) AS id, event FROM events"
    load(query=query, table="ids", write_disposition="append", key="id")
    assert lake.count("ids") == connection.count_events(*EVER)
    with pytest.raises(PostHogSettingsError, match="key"):
        load(query=query, table="ids", write_disposition="append")


def test_columns_and_conditions(connection: EmulatorProcess, lake: DuckDB) -> None:
    columns = {"uuid": "uuid", "created_at": "created_at", "browser": "properties.$browser"}
    chosen = {"events": "$pageview", "where": "properties.$browser = {browser}", "values": {"browser": "Chrome"}}
    load(columns=columns, replaces="all", **chosen)
    assert lake.columns() == list(columns)
    assert lake.rows("SELECT DISTINCT browser FROM events") == [("Chrome",)]


def test_all_events_but_some(connection: EmulatorProcess, lake: DuckDB) -> None:
    there = load(table="whole")["rows"]
    names = ["$pageview", "purchase"]
    found = load(exclude_events=names, replaces="all")["rows"]
    assert 0 < found == lake.count("whole", "event NOT IN ('$pageview', 'purchase')") < there
    assert lake.count(where="event IN ('$pageview', 'purchase')") == 0
    with pytest.raises(PostHogSettingsError) as refused:  # the table may hold those of another task
        load(exclude_events="$pageview")
    assert refused.value.field == "exclude_events"


def test_column_types_of_the_users_own(connection: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres_database() as database:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
        for _ in range(2):
            load(column_types={"uuid": "uuid", "properties": "jsonb"}, write_disposition="merge")
        assert database.count(where="properties ? '$browser'") > 100
        assert database.count() == connection.count_events(day(5), day(3), "created_at")


def test_posthog_failing_on_the_way_leaves_the_old_rows(connection: EmulatorProcess, warehouse: Database) -> None:
    load()
    before = sorted(warehouse.rows("SELECT * FROM events"))
    connection.add_events([event(day(4))])
    connection.faults(method="POST", path="*/query/", status=400, body={"detail": "no"}, skip=4, count=-1)
    with pytest.raises(PostHogError):
        load()
    assert sorted(warehouse.rows("SELECT * FROM events")) == before
    connection.clear_faults()
    assert load()["rows"] == len(before) + 1 == warehouse.count()


def test_a_killed_task_stops_reading(connection: EmulatorProcess, lake: DuckDB) -> None:
    load()
    before = lake.count()
    connection.faults(method="POST", path="*/query/", delay=0.2, count=-1)
    task = operator(start=day(20), page_rows=50)
    stopper = threading.Timer(1.0, task.on_kill)
    stopper.start()
    with pytest.raises(Stopped):
        task.execute(context())
    stopper.join()
    assert lake.count() == before


def test_a_file_is_not_opened_before_rows_have_settled(connection: EmulatorProcess, lake: DuckDB) -> None:
    seen: list[bool] = []
    looking = threading.Timer(0.8, lambda: seen.append(lake.path.exists()))
    looking.start()
    found = load(end=datetime.now(timezone.utc), settle=timedelta(seconds=1.6))
    looking.join()
    assert seen == [False]
    assert found["seconds"] > 1.5
    assert found["rows"] == lake.count()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"write_disposition": "truncate"}, "write_disposition"),
        ({"table": "a b"}, "table"),
        ({"table": ""}, "table"),
        ({"source": "nothing"}, "source"),
        ({"source": "groups", "write_disposition": "replace_interval"}, "write_disposition"),
        ({"source": "persons", "write_disposition": "replace_interval"}, "write_disposition"),
        ({"source": "sessions", "write_disposition": "replace"}, "write_disposition"),
        ({"source": "persons", "time_column": "created_at", "write_disposition": "replace"}, "write_disposition"),
        ({"write_disposition": "replace"}, "write_disposition"),
        ({"write_disposition": ""}, "write_disposition"),
        ({"replaces": "everything"}, "replaces"),
        ({"replaces": "all", "write_disposition": "merge"}, "replaces"),
        ({"max_shrink": 50}, "max_shrink"),
        ({"max_shrink": "half"}, "max_shrink"),
        ({"allow_shrink": "perhaps"}, "allow_shrink"),
        ({"verify_back": 5}, "verify_back"),
        ({"verify_back": timedelta(days=-1)}, "verify_back"),
        ({"verify_back": timedelta(days=1), "write_disposition": "merge"}, "verify_back"),
        ({"source": "groups", "verify_back": timedelta(days=1)}, "verify_back"),
        (
            {"verify_back": timedelta(days=10), "start": "2026-11-01T00:00:00Z", "end": "2026-11-01T00:01Z"},
            "verify_back",
        ),
        ({"source": "cohort_members", "cohort_id": "x"}, "cohort_id"),
        ({"query": "SELECT 1"}, "key"),
        ({"query": "SELECT 1; SELECT 2", "key": "a", "time_column": "b"}, "query"),
        ({"query": "SELECT 1 AS a", "key": "a", "write_disposition": "replace_interval"}, "write_disposition"),
        ({"source": "sessions", "time_column": "timestamp"}, "time_column"),
        ({"source": "persons", "events": "x"}, "events"),
        ({"time_column": "moment"}, "time_column"),
        ({"start": "yesterday"}, "start"),
        ({"start": day(3)}, "end"),
        ({"start": "2026-11-01T00:00:00"}, "start"),
        ({"column_types": {"uuid": "uuid; DROP TABLE events"}}, "column_types"),
        ({"settle": 5}, "settle"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"page_rows": 50_000}, "page_rows"),
        ({"source": "persons", "write_disposition": "merge", "look_back": timedelta(days=1)}, "look_back"),
        ({"sql_conn_id": " "}, "sql_conn_id"),
        ({"sql_conn_id": "snow"}, "sql_conn_id"),
        ({"sql_conn_id": "http"}, "sql_conn_id"),
        ({"sql_conn_id": "memory"}, "sql_conn_id"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], field: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SNOW", json.dumps({"conn_type": "snowflake", "host": "x"}))
    monkeypatch.setenv("AIRFLOW_CONN_HTTP", json.dumps({"conn_type": "sftp_of_nobody", "host": "x"}))
    monkeypatch.setenv("AIRFLOW_CONN_MEMORY", json.dumps({"conn_type": "duckdb"}))
    with pytest.raises(PostHogSettingsError) as refused:
        load(**options)
    assert refused.value.field == field
    assert connection.calls("/query/") == []


def test_a_table_that_does_not_fit_is_refused_before_rows_are_read(connection: EmulatorProcess, lake: DuckDB) -> None:
    load()
    before = len(connection.calls("/query/"))
    lake.run("ALTER TABLE events ALTER COLUMN properties TYPE BIGINT USING 1")
    with pytest.raises(PostHogSettingsError, match="'properties' as string, but the table has it as BIGINT"):
        load()
    assert len(connection.calls("/query/")) - before <= 2


def test_assets_are_told_how_many_rows_came(connection: EmulatorProcess, lake: DuckDB) -> None:
    asset = SimpleNamespace(uri="duckdb://lake/events")
    task = operator()
    task.outlets = [asset]
    told = SimpleNamespace(extra={})

    class Events(dict[Any, Any]):
        def __getitem__(self, name: Any) -> Any:
            assert name is asset
            return told

    found = task.execute({**context(), "outlet_events": Events()})
    assert told.extra["rows"] == found["rows"] == lake.count()


def test_in_a_dag_with_templates(connection: EmulatorProcess, lake: DuckDB, run_dag: Any) -> None:
    made: list[PostHogToSqlOperator] = []

    def fill() -> None:
        made.append(
            operator(
                table="events_{{ params.of }}",
                source="{{ params.of }}",
                start="{{ logical_date.strftime('%Y-%m-%dT00:00:00Z') }}",
                end="{{ (logical_date + macros.timedelta(days=1)).strftime('%Y-%m-%dT00:00:00Z') }}",
            )
        )

    dag = make_dag("posthog_to_sql", fill, params={"of": "events"})
    run = run_dag(dag, **when(MIDNIGHT - timedelta(days=4)))
    assert run.state == "success"
    assert lake.count("events_events") == connection.count_events(day(4), day(3), "created_at")


@pytest.mark.parametrize("package", ["pyarrow", "orjson"])
def test_without_the_extra_it_says_what_to_install(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PostHogSettingsError, match=rf"needs {package}.*airflow-provider-posthog\[warehouse\]"):
        load()
    assert connection.calls() == []
