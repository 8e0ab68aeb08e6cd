"""What is read as a whole needs no interval: its files are a snapshot, named after the run."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.operators.support import context, make_dag, task_states, when, xcoms
from tests.transfers.test_query_to_object_storage import MIDNIGHT, day, everything, operator, table_of

AT = datetime(2026, 11, 1, 7, 30, tzinfo=timezone.utc)
STAMP = "20261101T073000Z"
NO_INTERVAL = {"start": None, "end": None}
SOURCES: dict[str, dict[str, Any]] = {
    "persons": {"source": "persons"},
    "groups": {"source": "groups"},
    "query": {"query": "SELECT event, count() AS n FROM events GROUP BY event", "key": "event"},
}


def run(**known: Any) -> dict[str, Any]:
    made = context(run_id=known.pop("run_id", "r"), try_number=known.pop("try_number", 1))
    started = datetime(2026, 11, 1, 9, tzinfo=timezone.utc)
    dag_run = {"start_date": started, **{name: known.pop(name) for name in list(known) if name == "run_after"}}
    return {**made, "dag_run": SimpleNamespace(**dag_run), **known}


@pytest.mark.parametrize("name", SOURCES)
def test_a_run_without_an_interval_writes_a_snapshot(connection: EmulatorProcess, tmp_path: Path, name: str) -> None:
    """As a run that a user starts, or one of @daily on Airflow 3, whose interval has no length."""
    span = {"data_interval_start": AT, "data_interval_end": AT, "logical_date": AT}
    found = operator(tmp_path, **SOURCES[name], **NO_INTERVAL).execute(run(**span))
    assert found["rows"] == table_of(tmp_path).num_rows > 0
    assert found["interval"] == {"start": "2026-11-01T07:30:00Z", "end": "2026-11-01T07:30:00Z"}
    assert Path(found["manifest"]).name == f"{name}_at_{STAMP}.json"
    assert all(f"{name}_at_{STAMP}" in each for each in everything(tmp_path))


@pytest.mark.parametrize(
    ("known", "stamp"),
    [
        ({"logical_date": AT, "run_after": AT + timedelta(hours=1)}, STAMP),
        ({"logical_date": None, "run_after": AT}, STAMP),
        ({"run_after": AT}, STAMP),
        ({}, "20261101T090000Z"),  # when it started
    ],
)
def test_a_snapshot_is_named_by_what_all_tries_of_a_run_share(
    connection: EmulatorProcess, tmp_path: Path, known: dict[str, Any], stamp: str
) -> None:
    for number in (1, 2):
        found = operator(tmp_path, source="persons", **NO_INTERVAL).execute(run(try_number=number, **known))
        assert found["manifest"].endswith(f"persons_at_{stamp}.json")
    assert len(everything(tmp_path)) == 2, "the second one has taken the first one's place"


def test_outside_of_airflow_it_is_as_of_now(connection: EmulatorProcess, tmp_path: Path) -> None:
    found = operator(tmp_path, source="persons", **NO_INTERVAL).execute({})
    at = datetime.fromisoformat(found["interval"]["start"].replace("Z", "+00:00"))
    assert timedelta(0) <= datetime.now(timezone.utc) - at < timedelta(minutes=5)


def test_snapshots_stand_side_by_side(connection: EmulatorProcess, tmp_path: Path) -> None:
    for hour in (0, 1):
        operator(tmp_path, source="persons", **NO_INTERVAL).execute(run(logical_date=AT + timedelta(hours=hour)))
    assert len(everything(tmp_path)) == 4


def test_a_snapshot_of_far_fewer_rows_does_not_take_the_place_of_the_one_before(
    connection: EmulatorProcess, tmp_path: Path
) -> None:
    """A key that sees less: who reads the newest snapshot would see next to nothing."""
    options = {"source": "persons", **NO_INTERVAL}
    operator(tmp_path, **options).execute(run(logical_date=AT))
    before = everything(tmp_path)
    with pytest.raises(PostHogIncompleteError, match="PostHog shows 0") as refused:
        operator(tmp_path, where="1 = 2", **options).execute(run(logical_date=AT + timedelta(days=1)))
    assert "persons, as of 2026-11-02T07:30:00Z" in str(refused.value)
    assert everything(tmp_path) == before
    task = operator(tmp_path, where="1 = 2", allow_shrink=True, **options)
    assert task.execute(run(logical_date=AT + timedelta(days=1)))["rows"] == 0
    # One from before it is a matter of its own.
    operator(tmp_path, where="1 = 2", **options).execute(run(logical_date=AT - timedelta(days=1)))


@pytest.mark.parametrize("given", [True, False])
def test_an_interval_names_the_files_where_there_is_one(
    connection: EmulatorProcess, tmp_path: Path, given: bool
) -> None:
    span = {"data_interval_start": MIDNIGHT - timedelta(days=3), "data_interval_end": MIDNIGHT - timedelta(days=2)}
    options = {"start": day(3), "end": day(2)} if given else NO_INTERVAL
    found = operator(tmp_path, source="persons", **options).execute(run(logical_date=AT, **({} if given else span)))
    assert "_at_" not in found["manifest"]
    assert found["interval"]["end"].startswith(day(2)[:10])


def test_what_goes_by_time_still_needs_its_interval(connection: EmulatorProcess, tmp_path: Path) -> None:
    for options in ({}, {"source": "sessions"}, {"source": "persons", "time_column": "created_at"}):
        with pytest.raises(PostHogSettingsError, match="interval"):
            operator(tmp_path, **NO_INTERVAL, **options).execute(run(logical_date=AT))
    assert connection.calls("/query/") == []


def test_look_back_leaves_snapshots_alone(connection: EmulatorProcess, tmp_path: Path) -> None:
    at = MIDNIGHT - timedelta(days=2.5)
    snapshot = operator(tmp_path, source="persons", name="x", **NO_INTERVAL).execute(run(logical_date=at))
    before = Path(snapshot["manifest"]).read_bytes()
    span = {"time_column": "created_at", "start": day(2), "end": day(1), "look_back": timedelta(days=2)}
    assert operator(tmp_path, source="persons", name="x", **span).execute(context())["again"] == 0
    assert Path(snapshot["manifest"]).read_bytes() == before


def test_a_dag_without_a_schedule_and_lineage(connection: EmulatorProcess, tmp_path: Path, run_dag: Any) -> None:
    def fill() -> None:
        PostHogQueryToObjectStorageOperator(task_id="persons", path=str(tmp_path), source="persons")

    dag_run = run_dag(make_dag("snapshot", fill), **when(AT))
    assert task_states(dag_run) == {"persons": "success"}
    found = xcoms(dag_run)["persons", -1, "return_value"]
    assert found["rows"] > 100
    task: Any = operator(tmp_path, source="persons", **NO_INTERVAL)
    assert ["id", "string"] in json.loads(json.dumps(list(map(list, task.lineage(found).columns or ()))))
