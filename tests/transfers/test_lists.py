"""PostHog's lists as tables: whole, proved by their count, and what was deleted is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.extract import lists
from airflow_provider_posthog.extract.lists import COLUMNS
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.tasks.source import LISTS
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB
from tests.operators.support import connect, context


@pytest.fixture
def connected(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    connect(monkeypatch, posthog)
    return posthog


@pytest.fixture
def duck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "warehouse.duckdb", held=True)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def load(source: str, **options: Any) -> dict[str, Any]:
    made = {"sql_conn_id": "warehouse", "table": source, "source": source, **options}
    return PostHogToSqlOperator(task_id="task", **made).execute(context())


def flags(count: int) -> list[dict[str, Any]]:
    return [{"key": f"flag {n}", "filters": {"groups": [{"rollout_percentage": n}]}} for n in range(count)]


def test_each_list_has_its_columns() -> None:
    assert sorted(COLUMNS) == sorted(LISTS)
    assert all("id" in columns for columns in COLUMNS.values())


def test_a_list_becomes_a_table_whole_and_what_was_deleted_leaves_it(
    connected: EmulatorProcess, duck: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_PAGE", 10)
    monkeypatch.setattr(lists, "_ROWS", 7)
    made = connected.add_records("feature_flags", flags(25))
    found = load("feature_flags", deleted="delete")
    assert (found["rows"], duck.count("feature_flags")) == (25, 25)
    ((key, filters, active, data),) = duck.rows(
        f"SELECT key, filters, active, data FROM feature_flags WHERE id = {made[3]['id']}"
    )
    assert (key, json.loads(filters), active) == ("flag 3", made[3]["filters"], True)
    assert json.loads(data)["version"] == 1
    gone: Any = Call("x", "PATCH", f"feature_flags/{made[3]['id']}/", json_object, json={"deleted": True})
    PostHogHook().send(gone)
    assert load("feature_flags", deleted="delete")["gone"] == 1
    assert duck.count("feature_flags") == 24


def test_the_history_of_flags_has_each_of_their_versions(connected: EmulatorProcess, duck: DuckDB) -> None:
    made = connected.add_records("feature_flags", flags(3))
    for changes in ({}, {}, {"active": False}, {"deleted": True}):
        if changes:
            path = f"feature_flags/{made[1]['id']}/"
            PostHogHook().send(Call("x", "PATCH", path, json_object, json=changes))
        found = load("feature_flags", write_disposition="scd2")
    assert (found["inserted"], found["gone"]) == (0, 1)
    versions = duck.rows(
        f"SELECT active, valid_to IS NULL FROM feature_flags WHERE id = {made[1]['id']} ORDER BY valid_from"
    )
    assert versions == [(True, False), (False, False)]
    assert duck.count("feature_flags", "valid_to IS NULL") == 2


@pytest.mark.parametrize("source", LISTS)
def test_each_list_can_be_loaded_and_loaded_again(connected: EmulatorProcess, duck: DuckDB, source: str) -> None:
    if source == "actions":
        connected.add_action("x", [{"event": "y"}])
    elif source in ("annotations", "experiments", "surveys", "event_definitions", "property_definitions"):
        connected.add_records(source, [{"name": "x"} if source != "annotations" else {"content": "x"}])
    first, second = load(source, write_disposition="merge"), load(source, write_disposition="merge")
    assert first["rows"] == second["rows"] == duck.count(source)
    assert second["changed"] == 0


def test_properties_of_events_persons_and_groups_are_all_listed(connected: EmulatorProcess, duck: DuckDB) -> None:
    of_groups = [{"name": f"seats {index}", "_type": "group", "_group_type_index": index} for index in (0, 4)]
    made = [{"name": "url"}, {"name": "plan", "_type": "person"}, *of_groups]
    connected.add_records("property_definitions", made)
    assert load("property_definitions")["rows"] == 4
    assert duck.rows("SELECT name, type, group_type_index FROM property_definitions ORDER BY name") == [
        ("plan", "person", None),
        ("seats 0", "group", 0),
        ("seats 4", "group", 4),
        ("url", "event", None),
    ]


def test_a_list_becomes_a_snapshot_of_files(connected: EmulatorProcess, tmp_path: Path) -> None:
    connected.add_records("annotations", [{"content": f"note {n}", "scope": "project"} for n in range(3)])
    found = PostHogQueryToObjectStorageOperator(
        task_id="task", path=f"file://{tmp_path}/lake", source="annotations", format="parquet"
    ).execute(context())
    assert found["rows"] == 3
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    assert sorted(pq.read_table(file).column("content").to_pylist()) == ["note 0", "note 1", "note 2"]


def test_a_list_that_is_not_as_long_as_posthog_says_is_an_error(connected: EmulatorProcess, duck: DuckDB) -> None:
    connected.add_records("surveys", [{"name": "a"}])
    body = {"count": 7, "next": None, "previous": None, "results": []}
    connected.faults(path="*/surveys/", status=200, body=body, count=-1)
    with pytest.raises(PostHogIncompleteError, match="has 7 entries, and 0 were read"):
        load("surveys")


def test_a_list_takes_no_arguments_of_queries(connected: EmulatorProcess, duck: DuckDB) -> None:
    with pytest.raises(PostHogSettingsError, match="where"):
        load("feature_flags", where="id = 1")
