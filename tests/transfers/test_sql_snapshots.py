"""What is read as a whole is merged into a table: what is new, changed, unchanged, and gone from PostHog."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.extract.sources import persons
from airflow_provider_posthog.load.target import Target
from airflow_provider_posthog.tasks.loading import with_types
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from tests.load.databases import DuckDB, postgres_database
from tests.operators.support import context

DAY = timedelta(days=1)
PAST = datetime(2019, 5, 4, 10, tzinfo=timezone.utc)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def operator(**options: Any) -> PostHogToSqlOperator:
    given = {"sql_conn_id": "warehouse", "table": "t", "settle": timedelta(0)}
    return PostHogToSqlOperator(
        task_id="task", **{**({} if "query" in options else {"source": "persons"}), **given, **options}
    )


def load(**options: Any) -> dict[str, Any]:
    found = operator(**options).execute(context(run_id="scheduled__1"))
    assert json.loads(json.dumps(found)) == found
    return found


def counted(found: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(found[name] for name in ("inserted", "changed", "unchanged", "gone"))


def totals(name: str) -> dict[str, Any]:
    """A query over some made-up events, whose rows can change and go."""
    sql = "SELECT event, count() AS n FROM events WHERE event LIKE {name} GROUP BY event"
    return {"query": sql, "values": {"name": f"{name} %"}, "key": "event"}


def happened(name: str, *numbers: int) -> list[dict[str, Any]]:
    moment = PAST.isoformat()
    made = {"distinct_id": "a", "timestamp": moment, "created_at": moment, "properties": {}}
    return [{"uuid": str(uuid4()), "person_id": str(uuid4()), "event": f"{name} {n}", **made} for n in numbers]


def test_persons_that_did_not_change_are_not_touched(connection: EmulatorProcess, lake: DuckDB) -> None:
    first = load(write_disposition="merge")
    assert counted(first) == (first["rows"], 0, 0, 0)
    connection.add_persons(1)
    again = load(write_disposition="merge", load_columns=("_posthog_run",))
    assert counted(again) == (1, 0, first["rows"], 0)
    assert lake.rows("SELECT _posthog_run, count(*) FROM t GROUP BY 1 ORDER BY 2") == [
        ("scheduled__1", 1),
        (None, first["rows"]),
    ]


def test_a_snapshot_says_what_is_new_changed_unchanged_and_gone(connection: EmulatorProcess, lake: DuckDB) -> None:
    name = f"snapshot {uuid4()}"
    connection.add_events(happened(name, 1, 2, 3))
    load(**totals(name), write_disposition="merge")
    lake.run("INSERT INTO t VALUES ('gone 1', 1), ('gone 2', 1)")
    connection.add_events(happened(name, 2, 4))
    assert counted(load(**totals(name), write_disposition="merge")) == (1, 1, 2, 2)
    assert lake.count("t") == 6, "kept"
    found = load(**totals(name), deleted="delete")
    assert (counted(found), found["deleted"], lake.count("t")) == ((0, 0, 4, 2), 2, 4)


def test_persons_that_are_gone_are_marked(connection: EmulatorProcess, lake: DuckDB) -> None:
    first = load(deleted="mark", load_columns=True)
    lake.run("INSERT INTO t SELECT * REPLACE ('00000000-0000-0000-0000-000000000000' AS id) FROM t LIMIT 1")
    for gone in (1, 0):
        assert counted(load(deleted="mark", load_columns=True)) == (0, 0, first["rows"], gone)
    assert lake.count("t", "deleted_at IS NOT NULL") == 1
    assert lake.count("t", "_posthog_interval_start IS NULL AND _posthog_run = 'scheduled__1'") == first["rows"] + 1


@pytest.mark.parametrize("source", ["persons", "groups", "person_distinct_ids"])
def test_every_snapshot_can_keep_its_history(connection: EmulatorProcess, lake: DuckDB, source: str) -> None:
    first = load(source=source, write_disposition="scd2")
    assert counted(load(source=source, write_disposition="scd2")) == (0, 0, first["rows"], 0)
    lake.run("DELETE FROM t WHERE rowid = 0")
    assert counted(load(source=source, write_disposition="scd2"))[:3] == (1, 0, first["rows"] - 1)
    assert lake.count("t", "valid_to IS NULL") == first["rows"]


def test_a_cohort_s_members_that_are_gone_leave_those_of_others(connection: EmulatorProcess, lake: DuckDB) -> None:
    lake.run(
        "CREATE TABLE t (person_id VARCHAR, cohort_id BIGINT)", "INSERT INTO t VALUES ('a', 7), ('b', 7), ('a', 8)"
    )
    cohort = {"source": "cohort_members", "cohort_id": 7}
    assert load(**cohort, write_disposition="merge")["gone"] == 2
    with pytest.raises(PostHogIncompleteError, match="allow_shrink"):
        load(**cohort, deleted="mark")
    assert load(**cohort, deleted="mark", allow_shrink=True)["gone"] == 2
    assert lake.rows("SELECT cohort_id FROM t WHERE deleted_at IS NULL") == [(8,)]


def test_rows_that_where_leaves_out_are_not_gone(connection: EmulatorProcess, lake: DuckDB) -> None:
    some = {"where": "is_identified = 1", "write_disposition": "merge"}
    assert load(**some)["gone"] is None
    with pytest.raises(PostHogSettingsError) as refused:
        load(**some, deleted="delete")
    assert refused.value.field == "where"


def test_mapped_tasks_do_not_take_one_another_s_rows_for_gone(connection: EmulatorProcess, lake: DuckDB) -> None:
    told = {**context(), "ti": SimpleNamespace(map_index=0, xcom_push=lambda **_: None)}
    mapped = SimpleNamespace(expand_input=SimpleNamespace(value={"source": ["persons", "groups"]}))
    told["dag"] = SimpleNamespace(task_dict={"task": mapped})
    with pytest.raises(PostHogSettingsError, match="mapped over source"):
        operator(deleted="mark").execute(told)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"write_disposition": "upsert"}, "write_disposition"),
        ({"deleted": "gone"}, "deleted"),
        ({"deleted": ""}, "deleted"),
        ({"deleted": "delete", "write_disposition": "replace"}, "deleted"),
        ({"deleted": "mark", "write_disposition": "append"}, "deleted"),
        ({"deleted": "mark", "write_disposition": "replace_interval"}, "deleted"),
        ({"deleted": "delete", "write_disposition": "scd2"}, "deleted"),
        ({"deleted": "mark", "source": "events", "events": "purchase"}, "deleted"),
        ({"deleted": "mark", "time_column": "created_at"}, "deleted"),
        ({"load_columns": "_posthog_run"}, "load_columns"),
        ({"load_columns": ["loaded_at"]}, "load_columns"),
        ({"load_columns": None}, "load_columns"),
        ({"schema_policy": "strict"}, "schema_policy"),
        ({"schema_policy": "quarantine", "verify_back": DAY}, "schema_policy"),
        ({"max_rejects": -1}, "max_rejects"),
        ({"columns": {"price": ("properties.price",)}}, "columns"),
        ({"columns": {"price": ("properties.price", "money")}}, "columns"),
        ({"columns": {"price": 7}}, "columns"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_dag(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        operator(**options)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"source": "events", "deleted": "mark"}, "deleted"),
        ({"source": "sessions", "deleted": "delete"}, "deleted"),
        ({"source": "events", "write_disposition": "scd2"}, "write_disposition"),
        ({"time_column": "created_at", "write_disposition": "scd2"}, "write_disposition"),
    ],
)
def test_rows_of_other_intervals_are_not_gone(
    connection: EmulatorProcess, lake: DuckDB, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        load(start=PAST.isoformat(), end=(PAST + DAY).isoformat(), **options)
    assert refused.value.field == field
    assert not lake.path.exists()


# Types.

INTERVAL = {
    "source": "events",
    "start": PAST.isoformat(),
    "end": (PAST + DAY).isoformat(),
    "write_disposition": "merge",
}


def priced(name: str, *properties: dict[str, Any]) -> list[dict[str, Any]]:
    made = happened(name, *range(len(properties)))
    return [{**each, "event": name, "properties": own} for each, own in zip(made, properties, strict=True)]


def test_properties_have_the_types_that_the_task_gives_them(connection: EmulatorProcess, lake: DuckDB) -> None:
    name = f"priced {uuid4()}"
    connection.add_events(
        priced(name, {"price": 12.5, "paid": True}, {"price": "12,50", "paid": "false"}, {"price": "7"}, {})
    )
    columns = {
        "uuid": "uuid",
        "price": ("properties.price", "decimal(12,2)"),
        "paid": ("properties.`paid`", "boolean"),
        "kind": "event",
    }
    options = {**INTERVAL, "events": name, "columns": columns}
    with pytest.raises(PostHogLoadError, match="price: 1"):
        load(**options)
    found = load(**options, max_rejects=1, native_types=True)
    assert (found["rows"], found["misfits"], found["rejected"]) == (4, {"price": 1}, 0)
    rows = lake.rows("SELECT price, paid FROM t ORDER BY price NULLS FIRST, paid NULLS FIRST")
    assert rows == [(None, None), (None, False), (Decimal("7.00"), None), (Decimal("12.50"), True)]
    types = dict(lake.rows("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 't'"))
    assert types == {"uuid": "UUID", "price": "DECIMAL(12,2)", "paid": "BOOLEAN", "kind": "VARCHAR"}
    lake.run("DROP TABLE t")
    found = load(**options, schema_policy="quarantine")
    assert (found["rows"], found["rejected"], lake.count("t__rejected")) == (3, 1, 1)
    [(task, run, reason)] = lake.rows("SELECT task, run, reason FROM t__rejected")
    assert (task.endswith(".task"), run, reason) == (True, "scheduled__1", "price does not fit decimal(12,2)")


@pytest.mark.parametrize(
    ("sql_type", "made"),
    [
        ("smallint", ("smallint", "SMALLINT")),
        ("int", ("integer", "INTEGER")),
        ("bigint", ("bigint", "BIGINT")),
        ("varchar(9)", ("character varying(9)", "VARCHAR")),
        ("decimal(9,1)", ("numeric(9,1)", "DECIMAL(9,1)")),
        ("double", ("double precision", "DOUBLE")),
        ("timestamp", ("timestamp with time zone", "TIMESTAMP WITH TIME ZONE")),
        ("jsonb", ("jsonb", "JSON")),
    ],
)
def test_a_typed_column_is_made_with_its_type(lake: DuckDB, sql_type: str, made: tuple[str, str]) -> None:
    rows = pa.table({"id": ["1"], "v": ["7"]})
    with postgres_database() as postgres:
        for kind, database, expected in zip(("postgres", "duckdb"), (postgres, lake), made, strict=True):
            target = Target("t", "merge", key=("id",), casts={"v": (sql_type, False), "id": ("varchar(9)", False)})
            given = rows.set_column(1, "v", pa.array(["2026-11-01"])) if sql_type == "timestamp" else rows
            target = with_types(target, persons(), kind, native=False)
            assert "id" not in target.column_types, "keys have types of their own"
            for _ in range(2):
                database.load(target, given)
            column = "format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname"
            if kind == "duckdb":
                column = "data_type FROM duckdb_columns() WHERE table_name = 't' AND column_name"
            assert database.rows(f"SELECT {column} = 'v'") == [(expected,)]


def test_ids_properties_and_flags_have_the_database_s_own_types(
    connection: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres_database() as database:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
        for _ in range(2):
            found = load(write_disposition="merge", native_types=True, column_types={"created_at": "timestamp"})
        assert found["unchanged"] == found["rows"]
        types = database.rows(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 't'::regclass AND attnum > 0"
        )
        assert dict(types) == {
            "id": "uuid",
            "created_at": "timestamp without time zone",
            "properties": "jsonb",
            "is_identified": "boolean",
        }
