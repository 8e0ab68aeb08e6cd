"""The loading examples on real Airflow: the warehouse has what PostHog has, whatever comes late or is run again."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.load.databases import Database, DuckDB, postgres_database
from tests.operators.support import rows_of_database, task_states, when, xcoms

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)
NOON = TODAY - timedelta(days=3) + 12 * HOUR


@pytest.fixture
def duck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Both databases, behind the Airflow connection ``warehouse``."""
    if request.param == "duckdb":
        yield request.getfixturevalue("duck")
        return
    with postgres_database() as database:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
        yield database


@pytest.fixture
def run_example(connected: EmulatorProcess, run_dag: Callable[..., Any]) -> Callable[..., Any]:
    """Run an example once."""

    def run(name: str, at: datetime, **options: Any) -> Any:
        dag = example(name).dag
        for task in dag.tasks:
            task.retries = 0
        if hasattr(dag, "sync_to_db"):  # 2.11 makes no dataset events of a DAG that it does not know
            dag.sync_to_db()
        return run_dag(dag, **when(at), **options)

    return run


def example(name: str) -> Any:
    """Import an example, as if for the first time."""
    return importlib.reload(importlib.import_module(f"dags_examples.{name}"))


def event(moment: datetime, took_in: datetime) -> dict[str, Any]:
    person, times = str(uuid4()), {"timestamp": moment.isoformat(), "created_at": took_in.isoformat()}
    return {"uuid": str(uuid4()), "event": "late", "distinct_id": "a", "person_id": person, "properties": {}, **times}


def there(posthog: EmulatorProcess, start: datetime, end: datetime) -> int:
    return posthog.count_events(start.isoformat(), end.isoformat(), "created_at")


def told(run: Any, task: str) -> Any:
    return xcoms(run)[task, -1, "return_value"]


def green(run: Any) -> bool:
    return set(task_states(run).values()) == {"success"}


def test_events_of_hours_with_late_ones_and_a_rerun(
    connected: EmulatorProcess, warehouse: Database, run_example: Callable[..., Any]
) -> None:
    late, next_hour = event(NOON - timedelta(days=9), NOON + timedelta(minutes=3)), event(NOON, NOON + HOUR)
    connected.add_events([late, next_hour])
    first, second = there(connected, NOON, NOON + HOUR), there(connected, NOON + HOUR, NOON + 2 * HOUR)
    run = run_example("load_events", NOON + HOUR)
    assert green(run)
    assert told(run, "load")["rows"] == warehouse.count() == first > 1
    assert late["uuid"] in warehouse.uuids(), "it happened days ago, but came in this hour"
    assert next_hour["uuid"] not in warehouse.uuids(), "it happened in this hour, but came later"
    assert green(run_example("load_events", NOON + 2 * HOUR))
    assert warehouse.count() == len(set(warehouse.uuids())) == first + second
    # An hour that was loaded before it was over in PostHog, cleared.
    connected.add_events([event(NOON, NOON + timedelta(minutes=30))])
    again = run_example("load_events", NOON + HOUR)
    assert (told(again, "load")["rows"], told(again, "load")["deleted"]) == (first + 1, first)
    assert warehouse.count() == len(set(warehouse.uuids())) == first + 1 + second


def test_the_asset_of_refresh_insights_is_told_of_proved_rows(
    connected: EmulatorProcess, duck: DuckDB, run_example: Callable[..., Any]
) -> None:
    run = run_example("load_events", NOON + 8 * HOUR)
    from dags_examples import refresh_insights

    ((uri, extra, task),) = asset_events(run)
    assert (uri, task) == (refresh_insights.EVENTS.uri, "load")
    assert f'"rows": {duck.count()}' in extra


def asset_events(run: Any) -> list[tuple[Any, ...]]:
    """Return the address, the extra and the task of what a run has told of assets."""
    table = "asset" if rows_of_database("SELECT 1 FROM sqlite_master WHERE name = 'asset_event'") else "dataset"
    return rows_of_database(
        f"SELECT a.uri, e.extra, e.source_task_id FROM {table}_event e JOIN {table} a ON a.id = e.{table}_id"
        " WHERE e.source_run_id = ? AND e.source_dag_id = ? ORDER BY e.id",
        run.run_id,
        run.dag_id,
    )


def test_weeks_of_history(connected: EmulatorProcess, duck: DuckDB, run_example: Callable[..., Any]) -> None:
    first, last = TODAY - timedelta(days=18), TODAY - timedelta(days=4)
    days = {"first_day": f"{first:%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}
    run = run_example("backfill_history", TODAY, run_conf=days)
    assert green(run)
    total = there(connected, first, last + timedelta(days=1))
    assert (
        sum(week["rows"] for (task, _, key), week in xcoms(run).items() if (task, key) == ("load_week", "return_value"))
        == total
    )
    assert duck.count() == len(set(duck.uuids())) == total > 5000
    # An hour of load_events comes behind it; both may be loaded again, up to last midnight.
    assert green(run_example("load_events", last + timedelta(days=1) + HOUR))
    connected.add_events([event(first, first + HOUR)])
    again = run_example("backfill_history", TODAY + HOUR, run_conf={**days, "last_day": f"{TODAY:%Y-%m-%d}"})
    assert green(again)
    total = there(connected, first, TODAY)
    assert duck.count() == len(set(duck.uuids())) == total


def test_persons_with_tombstones(
    connected: EmulatorProcess, warehouse: Database, run_example: Callable[..., Any]
) -> None:
    kept, gone = connected.add_persons(
        [{"distinct_ids": [name], "created_at": NOON.isoformat(), "properties": {"n": 1}} for name in ("kept", "gone")]
    )
    first = run_example("load_persons", TODAY)
    assert green(first)
    total = told(first, "load")["rows"]
    assert counted(first) == (total, 0, 0, 0)
    extra = asset_events(first)[-1][1]  # Airflow 2 keeps those of the run of the same name before this one
    assert json.loads(extra) == {"rows": total, "inserted": total, "changed": 0, "gone": 0}
    assert warehouse.count("persons") == total > 500
    PostHogHook().send(persons.delete(gone))
    assert green(second := run_example("load_persons", TODAY))
    assert counted(second) == (0, 0, total - 1, 1)
    tombstones = warehouse.rows("SELECT id, properties FROM persons WHERE deleted_at IS NOT NULL")
    assert [(str(uuid), properties) for uuid, properties in tombstones] == [(gone, None)]
    assert warehouse.count("persons") == total
    # A run with nothing new changes nothing, one of a person that is there after all takes its tombstone away.
    before = sorted(warehouse.rows("SELECT id, created_at, deleted_at FROM persons"), key=str)
    assert green(run_example("load_persons", TODAY))
    assert sorted(warehouse.rows("SELECT id, created_at, deleted_at FROM persons"), key=str) == before
    warehouse.run(f"UPDATE persons SET deleted_at = created_at, properties = NULL WHERE id = '{kept}'")
    assert counted(run_example("load_persons", TODAY)) == (0, 1, total - 2, 0)
    assert warehouse.count("persons", f"id = '{kept}' AND deleted_at IS NULL AND properties IS NOT NULL") == 1
    # The run of a night before those persons, cleared: it reads what there is now, too.
    assert counted(run_example("load_persons", TODAY - timedelta(days=10))) == (0, 0, total - 1, 0)
    assert warehouse.count("persons", "deleted_at IS NULL") == total - 1


def counted(run: Any) -> tuple[int, ...]:
    return tuple(told(run, "load")[name] for name in ("inserted", "changed", "unchanged", "gone"))


def test_what_can_not_be_changes_nothing(
    connected: EmulatorProcess, duck: DuckDB, run_example: Callable[..., Any]
) -> None:
    assert green(run_example("load_persons", TODAY))
    total, many = duck.count("persons"), 1_000
    duck.run(f"INSERT INTO persons SELECT uuid()::TEXT, TIMESTAMPTZ '{NOON}', '{{}}', NULL FROM range({many})")
    run = run_example("load_persons", TODAY)
    assert task_states(run) == {"load": "failed", "forget": "upstream_failed"}
    assert duck.count("persons", "deleted_at IS NOT NULL OR properties IS NULL") == 0
    assert duck.count("persons") == total + many


def test_a_model_follows_the_load(
    connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_example: Callable[..., Any]
) -> None:
    """By Airflow's own SQL operator, in the database that the load has written to."""
    warehouse = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(warehouse)}))
    run = run_example("load_events", NOON + 3 * HOUR)
    assert green(run)
    assert green(run_example("model_after_load", NOON + 3 * HOUR))
    with closing(sqlite3.connect(warehouse)) as database:
        ((counted,),) = database.execute("SELECT sum(n) FROM daily_events").fetchall()
    assert counted == told(run, "load")["rows"]
