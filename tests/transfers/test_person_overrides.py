"""After a merge of persons in PostHog, rows that were loaded before get the person of today."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogPermissionError, PostHogSettingsError
from airflow_provider_posthog.transfers.person_overrides import PostHogPersonOverridesOperator
from tests.load.databases import DuckDB
from tests.operators.support import context


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb", held=True)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def overrides(**options: Any) -> dict[str, Any]:
    given = {"table": "mapping", "remap": ["events"], "overrides_table": "overrides", **options}
    return PostHogPersonOverridesOperator(
        task_id="task", sql_conn_id="warehouse", settle=timedelta(0), **given
    ).execute(context())


def test_loaded_rows_get_the_person_that_posthog_has_now(connection: EmulatorProcess, lake: DuckDB) -> None:
    names = [uuid4().hex, uuid4().hex]
    (person,) = connection.add_persons([{"distinct_ids": names}])
    old = str(uuid4())
    lake.run(
        "CREATE TABLE events (distinct_id VARCHAR, person_id UUID)",
        f"INSERT INTO events VALUES ('{names[0]}', '{person}'), ('{names[1]}', '{old}'), ('unknown', '{old}')",
    )
    found = overrides()
    assert found["remapped"] == {"events": 1}
    assert found["rows"] == lake.count("mapping")
    assert {str(uuid) for (uuid,) in lake.rows("SELECT person_id FROM events WHERE distinct_id != 'unknown'")} == {
        person
    }
    assert lake.rows("SELECT old_person_id, new_person_id FROM overrides") == [(old, person)]
    again = overrides(remap="events")
    assert (again["remapped"], again["changed"], lake.count("overrides")) == ({"events": 0}, 0, 1)


def test_nothing_is_remapped_by_half_of_the_distinct_ids(connection: EmulatorProcess, lake: DuckDB) -> None:
    name, old = uuid4().hex, str(uuid4())
    connection.add_persons([{"distinct_ids": [name]}])
    lake.run(
        "CREATE TABLE events (distinct_id VARCHAR, person_id VARCHAR)", f"INSERT INTO events VALUES ('{name}', '{old}')"
    )
    connection.faults(path="*/query/", status=403, count=1000)
    try:
        with pytest.raises(PostHogPermissionError):
            overrides()
    finally:
        connection.clear_faults()
    assert lake.rows("SELECT person_id FROM events") == [(old,)]


@pytest.mark.parametrize(
    "options", [{"remap": ["events", "nosuch"]}, {"person_id_column": "person"}, {"distinct_id_column": "Id"}]
)
def test_tables_without_the_columns_are_refused_before_anything_is_read(
    connection: EmulatorProcess, lake: DuckDB, options: dict[str, Any]
) -> None:
    lake.run("CREATE TABLE events (distinct_id VARCHAR, person_id VARCHAR)")
    with pytest.raises(PostHogSettingsError, match="cannot be read") as refused:
        overrides(**options)
    assert refused.value.field == "remap"
    assert not any("/query/" in str(call) for call in connection.calls())
    assert lake.rows("SELECT table_name FROM duckdb_tables()") == [("events",)]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"remap": []}, "remap"),
        ({"remap": [""]}, "remap"),
        ({"remap": ["mapping"]}, "remap"),
        ({"overrides_table": "events"}, "remap"),
        ({"overrides_table": "mapping"}, "remap"),
    ],
)
def test_tables_that_have_two_parts_are_refused_before_anything_is_sent(
    connection: EmulatorProcess, lake: DuckDB, options: dict[str, Any], field: str
) -> None:
    before = len(connection.calls())
    with pytest.raises(PostHogSettingsError) as refused:
        overrides(**options)
    assert (refused.value.field, len(connection.calls())) == (field, before)
