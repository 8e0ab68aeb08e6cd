"""What can be wrong before the first row is read: arguments, templates that come out empty, connections."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogRateLimitError, PostHogSettingsError
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.hooks.databases import SqlDatabase
from airflow_provider_posthog.load.target import Target
from airflow_provider_posthog.tasks.base import at_once
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB, SQLite, postgres_database
from tests.operators.support import context
from tests.transfers.choosing import source_in

MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def day(ago: float) -> str:
    return (MIDNIGHT - timedelta(days=ago)).isoformat()


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def operator(**options: Any) -> PostHogToSqlOperator:
    given = {"sql_conn_id": "warehouse", "table": "events", "start": day(4), "end": day(3), "settle": timedelta(0)}
    return PostHogToSqlOperator(task_id="task", **{**source_in(options), **given, **options})


def load(**options: Any) -> dict[str, Any]:
    return operator(**options).execute(context())


@pytest.mark.parametrize("event", ["", " ", [], [""], ["$pageview", None], 7])
def test_no_event_does_not_empty_the_interval(connection: EmulatorProcess, lake: DuckDB, event: Any) -> None:
    """A template that renders to nothing would read no event, and replace the interval's rows by none."""
    there = load()["rows"]
    with pytest.raises(PostHogSettingsError) as refused:
        load(events=event)
    assert refused.value.field == "events"
    assert lake.count() == there > 100


def test_nor_in_files(connection: EmulatorProcess, tmp_path: Path) -> None:
    for options in ({"events": ""}, {"source": ""}, {"max_in_flight": 2.0}, {"values": "{}"}, {"settle": None}):
        given: dict[str, Any] = {"source": "events", "path": str(tmp_path), "start": day(4), "end": day(3), **options}
        with pytest.raises(PostHogSettingsError) as refused:
            PostHogQueryToObjectStorageOperator(task_id="task", **given).execute(context())
        assert refused.value.field in options
    assert connection.calls("/query/") == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"source": ""}, "source"),
        ({"source": " \n"}, "source"),
        ({"source": None}, "source"),
        ({"source": ["events"]}, "source"),
        ({"source": "SELECT 1 AS a", "key": "a"}, "source"),
        ({"source": "events", "query": "SELECT 1 AS a", "key": "a"}, "source"),
        ({"query": "SELECT 1 AS a", "key": "", "write_disposition": "merge"}, "key"),
        ({"query": "SELECT 1 AS a", "key": [], "write_disposition": "merge"}, "key"),
        ({"source": "persons", "key": 5}, "key"),
        ({"source": "persons", "key": ["id", None]}, "key"),
        ({"source": "persons", "table": None}, "table"),
        ({"source": "persons", "table": 5}, "table"),
        (
            {"query": "SELECT 1 AS a", "key": "a", "time_column": "", "write_disposition": "replace_interval"},
            "write_disposition",
        ),
        ({"columns": ["uuid", "event"]}, "time_column"),
        ({"columns": ["event", "created_at"], "write_disposition": "merge"}, "key"),
        ({"columns": {"id": "uuid", "created_at": "created_at"}, "write_disposition": "append"}, "key"),
        ({"key": ["uuid", "day"], "write_disposition": "merge"}, "key"),
        ({"columns": {}}, "columns"),
        ({"columns": "uuid"}, "columns"),
        ({"values": "{'a': 1}"}, "values"),
        ({"column_types": "{}"}, "column_types"),
        ({"settle": timedelta(minutes=-1)}, "settle"),
        ({"look_back": timedelta(days=-1)}, "look_back"),
        ({"look_back": 3600}, "look_back"),
        ({"max_in_flight": "3"}, "max_in_flight"),
        ({"page_rows": True}, "page_rows"),
        ({"page_rows": 0}, "page_rows"),
        ({"page_rows": 50_000}, "page_rows"),
        *(({name: timedelta.max}, name) for name in ("settle", "look_back", "verify_back", "scan_back")),
        ({"source": "sessions", "complete_after": timedelta.max}, "complete_after"),
        ({"values": {1: 2}}, "values"),
        ({"where": "timestamp > {at}", "values": {"at": datetime(2026, 1, 1, tzinfo=timezone.utc)}}, "values"),
        ({"where": "1 < {number}", "values": {"number": float("nan")}}, "values"),
        ({"columns": ["uuid", "created_at", 1]}, "columns"),
        ({"columns": {"uuid": "uuid", "created_at": "created_at", "a": " "}}, "columns"),
        ({"query": "SELECT 1 AS a", "key": 5, "write_disposition": "merge"}, "key"),
        ({"query": "SELECT 1 AS a", "key": ["a", None], "write_disposition": "merge"}, "key"),
        ({"where": "event = {name}"}, "where"),
        ({"where": "event = {name}", "values": {"names": "a"}}, "where"),
        ({"sql_conn_id": "presto"}, "sql_conn_id"),
        ({"sql_conn_id": "untyped"}, "sql_conn_id"),
        ({"sql_conn_id": "sqlite_in_memory"}, "sql_conn_id"),
        ({"sql_conn_id": "posthog_default"}, "sql_conn_id"),
        ({"sql_conn_id": None}, "sql_conn_id"),
    ],
)
def test_refused_before_anything_is_sent(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], field: str
) -> None:
    for name, conn_type, host in (("PRESTO", "presto", "x"), ("UNTYPED", "", "x"), ("SQLITE_IN_MEMORY", "sqlite", "")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": conn_type, "host": host}))
    with pytest.raises(PostHogSettingsError) as refused:
        load(**options)
    assert refused.value.field == field
    assert connection.calls("/query/") == []
    assert not lake.path.exists()


def test_a_connection_that_is_not_there(connection: EmulatorProcess, lake: DuckDB) -> None:
    with pytest.raises(Exception, match="nowhere"):
        load(sql_conn_id="nowhere")
    assert connection.calls("/query/") == []


def test_an_empty_by_is_the_default(connection: EmulatorProcess, lake: DuckDB) -> None:
    assert load(time_column="", key="")["rows"] == connection.count_events(day(4), day(3), "created_at")


def test_a_connection_that_airflow_stored_as_generic_leads_to_the_provider_that_was_missing(
    connection: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "generic", "host": "x"}))
    with pytest.raises(PostHogSettingsError, match="is no database") as refused:
        load()
    assert refused.value.field == "sql_conn_id"
    assert "Install Airflow's provider of the database" in str(refused.value.remedy)
    assert "AIRFLOW_CONN_" in str(refused.value.remedy)


def test_a_wrong_database_is_told_at_once(connection: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the rows of the interval have settled."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sftp_of_nobody", "host": "x"}))
    began = time.monotonic()
    with pytest.raises(PostHogSettingsError, match="no installed provider"):
        load(end=datetime.now(timezone.utc), settle=timedelta(seconds=20))
    assert time.monotonic() - began < 5


def test_a_task_that_is_killed_while_it_waits_ends_at_once(connection: EmulatorProcess, lake: DuckDB) -> None:
    """Airflow 3 calls on_kill() from a handler of signals, and raises nothing itself."""
    task = operator(end=datetime.now(timezone.utc), settle=timedelta(seconds=20))
    killer = threading.Timer(0.4, task.on_kill)
    killer.start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        task.execute(context())
    killer.join()
    assert 0.3 < time.monotonic() - began < 5
    assert not lake.path.exists()


@pytest.mark.parametrize("conn_type", ["postgresql", "PostgreSQL"])
def test_a_connection_of_type_postgresql(
    connection: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, conn_type: str
) -> None:
    with postgres_database() as database:
        found = {**json.loads(database.airflow_connection()), "conn_type": conn_type}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(found))
        assert load()["database"] == "PostgreSQL"
        connected, sign = SqlDatabase("warehouse", for_rows=False).connect()
        assert (connected.autocommit, sign) == (False, "%s")
        connected.close()


def test_a_429_that_lasts_fails_the_task_and_its_retry_begins_anew(
    connection: EmulatorProcess, lake: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = load()["rows"]
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", connection.airflow_connection_json(max_rate_limit_wait=0.5))
    connection.faults(method="POST", path="*/query/", status=429, body={"detail": "slow"}, skip=3, count=-1)
    with pytest.raises(PostHogRateLimitError):
        load(start=day(5), page_rows=100)
    assert lake.count() == there
    connection.clear_faults()
    assert load(start=day(5), page_rows=100)["rows"] == lake.count() > there


# Databases behind a hook.


class Hook:
    """An Airflow hook of some database."""

    supports_autocommit = True
    placeholder = "?"

    def __init__(self, path: Path, *, stubborn: bool = False) -> None:
        self.path = path
        self.stubborn = stubborn
        self.made: Any = None

    def get_conn(self) -> Any:
        made = sqlite3.connect(self.path, check_same_thread=False)
        self.made = SimpleNamespace(
            **{name: getattr(made, name) for name in ("cursor", "commit", "rollback", "close", "execute")},
            autocommit=True,
        )
        return self.made

    def set_autocommit(self, connection: Any, autocommit: bool) -> None:
        connection.autocommit = autocommit or self.stubborn

    def insert_rows(self) -> None:
        """What tells a hook of SQL from others."""


class Behind(SqlDatabase):
    """A database behind a hook of the test's."""

    def __init__(self, hook: Any, kind: str = "some_sql") -> None:
        self.hook, self.kind = hook, kind

    def _hook(self) -> Any:
        return self.hook


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_hook_in_autocommit(tmp_path: Path, stubborn: bool) -> None:
    hook = Hook(tmp_path / "some.db", stubborn=stubborn)
    target = Target("events", "merge", key=("uuid",))
    if stubborn:
        with pytest.raises(PostHogSettingsError, match="commit each statement by itself"):
            Behind(hook).loader(target)
        with pytest.raises(sqlite3.ProgrammingError):
            hook.made.cursor()
    else:
        with Behind(hook).loader(target):
            assert hook.made.autocommit is False


def test_a_connection_like_trino_s() -> None:
    closed: list[bool] = []
    level = SimpleNamespace(name="AUTOCOMMIT")
    made = SimpleNamespace(isolation_level=level, close=lambda: closed.append(True))
    hook = SimpleNamespace(get_conn=lambda: made, insert_rows=None)
    with pytest.raises(PostHogSettingsError, match="half of what a task does would stay"):
        Behind(hook, "trino").loader(Target("events", "merge", key=("uuid",)))
    assert closed


def test_only_a_lock_is_waited_for() -> None:
    broken = SimpleNamespace(get_conn=lambda: (_ for _ in ()).throw(OSError("Corrupt block of the database's file")))
    began = time.monotonic()
    with pytest.raises(OSError, match="Corrupt block"):
        Behind(broken, "duckdb").loader(Target("events", "merge", key=("uuid",)))
    assert time.monotonic() - began < 1


def test_sqlite_that_stays(connection: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = SQLite(tmp_path / "with space.sqlite")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    assert load(table="main.events")["rows"] == database.count()


@pytest.mark.parametrize("kind", ["hiveserver2", "clickhouse", "elasticsearch", "presto"])
def test_a_database_without_transactions_is_refused_before_it_is_reached(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": kind, "host": "127.0.0.1"}))
    with pytest.raises(PostHogSettingsError, match="no transactions: half a load would stay"):
        SqlDatabase("warehouse")


def test_values_that_a_user_added_are_not_lost_unasked(connection: EmulatorProcess, lake: DuckDB) -> None:
    there = load()["rows"]
    lake.run("ALTER TABLE events ADD COLUMN mine integer", "UPDATE events SET mine = 7")
    with pytest.raises(PostHogSettingsError, match=r"lack the table's column 'mine'.*other_columns='null'"):
        load()
    assert load(write_disposition="merge")["rows"] == lake.count(where="mine = 7") == there
    assert load(other_columns="null")["rows"] == lake.count(where="mine IS NULL") == there
    with pytest.raises(PostHogSettingsError, match="other_columns"):
        load(other_columns="keep")


def test_counts_and_conditions_of_a_query_are_numbers_and_booleans(connection: EmulatorProcess, lake: DuckDB) -> None:
    query = "SELECT event AS event, count() AS n, event = '$pageview' AS is_view FROM events GROUP BY event"
    for _ in range(2):
        load(query=query, table="totals", write_disposition="merge", key="event", column_types={"is_view": "boolean"})
    assert lake.rows("SELECT event FROM totals WHERE is_view") == [("$pageview",)]
    assert lake.rows("SELECT sum(n) = max(n) FROM totals") == [(False,)]


READS: list[dict[str, Any]] = [{}, {"source": "events", "query": "SELECT 1 AS a", "key": "a"}]


@pytest.mark.parametrize("read", READS)
def test_one_of_source_and_query_is_read_and_the_author_says_which(read: dict[str, Any]) -> None:
    for kind, given in (
        (PostHogToSqlOperator, {"sql_conn_id": "warehouse", "table": "t"}),
        (PostHogQueryToObjectStorageOperator, {"path": "memory://lake"}),
    ):
        with pytest.raises(PostHogSettingsError) as refused:
            kind(task_id="task", **given, **read)
        assert refused.value.field == "source"


def test_what_chooses_rows_is_called_alike_and_is_a_template_everywhere() -> None:
    chosen = {
        "source", "query", "key", "columns", "events", "exclude_events", "cohort_id", "where", "values", "time_column",
    }  # fmt: skip
    assert chosen <= {*PostHogToSqlOperator.template_fields} & {*PostHogQueryToObjectStorageOperator.template_fields}


@pytest.mark.parametrize(("given", "expected"), [({}, 2), ({"max_in_flight": 5}, 5)])
def test_as_many_queries_as_the_connection_says_unless_the_task_says_another_number(
    posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: int
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", posthog.airflow_connection_json(max_in_flight=2))
    task = operator(**given)
    assert at_once(task.max_in_flight, task.hook.settings()) == expected


@pytest.mark.parametrize("cohort", ["x", "", "7; 8", True, -1])
def test_a_cohort_is_a_number(connection: EmulatorProcess, lake: DuckDB, cohort: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        load(source="cohort_members", cohort_id=cohort)
    assert refused.value.field == "cohort_id"
    assert connection.calls("/query/") == []
